package nft

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"sipnatd/conntrack"
	"sipnatd/internal/netspace"
)

// flowtable has the world's firewall move UDP flows to a flowtable, or skips the
// test where the kernel has none.
func flowtable(t *testing.T) {
	t.Helper()
	conn, err := nftables.New()
	must(t, err)
	scratch := conn.AddTable(scratchTable())
	priority := nftables.FlowtablePriority(0)
	conn.AddFlowtable(&nftables.Flowtable{Table: scratch, Name: "probe",
		Hooknum: nftables.FlowtableHookIngress, Priority: &priority})
	conn.DelTable(scratch)
	if err := conn.Flush(); err != nil {
		t.Skip("the kernel has no flowtables: ", err)
	}
	nftRun(t, `table inet fw {
		flowtable fast {
			hook ingress priority 0; devices = { lan0, wan0 };
		}
	}
	insert rule inet fw forward meta l4proto udp ct state established flow add @fast`)
}

// TestHelperRefused: a helper that the kernel does not have keeps the table from
// nothing else.
func TestHelperRefused(t *testing.T) {
	netspace.New(t)
	cfg := reference()
	cfg.Helper = "no-such-helper"
	table := open(t, cfg)
	must(t, table.verify())
	if got := nftList(t, "list", "table", "ip", tableName); strings.Contains(got, cfg.Helper) {
		t.Errorf("assigned all the same:\n%s", got)
	}
}

// TestOffloadRules finds the rules that take UDP off the forward hook.
func TestOffloadRules(t *testing.T) {
	for _, tt := range []struct {
		rule  string
		found bool
	}{
		{"flow add @fast", true},
		{"meta l4proto { tcp, udp } flow add @fast", true},
		{"ip protocol udp ct state established flow add @fast", true},
		{"udp dport 5060 flow add @fast", true},
		{"ip protocol tcp flow add @fast", false},
		{"meta l4proto tcp ct state established flow add @fast", false},
		{"ct state established accept", false},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			newWorld(t)
			flowtable(t)
			nftRun(t, "flush chain inet fw forward\nadd rule inet fw forward "+tt.rule)
			got, err := readFirewall(t).OffloadRules()
			must(t, err)
			if (len(got) > 0) != tt.found || tt.found && !strings.Contains(got[0].String(), "in table fw, chain forward") {
				t.Errorf("found %q", got)
			}
		})
	}
}

// TestFlowtable: in a firewall that offloads UDP, SIP and media stay on the forward
// hook and are translated as ever. Without a helper no more than the beginning of a
// flow would be seen.
func TestFlowtable(t *testing.T) {
	for _, helper := range []string{"sipnatd", ""} {
		t.Run(fmt.Sprintf("helper %q", helper), func(t *testing.T) {
			w := newWorld(t)
			flowtable(t)
			ownHelper(t)
			cfg := w.config()
			cfg.Helper = helper
			table := open(t, cfg)
			q := listen(t, 5060, 1)
			lease(t, table, func(b *Batch) { b.MapBinding(ap(phone+":6000"), ap(public+":6060"), time.Hour) })
			for _, flow := range []struct{ port, from, peer string }{
				{"5060", public + ":5060", provider + ":5061"}, // by its port
				{"6000", public + ":6060", provider + ":5062"}, // by its binding
			} {
				a, b := w.host(w.phone, phone+":"+flow.port), w.host(w.provider, flow.peer)
				// The first three set the flow up and make it offloaded.
				const messages = 6
				for i := range messages {
					out, in := fmt.Sprint("out ", i), fmt.Sprint("in ", i)
					a.send(flow.peer, out)
					b.receive(flow.from, out)
					b.send(flow.from, in)
					a.receive(flow.peer, in)
				}
				if n := len(q.take()); (n == 2*messages) != (helper != "") {
					t.Errorf("helper %q: %d of %d messages of port %s were queued", helper, n, 2*messages, flow.port)
				}
			}

			// The guard keeps its hold on media, too.
			a, b, c := w.host(w.phone, phone+":4000"), w.host(w.provider, provider+":30000"), w.host(w.provider, stranger+":30000")
			lease(t, table, func(b *Batch) {
				b.MapStream(a.addr, ap(public+":7070"), time.Hour)
				b.OpenSource(a.addr, time.Hour)
			})
			for range 3 {
				c.send(public+":7070", "offer open")
				a.receive(stranger+":30000", "offer open")
				a.send(stranger+":30000", "latched")
				c.receive(public+":7070", "latched")
			}
			lease(t, table, func(b *Batch) {
				b.CloseSource(a.addr)
				b.AllowSource(far1, a.addr, time.Hour)
			})
			c.send(public+":7070", "answered")
			b.send(public+":7070", "mark")
			if helper == "" {
				a.receive(stranger+":30000", "answered")
			}
			a.receive(provider+":30000", "mark")
		})
	}
}

// TestHelperStays: a helper that the table has is not declared again, nor tried. The
// kernel drops the packets that wait in queues when it takes such an object away.
func TestHelperStays(t *testing.T) {
	netspace.New(t)
	// Whichever helper the kernel has, and for that it has to be loaded or registered.
	track, err := conntrack.Open(conntrack.Options{})
	must(t, err)
	defer track.Close()
	if track.Helper() == conntrack.HelperNone {
		t.Skip(track.HelperReason())
	}
	cfg := reference()
	cfg.Helper = track.HelperName()
	table := open(t, cfg)
	if got := nftList(t, "list", "table", "ip", tableName); !strings.Contains(got, "ct helper set") {
		t.Fatalf("the helper is not assigned:\n%s", got)
	}
	events, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	must(t, err)
	defer events.Close()
	must(t, events.JoinGroup(unix.NFNLGRP_NFTABLES))
	cfg.SIPPorts = append(cfg.SIPPorts, 5070)
	must(t, table.Install(cfg))
	next := open(t, cfg) // another daemon, too
	must(t, next.Install(cfg))
	must(t, events.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	seen := 0
	for {
		messages, err := events.Receive()
		if err != nil {
			break
		}
		for _, m := range messages {
			seen++
			if kind := int(m.Header.Type & 0xff); kind == unix.NFT_MSG_NEWOBJ || kind == unix.NFT_MSG_DELOBJ {
				t.Errorf("an object comes or goes: %q", m.Data)
			}
		}
	}
	if seen == 0 {
		t.Error("nothing was seen of the changes")
	}
	if got := nftList(t, "list", "table", "ip", tableName); !strings.Contains(got, "ct helper set") {
		t.Errorf("the helper is assigned no more:\n%s", got)
	}
}
