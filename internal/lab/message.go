package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Message is a SIP message as the kit sees it: text, split into lines. It is
// deliberately simple and shares nothing with the daemon's parser, which it
// helps to judge.
type Message struct {
	Start   string // the start line
	Headers []Field
	Body    string

	Raw  []byte         // as received; nil for one that is being built
	From netip.AddrPort // whom it came from

	// NoLength keeps String from adding a Content-Length.
	NoLength bool
}

// Field is one header line; a folded one is unfolded.
type Field struct{ Name, Value string }

var startLine = regexp.MustCompile(`^(?:[A-Za-z0-9.!%*_+'~-]+ \S+ SIP/2\.0|SIP/2\.0 \d{3}(?: .*)?)$`)

func looksLikeSIP(b []byte) bool {
	b = bytes.TrimLeft(b, "\r\n")
	line, _, ok := bytes.Cut(b, []byte("\n"))
	return ok && startLine.Match(bytes.TrimSuffix(line, []byte("\r")))
}

// compact are the one-letter header names.
var compact = map[string]string{
	"i": "Call-ID", "m": "Contact", "f": "From", "t": "To", "v": "Via", "l": "Content-Length",
	"c": "Content-Type", "e": "Content-Encoding", "s": "Subject", "k": "Supported", "o": "Event",
	"r": "Refer-To", "b": "Referred-By", "x": "Session-Expires", "u": "Allow-Events",
}

// ParseMessage splits a datagram into lines.
func ParseMessage(raw []byte) (*Message, error) {
	text := strings.TrimLeft(string(raw), "\r\n")
	if !looksLikeSIP(raw) {
		return nil, fmt.Errorf("not SIP: %.40q", text)
	}
	m := &Message{Raw: raw}
	head, body, found := strings.Cut(text, "\r\n\r\n")
	if lf := strings.Index(text, "\n\n"); lf >= 0 && (!found || lf < len(head)) {
		head, body = text[:lf], text[lf+2:]
	}
	m.Body = body
	for i, line := range strings.Split(strings.ReplaceAll(head, "\r\n", "\n"), "\n") {
		switch {
		case i == 0:
			m.Start = line
		case line != "" && (line[0] == ' ' || line[0] == '\t') && len(m.Headers) > 0:
			m.Headers[len(m.Headers)-1].Value += " " + strings.TrimSpace(line)
		default:
			name, value, _ := strings.Cut(line, ":")
			m.Headers = append(m.Headers, Field{strings.TrimSpace(name), strings.TrimSpace(value)})
		}
	}
	return m, nil
}

// String is the message as it goes over the wire: CRLF, and a Content-Length
// unless it has one or NoLength is set.
func (m *Message) String() string {
	var b strings.Builder
	b.WriteString(m.Start + "\r\n")
	for _, h := range m.Headers {
		b.WriteString(h.Name + ": " + h.Value + "\r\n")
	}
	if !m.NoLength && !m.Has("Content-Length") {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(m.Body))
	}
	b.WriteString("\r\n" + m.Body)
	return b.String()
}

func same(a, b string) bool {
	if len(a) == 1 {
		a = compact[strings.ToLower(a)]
	}
	if len(b) == 1 {
		b = compact[strings.ToLower(b)]
	}
	return strings.EqualFold(a, b)
}

// Get is the value of the first such header, "" without; compact names are the
// same as long ones.
func (m *Message) Get(name string) string {
	for _, h := range m.Headers {
		if same(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// Has reports whether there is such a header.
func (m *Message) Has(name string) bool { return len(m.All(name)) > 0 }

// All are the values of all such header lines.
func (m *Message) All(name string) []string {
	var vs []string
	for _, h := range m.Headers {
		if same(h.Name, name) {
			vs = append(vs, h.Value)
		}
	}
	return vs
}

// Set replaces all such headers by one, at the place of the first.
func (m *Message) Set(name, value string) *Message {
	for i, h := range m.Headers {
		if same(h.Name, name) {
			m.Headers[i].Value = value
			rest := m.Headers[i+1:]
			m.Headers = m.Headers[:i+1]
			for _, h := range rest {
				if !same(h.Name, name) {
					m.Headers = append(m.Headers, h)
				}
			}
			return m
		}
	}
	return m.Add(name, value)
}

// Add appends a header line.
func (m *Message) Add(name, value string) *Message {
	m.Headers = append(m.Headers, Field{name, value})
	return m
}

// Del removes all such header lines.
func (m *Message) Del(name string) *Message {
	var kept []Field
	for _, h := range m.Headers {
		if !same(h.Name, name) {
			kept = append(kept, h)
		}
	}
	m.Headers = kept
	return m
}

// WithBody gives the message a body.
func (m *Message) WithBody(contentType, body string) *Message {
	m.Set("Content-Type", contentType)
	m.Body = body
	return m
}

// WithSDP gives the message a session description.
func (m *Message) WithSDP(sdp string) *Message { return m.WithBody("application/sdp", sdp) }

// Request reports whether it is a request.
func (m *Message) Request() bool { return !strings.HasPrefix(m.Start, "SIP/2.0") }

// Method is the request's method, or that of the CSeq of a response.
func (m *Message) Method() string {
	if m.Request() {
		method, _, _ := strings.Cut(m.Start, " ")
		return method
	}
	_, method, _ := strings.Cut(m.Get("CSeq"), " ")
	return strings.TrimSpace(method)
}

// Status is the code of a response, 0 for a request.
func (m *Message) Status() int {
	if m.Request() {
		return 0
	}
	n, _ := strconv.Atoi(m.Start[8:11])
	return n
}

// RequestURI is the request's target.
func (m *Message) RequestURI() string {
	if !m.Request() {
		return ""
	}
	return strings.Fields(m.Start)[1]
}

// CallID is the value of Call-ID.
func (m *Message) CallID() string { return m.Get("Call-ID") }

// CSeq is the number of CSeq.
func (m *Message) CSeq() int {
	number, _, _ := strings.Cut(m.Get("CSeq"), " ")
	n, _ := strconv.Atoi(number)
	return n
}

// Tag is the tag parameter of a From or To value.
func Tag(value string) string { return param(value, "tag") }

// Branch is the branch of the topmost Via.
func (m *Message) Branch() string { return param(m.Get("Via"), "branch") }

// param is a parameter of a header value (after the name-addr), "" without.
func param(value, name string) string {
	if i := strings.LastIndexByte(value, '>'); i >= 0 {
		value = value[i+1:]
	}
	for _, p := range strings.Split(value, ";")[1:] {
		k, v, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(k), name) {
			v, _, _ = strings.Cut(v, ",")
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// URIOf is the URI of a name-addr or addr-spec.
func URIOf(value string) string {
	if _, after, ok := strings.Cut(value, "<"); ok {
		uri, _, _ := strings.Cut(after, ">")
		return uri
	}
	uri, _, _ := strings.Cut(value, ";")
	return strings.TrimSpace(uri)
}

// HostPortOf is where a URI, a name-addr or a Via's sent-by points to; port
// 5060 if it names none. The zero value if the host is a name.
func HostPortOf(value string) netip.AddrPort {
	s := value
	if rest, ok := strings.CutPrefix(strings.ToUpper(s), "SIP/2.0/"); ok {
		fields := strings.Fields(s[len(s)-len(rest):])
		if len(fields) < 2 {
			return netip.AddrPort{}
		}
		s = fields[1]
	} else {
		s = URIOf(s)
		if _, rest, ok := strings.Cut(s, ":"); ok {
			s = rest
		}
		if i := strings.LastIndexByte(s, '@'); i >= 0 {
			s = s[i+1:]
		}
	}
	if i := strings.IndexAny(s, ";?>, "); i >= 0 {
		s = s[:i]
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 5060)
	}
	return netip.AddrPort{}
}

// Filter selects SIP messages.
type Filter func(*Message) bool

func matches(m *Message, filters []Filter) bool {
	for _, f := range filters {
		if !f(m) {
			return false
		}
	}
	return true
}

// Request selects requests of a method ("" for any).
func Request(method string) Filter {
	return func(m *Message) bool { return m.Request() && (method == "" || m.Method() == method) }
}

// Status selects responses with a code, to a method ("" for any).
func Status(code int, method string) Filter {
	return func(m *Message) bool { return m.Status() == code && (method == "" || m.Method() == method) }
}

// Response selects responses to a method ("" for any).
func Response(method string) Filter {
	return func(m *Message) bool { return !m.Request() && (method == "" || m.Method() == method) }
}

// CallID selects the messages of a call.
func CallID(id string) Filter { return func(m *Message) bool { return m.CallID() == id } }

// CSeq selects a sequence number.
func CSeq(n int) Filter { return func(m *Message) bool { return m.CSeq() == n } }
