// Package transport is the sockets of the proxy mode: SIP messages come in and
// go out over UDP and TCP, as RFC 3261 section 18 has it. It knows where a
// message begins and ends and where it came from, and nothing of what it says.
//
// On each listen address there is a UDP socket and a TCP listener. What comes
// is given to the [Handler] as an [Arrival], whose [Hop] answers take: over UDP
// they leave from the address that the request came to, over TCP on its
// connection. Requests use an existing connection to the same endpoint, if there
// is one, and make one otherwise (RFC 3261 section 18.1.1, and RFC 5923 for
// connections that the other side has made).
//
// Nothing here waits for a peer: [Transport.Send] hands the message to the
// kernel, or puts it in the bounded queue of the connection. What a peer can
// make the transport hold is limited in number, size and time; [Config] has the
// figures.
//
// IPv4 only.
package transport
