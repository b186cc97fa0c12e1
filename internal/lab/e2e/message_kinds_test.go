package e2e

import (
	"regexp"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// The addresses that the firewall puts in each other's place in messages.
var (
	insideAddr = regexp.MustCompile(`\b10\.0\.0\.10\b`)
	publicAddr = regexp.MustCompile(`\b203\.0\.113\.1\b`)
)

// intact checks that a message arrived byte for byte, but for the inside and
// the public address, each in the place of the other.
func (c *conversation) intact(sent, got *lab.Message, outbound bool) {
	c.T.Helper()
	want := sent.String()
	switch {
	case !c.NAT():
	case outbound:
		want = insideAddr.ReplaceAllString(want, "203.0.113.1")
	default:
		want = publicAddr.ReplaceAllString(want, "10.0.0.10")
	}
	if string(got.Raw) != want {
		c.T.Errorf("%s arrived as\n%s\nwant\n%s", sent.Start, got.Raw, want)
	}
}

// transact sends a request and its response, and checks both.
func (c *conversation) transact(from, to *party, send func() *lab.Message, reply ...lab.Mod) (seen, answered *lab.Message) {
	c.T.Helper()
	sent := send()
	here := []lab.Filter{lab.CallID(sent.CallID()), lab.CSeq(sent.CSeq())}
	seen = to.Recv(append(here, lab.Request(sent.Method()))...)
	c.intact(sent, seen, from == c.alice)
	back := to.Reply(seen, 200, reply...)
	answered = from.Recv(append(here, lab.Response(sent.Method()))...)
	c.intact(back, answered, to == c.alice)
	return seen, answered
}

// kinds are requests that carry addresses in many places. $ME is the sender's
// own address, $YOU the one under which it knows the other.
var kinds = []struct {
	name   string
	method string
	dialog bool // within a call
	fields []lab.Field
	body   string
}{
	{"OPTIONS", "OPTIONS", false, []lab.Field{{Name: "Accept", Value: "application/sdp"}}, ""},
	{"MESSAGE", "MESSAGE", false, []lab.Field{{Name: "Content-Type", Value: "text/plain"}}, "Wo bist du?\r\n"},
	{"PUBLISH", "PUBLISH", false, []lab.Field{
		{Name: "Event", Value: "presence"}, {Name: "Expires", Value: "600"}, {Name: "Content-Type", Value: "application/pidf+xml"},
		{Name: "P-Preferred-Identity", Value: `"A, B" <sip:me@$ME>`}},
		"<?xml version=\"1.0\"?><presence entity=\"pres:me@example.com\"/>"},
	{"identities", "MESSAGE", false, []lab.Field{
		{Name: "Reply-To", Value: "<sip:me@$ME>"}, {Name: "P-Asserted-Identity", Value: "<sip:me@$ME>, <tel:+123>"},
		{Name: "Remote-Party-ID", Value: "<sip:me@$ME>;party=calling"}, {Name: "Diversion", Value: "<sip:me@$ME>;reason=deflection"},
		{Name: "History-Info", Value: "<sip:you@$YOU>;index=1, <sip:me@$ME>;index=1.1"}}, ""},
	{"quoted strings", "MESSAGE", false, []lab.Field{
		{Name: "Reply-To", Value: `"\"<sip:x@192.0.2.9>\", ;=" <sip:me@$ME>;a="<b>"`}, {Name: "P-Asserted-Identity", Value: `"x, <y" <sip:me@$ME>, "z" <sip:you@$YOU>`}}, ""},
	{"unknown method", "FLUB", false, []lab.Field{{Name: "Contact", Value: "<sip:x@$ME>"}}, ""},
	{"REFER out of dialog", "REFER", false, []lab.Field{{Name: "Refer-To", Value: "<sip:carol@198.51.100.7>"}, {Name: "Referred-By", Value: "<sip:me@$ME>"}}, ""},
	{"REFER", "REFER", true, []lab.Field{{Name: "Refer-To", Value: "<sip:me@$ME?Replaces=1%40x%3Bto-tag%3D2%3Bfrom-tag%3D3>"}, {Name: "Referred-By", Value: "<sip:me@$ME>"}}, ""},
	{"compact REFER", "REFER", true, []lab.Field{{Name: "r", Value: "<sip:you@$YOU>"}, {Name: "b", Value: "sip:me@$ME"}}, ""},
	{"NOTIFY of a transfer", "NOTIFY", true, []lab.Field{
		{Name: "Event", Value: "refer"}, {Name: "Subscription-State", Value: "active;expires=60"},
		{Name: "Content-Type", Value: "message/sipfrag;version=2.0"}}, "SIP/2.0 100 Trying\r\n"},
	{"INFO", "INFO", true, []lab.Field{{Name: "Content-Type", Value: "application/dtmf-relay"}}, "Signal=5\r\nDuration=160\r\n"},
	{"MESSAGE in dialog", "MESSAGE", true, []lab.Field{{Name: "Content-Type", Value: "text/plain"}}, "hier\r\n"},
	{"OPTIONS in dialog", "OPTIONS", true, nil, ""},
}

// TestMessageKinds: requests other than INVITE go both ways, and so do their
// responses; they open nothing, and disturb no call.
func TestMessageKinds(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	c.bob.Domain = "203.0.113.10"
	uri := map[*party]string{c.alice: "sip:bob@203.0.113.10", c.bob: c.contact}
	c.negotiate(c.alice, c.bob, c.alice.sdp([]lab.Line{{Port: 4000}}), c.bob.sdp([]lab.Line{{Port: 6000}}))
	before := len(c.Streams())
	for _, way := range c.ways() {
		from, to := way[0], way[1]
		for _, k := range kinds {
			t.Run(k.name+" of "+from.User, func(t *testing.T) {
				you := lab.HostPortOf(uri[from]).String()
				fill := func(m *lab.Message) {
					for _, f := range k.fields {
						m.Set(f.Name, strings.NewReplacer("$ME", from.Addr.String(), "$YOU", you).Replace(f.Value))
					}
					m.Body = k.body
				}
				c.transact(from, to, func() *lab.Message {
					if k.dialog {
						return from.dialog.Send(k.method, fill)
					}
					m := from.Request(k.method, uri[from])
					from.Send(from.NextHop(m), m, fill)
					return m
				}, lab.Also("Allow", "INVITE"))
				if n := len(c.Streams()); n != before {
					t.Errorf("%d streams are open, %d were before", n, before)
				}
			})
		}
	}
	c.talk()
	c.hangUp(c.bob, c.alice)
}

// TestMessageSubscribe: a subscription, its NOTIFYs, its refresh and its end,
// from inside and from outside.
func TestMessageSubscribe(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	c.bob.Domain = "203.0.113.10"
	uri := map[*party]string{c.alice: "sip:bob@203.0.113.10", c.bob: c.contact}
	event := lab.With("Event", "message-summary")
	for _, way := range c.ways() {
		from, to := way[0], way[1]
		seen, answered := c.transact(from, to, func() *lab.Message {
			from.dialog = from.Begin("SUBSCRIBE", uri[from], event, lab.With("Expires", "300"))
			return from.dialog.Sent
		}, lab.With("Expires", "300"))
		to.dialog = to.Accept(seen)
		from.dialog.Remote, from.dialog.Target = answered.Get("To"), lab.URIOf(answered.Get("Contact"))
		for _, state := range []string{"active;expires=300", "active;expires=200"} {
			c.transact(to, from, func() *lab.Message {
				return to.dialog.Send("NOTIFY", event, lab.With("Subscription-State", state),
					lab.WithBody("application/simple-message-summary", "Messages-Waiting: no\r\n"))
			})
		}
		for _, expires := range []string{"300", "0"} {
			c.transact(from, to, func() *lab.Message {
				return from.dialog.Send("SUBSCRIBE", event, lab.With("Expires", expires))
			}, lab.With("Expires", expires))
		}
		c.transact(to, from, func() *lab.Message {
			return to.dialog.Send("NOTIFY", event, lab.With("Subscription-State", "terminated;reason=timeout"))
		})
	}
	c.WaitClosed()
}

// TestMessageCapabilities: the answer to OPTIONS tells of media (RFC 3261
// section 11.2). No private address leaves in it, and it opens nothing.
func TestMessageCapabilities(t *testing.T) {
	t.Parallel()
	c := newConversation(t, lab.Options{})
	c.bob.Domain = "203.0.113.10"
	for _, port := range []int{0, 4000} {
		m := c.bob.Request("OPTIONS", c.contact)
		c.bob.Send(c.bob.NextHop(m), m)
		c.alice.Reply(c.alice.Recv(lab.Request("OPTIONS"), lab.CallID(m.CallID())), 200,
			lab.WithSDP(c.alice.sdp([]lab.Line{{Port: port}})))
		answer := c.bob.Recv(lab.Status(200, "OPTIONS"), lab.CallID(m.CallID()))
		c.measure(answer)
		c.CheckPublic("the address in the capabilities", answer.Media()[0].RTP, c.alice.Host)
	}
	if open := c.Streams(); len(open) > 0 {
		t.Errorf("OPTIONS has opened %v", open)
	}
}
