package nft

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// kernelSIP is the name of the kernel's own SIP helper, nf_conntrack_sip.
const kernelSIP = "sip"

// SIPHelperRules names the rules that assign the kernel's SIP helper to flows,
// native ones and those of iptables-nft. Such flows are rewritten by the kernel,
// and must not be by the daemon as well.
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
	return found, errors.Join(errs...)
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

// targetHelper returns the helper that a CT target of iptables assigns: the
// sixteen bytes after flags, zone and two event masks (struct
// xt_ct_target_info_v1).
func targetHelper(t *expr.Target) string {
	const offset, length = 12, 16
	info, ok := t.Info.(*xt.Unknown)
	if !ok || len(*info) < offset+length {
		return ""
	}
	data := *info
	name, _, _ := bytes.Cut(data[offset:offset+length], []byte{0})
	return string(name)
}
