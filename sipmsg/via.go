package sipmsg

// Via is one Via value (RFC 3261 section 20.42, RFC 3581).
type Via struct {
	All       Span // without the comma and the white space around it
	Transport Span // UDP, TCP ...
	SentBy    Span // host and, if present, colon and port: what an edit of the address replaces
	Host      Span // an IPv6 reference with its brackets
	Port      Span
	Params    Span // from the first ";"
	PortNum   int  // 1 to 65535; 0 if the port is absent or is not a port

	Branch, Received, RPort, Maddr Span // values; absent or empty if there is none

	HasRPort      bool // rport is present, with or without a value
	ReceivedParam Span // ";received=value", for removal
	RPortParam    Span // ";rport" or ";rport=value"
}

// ViaIter walks over the values of a Via header. It is a value: a copy walks
// on its own.
type ViaIter struct{ values values }

// Vias iterates over the values of the Via header h.
func (m *Message) Vias(h Header) ViaIter {
	return ViaIter{values{b: m.Raw, pos: h.Value.Lo, hi: h.Value.Hi}}
}

// Next returns the next value, or false after the last one. What is not a Via
// is skipped.
func (it *ViaIter) Next() (Via, bool) {
	for {
		s, ok := it.values.next()
		if !ok {
			return Via{}, false
		}
		if v, ok := parseVia(it.values.b, s); ok {
			return v, true
		}
	}
}

// parseVia reads the Via that fills s: SIP/2.0/UDP host:port;params, with
// white space allowed nearly everywhere.
func parseVia(b []byte, s Span) (Via, bool) {
	v := Via{All: s}
	hi := s.Hi
	i := s.Lo
	for slashes := 0; slashes < 2; slashes++ { // protocol name, version
		j := skipToken(b, i, hi)
		if j == i {
			return v, false
		}
		j = skipSpace(b, j, hi)
		if j >= hi || b[j] != '/' {
			return v, false
		}
		i = skipSpace(b, j+1, hi)
	}
	j := skipToken(b, i, hi)
	v.Transport = Span{i, j}
	i = skipSpace(b, j, hi)
	if v.Transport.Empty() || i == j {
		return v, false
	}
	end := index(b, i, hi, ';')
	if end < 0 {
		end = hi
	} else {
		v.Params = Span{end, hi}
	}
	if !v.parseSentBy(b, trim(b, i, end)) {
		return v, false
	}
	v.parseParams(b)
	return v, true
}

// parseSentBy reads host [":" port]; white space may stand around the colon.
func (v *Via) parseSentBy(b []byte, s Span) bool {
	v.Host, v.Port, v.SentBy = splitHostPort(b, s.Lo, skipWord(b, s.Lo, s.Hi))
	if v.Host.Empty() {
		return false
	}
	if i := skipSpace(b, v.Host.Hi, s.Hi); v.Port.Empty() && i < s.Hi && b[i] == ':' {
		i = skipSpace(b, i+1, s.Hi)
		v.Port = Span{i, skipWord(b, i, s.Hi)}
		v.SentBy.Hi = v.Port.Hi
	}
	v.PortNum = portNumber(v.Port.of(b))
	return true
}

func (v *Via) parseParams(b []byte) {
	p := params{b: b, pos: v.Params.Lo, hi: v.Params.Hi}
	for {
		q, ok := p.next()
		if !ok {
			return
		}
		name := q.name.of(b)
		switch len(name) {
		case 5:
			if equalName(name, "rport") && !v.HasRPort {
				v.HasRPort = true
				v.RPort = q.value
				v.RPortParam = q.all
			} else if equalName(name, "maddr") && v.Maddr.Empty() {
				v.Maddr = q.value
			}
		case 6:
			if equalName(name, "branch") && v.Branch.Empty() {
				v.Branch = q.value
			}
		case 8:
			if equalName(name, "received") && v.ReceivedParam.Empty() {
				v.Received = q.value
				v.ReceivedParam = q.all
			}
		}
	}
}
