package nft

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// kernelSIP is the name of the kernel's own SIP helper, nf_conntrack_sip.
const kernelSIP = "sip"

// SIPHelperRules lists the rules that assign the kernel's SIP helper to flows. Such
// flows are rewritten by the kernel, and must not be by the daemon as well. With an
// error it returns what it could read.
func (f *Firewall) SIPHelperRules() ([]Rule, error) {
	objects, err := f.s.helperObjects()
	if err != nil {
		return nil, err
	}
	var found []Rule
	for _, r := range f.rules {
		for e := range expressions(r.exprs) {
			if f.s.assignsSIP(r.key(), e, objects) {
				found = append(found, r)
				break
			}
		}
	}
	found = append(found, f.legacyTargets("raw", func(t extension) bool { // which alone has the CT target
		return t.name == "CT" && assignedHelper(t.info) == kernelSIP
	})...)
	return found, f.Err()
}

// assignsSIP tells whether an expression assigns the helper, given the helper that
// each object stands for.
func (s *ruleset) assignsSIP(table tableKey, e expression, objects map[setKey]string) bool {
	switch e.name {
	case "target":
		t := decodeXT(e.data)
		return t.name == "CT" && assignedHelper(t.info) == kernelSIP
	case "objref":
		var kind uint32
		var object, set string
		for a := range attributes(e.data) {
			switch a.kind {
			case unix.NFTA_OBJREF_IMM_TYPE:
				kind = number(a.data)
			case unix.NFTA_OBJREF_IMM_NAME:
				object = text(a.data)
			case unix.NFTA_OBJREF_SET_NAME:
				set = text(a.data)
			}
		}
		if set == "" {
			return kind == unix.NFT_OBJECT_CT_HELPER && objects[setKey{table, object}] == kernelSIP
		}
		for _, object := range s.objectsIn(setKey{table, set}) {
			if objects[setKey{table, object}] == kernelSIP {
				return true
			}
		}
	}
	return false
}

// Attributes of helper objects and of elements, that package unix lacks.
const (
	objectTable = 1 // NFTA_OBJ_TABLE
	objectName  = 2 // NFTA_OBJ_NAME
	objectType  = 3 // NFTA_OBJ_TYPE
	objectData  = 4 // NFTA_OBJ_DATA
	helperName  = 1 // NFTA_CT_HELPER_NAME
	elemObject  = 9 // NFTA_SET_ELEM_OBJREF
)

// helperObjects lists the helpers of all ct helper objects.
func (s *ruleset) helperObjects() (map[setKey]string, error) {
	msgs, err := s.ask.dump(unix.NFT_MSG_GETOBJ, unix.NFPROTO_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("nft: listing objects: %w", err)
	}
	objects := make(map[setKey]string)
	for _, m := range msgs {
		key := setKey{table: tableKey{family: m.family}}
		var kind uint32
		var helper string
		for a := range attributes(m.attrs) {
			switch a.kind {
			case objectTable:
				key.table.name = text(a.data)
			case objectName:
				key.name = text(a.data)
			case objectType:
				kind = number(a.data)
			case objectData:
				for d := range attributes(a.data) {
					if d.kind == helperName {
						helper = text(d.data)
					}
				}
			}
		}
		if kind == unix.NFT_OBJECT_CT_HELPER {
			objects[key] = helper
		}
	}
	return objects, nil
}

// objectsIn names the objects that the elements of a map stand for.
func (s *ruleset) objectsIn(set setKey) []string {
	msgs, err := s.ask.dump(unix.NFT_MSG_GETSETELEM, set.table.family, set.table.name, set.name)
	if err != nil {
		s.failures = append(s.failures, fmt.Errorf("nft: reading the map %s of table %s: %w", set.name, set.table.name, err))
		return nil
	}
	var names []string
	for _, m := range msgs {
		for a := range attributes(m.attrs) {
			if a.kind != elemsElements {
				continue
			}
			for item := range attributes(a.data) {
				for e := range attributes(item.data) {
					if e.kind == elemObject {
						names = append(names, text(e.data))
					}
				}
			}
		}
	}
	return names
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
