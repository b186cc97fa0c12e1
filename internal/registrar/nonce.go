package registrar

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"time"
)

const (
	// nonceLife is how long a nonce is accepted; with qop each of its counts once.
	nonceLife = 5 * time.Minute

	// nonceLifeOld is how long without qop (RFC 2069), where it says nothing of
	// whether a request is a repeated one: the life of a transaction (RFC 3261
	// section 17.1.2.2).
	nonceLifeOld = 32 * time.Second

	// maxNonces is how many nonces are remembered that were used.
	maxNonces = 8192
)

// A nonce is the time that it was made, in milliseconds since the start, a random
// number, and a code that proves that it was made here and for that host.
const (
	nonceID   = 14
	nonceSize = nonceID + 10
	nonceText = nonceSize * 4 / 3
)

// nonces makes nonces and knows them again. Only those with which somebody has proved
// that he knows a password are remembered.
type nonces struct {
	key   [32]byte
	used  map[[nonceID]byte]uint32 // with the highest count
	order [][nonceID]byte          // of used, from the oldest entry on
	floor time.Duration            // those that were made until then are not accepted any more
}

func (n *nonces) init() {
	_, _ = rand.Read(n.key[:]) // never fails
	n.used = make(map[[nonceID]byte]uint32)
}

// append appends a new nonce for a host.
func (n *nonces) append(dst []byte, host netip.Addr, now time.Duration) []byte {
	var b [nonceSize]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now/time.Millisecond)<<16)
	_, _ = rand.Read(b[6:nonceID])
	n.seal(&b, host)
	return base64.RawURLEncoding.AppendEncode(dst, b[:])
}

// seal puts the code at the end of a nonce.
func (n *nonces) seal(b *[nonceSize]byte, host netip.Addr) {
	mac := hmac.New(sha256.New, n.key[:])
	addr := host.As16()
	mac.Write(addr[:])
	mac.Write(b[:nonceID])
	var sum [sha256.Size]byte
	copy(b[nonceID:], mac.Sum(sum[:0]))
}

// take reports whether a nonce is good for a request with this count, 0 without qop,
// and uses it up. The request's digest must have been right.
func (n *nonces) take(text []byte, count uint32, host netip.Addr, now time.Duration) bool {
	var b [nonceSize]byte
	if len(text) != nonceText {
		return false
	}
	if _, err := base64.RawURLEncoding.Decode(b[:], text); err != nil {
		return false
	}
	sealed := b
	n.seal(&sealed, host)
	if !hmac.Equal(b[:], sealed[:]) {
		return false
	}
	made := time.Duration(binary.BigEndian.Uint64(b[:8])>>16) * time.Millisecond
	if made <= n.floor && n.floor > 0 {
		return false
	}
	id := [nonceID]byte(b[:nonceID])
	last, known := n.used[id]
	if count == 0 {
		// Where a nonce has been used with counts, it is not used without.
		return now-made <= nonceLifeOld && !known
	}
	if now-made > nonceLife || known && count <= last {
		return false
	}
	if !known {
		n.makeRoom(now)
		n.order = append(n.order, id)
	}
	n.used[id] = count
	return true
}

// makeRoom forgets nonces that are too old, and the oldest one if there are too many,
// with which all that were made before it lose their validity.
func (n *nonces) makeRoom(now time.Duration) {
	for len(n.order) > 0 {
		id := n.order[0]
		made := time.Duration(binary.BigEndian.Uint64(id[:8])>>16) * time.Millisecond
		if now-made <= nonceLife {
			if len(n.order) < maxNonces {
				return
			}
			n.floor = max(n.floor, made)
		}
		delete(n.used, id)
		n.order = n.order[1:]
	}
}
