package dialplan

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipnatd/internal/config"
	"sipnatd/sipmsg"
)

// made returns a plan and what it writes to the log.
func made(t *testing.T, settings config.Plugins) (*Plan, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	p, err := New(settings, logTo(&log))
	if err != nil {
		t.Fatal(err)
	}
	return p, &log
}

func logTo(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == "class" {
			return slog.Attr{}
		}
		return a
	}}))
}

// message returns a request or, with a status in the first line, a response.
func message(t *testing.T, first, headers, body string) *sipmsg.Message {
	t.Helper()
	method, _, _ := strings.Cut(first, " ")
	if method == "SIP/2.0" {
		method = "INVITE"
	}
	text := first + "\nVia: SIP/2.0/UDP 10.0.0.10;branch=z9hG4bK1\nFrom: <sip:joe@example.org>;tag=1\n" +
		"To: <sip:ann@example.org>" + map[bool]string{true: ";tag=2"}[method == "BYE"] + "\nCall-ID: c1\nCSeq: 1 " + method + "\n" + headers
	if body != "" {
		text += "Content-Type: application/sdp\n"
	}
	text += fmt.Sprintf("Content-Length: %d\n\n", len(strings.ReplaceAll(body, "\n", "\r\n"))) + body
	var m sipmsg.Message
	if err := m.Index([]byte(strings.ReplaceAll(text, "\n", "\r\n"))); err != nil {
		t.Fatal(err, text)
	}
	return &m
}

// edited returns what becomes of a message.
func edited(t *testing.T, p *Plan, m *sipmsg.Message, before ...func(*sipmsg.Edits)) string {
	t.Helper()
	var e sipmsg.Edits
	e.Reset(m.Raw)
	for _, f := range before {
		f(&e)
	}
	p.Edit(m, &e, true)
	e.FixContentLength(m)
	out, err := e.Splice(nil)
	if err != nil {
		t.Fatal(err)
	}
	var again sipmsg.Message
	if err := again.Index(out); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), "\r\n", "\n")
}

func TestTarget(t *testing.T) {
	short := config.Plugins{ShortdialKey: "*00", ShortdialEntries: []string{"17474743246", "17474745000@proxy01.example.org", "", "sip:x@example.net;transport=tcp"}}
	regex := config.Plugins{
		RegexNames: []string{"international", "emergency"}, RegexPatterns: []string{"^(sips?:)00", "^(sip:)(11[02])@"}, RegexReplacements: []string{`\1+`, `\10\2@`},
	}
	all := short
	all.Prefix = "0"
	all.RegexPatterns, all.RegexReplacements = []string{"^(sip:)01"}, []string{`\1+1`}
	for _, x := range []struct {
		name     string
		settings config.Plugins
		called   string
		want     string
	}{
		{"nothing set", config.Plugins{}, "sip:*01@example.org", ""},
		{"first number", short, "sip:*01@example.org;user=phone", "sip:17474743246@example.org;user=phone"},
		{"with a host", short, "sip:*02@example.org:5070;user=phone", "sip:17474745000@proxy01.example.org"},
		{"empty entry", short, "sip:*03@example.org", ""},
		{"a URI", short, "sip:*04@example.org", "sip:x@example.net;transport=tcp"},
		{"beyond the last", short, "sip:*05@example.org", ""},
		{"number 0", short, "sip:*00@example.org", ""},
		{"longer", short, "sip:*001@example.org", ""},
		{"no number", short, "sip:*1a@example.org", ""},
		{"another key", short, "sip:#01@example.org", ""},
		{"no user", short, "sip:example.org", ""},
		{"tel", short, "tel:*01", ""},
		{"prefix", config.Plugins{Prefix: "9"}, "sip:5551234@example.org", "sip:95551234@example.org"},
		{"prefix, not a number", config.Plugins{Prefix: "9"}, "sip:ann@example.org", ""},
		{"prefix, no user", config.Plugins{Prefix: "9"}, "sip:example.org", ""},
		{"first expression", regex, "sip:0041441234567@example.org", "sip:+41441234567@example.org"},
		{"second expression", regex, "sip:112@example.org", "sip:0112@example.org"},
		{"no expression", regex, "sip:1123@example.org", ""},
		{"not a URI any more", config.Plugins{RegexPatterns: []string{"sip:"}, RegexReplacements: []string{"http:"}}, "sip:1@example.org", ""},
		{"no injection", config.Plugins{RegexPatterns: []string{"@"}, RegexReplacements: []string{"> x <"}}, "sip:1@example.org", ""},
		{"one after the other", all, "sip:*01@example.org", "sip:+17474743246@example.org"},
	} {
		t.Run(x.name, func(t *testing.T) {
			p, _ := made(t, x.settings)
			if got := string(p.Target(message(t, "INVITE "+x.called+" SIP/2.0", "", ""))); got != x.want {
				t.Errorf("%q, not %q", got, x.want)
			}
			if got := p.Target(message(t, "MESSAGE "+x.called+" SIP/2.0", "", "")); got != nil {
				t.Errorf("a MESSAGE goes to %q", got)
			}
		})
	}
}

func TestDefault(t *testing.T) {
	p, log := made(t, config.Plugins{
		DefaultTarget: `"Reception" <sip:desk@10.0.0.10>`, DefaultTargetLog: true,
		TrunkNames: []string{"Trunk"}, TrunkAccounts: []string{"sip:user@sip.example.org"}, TrunkNumbers: []string{"^555123(10[0-9]|11[012])$"},
	})
	for called, want := range map[string]string{
		"sip:555123105@192.0.2.1": "sip:user@sip.example.org",
		"sip:555123113@192.0.2.1": "sip:desk@10.0.0.10",
		"sip:192.0.2.1":           "sip:desk@10.0.0.10",
	} {
		if got := string(p.Default(message(t, "INVITE "+called+" SIP/2.0", "", ""))); got != want {
			t.Errorf("%s: %q, not %q", called, got, want)
		}
	}
	if strings.Count(log.String(), "default target") != 2 {
		t.Errorf("log: %s", log)
	}
	if got := p.Default(message(t, "OPTIONS sip:192.0.2.1 SIP/2.0", "", "")); got != nil {
		t.Errorf("OPTIONS: %q", got)
	}
	p, _ = made(t, config.Plugins{})
	if got := p.Default(message(t, "INVITE sip:192.0.2.1 SIP/2.0", "", "")); got != nil {
		t.Errorf("nothing set: %q", got)
	}
}

func TestStripHeaders(t *testing.T) {
	p, _ := made(t, config.Plugins{StripHeaders: []string{"X-Secret", "allow:update", "Supported:100rel", "Supported: timer", "Subject", "Server", "Date:a, b"}})
	m := message(t, "INVITE sip:ann@example.org SIP/2.0",
		"x-SECRET: 1\n folded\nAllow: INVITE, UPDATE,BYE\nk: 100rel, timer\nSupported: replaces, 100REL\nS: hello\nServer: mine\nDate: a, b\nX-Secrets: 2\n", "")
	var server sipmsg.Span
	for _, h := range m.Headers {
		if h.Kind == sipmsg.HdrServer {
			server = h.Value
		}
	}
	out := edited(t, p, m, func(e *sipmsg.Edits) { e.Replace(server, []byte("replaced")) })
	_, got, _ := strings.Cut(out, "CSeq: 1 INVITE\n")
	if want := "Allow: INVITE, BYE\nSupported: replaces\nServer: replaced\nX-Secrets: 2\nContent-Length: 0\n\n"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
	for _, name := range []string{"Via", "m", "L", "Max-Forwards", "", ":x", "Call-ID", "Route:x"} {
		if _, err := New(config.Plugins{StripHeaders: []string{name}}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q is removed", name)
		}
	}
}

const offer = `v=0
o=- 1 1 IN IP4 10.0.0.10
s=-
c=IN IP4 10.0.0.10
t=0 0
m=audio 7070 RTP/AVP 0 8  9 18 97 101
a=rtpmap:0 PCMU/8000
a=rtpmap:97 iLBC/8000
a=fmtp:97 mode=30
a=rtcp-fb:97 nack
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=sendrecv
m=video 7072 RTP/AVP 96 98
a=rtpmap:96 H264/90000
a=rtpmap:98 rtx/90000
a=fmtp:98 apt=96
m=image 7074 udptl t38
`

func TestCodecs(t *testing.T) {
	for _, x := range []struct {
		name     string
		settings config.Plugins
		audio    string
		video    string
		gone     []string
	}{
		{"nothing", config.Plugins{}, "0 8  9 18 97 101", "96 98", nil},
		{"with rtpmap", config.Plugins{CodecsForbidden: []string{"ilbc"}}, "0 8 9 18 101", "96 98", []string{"a=rtpmap:97 iLBC/8000\n", "a=fmtp:97 mode=30\n", "a=rtcp-fb:97 nack\n"}},
		{"static", config.Plugins{CodecsForbidden: []string{"G722", "G729"}}, "0 8 97 101", "96 98", nil},
		{"part of a name", config.Plugins{CodecsForbidden: []string{"PCM"}}, "9 18 97 101", "96 98", []string{"a=rtpmap:0 PCMU/8000\n"}},
		{"allowed", config.Plugins{CodecsAllowed: []string{"PCMA", "PCMU"}}, "0 8 101", "96 98", []string{"a=rtpmap:97 iLBC/8000\n", "a=fmtp:97 mode=30\n", "a=rtcp-fb:97 nack\n"}},
		{"tones forbidden", config.Plugins{CodecsForbidden: []string{"telephone-event"}}, "0 8 9 18 97", "96 98", []string{"a=rtpmap:101 telephone-event/8000\n", "a=fmtp:101 0-15\n"}},
		{"all of a medium", config.Plugins{CodecsForbidden: []string{"H264"}}, "0 8  9 18 97 101", "96 98", nil},
		{"none would be left", config.Plugins{CodecsAllowed: []string{"opus"}}, "0 8  9 18 97 101", "96 98", nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			p, _ := made(t, x.settings)
			out := edited(t, p, message(t, "INVITE sip:ann@example.org SIP/2.0", "", offer))
			want := strings.Replace(offer, "0 8  9 18 97 101", x.audio, 1)
			want = strings.Replace(want, "AVP 96 98", "AVP "+x.video, 1)
			for _, line := range x.gone {
				want = strings.Replace(want, line, "", 1)
			}
			_, body, _ := strings.Cut(out, "\n\n")
			if body != want {
				t.Errorf("got\n%s\nwant\n%s", body, want)
			}
		})
	}
	t.Run("retransmissions go with their codec", func(t *testing.T) {
		p, _ := made(t, config.Plugins{CodecsForbidden: []string{"VP8"}})
		sdp := strings.Replace(offer, "a=rtpmap:98 rtx/90000\na=fmtp:98 apt=96\n", "a=rtpmap:100 VP8/90000\na=rtpmap:98 rtx/90000\na=fmtp:98 apt=100\n", 1)
		out := edited(t, p, message(t, "INVITE sip:ann@example.org SIP/2.0", "", strings.Replace(sdp, "AVP 96 98", "AVP 96 100 98", 1)))
		if !strings.Contains(out, "m=video 7072 RTP/AVP 96\na=rtpmap:96 H264/90000\nm=image") {
			t.Error(out)
		}
	})
}

func TestBodies(t *testing.T) {
	p, _ := made(t, config.Plugins{
		BodyPatterns: []string{"annexb=no", "mode=30"}, BodyReplacements: []string{"annexb=yes", "mode=20;annexb=no"}, CodecsForbidden: []string{"G722"},
	})
	out := edited(t, p, message(t, "SIP/2.0 200 OK", "", offer))
	_, body, _ := strings.Cut(out, "\n\n")
	want := strings.Replace(strings.Replace(offer, "mode=30", "mode=20;annexb=no", 1), "0 8  9 18 97 101", "0 8 18 97 101", 1)
	if body != want {
		t.Errorf("got\n%s\nwant\n%s", body, want)
	}
}

func TestConfigure(t *testing.T) {
	p, _ := made(t, config.Plugins{Prefix: "9"})
	err := p.Configure(config.Plugins{
		Prefix: "8", RegexPatterns: []string{"(", "x", "(a)"}, RegexReplacements: []string{"", "y", `\2`},
		StripHeaders: []string{"Via"}, TrunkAccounts: []string{"sip:a@b"}, TrunkNumbers: []string{"["},
	})
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("%v", err)
	}
	if got := string(p.Target(message(t, "INVITE sip:1@x SIP/2.0", "", ""))); got != "sip:81@y" {
		t.Errorf("%q", got)
	}
}

func TestCallLog(t *testing.T) {
	p, log := made(t, config.Plugins{})
	now := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	p.calls.now = func() time.Time { return now }
	from, to := netip.MustParseAddrPort("10.0.0.10:5060"), netip.MustParseAddrPort("192.0.2.1:5060")
	invite, bye := message(t, "INVITE sip:123@example.org SIP/2.0", "", ""), message(t, "BYE sip:123@example.org SIP/2.0", "", "")
	says := func(want string) {
		t.Helper()
		if got := log.String(); got != want {
			t.Errorf("log:\n%swant:\n%s", got, want)
		}
		log.Reset()
	}
	begin := "msg=call from=sip:joe@example.org to=sip:ann@example.org called=sip:123@example.org caller=10.0.0.10:5060 callee=192.0.2.1:5060 call=c1\n"
	end := "msg=\"call has ended\" from=sip:joe@example.org to=sip:ann@example.org called=sip:123@example.org result=%s duration=%s call=c1\n"
	p.Log(invite, from, to, 0)
	says(begin)
	p.Log(invite, from, to, 407)
	p.Log(invite, from, to, 0)
	p.Log(invite, from, to, 200)
	now = now.Add(83*time.Second + 200*time.Millisecond)
	p.Log(invite, from, to, 200)
	says("")
	p.Log(bye, to, from, 0)
	says(fmt.Sprintf(end, "answered", "1m23s"))
	p.Log(bye, to, from, 200)
	says("")

	p.Log(invite, from, to, 0)
	p.Log(invite, from, to, 486)
	says(begin + fmt.Sprintf(end, "486", "0s"))
	p.Log(invite, from, netip.AddrPort{}, 404)
	says(fmt.Sprintf(end, "404", "0s"))

	p.Log(invite, from, to, 0)
	says(begin)
	now = now.Add(maxRinging + 2*time.Minute)
	p.Log(bye, from, to, 200)
	says(fmt.Sprintf(end, `"no answer"`, "0s"))
	if len(p.calls.list) != 0 {
		t.Error("a call is kept")
	}
}

func TestCallLogBounded(t *testing.T) {
	p, log := made(t, config.Plugins{})
	m := message(t, "INVITE sip:"+strings.Repeat("1", 30000)+"@example.org SIP/2.0", "", "")
	p.Log(m, netip.AddrPort{}, netip.AddrPort{}, 404)
	if n := log.Len(); n == 0 || n > 4*maxText {
		t.Errorf("a call of 30000 digits is logged in %d bytes", n)
	}
}

func TestBlacklist(t *testing.T) {
	settings := config.Plugins{BlacklistHits: 3, BlacklistDuration: time.Hour, BlacklistWindow: 30 * time.Second}
	phone, other := netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("10.0.0.11")
	now := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	blacklist := func(settings config.Plugins) (*Blacklist, *bytes.Buffer) {
		var log bytes.Buffer
		b := NewBlacklist(settings, logTo(&log))
		b.now = func() time.Time { return now }
		return b, &log
	}
	b, log := blacklist(settings)
	for range 3 {
		b.Refused(phone, 401)
		b.Refused(phone, 404) // says nothing of passwords
	}
	if b.Blocked(phone) {
		t.Error("blocked too early")
	}
	b.Refused(netip.MustParseAddr("::ffff:10.0.0.10"), 407)
	if !b.Blocked(phone) || b.Blocked(other) {
		t.Error("not blocked, or somebody else")
	}
	now = now.Add(time.Hour)
	if b.Blocked(phone) || len(b.hosts) != 0 {
		t.Error("blocked for ever")
	}
	if s := log.String(); strings.Count(s, "\n") != 2 {
		t.Error(s)
	}
	for range 100 { // one failure in each window
		b.Refused(phone, 401)
		now = now.Add(30 * time.Second)
	}
	if b.Blocked(phone) {
		t.Error("blocked in spite of patience")
	}

	settings.BlacklistSimulate = true
	b, log = blacklist(settings)
	for range 10 {
		b.Refused(phone, 403)
	}
	if b.Blocked(phone) || strings.Count(log.String(), "would be blocked") != 1 {
		t.Error("simulated:", log)
	}
	settings.BlacklistSimulate, settings.BlacklistDuration = false, 0
	b.Configure(settings)
	b, _ = blacklist(settings)
	for range 10 {
		b.Refused(phone, 403)
	}
	now = now.Add(1000 * time.Hour)
	if !b.Blocked(phone) {
		t.Error("not for ever")
	}
	settings.BlacklistHits = 0
	b.Configure(settings)
	for range 10 {
		b.Refused(phone, 403)
	}
	if b.Blocked(phone) || len(b.hosts) != 0 {
		t.Error("blocked though that is off")
	}
	settings.BlacklistHits, settings.BlacklistDuration = 5, time.Hour
	b, _ = blacklist(settings)
	for i := range maxHosts + 100 {
		b.Refused(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 401)
	}
	if len(b.hosts) > maxHosts {
		t.Errorf("%d hosts", len(b.hosts))
	}
}

// Whatever a body is, the message stays whole and no medium loses all formats.
func FuzzEdit(f *testing.F) {
	f.Add(offer)
	f.Add("v=0\nm=audio 1 RTP/AVP\n")
	f.Add("v=0\nm=audio 1 RTP/AVP 0 0 97\na=rtpmap:97 x/1\na=fmtp:97 apt=97\n")
	f.Fuzz(func(t *testing.T, body string) {
		if strings.ContainsRune(body, '\r') || body == "" || len(body) > 10000 {
			return
		}
		p, _ := New(config.Plugins{CodecsForbidden: []string{"PCM", "x"}, StripHeaders: []string{"x"}}, slog.New(slog.DiscardHandler))
		out := edited(t, p, message(t, "INVITE sip:ann@example.org SIP/2.0", "", body))
		var before, after sipmsg.SDP
		if before.Index([]byte(body), sipmsg.Span{Lo: 0, Hi: int32(len(body))}) != nil {
			return
		}
		_, out, _ = strings.Cut(out, "\n\n")
		if err := after.Index([]byte(out), sipmsg.Span{Lo: 0, Hi: int32(len(out))}); err != nil || len(after.Media) != len(before.Media) {
			t.Fatalf("%v, %d media of %d", err, len(after.Media), len(before.Media))
		}
		for i, m := range after.Media {
			if m.Fmts.Empty() && !before.Media[i].Fmts.Empty() {
				t.Errorf("nothing is left: %q", out)
			}
		}
	})
}
