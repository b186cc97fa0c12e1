package check

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	osuser "os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sipnatd/internal/config"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/nft"
	"sipnatd/internal/privilege"
)

// Input finds the chains that keep from the daemon what is for the firewall itself: SIP
// of the proxy mode, and the TCP connections that are led there.
func Input(firewall *nft.Firewall, cfg *config.Config, faces *ifaces.Snapshot) []Finding {
	return append(proxyInput(firewall, cfg, faces.Interfaces()), joined(firewall, cfg, faces.Interfaces())...)
}

// isCallee reports whether callers outside find phones at the firewall's own domains.
// Where phones only use it on the way to their providers, calls come from those.
func isCallee(cfg *config.Config) bool {
	_, err := netip.ParseAddr(cfg.HostOutbound)
	return len(cfg.Proxy.Domains) > 0 || cfg.HostOutbound != "" && err != nil
}

// proxyInput finds the chains that keep SIP from the proxy mode. Where nobody asks for
// that, it is worth knowing at most.
func proxyInput(firewall *nft.Firewall, cfg *config.Config, faces []ifaces.Interface) []Finding {
	if cfg.Mode == config.ModeTransparent {
		return nil
	}
	var all []Finding
	for _, d := range []struct {
		side        ifaces.Side
		tcp         bool
		level       Level
		from, means string
	}{
		{ifaces.Inside, false, Fault, "inside", "phones cannot use the firewall as their registrar or proxy"},
		{ifaces.Outside, false, Warning, "outside", "calls from the Internet to the firewall's own domains do not reach it"},
		{ifaces.Inside, true, Note, "inside", "phones cannot use the firewall as their registrar or proxy by TCP"},
		{ifaces.Outside, true, Note, "outside", "calls by TCP to the firewall's own domains do not reach it"},
	} {
		if !cfg.AsksForProxy() || d.side == ifaces.Outside && !isCallee(cfg) {
			d.level = Note
		}
		sides := of(faces, d.side)
		for _, c := range firewall.Chains(nft.KindFilter, nft.Input) {
			refused := refusedAt(firewall, c, sides, nft.Packet{TCP: d.tcp, DstPorts: nft.Ports{Low: cfg.ListenPort, High: cfg.ListenPort}})
			if refused == nil {
				continue
			}
			protocol := map[bool]string{false: "udp", true: "tcp"}[d.tcp]
			f := Finding{ID: ProxyInput, Level: d.level, Subject: "firewall",
				Text: fmt.Sprintf("%s drops SIP to the firewall itself from %s (%s port %d): %s", c, d.from, strings.ToUpper(protocol), cfg.ListenPort, d.means),
				Remedy: c.Insert(fmt.Sprintf(`'iifname "%s" %s dport %d accept'`, refused[0], protocol, cfg.ListenPort),
					fmt.Sprintf("-i %s -p %s --dport %d -j ACCEPT", refused[0], protocol, cfg.ListenPort))}
			if len(refused) < len(sides) {
				f.Level = Note // as for guests
				f.Text += " (" + strings.Join(refused, ", ") + ")"
			}
			all = append(all, f)
		}
	}
	if all == nil {
		all = []Finding{{ID: ProxyInput, Subject: "input chains", Text: "none drops SIP to the firewall itself"}}
	}
	return all
}

// refusedAt names the interfaces from which a chain for what comes to the firewall
// drops a packet.
func refusedAt(firewall *nft.Firewall, c nft.Chain, sides []ifaces.Interface, p nft.Packet) []string {
	var refused []string
	for _, f := range sides {
		p.In, p.InIndex, p.Dst, p.State = f.Name, f.Index, f.Addr, nft.StateNew
		if firewall.Fate(c, p) == nft.Dropped {
			refused = append(refused, f.Name)
		}
	}
	return refused
}

// joined finds the chains that keep the connections from the daemon that its table
// leads there, and those whose rules are passed by with it.
func joined(firewall *nft.Firewall, cfg *config.Config, faces []ifaces.Interface) []Finding {
	if !cfg.SIPTCP || cfg.Mode == config.ModeProxy {
		return nil
	}
	var all []Finding
	inside, port := of(faces, ifaces.Inside), cfg.SIPTCPPort
	for _, c := range firewall.Chains(nft.KindFilter, nft.Input) {
		refused := refusedAt(firewall, c, inside, nft.Packet{TCP: true, DstPorts: nft.Ports{Low: port, High: port}, Status: nft.StatusDNAT})
		if refused == nil {
			continue
		}
		f := Finding{ID: Joined, Level: Fault, Subject: "firewall",
			Text: fmt.Sprintf("%s drops SIP over TCP from inside, which sip_tcp = yes leads to the daemon (port %d): no phone gets out by TCP", c, port),
			Remedy: c.Insert(fmt.Sprintf(`'iifname "%s" ct status dnat tcp dport %d accept'`, refused[0], port),
				fmt.Sprintf("-i %s -p tcp -m conntrack --ctstate DNAT --dport %d -j ACCEPT", refused[0], port))}
		if len(refused) < len(inside) {
			f.Level = Note
			f.Text += " (" + strings.Join(refused, ", ") + ")"
		}
		all = append(all, f)
	}
	for _, c := range firewall.Chains(nft.KindFilter, nft.Forward) {
		i := slices.IndexFunc(crossings(faces), func(pair crossing) bool {
			return !slices.ContainsFunc(cfg.SIPPorts, func(port uint16) bool {
				return firewall.Fate(c, pair.outbound(nft.Packet{TCP: true, State: nft.StateNew, DstPorts: nft.Ports{Low: port, High: port}})) != nft.Dropped
			})
		})
		if i < 0 {
			continue
		}
		all = append(all, Finding{ID: Joined, Level: Warning, Subject: "firewall",
			Text:   fmt.Sprintf("%s drops SIP over TCP (%s), and sip_tcp = yes leads it past that chain", c, crossings(faces)[i]),
			Remedy: "sip_tcp = no, or a rule that accepts it there as well"})
	}
	if all == nil {
		all = []Finding{{ID: Joined, Subject: "sip_tcp", Text: "no chain drops SIP over TCP from inside"}}
	}
	return all
}

// proxyPorts finds other programs that have the ports of the proxy mode and of SIP
// over TCP, at an address where the daemon wants them.
func proxyPorts(cfg *config.Config, faces []ifaces.Interface, udp, tcp []socket, owners func([]uint64) map[uint64]process) []Finding {
	type want struct {
		setting  string
		port     uint16
		outside  bool // there, too
		protocol string
		sockets  []socket
		level    Level
	}
	var wanted []want
	if cfg.Mode != config.ModeTransparent {
		level := Note // the daemon does without the proxy mode
		if cfg.AsksForProxy() {
			level = Fault
		}
		wanted = append(wanted, want{"sip_listen_port", cfg.ListenPort, true, "UDP", udp, level}, want{"sip_listen_port", cfg.ListenPort, true, "TCP", tcp, level})
	}
	if cfg.SIPTCP && cfg.Mode != config.ModeProxy {
		wanted = append(wanted, want{"sip_tcp_port", cfg.SIPTCPPort, false, "TCP", tcp, Fault})
	}
	var all []Finding
	for _, w := range wanted {
		for _, s := range w.sockets {
			at := s.local.Addr()
			ours := at.IsUnspecified() || slices.ContainsFunc(faces, func(f ifaces.Interface) bool {
				return (w.outside || f.Side == ifaces.Inside) && slices.ContainsFunc(f.Addrs, func(p netip.Prefix) bool { return p.Addr() == at })
			})
			if s.local.Port() != w.port || !ours {
				continue
			}
			who := owners([]uint64{s.inode})[s.inode]
			if who.name == "sipnatd" {
				continue
			}
			f := Finding{ID: ProxyPort, Level: w.level, Subject: w.setting, Remedy: w.setting + " = another port"}
			f.Text = fmt.Sprintf("%s has %s port %d (%s): the daemon does not start", who, w.protocol, w.port, s.local)
			if w.setting == "sip_listen_port" {
				f.Remedy += ", or mode = transparent"
				if w.level == Note {
					f.Text = fmt.Sprintf("%s has %s port %d (%s): there is no proxy mode", who, w.protocol, w.port, s.local)
				}
			}
			all = append(all, f)
		}
	}
	if all == nil && wanted != nil {
		all = []Finding{{ID: ProxyPort, Subject: wanted[0].setting, Text: "no other program has it"}}
	}
	return all
}

// domains finds out whether the names that are the firewall's own lead here: by their
// address, or that of the server that they name (RFC 3263).
func domains(cfg *config.Config, own func(netip.Addr) bool, resolve func(string) ([]netip.Addr, error), servers func(string) []string) []Finding {
	if cfg.Mode == config.ModeTransparent {
		return nil
	}
	var all []Finding
	var announced []netip.Addr // in place of the outside interface's own
	if a, err := netip.ParseAddr(cfg.HostOutbound); err == nil {
		announced = append(announced, a)
	} else if cfg.HostOutbound != "" && len(cfg.Proxy.Domains) > 0 {
		list, _ := resolve(cfg.HostOutbound) // which hostOutbound judges
		for _, a := range list {
			announced = append(announced, a.Unmap())
		}
	}
	for _, name := range cfg.Proxy.Domains {
		list, err := resolve(name)
		leads := func(a netip.Addr) bool { return own(a.Unmap()) || slices.Contains(announced, a.Unmap()) }
		here := slices.ContainsFunc(list, leads)
		if !here {
			for _, server := range servers(name) {
				more, _ := resolve(server)
				here = here || slices.ContainsFunc(more, leads)
				list = append(list, more...)
			}
		}
		f := Finding{ID: Domains, Subject: "sip_domains", Text: name + " leads here"}
		switch {
		case here:
		case len(list) > 0:
			f.Level = Warning
			f.Text = fmt.Sprintf("%s is %s, which is not an address of this machine: calls to it go there", name, list[0].Unmap())
			f.Remedy = "a record in the DNS that names the outside address, or host_outbound = " + list[0].Unmap().String() + " if that is another NAT's"
		default:
			f.Level, f.Remedy = Warning, "a record in the DNS that names the outside address"
			f.Text = fmt.Sprintf("%s has no address: callers do not find it", name)
			if err != nil {
				f.Text += " (" + err.Error() + ")"
			}
		}
		all = append(all, f)
	}
	return all
}

// files finds out whether the daemon's user can read the passwords, and keep the
// registrations.
func files(cfg *config.Config, user string, reads, creates func(user, path string) error) []Finding {
	if cfg.Mode == config.ModeTransparent {
		return nil
	}
	var all []Finding
	if path := cfg.Proxy.AuthFile; path != "" && cfg.Proxy.AuthRealm != "" {
		all = append(all, passwords(path, user, reads))
	}
	if path := cfg.Proxy.RegistrationFile; path != "" {
		all = append(all, registrations(path, user, creates))
	}
	return all
}

func passwords(path, user string, reads func(user, path string) error) Finding {
	f := Finding{ID: Passwords, Subject: path, Text: "the daemon can read it"}
	info, err := os.Stat(path)
	if err == nil {
		err = reads(user, path)
	}
	switch {
	case errors.Is(err, privilege.ErrNotRoot):
		f.Level, f.Text = Note, "whether the daemon can read it was not tried: "+err.Error()
	case errors.Is(err, fs.ErrNotExist):
		f.Level, f.Text = Fault, "there is no such file: no phone can register"
		f.Remedy = "a line \"name password\" for each phone in " + path
	case errors.Is(err, fs.ErrPermission):
		f.Level, f.Text = Fault, "the daemon's user cannot read it, so that no phone can register: "+err.Error()
		f.Remedy = fmt.Sprintf("chgrp %s %[2]s && chmod g+r %[2]s", groupOf(user), path)
	case err != nil:
		f.Level, f.Text = Fault, "it cannot be read, so that no phone can register: "+err.Error()
	case info.Mode().Perm()&0o004 != 0:
		f.Level, f.Text = Warning, "everybody on this machine can read the passwords"
		f.Remedy = "chmod o-r " + path
	}
	return f
}

func registrations(path, user string, creates func(user, dir string) error) Finding {
	dir := filepath.Dir(path)
	f := Finding{ID: Registrations, Subject: path, Text: "the daemon can write it"}
	switch err := creates(user, dir); {
	case err == nil:
	case errors.Is(err, privilege.ErrNotRoot):
		f.Level, f.Text = Note, "whether the daemon can write it was not tried: "+err.Error()
	default:
		f.Level, f.Text = Warning, "the daemon's user cannot write it: registrations are lost with a restart: "+err.Error()
		f.Remedy = "chown " + user + " " + dir
		if errors.Is(err, fs.ErrNotExist) {
			f.Remedy = fmt.Sprintf("install -d -o %s %s", user, dir)
		}
	}
	return f
}

// root is whom nothing is tried as: it may do everything.
const root = "root"

// canRead and canCreate ask about any user.
func canRead(user, path string) error {
	if user == root {
		return nil
	}
	return privilege.CanRead(user, path)
}

func canCreate(user, dir string) error {
	if user == root {
		_, err := os.Stat(dir)
		return err
	}
	return privilege.CanCreate(user, dir)
}

// userOf is whom files are tried as: the setting's user, or that of a daemon which
// runs, or else this process's.
func userOf(cfg *config.Config, daemon process) string {
	if cfg.User != "" {
		return cfg.User
	}
	uid := strconv.Itoa(os.Geteuid())
	if daemon.pid != 0 {
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", daemon.pid)); err == nil {
			_, ids, _ := strings.Cut(string(status), "\nUid:")
			if f := strings.Fields(ids); len(f) > 1 {
				uid = f[1] // the effective one
			}
		}
	}
	if uid == "0" {
		return root
	}
	if u, err := osuser.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}
