// Package sipmsg reads and edits SIP messages and SDP session descriptions
// as bytes.
//
// A message is indexed once: [Message.Index] and [SDP.Index] walk over the
// datagram and record where its parts are, as half-open byte ranges ([Span])
// of the original bytes. Nothing is copied, unescaped or normalised. A change
// is a replacement of a span; [Edits] collects replacements and splices them
// into a new datagram in one go, so whatever was not meant stays byte for byte
// what the sender wrote: compact and folded headers, odd white space, quoting
// and line ends included.
//
//	var m sipmsg.Message
//	if err := m.Index(datagram); err != nil {
//		return err // a Reason: not SIP, or not a complete message
//	}
//	var e sipmsg.Edits
//	e.Reset(datagram)
//	e.Replace(m.Via.SentBy, []byte("203.0.113.7:5060"))
//	e.FixContentLength(&m)
//	out, err := e.Splice(buf)
//
// The types are made to be reused: after the first few messages neither
// indexing nor editing allocates. A Message, SDP or Edits must not be used by
// two goroutines at once, and it refers to the datagram given to it, which
// must stay unchanged for as long as the spans are used.
//
// # What is accepted
//
// The reader stands in the middle of the network, so it asks two things only:
// is this one complete SIP message from its first byte on, and where are the
// addresses? The start line, the mandatory headers, the numbers that frame or
// identify the message, and the agreement of CSeq with the method are judged
// strictly, because an attacker can make a browser send text of his choice to
// port 5060 (NAT slipstreaming). Everything else is read as liberally as
// ordinary devices require. See [Reason] for the refusals.
//
// The package follows RFC 3261 (SIP), RFC 3581 (rport), RFC 4566 and 8866
// (SDP), RFC 3605 (a=rtcp), RFC 5761 (a=rtcp-mux), RFC 8839 (a=candidate),
// RFC 4975 (a=path) and RFC 2046 (multipart). The messages of RFC 4475 and
// RFC 5118 are its tests. It does no I/O and holds no policy.
package sipmsg
