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
	typeHelperNew = unix.NFNL_SUBSYS_CTHELPER<<8 | 0
	typeHelperGet = unix.NFNL_SUBSYS_CTHELPER<<8 | 1

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
func registerHelper(con *netlink.Conn) (policy, error) {
	p := ownPolicy()
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	identifyHelper(ae, p.name)
	ae.Nested(nfcthPolicy, func(ae *netlink.AttributeEncoder) error {
		ae.Uint32(nfcthPolicySetNum, 1)
		ae.Nested(nfcthPolicySet, func(ae *netlink.AttributeEncoder) error {
			ae.String(nfcthPolicyName, p.name)
			ae.Uint32(nfcthPolicyExpectMax, uint32(p.classes[0].max))
			ae.Uint32(nfcthPolicyExpectTimeout, uint32(p.timeout/time.Second))
			return nil
		})
		return nil
	})
	ae.Uint32(nfcthPrivDataLen, 0)
	_, err := execute(con, typeHelperNew, netlink.Create|netlink.Excl, ae)
	switch {
	case err == nil:
		return p, nil
	case errors.Is(err, unix.EEXIST):
		return readHelper(con, p.name)
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP):
		return policy{}, fmt.Errorf("the kernel has no nfnetlink_cthelper (%w)", err)
	}
	return policy{}, fmt.Errorf("nfnetlink_cthelper: %w", err)
}

// readHelper returns what the helper of that name allows.
func readHelper(con *netlink.Conn, name string) (policy, error) {
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	identifyHelper(ae, name)
	answers, err := execute(con, typeHelperGet, 0, ae)
	if err != nil {
		return policy{}, fmt.Errorf("nfnetlink_cthelper: %w", err)
	}
	p := policy{name: name}
	for _, m := range answers {
		if m.Header.Type != typeHelperNew || len(m.Data) < nfgenmsgLen {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[nfgenmsgLen:])
		if err != nil {
			return policy{}, fmt.Errorf("nfnetlink_cthelper: %w", err)
		}
		ad.ByteOrder = binary.BigEndian
		for ad.Next() {
			if ad.Type() == nfcthPolicy {
				ad.Nested(p.decode)
			}
		}
		if err := ad.Err(); err != nil {
			return policy{}, fmt.Errorf("nfnetlink_cthelper: %w", err)
		}
	}
	if len(p.classes) == 0 || p.classes[0].max < 2 {
		return policy{}, fmt.Errorf("nfnetlink_cthelper: another program's helper %q has no room for expectations", name)
	}
	return p, nil
}

// decode reads the first class of an NFCTH_POLICY.
func (p *policy) decode(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		if ad.Type() != nfcthPolicySet {
			continue
		}
		p.classes = []class{{}}
		ad.Nested(func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				switch ad.Type() {
				case nfcthPolicyExpectMax:
					p.classes[0].max = int(ad.Uint32())
				case nfcthPolicyExpectTimeout:
					p.timeout = time.Duration(ad.Uint32()) * time.Second
				}
			}
			return nil
		})
	}
	return nil
}

// identifyHelper appends the attributes by which the kernel finds a helper.
func identifyHelper(ae *netlink.AttributeEncoder, name string) {
	ae.String(nfcthName, name)
	ae.Nested(nfcthTuple, func(ae *netlink.AttributeEncoder) error {
		ae.Uint16(nfcthTupleL3Proto, unix.AF_INET)
		ae.Uint8(nfcthTupleL4Proto, unix.IPPROTO_UDP)
		return nil
	})
}

// execute sends one message and returns the answers.
func execute(con *netlink.Conn, typ netlink.HeaderType, flags netlink.HeaderFlags, ae *netlink.AttributeEncoder) ([]netlink.Message, error) {
	attrs, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	return con.Execute(netlink.Message{
		Header: netlink.Header{Type: typ, Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   append([]byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}, attrs...),
	})
}
