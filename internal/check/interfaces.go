package check

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sipnatd/internal/config"
	"sipnatd/internal/ifaces"
)

// Interfaces finds out whether there are interfaces on both sides, and whether the
// Internet can reach the address that messages are to announce.
func Interfaces(faces *ifaces.Snapshot, hostOutbound string) []Finding {
	return interfaces(faces.Interfaces(), faces.Problems(), hostOutbound)
}

func interfaces(faces []ifaces.Interface, problems []ifaces.Problem, hostOutbound string) []Finding {
	var all []Finding
	for i := range faces {
		f := &faces[i]
		if !usable(f) {
			continue
		}
		text := fmt.Sprintf("%s, up", f.Side)
		if f.Addr.IsValid() {
			text += ", " + f.Addr.String()
		}
		all = append(all, Finding{ID: Interface, Subject: f.Name, Text: text})
		switch {
		case f.Side == ifaces.Inside:
		case !f.BehindNAT():
			all = append(all, Finding{ID: OutsideAddr, Subject: f.Name, Text: "its address is public"})
		case hostOutbound != "":
			all = append(all, Finding{ID: OutsideAddr, Subject: f.Name, Text: "its address is private, host_outbound is set"})
		default:
			all = append(all, Finding{ID: OutsideAddr, Level: Warning, Subject: f.Name,
				Text:   fmt.Sprintf("the outside address is private: another NAT stands in front of %s (%s)", f.Name, f.Addr),
				Remedy: "set host_outbound to its public address and forward the SIP and RTP ports here"})
		}
	}
	for _, p := range problems {
		f := Finding{ID: Interface, Level: Warning, Subject: p.Interface, Text: p.String()}
		if !slices.ContainsFunc(faces, func(f ifaces.Interface) bool { return f.Side == p.Side && usable(&f) }) {
			f.Level = Fault // for the whole side
		}
		setting := map[ifaces.Side]string{ifaces.Inside: "if_inbound", ifaces.Outside: "if_outbound"}[p.Side]
		switch p.Kind {
		case ifaces.NoInterface:
			f.Subject, f.Remedy = p.Side.String(), setting+" = its name"
		case ifaces.Missing:
			f.Remedy = "bring it up, or name another in " + setting
		case ifaces.Down:
			f.Remedy = "ip link set " + p.Interface + " up"
		case ifaces.NoAddress:
			f.Remedy = "see what DHCP or PPP says on " + p.Interface
		}
		all = append(all, f)
	}
	return all
}

// usable tells whether SIP is handled on an interface.
func usable(f *ifaces.Interface) bool {
	return f.Index != 0 && f.Up && (f.Side == ifaces.Inside || f.Addr.IsValid())
}

// of lists the interfaces of a side that there are.
func of(faces []ifaces.Interface, side ifaces.Side) []ifaces.Interface {
	var all []ifaces.Interface
	for _, f := range faces {
		if f.Side == side && usable(&f) {
			all = append(all, f)
		}
	}
	return all
}

// hostOutbound finds out whether what messages are to announce is an address, and one
// that leads here.
func hostOutbound(host string, faces []ifaces.Interface, own func(netip.Addr) bool, resolve func(string) ([]netip.Addr, error)) []Finding {
	if host == "" {
		return nil
	}
	subject := "host_outbound = " + host
	outside := of(faces, ifaces.Outside)
	public := slices.IndexFunc(outside, func(f ifaces.Interface) bool { return !f.BehindNAT() })
	address, err := netip.ParseAddr(host)
	if err != nil {
		list, err := resolve(host)
		if err != nil || len(list) == 0 {
			f := Finding{ID: HostOutbound, Level: Fault, Subject: subject,
				Text:   fmt.Sprintf("%s has no address now, and the outside interface's own is private (%v)", host, err),
				Remedy: "host_outbound = the address itself"}
			if public >= 0 {
				f.Level = Warning
				f.Text = fmt.Sprintf("%s has no address now: the outside interface's own is announced (%v)", host, err)
			}
			return []Finding{f}
		}
		address = list[0].Unmap()
	}
	f := Finding{ID: HostOutbound, Subject: subject, Text: "announces " + address.String()}
	announced := ifaces.Interface{Side: ifaces.Outside, Addr: address}
	switch {
	case announced.BehindNAT():
		f.Level, f.Text = Warning, fmt.Sprintf("%s is private: nobody outside can reach it", address)
		f.Remedy = "host_outbound = the public address"
	case !own(address) && public >= 0:
		f.Level = Warning
		f.Text = fmt.Sprintf("%s is announced, though the outside interface %s has a public address of its own, %s",
			address, outside[public].Name, outside[public].Addr)
		f.Remedy = "host_outbound = " + outside[public].Addr.String() + ", or nothing"
	}
	return []Finding{f}
}

// overlaps finds networks that are on both sides.
func overlaps(faces []ifaces.Interface) []Finding {
	var all []Finding
	outside := of(faces, ifaces.Outside)
	for _, in := range of(faces, ifaces.Inside) {
		for _, out := range outside {
			for _, a := range in.Networks {
				i := slices.IndexFunc(out.Networks, a.Overlaps)
				if i < 0 {
					continue
				}
				all = append(all, Finding{ID: Overlap, Level: Warning, Subject: in.Name + ", " + out.Name,
					Text: fmt.Sprintf("the inside network %s (%s) and the outside network %s (%s) overlap: hosts of one of them cannot be reached",
						a, in.Name, out.Networks[i], out.Name),
					Remedy: "give the phones another network"})
			}
		}
	}
	if all == nil {
		all = []Finding{{ID: Overlap, Subject: "networks", Text: "inside and outside do not overlap"}}
	}
	return all
}

// farHost is a host of the outside that routes are looked up for: one of the provider,
// if it is known, or anybody in the Internet.
func farHost(cfg *config.Config) netip.Addr {
	if len(cfg.SIPPeers) > 0 {
		return cfg.SIPPeers[0].Addr()
	}
	return netip.AddrFrom4([4]byte{9, 9, 9, 9})
}

// defaultRoute finds out whether what goes to the Internet goes by an outside
// interface.
func defaultRoute(faces []ifaces.Interface, far netip.Addr, leaves func(netip.Addr) (uint32, error)) []Finding {
	outside := of(faces, ifaces.Outside)
	if len(outside) == 0 {
		return nil // which is said already
	}
	index, err := leaves(far)
	if err != nil {
		return []Finding{{ID: DefaultRoute, Level: Warning, Subject: "routes", Text: fmt.Sprintf("there is no route to the Internet (%s): %v", far, err)}}
	}
	names := make([]string, len(outside))
	provider := false
	for i, f := range outside {
		if f.Index == index {
			return []Finding{{ID: DefaultRoute, Subject: f.Name, Text: "the way to the Internet"}}
		}
		names[i] = f.Name
		provider = provider || routed(&f)
	}
	f := Finding{ID: DefaultRoute, Level: Warning, Subject: "routes",
		Text:   fmt.Sprintf("the way to the Internet (%s) is not by %s: SIP that goes there is not looked at", far, strings.Join(names, " or ")),
		Remedy: "if_outbound = the interface of the default route, or a route to the provider by " + names[0]}
	if provider {
		f.Level, f.Remedy = Note, ""
	}
	return []Finding{f}
}

// routed tells whether an interface leads somewhere beyond its own networks, as to a
// provider, though it may not be the way to the Internet.
func routed(f *ifaces.Interface) bool {
	return slices.ContainsFunc(f.Networks, func(n netip.Prefix) bool {
		return !slices.ContainsFunc(f.Addrs, func(a netip.Prefix) bool { return n.Contains(a.Addr()) || a.Contains(n.Addr()) })
	})
}
