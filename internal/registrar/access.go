package registrar

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sipnatd/internal/config"
	"sipnatd/internal/proxy"
)

const (
	// lookUpEvery is how often the names of access lists are looked up, lookUpAgain
	// when one that had no address is, and lookUpTime bounds a look-up.
	lookUpEvery = 5 * time.Minute
	lookUpAgain = 30 * time.Second
	lookUpTime  = 10 * time.Second
)

// AccessConfig is hosts_allow_reg, hosts_allow_sip and hosts_deny_sip. An empty list
// says nothing.
type AccessConfig struct {
	AllowRegister, AllowSIP, DenySIP []config.Access
}

// Blocker blocks hosts for their failures.
type Blocker interface {
	Blocked(host netip.Addr) bool
	Refused(host netip.Addr, status int)
}

// Access is who may use the proxy. Its methods may be called by several goroutines.
//
// Names are looked up in the background by [Access.Run]. Until that has brought an
// address, and where there is none, an entry stands for nobody; an address that was
// found stays when a later look-up fails.
type Access struct {
	log     *slog.Logger
	blocker Blocker
	resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	lists   atomic.Pointer[accessLists]
	again   chan struct{}

	mu      sync.Mutex // of what follows
	cfg     AccessConfig
	names   map[string][]netip.Addr
	failing map[string]bool // and it has been reported
}

// accessLists are access lists as they are asked. They are never changed.
type accessLists struct {
	allowRegister, allowSIP, denySIP accessList
}

// accessList is the networks of a list. An empty one with given set lets nobody match.
type accessList struct {
	given    bool
	networks []netip.Prefix
}

var _ proxy.Access = (*Access)(nil)

// NewAccess returns access lists, with what else blocks hosts; nil for nothing.
func NewAccess(cfg AccessConfig, blocker Blocker, log *slog.Logger) *Access {
	a := &Access{
		log:     log.With("class", "access"),
		blocker: blocker,
		resolve: func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
		},
		again:   make(chan struct{}, 1),
		names:   make(map[string][]netip.Addr),
		failing: make(map[string]bool),
	}
	a.Configure(cfg)
	return a
}

// Configure puts other lists in force, and has their names looked up.
func (a *Access) Configure(cfg AccessConfig) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cfg = cfg
	a.compose()
	select {
	case a.again <- struct{}{}:
	default: // they are about to be
	}
}

// compose makes the lists anew of the configuration and the addresses of names.
func (a *Access) compose() {
	list := func(entries []config.Access) accessList {
		l := accessList{given: len(entries) > 0}
		for _, e := range entries {
			if e.Name == "" {
				l.networks = append(l.networks, e.Network.Masked())
				continue
			}
			for _, addr := range a.names[e.Name] {
				if p, err := addr.Prefix(e.Bits); err == nil {
					l.networks = append(l.networks, p)
				}
			}
		}
		return l
	}
	a.lists.Store(&accessLists{
		allowRegister: list(a.cfg.AllowRegister),
		allowSIP:      list(a.cfg.AllowSIP),
		denySIP:       list(a.cfg.DenySIP),
	})
}

func (l accessList) has(host netip.Addr) bool {
	return slices.ContainsFunc(l.networks, func(p netip.Prefix) bool { return p.Contains(host) })
}

// SIP implements [proxy.Access]: whoever may register may send SIP, too.
func (a *Access) SIP(host netip.Addr) bool {
	host = host.Unmap()
	l := a.lists.Load()
	return !l.denySIP.has(host) &&
		(!l.allowSIP.given || l.allowSIP.has(host) || l.allowRegister.has(host)) &&
		(a.blocker == nil || !a.blocker.Blocked(host))
}

// Register implements [proxy.Access].
func (a *Access) Register(host netip.Addr) bool {
	l := a.lists.Load()
	return a.SIP(host) && (!l.allowRegister.given || l.allowRegister.has(host.Unmap()))
}

// Refused implements [proxy.Access].
func (a *Access) Refused(host netip.Addr, status int) {
	if a.blocker != nil {
		a.blocker.Refused(host.Unmap(), status)
	}
}

// Run looks names up, until ctx ends.
func (a *Access) Run(ctx context.Context) error {
	next := time.NewTimer(lookUpEvery)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		case <-a.again:
		}
		next.Reset(a.lookUp(ctx))
	}
}

// lookUp looks all names up, and returns when to do so again.
func (a *Access) lookUp(ctx context.Context) time.Duration {
	a.mu.Lock()
	cfg := a.cfg
	a.mu.Unlock()
	var names []string
	for _, list := range [][]config.Access{cfg.AllowRegister, cfg.AllowSIP, cfg.DenySIP} {
		for _, e := range list {
			if e.Name != "" && !slices.Contains(names, e.Name) {
				names = append(names, e.Name)
			}
		}
	}
	var wait sync.WaitGroup
	places := make(chan struct{}, 8)
	for _, name := range names {
		wait.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			limited, cancel := context.WithTimeout(ctx, lookUpTime)
			defer cancel()
			found, err := a.resolve(limited, name)
			if ctx.Err() == nil {
				a.found(name, found, err)
			}
		})
	}
	wait.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	next := lookUpEvery
	for _, name := range names {
		if a.failing[name] {
			next = lookUpAgain
		}
	}
	for name := range a.names {
		if !slices.Contains(names, name) {
			delete(a.names, name)
			delete(a.failing, name)
		}
	}
	return next
}

var errNoAddress = errors.New("it has no IPv4 address")

// found takes note of the addresses of a name.
func (a *Access) found(name string, list []netip.Addr, err error) {
	for i := range list {
		list[i] = list[i].Unmap()
	}
	slices.SortFunc(list, netip.Addr.Compare)
	if err == nil && len(list) == 0 {
		err = errNoAddress
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err != nil && !a.failing[name]:
		a.failing[name] = true
		a.log.Warn("a host of hosts_allow_reg, hosts_allow_sip or hosts_deny_sip has no address now", "name", name, "stays", a.names[name], "error", err)
	case err == nil && a.failing[name]:
		a.failing[name] = false
		a.log.Info("a host of an access list has an address again", "name", name, "addresses", list)
	}
	if err == nil && !slices.Equal(list, a.names[name]) {
		a.log.Debug("looked up", "name", name, "addresses", list)
		a.names[name] = list
		a.compose()
	}
}
