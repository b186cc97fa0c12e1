package sipmsg

import "strings"

// wire turns LF line ends into CR LF.
func wire(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

// inviteMessage is an INVITE as an ordinary phone sends it, with LF for its line ends.
const inviteMessage = `INVITE sip:+4930123456@sip.example.com;user=phone SIP/2.0
Via: SIP/2.0/UDP 192.168.1.20:5060;rport;branch=z9hG4bKPjd8a5b7e2c1f04a6d9b3e
Max-Forwards: 70
From: "Alice" <sip:alice@sip.example.com>;tag=6d8f1c2b3a4e
To: <sip:+4930123456@sip.example.com;user=phone>
Contact: "Alice" <sip:alice@192.168.1.20:5060;transport=udp;ob>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A959CA011>"
Call-ID: 0a1b2c3d4e5f60718293a4b5c6d7e8f9@192.168.1.20
CSeq: 4711 INVITE
Allow: PRACK, INVITE, ACK, BYE, CANCEL, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, OPTIONS
Supported: replaces, 100rel, timer, norefersub
Session-Expires: 1800
Min-SE: 90
User-Agent: Example Phone 5.2
P-Preferred-Identity: "Alice" <sip:alice@192.168.1.20>
Content-Type: application/sdp
Content-Length: 346

` + inviteSDP

// inviteSDP is its body.
const inviteSDP = `v=0
o=alice 3890000000 3890000001 IN IP4 192.168.1.20
s=call
c=IN IP4 192.168.1.20
t=0 0
m=audio 4000 RTP/AVP 8 0 101
c=IN IP4 192.168.1.20
b=TIAS:64000
a=rtcp:4001 IN IP4 192.168.1.20
a=sendrecv
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=ssrc:1158361453 cname:5b2f0c
`

// sdpSeeds are session descriptions with every feature the index knows.
var sdpSeeds = []string{
	inviteSDP,
	`v=0
o=- 1 1 IN IP4 192.168.1.20
s=-
c=IN IP4 192.168.1.20
t=0 0
a=group:BUNDLE 0 1
a=sendonly
m=audio 4000/2 UDP/TLS/RTP/SAVPF 111
a=mid:0
a=rtcp-mux
a=rtcp:4001
a=candidate:1 1 UDP 2130706431 192.168.1.20 4000 typ host
a=candidate:2 2 udp 1694498815 203.0.113.9 4001 typ srflx raddr 192.168.1.20 rport 4001 generation 0
a=candidate:3 1 TCP 1010827775 192.168.1.20 9 typ host tcptype active
a=remote-candidates:1 192.0.2.3 45664 2 192.0.2.3 45665
m=video 0 RTP/AVP 31
a=bundle-only
a=inactive
m=message 2855 TCP/MSRP *
a=path:msrp://192.168.1.20:2855/s.1;tcp msrps://[2001:db8::1]:9/x;tcp
`,
	`v=0
o=bob 1 1 IN IP6 2001:db8::20
s=-
t=0 0
m=audio 6000 RTP/AVP 0
c=IN IP4 224.2.1.1/127/3
c=IN IP4 224.2.1.9/127
a=recvonly
m=image 5000 udptl t38
c=IN IP6 2001:db8::20
a=T38FaxVersion:0
b=AS:64
`,
}
