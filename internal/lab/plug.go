package lab

// Unplug takes an interface of the firewall away, as a PPP link goes.
func (l *Lab) Unplug(ifname string) {
	l.T.Helper()
	l.FW.Run("ip", "link", "delete", ifname)
}

// PlugOutside gives the firewall an interface to the outside network, in the place of
// one that was unplugged. It has another index, and no address. From then on Wire is
// what passes it.
func (l *Lab) PlugOutside(ifname string) {
	l.T.Helper()
	l.replug(&l.Wire, "outside", ifname, l.wan, "wan", l.opt.MTU)
}

// PlugInside is PlugOutside for the inside network, and for Inside.
func (l *Lab) PlugInside(ifname string) {
	l.T.Helper()
	l.replug(&l.Inside, "inside", ifname, l.lan, "lan", 1500)
}

func (l *Lab) replug(c **Capture, name, ifname string, sw *Host, bridge string, mtu int) {
	l.T.Helper()
	// A PPP link has no neighbours that could know an old Ethernet address. This one has.
	for _, h := range l.hosts {
		h.Run("ip", "neighbour", "flush", "all")
	}
	err := l.FW.plug(ifname, sw, bridge, mtu, l.opt.Offload)
	if err == nil {
		(*c).close()
		*c, err = newCapture(l, name, l.FW, ifname)
	}
	if err != nil {
		l.T.Fatalf("lab: %v", err)
	}
}
