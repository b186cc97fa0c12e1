package check

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sipnatd/conntrack"
	"sipnatd/internal/config"
	"sipnatd/internal/ifaces"
	"sipnatd/internal/nft"
)

// Chains finds out whether the firewall leaves to the daemon what it has to see: all
// SIP and media, after the filters.
func Chains(firewall *nft.Firewall, helper conntrack.Helper) []Finding {
	var all []Finding
	for _, c := range firewall.LateChains() {
		own := nft.OwnPriority(c.Kind, c.Hook)
		all = append(all, Finding{ID: LateChain, Level: Warning, Subject: "firewall",
			Text: fmt.Sprintf("%s filters forwarded packets at priority %d, not before sipnatd (%d): packets that it drops may have opened media streams",
				c, c.Priority, own),
			Remedy: fmt.Sprintf("give it a priority below %d", own)})
	}
	if all == nil {
		all = append(all, Finding{ID: LateChain, Subject: "forward chains", Text: "all come before sipnatd"})
	}
	offloads, err := firewall.OffloadRules()
	if err != nil {
		all = append(all, unread(Offload, "flow offload", err))
	}
	switch {
	case len(offloads) == 0 && err == nil:
		all = append(all, Finding{ID: Offload, Subject: "flow offload", Text: "no rule moves UDP flows to a flowtable"})
	case helper == conntrack.HelperOwn:
		all = append(all, Finding{ID: Offload, Subject: "flow offload", Text: "SIP and media have a conntrack helper, with which no flowtable takes them"})
	default:
		for _, r := range offloads {
			all = append(all, Finding{ID: Offload, Level: Warning, Subject: "firewall",
				Text:   "the firewall moves UDP flows to a flowtable, where SIP is not seen and media neither guarded nor counted: " + r.String(),
				Remedy: "let it offload TCP only (meta l4proto tcp), " + modules("nfnetlink_cthelper") + ", or " + r.Removal()})
		}
	}
	return all
}

// Policy finds out whether the firewall lets through what calls consist of, and leaves
// its translation to the daemon.
func Policy(firewall *nft.Firewall, cfg *config.Config, faces *ifaces.Snapshot, helper conntrack.Helper) []Finding {
	all := append(forwardPolicy(firewall, cfg, faces.Interfaces(), helper), translators(firewall, cfg, faces.Interfaces())...)
	if err := firewall.Err(); err != nil {
		all = append(all, unread(Firewall, "firewall", err))
	}
	return all
}

// A crossing is a pair of interfaces, one of each side.
type crossing struct{ in, out ifaces.Interface }

func (c crossing) String() string { return c.in.Name + " to " + c.out.Name }

func crossings(faces []ifaces.Interface) []crossing {
	var all []crossing
	for _, in := range of(faces, ifaces.Inside) {
		for _, out := range of(faces, ifaces.Outside) {
			all = append(all, crossing{in, out})
		}
	}
	return all
}

// outbound completes a packet from inside to outside.
func (c crossing) outbound(p nft.Packet) nft.Packet {
	p.In, p.InIndex, p.Out, p.OutIndex = c.in.Name, c.in.Index, c.out.Name, c.out.Index
	return p
}

// inbound completes a packet from outside to inside.
func (c crossing) inbound(p nft.Packet) nft.Packet {
	p.In, p.InIndex, p.Out, p.OutIndex = c.out.Name, c.out.Index, c.in.Name, c.in.Index
	return p
}

// A demand is what the forward chains have to let through.
type demand struct {
	id      string
	level   Level // where no crossing has it
	says    string
	packets func(crossing) []nft.Packet // one of them is enough
	remedy  func(nft.Chain, crossing) string
}

// forwardPolicy finds the chains that drop what calls consist of.
func forwardPolicy(firewall *nft.Firewall, cfg *config.Config, faces []ifaces.Interface, helper conntrack.Helper) []Finding {
	pairs := crossings(faces)
	if len(pairs) == 0 {
		return nil
	}
	var all []Finding
	for _, d := range demands(cfg, helper) {
		found := false
		for _, c := range firewall.Chains(nft.KindFilter, nft.Forward) {
			var refused []crossing
			for _, pair := range pairs {
				if !slices.ContainsFunc(d.packets(pair), func(p nft.Packet) bool { return firewall.Fate(c, p) != nft.Dropped }) {
					refused = append(refused, pair)
				}
			}
			if refused == nil {
				continue
			}
			f := Finding{ID: d.id, Level: d.level, Subject: "firewall",
				Text: fmt.Sprintf("%s drops %s", c, d.says), Remedy: d.remedy(c, refused[0])}
			if len(refused) < len(pairs) {
				f.Level = Note // as for guests
				f.Text += " (" + listed(refused) + ")"
			}
			all, found = append(all, f), true
			if d.id == ForwardReply && f.Level == Fault {
				return all // the rest would say the same
			}
		}
		if !found {
			all = append(all, Finding{ID: d.id, Subject: "forward chains", Text: "none drops " + d.says})
		}
	}
	return all
}

func listed(pairs []crossing) string {
	names := make([]string, len(pairs))
	for i, p := range pairs {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}

// demands lists them. Media is RELATED; without a helper, it is only translated.
func demands(cfg *config.Config, helper conntrack.Helper) []demand {
	media := nft.Packet{State: nft.StateRelated, Status: nft.StatusExpected | nft.StatusDNAT}
	admit := func(c nft.Chain, _ crossing) string {
		return c.Insert("ct state established,related accept", "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
	}
	admitMedia := admit
	if helper == conntrack.HelperNone {
		media = nft.Packet{State: nft.StateNew, Status: nft.StatusDNAT}
		admitMedia = func(c nft.Chain, _ crossing) string {
			return c.Insert("ct status dnat accept", "-m conntrack --ctstate DNAT -j ACCEPT")
		}
	}
	sip := Fault
	if cfg.AsksForProxy() {
		sip = Note // the phones may all send theirs to the firewall itself
	}
	return []demand{
		{id: ForwardReply, level: Fault, says: "the answers to what has been let out (established)", remedy: admit,
			packets: func(c crossing) []nft.Packet {
				return []nft.Packet{c.inbound(nft.Packet{State: nft.StateEstablished})}
			}},
		{id: ForwardSIP, level: sip, says: "SIP from inside to outside", remedy: func(c nft.Chain, pair crossing) string { return admitSIP(c, pair, cfg.SIPPorts) },
			packets: func(c crossing) []nft.Packet {
				var all []nft.Packet
				for _, port := range cfg.SIPPorts {
					all = append(all, c.outbound(nft.Packet{State: nft.StateNew, DstPorts: nft.Ports{Low: port, High: port}}))
				}
				return all
			}},
		{id: ForwardMedia, level: Warning, says: "media from outside until the phone has sent some, and calls to idle phones (related)", remedy: admitMedia,
			packets: func(c crossing) []nft.Packet { return []nft.Packet{c.inbound(media)} }},
		{id: ForwardMedia, level: Warning, says: "media from inside to outside (related)", remedy: admit,
			packets: func(c crossing) []nft.Packet {
				var all []nft.Packet
				for low := uint16(8192); low != 0; low *= 2 { // a rule for SIP is not one for media
					ports := nft.Ports{Low: low, High: low + (low - 1)}
					all = append(all,
						c.outbound(nft.Packet{DstPorts: ports, State: nft.StateNew}),
						c.outbound(nft.Packet{DstPorts: ports, State: nft.StateRelated, Status: nft.StatusExpected}))
				}
				return all
			}},
	}
}

// admitSIP is the command that lets SIP out.
func admitSIP(c nft.Chain, pair crossing, ports []uint16) string {
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = strconv.Itoa(int(p))
	}
	native, match := list[0], "--dport "+list[0]
	if len(list) > 1 {
		native, match = "{ "+strings.Join(list, ", ")+" }", "-m multiport --dports "+strings.Join(list, ",")
	}
	return c.Insert(
		fmt.Sprintf(`'iifname "%s" oifname "%s" udp dport %s accept'`, pair.in.Name, pair.out.Name, native),
		fmt.Sprintf("-i %s -o %s -p udp %s -j ACCEPT", pair.in.Name, pair.out.Name, match))
}

// translators finds the chains that translate SIP and media before the daemon's do:
// the first decides.
func translators(firewall *nft.Firewall, cfg *config.Config, faces []ifaces.Interface) []Finding {
	var all []Finding
	early := func(hook nft.Hook, says string, packets []nft.Packet) {
		own := nft.OwnPriority(nft.KindNAT, hook)
		for _, c := range firewall.Chains(nft.KindNAT, hook) {
			if c.Priority > own {
				continue
			}
			level := OK
			for _, p := range packets {
				switch fate := firewall.Fate(c, p); {
				case fate == nft.Translated:
					level = Fault
				case fate&nft.Translated != 0:
					level = max(level, Warning)
				}
			}
			if level == OK {
				continue
			}
			all = append(all, Finding{ID: EarlyNAT, Level: level, Subject: "firewall",
				Text:   fmt.Sprintf("%s translates %s at priority %d, before sipnatd (%d) can", c, says, c.Priority, own),
				Remedy: fmt.Sprintf("give it a priority above %d, such as %s", own, map[nft.Hook]string{nft.Prerouting: "dstnat", nft.Postrouting: "srcnat"}[hook])})
		}
	}
	var in, out []nft.Packet
	ports := []nft.Ports{{Low: cfg.RTPPortLow, High: cfg.RTPPortHigh}}
	for _, p := range cfg.SIPPorts {
		ports = append(ports, nft.Ports{Low: p, High: p})
	}
	for _, f := range of(faces, ifaces.Outside) {
		for _, p := range ports {
			in = append(in, nft.Packet{In: f.Name, InIndex: f.Index, Dst: f.Addr, DstPorts: p, State: nft.StateNew})
		}
	}
	for _, pair := range crossings(faces) {
		out = append(out, pair.outbound(nft.Packet{State: nft.StateNew}))
	}
	early(nft.Prerouting, "what comes to the ports of SIP and media", in)
	early(nft.Postrouting, "what leaves", out)
	if all == nil {
		all = append(all, Finding{ID: EarlyNAT, Subject: "nat chains", Text: "none translates before sipnatd"})
	}
	return all
}

// masquerade finds outside interfaces by which other traffic leaves with private
// addresses.
func masquerade(firewall *nft.Firewall, faces []ifaces.Interface) []Finding {
	var all []Finding
	for _, pair := range crossings(faces) {
		if !pair.in.Addr.IsPrivate() {
			continue
		}
		f := Finding{ID: Masquerade, Subject: pair.out.Name, Text: "what comes from " + pair.in.Name + " is masqueraded"}
		if !slices.ContainsFunc(firewall.Chains(nft.KindNAT, nft.Postrouting), func(c nft.Chain) bool {
			return firewall.Fate(c, pair.outbound(nft.Packet{State: nft.StateNew}))&nft.Translated != 0
		}) {
			f.Level = Note
			f.Text = fmt.Sprintf("nothing masquerades what leaves from %s: other traffic than SIP and media shows private addresses", pair)
			f.Remedy = fmt.Sprintf(`sipnatd rules -whole nft has a rule for it: oifname "%s" masquerade`, pair.out.Name)
		}
		all = append(all, f)
	}
	return all
}

// portForwards finds the administrator's own forwards of ports that are for media,
// which the daemon therefore does not use.
func portForwards(cfg *config.Config, faces []ifaces.Interface, forwards []nft.Redirect) []Finding {
	size := int(cfg.RTPPortHigh) - int(cfg.RTPPortLow) + 1
	var all []Finding
	for _, f := range of(faces, ifaces.Outside) {
		taken := make(map[int]bool)
		for i := range forwards {
			r := &forwards[i]
			if r.Low == 0 && r.High == 0xffff || !r.From(f.Name) {
				continue // all that nobody else gets, which the daemon comes before
			}
			for port := max(int(r.Low), int(cfg.RTPPortLow)); port <= min(int(r.High), int(cfg.RTPPortHigh)); port++ {
				if _, ok := r.Target(netip.AddrPortFrom(f.Addr, uint16(port))); ok {
					taken[port] = true
				}
			}
		}
		finding := Finding{ID: PortForward, Subject: f.Name, Text: "no port-forward takes ports for media"}
		if len(taken) > 0 {
			finding.Level = Note
			finding.Text = fmt.Sprintf("the firewall's own port-forwards have %d of the %d ports for media, which sipnatd leaves to them", len(taken), size)
			finding.Remedy = "rtp_port_low and rtp_port_high elsewhere"
			switch {
			case len(taken) == size:
				finding.Level = Fault
			case len(taken) > size/2:
				finding.Level = Warning
			}
		}
		all = append(all, finding)
	}
	return all
}
