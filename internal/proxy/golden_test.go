package proxy

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sipnatd/internal/transport"
	"sipnatd/sipmsg"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden plays the stories in testdata: what comes (">>> transport from to") and
// what the proxy sends then ("<<< transport from to"), as whole messages, and between
// them the commands that step understands.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.sip")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".sip"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, file) })
		})
	}
}

func play(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, Config{RportOutside: true})
	var out strings.Builder
	var message []string
	var command string
	flush := func() {
		if command == "" || strings.HasPrefix(command, "<<<") {
			message, command = nil, ""
			return
		}
		for len(message) > 0 && message[len(message)-1] == "" && strings.HasPrefix(command, "---") {
			message = message[:len(message)-1]
		}
		fmt.Fprintln(&out, command)
		for _, l := range message {
			fmt.Fprintln(&out, l)
		}
		w.step(command, strings.Join(message, "\n"))
		synctest.Wait()
		w.proxy.mu.Lock()
		for _, s := range w.sent {
			fmt.Fprintf(&out, "<<< %s %s %s", s.hop.Kind, s.hop.Local, s.hop.Remote)
			if s.hop.Conn != 0 {
				fmt.Fprintf(&out, " #%d", s.hop.Conn)
			}
			fmt.Fprintln(&out)
			var m sipmsg.Message
			if err := m.Index(s.data); err != nil {
				t.Errorf("what is sent is no SIP: %v\n%s", err, s.data)
			} else if int(m.Body.Hi) != len(s.data) {
				t.Errorf("Content-Length is wrong:\n%s", s.data)
			}
			w.judge(s)
			fmt.Fprintln(&out, strings.TrimRight(strings.ReplaceAll(w.named(s.data), "\r\n", "\n"), "\n"))
			fmt.Fprintln(&out)
		}
		w.sent = nil
		w.proxy.mu.Unlock()
		message, command = nil, ""
	}
	for _, line := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, ">>> "), strings.HasPrefix(line, "<<< "), strings.HasPrefix(line, "--- "):
			flush()
			command = line
		case command == "": // a comment at the top
			fmt.Fprintln(&out, line)
		default:
			message = append(message, line)
		}
	}
	flush()
	time.Sleep(time.Hour) // every timer runs out
	synctest.Wait()
	if s := w.proxy.Stats(); s.Servers != 0 || s.Clients != 0 {
		t.Errorf("%d server and %d client transactions are left after an hour", s.Servers, s.Clients)
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, want := out.String(), string(text); strings.TrimRight(got, "\n") != strings.TrimRight(want, "\n") {
		t.Errorf("%s\n%s", firstDifference(got, want), w.log)
	}
}

func firstDifference(got, want string) string {
	g, v := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(v) || g[i] != v[i] {
			lo := max(i-12, 0)
			wanted := "(the end)"
			if i < len(v) {
				wanted = v[i]
			}
			return fmt.Sprintf("line %d:\n%s\n got: %s\nwant: %s", i+1, strings.Join(g[lo:i], "\n"), g[i], wanted)
		}
	}
	return fmt.Sprintf("line %d: the proxy sends no more; want:\n%s", len(g), strings.Join(v[len(g):], "\n"))
}

// judge looks for what must never leave.
func (w *world) judge(s sent) {
	if !face(s.hop.Local.Addr().String()).Local.IsValid() || s.hop.Local.Addr().String() != outsideAddr {
		return
	}
	if i := bytes.Index(s.data, []byte("10.0.0.")); i >= 0 {
		w.t.Errorf("an inside address leaves: %q\n%s", s.data[i:min(i+20, len(s.data))], s.data)
	}
}

// step carries out a command of a story.
func (w *world) step(command, message string) {
	f := strings.Fields(command)
	if f[0] == ">>>" {
		hop := transport.Hop{Remote: netip.MustParseAddrPort(f[2]), Local: netip.MustParseAddrPort(f[3])}
		if f[1] == "TCP" {
			hop.Kind = transport.TCP
		}
		if len(f) > 4 {
			fmt.Sscanf(f[4], "#%d", &hop.Conn)
		}
		w.proxy.Arrived(transport.Arrival{Hop: hop, Data: wire(string(w.real(message)))})
		return
	}
	switch f[1] {
	case "wait":
		d, err := time.ParseDuration(f[2])
		if err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(d)
	case "dns": // name transport address ...
		for i := 3; i+1 < len(f); i += 2 {
			w.dns[f[2]] = append(w.dns[f[2]], Target{kindOf(strings.ToLower(f[i])), netip.MustParseAddrPort(f[i+1])})
		}
	case "slow":
		w.slow = true
	case "found": // name
		list := w.pending[f[2]]
		delete(w.pending, f[2])
		for _, answer := range list {
			answer(w.dns[f[2]])
		}
	case "unsent":
		w.unsent[f[2]] = true
	case "refused": // by ICMP
		w.proxy.Failed(transport.Hop{Remote: netip.MustParseAddrPort(f[2])}, syscall.ECONNREFUSED)
	case "user":
		w.users = append(w.users, f[2])
	case "deny":
		w.denied = append(w.denied, netip.MustParseAddr(f[2]))
	case "dial":
		w.targets[f[2]] = f[3]
	case "challenge":
		w.challenge = Answer{Status: 407, Headers: []byte("Proxy-Authenticate: Digest realm=\"foo\", nonce=\"1\"\r\n")}
	case "config":
		cfg := w.proxy.cfg
		switch f[2] {
		case "outbound_proxy":
			cfg.OutboundProxy = Server{Host: f[3]}
		case "outbound_domain":
			cfg.OutboundDomains = map[string]Server{f[3]: {Host: f[4], Port: 5070}}
		case "mask_host":
			cfg.MaskHosts = map[string]string{f[3]: f[4]}
		case "ua_string":
			cfg.UserAgent = f[3]
		case "realm":
			cfg.Realm = f[3]
		case "obscure_loops":
			cfg.ObscureLoops = true
		default:
			w.t.Fatal("unknown setting ", f[2])
		}
		w.proxy.Configure(cfg)
	default:
		w.t.Fatal("unknown command ", command)
	}
}

// wire is a message as it stands on the wire: with CR LF, an empty line after the
// headers, and the Content-Length that it has.
func wire(text string) []byte {
	head, body, _ := strings.Cut(strings.TrimRight(text, "\n")+"\n\n", "\n\n")
	body = strings.TrimRight(body, "\n")
	if body != "" {
		body = strings.ReplaceAll(body, "\n", "\r\n") + "\r\n"
	}
	head = strings.ReplaceAll(head, "\n", "\r\n")
	return []byte(fmt.Sprintf("%s\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body))
}
