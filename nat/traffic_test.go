package nat

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// debugWorld is a world whose log has the debug messages of some classes.
func debugWorld(t *testing.T, classes ...string) *world {
	w := newWorld(t, nil)
	log := slog.New(&classHandler{slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime}), classes})
	w.engine = New(w.cfg, w.kernel, func() time.Time { return w.now }, rand.NewPCG(1, 2), log)
	w.worker = w.engine.NewWorker()
	return w
}

// classHandler drops what is not of some classes.
type classHandler struct {
	slog.Handler
	classes []string
}

// WithAttrs implements slog.Handler.
func (h *classHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if attrs[0].Key == "class" && !slices.Contains(h.classes, attrs[0].Value.String()) {
		return slog.DiscardHandler
	}
	return &classHandler{h.Handler.WithAttrs(attrs), h.classes}
}

// TestSecrets: no form of a credential or key gets into the log.
func TestSecrets(t *testing.T) {
	for _, c := range []struct{ message, want string }{
		{"Authorization: Digest response=\"S3CRET\"\r\nA: b\r\n", "Authorization: (hidden)|A: b"},
		{"authorization :Digest S3CRET\r\n", "authorization : (hidden)"},
		{"PROXY-AUTHORIZATION:S3CRET\n", "PROXY-AUTHORIZATION: (hidden)"},
		{"Authorization: Digest username=\"a\",\r\n  response=\"S3CRET\",\r\n\tcnonce=\"S3CRET\"\r\nTo: b\r\n", "Authorization: (hidden)|To: b"},
		{"Authorization\r\n : Digest S3CRET\r\nTo: b\r\n", "Authorization: (hidden)|To: b"},
		{"Authentication-Info: rspauth=\"S3CRET\"\r\n", "Authentication-Info: (hidden)"},
		{"Proxy-Authentication-Info: rspauth=\"S3CRET\"", "Proxy-Authentication-Info: (hidden)"},
		{"To: a\r\n Authorization: S3CRET\r\n S3CRET\r\nFrom: b\r\n", "To: a| Authorization: (hidden)|From: b"},
		{"WWW-Authenticate: Digest realm=\"r\"\r\n", `WWW-Authenticate: Digest realm="r"`},
		{"Refer-To: <sip:a@b?Authorization=S3CRET>\r\n", "Refer-To: <sip:a@b?Authorization=(hidden)"},
		{"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:S3CRET\r\nm=audio 1 RTP/SAVP 0\r\n", "a=crypto (hidden)|m=audio 1 RTP/SAVP 0"},
		{"k=base64:S3CRET\n", "k= (hidden)"},
		{"A=Crypto:1 S3CRET\r", "a=crypto (hidden)"},
		{strings.Repeat(" ", 200) + "a = crypto : 1 S3CRET\r\n", "a=crypto (hidden)"},
		{"a=key-mgmt:mikey S3CRET\r\na=ice-pwd:S3CRET\r\na=ice-ufrag:u\r\n", "a=key-mgmt (hidden)|a=ice-pwd (hidden)|a=ice-ufrag:u"},
		{"a=fingerprint:sha-256 AB\r\n\r\n", "a=fingerprint:sha-256 AB|"},
		{"Subject: \x1b[31mred\x00\xff\"quoted\"\\\r\n", `Subject: \x1b[31mred\x00\xff"quoted"\`},
		{"", ""},
	} {
		if got := strings.Join(shown([]byte(c.message)), "|"); got != c.want {
			t.Errorf("%q is shown as\n%q, want\n%q", c.message, got, c.want)
		}
	}
}

// TestTraffic: a whole message is in the log as it came and as it went on, whatever
// it is.
func TestTraffic(t *testing.T) {
	w := debugWorld(t, "nettraf")
	secret := bytes.Replace(inviteA, []byte("Max-Forwards: 70\r\n"), []byte("Authorization: Digest username=\"alice\",\r\n response=\"S3CRET\"\r\n"), 1)
	secret = bytes.Replace(secret, []byte("Content-Length: 213\r\n"), nil, 1)
	secret = append(secret, "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:S3CRET\r\n"...)
	out := w.send(phoneA, provider, secret)
	log := w.log.String()
	if strings.Contains(log, "S3CRET") || strings.Count(log, "(hidden)") != 4 {
		t.Errorf("credentials or keys are shown:\n%s", log)
	}
	if bytes.Count(out, []byte("S3CRET")) != 2 {
		t.Errorf("the message itself has lost them:\n%s", out)
	}
	for _, want := range []string{
		fmt.Sprintf("msg=received class=nettraf from=%s to=%s bytes=%d\n", phoneA, provider, len(secret)),
		`msg="  INVITE sip:bob@example.org SIP/2.0" class=nettraf`,
		`msg="  Via: SIP/2.0/UDP 10.0.0.10:5060;rport;branch=z9hG4bKnashds8"`,
		fmt.Sprintf(`msg="sent on" class=nettraf from=%s to=%s bytes=%d`, phoneA, provider, len(out)),
		`msg="  Via: SIP/2.0/UDP 203.0.113.1:5060;rport;branch=z9hG4bKnashds8"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in\n%s", want, log)
		}
	}
	w.log.Reset()
	w.send(phoneA, provider, []byte("\x16\x03\x01 no SIP"))
	if log := w.log.String(); !strings.Contains(log, `\\x16\\x03\\x01 no SIP`) || !strings.Contains(log, `msg="sent on as it is"`) {
		t.Errorf("what is not SIP: %s", log)
	}
}

// TestDebugClasses: each class tells of its subject, and of nothing else.
func TestDebugClasses(t *testing.T) {
	for class, want := range map[string][]string{
		"sip": {`what=INVITE from=10.0.0.10:5060 to=203.0.113.9:5060 call=a84b4c76e66710@10.0.0.10 changes="10.0.0.10:5060 > 203.0.113.1:5060, `,
			`what="200 INVITE"`, `note="nothing in it has to change"`, `note="nobody inside has this endpoint: the message passes as it is"`},
		"reg":    {`msg="binding opened" class=reg inside=10.0.0.10:5060 public=203.0.113.1:5060`, `msg=registered`, "registrar=203.0.113.9 for=1h0m0s", `msg="binding closed"`},
		"rtp":    {`msg="stream opened" class=rtp inside=10.0.0.10:4000`, "call=a84b4c76e66710@10.0.0.10", `msg=answered`, `far=203.0.113.20:6000 "may send"=[203.0.113.20]`, `msg="stream closed"`},
		"net":    {`msg=kernel class=net change="open binding 10.0.0.10:5060 = 203.0.113.1:5060 for 7m0s"`, `"close stream `},
		"access": {`msg="a packet on a SIP port is not a SIP message: it passed untouched and opened nothing" class=access host=10.0.0.10`},
		"auth":   nil,
	} {
		w := debugWorld(t, class)
		w.send(phoneA, provider, inviteA)
		w.send(provider, phoneA, answerA)
		w.send(provider, "10.0.0.99:5060", bytes.ReplaceAll(pingIn, []byte("203.0.113.1:"), []byte("203.0.113.1:1")))
		w.send(provider, phoneA, bytes.Replace(bytes.ReplaceAll(pingIn, []byte("sip:alice@203.0.113.1:5060"), []byte("sip:alice@example.org")), []byte("ping2"), []byte("ping3"), -1))
		for range 2 {
			w.send(phoneA, provider, []byte("no SIP"))
		}
		w.send(phoneA, provider, []byte(crlf(`REGISTER sip:example.org SIP/2.0
Via: SIP/2.0/UDP 10.0.0.10:5060;branch=z9hG4bKr
From: <sip:alice@example.org>;tag=a
To: <sip:alice@example.org>
Call-ID: r
CSeq: 1 REGISTER
Contact: <sip:alice@10.0.0.10:5060>

`)))
		w.send(provider, phoneA, []byte(crlf(`SIP/2.0 200 OK
Via: SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bKr
From: <sip:alice@example.org>;tag=a
To: <sip:alice@example.org>;tag=r
Call-ID: r
CSeq: 1 REGISTER
Contact: <sip:alice@203.0.113.1:5060>;expires=3600

`)))
		w.wait(4 * time.Hour)
		log := w.log.String()
		for _, text := range want {
			if !strings.Contains(log, text) {
				t.Errorf("%s does not tell %s:\n%s", class, text, log)
			}
		}
		for line := range strings.Lines(log) {
			if strings.Contains(line, "level=DEBUG") && !strings.Contains(line, "class="+class) {
				t.Errorf("%s tells %s", class, line)
			}
		}
	}
}
