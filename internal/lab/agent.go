package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Agent is a scripted user agent: it sends what it is told, byte for byte if
// need be, and does nothing by itself. Received messages wait in a mailbox
// until Recv takes them; byte-identical repetitions (retransmissions), and what is
// not SIP, are dropped.
type Agent struct {
	Host    *Host
	Addr    netip.AddrPort
	User    string
	Contact string         // the Contact value of requests and responses
	Proxy   netip.AddrPort // where requests outside dialogs go; invalid: to their URI
	Domain  string         // the host of From and To; default that of the Proxy, or the URI's

	conn *net.UDPConn

	mu      sync.Mutex
	grown   chan struct{}
	mailbox []*Message
	seen    map[string]bool
}

// Mod changes a message before it is sent.
type Mod func(*Message)

// With sets a header.
func With(name, value string) Mod { return func(m *Message) { m.Set(name, value) } }

// Also adds a header line.
func Also(name, value string) Mod { return func(m *Message) { m.Add(name, value) } }

// WithoutLength leaves Content-Length out.
func WithoutLength() Mod { return func(m *Message) { m.Del("Content-Length").NoLength = true } }

// WithSDP gives a message a session description.
func WithSDP(sdp string) Mod { return func(m *Message) { m.WithSDP(sdp) } }

// WithBody gives a message a body.
func WithBody(contentType, body string) Mod {
	return func(m *Message) { m.WithBody(contentType, body) }
}

// Padded makes a message exactly size bytes long, the UDP payload, with a
// header of its own. It must be the last Mod.
func Padded(size int) Mod {
	return func(m *Message) {
		m.Set("X-Padding", "")
		missing := size - len(m.String())
		if missing < 0 {
			panic(fmt.Sprintf("a message of %d bytes cannot be padded to %d", len(m.String()), size))
		}
		m.Set("X-Padding", strings.Repeat("x", missing))
	}
}

// Agent opens a user agent on a UDP port of the host. It ends with the lab.
func (h *Host) Agent(user string, port int) *Agent {
	h.lab.T.Helper()
	conn, err := h.ListenUDP(h.At(port))
	if err != nil {
		h.lab.T.Fatalf("%s: agent %s: %v", h.Name, user, err)
	}
	conn.SetReadBuffer(4 << 20)
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	a := &Agent{
		Host:    h,
		Addr:    addr,
		User:    user,
		Contact: fmt.Sprintf("<sip:%s@%v>", user, addr),
		conn:    conn,
		grown:   make(chan struct{}),
		seen:    make(map[string]bool),
	}
	h.lab.T.Cleanup(func() { conn.Close() })
	go a.read()
	return a
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

func (a *Agent) read() {
	buf := make([]byte, 65536)
	for {
		n, from, err := a.conn.ReadFromUDPAddrPort(buf)
		if isClosed(err) {
			return
		}
		if err != nil {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		raw := append([]byte(nil), buf[:n]...)
		a.mu.Lock()
		key := from.String() + " " + string(raw)
		m, err := ParseMessage(raw)
		if err == nil && !a.seen[key] {
			m.From = from
			a.mailbox = append(a.mailbox, m)
		}
		a.seen[key] = true
		close(a.grown)
		a.grown = make(chan struct{})
		a.mu.Unlock()
	}
}

// SendRaw sends bytes.
func (a *Agent) SendRaw(to netip.AddrPort, raw []byte) {
	a.Host.lab.T.Helper()
	if _, err := a.conn.WriteToUDPAddrPort(raw, to); err != nil {
		a.Host.lab.T.Errorf("%s: send to %v: %v", a.User, to, err)
	}
}

// Send sends a message.
func (a *Agent) Send(to netip.AddrPort, m *Message, mods ...Mod) {
	a.Host.lab.T.Helper()
	for _, mod := range mods {
		mod(m)
	}
	a.SendRaw(to, []byte(m.String()))
}

// Recv waits for a message that all filters accept and takes it out of the
// mailbox; others stay there.
func (a *Agent) Recv(filters ...Filter) *Message {
	a.Host.lab.T.Helper()
	m, err := a.Await(Moment(), filters...)
	if err != nil {
		a.Host.lab.T.Fatalf("%v", err)
	}
	return m
}

// Await is Recv with a time-out of its own and an error.
func (a *Agent) Await(timeout time.Duration, filters ...Filter) (*Message, error) {
	deadline := time.After(timeout)
	for {
		a.mu.Lock()
		for i, m := range a.mailbox {
			if matches(m, filters) {
				a.mailbox = append(a.mailbox[:i:i], a.mailbox[i+1:]...)
				a.mu.Unlock()
				return m, nil
			}
		}
		grown := a.grown
		var have []string
		for _, m := range a.mailbox {
			have = append(have, fmt.Sprintf("%s (CSeq %s)", m.Start, m.Get("CSeq")))
		}
		a.mu.Unlock()
		select {
		case <-grown:
		case <-deadline:
			return nil, fmt.Errorf("agent %s (%v): no such message within %v; mailbox: [%s]",
				a.User, a.Addr, timeout, strings.Join(have, ", "))
		}
	}
}

// Pending are the messages in the mailbox that all filters accept.
func (a *Agent) Pending(filters ...Filter) []*Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ms []*Message
	for _, m := range a.mailbox {
		if matches(m, filters) {
			ms = append(ms, m)
		}
	}
	return ms
}

// token is a random word for tags, branches and Call-IDs.
func token() string { return fmt.Sprintf("%08x", rand.Uint32()) }

// NewBranch is a fresh branch parameter of a Via.
func NewBranch() string { return "z9hG4bK" + token() }

// Via is a Via value of the agent with a fresh branch.
func (a *Agent) Via() string {
	return fmt.Sprintf("SIP/2.0/UDP %v;branch=%s;rport", a.Addr, NewBranch())
}

// Request builds a request outside a dialog, with everything RFC 3261 wants.
func (a *Agent) Request(method, uri string) *Message {
	domain := a.Domain
	if domain == "" && a.Proxy.IsValid() {
		domain = a.Proxy.Addr().String()
	}
	if domain == "" {
		domain = HostPortOf(uri).Addr().String()
	}
	to := "<" + uri + ">"
	from := fmt.Sprintf("<sip:%s@%s>", a.User, domain)
	if method == "REGISTER" {
		to = from
	}
	m := &Message{Start: method + " " + uri + " SIP/2.0"}
	m.Add("Via", a.Via())
	m.Add("Max-Forwards", "70")
	m.Add("From", from+";tag="+token())
	m.Add("To", to)
	m.Add("Call-ID", token()+token()+"@lab")
	m.Add("CSeq", "1 "+method)
	m.Add("Contact", a.Contact)
	m.Add("User-Agent", "lab")
	return m
}

// NextHop is where a request goes: its first Route, the agent's proxy if the
// request is outside a dialog, or its URI.
func (a *Agent) NextHop(m *Message) netip.AddrPort {
	if r := m.Get("Route"); r != "" {
		return HostPortOf(r)
	}
	if a.Proxy.IsValid() && Tag(m.Get("To")) == "" {
		return a.Proxy
	}
	return HostPortOf(m.RequestURI())
}

// Response builds a response: Via, From, To, Call-ID, CSeq and Record-Route as
// in the request, a To tag, a Contact where dialogs want one, and received and
// rport as RFC 3261 section 18.2.1 and RFC 3581 say.
func (a *Agent) Response(req *Message, code int) *Message {
	m := &Message{Start: fmt.Sprintf("SIP/2.0 %d %s", code, reasons[code])}
	for i, via := range req.All("Via") {
		if i == 0 {
			via = received(via, req.From)
		}
		m.Add("Via", via)
	}
	for _, rr := range req.All("Record-Route") {
		m.Add("Record-Route", rr)
	}
	to := req.Get("To")
	if Tag(to) == "" && code > 100 {
		to += ";tag=" + a.tag(req)
	}
	m.Add("From", req.Get("From"))
	m.Add("To", to)
	m.Add("Call-ID", req.CallID())
	m.Add("CSeq", req.Get("CSeq"))
	if method := req.Method(); code > 100 && method != "REGISTER" && method != "BYE" && method != "CANCEL" {
		m.Add("Contact", a.Contact)
	}
	m.Add("Server", "lab")
	return m
}

// tag is the To tag of every response to a request: one per Call-ID.
func (a *Agent) tag(req *Message) string { return a.User + "-" + strings.Map(alnum, req.CallID()) }

func alnum(r rune) rune {
	if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return r
	}
	return -1
}

var reasons = map[int]string{
	100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 183: "Session Progress", 200: "OK", 202: "Accepted",
	301: "Moved Permanently", 302: "Moved Temporarily", 401: "Unauthorized", 404: "Not Found",
	407: "Proxy Authentication Required", 408: "Request Timeout", 480: "Temporarily Unavailable",
	481: "Call/Transaction Does Not Exist", 486: "Busy Here", 487: "Request Terminated",
	488: "Not Acceptable Here", 491: "Request Pending", 500: "Server Internal Error",
	503: "Service Unavailable", 603: "Decline",
}

// received notes in a Via where the request came from.
func received(via string, from netip.AddrPort) string {
	sentBy := HostPortOf(via)
	rport := hasParam(via, "rport")
	if sentBy.Addr() != from.Addr() || rport {
		via += ";received=" + from.Addr().String()
	}
	if rport {
		parts := strings.Split(via, ";")
		for i, p := range parts {
			if strings.TrimSpace(p) == "rport" {
				parts[i] = fmt.Sprintf("rport=%d", from.Port())
			}
		}
		via = strings.Join(parts, ";")
	}
	return via
}

func hasParam(value, name string) bool {
	for _, p := range strings.Split(value, ";")[1:] {
		k, _, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(k), name) {
			return true
		}
	}
	return false
}

// ReplyTo is where responses to a request go: to its source if the Via has
// rport, else to the sent-by port of the source's address.
func ReplyTo(req *Message) netip.AddrPort {
	via := req.Get("Via")
	if hasParam(via, "rport") {
		return req.From
	}
	port := HostPortOf(via).Port()
	if port == 0 {
		port = 5060
	}
	return netip.AddrPortFrom(req.From.Addr(), port)
}

// Reply answers a request and returns the response.
func (a *Agent) Reply(req *Message, code int, mods ...Mod) *Message {
	a.Host.lab.T.Helper()
	m := a.Response(req, code)
	a.Send(ReplyTo(req), m, mods...)
	return m
}

// Do sends a request outside a dialog and returns its final response.
func (a *Agent) Do(m *Message, mods ...Mod) *Message {
	a.Host.lab.T.Helper()
	for _, mod := range mods {
		mod(m)
	}
	a.Send(a.NextHop(m), m)
	id, seq := m.CallID(), m.CSeq()
	return a.Recv(Response(m.Method()), CallID(id), CSeq(seq), func(m *Message) bool { return m.Status() >= 200 })
}

// Register registers the agent with a scripted registrar, which grants what is
// asked for. It returns the request as the registrar saw it, and the response
// as the agent saw it.
func (a *Agent) Register(registrar *Agent, expires int, mods ...Mod) (seen, answer *Message) {
	a.Host.lab.T.Helper()
	a.Proxy = registrar.Addr
	m := a.Request("REGISTER", "sip:"+registrar.Addr.Addr().String())
	m.Set("Expires", fmt.Sprint(expires))
	a.Send(registrar.Addr, m, mods...)
	seen = registrar.Recv(Request("REGISTER"), CallID(m.CallID()), CSeq(m.CSeq()))
	registrar.Reply(seen, 200, func(r *Message) {
		if expires > 0 {
			for _, c := range seen.All("Contact") {
				r.Add("Contact", fmt.Sprintf("%s;expires=%d", c, expires))
			}
		}
	})
	return seen, a.Recv(Status(200, "REGISTER"), CallID(m.CallID()), CSeq(m.CSeq()))
}

// RegisterWith registers the agent with a real registrar, without
// authentication, and returns its answer, which must be 200.
func (a *Agent) RegisterWith(registrar netip.AddrPort, expires int, mods ...Mod) *Message {
	a.Host.lab.T.Helper()
	a.Proxy = registrar
	m := a.Request("REGISTER", "sip:"+registrar.Addr().String())
	m.Set("Expires", fmt.Sprint(expires))
	answer := a.Do(m, mods...)
	if answer.Status() != 200 {
		a.Host.lab.T.Fatalf("%s: REGISTER: %s", a.User, answer.Start)
	}
	return answer
}
