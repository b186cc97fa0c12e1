package sipmsg_test

import (
	"fmt"
	"net/netip"
	"strings"

	"sipnatd/sipmsg"
)

// A NAT gives the sender of a request its public address. Nothing else of the
// message changes.
func ExampleEdits() {
	datagram := []byte(strings.ReplaceAll(`OPTIONS sip:example.com SIP/2.0
v:  SIP/2.0/UDP 192.168.1.20:5060;branch=z9hG4bK776;rport
f: "Alice, home" <sip:alice@example.com>;tag=1928
t: <sip:example.com>
i: a84b4c76e66710
CSeq: 63104 OPTIONS
m: <sip:alice@192.168.1.20:5060>,
 <sip:alice@198.51.100.5>
l: 0

`, "\n", "\r\n"))

	inside := netip.MustParseAddr("192.168.1.20")
	public := sipmsg.AppendHostPort(nil, netip.MustParseAddr("203.0.113.7"), 40000)

	var m sipmsg.Message
	if err := m.Index(datagram); err != nil {
		fmt.Println(err)
		return
	}
	var e sipmsg.Edits
	e.Reset(datagram)
	e.Replace(m.Via.SentBy, public)
	for _, h := range m.Headers {
		if h.Kind != sipmsg.HdrContact {
			continue
		}
		for it := m.Addresses(h); ; {
			a, ok := it.Next()
			if !ok {
				break
			}
			if addr, ok := sipmsg.ParseAddr(m.Bytes(a.URI.Host)); ok && addr == inside {
				e.Replace(a.URI.HostPort, public)
			}
		}
	}
	e.FixContentLength(&m)
	out, err := e.Splice(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(strings.ReplaceAll(string(out), "\r\n", "\n"))
	// Output:
	// OPTIONS sip:example.com SIP/2.0
	// v:  SIP/2.0/UDP 203.0.113.7:40000;branch=z9hG4bK776;rport
	// f: "Alice, home" <sip:alice@example.com>;tag=1928
	// t: <sip:example.com>
	// i: a84b4c76e66710
	// CSeq: 63104 OPTIONS
	// m: <sip:alice@203.0.113.7:40000>,
	//  <sip:alice@198.51.100.5>
	// l: 0
}
