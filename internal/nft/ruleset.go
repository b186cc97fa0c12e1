package nft

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ruleset reads other people's rules. It does without the library, which gives up
// a chain at the first expression that it cannot decode.
type ruleset struct {
	ask      *asker
	rules    map[tableKey]map[string][][]byte       // by chain, the expressions of each rule
	declared map[tableKey]map[string]setDeclaration // of sets, by name
	sets     map[setKey][]interval
	visits   int
	found    []Redirect
	failures []error
}

// tableKey names a table.
type tableKey struct {
	family byte
	name   string
}

// setKey names a set or a map.
type setKey struct {
	table tableKey
	name  string
}

// baseChain is a chain on a hook.
type baseChain struct {
	table    tableKey
	name     string
	priority int32
}

// dialRuleset begins to read; who asks has to close it.
func dialRuleset() (*ruleset, error) {
	ask, err := dialAsker()
	if err != nil {
		return nil, err
	}
	return &ruleset{
		ask:      ask,
		rules:    make(map[tableKey]map[string][][]byte),
		declared: make(map[tableKey]map[string]setDeclaration),
		sets:     make(map[setKey][]interval),
	}, nil
}

func (s *ruleset) close() { s.ask.close() }

// nftRedirects reads the DNAT rules of nftables and iptables-nft.
func nftRedirects() ([]Redirect, error) {
	s, err := dialRuleset()
	if err != nil {
		return nil, err
	}
	defer s.close()
	s.read()
	return s.found, errors.Join(s.failures...)
}

// read follows every chain that translates destinations.
func (s *ruleset) read() {
	chains, err := s.dnatChains()
	if err != nil {
		s.failures = append(s.failures, err)
		return
	}
	for _, c := range chains {
		if err := s.readRules(c.table); err != nil {
			s.failures = append(s.failures, err)
			continue
		}
		s.walk(c.table, c.name, []Redirect{anything}, 0)
	}
}

// walk evaluates the rules of a chain, and of those that it jumps to, for the
// packets of match.
func (s *ruleset) walk(table tableKey, chain string, match []Redirect, depth int) {
	if depth > maxDepth {
		return
	}
	elements := func(set string) ([]interval, error) { return s.elements(setKey{table, set}) }
	for _, raw := range s.rules[table][chain] {
		if s.visits += len(match); s.visits > maxVisits {
			return
		}
		found, jumps, err := evaluate(decodeExpressions(table.family, raw), match, elements)
		if err != nil {
			s.failures = append(s.failures, fmt.Errorf("nft: chain %s of table %s: %w", chain, table.name, err))
		}
		s.found = append(s.found, found...)
		s.visits += len(found) + len(jumps)
		for _, j := range jumps {
			s.walk(table, j.chain, j.match, depth+1)
		}
	}
}

// dnatChains lists the nat chains at prerouting that see IPv4 packets, first to
// last, without our own.
func (s *ruleset) dnatChains() ([]baseChain, error) {
	msgs, err := s.ask.dump(unix.NFT_MSG_GETCHAIN, unix.NFPROTO_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("nft: listing chains: %w", err)
	}
	var chains []baseChain
	for _, m := range msgs {
		c := baseChain{table: tableKey{family: m.family}}
		var kind string
		hook := uint32(unix.NF_INET_NUMHOOKS)
		for a := range attributes(m.attrs) {
			switch a.kind {
			case unix.NFTA_CHAIN_TABLE:
				c.table.name = text(a.data)
			case unix.NFTA_CHAIN_NAME:
				c.name = text(a.data)
			case unix.NFTA_CHAIN_TYPE:
				kind = text(a.data)
			case unix.NFTA_CHAIN_HOOK:
				for h := range attributes(a.data) {
					switch h.kind {
					case unix.NFTA_HOOK_HOOKNUM:
						hook = number(h.data)
					case unix.NFTA_HOOK_PRIORITY:
						c.priority = int32(number(h.data))
					}
				}
			}
		}
		ipv4 := c.table.family == unix.NFPROTO_IPV4 || c.table.family == unix.NFPROTO_INET
		own := c.table == tableKey{unix.NFPROTO_IPV4, tableName}
		if kind == "nat" && hook == unix.NF_INET_PRE_ROUTING && ipv4 && !own {
			chains = append(chains, c)
		}
	}
	slices.SortStableFunc(chains, func(a, b baseChain) int { return cmp.Compare(a.priority, b.priority) })
	return chains, nil
}

// readRules reads all rules of a table, once.
func (s *ruleset) readRules(table tableKey) error {
	if s.rules[table] != nil {
		return nil
	}
	msgs, err := s.ask.dump(unix.NFT_MSG_GETRULE, table.family, table.name)
	if err != nil {
		return fmt.Errorf("nft: reading the rules of table %s: %w", table.name, err)
	}
	rules := make(map[string][][]byte)
	for _, m := range msgs {
		var in tableKey
		var chain string
		var exprs []byte
		in.family = m.family
		for a := range attributes(m.attrs) {
			switch a.kind {
			case unix.NFTA_RULE_TABLE:
				in.name = text(a.data)
			case unix.NFTA_RULE_CHAIN:
				chain = text(a.data)
			case unix.NFTA_RULE_EXPRESSIONS:
				exprs = a.data
			}
		}
		if in == table {
			rules[chain] = append(rules[chain], exprs)
		}
	}
	s.rules[table] = rules
	return nil
}

// decodeExpressions decodes the expressions of a rule. What is not understood is
// left out, or opaque.
func decodeExpressions(family byte, raw []byte) []any {
	var exprs []any
	for e := range expressions(raw) {
		if known := decodeExpression(family, e.name, e.data); known != nil {
			exprs = append(exprs, known)
		}
	}
	return exprs
}

// expression is one of a rule's, as the kernel lists it.
type expression struct {
	name string
	data []byte // its attributes
}

// expressions goes over those of a rule.
func expressions(raw []byte) iter.Seq[expression] {
	return func(yield func(expression) bool) {
		for item := range attributes(raw) {
			var e expression
			for a := range attributes(item.data) {
				switch a.kind {
				case unix.NFTA_EXPR_NAME:
					e.name = text(a.data)
				case unix.NFTA_EXPR_DATA:
					e.data = a.data
				}
			}
			if !yield(e) {
				return
			}
		}
	}
}

func decodeExpression(family byte, name string, data []byte) any {
	var e expr.Any
	switch name {
	case "meta":
		e = &expr.Meta{}
	case "payload":
		e = &expr.Payload{}
	case "bitwise":
		e = &expr.Bitwise{}
	case "cmp":
		e = &expr.Cmp{}
	case "range":
		e = &expr.Range{}
	case "lookup":
		e = &expr.Lookup{}
	case "nat":
		e = &expr.NAT{}
	case "redir":
		e = &expr.Redir{}
	case "immediate":
		return decodeImmediate(data)
	case "match":
		return xtMatch(decodeXT(data))
	case "target":
		return xtTarget(decodeXT(data))
	case "counter", "limit", "log", "quota", "objref", "connlimit", "last", "dynset":
		return nil // these write no registers
	default:
		return opaque{}
	}
	if err := expr.Unmarshal(family, data, e); err != nil {
		return opaque{}
	}
	return e
}

// decodeImmediate decodes a constant or a verdict.
func decodeImmediate(data []byte) any {
	var e expr.Immediate
	for a := range attributes(data) {
		switch a.kind {
		case unix.NFTA_IMMEDIATE_DREG:
			e.Register = number(a.data)
		case unix.NFTA_IMMEDIATE_DATA:
			for d := range attributes(a.data) {
				switch d.kind {
				case unix.NFTA_DATA_VALUE:
					e.Data = d.data
				case unix.NFTA_DATA_VERDICT:
					return decodeVerdict(d.data)
				}
			}
		}
	}
	return &e
}

func decodeVerdict(data []byte) *expr.Verdict {
	var v expr.Verdict
	for a := range attributes(data) {
		switch a.kind {
		case unix.NFTA_VERDICT_CODE:
			v.Kind = expr.VerdictKind(int32(number(a.data)))
		case unix.NFTA_VERDICT_CHAIN:
			v.Chain = text(a.data)
		}
	}
	return &v
}

// decodeXT decodes a match or a target of xtables; their attributes have the same
// numbers.
func decodeXT(data []byte) (x extension) {
	for a := range attributes(data) {
		switch a.kind {
		case unix.NFTA_MATCH_NAME:
			x.name = text(a.data)
		case unix.NFTA_MATCH_REV:
			x.revision = number(a.data)
		case unix.NFTA_MATCH_INFO:
			x.info = a.data
		}
	}
	return x
}

// Set flags and attributes that package unix lacks.
const (
	setConcat     = 0x80 // NFT_SET_CONCAT
	elemKeyEnd    = 10   // NFTA_SET_ELEM_KEY_END
	elemsElements = unix.NFTA_SET_ELEM_LIST_ELEMENTS
)

// elements reads a set or a map, once. One that is gone has none.
func (s *ruleset) elements(set setKey) ([]interval, error) {
	if in, ok := s.sets[set]; ok {
		return in, nil
	}
	in, err := s.readElements(set)
	if errors.Is(err, unix.ENOENT) {
		in, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("set %s: %w", set.name, err)
	}
	s.sets[set] = in
	return in, nil
}

func (s *ruleset) readElements(set setKey) ([]interval, error) {
	declared, err := s.declaration(set)
	if err != nil {
		return nil, err
	}
	msgs, err := s.ask.dump(unix.NFT_MSG_GETSETELEM, set.table.family, set.table.name, set.name)
	if err != nil {
		return nil, err
	}
	var elements []element
	for _, m := range msgs {
		for a := range attributes(m.attrs) {
			if a.kind != elemsElements {
				continue
			}
			for item := range attributes(a.data) {
				elements = append(elements, decodeElement(item.data))
			}
		}
	}
	if declared.flags&unix.NFT_SET_INTERVAL != 0 && declared.flags&setConcat == 0 {
		return joinEnds(elements), nil
	}
	in := make([]interval, 0, len(elements))
	for _, e := range elements {
		if e.high == nil {
			e.high = e.low
		}
		in = append(in, e.interval)
	}
	return in, nil
}

// setDeclaration is how a set is to be read.
type setDeclaration struct {
	flags   uint32
	keySize int // bytes
}

// declaration reads those of all sets of the table, once.
func (s *ruleset) declaration(set setKey) (setDeclaration, error) {
	if s.declared[set.table] == nil {
		msgs, err := s.ask.dump(unix.NFT_MSG_GETSET, set.table.family, set.table.name)
		if err != nil {
			return setDeclaration{}, err
		}
		all := make(map[string]setDeclaration, len(msgs))
		for _, m := range msgs {
			var name string
			var d setDeclaration
			for a := range attributes(m.attrs) {
				switch a.kind {
				case unix.NFTA_SET_NAME:
					name = text(a.data)
				case unix.NFTA_SET_FLAGS:
					d.flags = number(a.data)
				case unix.NFTA_SET_KEY_LEN:
					d.keySize = int(number(a.data))
				}
			}
			all[name] = d
		}
		s.declared[set.table] = all
	}
	return s.declared[set.table][set.name], nil
}

// element is an element as the kernel lists it.
type element struct {
	interval
	end bool // not an element, but the first key after one
}

func decodeElement(data []byte) element {
	var e element
	for a := range attributes(data) {
		switch a.kind {
		case unix.NFTA_SET_ELEM_KEY:
			e.low = decodeValue(a.data)
		case elemKeyEnd:
			e.high = decodeValue(a.data)
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = number(a.data)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_DATA:
			for d := range attributes(a.data) {
				switch d.kind {
				case unix.NFTA_DATA_VALUE:
					e.data = d.data
				case unix.NFTA_DATA_VERDICT:
					e.verdict = decodeVerdict(d.data)
					if e.verdict.Kind == expr.VerdictJump || e.verdict.Kind == expr.VerdictGoto {
						e.chain = e.verdict.Chain
					}
				}
			}
		}
	}
	return e
}

func decodeValue(data []byte) []byte {
	for a := range attributes(data) {
		if a.kind == unix.NFTA_DATA_VALUE {
			return a.data
		}
	}
	return nil
}

// joinEnds makes intervals of a list of starts and ends.
func joinEnds(elements []element) []interval {
	slices.SortStableFunc(elements, func(a, b element) int {
		order := bytes.Compare(a.low, b.low)
		if order == 0 && a.end != b.end {
			order = 1
			if a.end {
				order = -1
			}
		}
		return order
	})
	var in []interval
	for i, e := range elements {
		if e.end {
			continue
		}
		e.high = bytes.Repeat([]byte{0xff}, len(e.low))
		if i+1 < len(elements) {
			if high, ok := before(elements[i+1].low); ok && len(high) == len(e.low) {
				e.high = high
			}
		}
		in = append(in, e.interval)
	}
	return in
}
