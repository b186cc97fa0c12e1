package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sipnatd/internal/lab"
)

// forger sends to the victim's public endpoint in the name of others: mallory outside,
// on the same network as the provider.
type forger struct {
	*victim
	public netip.AddrPort
}

func newForger(t *testing.T, o lab.Options, config ...string) *forger {
	t.Helper()
	v := newVictim(t, o, config...)
	for _, h := range v.Outside { // the firewall is a router, for them
		h.Run("ip", "route", "add", lab.InsideNet.String(), "via", lab.PublicAddr.String())
	}
	return &forger{v, lab.HostPortOf(v.contact)}
}

// refuse has the phone refuse what it got of the forged messages, as a phone does that
// knows its dialogs and transactions.
func (f *forger) refuse() {
	f.T.Helper()
	f.settle()
	for len(f.alice.Pending()) > 0 {
		if m := f.alice.Recv(); m.Request() && m.Method() != "ACK" {
			f.alice.Reply(m, 481)
		}
	}
}

// names are the sources that a forged message can have.
func (f *forger) names() []netip.AddrPort {
	list := []netip.AddrPort{f.bob.Addr, netip.AddrPortFrom(f.bob.Addr.Addr(), 34567)}
	for _, a := range []string{"203.0.113.66", "198.51.100.77", "10.0.0.10", "10.0.0.11", "10.0.0.1", "203.0.113.1", "192.168.1.1"} {
		list = append(list, netip.AddrPortFrom(netip.MustParseAddr(a), 5060))
	}
	return list
}

// forge sends a text to the phone's public endpoint in every name, and to its inside
// address, as if the firewall were a router.
func (f *forger) forge(text string) {
	f.T.Helper()
	for _, name := range f.names() {
		f.mallory.SendIP(lab.UDPPacket(name, f.public, []byte(text)))
	}
	f.mallory.SendIP(lab.UDPPacket(f.bob.Addr, f.alice.Addr, []byte(text)))
}

// identities are what a message says of the dialog it is of: as much as the attacker
// knows of it, but never all.
func (f *forger) identities() map[string][]lab.Mod {
	d := f.alice.dialog
	local, remote := d.Local, d.Remote
	if f.caller == f.bob {
		local, remote = f.bob.dialog.Remote, f.bob.dialog.Local
	}
	wrong := func(party string) string { return strings.Split(party, ";tag=")[0] + ";tag=forged" }
	return map[string][]lab.Mod{
		"nothing known":      nil,
		"the Call-ID known":  {lab.With("Call-ID", d.CallID), lab.With("From", wrong(remote)), lab.With("To", wrong(local))},
		"the far tag known":  {lab.With("Call-ID", d.CallID), lab.With("From", remote), lab.With("To", wrong(local))},
		"the near tag known": {lab.With("Call-ID", d.CallID), lab.With("From", wrong(remote)), lab.With("To", local)},
		"the Call-ID wrong":  {lab.With("Call-ID", "forged@lab"), lab.With("From", remote), lab.With("To", local)},
	}
}

// forgedMedia is mallory's own session description.
var forgedMedia = lab.WithSDP(lab.Audio(netip.MustParseAddr("203.0.113.66"), 6000))

// TestForgedRequests: requests come in the name of the provider, of a stranger, of inside
// hosts and of the firewall, of dialogs that they guess: BYE ends nothing, an offer
// redirects nothing, a Contact or Route admits nobody.
func TestForgedRequests(t *testing.T) {
	t.Parallel()
	for _, accept := range []string{"peers", "any"} {
		t.Run(accept, func(t *testing.T) {
			t.Parallel()
			f := newForger(t, lab.Options{}, "sip_accept = "+accept)
			for _, method := range []string{"BYE", "CANCEL", "ACK", "PRACK", "INVITE", "UPDATE", "NOTIFY", "REFER", "REGISTER", "INFO", "SUBSCRIBE", "MESSAGE"} {
				for who, mods := range f.identities() {
					if method == "INVITE" && who == "nothing known" {
						continue // that is a call: TestOtherAddressOfTheProvider
					}
					m := f.bob.Request(method, "sip:alice@203.0.113.1")
					for _, mod := range append(mods, forgedMedia, lab.With("Contact", "<sip:mallory@203.0.113.66>;expires=3600"), lab.With("Refer-To", "<sip:10.0.0.11>")) {
						mod(m)
					}
					f.forge(m.String())
				}
				f.refuse()
				f.unmoved("forged " + method)
			}
			f.CheckSilent(f.mallory.Socket(6000), f.announced())
			f.end()
		})
	}
}

// TestForgedAnswers: answers come that nobody has given, to a call that rings, in one
// that was answered, to its BYE and to a registration, with the Call-ID and without the
// branch. Those that count come from where the request went.
func TestForgedAnswers(t *testing.T) {
	t.Parallel()
	f := newForger(t, lab.Options{})
	mallory := f.mallory.Socket(6000)
	f.end()
	f.caller, f.called = f.alice, f.bob
	answers := func(m *lab.Message, mods ...lab.Mod) {
		t.Helper()
		for _, code := range []int{180, 183, 200, 302, 401, 486, 487, 500, 603} {
			for n := range 5 {
				a := f.bob.Response(m, code)
				a.Set("Via", fmt.Sprintf("SIP/2.0/UDP %v;branch=z9hG4bKforged%d", f.public, n))
				a.Set("To", fmt.Sprintf("<sip:bob@203.0.113.10>;tag=forged%d", n))
				for _, mod := range append(mods, forgedMedia, lab.With("Contact", "<sip:mallory@203.0.113.66>")) {
					mod(a)
				}
				f.forge(a.String())
			}
		}
	}
	f.invite(f.alice.sdp())
	f.before = f.Snapshot()
	answers(f.bob.dialog.Invite)
	f.refuse()
	f.CheckUnchanged(f.before, "answers to a call that rings")

	f.reply(180)
	f.reply(200, f.bob.sdp())
	f.ack()
	f.talk()
	f.before = f.Snapshot()
	answers(f.bob.dialog.Invite)
	f.refuse()
	f.unmoved("answers to a call that is up")
	f.CheckSilent(mallory, f.announced())

	bye := f.alice.dialog.Send("BYE")
	seen := f.bob.dialog.ExpectRequest("BYE")
	f.before = f.Snapshot()
	answers(seen)
	f.refuse()
	f.CheckUnchanged(f.before, "answers to a BYE")
	f.bob.Reply(seen, 200)
	f.alice.Recv(lab.Status(200, "BYE"), lab.CallID(bye.CallID()), func(m *lab.Message) bool { return m.Branch() == bye.Branch() })
	f.closed()

	// A registration: neither does its end come from elsewhere, nor does one begin.
	m := f.alice.Request("REGISTER", "sip:203.0.113.10")
	f.alice.Send(f.bob.Addr, m, lab.With("Expires", "60"))
	seen = f.bob.Recv(lab.Request("REGISTER"))
	f.before = f.Snapshot()
	contact := seen.Get("Contact")
	for _, expires := range []string{"0", "1", "4294967295", "99999999999999999999", "-1"} {
		answers(seen, func(a *lab.Message) { a.Set("Contact", contact+";expires="+expires).Del("Content-Type").Body = "" })
	}
	f.refuse()
	f.CheckUnchanged(f.before, "answers to a registration")
	for _, e := range f.Elements("bindings") {
		if e.Timeout > 2*3600 {
			t.Errorf("a forged answer gives the binding %d s", e.Timeout)
		}
	}
	f.bob.Reply(seen, 200, lab.With("Contact", contact+";expires=60"))
	f.alice.Recv(lab.Status(200, "REGISTER"), lab.CallID(m.CallID()), func(a *lab.Message) bool { return a.Branch() == m.Branch() })
	f.call()
}

// TestReplays: everything that the provider has sent in a call comes once more, in its
// name, in the next one and after that.
func TestReplays(t *testing.T) {
	t.Parallel()
	f := newForger(t, lab.Options{})
	f.exchange("INVITE", f.alice, f.bob, f.alice.sdp("a=sendonly"), f.bob.sdp("a=recvonly")) // on hold
	f.exchange("INVITE", f.bob, f.alice, f.bob.sdp(), f.alice.sdp())
	f.before = f.Snapshot()
	replay := func() {
		for _, p := range f.Wire.SIP() {
			if !p.Out && p.Src == f.bob.Addr {
				f.mallory.SendIP(lab.UDPPacket(p.Src, p.Dst, p.Payload))
			}
		}
	}
	replay()
	f.unmoved("messages of the same call once more")
	f.hangUp(f.alice, f.bob)
	f.connect()
	f.before = f.Snapshot()
	replay()
	f.unmoved("messages of a call that has ended")
	f.hangUp(f.bob, f.alice)
	replay()
	f.settle()
	if open := f.StillOpen(); len(open) > 0 {
		t.Errorf("messages of calls that have ended open %v", open)
	}
	f.call()
}

// TestForgedMedia: RTP and RTCP come from wherever they can be sent, before there is a
// call, after its answer and after its end. With media_source = any whoever finds the
// port is heard, and no port but that.
func TestForgedMedia(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"signalled", "any"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			f := newForger(t, lab.Options{}, "media_source = "+source)
			rtp := f.mallory.RTP(6000)
			public := f.announced()
			beside := netip.AddrPortFrom(public.Addr(), public.Port()^2) // of no stream
			inside := f.alice.rtp.Addr
			for _, s := range []*lab.Socket{rtp.Socket, rtp.RTCP, f.bob.rtp.Socket} {
				f.CheckSilent(s, beside)
				f.CheckSilent(s, inside) // straight to the phone
			}
			if source == "signalled" {
				for _, s := range []*lab.Socket{rtp.Socket, rtp.RTCP, f.mallory.Socket(5060)} {
					f.CheckSilent(s, public)
					f.CheckSilent(s, netip.AddrPortFrom(public.Addr(), public.Port()+1))
				}
				// Nobody can have the firewall learn where media comes from.
				mark := f.Inside.Mark()
				for range 20 {
					for _, name := range []string{"10.0.0.11:4000", "10.0.0.1:4000", "203.0.113.1:4000", "198.51.100.7:6000", "127.0.0.1:6000", "0.0.0.0:6000", "224.0.0.1:6000"} {
						f.mallory.SendIP(lab.UDPPacket(netip.MustParseAddrPort(name), public, []byte("\x80\x00forged")))
					}
				}
				f.unmoved("media in the name of others")
				for _, p := range f.Inside.Since(mark) {
					if strings.Contains(string(p.Payload), "forged") {
						t.Errorf("it comes through: %v", p)
					}
				}
			}
			f.talk()
			f.hangUp(f.alice, f.bob)
			f.CheckSilent(rtp.Socket, public)
			f.call()
		})
	}
}

// TestForgedErrors: ICMP errors come about the call's packets, from anybody and about
// any of its flows. They are passed to whom they are about, or dropped; they end nothing.
func TestForgedErrors(t *testing.T) {
	t.Parallel()
	f := newForger(t, lab.Options{})
	media, far := f.announced(), f.bob.rtp.Addr
	for _, about := range [][]byte{
		lab.UDPPacket(media, far, make([]byte, 172)),                             // media out
		lab.UDPPacket(far, media, make([]byte, 172)),                             // media in
		lab.UDPPacket(f.public, f.bob.Addr, make([]byte, 300)),                   // signalling
		lab.UDPPacket(f.alice.rtp.Addr, far, make([]byte, 172)),                  // as it is inside
		lab.UDPPacket(netip.AddrPortFrom(media.Addr(), 9), far, make([]byte, 8)), // of no flow
	} {
		for _, from := range []netip.Addr{f.mallory.Addr, f.bob.Addr.Addr(), far.Addr(), lab.PublicAddr} {
			for _, kind := range [][2]uint8{{3, 0}, {3, 1}, {3, 3}, {3, 4}, {3, 13}, {4, 0}, {5, 1}, {11, 0}, {12, 0}} {
				f.mallory.SendIP(lab.ICMPError(from, lab.PublicAddr, kind[0], kind[1], 68, about))
			}
		}
	}
	f.unmoved("ICMP errors")
	f.end()
}
