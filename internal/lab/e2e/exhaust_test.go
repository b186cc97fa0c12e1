package e2e

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"sipnatd/conntrack"
	"sipnatd/internal/lab"
)

// twoPorts is a range that one call fills.
const twoPorts = "rtp_port_low = 7070\nrtp_port_high = 7071"

// refuses fails the test unless the caller reads why it can not call.
func (d *duo) refuses(caller *side) {
	d.T.Helper()
	answer := caller.dialog.Expect(488)
	if warning := answer.Get("Warning"); !strings.Contains(warning, "no port for the media") {
		d.T.Errorf("the caller is not told why:\n%v", answer)
	}
	caller.dialog.AckFailure(answer)
}

// TestNoPortLeft: a call that no public port is left for fails, with words that lead to
// the cause, in place of connecting two who do not hear each other. The one that runs
// goes on, and when it has ended the next one gets its ports.
func TestNoPortLeft(t *testing.T) {
	t.Parallel()
	for name, out := range map[string]bool{"out": true, "in": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := strangers(t, lab.Options{})
			if !d.NAT() {
				t.Skip("there are no ports to run out of")
			}
			daemon := d.StartDaemon(twoPorts)
			d.register()
			d.connect()
			second := d.again(d.Phones[0].RTP(4100), d.Outside[0].RTP(6100))
			if !out {
				second.incoming()
			}
			uri := "sip:bob@" + d.bob.Addr.Addr().String()
			if !out {
				uri = d.contact
			}
			second.caller.dialog = second.caller.Invite(uri, second.caller.sdp())
			second.called.dialog = second.called.RecvInvite(lab.CallID(second.caller.dialog.CallID))
			if asked := second.called.dialog.Invite.Get("Require"); asked != "no-media-port" {
				t.Errorf("the called can accept it: Require is %q", asked)
			}
			second.called.dialog.Reply(420, lab.With("Unsupported", "no-media-port"))
			second.refuses(second.caller)
			second.called.recv(lab.Request("ACK"))
			daemon.WaitLine(`a call is refused, since it could have no media: no public port is left \(rtp_port_low and rtp_port_high\)`, lab.Moment())
			d.talk()
			d.hangUp(d.alice, d.bob)
			second.connect()
			second.hangUp(second.caller, second.called)
		})
	}
}

// TestNoPortLeftProxy is TestNoPortLeft where phones use the firewall as their proxy,
// which refuses by itself.
func TestNoPortLeftProxy(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there are no ports to run out of")
	}
	d.StartProxy(twoPorts)
	d.alice.Proxy = insideSIP
	d.connect()
	second := d.again(d.Phones[0].RTP(4100), d.Outside[0].RTP(6100))
	second.alice.Proxy = insideSIP
	second.caller.dialog = second.caller.Invite("sip:bob@"+d.bob.Addr.Addr().String(), second.caller.sdp())
	second.refuses(second.caller)
	d.talk()
	d.hangUp(d.alice, d.bob)
	second.connect()
	second.hangUp(second.alice, second.bob)
}

// TestExpectationTableFull: the kernel takes no more expectations. The log says
// what to do about it, and calls go on as far as they can without: media comes
// in as soon as the phone has sent some.
func TestExpectationTableFull(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
	if !d.NAT() {
		t.Skip("there are no expectations")
	}
	daemon := d.StartDaemon()
	d.register()
	fill(d.Lab)
	d.invite(d.alice.sdp())
	d.reply(200, d.bob.sdp())
	d.ack()
	daemon.WaitLine(`nf_conntrack_expect_max`, lab.Moment())
	if n := strings.Count(daemon.Log(), "refused"); n != 1 {
		t.Errorf("the refusal is reported %d times:\n%s", n, daemon.Log())
	}
	d.alice.rtp.SendRTP(d.alice.peer.RTP, 1)
	d.alice.rtp.RTCP.SendRTCP(d.alice.peer.RTCP)
	d.bob.rtp.Expect(d.announced(), 1)
	d.bob.rtp.RTCP.Expect(d.bob.peer.RTCP, 1)
	d.talk()
	d.bye(d.alice, d.bob)
	closed := d.Until(lab.Patience(lab.CloseTime), func() bool { return len(d.Streams()) == 0 })
	if !closed {
		t.Errorf("not closed: %v", d.Streams())
	}
	d.CheckSilent(d.bob.rtp.Socket, d.announced())
}

// TestExpectationsAgain: the calls that begin when the expectation table has room again
// have expectations.
func TestExpectationsAgain(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}})
	if !d.NAT() {
		t.Skip("there are no expectations")
	}
	daemon := d.StartDaemon()
	d.register()
	fill(d.Lab)
	d.invite(d.caller.sdp())
	daemon.WaitLine(`nf_conntrack_expect_max`, lab.Moment())
	d.fail(486)
	d.FW.Run("conntrack", "-F", "expect")
	d.invite(d.caller.sdp())
	d.reply(183, d.called.sdp())
	d.bob.rtp.SendRTP(d.announced(), 1) // before alice has sent any
	d.alice.rtp.Expect(d.bob.rtp.Addr, 1)
	d.reply(200, d.called.sdp())
	d.ack()
	d.talk()
	d.bye(d.alice, d.bob)
}

// fill makes expectations in the firewall until it takes no more.
func fill(l *lab.Lab) {
	l.T.Helper()
	err := l.FW.Do(func() error {
		c, err := conntrack.Open(conntrack.Options{})
		if err != nil {
			return err
		}
		defer c.Close()
		var b conntrack.Batch
		for port := uint16(10000); port < 60000; port++ {
			b.OpenAnchor(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.200"), port), time.Hour)
			if b.Len() == 128 && c.Commit(&b) != nil {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		l.T.Fatalf("%v", err)
	}
}

// TestNoDescriptorLeft: a daemon that can open no file any more serves calls all the
// same.
func TestNoDescriptorLeft(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there is no daemon")
	}
	daemon := d.StartDaemon("sip_tcp = yes")
	none := unix.Rlimit{Cur: 3, Max: 3}
	if err := unix.Prlimit(daemon.Cmd.Process.Pid, unix.RLIMIT_NOFILE, &none, nil); err != nil {
		t.Fatal(err)
	}
	d.register()
	d.connect()
	d.talk()
	d.hangUp(d.bob, d.alice)
}

// TestConntrackTableFull: the kernel takes no more flows. A call that media could not
// flow for is refused, with the remedy in the log, and one that begins when there is room
// again is like any other.
func TestConntrackTableFull(t *testing.T) {
	t.Parallel()
	d := strangers(t, lab.Options{})
	if !d.NAT() {
		t.Skip("there are no flows")
	}
	daemon := d.StartDaemon()
	d.register()
	d.connect() // its flows are there, and go on
	second := d.again(d.Phones[0].RTP(4100), d.Outside[0].RTP(6100))
	crowd(d.Lab)
	second.caller.dialog = second.caller.Invite("sip:bob@"+d.bob.Addr.Addr().String(), second.caller.sdp())
	second.called.dialog = second.called.RecvInvite(lab.CallID(second.caller.dialog.CallID))
	second.called.dialog.Reply(420, lab.With("Unsupported", "no-media-port"))
	second.refuses(second.caller)
	second.called.recv(lab.Request("ACK"))
	daemon.WaitLine(`the conntrack table is full; raise the sysctl net.netfilter.nf_conntrack_max`, lab.Moment())
	daemon.WaitLine(`a call is refused, since it could have no media: the kernel does not take it`, lab.Moment())
	d.talk()
	d.FW.Run("conntrack", "-F")
	second.connect()
	second.bye(second.alice, second.bob)
	d.bye(d.alice, d.bob)
	// In the crowd the kernel could not tell the daemon of all flows: it searches for those
	// of the ended calls in its own time.
}

// crowd makes flows in the firewall until it takes no more. They have seen an answer, so
// that the kernel gives up none of them for another one.
func crowd(l *lab.Lab) {
	l.T.Helper()
	number := func(name string) (n int) {
		if err := l.FW.Do(func() error {
			text, err := os.ReadFile("/proc/sys/net/netfilter/" + name)
			if err != nil {
				return err
			}
			n, err = strconv.Atoi(strings.TrimSpace(string(text)))
			return err
		}); err != nil {
			l.T.Fatalf("%v", err)
		}
		return n
	}
	var conn *netlink.Conn
	if err := l.FW.Do(func() (err error) {
		conn, err = netlink.Dial(unix.NETLINK_NETFILTER, nil)
		return err
	}); err != nil {
		l.T.Fatalf("%v", err)
	}
	defer conn.Close()
	const batch = 512
	for n := 0; number("nf_conntrack_count") < number("nf_conntrack_max"); {
		var messages []netlink.Message
		for range batch {
			host := netip.AddrFrom4([4]byte{192, 0, 2, byte(n >> 15)})
			messages = append(messages, newFlow(netip.AddrPortFrom(host, uint16(1024+n&0x7fff))))
			n++
		}
		if n > 1<<22 {
			l.T.Fatalf("%d flows, and no end", n)
		}
		if _, err := conn.SendMessages(messages); err != nil {
			l.T.Fatalf("%v", err)
		}
	}
}

// newFlow is the message that makes a flow from a, for an hour.
func newFlow(a netip.AddrPort) netlink.Message {
	be := binary.BigEndian
	tuple := func(src, dst netip.AddrPort) func(*netlink.AttributeEncoder) error {
		return func(e *netlink.AttributeEncoder) error {
			e.Nested(1, func(e *netlink.AttributeEncoder) error { // CTA_TUPLE_IP
				e.Bytes(1, src.Addr().AsSlice())
				e.Bytes(2, dst.Addr().AsSlice())
				return nil
			})
			e.Nested(2, func(e *netlink.AttributeEncoder) error { // CTA_TUPLE_PROTO
				e.Uint8(1, unix.IPPROTO_UDP)
				e.Bytes(2, be.AppendUint16(nil, src.Port()))
				e.Bytes(3, be.AppendUint16(nil, dst.Port()))
				return nil
			})
			return nil
		}
	}
	far := netip.MustParseAddrPort("198.51.100.99:9")
	e := netlink.NewAttributeEncoder()
	e.Nested(1, tuple(a, far))                       // CTA_TUPLE_ORIG
	e.Nested(2, tuple(far, a))                       // CTA_TUPLE_REPLY
	e.Bytes(3, be.AppendUint32(nil, 1<<1|1<<2|1<<3)) // CTA_STATUS: it has seen an answer, is assured, confirmed
	e.Bytes(7, be.AppendUint32(nil, 3600))           // CTA_TIMEOUT
	data, err := e.Encode()
	if err != nil {
		panic(err) // it is all ours
	}
	return netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_CTNETLINK << 8, // IPCTNL_MSG_CT_NEW
			Flags: netlink.Request | netlink.Create,
		},
		Data: append([]byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}, data...),
	}
}

// TestPhoneRefusesUnknownExtension: what refuses a call without ports a real phone does
// as RFC 3261, section 8.2.2.3, says.
func TestPhoneRefusesUnknownExtension(t *testing.T) {
	t.Parallel()
	l := lab.New(t, lab.Options{Phones: 2})
	carol := newSide(l.Phones[1], "carol", 5060, 4000)
	l.StartDaemon()
	k := l.Outside[0].Kamailio(lab.KamailioOptions{})
	phone := l.Phones[0].Baresip(lab.BaresipOptions{Registrar: k.Addr})
	carol.dialog = carol.Invite("sip:alice@"+phone.Addr.String(), carol.sdp(), lab.With("Require", "no-media-port"))
	answer := carol.dialog.Expect(420)
	carol.dialog.AckFailure(answer)
	if got := answer.Get("Unsupported"); !strings.Contains(got, "no-media-port") {
		t.Errorf("Unsupported is %q", got)
	}
}
