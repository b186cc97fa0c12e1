package sipmsg

// Scheme is the scheme of a URI.
type Scheme uint8

// The schemes that are known by name.
const (
	SchemeNone  Scheme = iota // there is no scheme, so no URI
	SchemeSIP                 // sip
	SchemeSIPS                // sips
	SchemeTel                 // tel (RFC 3966)
	SchemeOther               // any other
)

// URI is a URI. Only a SIP or SIPS URI is taken apart; of others the spans
// below Scheme are absent.
type URI struct {
	All    Span
	Scheme Scheme

	User     Span // with a password, without the "@"
	HostPort Span // host and, if present, colon and port: what an edit of the address replaces
	Host     Span // an IPv6 reference with its brackets
	Port     Span // digits, or what stands in their place
	Params   Span // URI parameters, from the first ";"
	Headers  Span // from the "?"

	PortNum int // 1 to 65535; 0 if the port is absent or is not a port
}

// ParseURI reads a URI that stands by itself and is all of b, to which its spans
// refer.
func ParseURI(b []byte) URI { return parseURI(b, 0, int32(len(b))) }

// parseURI reads the URI that fills [lo, hi), in which there is no outer
// white space.
func parseURI(b []byte, lo, hi int32) URI {
	u := URI{All: Span{lo, hi}}
	i := lo
	for i < hi && isScheme(b[i]) {
		i++
	}
	if i == lo || i == hi || b[i] != ':' || !isLetter(b[lo]) {
		return u
	}
	switch scheme := b[lo:i]; {
	case EqualFold(scheme, "sip"):
		u.Scheme = SchemeSIP
	case EqualFold(scheme, "sips"):
		u.Scheme = SchemeSIPS
	case EqualFold(scheme, "tel"):
		u.Scheme = SchemeTel
		return u
	default:
		u.Scheme = SchemeOther
		return u
	}
	i++
	// The user part may hold ";" and "?" and even ":" (RFC 3261 section
	// 25.1), but "@" only as its end.
	if at := index(b, i, hi, '@'); at >= 0 {
		u.User = Span{i, at}
		i = at + 1
	}
	end := i
	for end < hi && class[b[end]]&endHost == 0 {
		end++
	}
	u.Host, u.Port, u.HostPort = splitHostPort(b, i, end)
	u.PortNum = portNumber(u.Port.of(b))
	if end == hi {
		return u
	}
	if q := index(b, end, hi, '?'); q >= 0 {
		u.Headers = Span{q, hi}
		hi = q
	}
	if semi := index(b, end, hi, ';'); semi >= 0 {
		u.Params = Span{semi, hi}
	}
	return u
}

// splitHostPort takes host[:port] apart, which fills [lo, hi). An IPv6
// address that lacks its brackets is all host: nobody can tell its port.
func splitHostPort(b []byte, lo, hi int32) (host, port, hostPort Span) {
	if lo >= hi {
		return
	}
	hostPort = Span{lo, hi}
	var colon int32
	if b[lo] == '[' {
		colon = index(b, lo, hi, ']') + 1
		if colon == 0 || (colon < hi && b[colon] != ':') {
			return hostPort, Span{}, hostPort // no reference: not an address
		}
	} else {
		colon = index(b, lo, hi, ':')
		if colon < 0 || index(b, colon+1, hi, ':') >= 0 {
			return hostPort, Span{}, hostPort
		}
	}
	host = Span{lo, colon}
	if colon < hi {
		port = Span{colon + 1, hi}
	}
	return host, port, hostPort
}
