package nft

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// kernelSIP is the name of the kernel's own SIP helper, nf_conntrack_sip.
const kernelSIP = "sip"

// SIPHelperRules names the rules that assign the kernel's SIP helper to flows, be
// they of nft, iptables-nft or iptables-legacy. Such flows are rewritten by the
// kernel, and must not be by the daemon as well.
func SIPHelperRules() ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("nft: listing chains: %w", err)
	}
	var found []string
	var errs []error
	for _, c := range chains {
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, r := range rules {
			if assignsSIP(conn, c.Table, r) {
				found = append(found, fmt.Sprintf("rule handle %d in table %s, chain %s", r.Handle, c.Table.Name, c.Name))
			}
		}
	}
	legacy, err := legacySIPHelperRules()
	return append(found, legacy...), errors.Join(append(errs, err)...)
}

// legacySIPHelperRules finds the rules of iptables-legacy, which has the CT target
// in its table raw only.
func legacySIPHelperRules() ([]string, error) {
	table, err := readLegacy("raw")
	if err != nil || table == nil {
		return nil, err
	}
	chains := map[uint32]string{
		table.hooks[unix.NF_INET_PRE_ROUTING]: "PREROUTING",
		table.hooks[unix.NF_INET_LOCAL_OUT]:   "OUTPUT",
	}
	var found []string
	chain, number := "", 0
	for at := uint32(0); ; {
		e, ok := decodeEntry(table.entries, at)
		if !ok {
			return found, nil
		}
		if name, ok := chains[at]; ok {
			chain, number = name, 0
		}
		number++
		switch t := e.target(); t.name {
		case "ERROR": // the head of a chain, with its name
			chain, number = text(t.info), 0
		case "CT":
			if assignedHelper(t.info) == kernelSIP {
				found = append(found, fmt.Sprintf("rule %d in table raw, chain %s of iptables-legacy", number, chain))
			}
		}
		at += uint32(e.next)
	}
}

func assignsSIP(conn *nftables.Conn, t *nftables.Table, r *nftables.Rule) bool {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Objref:
			if e.Type == unix.NFT_OBJECT_CT_HELPER && objectHelper(conn, t, e.Name) == kernelSIP {
				return true
			}
		case *expr.Target:
			if e.Name == "CT" && targetHelper(e) == kernelSIP {
				return true
			}
		}
	}
	return false
}

// objectHelper returns the helper that a ct helper object assigns.
func objectHelper(conn *nftables.Conn, t *nftables.Table, name string) string {
	obj, err := conn.GetObject(&nftables.NamedObj{Table: t, Name: name, Type: nftables.ObjTypeCtHelper})
	if err != nil {
		return ""
	}
	if named, ok := obj.(*nftables.NamedObj); ok {
		if h, ok := named.Obj.(*expr.CtHelper); ok {
			return h.Name
		}
	}
	return ""
}

// targetHelper returns the helper that a CT target of iptables-nft assigns.
func targetHelper(t *expr.Target) string {
	info, ok := t.Info.(*xt.Unknown)
	if !ok {
		return ""
	}
	return assignedHelper(*info)
}

// assignedHelper returns the helper that the arguments of a CT target name: the
// sixteen bytes after flags, zone and two event masks (struct xt_ct_target_info_v1).
func assignedHelper(info []byte) string {
	const offset, length = 12, 16
	if len(info) < offset+length {
		return ""
	}
	return text(info[offset : offset+length])
}
