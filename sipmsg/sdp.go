package sipmsg

import "bytes"

// MaxSDPParts is the greatest number of parts of a session description that
// are indexed: media, connections, candidates and so on, together. It bounds
// memory and time; real descriptions have less than a tenth of it.
const MaxSDPParts = 1000

// Direction is the direction of a stream, seen from the sender of the SDP
// (RFC 3264 section 5.1).
type Direction uint8

// The four directions. SendRecv is the default.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

// String is the name of the attribute.
func (d Direction) String() string {
	switch d {
	case SendOnly:
		return "sendonly"
	case RecvOnly:
		return "recvonly"
	case Inactive:
		return "inactive"
	}
	return "sendrecv"
}

// crlf is the line end of a description that has none. It is never written to.
var crlf = []byte("\r\n")

// Session is the media index of what stands before the first m= line.
const Session = -1

// SDP is the index of one session description. All spans are offsets in Raw,
// the whole datagram; a Line includes its line end. It is meant to be reused.
//
// The order of lines is not judged, and lines that are not understood are
// skipped: real descriptions lack s= or t=, put b= after a=, end their lines
// with LF alone, and must work all the same.
type SDP struct {
	Raw  []byte
	Body Span

	OriginAddr Span // address in o=
	OriginIP6  bool // o= says IP6

	Conns            []Conn // c= lines, in order
	Media            []Media
	RTCP             []RTCPAttr
	Candidates       []Candidate
	RemoteCandidates []RemoteCandidate
	Paths            []Path

	Direction Direction // at session level
	Bundle    bool      // a=group:BUNDLE is present (RFC 9143)

	EOL []byte // line end of the description, CR LF or LF, for insertions; read-only

	parts int // length of all slices together
}

// Conn is a c= line.
type Conn struct {
	Line  Span
	Addr  Span
	TTL   Span // what follows the address after "/": ttl, count or both
	Media int  // index in Media, or Session
	IP6   bool // the line says IP6
}

// Media is a media description: an m= line and what follows it.
type Media struct {
	Line  Span // the m= line
	Kind  Span // audio, video, image ...
	Port  Span
	Count Span // number of ports after "/"; absent if there is none
	Proto Span // RTP/AVP, udptl ...
	Fmts  Span // the formats, together

	PortNum  int  // 0 to 65535; 0, too, if the port is not a number
	CountNum int  // number of contiguous ports, at least 1 (RFC 8866 section 5.14)
	UDP      bool // carried over UDP
	RTP      bool // an RTP profile

	Conn      int // index in Conns of the c= line that holds for it, or -1
	ConnFirst int // index in Conns of its own first c= line
	ConnCount int // number of its own c= lines

	RTCPMux    bool      // a=rtcp-mux (RFC 5761)
	BundleOnly bool      // a=bundle-only (RFC 9143)
	Direction  Direction // its own, or that of the session

	End int32 // offset after the last line of the section
}

// RTCPAttr is an a=rtcp line (RFC 3605).
type RTCPAttr struct {
	Line    Span
	Port    Span
	Addr    Span // absent if the line names a port only
	PortNum int  // 1 to 65535, or 0 if it is not a port
	Media   int  // index in Media, or Session
}

// Candidate is an a=candidate line (RFC 8839 section 5.1).
type Candidate struct {
	Line      Span // with its line end, for removal
	Media     int  // index in Media, or Session
	Component int  // 1 is RTP, 2 RTCP
	UDP       bool
	Addr      Span
	Port      Span
	PortNum   int
	Type      Span // host, srflx, prflx, relay
	RAddr     Span // related address and port; absent if there is none
	RPort     Span
	RPortNum  int
}

// RemoteCandidate is one of the triples of an a=remote-candidates line (RFC
// 8839 section 5.2).
type RemoteCandidate struct {
	Media     int // index in Media, or Session
	Component int
	Addr      Span
	Port      Span
	PortNum   int
}

// Path is the authority of one MSRP URI in an a=path line (RFC 4975).
type Path struct {
	Media    int // index in Media, or Session
	HostPort Span
	Host     Span // an IPv6 reference with its brackets
	Port     Span
	PortNum  int
}

// Index reads the session description that is raw[body.Lo:body.Hi]. The error
// is ErrNotSDP if it does not begin with v=0 (empty lines aside) and
// ErrSDPSize if it has too many parts. Nothing is allocated once the slices
// are large enough.
func (s *SDP) Index(raw []byte, body Span) error {
	if r := s.index(raw, body); r != 0 {
		return r
	}
	return nil
}

func (s *SDP) index(raw []byte, body Span) Reason {
	*s = SDP{
		Raw:              raw,
		Body:             body,
		Conns:            s.Conns[:0],
		Media:            s.Media[:0],
		RTCP:             s.RTCP[:0],
		Candidates:       s.Candidates[:0],
		RemoteCandidates: s.RemoteCandidates[:0],
		Paths:            s.Paths[:0],
	}
	if body.Lo < 0 || body.Hi < body.Lo || int(body.Hi) > len(raw) {
		return ErrNotSDP
	}
	pos := skipSpace(raw, body.Lo, body.Hi)
	if body.Hi-pos < 3 || string(raw[pos:pos+3]) != "v=0" {
		return ErrNotSDP
	}
	for pos < body.Hi {
		line := Span{pos, body.Hi}
		end := body.Hi
		if n := bytes.IndexByte(raw[pos:end], '\n'); n >= 0 {
			end = pos + int32(n)
			line.Hi = end + 1
			if n > 0 && raw[end-1] == '\r' {
				end--
			}
			if s.EOL == nil {
				s.EOL = raw[end:line.Hi]
			}
		}
		pos = line.Hi
		if end-line.Lo < 2 || raw[line.Lo+1] != '=' {
			continue
		}
		switch value := (Span{line.Lo + 2, end}); raw[line.Lo] {
		case 'o':
			s.origin(value)
		case 'c':
			s.connection(line, value)
		case 'm':
			s.media(line, value)
		case 'a':
			s.attribute(line, value)
		}
		if s.parts > MaxSDPParts {
			return ErrSDPSize
		}
	}
	if s.EOL == nil {
		s.EOL = crlf
	}
	s.finish()
	return 0
}

// section is the index of the media description that is being read, or
// Session.
func (s *SDP) section() int { return len(s.Media) - 1 }

// origin reads "o=name id version IN IP4 address". Names with blanks occur,
// so the fields are counted from the end.
func (s *SDP) origin(value Span) {
	if s.OriginAddr != (Span{}) {
		return
	}
	b := s.Raw
	addr := lastWord(b, value)
	family := lastWord(b, Span{value.Lo, addr.Lo})
	if ip6, ok := ipFamily(family.of(b)); ok {
		s.OriginAddr, s.OriginIP6 = addr, ip6
	}
}

// connection reads "c=IN IP4 address[/ttl[/count]]".
func (s *SDP) connection(line, value Span) {
	b := s.Raw
	w := words{b, value.Lo, value.Hi}
	network, family, addr := w.next(), w.next(), w.next()
	ip6, ok := ipFamily(family.of(b))
	if !EqualFold(network.of(b), "in") || !ok || addr.Empty() {
		return
	}
	c := Conn{Line: line, Addr: addr, Media: s.section(), IP6: ip6}
	if i := index(b, addr.Lo, addr.Hi, '/'); i >= 0 {
		c.Addr.Hi = i
		c.TTL = Span{i + 1, addr.Hi}
		if c.Addr.Empty() {
			return
		}
	}
	if c.Media != Session {
		s.Media[c.Media].ConnCount++
	}
	s.Conns = append(s.Conns, c)
	s.parts++
}

// ipFamily reads an address type, IP4 or IP6.
func ipFamily(b []byte) (ip6, ok bool) {
	switch {
	case EqualFold(b, "ip4"):
		return false, true
	case EqualFold(b, "ip6"):
		return true, true
	}
	return false, false
}

// media reads "m=audio 49170[/2] RTP/AVP 0 8".
func (s *SDP) media(line, value Span) {
	b := s.Raw
	w := words{b, value.Lo, value.Hi}
	m := Media{Line: line, CountNum: 1, ConnFirst: len(s.Conns), Conn: -1, Direction: s.Direction}
	m.Kind, m.Port, m.Proto = w.next(), w.next(), w.next()
	m.Fmts = trim(b, w.pos, value.Hi)
	if i := index(b, m.Port.Lo, m.Port.Hi, '/'); i >= 0 {
		m.Count = Span{i + 1, m.Port.Hi}
		m.Port.Hi = i
		m.CountNum = max(1, portNumber(m.Count.of(b)))
	}
	m.PortNum = portNumber(m.Port.of(b))
	m.UDP, m.RTP = transport(m.Proto.of(b))
	s.Media = append(s.Media, m)
	s.parts++
}

// transport says of a media protocol whether UDP carries it and whether it is
// an RTP profile (RFC 8866 section 5.14 and its registry).
func transport(proto []byte) (udp, rtp bool) {
	switch {
	case hasPrefixFold(proto, "rtp/"):
		return true, true
	case hasPrefixFold(proto, "udp/tls/rtp/"):
		return true, true
	case EqualFold(proto, "udp"), EqualFold(proto, "udptl"), hasPrefixFold(proto, "udp/"),
		EqualFold(proto, "dtls/sctp"):
		return true, false
	case hasPrefixFold(proto, "tcp/"), hasPrefixFold(proto, "tls/"):
		return false, containsFold(proto, "/rtp/")
	}
	return false, false
}

// finish fills in what is known only after the last line.
func (s *SDP) finish() {
	session := -1
	if len(s.Conns) > 0 && s.Conns[0].Media == Session {
		session = 0
	}
	for i := range s.Media {
		m := &s.Media[i]
		m.End = s.Body.Hi
		if i+1 < len(s.Media) {
			m.End = s.Media[i+1].Line.Lo
		}
		m.Conn = session
		if m.ConnCount > 0 {
			m.Conn = m.ConnFirst
		}
	}
}

// words walks over the blank-separated words of a line.
type words struct {
	b       []byte
	pos, hi int32
}

// next returns the next word, or an absent span after the last one.
func (w *words) next() Span {
	lo := skipSpace(w.b, w.pos, w.hi)
	w.pos = skipWord(w.b, lo, w.hi)
	if w.pos == lo {
		return Span{}
	}
	return Span{lo, w.pos}
}

// lastWord returns the last word of s, or an empty span at its beginning.
func lastWord(b []byte, s Span) Span {
	s = trim(b, s.Lo, s.Hi)
	i := s.Hi
	for i > s.Lo && !isSpace(b[i-1]) {
		i--
	}
	return Span{i, s.Hi}
}
