package nft

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"sipnatd/internal/netspace"
)

// What a batch has leased is what the next daemon finds.
func TestMappings(t *testing.T) {
	netspace.New(t)
	table := open(t, reference())
	var (
		phone, onlyPeer = ap("10.1.0.2:5060"), netip.MustParseAddr("203.0.113.1")
		stream, shut    = ap("10.1.0.2:4000"), ap("10.1.0.2:4002")
		hosts           = []netip.Addr{netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.3")}
	)
	var b Batch
	b.MapBinding(phone, ap("198.51.100.1:5060"), time.Hour)
	b.AllowPeer(onlyPeer, ap("198.51.100.1:5060"), time.Hour)
	b.MapStream(stream, ap("198.51.100.1:7000"), time.Minute)
	b.AllowSource(hosts[0], stream, time.Minute)
	b.AllowSource(hosts[1], stream, time.Minute)
	b.OpenSource(stream, time.Minute)
	b.MapStream(shut, ap("198.51.100.1:7002"), time.Minute)
	must(t, table.Commit(&b))

	got, err := table.Mappings()
	must(t, err)
	want := map[netip.AddrPort]Mapping{
		phone:  {Public: ap("198.51.100.1:5060"), Hosts: []netip.Addr{onlyPeer}, Expires: time.Hour},
		stream: {Public: ap("198.51.100.1:7000"), Hosts: hosts, Open: true, Stream: true, Expires: time.Minute},
		shut:   {Public: ap("198.51.100.1:7002"), Stream: true, Expires: time.Minute},
	}
	if len(got) != len(want) {
		t.Errorf("%d mappings, want %d", len(got), len(want))
	}
	for _, m := range got {
		w := want[m.Inside]
		slices.SortFunc(m.Hosts, netip.Addr.Compare)
		if m.Public != w.Public || m.Stream != w.Stream || m.Open != w.Open || !slices.Equal(m.Hosts, w.Hosts) ||
			m.Expires > w.Expires || m.Expires < w.Expires-10*time.Second {
			t.Errorf("%v: %+v, want %+v", m.Inside, m, w)
		}
	}
}
