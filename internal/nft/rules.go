package nft

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The rules, each under the line of nft that it stands for.

// prerouting translates public endpoints to inside ones. It sees the first packet
// of a flow only; the flow keeps its translation.
func prerouting(c Config) []rule {
	rules := []rule{
		// iifname @outside dnat ip to ip daddr . udp dport map @streams
		join(iifname(setOutside), udp(), daddrDport(), dnat(mapStreams)),
	}
	if c.HairpinRouter {
		// iifname @inside dnat ip to ip daddr . udp dport map @streams
		rules = append(rules, join(iifname(setInside), udp(), daddrDport(), dnat(mapStreams)))
	}
	if c.RedirectPort != 0 {
		// iifname @inside tcp dport @sip_ports goto join_tcp
		rules = append(rules, join(iifname(setInside), tcp(), dport(), in(setSIPPorts), goTo(chainRedirect)))
	}
	if c.AcceptAny {
		return append(rules,
			// iifname @outside dnat ip to ip daddr . udp dport map @bindings
			join(iifname(setOutside), udp(), daddrDport(), dnat(mapBindings)))
	}
	return append(rules,
		// iifname @outside ip saddr . ip daddr . udp dport @peers
		//	dnat ip to ip daddr . udp dport map @bindings
		join(iifname(setOutside), udp(), saddrDaddrDport(), in(setPeers), daddrDport(), dnat(mapBindings)),
		// iifname @outside ip saddr @sip_peers dnat ip to ip daddr . udp dport map @bindings
		join(iifname(setOutside), saddr(), in(setSIPPeers), udp(), daddrDport(), dnat(mapBindings)))
}

// redirect leads TCP to the daemon. What goes nowhere but outside is not known of a
// connection before it is routed, so the route is asked for: a connection to another
// network, or to the firewall itself, stays as it is.
func redirect(c Config) (rules []rule) {
	if c.RedirectPort == 0 {
		return nil
	}
	for _, name := range c.Outside {
		// meta l4proto tcp fib daddr oifname "ppp0" redirect to :5062
		rules = append(rules, join(tcp(), routedTo(name), toPort(c.RedirectPort)))
	}
	return rules
}

// postrouting translates inside endpoints to public ones.
func postrouting(c Config) []rule {
	rules := []rule{
		// oifname @outside snat ip to ip saddr . udp sport map @publics
		join(oifname(setOutside), udp(), saddrSport(), snat(mapPublics)),
	}
	if c.HairpinRouter {
		// A flow between two inside hosts is ours if it was translated on its way in.
		rules = append(rules,
			// oifname @inside ct status dnat iifname @inside
			//	snat ip to ip saddr . udp sport map @publics
			join(oifname(setInside), statusDNAT(), iifname(setInside), udp(), saddrSport(), snat(mapPublics)))
	}
	return rules
}

// input takes back what a binding's expectation would admit to the firewall itself:
// it makes every packet to the public endpoint RELATED, and those of strangers, whom
// prerouting does not translate, end here.
//
// What the daemon's own sockets get is limited as what is forwarded. Of TCP it is who
// connects: a connection is as fast as it is read.
func input(c Config) []rule {
	rules := []rule{
		// iifname @outside ct status expected ip daddr . udp dport @bound counter name "bound_drops" drop
		join(iifname(setOutside), statusExpected(), udp(), daddrDport(), in(setBound),
			counterNamed(boundDrops), drop()),
	}
	if c.ListenPort == 0 {
		return rules
	}
	return append(rules,
		// udp dport 5060 goto sockets
		join(udp(), dport(), portIs(c.ListenPort), goTo(chainSockets)),
		// tcp dport 5060 ct state new goto sockets
		join(tcp(), dport(), portIs(c.ListenPort), stateNew(), goTo(chainSockets)))
}

// output keeps from those who send to the daemon's own port that nobody is there, while
// another daemon may come at once: SIP repeats itself, unless its sender is told so. What
// an error is about follows its header of 8 bytes: the protocol in the 10th byte, and
// after 20 the ports.
func output(c Config) []rule {
	if c.ListenPort == 0 {
		return nil
	}
	return []rule{
		// meta l4proto @serving meta l4proto icmp icmp type destination-unreachable
		//	icmp code port-unreachable @th,136,8 17 @th,240,16 5060 drop
		join(meta(expr.MetaKeyL4PROTO), in(setServing), isICMP(), transportIs(0, []byte{3, 3}),
			transportIs(8+9, []byte{unix.IPPROTO_UDP}),
			transportIs(8+20+2, binary.BigEndian.AppendUint16(nil, c.ListenPort)), drop()),
	}
}

// sockets limits what the daemon's own sockets get, before it fills their buffers.
func sockets(c Config) []rule {
	if c.ListenPort == 0 {
		return nil
	}
	return []rule{
		// iifname @outside ip saddr != @known ip saddr != @sip_peers jump strangers
		join(iifname(setOutside), saddr(), notIn(setKnown), saddr(), notIn(setSIPPeers), jumpTo(chainStrangers)),
		// iifname @outside ct state related,new update @newcomers { ip saddr limit rate over 100/second burst 200 packets } goto flood
		join(iifname(setOutside), stateNewRelated(), saddr(), updateLimited(setNewcomers, newFlowRate), goTo(chainFlood)),
		fairly(),
	}
}

// forward finds the direction. Traffic that is not between an inside and an
// outside interface is none of ours.
//
// A phone that has closed its port answers late media with an ICMP error. The flow
// that it is about has just been deleted, so nothing translates the error: it would
// show the phone's address outside.
func forward() []rule {
	return []rule{
		// meta l4proto icmp iifname @inside oifname @outside ct state invalid drop
		join(isICMP(), iifname(setInside), oifname(setOutside), stateInvalid(), drop()),
		// meta l4proto != udp accept
		join(notUDP(), accept()),
		// iifname @outside oifname @inside goto inbound
		join(iifname(setOutside), oifname(setInside), goTo(chainInbound)),
		// iifname @inside oifname @outside goto outbound
		join(iifname(setInside), oifname(setOutside), goTo(chainOutbound)),
	}
}

// assign gives the flows that forward diverts or guards a helper, before they are
// confirmed. Media needs one, too: offloaded it would pass the guard by, and not be
// counted, as if the call were silent.
//
// It comes after the queue: a packet whose flow has a helper of user space is
// confirmed as soon as it leaves the queue, which is before it is translated. And
// it comes before the translation, when the source is an inside endpoint still.
func assign(c Config) []rule {
	if c.Helper == "" {
		return nil
	}
	return []rule{
		// ct state established accept
		join(stateEstablished(), accept()),
		// meta l4proto != udp accept
		join(notUDP(), accept()),
		// iifname @outside oifname @inside goto helper
		join(iifname(setOutside), oifname(setInside), goTo(chainHelper)),
		// iifname @inside oifname @outside goto helper
		join(iifname(setInside), oifname(setOutside), goTo(chainHelper)),
	}
}

func helper(c Config) []rule {
	if c.Helper == "" {
		return nil
	}
	return []rule{
		// ip daddr . udp dport @guarded ct helper set "sipnatd"
		join(udp(), daddrDport(), in(setGuarded), setHelper(c.Helper)),
		// ip saddr . udp sport @guarded ct helper set "sipnatd"
		join(udp(), saddrSport(), in(setGuarded), setHelper(c.Helper)),
		// udp dport @sip_ports ct helper set "sipnatd"
		join(udp(), dport(), in(setSIPPorts), setHelper(c.Helper)),
		// udp sport @sip_ports ct helper set "sipnatd"
		join(udp(), sport(), in(setSIPPorts), setHelper(c.Helper)),
		// ip daddr . udp dport @signalling ct helper set "sipnatd"
		join(udp(), daddrDport(), in(setSignalling), setHelper(c.Helper)),
		// ip saddr . udp sport @signalling ct helper set "sipnatd"
		join(udp(), saddrSport(), in(setSignalling), setHelper(c.Helper)),
	}
}

// inbound has already been translated: destinations are inside endpoints. Media
// never leaves the guard chain, so that it is never queued.
func inbound() []rule {
	return []rule{
		// ip daddr . udp dport @guarded goto guard
		join(udp(), daddrDport(), in(setGuarded), goTo(chainGuard)),
		// udp dport @sip_ports goto divert_in
		join(udp(), dport(), in(setSIPPorts), goTo(chainDivertIn)),
		// udp sport @sip_ports goto divert_in
		join(udp(), sport(), in(setSIPPorts), goTo(chainDivertIn)),
		// ip daddr . udp dport @signalling goto divert_in
		join(udp(), daddrDport(), in(setSignalling), goTo(chainDivertIn)),
	}
}

// outbound has not been translated yet: sources are inside endpoints.
func outbound(c Config) []rule {
	var rules []rule
	if c.RTPDSCP != 0 {
		// ip saddr . udp sport @guarded ip dscp set ef
		rules = append(rules, join(udp(), saddrSport(), in(setGuarded), setDSCP(c.RTPDSCP)))
	}
	return append(rules,
		// udp dport @sip_ports goto divert_out
		join(udp(), dport(), in(setSIPPorts), goTo(chainDivertOut)),
		// udp sport @sip_ports goto divert_out
		join(udp(), sport(), in(setSIPPorts), goTo(chainDivertOut)),
		// ip saddr . udp sport @signalling goto divert_out
		join(udp(), saddrSport(), in(setSignalling), goTo(chainDivertOut)))
}

// guard judges every inbound packet to a media endpoint, whatever its conntrack.
func guard(c Config) []rule {
	var rules []rule
	if c.RTPDSCP != 0 {
		// ip dscp set ef
		rules = append(rules, setDSCP(c.RTPDSCP))
	}
	if c.MediaAny {
		// accept
		return append(rules, accept())
	}
	return append(rules,
		// ip saddr . ip daddr . udp dport @sources accept
		join(udp(), saddrDaddrDport(), in(setSources), accept()),
		// ip daddr . udp dport @open accept
		join(udp(), daddrDport(), in(setOpen), accept()),
		// update @strays { ip saddr . ip daddr . udp dport counter }
		join(udp(), saddrDaddrDport(), updateCounted(setStrays)),
		// counter name "guard_drops" drop
		join(counterNamed(guardDrops), drop()))
}

// rate is a limit, with a burst that it does not count.
type rate struct {
	perSecond uint64 // packets
	burst     uint32 // packets
}

// How much SIP is looked at, so that whoever sends too much is late himself, and nobody
// else. A host is what has one address.
//
// senderRate is that of a trunk with 200 calls a second, five messages each, which is
// more than ports for their media; the burst leaves half of the queue
// (divert.DefaultMaxLen) to others.
//
// A packet that begins a flow from outside can be anybody's in the name of anybody. A
// provider begins a flow to each phone that has been silent for minutes, and goes on in
// it when the phone answers; newFlowRate keeps what is forged from using up the
// provider's senderRate, which flows need that are there already.
//
// Strangers are those outside whom nobody inside knows. They get what is left: one of
// them half of what all may begin, and those who were answered, as the remote phones of
// a PBX behind a forward are, something of their own.
var (
	senderRate         = rate{1000, 500}
	newFlowRate        = rate{100, 200}
	strangerRate       = rate{50, 100}
	strangersRate      = rate{100, 200} // of all that begin a flow
	strangersKnownRate = rate{400, 400} // of all that were answered
)

// divertIn hands SIP from outside to the daemon.
func divertIn(c Config, f Features) []rule {
	rules := []rule{
		// ip saddr != @known ip saddr != @sip_peers jump strangers
		join(saddr(), notIn(setKnown), saddr(), notIn(setSIPPeers), jumpTo(chainStrangers)),
		// ct state related,new update @newcomers { ip saddr limit rate over 100/second burst 200 packets } goto flood
		join(stateNewRelated(), saddr(), updateLimited(setNewcomers, newFlowRate), goTo(chainFlood)),
	}
	rules = append(append(rules, fairly()), markSIP(c)...)
	return append(rules, queue(c, f, daddrDportSaddrSport())...)
}

// divertOut hands SIP from inside to the daemon.
func divertOut(c Config, f Features) []rule {
	rules := append([]rule{fairly()}, markSIP(c)...)
	return append(rules, queue(c, f, saddrSportDaddrDport())...)
}

// fairly limits each host.
func fairly() rule {
	// update @senders { ip saddr limit rate over 1000/second burst 500 packets } goto flood
	return join(saddr(), updateLimited(setSenders, senderRate), goTo(chainFlood))
}

// strangers limits the hosts that nobody inside knows, each and all together.
func strangers() []rule {
	return []rule{
		// update @unknown { ip saddr limit rate over 50/second burst 100 packets } counter name "stranger_drops" drop
		join(saddr(), updateLimited(setUnknown, strangerRate), counterNamed(strangerDrops), drop()),
		// ct state established limit rate over 400/second burst 400 packets counter name "stranger_drops" drop
		join(stateEstablished(), limitOver(strangersKnownRate), counterNamed(strangerDrops), drop()),
		// ct state related,new limit rate over 100/second burst 200 packets counter name "stranger_drops" drop
		join(stateNewRelated(), limitOver(strangersRate), counterNamed(strangerDrops), drop()),
	}
}

// flood notes for the log who sends too much.
func flood() []rule {
	return []rule{
		// update @floods { ip saddr counter }
		join(saddr(), updateCounted(setFloods)),
		// counter name "flood_drops" drop
		join(counterNamed(floodDrops), drop()),
	}
}

// markSIP comes before the queue: the daemon keeps the header that it is given.
func markSIP(c Config) []rule {
	if c.SIPDSCP == 0 {
		return nil
	}
	// ip dscp set cs3
	return []rule{setDSCP(c.SIPDSCP)}
}

// queue hands a packet to the daemon. While none listens, the packet may bypass it; but
// not when one has been listening a moment ago. That one is being restarted, SIP is
// repeated, and what passed meanwhile would show private addresses, and set up calls
// without audio.
func queue(c Config, f Features, flow rule) []rule {
	var rules []rule
	if c.Bypass {
		// meta l4proto @serving queue to 5060
		rules = spread(c, f, join(meta(expr.MetaKeyL4PROTO), in(setServing)), flow, false)
	}
	// queue flags bypass to 5060
	return append(rules, spread(c, f, nil, flow, c.Bypass)...)
}

// spread spreads flows over the queues. flow loads a key that is the same in both
// directions of a flow, the inside endpoint first; the kernel's own way
// (queue 0-3) knows only addresses and would put a whole trunk into one queue.
func spread(c Config, f Features, when, flow rule, bypass bool) []rule {
	n := c.queues()
	if n == 1 || !f.Hash {
		// queue flags bypass to 5060
		// queue flags bypass to 5060-5063
		return []rule{join(when, toQueue(c.QueueFirst, uint16(n), bypass, f))}
	}
	var rules []rule
	for i := range n - 1 {
		// jhash ip saddr . udp sport . ip daddr . udp dport mod 4 seed 0x13c4 0 queue flags bypass to 5060
		rules = append(rules, join(when, udp(), flow, hashIs(uint32(n), uint32(i)),
			toQueue(c.QueueFirst+uint16(i), 1, bypass, f)))
	}
	// queue flags bypass to 5063
	return append(rules, join(when, toQueue(c.QueueFirst+uint16(n)-1, 1, bypass, f)))
}
