// Package check looks at the machine that sipnatd stands on, or is to stand on: what
// the kernel can do, interfaces and routes, the firewall, other programs. Each
// [Finding] says what was found and what to do.
//
// What a kernel can do is found out by trying. What a firewall does is found out by
// asking its rules about single packets, such as "SIP from eth0 to ppp0"; rules that
// are not understood may do this or that. A fault is told only where it is certain: a
// chain that drops SIP in spite of whatever these rules do.
//
// Each subject has a function that is given what it needs to know, and where it asks,
// so that tests can put other answers in. [Run] asks the machine.
package check
