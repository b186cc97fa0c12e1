package locate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// typeNAPTR is the type of NAPTR records (RFC 3403), which dnsmessage does not know.
const typeNAPTR dnsmessage.Type = 35

// maxRecords bounds the records of one answer that are used.
const maxRecords = 64

var (
	errLoop     = errors.New("an alias leads to itself, or there are too many")
	errNotOurs  = errors.New("not the answer to the query")
	errFormat   = errors.New("the server does not understand the query")
	errTooLong  = errors.New("the answer is truncated")
	errNoName   = errors.New("not a name that can be asked for")
	errNoAnswer = errors.New("no server has answered")
)

// records are the records of one name and type.
type records struct {
	a     []netip.Addr
	srv   []srv
	naptr []naptr
}

func (r *records) empty() bool { return len(r.a) == 0 && len(r.srv) == 0 && len(r.naptr) == 0 }

func (r *records) full() bool { return len(r.a)+len(r.srv)+len(r.naptr) >= maxRecords }

// srv is an SRV record (RFC 2782). The target is in lower case, without a dot at its
// end: "" says that there is no such service.
type srv struct {
	priority, weight, port uint16
	target                 string
}

// naptr is a NAPTR record (RFC 3403). The replacement is like the target of an srv.
type naptr struct {
	order, preference      uint16
	flags, service, regexp string
	replacement            string
}

// reply is what a server has answered.
type reply struct {
	records        // those of the name, or of the last one of its aliases
	alias   string // the name to ask for instead; "" if the answer is whole
	ttl     time.Duration
}

// newQuery returns a query for recursive servers. With edns it tells that answers of
// 1232 bytes are welcome, which pass everywhere without fragments (RFC 6891).
func newQuery(id uint16, q question, edns bool) ([]byte, error) {
	name, err := dnsmessage.NewName(q.name + ".")
	if err != nil {
		return nil, errNoName
	}
	b := dnsmessage.NewBuilder(make([]byte, 2, 514), dnsmessage.Header{ID: id, RecursionDesired: true})
	err = errors.Join(b.StartQuestions(),
		b.Question(dnsmessage.Question{Name: name, Type: q.kind, Class: dnsmessage.ClassINET}))
	if edns && err == nil {
		var h dnsmessage.ResourceHeader
		err = errors.Join(b.StartAdditionals(), h.SetEDNS0(maxDatagram, dnsmessage.RCodeSuccess, false),
			b.OPTResource(h, dnsmessage.OPTResource{}))
	}
	if err != nil {
		return nil, errNoName
	}
	msg, err := b.Finish()
	if err != nil {
		return nil, errNoName
	}
	// The two bytes in front are the length that a query over TCP begins with.
	binary.BigEndian.PutUint16(msg, uint16(len(msg)-2))
	return msg, nil
}

// readReply judges an answer to a query. The error is errNotOurs for what somebody else
// may have sent, errTooLong if the question is to be repeated over TCP, errFormat if it
// is to be repeated without EDNS, and another one if the server can not answer.
func readReply(msg []byte, id uint16, q question) (r reply, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || !h.Response || h.ID != id || h.OpCode != 0 {
		return r, errNotOurs
	}
	asked, err := p.AllQuestions()
	if err == nil && len(asked) == 0 && h.RCode == dnsmessage.RCodeFormatError {
		return r, errFormat // a server that did not even find the question
	}
	if err != nil || len(asked) != 1 || asked[0].Type != q.kind || asked[0].Class != dnsmessage.ClassINET || nameOf(asked[0].Name) != q.name {
		return r, errNotOurs
	}
	switch {
	case h.RCode == dnsmessage.RCodeFormatError || h.RCode == dnsmessage.RCodeNotImplemented:
		return r, errFormat
	case h.Truncated:
		return r, errTooLong
	case h.RCode == dnsmessage.RCodeNameError:
		// An alias may lead to a name that does not exist: all the same.
		r.ttl, err = negativeTTL(&p)
		return r, err
	case h.RCode != dnsmessage.RCodeSuccess:
		return r, fmt.Errorf("the server answers %s", strings.TrimPrefix(h.RCode.String(), "RCode"))
	}
	if err := r.answers(&p, q); err != nil || !r.empty() || r.alias != "" {
		return r, err
	}
	ttl, err := negativeTTL(&p)
	if err == nil && ttl < 0 && !h.Authoritative && !h.RecursionAvailable {
		return r, errors.New("the server refers to others")
	}
	r.ttl = ttl
	return r, err
}

// answers reads the answer section: the records that the name itself or the last one
// of its aliases owns. All others are nobody's answer to us.
func (r *reply) answers(p *dnsmessage.Parser, q question) error {
	type owned struct {
		owner string
		records
		ttl time.Duration
	}
	type link struct {
		to  string
		ttl time.Duration
	}
	var list []owned
	aliases := make(map[string]link)
	for range 4 * maxRecords {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return err
		}
		ttl := time.Duration(h.TTL&(1<<31-1)) * time.Second
		if h.TTL>>31 != 0 {
			ttl = 0 // RFC 2181 section 8
		}
		o := owned{owner: nameOf(h.Name), ttl: ttl}
		switch {
		case h.Class != dnsmessage.ClassINET:
			err = p.SkipAnswer()
		case h.Type == dnsmessage.TypeCNAME:
			var c dnsmessage.CNAMEResource
			if c, err = p.CNAMEResource(); err == nil {
				aliases[o.owner] = link{nameOf(c.CNAME), ttl}
			}
		case h.Type != q.kind:
			err = p.SkipAnswer()
		default:
			if err = o.read(p, q.kind); err == nil && !o.empty() {
				list = append(list, o)
			}
		}
		if err != nil {
			return err
		}
	}
	r.ttl = maxTTL
	name := q.name
	for {
		for _, o := range list {
			if o.owner == name && !r.full() {
				r.a = append(r.a, o.a...)
				r.srv = append(r.srv, o.srv...)
				r.naptr = append(r.naptr, o.naptr...)
				r.ttl = min(r.ttl, o.ttl)
			}
		}
		l, ok := aliases[name]
		if !r.empty() || !ok {
			break
		}
		delete(aliases, name) // so that a loop ends
		name, r.ttl = l.to, min(r.ttl, l.ttl)
	}
	if r.empty() && name != q.name {
		if !validName(name) {
			return errNoName
		}
		r.alias = name
	}
	return nil
}

// read reads one record.
func (r *records) read(p *dnsmessage.Parser, kind dnsmessage.Type) error {
	switch kind {
	case dnsmessage.TypeA:
		a, err := p.AResource()
		if err != nil {
			return err
		}
		r.a = []netip.Addr{netip.AddrFrom4(a.A)}
	case dnsmessage.TypeSRV:
		s, err := p.SRVResource()
		if err != nil {
			return err
		}
		r.srv = []srv{{s.Priority, s.Weight, s.Port, nameOf(s.Target)}}
	case typeNAPTR:
		u, err := p.UnknownResource()
		if err != nil {
			return err
		}
		n, err := readNAPTR(u.Data)
		if err != nil {
			return err
		}
		r.naptr = []naptr{n}
	}
	return nil
}

// readNAPTR reads the data of a NAPTR record (RFC 3403 section 4.1).
func readNAPTR(b []byte) (n naptr, err error) {
	short := errors.New("a NAPTR record is cut off")
	if len(b) < 4 {
		return n, short
	}
	n.order, n.preference = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	b = b[4:]
	for _, s := range []*string{&n.flags, &n.service, &n.regexp} {
		if len(b) == 0 || len(b) <= int(b[0]) {
			return n, short
		}
		*s = string(b[1 : 1+b[0]])
		b = b[1+b[0]:]
	}
	var labels []string
	for {
		if len(b) == 0 || b[0] > 63 || len(b) <= int(b[0]) { // no compression (section 4.1)
			return n, short
		}
		if b[0] == 0 {
			break
		}
		labels = append(labels, string(b[1:1+b[0]]))
		b = b[1+b[0]:]
	}
	n.replacement = strings.ToLower(strings.Join(labels, "."))
	return n, nil
}

// negativeTTL returns how long it holds that there is nothing, by the SOA record of the
// zone (RFC 2308 section 5). It is negative if there is no such record.
func negativeTTL(p *dnsmessage.Parser) (time.Duration, error) {
	if err := p.SkipAllAnswers(); err != nil {
		return 0, err
	}
	for {
		h, err := p.AuthorityHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return -1, nil
		}
		if err != nil {
			return 0, err
		}
		if h.Type != dnsmessage.TypeSOA {
			if err := p.SkipAuthority(); err != nil {
				return 0, err
			}
			continue
		}
		soa, err := p.SOAResource()
		if err != nil {
			return 0, err
		}
		return time.Duration(min(h.TTL, soa.MinTTL)) * time.Second, nil
	}
}

// nameOf returns a name in the form that questions have.
func nameOf(n dnsmessage.Name) string {
	return strings.ToLower(strings.TrimSuffix(n.String(), "."))
}

func typeName(t dnsmessage.Type) string {
	if t == typeNAPTR {
		return "NAPTR"
	}
	return strings.TrimPrefix(t.String(), "Type")
}
