package sipmsg

// Kind is what a header is, whatever form its name was written in.
type Kind uint8

// The headers that are known by name. HdrOther is every other one.
const (
	HdrOther              Kind = iota
	HdrVia                     // Via, v
	HdrFrom                    // From, f
	HdrTo                      // To, t
	HdrCallID                  // Call-ID, i
	HdrCSeq                    // CSeq
	HdrContact                 // Contact, m
	HdrRoute                   // Route
	HdrRecordRoute             // Record-Route
	HdrPath                    // Path (RFC 3327)
	HdrServiceRoute            // Service-Route (RFC 3608)
	HdrReplyTo                 // Reply-To
	HdrReferTo                 // Refer-To, r (RFC 3515)
	HdrReferredBy              // Referred-By, b (RFC 3892)
	HdrPAssertedIdentity       // P-Asserted-Identity (RFC 3325)
	HdrPPreferredIdentity      // P-Preferred-Identity (RFC 3325)
	HdrRemotePartyID           // Remote-Party-ID (draft-ietf-sip-privacy)
	HdrDiversion               // Diversion (RFC 5806)
	HdrHistoryInfo             // History-Info (RFC 7044)
	HdrContentType             // Content-Type, c
	HdrContentLength           // Content-Length, l
	HdrContentEncoding         // Content-Encoding, e
	HdrContentDisposition      // Content-Disposition
	HdrExpires                 // Expires
	HdrSessionExpires          // Session-Expires, x (RFC 4028)
	HdrMinSE                   // Min-SE (RFC 4028)
	HdrRSeq                    // RSeq (RFC 3262)
	HdrRAck                    // RAck (RFC 3262)
	HdrReplaces                // Replaces (RFC 3891)
	HdrMaxForwards             // Max-Forwards
	HdrEvent                   // Event, o (RFC 6665)
	HdrSubscriptionState       // Subscription-State (RFC 6665)
	HdrRequire                 // Require
	HdrSupported               // Supported, k
	HdrAuthorization           // Authorization
	HdrProxyAuthorization      // Proxy-Authorization
	HdrWWWAuthenticate         // WWW-Authenticate
	HdrProxyAuthenticate       // Proxy-Authenticate
	HdrUserAgent               // User-Agent
	HdrServer                  // Server
)

// kindOf returns the kind of the header of that name, long or compact form,
// in any case (RFC 3261 section 7.3.3).
func kindOf(name []byte) Kind {
	switch len(name) {
	case 1:
		return compactKind(lower(name[0]))
	case 2:
		if equalName(name, "to") {
			return HdrTo
		}
	case 3:
		if equalName(name, "via") {
			return HdrVia
		}
	case 4:
		switch lower(name[0]) {
		case 'f':
			if equalName(name, "from") {
				return HdrFrom
			}
		case 'c':
			if equalName(name, "cseq") {
				return HdrCSeq
			}
		case 'p':
			if equalName(name, "path") {
				return HdrPath
			}
		case 'r':
			if equalName(name, "rseq") {
				return HdrRSeq
			}
			if equalName(name, "rack") {
				return HdrRAck
			}
		}
	case 5:
		if equalName(name, "route") {
			return HdrRoute
		}
		if equalName(name, "event") {
			return HdrEvent
		}
	case 6:
		if equalName(name, "min-se") {
			return HdrMinSE
		}
		if equalName(name, "server") {
			return HdrServer
		}
	case 7:
		switch lower(name[0]) {
		case 'c':
			if equalName(name, "call-id") {
				return HdrCallID
			}
			if equalName(name, "contact") {
				return HdrContact
			}
		case 'e':
			if equalName(name, "expires") {
				return HdrExpires
			}
		case 'r':
			if equalName(name, "require") {
				return HdrRequire
			}
		}
	case 8:
		if equalName(name, "reply-to") {
			return HdrReplyTo
		}
		if equalName(name, "refer-to") {
			return HdrReferTo
		}
		if equalName(name, "replaces") {
			return HdrReplaces
		}
	case 9:
		if equalName(name, "supported") {
			return HdrSupported
		}
		if equalName(name, "diversion") {
			return HdrDiversion
		}
	case 10:
		if equalName(name, "user-agent") {
			return HdrUserAgent
		}
	case 11:
		if equalName(name, "referred-by") {
			return HdrReferredBy
		}
	case 12:
		switch lower(name[0]) {
		case 'm':
			if equalName(name, "max-forwards") {
				return HdrMaxForwards
			}
		case 'c':
			if equalName(name, "content-type") {
				return HdrContentType
			}
		case 'r':
			if equalName(name, "record-route") {
				return HdrRecordRoute
			}
		case 'h':
			if equalName(name, "history-info") {
				return HdrHistoryInfo
			}
		}
	case 13:
		if equalName(name, "service-route") {
			return HdrServiceRoute
		}
		if equalName(name, "authorization") {
			return HdrAuthorization
		}
	case 14:
		if equalName(name, "content-length") {
			return HdrContentLength
		}
	case 15:
		if equalName(name, "remote-party-id") {
			return HdrRemotePartyID
		}
		if equalName(name, "session-expires") {
			return HdrSessionExpires
		}
	case 16:
		if equalName(name, "content-encoding") {
			return HdrContentEncoding
		}
		if equalName(name, "www-authenticate") {
			return HdrWWWAuthenticate
		}
	case 18:
		if equalName(name, "proxy-authenticate") {
			return HdrProxyAuthenticate
		}
		if equalName(name, "subscription-state") {
			return HdrSubscriptionState
		}
	case 19:
		switch lower(name[0]) {
		case 'p':
			if equalName(name, "p-asserted-identity") {
				return HdrPAssertedIdentity
			}
			if equalName(name, "proxy-authorization") {
				return HdrProxyAuthorization
			}
		case 'c':
			if equalName(name, "content-disposition") {
				return HdrContentDisposition
			}
		}
	case 20:
		if equalName(name, "p-preferred-identity") {
			return HdrPPreferredIdentity
		}
	}
	return HdrOther
}

// compactKind returns the kind of a one-letter name, given in lower case.
func compactKind(c byte) Kind {
	switch c {
	case 'v':
		return HdrVia
	case 'f':
		return HdrFrom
	case 't':
		return HdrTo
	case 'i':
		return HdrCallID
	case 'm':
		return HdrContact
	case 'r':
		return HdrReferTo
	case 'b':
		return HdrReferredBy
	case 'c':
		return HdrContentType
	case 'l':
		return HdrContentLength
	case 'e':
		return HdrContentEncoding
	case 'x':
		return HdrSessionExpires
	case 'o':
		return HdrEvent
	case 'k':
		return HdrSupported
	}
	return HdrOther
}

// list reports whether a header of this kind holds a comma-separated list of
// addresses. In the others a comma is part of the value, as in the unquoted
// display name of "From: Bell, Alexander <sip:a.g.bell@example.com>".
func (k Kind) list() bool {
	switch k {
	case HdrContact, HdrRoute, HdrRecordRoute, HdrPath, HdrServiceRoute,
		HdrPAssertedIdentity, HdrPPreferredIdentity, HdrRemotePartyID,
		HdrDiversion, HdrHistoryInfo:
		return true
	}
	return false
}
