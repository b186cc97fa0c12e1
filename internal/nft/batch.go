package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Leases are kept within these bounds.
const (
	minLease = time.Second
	maxLease = 30 * 24 * time.Hour
)

// knownLease is the least time for which a host that an inside phone has sent to
// is exempt from the rate limit on strangers.
const knownLease = time.Hour

// cell is a key or the data of an element, laid out as in the kernel's registers:
// addresses and a port in network byte order, each in 4 bytes of its own. The
// set's shape tells how much of it counts.
type cell [12]byte

// op is one change of one element.
type op struct {
	set    set
	remove bool
	key    cell
	data   cell   // of maps: what is to be there
	stale  cell   // of maps: what may be there before
	millis uint64 // lease
}

// Batch collects changes for [Table.Commit]. They take effect in the order of the
// calls, all at once. The zero value is empty and ready; Reset makes it so again
// and keeps its memory. A Batch is for one goroutine at a time.
//
// Leases run from Commit. To renew one, make the same call again; adding what is
// there already and removing what is not there are no errors. All addresses are
// IPv4, any other makes Commit fail.
type Batch struct {
	ops []op
	err error
}

// Reset empties the batch.
func (b *Batch) Reset() {
	b.ops = b.ops[:0]
	b.err = nil
}

// Len is the number of element changes so far.
func (b *Batch) Len() int { return len(b.ops) }

// String lists the changes, one a line, such as
// "add streams 203.0.113.1:7070 = 10.0.0.10:4000 for 4m0s" or "delete open 10.0.0.10:4000".
func (b *Batch) String() string {
	var s strings.Builder
	for i := range b.ops {
		o := &b.ops[i]
		spec := o.set.spec()
		if o.remove {
			fmt.Fprintf(&s, "delete %s %s\n", spec.name, o.key.text(spec.key))
			continue
		}
		fmt.Fprintf(&s, "add %s %s", spec.name, o.key.text(spec.key))
		if spec.data != none {
			fmt.Fprintf(&s, " = %s", o.data.text(spec.data))
		}
		fmt.Fprintf(&s, " for %v\n", time.Duration(o.millis)*time.Millisecond)
	}
	return s.String()
}

// text shows what is in a cell of a shape.
func (c cell) text(s shape) string {
	host := netip.AddrFrom4([4]byte(c[:4])).String()
	switch s {
	case endpoint:
		return readEndpoint(c[:]).String()
	case protocol:
		return fmt.Sprintf("protocol %d", c[0])
	case hostPair:
		return host + " . " + readEndpoint(c[4:]).String()
	}
	return host
}

// MapBinding makes inside and public each other's translation, for signalling, and
// has what is sent from and to inside diverted. Who is not let in by AllowPeer or
// the configuration does not reach the firewall itself by way of public either.
func (b *Batch) MapBinding(inside, public netip.AddrPort, lease time.Duration) {
	b.put(mapBindings, b.endpoint(public), b.endpoint(inside), lease)
	b.put(setBound, b.endpoint(public), cell{}, lease)
	b.put(mapPublics, b.endpoint(inside), b.endpoint(public), lease)
	b.put(setSignalling, b.endpoint(inside), cell{}, lease)
}

// MapStream makes inside and public each other's translation, for media, and puts
// inside under the guard: nobody outside may send until AllowSource or OpenSource.
func (b *Batch) MapStream(inside, public netip.AddrPort, lease time.Duration) {
	b.put(mapStreams, b.endpoint(public), b.endpoint(inside), lease)
	b.put(mapPublics, b.endpoint(inside), b.endpoint(public), lease)
	b.put(setGuarded, b.endpoint(inside), cell{}, lease)
}

// Unmap ends a binding or a stream. Flows that exist keep their translation until
// their conntrack entries are deleted; for a stream see KeepGuard.
func (b *Batch) Unmap(inside, public netip.AddrPort, stream bool) {
	b.drop(mapPublics, b.endpoint(inside), b.endpoint(public))
	if !stream {
		b.drop(mapBindings, b.endpoint(public), b.endpoint(inside))
		b.drop(setBound, b.endpoint(public), cell{})
		b.drop(setSignalling, b.endpoint(inside), cell{})
		return
	}
	b.drop(mapStreams, b.endpoint(public), b.endpoint(inside))
	b.drop(setGuarded, b.endpoint(inside), cell{})
	b.drop(setOpen, b.endpoint(inside), cell{})
}

// KeepGuard, after Unmap in the same batch, leaves a stream's inside endpoint under
// the guard for a while, so that a flow that conntrack still knows is stopped at
// once. Sources that were allowed must be revoked as well.
func (b *Batch) KeepGuard(inside netip.AddrPort, linger time.Duration) {
	b.put(setGuarded, b.endpoint(inside), cell{}, linger)
}

// AllowPeer lets the host peer reach the binding at public.
func (b *Batch) AllowPeer(peer netip.Addr, public netip.AddrPort, lease time.Duration) {
	b.put(setPeers, b.hostPair(peer, public), cell{}, lease)
	b.put(setKnown, b.host(peer), cell{}, max(lease, knownLease))
}

// Know exempts a host from the rate limit on strangers.
func (b *Batch) Know(host netip.Addr, lease time.Duration) {
	b.put(setKnown, b.host(host), cell{}, lease)
}

// RevokePeer ends AllowPeer. The host stays exempt from the rate limit for a while.
func (b *Batch) RevokePeer(peer netip.Addr, public netip.AddrPort) {
	b.drop(setPeers, b.hostPair(peer, public), cell{})
}

// AllowSource lets the host src send to the stream at inside, from any port.
func (b *Batch) AllowSource(src netip.Addr, inside netip.AddrPort, lease time.Duration) {
	b.put(setSources, b.hostPair(src, inside), cell{}, lease)
}

// RevokeSource ends AllowSource.
func (b *Batch) RevokeSource(src netip.Addr, inside netip.AddrPort) {
	b.drop(setSources, b.hostPair(src, inside), cell{})
}

// OpenSource lets every host send to the stream at inside.
func (b *Batch) OpenSource(inside netip.AddrPort, lease time.Duration) {
	b.put(setOpen, b.endpoint(inside), cell{}, lease)
}

// CloseSource ends OpenSource.
func (b *Batch) CloseSource(inside netip.AddrPort) {
	b.drop(setOpen, b.endpoint(inside), cell{})
}

// Serve says that a daemon listens, or will again before lease is over: SIP that comes
// meanwhile to a queue waits for it, or is dropped, even where Config.Bypass is set, and
// nobody who sends to its own sockets is told that they are not there.
func (b *Batch) Serve(lease time.Duration) {
	b.put(setServing, cell{unix.IPPROTO_UDP}, cell{}, lease)
	b.put(setServing, cell{unix.IPPROTO_ICMP}, cell{}, lease)
}

func (b *Batch) put(s set, key, data cell, lease time.Duration) {
	lease = min(max(lease, minLease), maxLease)
	b.ops = append(b.ops, op{set: s, key: key, data: data, stale: data, millis: uint64(lease.Milliseconds())})
}

func (b *Batch) drop(s set, key, data cell) {
	b.ops = append(b.ops, op{set: s, remove: true, key: key, data: data, stale: data,
		millis: uint64(minLease.Milliseconds())})
}

// host lays out an address.
func (b *Batch) host(a netip.Addr) (c cell) {
	b.address(c[0:4], a)
	return c
}

// endpoint lays out address . port.
func (b *Batch) endpoint(e netip.AddrPort) (c cell) {
	b.address(c[0:4], e.Addr())
	binary.BigEndian.PutUint16(c[4:], e.Port())
	return c
}

// hostPair lays out address . address . port.
func (b *Batch) hostPair(host netip.Addr, e netip.AddrPort) (c cell) {
	b.address(c[0:4], host)
	b.address(c[4:8], e.Addr())
	binary.BigEndian.PutUint16(c[8:], e.Port())
	return c
}

func (b *Batch) address(dst []byte, a netip.Addr) {
	a = a.Unmap()
	if !a.Is4() {
		if b.err == nil {
			b.err = fmt.Errorf("nft: %v is not an IPv4 address", a)
		}
		return
	}
	four := a.As4()
	copy(dst, four[:])
}

// readEndpoint is the reverse of endpoint.
func readEndpoint(c []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(c)), binary.BigEndian.Uint16(c[4:]))
}
