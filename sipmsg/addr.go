package sipmsg

import (
	"net/netip"
	"strconv"
)

// ParseAddr reads an IPv4 address, or an IPv6 address with or without
// brackets, that is all of b. Names, zones, ports and leading zeros in IPv4
// (read as decimal by some, as octal by others) are refused. Unlike
// [netip.ParseAddr] it never allocates.
func ParseAddr(b []byte) (netip.Addr, bool) {
	if len(b) < 2 {
		return netip.Addr{}, false
	}
	if b[0] == '[' {
		if b[len(b)-1] != ']' {
			return netip.Addr{}, false
		}
		return parseIPv6(b[1 : len(b)-1])
	}
	if isDigit(b[0]) {
		if a, ok := parseIPv4(b); ok {
			return netip.AddrFrom4(a), true
		}
	}
	return parseIPv6(b)
}

func parseIPv4(b []byte) (a [4]byte, ok bool) {
	field, value, digits := 0, 0, 0
	for _, c := range b {
		switch {
		case isDigit(c):
			if digits > 0 && value == 0 {
				return a, false
			}
			value = value*10 + int(c-'0')
			digits++
			if value > 255 {
				return a, false
			}
		case c == '.':
			if digits == 0 || field == 3 {
				return a, false
			}
			a[field] = byte(value)
			field, value, digits = field+1, 0, 0
		default:
			return a, false
		}
	}
	if field != 3 || digits == 0 {
		return a, false
	}
	a[3] = byte(value)
	return a, true
}

// parseIPv6 reads the forms of RFC 4291 section 2.2.
func parseIPv6(b []byte) (netip.Addr, bool) {
	var a [16]byte
	none := netip.Addr{}
	gap := -1 // position in a of the "::"
	n := 0    // bytes of a filled
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		gap = 0
		b = b[2:]
	}
	for len(b) > 0 && n < 16 {
		i, v := 0, 0
		for i < len(b) && i < 5 {
			d, ok := hexDigit(b[i])
			if !ok {
				break
			}
			v = v<<4 | d
			i++
		}
		if i == 0 || i > 4 {
			return none, false
		}
		if i < len(b) && b[i] == '.' { // the last four bytes as IPv4
			if n > 12 || (gap < 0 && n != 12) {
				return none, false
			}
			v4, ok := parseIPv4(b)
			if !ok {
				return none, false
			}
			n += copy(a[n:], v4[:])
			b = nil
			break
		}
		a[n], a[n+1] = byte(v>>8), byte(v)
		n += 2
		if b = b[i:]; len(b) == 0 {
			break
		}
		if b[0] != ':' || len(b) == 1 {
			return none, false
		}
		b = b[1:]
		if b[0] == ':' {
			if gap >= 0 {
				return none, false
			}
			gap = n
			b = b[1:]
		}
	}
	if len(b) > 0 {
		return none, false
	}
	if n < 16 {
		if gap < 0 {
			return none, false
		}
		tail := n - gap
		copy(a[16-tail:], a[gap:n])
		clear(a[gap : 16-tail])
	} else if gap >= 0 {
		return none, false
	}
	return netip.AddrFrom16(a), true
}

func hexDigit(c byte) (int, bool) {
	switch {
	case isDigit(c):
		return int(c - '0'), true
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10, true
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10, true
	}
	return 0, false
}

// AppendHostPort appends addr as a SIP host, an IPv6 address in brackets, and
// ":port" unless port is 0. It is what HostPort and SentBy spans are replaced
// with. In SDP, where addresses have no brackets, use [netip.Addr.AppendTo].
func AppendHostPort(dst []byte, addr netip.Addr, port int) []byte {
	if addr.Is4() {
		dst = addr.AppendTo(dst)
	} else {
		dst = append(dst, '[')
		dst = addr.AppendTo(dst)
		dst = append(dst, ']')
	}
	if port != 0 {
		dst = append(dst, ':')
		dst = AppendPort(dst, port)
	}
	return dst
}

// AppendPort appends port in decimal, as it stands in URIs, Via and SDP.
func AppendPort(dst []byte, port int) []byte {
	return strconv.AppendInt(dst, int64(port), 10)
}
