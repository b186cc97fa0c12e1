package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

func parseNetwork(v string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(v)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(v); err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%s is neither an IPv4 address nor a network such as 192.0.2.0/24%s", quoted(v), nearestNetwork(v))
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if !p.Addr().Is4() {
		return netip.Prefix{}, fmt.Errorf("%s: IPv6 is not supported yet", quoted(v))
	}
	return p.Masked(), nil
}

// nearestNetwork asks whether a network was meant, for a netmask in place of the
// number of bits, for too many bits and for an address without its last zeros.
func nearestNetwork(v string) string {
	address, mask, _ := strings.Cut(v, "/")
	for strings.Count(address, ".") < 3 {
		address += ".0"
	}
	bits := 32
	if n, err := strconv.Atoi(mask); err == nil {
		bits = min(max(n, 0), 32)
	} else if m, err := netip.ParseAddr(mask); err == nil && m.Is4() {
		if ones, size := net.IPMask(m.AsSlice()).Size(); size > 0 {
			bits = ones
		}
	}
	a, err := netip.ParseAddr(address)
	if err != nil || mask == "" || !a.Is4() {
		return ""
	}
	return didYouMean(netip.PrefixFrom(a, bits).Masked().String())
}

// parseAccess accepts a network, or a host name with the number of bits.
func parseAccess(v string) (Access, error) {
	name, mask, _ := strings.Cut(v, "/")
	if _, err := parseName(name); err == nil {
		bits := 32
		if mask != "" {
			if bits, err = strconv.Atoi(mask); err != nil || bits < 0 || bits > 32 {
				return Access{}, fmt.Errorf("%s: the number of bits after the / is 0 to 32; did you mean %s/32?", quoted(v), printable(name))
			}
		}
		return Access{Name: name, Bits: bits}, nil
	}
	network, err := parseNetwork(v)
	return Access{Network: network, Bits: max(network.Bits(), 0)}, err
}

// parseAnnounced accepts a host whose address can be told to the outside.
func parseAnnounced(v string) (string, error) {
	if a, err := netip.ParseAddr(v); err == nil && (a.IsUnspecified() || a.IsMulticast() || a.IsLoopback()) {
		return "", fmt.Errorf("%s cannot be announced", quoted(v))
	}
	return parseHost(v)
}

// parseHost accepts an IPv4 address or a host name.
func parseHost(v string) (string, error) {
	if a, err := netip.ParseAddr(v); err == nil {
		if !a.Is4() {
			return "", fmt.Errorf("%s: IPv6 is not supported yet", quoted(v))
		}
		return v, nil
	}
	return parseName(v)
}

// parseDomain accepts a host name, and returns it as it is compared.
func parseDomain(v string) (string, error) {
	if _, err := netip.ParseAddr(v); err == nil {
		return "", fmt.Errorf("%s is an address: those of the firewall are its own without being named", quoted(v))
	}
	name, err := parseName(v)
	return strings.ToLower(strings.TrimSuffix(name, ".")), err
}

// parseName accepts a host name (RFC 1123, section 2.1).
func parseName(v string) (string, error) {
	name := strings.TrimSuffix(v, ".")
	if name == "" || len(name) > 253 {
		return "", fmt.Errorf("%s is neither an address nor a host name", quoted(v))
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !isLetterDigit(r) && r != '-' }) {
			return "", fmt.Errorf("%s is neither an address nor a host name", quoted(v))
		}
	}
	if last := labels[len(labels)-1]; last[0] >= '0' && last[0] <= '9' {
		return "", fmt.Errorf("%s is not a complete IPv4 address", quoted(v))
	}
	return v, nil
}

func isLetterDigit(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
