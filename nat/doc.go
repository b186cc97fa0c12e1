// Package nat is the engine of sipnatd: what a SIP message means for a
// masquerading firewall, how it must change, and which streams it opens.
//
// The package is pure. It does no I/O and reads no clock: the time, the port
// numbers' randomness and the kernel are injected, so that every decision can
// be tested with bytes in and bytes out.
//
// # Vocabulary
//
// A mapping joins one inside endpoint (address and UDP port of a host behind
// the firewall) to one public endpoint (an address of the firewall's outside
// interface). A binding is the mapping of a signalling endpoint; it lives as
// long as the registration that it serves, or while there is traffic. A stream
// of media has a mapping for RTP and one for RTCP, on an even public port and
// its odd neighbour. Streams belong to inside endpoints and are counted: every
// session that an offer or an answer describes holds the mappings it names, and
// a mapping that nobody holds is closed.
//
// A call is the pair of a Call-ID and an inside signalling endpoint. It has
// transactions (RFC 3261 section 17), which carry offers, and dialogs
// (section 12), which have a session each.
//
// What the kernel cannot know of all this is written to a Journal, as one record for
// each binding, call and transaction, so that the next process can go on with it:
// Adopt tells its engine what is in the kernel, Restore and Resume what is in the
// records, and Keep gives it a journal of its own.
//
// # Use
//
// An Engine is shared, a Worker belongs to one goroutine:
//
//	engine := nat.New(config, kernel, clock, random, logger)
//	worker := engine.NewWorker()
//	result := worker.Handle(&nat.Packet{...})
//
// Handle returns when the kernel has acknowledged every change that the message
// asks for; only then may the packet be sent on. Tick must be called about once
// a second.
//
// # Debug messages
//
// Debug messages have an attribute "class", which the logger's handler gets by
// WithAttrs, so that it can refuse a class before a message is made: sip (messages
// and what is replaced in them), reg (bindings and registrations), rtp (streams),
// net (what the kernel is asked for), access (every refusal, of which the warnings
// tell once in a while) and nettraf (whole messages, without credentials and keys).
package nat
