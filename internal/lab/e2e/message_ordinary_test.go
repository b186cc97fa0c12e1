package e2e

import (
	"slices"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// rename gives header lines other names.
func rename(pairs ...string) lab.Mod {
	return func(m *lab.Message) {
		for i, h := range m.Headers {
			if k := slices.Index(pairs, h.Name); k >= 0 && k%2 == 0 {
				m.Headers[i].Name = pairs[k+1]
			}
		}
	}
}

// mixed puts the session description between other parts.
func mixed(m *lab.Message) {
	m.WithBody(`multipart/mixed;boundary="next part"`, "a preamble\r\n"+
		"--next part\r\nContent-Type: text/plain\r\n\r\nsee c=IN IP4 198.51.100.1\r\n"+
		"--next part\r\nContent-Type: application/sdp\r\nContent-Disposition: session\r\n\r\n"+m.Body+
		"\r\n--next part\r\nContent-Type: application/octet-stream\r\n\r\n\x00\xff\x01\r\n--next part--\r\nan epilogue")
}

// TestMessageOrdinary: calls with what is ordinary in SIP, but more than a
// simple gateway understands. Media runs both ways, everything closes.
func TestMessageOrdinary(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name  string
		mods  []lab.Mod
		about []string // what is to be replaced in the session descriptions
	}{
		{"no Content-Length", []lab.Mod{lab.WithoutLength()}, nil},
		{"origin with a host name", nil, []string{"o=lab 1 1 IN IP4 10.0.0.10", "o=- 1 1 IN IP4 phone.example.com",
			"o=lab 1 1 IN IP4 203.0.113.10", "o=- 1 1 IN IP4 bob.example.com"}},
		{"multipart", []lab.Mod{mixed}, nil},
		{"compact names", []lab.Mod{rename("Via", "v", "From", "f", "To", "t", "Call-ID", "i", "Contact", "m", "Content-Type", "c")}, nil},
		{"odd names", []lab.Mod{rename("Via", "VIA", "From", "fRoM", "Contact", "contact ", "Content-Type", "content-type")}, nil},
		{"folded", []lab.Mod{func(m *lab.Message) {
			for i, h := range m.Headers {
				if h.Name == "Contact" || h.Name == "From" {
					m.Headers[i].Value = "\r\n\t" + strings.ReplaceAll(h.Value, ";", "\r\n ;")
				}
			}
		}}, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := newConversation(t, lab.Options{})
			for _, way := range c.ways() {
				text := map[*party]string{
					c.alice: c.alice.sdp([]lab.Line{{Port: 4000}}, x.about...),
					c.bob:   c.bob.sdp([]lab.Line{{Port: 6000}}, x.about...),
				}
				c.negotiate(way[0], way[1], text[way[0]], text[way[1]], x.mods...)
				c.talk()
				c.hangUp(way[0], way[1])
			}
			for _, p := range c.Wire.SIP(lab.Request("INVITE")) {
				if body := p.SIP.Body; strings.Contains(body, "next part") &&
					(!strings.HasPrefix(body, "a preamble\r\n") || !strings.HasSuffix(body, "\x00\xff\x01\r\n--next part--\r\nan epilogue")) {
					t.Errorf("the other parts have changed:\n%q", body)
				}
			}
		})
	}
}

// TestMessageRaw: an INVITE in unusual bytes is understood as well, and what is
// unusual stays.
func TestMessageRaw(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name string
		make func(text string) string
		kept func(got string) bool
	}{
		{"LF only", func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") },
			func(s string) bool { return !strings.Contains(s, "\r") }},
		{"after empty lines", func(s string) string { return "\r\n\r\n" + s },
			func(s string) bool { return strings.HasPrefix(s, "\r\n\r\nINVITE ") }},
		{"bytes after the body", func(s string) string { return s + "\r\njunk" },
			func(s string) bool { return strings.HasSuffix(s, "\r\njunk") }},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := newConversation(t, lab.Options{})
			for _, way := range c.ways() {
				from, to := way[0], way[1]
				text := map[*party]string{c.alice: c.alice.sdp([]lab.Line{{Port: 4000}}), c.bob: c.bob.sdp([]lab.Line{{Port: 6000}})}
				uri := map[*party]string{c.alice: "sip:bob@203.0.113.10", c.bob: c.contact}[from]
				m := from.Request("INVITE", uri).WithSDP(text[from])
				if x.name == "LF only" {
					m.Body = strings.ReplaceAll(m.Body, "\r\n", "\n") // its length counts
				}
				from.SendRaw(from.NextHop(m), []byte(x.make(m.String())))
				from.dialog = &lab.Dialog{Agent: from.Agent, CallID: m.CallID(), Local: m.Get("From"), Remote: m.Get("To"), Seq: 1, Invite: m, Sent: m}
				to.dialog = to.RecvInvite(lab.CallID(m.CallID()))
				if got := string(to.dialog.Invite.Raw); !x.kept(got) {
					t.Errorf("arrived as %q", got)
				}
				to.dialog.Reply(200, lab.WithSDP(text[to]))
				from.told = from.dialog.Expect(200).Media()
				from.has, to.has, to.told = lab.ParseSDP(text[from]), lab.ParseSDP(text[to]), to.dialog.Invite.Media()
				from.dialog.Ack()
				to.dialog.ExpectRequest("ACK")
				c.talk()
				c.announced[c.bob.told[0].RTP] = true
				c.hangUp(from, to)
			}
		})
	}
}

// TestMessageRoutes: an inside proxy writes itself into Record-Route and Path.
// Requests come back by it, with its own words.
func TestMessageRoutes(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	const own = "<sip:10.0.0.10;lr;x=10>"
	m := c.alice.Request("REGISTER", "sip:203.0.113.10")
	c.alice.Send(c.bob.Addr, m, lab.With("Path", own), lab.With("Supported", "path"))
	seen := c.bob.Recv(lab.Request("REGISTER"), lab.CallID(m.CallID()))
	c.bob.Reply(seen, 200, lab.With("Contact", seen.Get("Contact")), lab.With("Path", seen.Get("Path")))
	answer := c.alice.Recv(lab.Status(200, "REGISTER"), lab.CallID(m.CallID()))
	if got := lab.HostPortOf(seen.Get("Path")); c.NAT() && got.Addr() != lab.PublicAddr {
		t.Errorf("the registrar is told the path %s", seen.Get("Path"))
	}
	if got := answer.Get("Path"); got != own {
		t.Errorf("the proxy is told the path %q, it is %s", got, own)
	}

	offer, accept := c.alice.sdp([]lab.Line{{Port: 4000}}), c.bob.sdp([]lab.Line{{Port: 6000}})
	out := c.alice.Invite("sip:bob@203.0.113.10", lab.WithSDP(offer), lab.With("Record-Route", own))
	in := c.bob.RecvInvite()
	c.CheckPublic("the proxy's Record-Route", lab.HostPortOf(in.Routes[0]), c.alice.Host)
	in.Reply(200, lab.WithSDP(accept))
	answered := out.Expect(200)
	if got := answered.Get("Record-Route"); got != own {
		t.Errorf("the proxy's Record-Route comes back as %s, it was %s", got, own)
	}
	c.alice.has, c.alice.told = lab.ParseSDP(offer), answered.Media()
	c.bob.has, c.bob.told = lab.ParseSDP(accept), in.Invite.Media()
	out.Routes = nil // the proxy is the phone itself
	out.Ack()
	in.ExpectRequest("ACK")
	c.talk()
	in.Send("INFO")
	if got := out.ExpectRequest("INFO").Get("Route"); got != own {
		t.Errorf("the proxy gets Route %s, its Record-Route was %s", got, own)
	}
	out.Reply(200)
	in.Expect(200)
	c.alice.dialog, c.bob.dialog = out, in
	c.hangUp(c.bob, c.alice)
}

// TestMessageContactPort: a phone wants to be called on another port than the
// one it sends from. Calls reach that port, under the URI that it gave.
func TestMessageContactPort(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	called := c.Phones[0].Agent("alice", 5070)
	c.alice.Contact = called.Contact
	seen, _ := c.alice.Register(c.bob.Agent, 3600)
	c.contact = lab.URIOf(seen.Get("Contact"))
	c.alice = &party{Agent: called}
	c.negotiate(c.bob, c.alice, c.bob.sdp([]lab.Line{{Port: 6000}}), c.alice.sdp([]lab.Line{{Port: 4000}}))
	if got := c.alice.dialog.Invite.RequestURI(); got != lab.URIOf(called.Contact) {
		t.Errorf("the phone is called as %s, its Contact is %s", got, called.Contact)
	}
	c.talk()
	c.hangUp(c.bob, c.alice)
}

// TestMessageLowPort: a phone that signals from a port below 1024.
func TestMessageLowPort(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	c.alice = &party{Agent: c.Phones[0].Agent("alice", 506)}
	seen, _ := c.alice.Register(c.bob.Agent, 3600)
	c.contact = lab.URIOf(seen.Get("Contact"))
	for _, way := range c.ways() {
		text := map[*party]string{c.alice: c.alice.sdp([]lab.Line{{Port: 4000}}), c.bob: c.bob.sdp([]lab.Line{{Port: 6000}})}
		c.negotiate(way[0], way[1], text[way[0]], text[way[1]])
		c.talk()
		c.hangUp(way[0], way[1])
	}
}

// TestMessageRefusedPorts: an m-line whose port is below 1024 or SIP's own is
// refused, with a warning; the message arrives, and its other m-lines work.
func TestMessageRefusedPorts(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name string
		port int
	}{{"500", 500}, {"5060", 5060}} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := newConversation(t, lab.Options{})
			for _, way := range c.ways() {
				text := map[*party]string{
					c.alice: c.alice.sdp([]lab.Line{{Port: x.port}, {Kind: "video", Port: 4002}}),
					c.bob:   c.bob.sdp([]lab.Line{{Port: 6000}, {Kind: "video", Port: 6002}}),
				}
				c.negotiate(way[0], way[1], text[way[0]], text[way[1]])
				if c.NAT() {
					if port := c.bob.told[0].RTP.Port(); port != 0 {
						t.Errorf("the m-line with port %d leaves with %d, not 0", x.port, port)
					}
					c.warned("refused", "1024", "10.0.0.10:"+x.name)
					for public, inside := range c.Streams() {
						if int(inside.Port()) == x.port || int(inside.Port()) == x.port+1 {
							t.Errorf("stream %v leads to %v", public, inside)
						}
					}
				}
				c.alice.has, c.bob.has = c.alice.has[1:], c.bob.has[1:]
				c.alice.told, c.bob.told = c.alice.told[1:], c.bob.told[1:]
				c.talk()
				c.hangUp(way[0], way[1])
			}
		})
	}
}

// TestMessageSessions: message sessions (MSRP, RFC 4975) run over TCP, which is
// never opened. No private address leaves, and nothing is opened.
func TestMessageSessions(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	line := func(p *party) string {
		return p.sdp([]lab.Line{{Kind: "message", Port: 2855, Proto: "TCP/MSRP", Fmt: "*", Attrs: []string{
			"a=accept-types:text/plain", "a=path:msrp://" + p.Addr.Addr().String() + ":2855/s1a2;tcp"}}})
	}
	for _, way := range c.ways() {
		text := map[*party]string{c.alice: line(c.alice), c.bob: line(c.bob)}
		c.negotiate(way[0], way[1], text[way[0]], text[way[1]])
		if len(c.bob.told) != 1 || !slices.ContainsFunc(c.bob.told[0].Lines, func(s string) bool {
			return strings.HasPrefix(s, "a=path:msrp://") && strings.HasSuffix(s, "/s1a2;tcp")
		}) {
			t.Errorf("bob is told %q", c.bob.told)
		}
		if open := c.Streams(); len(open) > 0 {
			t.Errorf("a message session has opened %v", open)
		}
		clear(c.announced)
		c.hangUp(way[0], way[1])
	}
}
