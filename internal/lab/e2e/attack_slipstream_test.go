package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipnatd/internal/lab"
)

// A page that a browser inside has loaded makes it send what the attacker has written,
// in packets that are not wholly his: NAT slipstreaming. The tests are in the order of
// the transports that it was published for.

// victim is a phone that is registered with bob and on the phone with him, while the
// attack goes on from a host beside it; mallory is who gets what the browser sends.
type victim struct {
	*duo
	browser, mallory *lab.Host
	before           *lab.Snapshot
}

// newVictim starts a lab in which what is no SIP leaves as it is.
func newVictim(t *testing.T, o lab.Options, config ...string) *victim {
	t.Helper()
	o.Phones, o.Outside, o.Leaky = 2, []string{"203.0.113.10", "203.0.113.66"}, true
	l := lab.New(t, o)
	if !l.NAT() {
		t.Skip("there is nothing to open")
	}
	l.StartDaemon(config...)
	d := between(l, newSide(l.Phones[0], "alice", 5060, 4000), newSide(l.Outside[0], "bob", 5060, 6000))
	d.register()
	d.connect()
	return &victim{d, l.Phones[1], l.Outside[1], l.Snapshot()}
}

// unmoved fails the test unless nothing has come of the attack: all is as it was, the
// call goes on, ends as it should, and the phone is called again.
func (v *victim) unmoved(attack string) {
	v.T.Helper()
	v.settle()
	v.CheckUnchanged(v.before, attack)
	v.talk()
}

// settle waits until whatever was sent before has been looked at.
func (v *victim) settle() {
	v.T.Helper()
	m := v.alice.Request("OPTIONS", "sip:203.0.113.10")
	v.alice.Send(v.bob.Addr, m)
	v.bob.Reply(v.bob.Recv(lab.Request("OPTIONS"), lab.CallID(m.CallID())), 200)
	v.alice.Recv(lab.Status(200, "OPTIONS"), lab.CallID(m.CallID()))
}

// end ends the call, and makes one the other way.
func (v *victim) end() {
	v.T.Helper()
	v.hangUp(v.bob, v.alice)
	v.incoming().call()
}

// planted is a whole SIP message for the attacker's own benefit: a port of the host
// that sends it.
func planted(method string, from netip.AddrPort) string {
	return strings.Replace(tcpMessage(method, from, 1, netip.AddrPortFrom(from.Addr(), 4000)), "SIP/2.0/TCP", "SIP/2.0/UDP", 1)
}

// TestSlipstreamSegments: a form is posted to a SIP port, long enough that one of its
// segments begins with REGISTER or INVITE, be it by its length or by the attacker's
// window. Whether connections are joined or not, a stream of bytes that did not begin
// as SIP never becomes SIP.
func TestSlipstreamSegments(t *testing.T) {
	t.Parallel()
	for _, config := range []string{"sip_tcp = no", "sip_tcp = yes"} {
		t.Run(config, func(t *testing.T) {
			t.Parallel()
			v := newVictim(t, lab.Options{Firewall: lab.Firewall{Backend: lab.Nftables}}, config, fmt.Sprint("sip_tcp_port = ", joinPort))
			listener := tcpListen(t, v.mallory, 5060)
			for _, method := range []string{"REGISTER", "INVITE"} {
				for name, begin := range map[string]string{
					"HTTP":        "POST / HTTP/1.1\r\nHost: 203.0.113.66:5060\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n",
					"TURN":        "\x00\x03\x00\x64\x21\x12\xa4\x42abcdefghijkl\x00\x06\x05\x00", // Allocate, with a long USERNAME
					"H.323":       "\x03\x00\x05\x00\x08\x02\x00\x01\x05",                         // TPKT, Q.931 SETUP
					"FTP":         "EPRT |1|10.0.0.11|8080|\r\n",
					"WebSocket":   "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x82\x7e\x05\x00",
					"blank first": " " + method + " sip:x SIP/2.0\r\n",
				} {
					conn, err := v.browser.DialTCP(netip.AddrPortFrom(v.mallory.Addr, 5060))
					if err != nil {
						t.Fatal(err)
					}
					phone := conn.(*net.TCPConn)
					inside := phone.LocalAddr().(*net.TCPAddr).AddrPort()
					far, err := listener.AcceptTCP()
					if err != nil {
						t.Fatal(err)
					}
					// Its padding ends where a segment does.
					size := segmentSize(t, phone)
					text := begin + strings.Repeat("x", 2*size-len(begin)) + planted(method, inside)
					mark := v.Inside.Mark()
					if _, err := phone.Write([]byte(text)); err != nil {
						t.Fatal(err)
					}
					got := make([]byte, len(text))
					if _, err := readFull(far, got); err != nil || string(got) != text {
						t.Errorf("%s: %v, arrives as %.100q", name, err, got)
					}
					begins := func(ps []*lab.Packet) bool {
						for _, p := range ps {
							if p.Src == inside && bytes.HasPrefix(p.Payload, []byte(method)) {
								return true
							}
						}
						return false
					}
					if err := v.Inside.Wait(mark, lab.Moment(), begins); err != nil {
						t.Fatalf("%s: no segment begins with %s", name, method)
					}
					far.Write([]byte(planted(method, inside))) // the attacker answers in kind
					if _, err := readFull(phone, make([]byte, len(planted(method, inside)))); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					phone.Close()
					far.Close()
				}
			}
			v.unmoved("SIP at the beginning of segments")
			v.end()
		})
	}
}

// segmentSize is how many bytes of data a segment of the connection holds.
func segmentSize(t *testing.T, c *net.TCPConn) (size int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return size
}

func readFull(c net.Conn, b []byte) (n int, err error) {
	c.SetReadDeadline(deadline())
	for n < len(b) && err == nil {
		var m int
		m, err = c.Read(b[n:])
		n += m
	}
	return n, err
}

// TestSlipstreamDatagrams: what a browser sends over UDP has the text of the attacker
// within it. Only what is one whole message from its first byte on is SIP.
func TestSlipstreamDatagrams(t *testing.T) {
	t.Parallel()
	v := newVictim(t, lab.Options{})
	browser := v.browser.Socket(5060) // no phone has been heard from there
	server := v.mallory.Socket(5060)
	sip := planted("INVITE", browser.Addr)
	register := strings.NewReplacer("INVITE", "REGISTER").Replace(sip)
	stun := func(kind uint16, attr uint16, value string) string {
		b := binary.BigEndian.AppendUint16(nil, kind)
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(value)+3)&^3)
		b = append(b, "\x21\x12\xa4\x42abcdefghijkl"...)
		b = binary.BigEndian.AppendUint16(b, attr)
		b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
		return string(b) + value + strings.Repeat("\x00", -len(value)&3)
	}
	parts := func(inner string) string {
		return "--b\r\nContent-Type: message/sip\r\n\r\n" + inner + "\r\n--b--\r\n"
	}
	header, body, _ := strings.Cut(sip, "\r\n\r\n")
	opaque := "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x"
	for name, text := range map[string]string{
		"STUN, in USERNAME":                   stun(0x0001, 0x0006, sip),
		"TURN Allocate, in USERNAME":          stun(0x0003, 0x0006, register),
		"TURN Send indication":                stun(0x0016, 0x0013, sip),
		"TURN Data indication":                stun(0x0017, 0x0013, sip),
		"TURN ChannelData":                    "\x40\x00" + string(binary.BigEndian.AppendUint16(nil, uint16(len(sip)))) + sip,
		"TURN ChannelData that begins with I": "INVITE sip:x\x17\xfe\xfd" + sip,
		"DTLS":                                "\x17\xfe\xfd\x00\x01\x00\x00\x00\x00\x00\x01" + sip,
		"QUIC":                                "\xc3\x00\x00\x00\x01\x08" + sip,
		"RTP":                                 "\x80\x00\x00\x01\x00\x00\x00\xa0\x00\x00\x00\x01" + sip,
		"SRTCP":                               "\x80\xc8\x00\x06\x00\x00\x00\x01" + sip,
		"DNS":                                 "\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\xc0" + sip,
		"HTTP":                                "POST / HTTP/1.1\r\nHost: x\r\n\r\n" + sip,
		"HTTP of that method":                 "REGISTER / HTTP/1.1\r\n" + strings.SplitN(register, "\r\n", 2)[1],
		"SIP of a later version":              strings.Replace(sip, "SIP/2.0\r\n", "SIP/2.1\r\n", 1),
		"another byte first":                  "x" + sip,
		"a blank first":                       " " + sip,
		"a zero first":                        "\x00" + sip,
		"a BOM first":                         "\xef\xbb\xbf" + sip,
		"a length first":                      string(binary.BigEndian.AppendUint16(nil, uint16(len(sip)))) + sip,
		"a body that ends too soon":           sip[:len(sip)-1],
		"headers that do not end":             header,
		"a start line that does not end":      opaque + sip,
		"CSeq of another method":              strings.Replace(sip, "1 INVITE", "1 REGISTER", 1),
		"two that differ":                     strings.Replace(sip, "Call-ID:", "Content-Length: 1\r\nCall-ID:", 1),
		"line ends that others see":           strings.Replace(sip, "Call-ID:", "X: y\rContent-Length: 0\r\n\rCall-ID:", 1),
		"a header in the start line":          strings.Replace(sip, " SIP/2.0\r\n", "\rX: SIP/2.0\r\n", 1),
		"multipart":                           parts(sip),
	} {
		browser.Send(server.Addr, []byte(text))
		server.Expect(netip.AddrPort{}, 1)
		got := server.Received()[0]
		if string(got.Payload) != text {
			t.Errorf("%s: arrives as %q", name, got.Payload)
		}
		server.Send(got.From, []byte(text)) // and back
		browser.Expect(netip.AddrPort{}, 1)
		browser.Forget()
		server.Forget()
		v.settle()
		if opened := v.before.Opened(v.Snapshot()); len(opened) > 0 {
			t.Fatalf("%s opens %v", name, opened)
		}
	}
	v.unmoved("SIP within other datagrams")

	// What comes from outside opens nothing, even if it is SIP all through: a name
	// server's answer, to a port from which no SIP was heard.
	resolver, ns := v.browser.Socket(34567), v.mallory.Socket(53)
	resolver.Send(ns.Addr, []byte("\x12\x34\x01\x00\x00\x01query"))
	ns.Expect(netip.AddrPort{}, 1)
	from := ns.Received()[0].From
	for _, answer := range []string{sip, register, strings.Replace(planted("INVITE", from), "10.0.0.11", "203.0.113.1", -1)} {
		ns.Send(from, []byte(answer))
	}
	resolver.Expect(ns.Addr, 3)
	v.unmoved("SIP as a name server's answer")

	// SIP bodies: what is in a part of another type, too deep, or encoded, is not read.
	agent := v.browser.Agent("page", 5062)
	agent.Send(server.Addr, agent.Request("OPTIONS", "sip:203.0.113.66")) // it is a phone now
	server.Expect(netip.AddrPort{}, 1)
	v.settle()
	v.before = v.Snapshot()
	nested := body
	for i := range 6 {
		nested = fmt.Sprintf("--b%d\r\nContent-Type: %s\r\n\r\n%s\r\n--b%[1]d--\r\n", i, map[bool]string{true: "application/sdp", false: fmt.Sprintf("multipart/mixed;boundary=b%d", i-1)}[i == 0], nested)
	}
	for name, m := range map[string]*lab.Message{
		"a message within":        agent.Request("INVITE", "sip:x@203.0.113.66").WithBody("message/sip", sip),
		"a message in a part":     agent.Request("INVITE", "sip:x@203.0.113.66").WithBody("multipart/mixed;boundary=b", parts(sip)),
		"parts too deep":          agent.Request("INVITE", "sip:x@203.0.113.66").WithBody("multipart/mixed;boundary=b5", nested),
		"an encoded body":         agent.Request("INVITE", "sip:x@203.0.113.66").WithSDP(body).Set("Content-Encoding", "gzip"),
		"a body that is cut off":  agent.Request("INVITE", "sip:x@203.0.113.66").WithSDP(body).Set("Content-Length", "0"),
		"a body of another type":  agent.Request("INVITE", "sip:x@203.0.113.66").WithBody("text/plain", body),
		"a request with no offer": agent.Request("OPTIONS", "sip:x@203.0.113.66").WithSDP(body),
	} {
		// Another message follows in the same datagram, which is none (RFC 3261 section 18.3).
		mark := v.Wire.Mark()
		agent.SendRaw(server.Addr, []byte(m.String()+planted("INVITE", agent.Addr)))
		v.Wire.WaitSIP(mark, lab.CallID(m.CallID()))
		if streams := v.Streams(); len(streams) != 2 {
			t.Errorf("%s: streams %v", name, streams)
		}
	}
	v.unmoved("SIP bodies that are not read")
	v.end()
}

// TestSlipstreamFragments: a datagram is larger than the network takes, and its second
// fragment begins with SIP, as one of a packet of its own would. So do fragments that
// were cut and ordered by hand.
func TestSlipstreamFragments(t *testing.T) {
	t.Parallel()
	v := newVictim(t, lab.Options{})
	browser, server := v.browser.Socket(5060), v.mallory.Socket(5060)
	const first = 1480 - 8 // bytes of UDP payload in the first fragment
	for _, method := range []string{"INVITE", "REGISTER"} {
		mark := v.Inside.Mark()
		text := "\x00\x01\x10\x00\x21\x12\xa4\x42abcdefghijkl\x00\x06\x10\x00"
		text += strings.Repeat("x", first-len(text)) + planted(method, browser.Addr)
		browser.Send(server.Addr, []byte(text))
		server.Expect(netip.AddrPort{}, 1)
		if got := server.Received()[0].Payload; string(got) != text {
			t.Errorf("arrives as %.60q", got)
		}
		server.Forget()
		whole := func(ps []*lab.Packet) bool {
			for _, p := range ps {
				if p.Src == browser.Addr && p.Fragments > 1 {
					return true
				}
			}
			return false
		}
		if err := v.Inside.Wait(mark, lab.Moment(), whole); err != nil {
			t.Errorf("it was not sent in fragments: %v", err)
		}
	}
	v.unmoved("SIP at the beginning of a fragment")

	// By hand: what begins with SIP is a fragment whose offset is not 0, alone, first to
	// come, or over another one; or the port is in a fragment too small for anything else.
	packet := func(lead int) []byte {
		text := strings.Repeat("x", lead) + planted("INVITE", browser.Addr)
		return lab.UDPPacket(browser.Addr, server.Addr, []byte(text))
	}
	alone := lab.Fragments(packet(16), 1, 0, 24)[1]
	turned := lab.Fragments(packet(32), 2, 0, 40)
	tiny := lab.Fragments(packet(8), 3, 0, 8, 16)
	over := lab.Fragments(packet(16), 4, 0, 24)
	lies := lab.Fragments(lab.UDPPacket(browser.Addr, server.Addr, []byte(planted("INVITE", browser.Addr))), 4, 0, 8)
	v.browser.SendIP(alone, turned[1], turned[0], tiny[2], tiny[1], tiny[0], over[1], lies[1], over[0])
	v.unmoved("fragments cut by hand")
	v.end()
}

// TestSlipstreamMedia: packets of a call's own stream are SIP all through, and one of
// the ports is where SIP is spoken.
func TestSlipstreamMedia(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"signalled", "any"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			v := newVictim(t, lab.Options{}, "media_source = "+source)
			server, rtp := v.mallory.Socket(5060), v.alice.rtp
			for _, method := range []string{"INVITE", "REGISTER", "OPTIONS"} {
				out := planted(method, rtp.Addr)
				rtp.Send(server.Addr, []byte(out))                       // from the stream to a SIP port
				v.bob.rtp.Send(v.announced(), []byte(out))               // into the stream
				v.bob.SendRaw(v.announced(), []byte(out))                // into the stream, from a SIP port
				v.alice.SendRaw(v.bob.rtp.Addr, []byte("\x80\x00"+out))  // media from where SIP comes
				rtp.Send(v.bob.rtp.Addr, []byte(strings.TrimSpace(out))) // out of the stream
				rtp.RTCP.Send(server.Addr, []byte(planted(method, rtp.RTCP.Addr)))
			}
			server.Expect(netip.AddrPort{}, 6)
			v.unmoved("SIP in a stream")
			v.end()
		})
	}
}

func deadline() time.Time { return time.Now().Add(lab.Moment()) }
