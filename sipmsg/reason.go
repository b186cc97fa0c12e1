package sipmsg

// Reason says why bytes were refused. It is an error with a static value: it
// can be compared, used as an index of counters, and costs no allocation.
type Reason uint8

const (
	// ErrKeepAlive: nothing but CR, LF, NUL, blanks, or nothing at all. Not a
	// fault: such datagrams hold NAT bindings open (RFC 5626 section 4.4.1).
	ErrKeepAlive Reason = iota + 1
	// ErrSize: longer than MaxSize, or with more than MaxHeaders headers.
	ErrSize
	// ErrNotSIP: the first line is not that of a SIP message.
	ErrNotSIP
	// ErrVersion: the first line names a SIP version other than 2.0.
	ErrVersion
	// ErrStartLine: the first line is SIP but malformed: control characters,
	// white space within the Request-URI, a Request-URI without a scheme, a
	// status code that is not 100 to 699 (RFC 3261 sections 7.1 and 7.2).
	ErrStartLine
	// ErrHeader: a header line has no name, no colon, or a carriage return
	// that is not part of its line end.
	ErrHeader
	// ErrTruncated: the bytes end before the empty line that ends the headers.
	ErrTruncated
	// ErrDuplicate: From, To, Call-ID, CSeq, Content-Length or Content-Type
	// stand there twice and differ.
	ErrDuplicate
	// ErrNoVia: there is no Via header.
	ErrNoVia
	// ErrVia: the topmost Via has no protocol, transport or sent-by.
	ErrVia
	// ErrNoFrom: the From header is missing or empty.
	ErrNoFrom
	// ErrNoTo: the To header is missing or empty.
	ErrNoTo
	// ErrNoCallID: the Call-ID header is missing or empty.
	ErrNoCallID
	// ErrNoCSeq: there is no CSeq header.
	ErrNoCSeq
	// ErrCSeq: CSeq is not a number below 2**32 and a method.
	ErrCSeq
	// ErrCSeqMethod: the method in CSeq is not that of the request.
	ErrCSeqMethod
	// ErrContentLength: Content-Length is not a number.
	ErrContentLength
	// ErrNoContentLength: a message in a stream has no Content-Length (RFC 3261
	// section 20.14).
	ErrNoContentLength
	// ErrShortBody: the body is shorter than Content-Length says (RFC 3261
	// section 18.3).
	ErrShortBody
	// ErrNotSDP: the body does not begin with the version line v=0.
	ErrNotSDP
	// ErrSDPSize: the session description has more parts than any real one.
	ErrSDPSize

	reasonEnd
)

// Reasons is one more than the greatest Reason: the length of an array of
// counters that is indexed by Reason.
const Reasons = int(reasonEnd)

// Name is a short, stable, lower-case name for counters and logs, such as
// "short_body".
func (r Reason) Name() string {
	switch r {
	case ErrKeepAlive:
		return "keepalive"
	case ErrSize:
		return "size"
	case ErrNotSIP:
		return "not_sip"
	case ErrVersion:
		return "version"
	case ErrStartLine:
		return "start_line"
	case ErrHeader:
		return "header"
	case ErrTruncated:
		return "truncated"
	case ErrDuplicate:
		return "duplicate"
	case ErrNoVia:
		return "no_via"
	case ErrVia:
		return "via"
	case ErrNoFrom:
		return "no_from"
	case ErrNoTo:
		return "no_to"
	case ErrNoCallID:
		return "no_call_id"
	case ErrNoCSeq:
		return "no_cseq"
	case ErrCSeq:
		return "cseq"
	case ErrCSeqMethod:
		return "cseq_method"
	case ErrContentLength:
		return "content_length"
	case ErrNoContentLength:
		return "no_content_length"
	case ErrShortBody:
		return "short_body"
	case ErrNotSDP:
		return "not_sdp"
	case ErrSDPSize:
		return "sdp_size"
	}
	return "unknown"
}

// Error describes the refusal in a few words.
func (r Reason) Error() string {
	switch r {
	case ErrKeepAlive:
		return "sipmsg: keep-alive"
	case ErrSize:
		return "sipmsg: message too large"
	case ErrNotSIP:
		return "sipmsg: not SIP"
	case ErrVersion:
		return "sipmsg: SIP version is not 2.0"
	case ErrStartLine:
		return "sipmsg: malformed start line"
	case ErrHeader:
		return "sipmsg: malformed header line"
	case ErrTruncated:
		return "sipmsg: message ends within its headers"
	case ErrDuplicate:
		return "sipmsg: contradicting duplicates of a header"
	case ErrNoVia:
		return "sipmsg: no Via"
	case ErrVia:
		return "sipmsg: malformed topmost Via"
	case ErrNoFrom:
		return "sipmsg: no From"
	case ErrNoTo:
		return "sipmsg: no To"
	case ErrNoCallID:
		return "sipmsg: no Call-ID"
	case ErrNoCSeq:
		return "sipmsg: no CSeq"
	case ErrCSeq:
		return "sipmsg: malformed CSeq"
	case ErrCSeqMethod:
		return "sipmsg: CSeq names another method than the request"
	case ErrContentLength:
		return "sipmsg: malformed Content-Length"
	case ErrNoContentLength:
		return "sipmsg: no Content-Length in a stream"
	case ErrShortBody:
		return "sipmsg: body shorter than Content-Length"
	case ErrNotSDP:
		return "sipmsg: not SDP"
	case ErrSDPSize:
		return "sipmsg: session description too large"
	}
	return "sipmsg: unknown reason"
}
