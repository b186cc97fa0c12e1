// Package divert takes UDP datagrams out of the kernel through NFQUEUE, shows
// each one to a [Handler] and gives the kernel exactly one verdict for it:
// let it pass as it is, drop it, or send it on with another payload.
//
// # A packet's way
//
// A rule in the forward hook sends packets to one of a few queues. Each queue
// has a netlink socket and a worker, one goroutine, which reads one packet,
// takes off the IP and UDP headers, calls the handler, builds the new packet in
// a buffer of its own and writes the verdict. Reading, rewriting and the
// verdict allocate nothing; what the handler allocates is its own affair. All
// packets of a flow have to be sent to the same queue, so a worker sees them in
// order; different workers call the handler concurrently.
//
// # One verdict, always
//
// A packet without a verdict would stay in the kernel until the queue is
// unbound. Whatever happens once a packet's id is known, a verdict follows: a
// packet that is not a whole UDP datagram with a right checksum passes
// unchanged and is counted with its [Reason]; a panic, the handler's or this
// package's own, is caught, logged and answered with the verdict of
// [Config.OnPanic]. When [Divert.Run] is told to stop it first serves what
// already waits, then unbinds; the kernel drops what arrives in between, and
// the sender of SIP repeats it.
//
// When packets come faster than the handler can look at them, the kernel drops
// those beyond [Config.MaxLen] and counts them ([KernelStats]). It is never
// asked to "fail open": a message that passes unseen would carry private
// addresses out.
//
// # What a rewrite changes
//
// The payload, and in the headers only what must follow from it: the lengths
// and checksums, and in an IPv4 header that would grow beyond what the sender
// believed to fit, Don't Fragment is cleared, because the "fragmentation
// needed" that the sender would otherwise get is one it cannot act upon (its
// packet did fit). A cleared packet with identification zero, which is what
// many systems put into unfragmentable packets, gets a fresh one, lest
// fragments of different datagrams be put together (RFC 6864, section 4).
// Options, extension headers, time to live, traffic class and flow label stay.
// Bytes between the end of the UDP datagram and the end of the IP packet (RFC
// 9868) are not carried over.
//
// The kernel divides a rewritten IPv4 packet that is larger than the outgoing
// MTU into fragments. IPv6 has no fragments made on the way.
//
// # Privileges
//
// Opening a queue and giving verdicts both need CAP_NET_ADMIN in the user
// namespace that owns the network namespace; a daemon that changes its user
// has to keep that capability.
package divert
