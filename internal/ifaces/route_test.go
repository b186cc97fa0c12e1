package ifaces

import (
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"sipnatd/internal/netspace"
)

// TestRoute: the kernel says where a packet leaves, and whether one that comes from
// there would be taken.
func TestRoute(t *testing.T) {
	netspace.New(t)
	strict := func(interfaces ...string) {
		for _, name := range interfaces {
			must(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte("1"), 0))
		}
	}
	wan := addLink(t, "wan", 1500, "192.0.2.9/24")
	other := addLink(t, "other", 1500, "203.0.113.1/24")
	must(t, netlink.RouteAdd(defaultRoute(wan, "192.0.2.1", 0)))
	far := netip.MustParseAddr("198.51.100.7")

	if index, err := Leaves(far); err != nil || index != uint32(wan.Attrs().Index) {
		t.Errorf("leaves through %d (%v), want %d", index, err, wan.Attrs().Index)
	}
	arrives := func(l netlink.Link, own string) error {
		return Arrives(far, netip.MustParseAddr(own), uint32(l.Attrs().Index))
	}
	must(t, arrives(wan, "192.0.2.9"))
	must(t, arrives(other, "203.0.113.1"))
	strict("wan", "other")
	must(t, arrives(wan, "192.0.2.9"))
	if arrives(other, "203.0.113.1") == nil {
		t.Error("a packet that rp_filter drops would be taken")
	}
	must(t, Arrives(netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.1"), uint32(other.Attrs().Index)))
}
