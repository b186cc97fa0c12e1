package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Helper is the conntrack helper that lends anchors its limits.
type Helper int

const (
	// HelperNone stands for none: there are no expectations.
	HelperNone Helper = iota
	// HelperOwn is "sipnatd", registered through nfnetlink_cthelper as a
	// policy and nothing else.
	HelperOwn
	// HelperSIP is the kernel's nf_conntrack_sip.
	HelperSIP
)

// String returns "none", "own" or "sip".
func (h Helper) String() string {
	switch h {
	case HelperOwn:
		return "own"
	case HelperSIP:
		return "sip"
	}
	return "none"
}

// expectTimeout is how long an expectation is to live. Its anchor, whose lease
// the caller renews, shall decide; so it is long.
const expectTimeout = 24 * time.Hour

const expectSeconds = uint32(expectTimeout / time.Second)

// A class is one of a helper's classes of expectations; the kernel counts
// those of each class below each anchor.
type class struct {
	id  uint32
	max int
}

// A policy is what a helper allows.
type policy struct {
	name    string // that the kernel knows it by
	classes []class
	timeout time.Duration // of a new expectation, whatever its message says
}

// sipPolicy is that of nf_conntrack_sip (sip_exp_policy): audio and video, of
// which each allows four. Those for signalling and images allow one.
func sipPolicy() policy {
	return policy{name: "sip", classes: []class{{1, 4}, {2, 4}}, timeout: 180 * time.Second}
}

// ownPolicy is that which our own helper is registered with. A stream needs one
// expectation, and one for each address that the far side may listen at.
func ownPolicy() policy {
	return policy{name: "sipnatd", classes: []class{{0, 64}}, timeout: expectTimeout}
}

// Message and attribute numbers of linux/netfilter/nfnetlink_cthelper.h.
const (
	typeHelperNew = unix.NFNL_SUBSYS_CTHELPER<<8 + iota
	typeHelperGet
)

const (
	nfcthName        = 1
	nfcthTuple       = 2
	nfcthPolicy      = 4
	nfcthPrivDataLen = 5

	nfcthTupleL3Proto = 1
	nfcthTupleL4Proto = 2

	nfcthPolicySetNum = 1
	nfcthPolicySet    = 2 // the first

	nfcthPolicyName          = 1
	nfcthPolicyExpectMax     = 2
	nfcthPolicyExpectTimeout = 3
)

// registerHelper registers our own helper, or adopts the one that an earlier
// process has left, and returns what it allows.
//
// Its status is not set to "enabled": the kernel then accepts packets of flows
// that have the helper rather than queue them to a process.
func registerHelper(ch *channel) (policy, error) {
	p, e := ownPolicy(), &ch.enc
	e.begin(typeHelperNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.AF_INET, ch.next())
	e.helper(p.name)
	policies := e.nest(nfcthPolicy)
	e.uint32(nfcthPolicySetNum, 1)
	set := e.nest(nfcthPolicySet)
	e.string(nfcthPolicyName, p.name)
	e.uint32(nfcthPolicyExpectMax, uint32(p.classes[0].max))
	e.uint32(nfcthPolicyExpectTimeout, uint32(p.timeout/time.Second))
	e.endNest(set)
	e.endNest(policies)
	e.uint32(nfcthPrivDataLen, 0)
	e.end()
	switch err := ch.request(nil); {
	case err == nil:
		return p, nil
	case errors.Is(err, unix.EEXIST):
		return readHelper(ch, p.name)
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP):
		return policy{}, fmt.Errorf("the kernel has no nfnetlink_cthelper (%w)", err)
	default:
		return policy{}, fmt.Errorf("nfnetlink_cthelper: %w", err)
	}
}

// readHelper returns what the helper of that name allows.
func readHelper(ch *channel, name string) (policy, error) {
	ch.enc.begin(typeHelperGet, 0, unix.AF_INET, ch.next())
	ch.enc.helper(name)
	ch.enc.end()
	p := policy{name: name}
	var bad error
	err := ch.request(func(body []byte) { bad = errors.Join(bad, p.decode(body)) })
	if err = errors.Join(err, bad); err != nil {
		return policy{}, fmt.Errorf("nfnetlink_cthelper: %w", err)
	}
	if len(p.classes) == 0 || p.classes[0].max < 2 {
		return policy{}, fmt.Errorf("nfnetlink_cthelper: the helper %q that exists has no room for expectations", name)
	}
	return p, nil
}

// helper appends the attributes by which the kernel finds a helper.
func (e *encoder) helper(name string) {
	e.string(nfcthName, name)
	tuple := e.nest(nfcthTuple)
	e.uint16(nfcthTupleL3Proto, unix.AF_INET)
	e.uint8(nfcthTupleL4Proto, unix.IPPROTO_UDP)
	e.endNest(tuple)
}

// decode reads the policy of a helper from the kernel's answer.
func (p *policy) decode(body []byte) error {
	if len(body) < nfgenmsgLen {
		return unix.EBADMSG
	}
	ad, err := netlink.NewAttributeDecoder(body[nfgenmsgLen:])
	if err != nil {
		return err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		if ad.Type() == nfcthPolicy {
			ad.Nested(p.decodePolicy)
		}
	}
	return ad.Err()
}

// decodePolicy reads the first class of an NFCTH_POLICY.
func (p *policy) decodePolicy(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		if ad.Type() == nfcthPolicySet {
			p.classes = []class{{}}
			ad.Nested(p.decodeClass)
		}
	}
	return nil
}

func (p *policy) decodeClass(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		switch ad.Type() {
		case nfcthPolicyExpectMax:
			p.classes[0].max = int(ad.Uint32())
		case nfcthPolicyExpectTimeout:
			p.timeout = time.Duration(ad.Uint32()) * time.Second
		}
	}
	return nil
}
