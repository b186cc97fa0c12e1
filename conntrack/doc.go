// Package conntrack is the daemon's way to the kernel's connection tracking
// table, over ctnetlink.
//
// It does four things:
//
//   - It makes the kernel expect the media of a call, so that a firewall whose
//     policy is "drop, except established and related" lets it pass
//     ([Conn.Commit]).
//   - It finds the translation that a flow already has and deletes flows
//     ([Conn.Lookup], [Conn.Select], [Conn.Delete]).
//   - It reports UDP flows as they begin and end, with their packet and byte
//     counts, and anchors that others have deleted ([Conn.Watch],
//     [EnableAccounting]).
//   - It tells how full the kernel's tables are ([Limits]).
//
// # Anchors
//
// The kernel takes an expectation only below a master conntrack that has a
// helper. The SIP flow of a call is no such master: it may not be confirmed
// yet, it expires long before the call does and takes its expectations along,
// and the helper that it would need would rewrite SIP behind our back. An
// anchor is a conntrack entry that exists for this purpose alone. It joins two
// addresses of 127.0.0.0/8, which no packet can carry from a wire, and it is
// derived from the public endpoint that it stands for, so that a daemon that
// was restarted finds it again. Its lifetime is the lease of everything below
// it: when it expires or is deleted, the kernel removes its expectations.
//
// An expectation here says "a UDP flow from anywhere to this endpoint is
// RELATED", and nothing else: the flow passes the NAT chains like any other,
// gets no helper, and the expectation stays for the next one
// (NF_CT_EXPECT_PERMANENT). Who may really send is for packet filter rules to
// decide, which see every packet and not only the first.
//
// # Helpers
//
// The helper that an anchor needs is never run, since no packet belongs to an
// anchor; it lends its limits only. [Open] takes the first of these that the
// kernel accepts:
//
//   - [HelperOwn]: one of our own, registered over nfnetlink_cthelper;
//   - [HelperSIP]: the kernel's nf_conntrack_sip, which allows few
//     expectations below an anchor;
//   - [HelperNone]: no expectations at all. Commit then succeeds without doing
//     anything, and the firewall has to accept `ct status dnat`.
//
// All of it needs CAP_NET_ADMIN, and works in the network namespace of the
// thread that calls Open. Flows are tracked, and so expected, only where some
// packet filter rule asks for it: a NAT chain or a `ct` expression does.
package conntrack
