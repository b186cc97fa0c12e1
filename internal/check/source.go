package check

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// sysctls gives the value of a sysctl, by its name in the form of a path, such as
// net/ipv4/ip_forward.
type sysctls func(path string) (string, error)

// sysctl asks the kernel, about the network namespace of the calling thread.
func sysctl(path string) (string, error) {
	text, err := os.ReadFile("/proc/sys/" + path)
	return strings.TrimSpace(string(text)), err
}

// number is a sysctl that is one.
func (s sysctls) number(path string) (int, error) {
	text, err := s(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// set is the command that gives a sysctl another value. A name with dots in it, such
// as that of a VLAN, needs the form of a path.
func set(path string, value any) string {
	if !strings.Contains(path, ".") {
		path = strings.ReplaceAll(path, "/", ".")
	}
	if text, ok := value.(string); ok {
		value = strconv.Quote(text)
	}
	return fmt.Sprintf("sysctl -w %s=%v", path, value)
}

// nameTimeout bounds the wait for the address of a name.
const nameTimeout = 3 * time.Second

// resolve looks a name up.
func resolve(host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), nameTimeout)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
}

// sipServers are the hosts that a domain's SRV records for SIP over UDP name.
func sipServers(domain string) []string {
	ctx, cancel := context.WithTimeout(context.Background(), nameTimeout)
	defer cancel()
	_, records, _ := net.DefaultResolver.LookupSRV(ctx, "sip", "udp", domain) // without an answer there is none
	var all []string
	for _, r := range records {
		all = append(all, r.Target)
	}
	return all
}
