package registrar

import (
	"net/netip"
	"time"
)

// RFC 8760 has a challenge for each algorithm, and phones take the first one that they
// know. But some that are older than it give up when they see one that they do not
// know, and try again after a while. Those are found by that, and offered MD5 alone.

const (
	// offerSilence is how long after a challenge a request without credentials is not
	// taken for a second try: two may be on their way at once.
	offerSilence = 2 * time.Second

	// offerLife is how long it is remembered what a phone can not do.
	offerLife = 24 * time.Hour

	maxOffers = 4096
)

// offerKey is who was challenged: several phones may have the same address.
type offerKey struct {
	host netip.Addr
	user string
}

// offer is what somebody was offered.
type offer struct {
	at     time.Duration // last time: Registrar.now
	simple bool          // MD5 alone
}

// offers are challenges that were not answered, and whom that has told to be old. They
// are few: who answers is forgotten.
type offers map[offerKey]offer

// answered takes note of somebody who has answered a challenge.
func (o offers) answered(host netip.Addr, user []byte) {
	if k := (offerKey{host, string(user)}); !o[k].simple {
		delete(o, k)
	}
}

// next returns whether somebody who comes without credentials is offered MD5 alone.
func (o offers) next(host netip.Addr, user []byte, now time.Duration) (simple bool) {
	if len(user) > maxName {
		return false
	}
	k := offerKey{host, string(user)}
	last, again := o[k]
	if again && now-last.at > offerLife {
		last, again = offer{}, false
	}
	simple = last.simple || again && now-last.at >= offerSilence
	if again && !simple {
		return false
	}
	if !again && len(o) >= maxOffers {
		o.makeRoom(now)
	}
	o[k] = offer{now, simple}
	return simple
}

// makeRoom forgets those of long ago or, if there are none, all.
func (o offers) makeRoom(now time.Duration) {
	for k, v := range o {
		if now-v.at > offerLife {
			delete(o, k)
		}
	}
	if len(o) >= maxOffers {
		clear(o)
	}
}
