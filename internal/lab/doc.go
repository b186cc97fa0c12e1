// Package lab is the test kit: a network of namespaces with phones, a firewall
// and an outside world, on the real kernel, for end-to-end tests and the demo.
//
//	phone1 10.0.0.10 --+                                        +-- outside1 203.0.113.10
//	phone2 10.0.0.11 --+-- lan -- eth0 firewall ppp0 -- wan ----+-- outside2 203.0.113.11
//	                          10.0.0.1    203.0.113.1    |
//	                                                   router --+-- outside3 198.51.100.10
//
// A test builds a lab, starts the daemon, lets programs or scripted agents
// speak, and looks at the wire and at the kernel. Nothing needs cleaning up.
// This is a whole test:
//
//	func TestCallOut(t *testing.T) {
//		t.Parallel()
//		l := lab.New(t, lab.Options{Phones: 1, Outside: []string{"203.0.113.10"}})
//		l.StartDaemon("rtp_timeout = 60") // lines for its configuration
//
//		alice := l.Phones[0].Agent("alice", 5060)
//		bob := l.Outside[0].Agent("bob", 5060)
//		aliceRTP, bobRTP := l.Phones[0].RTP(4000), l.Outside[0].RTP(6000)
//
//		alice.Register(bob, 3600) // bob is the scripted registrar too
//
//		out := alice.Invite("sip:bob@203.0.113.10", lab.WithSDP(lab.Audio(alice.Addr.Addr(), 4000)))
//		in := bob.RecvInvite()
//		in.Reply(180)
//		out.Expect(180)
//		in.Reply(200, lab.WithSDP(lab.Audio(bob.Addr.Addr(), 6000)))
//		answer := out.Expect(200)
//		out.Ack()
//		in.ExpectRequest("ACK")
//
//		// Each hears the other, from exactly the announced addresses.
//		offer := in.Invite.Media()[0]
//		l.CheckPublic("the offered RTP", offer.RTP, l.Phones[0])
//		l.Talk(lab.Party{RTP: aliceRTP, Peer: answer.Media()[0]}, lab.Party{RTP: bobRTP, Peer: offer})
//
//		out.Send("BYE")
//		in.AnswerBye()
//		out.Expect(200)
//		l.WaitClosed()                            // streams, expectations, conntracks
//		l.CheckSilent(bobRTP.Socket, offer.RTP)   // the announced port answers nobody
//	}
//
// # What a lab checks by itself
//
// At its end, unless Options.Leaky says otherwise, CheckWire judges all that
// was captured: no private address has left, checksums are right, phones got
// their own Via and Contact back. CheckDaemon looks for a dead daemon or a
// panic. After a failure, the log names a directory with a readable trace, pcap
// files of both sides, the kernel's state and the logs of all programs; with
// SIPNATD_LAB_OUT=dir it is written always.
//
// # Is the scenario right?
//
// Every scenario must also pass with SIPNATD_LAB=routed: a firewall that only
// routes, without daemon and NAT. What can hold only with NAT is tested with
// CheckPublic, CheckSilent and WaitClosed, which know the difference, or behind
// l.NAT(). SIPNATD_LAB=iptables-legacy, iptables-nft, egress and firewalld run
// the same scenarios on other firewalls.
//
// # Parts
//
// Host is a namespace: Agent (scripted user agent), RTP and Socket (UDP), Start (a
// program), Output and Run (a command), Sysctl. Agent and Dialog write SIP tersely,
// with Mods (With, Without, Also, WithSDP, any func(*Message)) for what the case is
// about, and SendRaw for exact bytes. Baresip, SIPp and Kamailio are real programs
// (AudioBothWays waits for their RTP). Ufw, Firewalld and Shorewall manage the rules
// of a Bare firewall, each with a configuration of its own. Reach is where the
// outside reaches an inside host; JudgeFromHere leaves out of CheckWire what was
// sent before the daemon was there; DeleteConntracks is time passing. Lab.Inside and
// Lab.Wire are the captures on the two sides of the firewall. Conntracks,
// Expectations, Table, Streams, Bindings and Queues read the firewall's kernel;
// Until waits for a state of it.
//
// # Environment
//
//	SIPNATD_LAB        firewall of the labs that ask for none in particular (see Flavours)
//	SIPNATD_BIN        the daemon; else it is built
//	SIPNATD_LAB_OUT    directory for reports of every lab
//	SIPNATD_LAB_SLOW   factor on time-outs, for emulated machines
//	SIPNATD_LAB_STOCK  1: this is a distribution's kernel, and must have everything
//	SIPNATD_CI         1: what cannot run fails instead of being skipped, unless
//	                   it is the kernel that cannot
package lab
