package e2e

import (
	"net/netip"
	"testing"

	"sipnatd/internal/lab"
)

// TestPortForward: a PBX behind the administrator's own port-forward is a
// registrar for remote phones, and a customer of a provider, whichever comes
// first. It needs one binding for both, that of the port-forward.
func TestPortForward(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		steps []func(p *pbx)
	}{
		{"remote phones first", []func(*pbx){(*pbx).serveRemote, (*pbx).serveProvider}},
		{"provider first", []func(*pbx){(*pbx).serveProvider, (*pbx).serveRemote}},
		{"daemon restarted in between", []func(*pbx){(*pbx).serveProvider, (*pbx).restart, (*pbx).serveRemote, (*pbx).serveProvider}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t, lab.Options{
				Outside:  []string{"203.0.113.10", "198.51.100.20"},
				Firewall: lab.Firewall{PortForward: netip.MustParseAddrPort("10.0.0.10:5060")},
			})
			p := &pbx{
				Lab: l, daemon: l.StartDaemon(),
				exchange: newSide(l.Phones[0], "pbx", 5060, 4000),
				provider: newSide(l.Outside[0], "provider", 5060, 6000),
				remote:   newSide(l.Outside[1], "remote", 5060, 6000),
			}
			p.reach = l.Reach(l.Phones[0], 5060)
			for _, step := range c.steps {
				step(p)
			}
		})
	}
}

// pbx is a private exchange, its provider and a remote phone.
type pbx struct {
	*lab.Lab
	daemon                     *lab.Daemon
	exchange, provider, remote *side
	reach                      netip.AddrPort // of the exchange, from outside
}

// serveRemote registers the remote phone with the exchange; each calls the other.
func (p *pbx) serveRemote() {
	p.T.Helper()
	p.remote.Proxy = p.reach
	p.remote.Domain = p.reach.Addr().String()
	m := p.remote.Request("REGISTER", "sip:"+p.remote.Domain)
	p.remote.Send(p.reach, m)
	seen := p.exchange.Recv(lab.Request("REGISTER"), lab.CallID(m.CallID()))
	contact := seen.Get("Contact")
	if contact != p.remote.Contact {
		p.T.Errorf("the exchange sees the Contact %s, sent was %s", contact, p.remote.Contact)
	}
	p.exchange.Reply(seen, 200, lab.Also("Contact", contact+";expires=3600"))
	p.remote.Recv(lab.Status(200, "REGISTER"), lab.CallID(m.CallID()))

	p.exchange.Proxy, p.exchange.Domain = netip.AddrPort{}, ""
	in := between(p.Lab, p.exchange, p.remote).incoming()
	in.contact = "sip:pbx@" + p.reach.String()
	in.call()
	between(p.Lab, p.exchange, p.remote).call()
	p.oneBinding()
}

// serveProvider registers the exchange with the provider; each calls the other.
func (p *pbx) serveProvider() {
	p.T.Helper()
	out := between(p.Lab, p.exchange, p.provider)
	if seen := out.register(); p.NAT() && (seen.From != p.reach || lab.HostPortOf(out.contact) != p.reach) {
		p.T.Errorf("the exchange registers %s from %v; the port-forward is %v", out.contact, seen.From, p.reach)
	}
	out.call()
	// The provider calls when the registration's flow has gone.
	p.DeleteConntracks(func(f lab.Flow) bool { return f.Touches(p.exchange.Addr) })
	in := between(p.Lab, p.exchange, p.provider).incoming()
	in.contact = out.contact
	in.call()
	p.oneBinding()
}

func (p *pbx) oneBinding() {
	p.T.Helper()
	if b := p.Bindings(); p.NAT() && (len(b) != 1 || b[p.reach] != p.exchange.Addr) {
		p.T.Errorf("the bindings are %v", b)
	}
	// Who may call is the administrator's policy: nothing makes others RELATED.
	if p.NAT() && expected(p.Lab, p.reach) {
		p.T.Errorf("flows to the port-forward are expected: %v", p.Expectations())
	}
}

func (p *pbx) restart() {
	p.daemon.Stop()
	p.daemon = p.StartDaemon()
}
