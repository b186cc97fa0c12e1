package nat

import (
	"fmt"
	"strings"
)

const (
	phoneA   = "10.0.0.10:5060"
	provider = "203.0.113.9:5060"
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// A call as ordinary phones make it: INVITE, its answer, and the ping of a
// provider.
var (
	inviteA = []byte(crlf(`INVITE sip:bob@example.org SIP/2.0
Via: SIP/2.0/UDP 10.0.0.10:5060;rport;branch=z9hG4bKnashds8
Max-Forwards: 70
From: "Alice" <sip:alice@example.org>;tag=1928301774
To: <sip:bob@example.org>
Call-ID: a84b4c76e66710@10.0.0.10
CSeq: 314159 INVITE
Contact: <sip:alice@10.0.0.10:5060;transport=udp>
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, REFER, NOTIFY, UPDATE
Supported: replaces, timer
User-Agent: Phone 1.0
Content-Type: application/sdp
Content-Length: 213

v=0
o=alice 2890844526 2890844526 IN IP4 10.0.0.10
s=-
c=IN IP4 10.0.0.10
t=0 0
m=audio 4000 RTP/AVP 8 0 101
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
`))
	answerA = []byte(crlf(`SIP/2.0 200 OK
Via: SIP/2.0/UDP 203.0.113.1:5060;rport=5060;branch=z9hG4bKnashds8;received=203.0.113.1
From: "Alice" <sip:alice@example.org>;tag=1928301774
To: <sip:bob@example.org>;tag=a6c85cf
Call-ID: a84b4c76e66710@10.0.0.10
CSeq: 314159 INVITE
Contact: <sip:bob@203.0.113.20:5060>
Content-Type: application/sdp

v=0
o=bob 1 1 IN IP4 203.0.113.20
s=-
c=IN IP4 203.0.113.20
t=0 0
m=audio 6000 RTP/AVP 8 101
a=rtpmap:101 telephone-event/8000
`))
	pingOut = []byte(crlf(`OPTIONS sip:example.org SIP/2.0
Via: SIP/2.0/UDP 10.0.0.10:5060;rport;branch=z9hG4bKping
From: <sip:alice@example.org>;tag=p
To: <sip:example.org>
Call-ID: ping
CSeq: 1 OPTIONS
Contact: <sip:alice@10.0.0.10:5060>
Content-Length: 0

`))
	pingIn = []byte(crlf(`OPTIONS sip:alice@203.0.113.1:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKping2
From: <sip:ping@example.org>;tag=p
To: <sip:alice@203.0.113.1:5060>
Call-ID: ping2
CSeq: 1 OPTIONS
Content-Length: 0

`))
	pingAnswer = []byte(crlf(`SIP/2.0 200 OK
Via: SIP/2.0/UDP 203.0.113.1:5060;rport=5060;branch=z9hG4bKping;received=203.0.113.1
From: <sip:alice@example.org>;tag=p
To: <sip:example.org>;tag=q
Call-ID: ping
CSeq: 1 OPTIONS
Content-Length: 0

`))
	byeA = []byte(crlf(`BYE sip:bob@203.0.113.20:5060 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.10:5060;rport;branch=z9hG4bKbye
From: "Alice" <sip:alice@example.org>;tag=1928301774
To: <sip:bob@example.org>;tag=a6c85cf
Call-ID: a84b4c76e66710@10.0.0.10
CSeq: 314160 BYE
Content-Length: 0

`))
	byeAnswerA = []byte(crlf(`SIP/2.0 200 OK
Via: SIP/2.0/UDP 203.0.113.1:5060;rport=5060;branch=z9hG4bKbye;received=203.0.113.1
From: "Alice" <sip:alice@example.org>;tag=1928301774
To: <sip:bob@example.org>;tag=a6c85cf
Call-ID: a84b4c76e66710@10.0.0.10
CSeq: 314160 BYE
Content-Length: 0

`))
	keepAlive = []byte("\r\n\r\n")
)

// sample is a call of its own.
type sample struct {
	phone          string
	invite, answer []byte
}

// sampleCall returns call number i: of many hosts, each with many calls.
func sampleCall(i int) sample {
	host, port := fmt.Sprintf("10.0.0.%d", 2+i/100), fmt.Sprint(20000+2*(i%100))
	r := strings.NewReplacer("10.0.0.10", host, "m=audio 4000", "m=audio "+port,
		"a84b4c76e66710", fmt.Sprint("call", i), "z9hG4bKnashds8", fmt.Sprint("z9hG4bK", i),
		"Content-Length: 213\r\n", "")
	return sample{host + ":5060", []byte(r.Replace(string(inviteA))), []byte(r.Replace(string(answerA)))}
}
