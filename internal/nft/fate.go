package nft

import (
	"bytes"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Fate is what may become of a packet in a chain, as bits: the one thing that does
// happen is among them.
type Fate uint8

// The fates.
const (
	Accepted Fate = 1 << iota
	Dropped
	Translated // and accepted

	// Within a chain:

	passed   // the next rule is asked
	returned // the rest of the chain is not
)

// Verdicts of linux/netfilter.h.
const (
	nfDrop   = 0
	nfAccept = 1
)

// undecided is that of a statement that is not understood.
const undecided = Accepted | Dropped | passed

// maxSteps bounds the rules that are asked about a packet. A chain counts each time
// that another jumps to it.
const maxSteps = 1 << 16

// Fate tells what may become of a packet in a base chain, the chains that it jumps to
// included. What it does not understand of a rule may be so or not: only a single
// fate is certain.
func (f *Firewall) Fate(c Chain, p Packet) Fate {
	policy := Accepted
	if c.drops {
		policy = Dropped
	}
	var fate Fate
	if c.Legacy {
		fate = f.legacyFate(c, &p)
	} else {
		j := judgement{firewall: f, packet: &p}
		fate = j.chain(Rule{Family: c.Family, Table: c.Table}.key(), c.Name, 0)
	}
	if fate&passed != 0 {
		fate = fate&^passed | policy
	}
	return fate
}

// judgement is the way of a packet through a base chain of nft.
type judgement struct {
	firewall *Firewall
	packet   *Packet
	steps    int
}

// chain returns passed where the packet may come to the chain's end.
func (j *judgement) chain(table tableKey, name string, depth int) Fate {
	if depth > maxDepth {
		return undecided
	}
	var all Fate
	for _, r := range j.firewall.byChain[chainKey{table, name}] {
		if j.steps++; j.steps > maxSteps {
			return undecided
		}
		fate := j.rule(r, depth)
		all |= fate &^ passed
		if fate&passed == 0 {
			return ended(all)
		}
	}
	return ended(all | passed)
}

// ended is the fate of a chain: who returned from it has passed it.
func ended(fate Fate) Fate {
	if fate&returned != 0 {
		fate = fate&^returned | passed
	}
	return fate
}

// rule follows a rule's expressions, up to its verdict.
func (j *judgement) rule(r Rule, depth int) Fate {
	var regs octets
	table := r.key()
	about := always
	for e := range expressions(r.exprs) {
		fate, m := j.expression(&regs, table, e, depth)
		if about = min(about, m); about == never {
			return passed
		}
		if fate != 0 {
			if about == perhaps {
				fate |= passed
			}
			return fate
		}
	}
	return passed
}

// expression returns the fate of the packets that come to an expression, none where
// they come to the next one, and whether they do.
func (j *judgement) expression(regs *octets, table tableKey, e expression, depth int) (Fate, match) {
	switch e.name {
	case "counter", "log", "last", "notrack", "flow_offload", "objref":
		return 0, always
	case "limit", "quota", "connlimit", "dynset":
		return 0, perhaps
	case "reject":
		return Dropped, always
	case "nat", "masq", "redir":
		return Translated, always
	case "queue":
		return Accepted | Dropped, always
	case "tproxy", "synproxy", "fwd":
		return undecided, always
	case "ct":
		var known expr.Ct
		if expr.Unmarshal(table.family, e.data, &known) != nil {
			*regs = octets{}
			return 0, perhaps
		}
		regs.ct(&known, j.packet)
		return 0, always
	case "target":
		return targetFate(decodeXT(e.data)), always
	case "match":
		return 0, xtMatch(decodeXT(e.data)).about(j.packet)
	}
	switch known := decodeExpression(table.family, e.name, e.data).(type) {
	case *expr.Meta:
		regs.meta(known, j.packet)
	case *expr.Payload:
		regs.payload(known, j.packet)
	case *expr.Bitwise:
		regs.bitwise(known)
	case *expr.Immediate:
		regs.put(known.Register, known.Data)
	case *expr.Cmp:
		return 0, regs.compare(known)
	case *expr.Range:
		m := regs.within(known.Register, known.FromData, known.ToData)
		if known.Op == expr.CmpOpNeq {
			m = m.not()
		}
		return 0, m
	case *expr.Lookup:
		return j.lookup(regs, table, known, depth)
	case *expr.Verdict:
		return j.verdict(table, known, depth), always
	default: // it may write any register, or end the rule
		*regs = octets{}
		return 0, perhaps
	}
	return 0, always
}

func (j *judgement) verdict(table tableKey, v *expr.Verdict, depth int) Fate {
	switch v.Kind {
	case expr.VerdictAccept:
		return Accepted
	case expr.VerdictDrop:
		return Dropped
	case expr.VerdictReturn:
		return returned
	case expr.VerdictContinue, expr.VerdictBreak:
		return passed
	case expr.VerdictJump:
		return j.chain(table, v.Chain, depth+1)
	case expr.VerdictGoto:
		fate := j.chain(table, v.Chain, depth+1)
		if fate&passed != 0 {
			fate = fate&^passed | returned
		}
		return fate
	}
	return undecided
}

// lookup asks a set, or follows a verdict map. Where the key is not known it does not
// read the elements: there may be many.
func (j *judgement) lookup(regs *octets, table tableKey, e *expr.Lookup, depth int) (Fate, match) {
	isMap := e.IsDestRegSet
	verdicts := isMap && e.DestRegister == unix.NFT_REG_VERDICT
	if isMap && !verdicts {
		*regs = octets{}
		return 0, perhaps
	}
	set := setKey{table, e.SetName}
	declared, err := j.firewall.s.declaration(set)
	if err != nil {
		return j.unread(err, verdicts)
	}
	key, known := regs.get(e.SourceRegister, declared.keySize)
	if !known || declared.keySize == 0 {
		return j.unread(nil, verdicts)
	}
	elements, err := j.firewall.s.elements(set)
	if err != nil {
		return j.unread(err, verdicts)
	}
	found := find(elements, key, declared.flags&setConcat != 0)
	switch {
	case !verdicts:
		return 0, matchOf((found != nil) != e.Invert)
	case found == nil:
		return 0, never
	case found.verdict == nil:
		return undecided, always
	}
	return j.verdict(table, found.verdict, depth), always
}

// find returns the element that has the key. In a concatenation each word has bounds
// of its own. An element for all other keys is the last choice.
func find(elements []interval, key []byte, concatenation bool) (found *interval) {
	word := len(key)
	if concatenation {
		word = 4
	}
	for i := range elements {
		e := &elements[i]
		if len(e.low) == 0 {
			found = e
			continue
		}
		inside := len(e.low) == len(key) && len(e.high) == len(key)
		for at := 0; inside && at < len(key); at += word {
			end := min(at+word, len(key))
			inside = bytes.Compare(e.low[at:end], key[at:end]) <= 0 && bytes.Compare(key[at:end], e.high[at:end]) <= 0
		}
		if inside {
			return e
		}
	}
	return found
}

// unread is the answer of a set that was not asked.
func (j *judgement) unread(err error, verdicts bool) (Fate, match) {
	if err != nil {
		j.firewall.s.failures = append(j.firewall.s.failures, fmt.Errorf("nft: %w", err))
	}
	if verdicts {
		return undecided, always
	}
	return 0, perhaps
}

// compare matches a register with one value.
func (c *octets) compare(e *expr.Cmp) match {
	low, high := make([]byte, len(e.Data)), make([]byte, len(e.Data))
	for i := range high {
		high[i] = 0xff
	}
	switch e.Op {
	case expr.CmpOpEq:
		return c.within(e.Register, e.Data, e.Data)
	case expr.CmpOpNeq:
		return c.within(e.Register, e.Data, e.Data).not()
	case expr.CmpOpLt:
		return c.within(e.Register, e.Data, high).not()
	case expr.CmpOpGte:
		return c.within(e.Register, e.Data, high)
	case expr.CmpOpGt:
		return c.within(e.Register, low, e.Data).not()
	case expr.CmpOpLte:
		return c.within(e.Register, low, e.Data)
	}
	return perhaps
}

// targetFate is what a target of xtables does.
func targetFate(t extension) Fate {
	switch t.name {
	case "REJECT", "DROP":
		return Dropped
	case "SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP":
		return Translated
	case "NFQUEUE", "QUEUE":
		return Accepted | Dropped
	case "LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "LED", "IDLETIMER", "RATEEST",
		"MARK", "CONNMARK", "SECMARK", "CONNSECMARK", "CLASSIFY", "HMARK",
		"TOS", "DSCP", "TTL", "TCPMSS", "TCPOPTSTRIP", "ECN", "CHECKSUM",
		"CT", "NOTRACK", "HL", "TEE", "SET", offloadTarget:
		return 0
	}
	return undecided
}
