package sipmsg

import (
	"strings"
	"testing"
	"time"
)

// TestHostile feeds messages made to be slow. Each is as large as a datagram
// can be; reading it takes about as long as reading its bytes. The limit is
// far above that, and far below what anything quadratic would take.
func TestHostile(t *testing.T) {
	const limit = 100 * time.Millisecond
	fill := func(unit string) string { return strings.Repeat(unit, (MaxSize-1000)/len(unit)) }
	parts := "Content-Type: multipart/mixed;boundary=b\n"
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"ten thousand Vias", request(strings.Repeat("v:SIP/2.0/UDP h\n", 10000)[:60000]+"h\n", ""), ErrSize},
		{"as many Vias as may be", request(strings.Repeat("Via:SIP/2.0/UDP [::1]:5060;branch=z9hG4bK1\n", MaxHeaders-5), ""), nil},
		{"one header of Vias", request("Via: "+fill("SIP/2.0/UDP h,")+"\n", ""), nil},
		{"one long header", request("Subject: "+fill("x")+"\n", ""), nil},
		{"one long name", request(fill("x")+": x\n", ""), nil},
		{"one long token", fill("x"), ErrNotSIP},
		{"one long method", fill("x") + " sip:x SIP/2.0\n", ErrTruncated},
		{"folds", request("Subject: "+fill("\n ")[:32000]+"x\n", ""), nil},
		{"white space", request("Contact: "+fill(" ")+"\n", ""), nil},
		{"Contacts", request("Contact: "+fill("<sip:a@h>,")+"\n", ""), nil},
		{"commas", request("Contact: "+fill(",")+"\n", ""), nil},
		{"open quotes", request("Contact: "+fill("\"<sip:h>,")+"\"\n", ""), nil},
		{"escaped quotes", request("Contact: "+fill("\"\\")+"\n", ""), nil},
		{"open angles", request("Contact: "+fill("<sip:a,")+"\n", ""), nil},
		{"open quotes in parameters", request("Contact: <sip:h>"+fill(";a=\"")+"\n", ""), nil},
		{"parameters", request("Via: SIP/2.0/UDP h"+fill(";a")+"\n", ""), nil},
		{"semicolons", request("Via: SIP/2.0/UDP h"+fill(";")+"\n", ""), nil},
		{"colons", request("Contact: <sip:"+fill(":")+">\n", ""), nil},
		{"ats", request("Contact: <sip:"+fill("@")+">\n", ""), nil},
		{"digits", request("Expires: "+fill("9")+"\n", ""), nil},
		{"delimiters", request(parts, fill("--b\n")), nil},
		{"almost delimiters", request(strings.Replace(parts, "=b", "="+strings.Repeat("-", 70), 1), fill(strings.Repeat("-", 71)+"\n")), nil},
		{"long boundary", request(strings.Replace(parts, "=b", "="+strings.Repeat("-", 20000), 1), strings.Repeat("-", 40000)), nil},
		{"nested parts", request(parts, nest(300, "v=0\n")), nil},
		{"media", request("c: application/sdp\n", "v=0\n"+fill("m=a 1 RTP/AVP 0\n")[:40000]), nil},
		{"candidates", request("c: application/sdp\n", "v=0\n"+fill("a=candidate:1 1 UDP 1 192.0.2.1 1\n")), nil},
		{"one candidate", request("c: application/sdp\n", "v=0\na=candidate:1 1 UDP 1 192.0.2.1 1 "+fill("raddr x ")+"\n"), nil},
		{"remote candidates", request("c: application/sdp\n", "v=0\na=remote-candidates:"+fill("1 h 1 ")+"\n"), nil},
		{"paths", request("c: application/sdp\n", "v=0\na=path:"+fill("msrp://h ")+"\n"), nil},
		{"empty lines", request("c: application/sdp\n", "v=0\n"+fill("\n")[:30000]), nil},
		{"long protocol", request("c: application/sdp\n", "v=0\nm=a 1 tcp/"+fill("/rtp")+"\n"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := []byte(c.text)
			var m Message
			var s SDP
			var err error
			sdpErr := error(nil)
			fastest := limit
			for range 3 { // others may need the processor now and then
				start := time.Now()
				if err = m.Index(raw); err == nil {
					for _, h := range m.Headers {
						for it := m.Addresses(h); ; {
							a, ok := it.Next()
							if !ok {
								break
							}
							m.Param(a.Params, "expires")
						}
					}
					for _, b := range m.SDPBodies(nil) {
						sdpErr = s.Index(raw, b)
					}
				}
				fastest = min(fastest, time.Since(start))
			}
			if err != c.want {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if sdpErr != nil && sdpErr != ErrSDPSize {
				t.Errorf("SDP: %v", sdpErr)
			}
			if fastest >= limit {
				t.Errorf("took more than %v", limit)
			}
			if err == nil {
				checkMessage(t, &m)
			}
		})
	}
}

// TestSDPSize checks the limit on the parts of a description.
func TestSDPSize(t *testing.T) {
	for _, line := range []string{
		"m=audio 4000 RTP/AVP 0\n", "c=IN IP4 192.0.2.1\n", "a=rtcp:1\n", "a=candidate:1 1 UDP 1 192.0.2.1 1 typ host\n",
		"a=remote-candidates:1 192.0.2.1 1\n", "a=path:msrp://h/x\n",
	} {
		var s SDP
		for n, want := range map[int]error{MaxSDPParts: nil, MaxSDPParts + 1: ErrSDPSize} {
			text := []byte("v=0\n" + strings.Repeat(line, n))
			if err := s.Index(text, Span{0, int32(len(text))}); err != want {
				t.Errorf("%d times %q: %v", n, line, err)
			}
		}
	}
}
