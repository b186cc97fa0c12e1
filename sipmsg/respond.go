package sipmsg

import "strconv"

// ResponseOptions is what a response has besides what it takes from its request.
type ResponseOptions struct {
	ToTag       string // added to a To without tag; responses other than 100 need one
	Headers     []byte // whole header lines, each ended by CRLF
	ContentType string // of Body
	Body        []byte
}

// AppendResponse appends a response to the request req (RFC 3261 section 8.2.6):
// Vias, From, To, Call-ID and CSeq are those of the request, byte for byte. An empty
// reason stands for the usual one of the status. A 100 gets the Timestamp, too.
func AppendResponse(dst []byte, req *Message, status int, reason string, opts ResponseOptions) []byte {
	if reason == "" {
		reason = StatusText(status)
	}
	dst = append(dst, "SIP/2.0 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(append(dst, ' '), reason...)
	dst = append(dst, "\r\n"...)
	for _, h := range req.Headers {
		switch h.Kind {
		case HdrVia, HdrFrom, HdrCallID, HdrCSeq:
		case HdrTo:
			if req.ToTag.Empty() && opts.ToTag != "" {
				dst = append(dst, req.Raw[h.Line.Lo:h.Value.Hi]...)
				dst = append(append(dst, ";tag="...), opts.ToTag...)
				dst = append(dst, "\r\n"...)
				continue
			}
		default:
			if status != 100 || !EqualFold(h.Name.of(req.Raw), "timestamp") {
				continue
			}
		}
		dst = append(dst, req.Raw[h.Line.Lo:h.Value.Hi]...)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, opts.Headers...)
	if len(opts.Body) > 0 {
		dst = append(append(dst, "Content-Type: "...), opts.ContentType...)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(opts.Body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, opts.Body...)
}

// StatusText returns the usual reason phrase of a status (RFC 3261 section 21), that
// of its class if it is not known.
func StatusText(status int) string {
	switch status {
	case 100:
		return "Trying"
	case 180:
		return "Ringing"
	case 200:
		return "OK"
	case 202:
		return "Accepted"
	case 302:
		return "Moved Temporarily"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 407:
		return "Proxy Authentication Required"
	case 408:
		return "Request Timeout"
	case 416:
		return "Unsupported URI Scheme"
	case 420:
		return "Bad Extension"
	case 423:
		return "Interval Too Brief"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 482:
		return "Loop Detected"
	case 483:
		return "Too Many Hops"
	case 487:
		return "Request Terminated"
	case 488:
		return "Not Acceptable Here"
	case 500:
		return "Server Internal Error"
	case 503:
		return "Service Unavailable"
	case 513:
		return "Message Too Large"
	}
	switch status / 100 {
	case 1:
		return "Progress"
	case 2:
		return "OK"
	case 3:
		return "Redirected"
	case 4:
		return "Refused"
	case 5:
		return "Server Failure"
	}
	return "Declined"
}
