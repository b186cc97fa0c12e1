package lab

import (
	"fmt"
	"slices"
	"strings"
)

// Dialog is one party's view of a dialog: enough of RFC 3261 section 12 that
// tests need not spell out tags, route sets and sequence numbers.
type Dialog struct {
	Agent  *Agent
	CallID string
	Local  string   // From of its requests, with tag
	Remote string   // To of its requests, with tag once known
	Target string   // the remote target URI
	Routes []string // the route set
	Seq    int      // of the last request sent
	Invite *Message // the last INVITE, sent or received
	Sent   *Message // the last request sent, ACK aside
	Got    *Message // the last request received
}

// Invite calls a URI. Give the offer with WithSDP.
func (a *Agent) Invite(uri string, mods ...Mod) *Dialog {
	a.Host.lab.T.Helper()
	return a.Begin("INVITE", uri, mods...)
}

// Begin sends a request that may create a dialog.
func (a *Agent) Begin(method, uri string, mods ...Mod) *Dialog {
	a.Host.lab.T.Helper()
	m := a.Request(method, uri)
	for _, mod := range mods {
		mod(m)
	}
	d := &Dialog{
		Agent: a, CallID: m.CallID(), Local: m.Get("From"), Remote: m.Get("To"), Target: uri,
		Seq: m.CSeq(), Sent: m,
	}
	if method == "INVITE" {
		d.Invite = m
	}
	a.Send(a.NextHop(m), m)
	return d
}

// Recv waits for a message of this dialog's Call-ID.
func (d *Dialog) Recv(filters ...Filter) *Message {
	d.Agent.Host.lab.T.Helper()
	m := d.Agent.Recv(append([]Filter{CallID(d.CallID)}, filters...)...)
	d.learn(m)
	return m
}

// Expect waits for a response with this status to the last request sent.
func (d *Dialog) Expect(code int) *Message {
	d.Agent.Host.lab.T.Helper()
	return d.Recv(Status(code, d.Sent.Method()), CSeq(d.Sent.CSeq()))
}

// ExpectRequest waits for a request in this dialog.
func (d *Dialog) ExpectRequest(method string) *Message {
	d.Agent.Host.lab.T.Helper()
	return d.Recv(Request(method))
}

// learn takes tags, target and routes from a received message.
func (d *Dialog) learn(m *Message) {
	contact := m.Get("Contact")
	if m.Request() {
		d.Got = m
		if m.Method() == "INVITE" {
			d.Invite = m
		}
		if contact != "" && (m.Method() == "INVITE" || m.Method() == "UPDATE") {
			d.Target = URIOf(contact)
		}
		return
	}
	code := m.Status()
	if code == 100 || code >= 300 {
		return
	}
	if Tag(d.Remote) == "" && Tag(m.Get("To")) != "" {
		d.Remote = m.Get("To")
		d.Routes = routeSet(m)
		slices.Reverse(d.Routes)
	}
	if contact != "" {
		d.Target = URIOf(contact)
	}
}

// routeSet are the Record-Route values in order, comma lists taken apart.
func routeSet(m *Message) []string {
	var routes []string
	for _, line := range m.All("Record-Route") {
		for _, r := range strings.Split(line, ",") {
			routes = append(routes, strings.TrimSpace(r))
		}
	}
	return routes
}

// Fork is the dialog of another branch, which a response with another To tag
// has created.
func (d *Dialog) Fork(m *Message) *Dialog {
	f := *d
	f.Remote = m.Get("To")
	f.Routes = routeSet(m)
	slices.Reverse(f.Routes)
	f.Target = URIOf(m.Get("Contact"))
	return &f
}

// Build makes the next request of the dialog without sending it.
func (d *Dialog) Build(method string) *Message {
	if method != "ACK" && method != "CANCEL" {
		d.Seq++
	}
	m := &Message{Start: method + " " + d.Target + " SIP/2.0"}
	m.Add("Via", d.Agent.Via())
	m.Add("Max-Forwards", "70")
	for _, r := range d.Routes {
		m.Add("Route", r)
	}
	m.Add("From", d.Local)
	m.Add("To", d.Remote)
	m.Add("Call-ID", d.CallID)
	m.Add("CSeq", fmt.Sprintf("%d %s", d.Seq, method))
	m.Add("Contact", d.Agent.Contact)
	return m
}

// Send sends a request in the dialog and returns it.
func (d *Dialog) Send(method string, mods ...Mod) *Message {
	d.Agent.Host.lab.T.Helper()
	m := d.Build(method)
	for _, mod := range mods {
		mod(m)
	}
	d.Sent = m
	if method == "INVITE" {
		d.Invite = m
	}
	d.Agent.Send(d.Agent.NextHop(m), m)
	return m
}

// Ack acknowledges a 2xx to the last INVITE sent.
func (d *Dialog) Ack(mods ...Mod) *Message {
	d.Agent.Host.lab.T.Helper()
	m := d.Build("ACK")
	m.Set("CSeq", fmt.Sprintf("%d ACK", d.Invite.CSeq()))
	d.Agent.Send(d.Agent.NextHop(m), m, mods...)
	return m
}

// AckFailure acknowledges a final response other than 2xx: the ACK belongs to
// the INVITE's transaction and goes the INVITE's way (RFC 3261 section 17.1.1.3).
func (d *Dialog) AckFailure(failure *Message) {
	d.Agent.Host.lab.T.Helper()
	m := d.within("ACK")
	m.Set("To", failure.Get("To"))
	d.Agent.Send(d.Agent.NextHop(d.Invite), m)
}

// SendCancel cancels the last INVITE and expects nothing.
func (d *Dialog) SendCancel() {
	d.Agent.Host.lab.T.Helper()
	d.Agent.Send(d.Agent.NextHop(d.Invite), d.within("CANCEL"))
}

// within builds the ACK or CANCEL of the last INVITE's transaction.
func (d *Dialog) within(method string) *Message {
	inv := d.Invite
	m := &Message{Start: method + " " + inv.RequestURI() + " SIP/2.0"}
	m.Add("Via", inv.Get("Via"))
	m.Add("Max-Forwards", "70")
	for _, r := range inv.All("Route") {
		m.Add("Route", r)
	}
	m.Add("From", inv.Get("From"))
	m.Add("To", inv.Get("To"))
	m.Add("Call-ID", d.CallID)
	m.Add("CSeq", fmt.Sprintf("%d %s", inv.CSeq(), method))
	return m
}

// Bye ends the dialog and expects the answer.
func (d *Dialog) Bye(mods ...Mod) {
	d.Agent.Host.lab.T.Helper()
	d.Send("BYE", mods...)
	d.Expect(200)
}

// AnswerBye waits for the other side's BYE and answers it.
func (d *Dialog) AnswerBye() *Message {
	d.Agent.Host.lab.T.Helper()
	m := d.ExpectRequest("BYE")
	d.Agent.Reply(m, 200)
	return m
}

// RecvInvite waits for an INVITE that begins a dialog.
func (a *Agent) RecvInvite(filters ...Filter) *Dialog {
	a.Host.lab.T.Helper()
	return a.Accept(a.Recv(append([]Filter{Request("INVITE")}, filters...)...))
}

// Accept is the dialog that a received request begins, seen from the called
// side. It sends nothing.
func (a *Agent) Accept(m *Message) *Dialog {
	return &Dialog{
		Agent: a, CallID: m.CallID(), Local: m.Get("To") + ";tag=" + a.tag(m), Remote: m.Get("From"),
		Target: URIOf(m.Get("Contact")), Routes: routeSet(m), Invite: m, Got: m,
	}
}

// Reply answers the last request received.
func (d *Dialog) Reply(code int, mods ...Mod) *Message {
	d.Agent.Host.lab.T.Helper()
	return d.Agent.Reply(d.Got, code, mods...)
}
