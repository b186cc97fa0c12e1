package proxy

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sipnatd/internal/transport"
	"sipnatd/nat"
	"sipnatd/sipmsg"
)

// world is a proxy whose surroundings are the README's: phones in 10.0.0.0/24 behind
// 10.0.0.1, the Internet in front of 203.0.113.1, foo.bar.org the firewall's name.
type world struct {
	t     testing.TB
	proxy *Proxy
	sent  []sent
	log   *bytes.Buffer

	bound     map[string][]Contact // by user
	users     []string             // that exist, registered or not
	lines     map[string]Contact
	tokens    map[string]string // by contact
	outside   map[string][]Contact
	challenge Answer // for every REGISTER that goes on

	dns       map[string][]Target
	pending   map[string][]func([]Target) // look-ups that take their time
	slow      bool
	failed    []Target
	unsent    map[string]bool // hosts that nothing can be sent to
	denied    []netip.Addr
	targets   map[string]string // of the dialplan, by user
	refusals  []int
	forbidden map[string]bool
	noMedia   string // why requests can have none

	names map[string]string // what stands in golden files for what is random
}

type sent struct {
	hop  transport.Hop
	data []byte
}

func newWorld(t testing.TB, cfg Config) *world {
	w := &world{
		t: t, log: new(bytes.Buffer),
		bound: map[string][]Contact{}, lines: map[string]Contact{}, tokens: map[string]string{},
		outside: map[string][]Contact{}, dns: map[string][]Target{}, pending: map[string][]func([]Target){},
		unsent: map[string]bool{}, targets: map[string]string{}, names: map[string]string{},
	}
	w.proxy = New(cfg, Parts{
		Sender: w, Registrar: w, Access: access{w}, Locator: locator{w}, Dialplan: dialplan{w}, Media: w, Networks: networks{adopted: map[string]netip.Addr{}},
	}, slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	return w
}

func (w *world) Send(to transport.Hop, message []byte) error {
	if w.unsent[to.Remote.Addr().String()] {
		return fmt.Errorf("no route to %s", to.Remote)
	}
	w.sent = append(w.sent, sent{to, bytes.Clone(message)})
	return nil
}

// networks are those of the README.
type networks struct{ adopted map[string]netip.Addr }

const (
	insideAddr  = "10.0.0.1"
	outsideAddr = "203.0.113.1"
)

func face(addr string) Face {
	a := netip.AddrPortFrom(netip.MustParseAddr(addr), 5060)
	side := Outside
	if addr == insideAddr {
		side = Inside
	}
	return Face{Side: side, Local: a, Named: a}
}

func (networks) Arrived(from transport.Hop) (Face, bool) {
	return face(from.Local.Addr().String()), true
}

func (n networks) Towards(host netip.Addr) (Face, bool) {
	if n.Inside(host) {
		return face(insideAddr), true
	}
	return face(outsideAddr), true
}

func (networks) Inside(a netip.Addr) bool { return netip.MustParsePrefix("10.0.0.0/24").Contains(a) }

func (n networks) Own(host string, port int) bool {
	_, adopted := n.adopted[host]
	return (port == 0 || port == 5060) && (adopted || slices.Contains([]string{insideAddr, outsideAddr, "foo.bar.org"}, host))
}

func (n networks) Adopt(domain string, server netip.Addr) { n.adopted[domain] = server }

// Register binds the contacts of a REGISTER.
func (w *world) Register(m *sipmsg.Message, from transport.Hop) Answer {
	user := string(m.Bytes(m.To.URI.User))
	var lines []byte
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrContact {
			continue
		}
		for it := m.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				break
			}
			c := Contact{URI: bytes.Clone(m.Bytes(a.URI.All)), Hop: from, Q: 1000}
			if bytes.ContainsAny(c.URI, " <>") {
				return Answer{Status: 400}
			}
			if v, ok := m.Param(a.Params, "q"); ok {
				f, _ := strconv.ParseFloat(string(m.Bytes(v)), 64)
				c.Q = int(f * 1000)
			}
			w.bound[user] = append(w.bound[user], c)
			lines = append(append(append(lines, "Contact: <"...), c.URI...), ">;expires=3600\r\n"...)
		}
	}
	return Answer{Status: 200, Headers: lines}
}

func (w *world) Authenticate(*sipmsg.Message, transport.Hop) Answer { return w.challenge }

func (w *world) Contacts(aor []byte) ([]Contact, bool) {
	u := sipmsg.ParseURI(aor)
	user := string(aor[u.User.Lo:u.User.Hi])
	return w.bound[user], len(w.bound[user]) > 0 || slices.Contains(w.users, user)
}

func (w *world) Line(uri []byte, phone transport.Hop) (string, bool) {
	if bytes.ContainsAny(uri, " <>") {
		return "", false
	}
	token := w.tokens[string(uri)]
	if token == "" {
		token = fmt.Sprint("L", len(w.tokens)+1)
		w.tokens[string(uri)] = token
		w.lines[token] = Contact{URI: bytes.Clone(uri), Hop: phone}
	}
	return token, true
}

func (w *world) Phone(token []byte) (Contact, bool) {
	c, ok := w.lines[string(token)]
	return c, ok
}

func (w *world) Registered(request, response *sipmsg.Message, phone transport.Hop, _ netip.Addr) {
	user := string(request.Bytes(request.To.URI.User))
	h, _ := request.Find(sipmsg.HdrContact)
	it := request.Addresses(h)
	if a, ok := it.Next(); ok {
		w.outside[user] = []Contact{{URI: bytes.Clone(request.Bytes(a.URI.All)), Hop: phone}}
	}
}

func (w *world) Lines(user []byte, _ netip.Addr) []Contact { return w.outside[string(user)] }

type access struct{ *world }

func (w access) SIP(a netip.Addr) bool            { return !slices.Contains(w.denied, a) }
func (w access) Register(a netip.Addr) bool       { return !w.forbidden[a.String()] }
func (w access) Refused(_ netip.Addr, status int) { w.refusals = append(w.refusals, status) }

type locator struct{ *world }

func (w locator) Locate(s Server, answer func([]Target)) ([]Target, bool) {
	if a, err := netip.ParseAddr(s.Host); err == nil {
		p := s.Port
		if p == 0 {
			p = 5060
		}
		return []Target{{kindOf(s.Transport), netip.AddrPortFrom(a, uint16(p))}}, true
	}
	if w.slow {
		w.pending[s.Host] = append(w.pending[s.Host], answer)
		return nil, false
	}
	return w.dns[s.Host], true
}

func (w locator) Failed(t Target) { w.failed = append(w.failed, t) }

type dialplan struct{ *world }

func (w dialplan) Target(m *sipmsg.Message) []byte {
	if t, ok := w.targets[string(m.Bytes(m.RequestURI.User))]; ok {
		return []byte(t)
	}
	return nil
}
func (dialplan) Default(*sipmsg.Message) []byte                           { return nil }
func (dialplan) Edit(*sipmsg.Message, *sipmsg.Edits, bool)                {}
func (dialplan) Log(*sipmsg.Message, netip.AddrPort, netip.AddrPort, int) {}

// Handle does what the engine does to the one line that matters here.
func (w *world) Handle(p *nat.Packet) []byte {
	if !p.Proxied {
		w.t.Error("a packet of the proxy is not marked as such")
	}
	inside, public := "c=IN IP4 10.0.0.10\r\n", "c=IN IP4 203.0.113.1\r\n"
	if !p.Outbound || !bytes.Contains(p.Payload, []byte(inside)) {
		return nil
	}
	out := bytes.Replace(p.Payload, []byte(inside), []byte(public), 1)
	var m sipmsg.Message
	if err := m.Index(p.Payload); err != nil {
		w.t.Error(err)
	}
	length := fmt.Sprintf("Content-Length: %d\r\n", m.Body.Len())
	if !bytes.Contains(p.Payload, []byte(length)) {
		return nil
	}
	return bytes.Replace(out, []byte(length), fmt.Appendf(nil, "Content-Length: %d\r\n", m.Body.Len()+len(public)-len(inside)), 1)
}

func (w *world) NoMedia() string { return w.noMedia }

// random matches what the proxy makes up.
var random = regexp.MustCompile(`z9hG4bK[0-9a-f]{32}|tag=[0-9a-z]{10,13}\b`)

// named puts names in the place of what is random.
func (w *world) named(message []byte) string {
	return random.ReplaceAllStringFunc(string(message), func(s string) string {
		for name, is := range w.names {
			if is == s {
				return name
			}
		}
		kind := "branch"
		if strings.HasPrefix(s, "tag=") {
			kind = "tag"
		}
		n := 1
		for name := range w.names {
			if strings.HasPrefix(name, "{"+kind) {
				n++
			}
		}
		name := fmt.Sprintf("{%s%d}", kind, n)
		w.names[name] = s
		return name
	})
}

// real puts the random text back.
func (w *world) real(text string) []byte {
	for name, is := range w.names {
		text = strings.ReplaceAll(text, name, is)
	}
	return []byte(text)
}
