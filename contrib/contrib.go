// Package contrib is a place for files: firewalls that sipnatd works with, as their
// administrators write them, and what starts it on various systems. Its tests hold
// the rule files to what "sipnatd rules" writes for the scenario that siproxd's README
// draws: private network 10.0.0.0/24 on eth0, the Internet on ppp0, SIP on port 5060,
// media on ports 7070 to 7080.
package contrib
