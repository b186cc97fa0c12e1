package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/internal/lab"
)

// The port that TCP connections are led to in these tests.
const joinPort = 5058

// joined is a lab whose daemon joins TCP connections. The firewall lets everything in
// from inside.
func joined(t *testing.T, o lab.Options, config ...string) *lab.Lab {
	o.Firewall = lab.Firewall{Backend: lab.Nftables, Extra: o.Firewall.Extra}
	l := lab.New(t, o)
	l.StartDaemon(append([]string{"sip_tcp = yes", fmt.Sprint("sip_tcp_port = ", joinPort)}, config...)...)
	return l
}

// TestTCPCalls: a phone that speaks TCP to its provider through the firewall calls
// and is called, by phones of either transport.
func TestTCPCalls(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		phone lab.BaresipOptions
		bob   bool // speaks TCP, too
		k     lab.KamailioOptions
	}{
		"TCP":           {bob: true, k: lab.KamailioOptions{Auth: true, AuthCalls: true, RecordRoute: true}},
		"UDP outside":   {k: lab.KamailioOptions{Auth: true, RecordRoute: true}},
		"video and ICE": {phone: lab.BaresipOptions{ICE: true, Video: true}, bob: true, k: lab.KamailioOptions{RecordRoute: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := joined(t, lab.Options{Outside: []string{"203.0.113.10", "198.51.100.20"}})
			c.k.TCP = true
			provider := l.Outside[0].Kamailio(c.k)
			alice, bob := c.phone, c.phone
			alice.User, alice.TCP, bob.User, bob.TCP = "alice", true, "bob", c.bob
			for _, o := range []*lab.BaresipOptions{&alice, &bob} {
				o.Registrar, o.Answer = provider.Addr, true
			}
			a, b := l.Phones[0].Baresip(alice), l.Outside[1].Baresip(bob)
			converse(l, a, b, b.AOR)
			converse(l, b, a, a.AOR)
			for _, p := range slices.Concat(l.Inside.SIP(), l.Wire.SIP()) {
				if p.Over() != "TCP" {
					t.Errorf("not over TCP: %v", p)
				}
			}
		})
	}
}

// TestTCPHairpin: two phones inside that speak TCP to their provider call each other,
// and send their media straight.
func TestTCPHairpin(t *testing.T) {
	t.Parallel()
	l := joined(t, lab.Options{Phones: 2})
	provider := l.Outside[0].Kamailio(lab.KamailioOptions{RecordRoute: true, TCP: true})
	alice := l.Phones[0].Baresip(lab.BaresipOptions{User: "alice", TCP: true, Registrar: provider.Addr})
	bob := l.Phones[1].Baresip(lab.BaresipOptions{User: "bob", TCP: true, Registrar: provider.Addr, Answer: true})
	alice.Dial(bob.AOR)
	alice.WaitEvent("CALL_RTPESTAB")
	bob.WaitEvent("CALL_RTPESTAB")
	alice.Hangup()
	bob.WaitEvent("CALL_CLOSED")
	l.WaitClosed()
	if media := l.Wire.Media(); len(media) != 0 {
		t.Errorf("media has left the firewall:\n%s", l.Wire.MediaTable())
	}
}

// connection is one of a scripted phone, with the provider's end of it.
type connection struct {
	*lab.Lab
	phone net.Conn
	far   *net.TCPConn
}

// tcpListen listens on a host.
func tcpListen(t *testing.T, h *lab.Host, port int) *net.TCPListener {
	t.Helper()
	var l *net.TCPListener
	if err := h.Do(func() (err error) {
		l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(h.At(port)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// tcpConnect connects the phone to the provider.
func tcpConnect(t *testing.T, l *lab.Lab) *connection {
	t.Helper()
	listener := tcpListen(t, l.Outside[0], 5060)
	phone, err := l.Phones[0].DialTCP(l.Outside[0].At(5060))
	if err != nil {
		t.Fatal(err)
	}
	listener.SetDeadline(time.Now().Add(lab.Moment()))
	far, err := listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{phone, far} {
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(6 * lab.Moment()))
	}
	return &connection{l, phone, far}
}

func (c *connection) send(t *testing.T, from net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(from, text); err != nil {
		t.Fatal(err)
	}
}

func (c *connection) want(t *testing.T, at net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(at, got); err != nil || string(got) != want {
		t.Fatalf("read %v:\n%s\nwant\n%s", err, got[:n], want)
	}
}

// tcpMessage is a request of an endpoint with SDP: each one of another call, all with
// the same media.
func tcpMessage(method string, from netip.AddrPort, branch int, rtp netip.AddrPort) string {
	body := fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]v\r\ns=-\r\nc=IN IP4 %[1]v\r\nt=0 0\r\nm=audio %[2]d RTP/AVP 8\r\n", rtp.Addr(), rtp.Port())
	return fmt.Sprintf("%[1]s sip:bob@203.0.113.10 SIP/2.0\r\nVia: SIP/2.0/TCP %[2]v;branch=z9hG4bK%[3]d\r\n"+
		"From: <sip:alice@example.org>;tag=a\r\nTo: <sip:bob@example.org>\r\nCall-ID: c%[3]d\r\nCSeq: %[3]d %[1]s\r\nMax-Forwards: 70\r\n"+
		"Contact: <sip:alice@%[2]v;transport=tcp>\r\nContent-Type: application/sdp\r\nContent-Length: %[4]d\r\n\r\n%[5]s",
		method, from, branch, len(body), body)
}

// TestTCPSegments: messages are what they are however they are cut into segments: two
// of them, cut at every byte, byte by byte, and both in one segment.
func TestTCPSegments(t *testing.T) {
	t.Parallel()
	l := joined(t, lab.Options{})
	c := tcpConnect(t, l)
	inside := c.phone.LocalAddr().(*net.TCPAddr).AddrPort()
	rtp := netip.AddrPortFrom(inside.Addr(), 4000)
	branch := 0
	pair := func() string {
		branch += 2
		return tcpMessage("INVITE", inside, branch-1, rtp) + tcpMessage("INVITE", inside, branch, rtp)
	}
	// The first one shows which public endpoints there are.
	c.send(t, c.phone, pair())
	reader := bufio.NewReader(c.far)
	var public, media netip.AddrPort
	if l.NAT() {
		public = c.far.RemoteAddr().(*net.TCPAddr).AddrPort()
		opened := func() bool {
			for p, in := range l.Streams() {
				if in == rtp {
					media = p
				}
			}
			return media.IsValid()
		}
		if !l.Until(lab.Moment(), opened) {
			t.Fatal("no stream was opened")
		}
	} else {
		public, media = inside, rtp
	}
	expected := func() string {
		return tcpMessage("INVITE", public, branch-1, media) + tcpMessage("INVITE", public, branch, media)
	}
	check := func(what string) {
		t.Helper()
		want := expected()
		got := make([]byte, len(want))
		if n, err := io.ReadFull(reader, got); err != nil || string(got) != want {
			t.Fatalf("%s: read %v:\n%s\nwant\n%s", what, err, got[:n], want)
		}
	}
	check("in one segment")
	for cut := 1; ; cut++ {
		text := pair()
		if cut >= len(text) {
			break
		}
		c.send(t, c.phone, text[:cut])
		c.send(t, c.phone, text[cut:])
		check(fmt.Sprint("cut at ", cut))
	}
	branch -= 2
	for _, b := range []byte(pair()) {
		c.send(t, c.phone, string(b))
	}
	check("byte by byte")
	if n := len(l.Streams()); l.NAT() && n != 2 {
		t.Errorf("%d mappings are open, want 2", n)
	}
}

// TestTCPSlipstream: a browser inside is made to send a form to a SIP port outside.
// What looks like a message in it, at the beginning of a segment, opens nothing, and
// neither does what the attacker answers. The same goes for TLS.
func TestTCPSlipstream(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]string{
		"HTTP": "POST / HTTP/1.1\r\nHost: 203.0.113.10:5060\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 3*1460),
		"TURN": "\x00\x03\x00\x08\x21\x12\xa4\x42............",
		"TLS":  "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03................",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := joined(t, lab.Options{Leaky: true}) // what is no SIP leaves as it is
			c := tcpConnect(t, l)
			inside := c.phone.LocalAddr().(*net.TCPAddr).AddrPort()
			c.send(t, c.phone, begin)
			c.want(t, c.far, begin) // the next one begins a segment
			for i, method := range []string{"INVITE", "REGISTER", "UPDATE"} {
				message := tcpMessage(method, inside, i, netip.AddrPortFrom(inside.Addr(), 4000))
				c.send(t, c.phone, message)
				c.want(t, c.far, message)
				c.send(t, c.far, message)
				c.want(t, c.phone, message)
			}
			if l.NAT() {
				if table := l.StillOpen(); len(table) > 0 || len(l.Bindings()) > 0 {
					t.Errorf("open: %v, %v", table, l.Bindings())
				}
			}
		})
	}
}

// TestTCPNoRelay: nobody can have the daemon connect to where he likes: neither from
// inside, nor from outside, where nothing listens.
func TestTCPNoRelay(t *testing.T) {
	t.Parallel()
	l := joined(t, lab.Options{Firewall: lab.Firewall{Extra: fmt.Sprintf("insert rule inet firewall input tcp dport %d accept\n", joinPort)}})
	if !l.NAT() {
		t.Skip("there is no daemon")
	}
	if _, err := l.Outside[0].DialTCP(netip.AddrPortFrom(lab.PublicAddr, joinPort)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("from outside: %v, want a refusal", err)
	}
	c, err := l.Phones[0].DialTCP(netip.AddrPortFrom(lab.InsideAddr, joinPort))
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(lab.Moment()))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("from inside: %v, want a reset", err)
	}
}

// TestTCPElsewhere: what goes to the firewall itself, or to another inside host by its
// router, is not joined.
func TestTCPElsewhere(t *testing.T) {
	t.Parallel()
	l := joined(t, lab.Options{}, "mode = transparent")
	if !l.NAT() {
		t.Skip("there is no daemon")
	}
	own := tcpListen(t, l.FW, 5060) // on the public address, as a proxy has it
	c, err := l.Phones[0].DialTCP(l.FW.At(5060))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	own.SetDeadline(time.Now().Add(lab.Moment()))
	server, err := own.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if got, want := server.RemoteAddr().String(), c.LocalAddr().String(); got != want {
		t.Errorf("the connection comes from %s, want %s", got, want)
	}
}

// TestTCPDaemonEnds: connections end with the daemon. New ones pass as they are, or
// are refused, as on_failure says.
func TestTCPDaemonEnds(t *testing.T) {
	t.Parallel()
	for _, failure := range []string{"pass", "drop"} {
		t.Run(failure, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}, Leaky: true})
			if !l.NAT() {
				t.Skip("there is no daemon")
			}
			d := l.StartDaemon("sip_tcp = yes", fmt.Sprint("sip_tcp_port = ", joinPort), "on_failure = "+failure)
			c := tcpConnect(t, l)
			c.send(t, c.phone, "\r\n\r\n")
			c.want(t, c.far, "\r\n\r\n")
			d.Stop()
			for side, end := range map[string]net.Conn{"phone": c.phone, "provider": c.far} {
				if _, err := end.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("%s: %v, want the end", side, err)
				}
			}
			_, err := l.Phones[0].DialTCP(l.Outside[0].At(5060))
			if failure == "pass" && err != nil || failure == "drop" && !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("another connection: %v", err)
			}
		})
	}
}
