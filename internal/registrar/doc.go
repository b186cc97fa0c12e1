// Package registrar knows where phones are and who they are: the location service and
// registrar of RFC 3261 section 10 for the domains of the firewall's own, the tokens
// that stand for phones towards the outside, digest authentication, and the lists of
// hosts that may use the proxy.
//
// All domains of the firewall's own are one: johndoe@foo.bar.org is johndoe@10.0.0.1.
//
// What a REGISTER costs does not grow with the number of phones. What has expired is
// not seen any more at once, and taken away a part at a time. Nothing that is called
// with a message waits for a disk or a name server.
package registrar
