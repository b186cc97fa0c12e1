// Package e2e holds the end-to-end tests: whole scenarios on real netfilter,
// written with the kit of package lab.
//
//	go test ./internal/lab/e2e                        # root; nftables firewall
//	SIPNATD_LAB=routed go test ./internal/lab/e2e     # without daemon and NAT: are the scenarios right?
//	SIPNATD_LAB=iptables-legacy go test ...           # or iptables-nft, egress, firewalld
package e2e
