package locate

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// How long answers hold, whatever they say of themselves.
const (
	minTTL = 5 * time.Second // a record with 0 would be asked for with every message
	maxTTL = time.Hour       // a provider moves
	// maxNegative is for names and records that do not exist (RFC 2308 section 5).
	maxNegative = 15 * time.Minute
	// failureTTL is how long an unanswered question is not repeated (RFC 2308
	// section 7). Some forwarders drop what they do not know, such as NAPTR records,
	// without which the way is the same but for a preference.
	failureTTL      = 10 * time.Second
	failureTTLNAPTR = 5 * time.Minute
	// maxStale is how long an answer may be used after its end, for want of a new
	// one (RFC 8767 section 5).
	maxStale = 24 * time.Hour
	// maxChain bounds the questions for one name that leads to others (RFC 1034
	// section 3.6.2).
	maxChain = 8
)

// question is what is looked up. The name is in lower case, without a dot at its end.
type question struct {
	name string
	kind dnsmessage.Type
}

// entry is an answer that is kept. No records: there are none, or nobody knows.
type entry struct {
	records
	expires time.Time
	failed  bool // the records, if any, are stale
}

// flight is a question on its way.
type flight struct {
	done chan struct{}
	records
}

// resolver answers questions from its cache or from DNS servers.
type resolver struct {
	files  files
	client client
	now    func() time.Time
	log    *slog.Logger
	size   int

	mu      sync.Mutex
	cache   map[question]entry
	flights map[question]*flight
	silent  bool // the DNS servers did not answer the last question
	failed  uint64
	stale   uint64
}

func (r *resolver) open(cfg Config, log *slog.Logger) {
	r.now, r.log = time.Now, log
	if r.size = cfg.CacheSize; r.size == 0 {
		r.size = 2048
	}
	r.cache = make(map[question]entry)
	r.flights = make(map[question]*flight)
	r.files.open(cfg, log)
	r.client.files = &r.files
}

func (r *resolver) counters() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{
		Queries: r.client.queries.Load(), Refused: r.client.refused.Load(),
		Failures: r.failed, Stale: r.stale, Cached: len(r.cache),
	}
}

// known answers questions if all answers are known.
func (r *resolver) known(q ...question) (answers []records, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range q {
		a, ok := r.recall(q)
		if !ok {
			return nil, false
		}
		answers = append(answers, a)
	}
	return answers, true
}

// refresh takes notice of files that have changed. There may be other servers then,
// which might know better that something does not exist.
func (r *resolver) refresh() {
	if !r.files.changed() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for q, e := range r.cache {
		if e.empty() || e.failed {
			delete(r.cache, q)
		}
	}
}

// recall returns an answer that is known. r.mu is held.
func (r *resolver) recall(q question) (a records, ok bool) {
	if q.kind == dnsmessage.TypeA {
		if list := r.files.addresses(q.name); list != nil {
			return records{a: list}, true
		}
	}
	e, ok := r.cache[q]
	if !ok || !r.now().Before(e.expires) {
		return a, false
	}
	return e.records, true
}

// lookUp answers questions in their order, the unknown ones all at once. It waits for
// the answers, or until ctx ends.
func (r *resolver) lookUp(ctx context.Context, q ...question) []records {
	answers := make([]records, len(q))
	flights := make([]*flight, len(q))
	r.mu.Lock()
	for i, q := range q {
		a, ok := r.recall(q)
		if ok {
			answers[i] = a
			continue
		}
		f := r.flights[q]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			r.flights[q] = f
			go r.fly(ctx, q, f)
		}
		flights[i] = f
	}
	r.mu.Unlock()
	for i, f := range flights {
		if f != nil {
			<-f.done // ctx is the same for all
			answers[i] = f.records
		}
	}
	return answers
}

// fly asks a question, and keeps the answer.
func (r *resolver) fly(ctx context.Context, q question, f *flight) {
	a, ttl, err := r.ask(ctx, q)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flights, q)
	defer close(f.done)
	if ctx.Err() != nil {
		return
	}
	now := r.now()
	switch {
	case err != nil:
		r.failed++
		ttl = failureTTL
		if q.kind == typeNAPTR {
			ttl = failureTTLNAPTR
		}
		if old, ok := r.cache[q]; ok && now.Before(old.expires.Add(maxStale)) {
			a = old.records
			if !a.empty() {
				r.stale++
			}
		}
	case a.empty():
		ttl = min(max(ttl, minTTL), maxNegative)
	default:
		ttl = min(max(ttl, minTTL), maxTTL)
	}
	r.tell(q, err)
	if _, there := r.cache[q]; !there {
		r.makeRoom(now)
	}
	r.cache[q] = entry{records: a, expires: now.Add(ttl), failed: err != nil}
	f.records = a
}

// tell logs that the DNS has gone, and that it is back. One question that fails alone
// is its domain's matter.
func (r *resolver) tell(q question, err error) {
	silent := errors.Is(err, errNoAnswer)
	switch {
	case silent && !r.silent:
		r.log.Warn("no DNS server answers", "name", q.name, "type", typeName(q.kind), "error", err)
	case err == nil && r.silent:
		r.log.Info("a DNS server answers again")
	case err != nil:
		r.log.Debug("not looked up", "name", q.name, "type", typeName(q.kind), "error", err)
	}
	if silent || err == nil {
		r.silent = silent
	}
}

// makeRoom keeps the cache within its bounds. What has run out goes first, then
// anything.
func (r *resolver) makeRoom(now time.Time) {
	if len(r.cache) < r.size {
		return
	}
	for q, e := range r.cache {
		if !now.Before(e.expires) {
			delete(r.cache, q)
		}
	}
	for q := range r.cache {
		if len(r.cache) < r.size {
			return
		}
		delete(r.cache, q)
	}
}

// ask looks for the records of a name, or of the name that it is an alias of.
func (r *resolver) ask(ctx context.Context, q question) (a records, ttl time.Duration, err error) {
	ttl = maxTTL
	for range maxChain {
		reply, err := r.client.exchange(ctx, q)
		if err != nil {
			return a, 0, err
		}
		ttl = min(ttl, reply.ttl)
		if reply.alias == "" {
			return reply.records, ttl, nil
		}
		q.name = reply.alias
	}
	return a, 0, errLoop
}
