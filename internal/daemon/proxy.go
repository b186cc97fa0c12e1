package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sipnatd/internal/config"
	"sipnatd/internal/dialplan"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/locate"
	"sipnatd/internal/proxy"
	"sipnatd/internal/registrar"
	"sipnatd/internal/transport"
)

// proxyMode is the daemon as phones are configured to use it: sockets, and the proxy
// behind them.
type proxyMode struct {
	transport *transport.Transport
	proxy     *proxy.Proxy
	registrar *registrar.Registrar
	access    *registrar.Access
	blacklist *dialplan.Blacklist
	dialplan  *dialplan.Plan
	locator   *locate.Locator
	domains
	view atomic.Pointer[view]
	know func(host netip.Addr) error // exempts a host from the limits on strangers

	registrations, dialogs *journal // nil: none is kept
}

// view is what the proxy sees of its surroundings. It is replaced as a whole, so that
// the proxy waits for nothing.
type view struct {
	faces     *ifaces.Snapshot
	announced netip.Addr // in place of an outside address, if valid
	port      uint16
	names     []string // of our domains, in lower case
}

// openProxy opens the sockets, which may need privileges, and makes the proxy.
func (d *Daemon) openProxy() error {
	m := &proxyMode{domains: domains{log: d.log.With("class", "reg")}, know: d.kernel.Know}
	m.view.Store(d.proxyView(d.cfg))
	netLog := d.log.With("class", "net")
	m.registrar = registrar.New(m.registrarConfig(d.cfg), d.log.Logger)
	m.blacklist = dialplan.NewBlacklist(d.cfg.Plugins, d.log.Logger)
	m.access = registrar.NewAccess(accessConfig(d.cfg), m.blacklist, d.log.Logger)
	m.locator = locate.New(locate.Config{Log: d.log.With("class", "dns")})
	var err error
	if m.dialplan, err = dialplan.New(d.cfg.Plugins, d.log.Logger); err != nil {
		d.log.Warn("not all of the dialplan is in force", "error", err)
	}
	m.proxy = proxy.New(proxyConfig(d.cfg), proxy.Parts{
		Sender: sender{m}, Registrar: m.registrar, Access: m.access, Locator: m.locator,
		Dialplan: m.dialplan, Media: d.engine.NewWorker(), Networks: m,
	}, d.log.Logger)
	m.registrations = openJournal(d.cfg, stateRegistrations, d.log)
	m.dialogs = openJournal(d.cfg, stateDialogs, d.log)
	m.takeOver(d.log)
	m.transport, err = transport.Open(transport.Config{
		Listen:            m.view.Load().listen(),
		TCPTimeout:        d.cfg.Proxy.TCPTimeout,
		TCPConnectTimeout: d.cfg.Proxy.TCPConnectTimeout,
		TCPKeepalive:      d.cfg.Proxy.TCPKeepalive,
		SIPDSCP:           d.cfg.SIPDSCP,
		Logger:            netLog,
	}, m.proxy)
	if err != nil {
		m.locator.Close()
		m.registrations.close()
		m.dialogs.close()
		return err
	}
	d.proxy = m
	d.log.Info("proxy mode", "listens", m.view.Load().listen())
	if n := m.proxy.Resume(); n > 0 {
		d.log.Info("calls that wait for their answer are sent on once more", "calls", n)
	}
	return nil
}

// sender is the proxy's way to the sockets, which are opened after it.
type sender struct{ *proxyMode }

// Send makes a host outside known to the kernel that somebody inside sends a request to:
// nobody outside can have requests sent there.
func (s sender) Send(to transport.Hop, message []byte) error {
	if host := to.Remote.Addr(); !bytes.HasPrefix(message, []byte("SIP/2.0 ")) && !s.Inside(host) {
		if err := s.know(host); err != nil {
			s.log.Warn("a host that is sent to is limited as a stranger", "host", host, "error", err)
		}
	}
	return s.transport.Send(to, message)
}

func (m *proxyMode) close() {
	m.transport.Close()
	m.locator.Close()
	m.registrations.close()
	m.dialogs.close()
}

// runProxy serves until ctx ends.
func (d *Daemon) runProxy(ctx context.Context) error {
	m := d.proxy
	var wait sync.WaitGroup
	for _, run := range []func(context.Context) error{m.transport.Run, m.proxy.Run, m.registrar.Run, m.access.Run} {
		wait.Go(func() { _ = run(ctx) }) // they end with ctx, without error
	}
	wait.Wait()
	return nil
}

// configureProxy puts the daemon's configuration in force in the proxy mode. It is
// called with the daemon's lock.
func (d *Daemon) configureProxy() {
	m := d.proxy
	if m == nil {
		return
	}
	d.followProxy() // the registrar asks for domains
	m.proxy.Configure(proxyConfig(d.cfg))
	m.registrar.Configure(m.registrarConfig(d.cfg))
	m.access.Configure(accessConfig(d.cfg))
	m.blacklist.Configure(d.cfg.Plugins)
	if err := m.dialplan.Configure(d.cfg.Plugins); err != nil {
		d.log.Warn("not all of the dialplan is in force", "error", err)
	}
	if err := m.transport.SetDSCP(d.cfg.SIPDSCP); err != nil {
		d.log.Error("the proxy mode does not mark packets with the changed sip_dscp", "error", err)
	}
}

// followProxy has the proxy mode follow the interfaces and what is announced. It is
// called with the daemon's lock.
func (d *Daemon) followProxy() {
	m := d.proxy
	if m == nil {
		return
	}
	v := d.proxyView(d.cfg)
	m.view.Store(v)
	if err := m.transport.SetListen(v.listen()); err != nil {
		d.log.Error("the proxy mode does not listen on every address", "error", err)
	}
}

func (d *Daemon) proxyView(cfg *config.Config) *view {
	v := &view{faces: d.faces.Load(), announced: d.announced, port: cfg.ListenPort}
	for _, name := range cfg.Proxy.Domains {
		v.names = append(v.names, strings.ToLower(name))
	}
	if cfg.HostOutbound != "" {
		v.names = append(v.names, strings.ToLower(cfg.HostOutbound))
	}
	return v
}

// listen returns the addresses of all inside and outside interfaces.
func (v *view) listen() (list []netip.AddrPort) {
	for _, i := range v.faces.Interfaces() {
		for _, a := range i.Addrs {
			if i.Up {
				list = append(list, netip.AddrPortFrom(a.Addr(), v.port))
			}
		}
	}
	return list
}

// face returns the face with a local address.
func (v *view) face(local netip.Addr) (f proxy.Face, ok bool) {
	for _, i := range v.faces.Interfaces() {
		if !slices.ContainsFunc(i.Addrs, func(p netip.Prefix) bool { return p.Addr() == local }) {
			continue
		}
		f.Local = netip.AddrPortFrom(local, v.port)
		f.Named = f.Local
		if i.Side == ifaces.Outside {
			f.Side = proxy.Outside
			if v.announced.IsValid() {
				f.Named = netip.AddrPortFrom(v.announced, v.port)
			}
		}
		return f, true
	}
	return f, false
}

// loopbackIndex is the index of the loopback interface, in every namespace.
const loopbackIndex = 1

// Arrived implements [proxy.Networks]. What is inside is told by the interface that
// a message came in by: a phone may well use the firewall's public name, and whoever
// is on the outside network may send to the inside address.
func (m *proxyMode) Arrived(from transport.Hop) (proxy.Face, bool) {
	v := m.view.Load()
	f, ok := v.face(from.Local.Addr())
	if !ok || from.Interface == 0 || from.Interface == loopbackIndex {
		return f, ok // over a connection of ours, or from the firewall itself
	}
	i := v.faces.Interface(uint32(from.Interface))
	switch {
	case i == nil:
		return f, false
	case i.Side == ifaces.Outside:
		return f, f.Side == proxy.Outside
	case f.Side == proxy.Outside && len(i.Addrs) > 0:
		return v.face(i.Addrs[0].Addr())
	}
	return f, f.Side == proxy.Inside
}

// Towards implements [proxy.Networks].
func (m *proxyMode) Towards(host netip.Addr) (proxy.Face, bool) {
	local, err := m.transport.Route(host)
	if err != nil {
		return proxy.Face{}, false
	}
	return m.view.Load().face(local)
}

// Inside implements [proxy.Networks].
func (m *proxyMode) Inside(a netip.Addr) bool { return m.view.Load().faces.InsideNetwork(a) }

// Own implements [proxy.Networks].
func (m *proxyMode) Own(host string, port int) bool {
	v := m.view.Load()
	if port != 0 && port != int(v.port) {
		return false
	}
	own := func(a netip.Addr) bool { return v.faces.Own(a) || a == v.announced && v.announced.IsValid() }
	if a, err := netip.ParseAddr(host); err == nil {
		return own(a)
	}
	server, adopted := m.server(host)
	return slices.Contains(v.names, host) || adopted && own(server)
}

func (m *proxyMode) registrarConfig(cfg *config.Config) registrar.Config {
	c := &cfg.Proxy
	var least time.Duration // by default
	if most := cfg.RegisterExpiresMax; most > 0 {
		least = min(most, registrar.MinExpires)
	}
	return registrar.Config{
		DefaultExpires: c.DefaultExpires, MinExpires: least, MaxExpires: cfg.RegisterExpiresMax,
		Own:  m.Own,
		File: c.RegistrationFile, Autosave: c.Autosave,
		Realm: c.AuthRealm, Password: c.AuthPassword, PasswordFile: c.AuthFile,
	}
}

func accessConfig(cfg *config.Config) registrar.AccessConfig {
	c := &cfg.Proxy
	return registrar.AccessConfig{AllowRegister: c.AllowRegister, AllowSIP: c.AllowSIP, DenySIP: c.DenySIP}
}

// report writes what the proxy mode holds and has done to the log.
func (m *proxyMode) report(log *slog.Logger) {
	s, r, l, t := m.proxy.Stats(), m.registrar.Stats(), m.locator.Stats(), m.transport.Stats()
	log.Info("proxy mode holds", "contacts", r.Contacts, "registrations outside", r.Outside, "lines", r.Lines,
		"server transactions", s.Servers, "client transactions", s.Clients, "dialogs", s.Dialogs,
		"TCP connections", t.Connections)
	log.Info("proxy mode has seen", "requests", s.Requests, "forwarded", s.Forwarded, "retransmissions", s.Retransmissions,
		"sent again", s.Resent, "timeouts", s.Timeouts, "loops", s.Loops, "over limits", s.Stats.Refused, "panics", s.Panics+t.Panics,
		"registered", r.Registered, "wrong passwords", r.WrongDigests, "look-ups", l.Located, "DNS queries", l.Queries)
	log.Info("proxy mode over UDP", "received", t.UDPIn, "sent", t.UDPOut, "ICMP errors", t.UDPErrors, "dropped by the kernel", t.UDPDrops)
	log.Info("proxy mode over TCP", "received", t.TCPIn, "sent", t.TCPOut, "accepted", t.Accepted, "made", t.Dialled, "not made", t.DialFailed,
		"not SIP", t.Refused, "too slow", t.TimedOut, "closed for others", t.Evicted, "not taken", t.Busy)
	var refused []any
	for _, status := range slices.Sorted(maps.Keys(s.Refused)) {
		refused = append(refused, slog.Uint64(strconv.Itoa(status), s.Refused[status]))
	}
	log.Info("proxy mode has refused, by status", refused...)
}

// proxyConfig is the proxy's policy.
func proxyConfig(cfg *config.Config) proxy.Config {
	c := &cfg.Proxy
	p := proxy.Config{
		OutboundProxy:   proxy.Server{Host: c.OutboundHost, Port: int(c.OutboundPort)},
		OutboundDomains: make(map[string]proxy.Server),
		MaskHosts:       make(map[string]string),
		UserAgent:       c.UserAgent,
		RportInside:     c.Rport&1 != 0,
		RportOutside:    c.Rport&2 != 0,
		ObscureLoops:    c.ObscureLoops,

		RegisterExpiresMax: cfg.RegisterExpiresMax,
		Realm:              c.AuthRealm,
	}
	for i, name := range c.OutboundDomains {
		if i < len(c.OutboundDomainHosts) && i < len(c.OutboundDomainPorts) {
			p.OutboundDomains[strings.ToLower(name)] = proxy.Server{Host: c.OutboundDomainHosts[i], Port: int(c.OutboundDomainPorts[i])}
		}
	}
	for i, host := range c.MaskHosts {
		if i < len(c.MaskedHosts) {
			p.MaskHosts[strings.ToLower(host)] = c.MaskedHosts[i]
		}
	}
	return p
}
