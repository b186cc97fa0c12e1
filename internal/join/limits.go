package join

import (
	"net/netip"
	"time"
)

// Limits bound what connections can take. Zero values are replaced by the defaults.
type Limits struct {
	Connections int // at a time; default 2048
	PerHost     int // inside, at a time; default 128

	Connect    time.Duration // until the far party has accepted; default 10 s
	Message    time.Duration // from a message's first byte to its last; default 60 s
	Write      time.Duration // until the receiver has taken a message, or the next part of other data; default 60 s
	Silence    time.Duration // without a byte in either direction; default 2 h
	HalfClosed time.Duration // the same, once one direction has ended; default 2 min
}

func (l Limits) withDefaults() Limits {
	set := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	if l.Connections == 0 {
		l.Connections = 2048
	}
	if l.PerHost == 0 {
		l.PerHost = 128
	}
	set(&l.Connect, 10*time.Second)
	set(&l.Message, time.Minute)
	set(&l.Write, time.Minute)
	set(&l.Silence, 2*time.Hour)
	set(&l.HalfClosed, 2*time.Minute)
	return l
}

// enter takes a place for a connection of an inside host, if there is one.
func (j *Join) enter(host netip.Addr) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ended || j.stats.Open >= j.limits.Connections || j.hosts[host] >= j.limits.PerHost {
		j.stats.Refused++
		return false
	}
	j.stats.Open++
	j.hosts[host]++
	return true
}

// leave gives the place back.
func (j *Join) leave(host netip.Addr) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stats.Open--
	if j.hosts[host]--; j.hosts[host] == 0 {
		delete(j.hosts, host)
	}
}

// warnEvery is how often one warning about one host is repeated, and maxWarned
// bounds the memory for those that were given.
const (
	warnEvery = 10 * time.Minute
	maxWarned = 1024
)

type warning struct {
	text string
	host netip.Addr
}

// warn writes a warning, each one once for a host and a while: nobody must fill the
// log.
func (j *Join) warn(text string, host netip.Addr, args ...any) {
	key := warning{text, host}
	j.mu.Lock()
	last, ok := j.warned[key]
	due := !ok || time.Since(last) >= warnEvery
	if due {
		if len(j.warned) >= maxWarned {
			clear(j.warned)
		}
		j.warned[key] = time.Now()
	}
	j.mu.Unlock()
	if due {
		j.log.Warn(text, append([]any{"host", host}, args...)...)
	} else {
		j.log.Debug(text, append([]any{"host", host}, args...)...)
	}
}
