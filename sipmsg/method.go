package sipmsg

// Method is a request method.
type Method uint8

// The methods that are known by name. Any other token is MethodOther.
const (
	MethodOther     Method = iota
	MethodInvite           // RFC 3261
	MethodAck              // RFC 3261
	MethodBye              // RFC 3261
	MethodCancel           // RFC 3261
	MethodRegister         // RFC 3261
	MethodOptions          // RFC 3261
	MethodPrack            // RFC 3262
	MethodUpdate           // RFC 3311
	MethodSubscribe        // RFC 6665
	MethodNotify           // RFC 6665
	MethodPublish          // RFC 3903
	MethodInfo             // RFC 6086
	MethodRefer            // RFC 3515
	MethodMessage          // RFC 3428
)

// String is the name of the method as it stands in a message, or "other".
func (m Method) String() string {
	switch m {
	case MethodInvite:
		return "INVITE"
	case MethodAck:
		return "ACK"
	case MethodBye:
		return "BYE"
	case MethodCancel:
		return "CANCEL"
	case MethodRegister:
		return "REGISTER"
	case MethodOptions:
		return "OPTIONS"
	case MethodPrack:
		return "PRACK"
	case MethodUpdate:
		return "UPDATE"
	case MethodSubscribe:
		return "SUBSCRIBE"
	case MethodNotify:
		return "NOTIFY"
	case MethodPublish:
		return "PUBLISH"
	case MethodInfo:
		return "INFO"
	case MethodRefer:
		return "REFER"
	case MethodMessage:
		return "MESSAGE"
	}
	return "other"
}

// methodOf returns the method of that name. Methods are case-sensitive (RFC
// 3261 section 7.1).
func methodOf(name []byte) Method {
	switch string(name) {
	case "INVITE":
		return MethodInvite
	case "ACK":
		return MethodAck
	case "BYE":
		return MethodBye
	case "CANCEL":
		return MethodCancel
	case "REGISTER":
		return MethodRegister
	case "OPTIONS":
		return MethodOptions
	case "PRACK":
		return MethodPrack
	case "UPDATE":
		return MethodUpdate
	case "SUBSCRIBE":
		return MethodSubscribe
	case "NOTIFY":
		return MethodNotify
	case "PUBLISH":
		return MethodPublish
	case "INFO":
		return MethodInfo
	case "REFER":
		return MethodRefer
	case "MESSAGE":
		return MethodMessage
	}
	return MethodOther
}
