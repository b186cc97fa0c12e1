package registrar

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sipnatd/internal/config"
)

func network(cidr string) config.Access { return config.Access{Network: netip.MustParsePrefix(cidr)} }

func named(host string, bits int) config.Access { return config.Access{Name: host, Bits: bits} }

// wantAccess says for a host whether it may send SIP, and register.
func wantAccess(t *testing.T, a *Access, host string, sip, register bool) {
	t.Helper()
	addr := netip.MustParseAddr(host)
	if a.SIP(addr) != sip || a.Register(addr) != register {
		t.Errorf("%s: SIP %v, REGISTER %v; want %v, %v", host, a.SIP(addr), a.Register(addr), sip, register)
	}
}

func TestAccess(t *testing.T) {
	type list = []config.Access
	a := NewAccess(AccessConfig{}, nil, quiet())
	wantAccess(t, a, "192.0.2.1", true, true)

	a.Configure(AccessConfig{DenySIP: list{network("192.0.2.0/24")}})
	wantAccess(t, a, "192.0.2.1", false, false)
	wantAccess(t, a, "::ffff:192.0.2.1", false, false)
	wantAccess(t, a, "192.0.3.1", true, true)

	// As siproxd's example has it: phones may register, providers may call.
	a.Configure(AccessConfig{AllowRegister: list{network("10.0.0.9/24")}, AllowSIP: list{network("198.51.100.0/24"), network("203.0.113.7/32")}, DenySIP: list{network("10.0.0.66/32")}})
	wantAccess(t, a, "10.0.0.10", true, true)
	wantAccess(t, a, "10.0.0.66", false, false)
	wantAccess(t, a, "10.0.1.10", false, false)
	wantAccess(t, a, "198.51.100.1", true, false)
	wantAccess(t, a, "203.0.113.7", true, false)
	wantAccess(t, a, "203.0.113.8", false, false)

	a.Configure(AccessConfig{AllowRegister: list{network("10.0.0.0/24")}})
	wantAccess(t, a, "10.0.0.10", true, true)
	wantAccess(t, a, "192.0.2.1", true, false)

	a.Configure(AccessConfig{AllowSIP: list{network("0.0.0.0/0")}})
	wantAccess(t, a, "192.0.2.1", true, true)
}

type blocker struct {
	host    netip.Addr
	refused int
}

func (b *blocker) Blocked(host netip.Addr) bool     { return host == b.host }
func (b *blocker) Refused(_ netip.Addr, status int) { b.refused = status }

func TestBlocker(t *testing.T) {
	b := &blocker{host: netip.MustParseAddr("192.0.2.66")}
	a := NewAccess(AccessConfig{AllowRegister: []config.Access{network("192.0.2.66/32")}}, b, quiet())
	wantAccess(t, a, "192.0.2.66", false, false)
	a.Refused(b.host, 403)
	if b.refused != 403 {
		t.Error("it was not told")
	}
	NewAccess(AccessConfig{}, nil, quiet()).Refused(b.host, 403)
}

// TestAccessNames has names that are looked up, get another address, and fail.
func TestAccessNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		a := NewAccess(AccessConfig{AllowSIP: []config.Access{named("provider.example", 32), named("office.example", 24), network("10.0.0.0/8")}}, nil, log.logger())
		addresses := map[string]string{"provider.example": "192.0.2.1", "office.example": "198.51.100.77"}
		looks := 0
		a.resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
			a.mu.Lock()
			looks++
			text := addresses[name]
			a.mu.Unlock()
			switch text {
			case "":
				return nil, errors.New("no such host")
			case "slow":
				<-ctx.Done()
				return nil, ctx.Err()
			case "none":
				return nil, nil
			}
			return []netip.Addr{netip.MustParseAddr(text)}, nil
		}
		set := func(name, address string) {
			a.mu.Lock()
			addresses[name] = address
			a.mu.Unlock()
		}
		wantAccess(t, a, "192.0.2.1", false, false)
		wantAccess(t, a, "10.1.2.3", true, true)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		synctest.Wait()
		wantAccess(t, a, "192.0.2.1", true, true)
		wantAccess(t, a, "192.0.2.2", false, false)
		wantAccess(t, a, "198.51.100.1", true, true)

		set("provider.example", "192.0.2.2")
		time.Sleep(lookUpEvery)
		synctest.Wait()
		wantAccess(t, a, "192.0.2.1", false, false)
		wantAccess(t, a, "192.0.2.2", true, true)

		set("provider.example", "slow")
		set("office.example", "none")
		time.Sleep(lookUpEvery + lookUpTime)
		synctest.Wait()
		wantAccess(t, a, "192.0.2.2", true, true)
		wantAccess(t, a, "198.51.100.1", true, true)
		time.Sleep(5 * lookUpAgain)
		synctest.Wait()
		if log.count("has no address now") != 2 {
			t.Errorf("log: %s", log.String())
		}
		set("provider.example", "::ffff:192.0.2.3")
		time.Sleep(2 * (lookUpAgain + lookUpTime))
		synctest.Wait()
		wantAccess(t, a, "192.0.2.3", true, true)
		if log.count("has an address again", "provider.example") != 1 {
			t.Errorf("log: %s", log.String())
		}

		a.Configure(AccessConfig{DenySIP: []config.Access{named("enemy.example", 32)}})
		set("enemy.example", "203.0.113.1")
		synctest.Wait()
		wantAccess(t, a, "203.0.113.1", false, false)
		a.mu.Lock()
		if len(a.names) != 1 || looks > 20 {
			t.Errorf("%v, %d look-ups", a.names, looks)
		}
		a.mu.Unlock()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
