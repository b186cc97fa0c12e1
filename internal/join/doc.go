// Package join is transparent mode over TCP. The length of a segment that is
// queued cannot change, so the messages of a connection are not rewritten in
// place: the firewall's rules redirect the connection to this process, which makes
// one of its own to where the phone's was going, and passes on what comes by either.
//
// Messages are found by their Content-Length, however TCP has cut or glued them
// (RFC 3261 section 18.3), and each one goes through the engine, as a datagram
// does. A direction is read only as fast as the other side takes it. The end of
// one direction is the end of that direction; a reset resets both connections.
//
// What does not begin as SIP is not SIP to its end, in both directions: TLS, HTTP
// and whatever a browser can be made to send to a SIP port pass as bytes, and open
// nothing, however much like a message a later segment looks. So does all that
// comes after a message that is too large, or that does not say its length.
//
// The connections are this process's: they end with it, and phones make new ones
// to the next daemon, or without one to where they want to go. Calls go on.
package join
