package sipmsg

import (
	"fmt"
	"strings"
	"testing"
)

// parts writes an address as display|user|host|port|URI parameters|headers|parameters.
func parts(m *Message, a Address) string {
	if a.Star {
		return "*"
	}
	if a.URI.Scheme == SchemeNone {
		return "no URI"
	}
	if a.URI.Scheme > SchemeSIPS {
		return fmt.Sprintf("%s|%s", m.Bytes(a.URI.All), m.Bytes(a.Params))
	}
	return fmt.Sprintf("%s|%s|%s|%s|%s|%s|%s", m.Bytes(a.Display), m.Bytes(a.URI.User), m.Bytes(a.URI.Host),
		m.Bytes(a.URI.Port), m.Bytes(a.URI.Params), m.Bytes(a.URI.Headers), m.Bytes(a.Params))
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		name, header string
		kind         Kind
		want         []string
	}{
		{"bare", "Contact: sip:a@192.0.2.1:5062;q=0.5", HdrContact, []string{"|a|192.0.2.1|5062|||;q=0.5"}},
		{"no user", "Contact: <sip:192.0.2.1;lr>", HdrContact, []string{"||192.0.2.1||;lr||"}},
		{"sips", "Contact: <SIPS:a@192.0.2.1>", HdrContact, []string{"|a|192.0.2.1||||"}},
		{"star", "Contact: *", HdrContact, []string{"*"}},
		{"password", "Contact: <sip:a:secret@192.0.2.1>", HdrContact, []string{"|a:secret|192.0.2.1||||"}},
		{"tel", "Contact: <tel:+4930;phone-context=x>;q=1", HdrContact, []string{"tel:+4930;phone-context=x|;q=1"}},
		{"comma list", "Contact: <sip:a@192.0.2.1>, <sip:b@192.0.2.2>;expires=60 ,sip:c@192.0.2.3", HdrContact,
			[]string{"|a|192.0.2.1||||", "|b|192.0.2.2||||;expires=60", "|c|192.0.2.3||||"}},
		{"empty values", "Contact: , <sip:a@192.0.2.1>,, ,<sip:b@192.0.2.2>,", HdrContact,
			[]string{"|a|192.0.2.1||||", "|b|192.0.2.2||||"}},
		{"two headers", "Route: <sip:192.0.2.1;lr>\nRoute: <sip:192.0.2.2;lr>,<sip:192.0.2.3>", HdrRoute,
			[]string{"||192.0.2.1||;lr||", "||192.0.2.2||;lr||", "||192.0.2.3||||"}},
		{"quoted comma", `Contact: "Bell, A." <sip:a@192.0.2.1>, "B" <sip:b@192.0.2.2>`, HdrContact,
			[]string{`"Bell, A."|a|192.0.2.1||||`, `"B"|b|192.0.2.2||||`}},
		{"quoted brackets and semicolons", `Contact: "x <sip:e@203.0.113.1>;q=1" <sip:a@192.0.2.1>;q=0`, HdrContact,
			[]string{`"x <sip:e@203.0.113.1>;q=1"|a|192.0.2.1||||;q=0`}},
		{"escaped quotes", `Contact: "a \", <sip:e@203.0.113.1> \\" <sip:a@192.0.2.1>`, HdrContact,
			[]string{`"a \", <sip:e@203.0.113.1> \\"|a|192.0.2.1||||`}},
		{"quoted parameter", `Contact: <sip:a@192.0.2.1>;x="a,b;c<d>";q=1, <sip:b@192.0.2.2>`, HdrContact,
			[]string{`|a|192.0.2.1||||;x="a,b;c<d>";q=1`, "|b|192.0.2.2||||"}},
		{"comma and semicolon in brackets", "Contact: <sip:a,b;c@192.0.2.1;x=1,2?y=3,4>;q=1", HdrContact,
			[]string{"|a,b;c|192.0.2.1||;x=1,2|?y=3,4|;q=1"}},
		{"folded list", "Contact: <sip:a@192.0.2.1>\n ,\n\t<sip:b@192.0.2.2>\n ;q=1", HdrContact,
			[]string{"|a|192.0.2.1||||", "|b|192.0.2.2||||;q=1"}},
		{"unclosed quote", `Contact: "a <sip:a@192.0.2.1>, <sip:b@192.0.2.2>`, HdrContact,
			[]string{`"a|a|192.0.2.1||||`, "|b|192.0.2.2||||"}},
		{"unclosed bracket", "Contact: <sip:a@192.0.2.1, <sip:b@192.0.2.2", HdrContact,
			[]string{"|a|192.0.2.1||||", "|b|192.0.2.2||||"}},
		{"IPv6", "Contact: <sip:a@[2001:db8::1]:5062;lr>", HdrContact, []string{"|a|[2001:db8::1]|5062|;lr||"}},
		{"IPv6 without port", "Contact: sip:[2001:db8::1]", HdrContact, []string{"||[2001:db8::1]||||"}},
		{"IPv6 without brackets", "Contact: <sip:a@2001:db8::1>", HdrContact, []string{"|a|2001:db8::1||||"}},
		{"no scheme", "Contact: <192.0.2.1:5060>", HdrContact, []string{"no URI"}},
		{"port is no number", "Contact: <sip:a@192.0.2.1:x>", HdrContact, []string{"|a|192.0.2.1|x|||"}},
		{"blanks in brackets", "Contact: < sip:a@192.0.2.1 >", HdrContact, []string{"|a|192.0.2.1||||"}},
		{"display with comma", "Reply-To: Bell, A <sip:a@192.0.2.1>", HdrReplyTo, []string{"Bell, A|a|192.0.2.1||||"}},
		{"Refer-To", "r: <sip:a@192.0.2.1?Replaces=x%40y%3Bto-tag%3D1>", HdrReferTo,
			[]string{"|a|192.0.2.1|||?Replaces=x%40y%3Bto-tag%3D1|"}},
		{"Refer-To, unescaped", "Refer-To: <sip:a@192.0.2.1?Replaces=x@192.0.2.9>", HdrReferTo,
			[]string{"|a|192.0.2.1|||?Replaces=x@192.0.2.9|"}},
		{"History-Info", "History-Info: <sip:a@192.0.2.1?Reason=SIP%3Bcause%3D302>;index=1, <sip:b@192.0.2.2>;index=1.1",
			HdrHistoryInfo, []string{"|a|192.0.2.1|||?Reason=SIP%3Bcause%3D302|;index=1", "|b|192.0.2.2||||;index=1.1"}},
		{"identity", `P-Asserted-Identity: "A" <sip:a@192.0.2.1>, tel:+4930`, HdrPAssertedIdentity,
			[]string{`"A"|a|192.0.2.1||||`, "tel:+4930|"}},
		{"Diversion", `Diversion: "A" <sip:a@192.0.2.1>;reason=no-answer`, HdrDiversion,
			[]string{`"A"|a|192.0.2.1||||;reason=no-answer`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mustIndex(t, request(c.header+"\n", ""))
			checkMessage(t, m)
			var got []string
			for _, a := range addresses(m, c.kind) {
				got = append(got, parts(m, a))
			}
			if g, w := strings.Join(got, "\n"), strings.Join(c.want, "\n"); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
		})
	}
}

func TestURIPorts(t *testing.T) {
	for text, want := range map[string]int{
		"192.0.2.1": 0, "192.0.2.1:": 0, "192.0.2.1:1": 1, "192.0.2.1:65535": 65535, "192.0.2.1:65536": 0,
		"192.0.2.1:0": 0, "192.0.2.1:-1": 0, "192.0.2.1:99999999999999999999": 0, "[::1]:5060": 5060, "::1:5060": 0,
		"[::1:5060": 0, "[::1]5060": 0,
	} {
		m := mustIndex(t, request("Contact: <sip:"+text+">\n", ""))
		u := contact(t, m).URI
		if u.PortNum != want || string(m.Bytes(u.HostPort)) != text {
			t.Errorf("%q: port %d, host and port %q", text, u.PortNum, m.Bytes(u.HostPort))
		}
	}
}

func TestParam(t *testing.T) {
	m := mustIndex(t, request(`Contact: <sip:192.0.2.1>; a = 1 ;B;c="x;y\"z" ;d=;;e="open;f=2;a=3`+"\n", ""))
	p := contact(t, m).Params
	for _, c := range []struct {
		name, value string
		ok          bool
	}{
		{"a", "1", true}, {"b", "", true}, {"c", `"x;y\"z"`, true}, {"d", "", true}, {"e", `"open`, true},
		{"f", "2", true}, {"x", "", false}, {"y", "", false}, {"", "", false},
	} {
		v, ok := m.Param(p, c.name)
		if ok != c.ok || string(m.Bytes(v)) != c.value {
			t.Errorf("%s: %q, %v", c.name, m.Bytes(v), ok)
		}
	}
	if _, ok := m.Param(Span{}, "a"); ok {
		t.Error("a parameter in an absent span")
	}
}

func TestVias(t *testing.T) {
	for _, c := range []struct {
		name, header string
		want         []string // sent-by|host|port|parameters
	}{
		{"plain", "SIP/2.0/UDP 192.0.2.7", []string{"192.0.2.7|192.0.2.7||"}},
		{"port", "SIP/2.0/UDP 192.0.2.7:5062;rport", []string{"192.0.2.7:5062|192.0.2.7|5062|;rport"}},
		{"IPv6", "SIP/2.0/UDP [2001:db8::1]:5062;rport", []string{"[2001:db8::1]:5062|[2001:db8::1]|5062|;rport"}},
		{"IPv6 without brackets", "SIP/2.0/UDP 2001:db8::1;rport", []string{"2001:db8::1|2001:db8::1||;rport"}},
		{"name", "SIP/2.0/UDP phone.local;branch=z", []string{"phone.local|phone.local||;branch=z"}},
		{"blanks around the colon", "SIP / 2.0 / UDP 192.0.2.7 : 5062 ; rport", []string{"192.0.2.7 : 5062|192.0.2.7|5062|; rport"}},
		{"empty port", "SIP/2.0/UDP 192.0.2.7: ;rport", []string{"192.0.2.7:|192.0.2.7||;rport"}},
		{"list", "SIP/2.0/UDP a;x=\"1,2\", SIP/2.0/TCP b:1 ,junk, SIP/2.0/TLS c", []string{`a|a||;x="1,2"`, "b:1|b|1|", "c|c||"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mustIndex(t, request("Via: "+c.header+"\n", ""))
			checkMessage(t, m)
			var got []string
			for it := m.Vias(m.Headers[5]); ; {
				v, ok := it.Next()
				if !ok {
					break
				}
				got = append(got, fmt.Sprintf("%s|%s|%s|%s", m.Bytes(v.SentBy), m.Bytes(v.Host), m.Bytes(v.Port), m.Bytes(v.Params)))
			}
			if g, w := strings.Join(got, "\n"), strings.Join(c.want, "\n"); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
			if m.ViaCount != 1+len(c.want) {
				t.Errorf("%d Vias", m.ViaCount)
			}
			want(t, m, m.Via.SentBy, "192.0.2.1:5060")
		})
	}
}

func TestViaParams(t *testing.T) {
	for text, check := range map[string]func(Via) bool{
		"":                           func(v Via) bool { return !v.HasRPort && v.RPortParam == Span{} },
		";rport":                     func(v Via) bool { return v.HasRPort && v.RPort.Empty() },
		";rport=":                    func(v Via) bool { return v.HasRPort && v.RPort.Empty() && v.RPortParam.Len() == 7 },
		";RPort=5":                   func(v Via) bool { return v.HasRPort && v.RPort.Len() == 1 },
		";received=::1;rport":        func(v Via) bool { return v.Received.Len() == 3 && v.ReceivedParam.Len() == 13 },
		";xrport;branch=a;branch=bb": func(v Via) bool { return !v.HasRPort && v.Branch.Len() == 1 },
		` ; x=";rport" ; maddr=h`:    func(v Via) bool { return !v.HasRPort && v.Maddr.Len() == 1 },
	} {
		m := mustIndex(t, strings.Replace(request("", ""), ";branch=z9hG4bK1", text, 1))
		if !check(m.Via) {
			t.Errorf("%q: %+v", text, m.Via)
		}
	}
}
