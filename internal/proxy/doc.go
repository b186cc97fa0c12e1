// Package proxy is a stateful SIP proxy (RFC 3261 section 16) that stands on the
// border of two networks: phones inside, which are configured to use the firewall,
// and the Internet outside.
//
// A request from inside is sent on to wherever it calls; one from outside only to a
// phone inside. What crosses the border loses every trace of the inside: Vias and
// Record-Routes of inside hops are taken off and kept, a phone's Contact becomes a
// URI of the firewall with a token that finds the phone again (the line parameter),
// inside hosts in From, To and other identities become the announced one, and all of
// it comes back byte for byte on the way in. Session descriptions that cross are given
// to the NAT engine, so that media flows in the kernel as for forwarded SIP.
//
// One lock serialises the proxy with its transactions. Nothing waits while it is held:
// look-ups answer by callback.
package proxy
