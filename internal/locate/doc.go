// Package locate finds SIP servers by RFC 3263: from the host, port and transport of
// a URI to the addresses that a request is tried at, one after the other.
//
// It has a resolver of its own, since that of package net knows no NAPTR records, has
// no cache and keeps a thread or a connection for each caller. What is known is
// answered at once; otherwise the answer comes by callback, and callers who want the
// same at the same time share one look-up. Only IPv4 addresses are looked for.
//
// The DNS servers are those of /etc/resolv.conf, and /etc/hosts goes before them: a
// name that the administrator has written there has that address, whatever services
// the DNS knows of. Both files are read again when they have changed.
//
// Answers are believed only if they come from the server and to the port that was
// asked, with the id and the question of the query (RFC 5452); of them only what
// answers the question is used, never the additional records. What can not be looked
// up now but was known lately is still used (RFC 8767): a telephone is worth more than
// a fresh record.
package locate
