package rules

import (
	"fmt"
	"strings"

	"sipnatd/internal/ranges"
)

// PeerRanges are the elements of the set sip_peers.
func (p *page) PeerRanges() []ranges.Range { return ranges.Merge(p.SIPPeers) }

// Quoted are interface names as elements of a set.
func (p *page) Quoted(names []string) []string {
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, `"`+name+`"`)
	}
	return quoted
}

// A flow is a key that is the same in both directions of a flow, the inside endpoint
// first.
const (
	inboundFlow  = "ip daddr . udp dport . ip saddr . udp sport"
	outboundFlow = "ip saddr . udp sport . ip daddr . udp dport"
)

// QueueIn and QueueOut spread flows over the queues.
func (p *page) QueueIn() []string  { return p.queue(inboundFlow) }
func (p *page) QueueOut() []string { return p.queue(outboundFlow) }

func (p *page) queue(flow string) []string {
	if !p.Bypass {
		return p.spread(flow, "queue to")
	}
	var lines []string
	for _, line := range p.spread(flow, "queue to") {
		lines = append(lines, "meta l4proto @serving "+line)
	}
	return append(lines, p.spread(flow, "queue flags bypass to")...)
}

// spread spreads flows over the queues by that statement.
func (p *page) spread(flow, statement string) []string {
	var lines []string
	n := p.queues()
	for i := range n - 1 {
		lines = append(lines, fmt.Sprintf("jhash %s mod %d seed 5060 %d %s %d", flow, n, i, statement, p.QueueFirst+i))
	}
	return append(lines, fmt.Sprintf("%s %d", statement, p.QueueFirst+n-1))
}

// Elements is the line that fills a set, nothing for an empty one.
func (p *page) Elements(list any) string {
	if all := join(", ", list); all != "" {
		return "\n\t\telements = { " + all + " }"
	}
	return ""
}

// Between is what matches packets from one side to the other.
func (p *page) Between(from, to []string) string {
	return strings.Join([]string{"iifname", oneof(p.Quoted(from)), "oifname", oneof(p.Quoted(to))}, " ")
}

// From is what matches packets that come from one side.
func (p *page) From(side []string) string { return "iifname " + oneof(p.Quoted(side)) }
