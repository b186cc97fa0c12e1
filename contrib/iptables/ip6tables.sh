#!/bin/sh
#
# The IPv6 side of "sipnatd rules iptables-script": a chain beside yours.
#
# This version of sipnatd does not translate IPv6, and needs nothing of it: SIP over
# IPv6 passes as your firewall lets it. By IPv4 no stranger can send SIP to a phone,
# since it is behind a NAT. IPv6 has none, and this keeps them out there, too.
#
# Written by "sipnatd rules ip6tables-script" for this configuration:
#
#	if_inbound      = eth0
#	if_outbound     = ppp0
#	sip_ports       = 5060
#	sip_peers       =
#	sip_accept      = peers
#	media_source    = signalled
#	hairpin         = direct
#	on_failure      = pass
#	sip_dscp        = 0
#	rtp_dscp        = 0
#	queue_num       = 5060
#	queues          = 1
#	rtp_port_low    = 7070
#	rtp_port_high   = 7080
#	sip_listen_port = 5060
#
# To load it:        sh FILE
# To take it away:   sipnatd rules -remove ip6tables-script | sh
#
#	sh FILE start     add it, or bring it up to date (what it does without a word)
#	sh FILE remove    take it away again
#	sh FILE status    3 where it is not there
#
# Each of it may be done any number of times. It does for both kinds of ip6tables;
# IP6TABLES names another program than "ip6tables".
set -eu

iptables=${IP6TABLES:-ip6tables}

# hook TABLE CHAIN OWN WHERE: CHAIN jumps to OWN, once.
hook() {
	"$iptables" -w -t "$1" -C "$2" -j "$3" 2>/dev/null ||
		"$iptables" -w -t "$1" "$4" "$2" -j "$3"
}

# unhook TABLE CHAIN OWN: there is neither the jump nor OWN any more.
unhook() {
	while "$iptables" -w -t "$1" -D "$2" -j "$3" 2>/dev/null; do :; done
	if "$iptables" -w -t "$1" -F "$3" 2>/dev/null; then
		"$iptables" -w -t "$1" -X "$3"
	fi
}

# hooked TABLE CHAIN OWN: CHAIN jumps to OWN.
hooked() {
	"$iptables" -w -t "$1" -C "$2" -j "$3" 2>/dev/null
}

# Without the right to, everything below would look as if it were not there.
"$iptables" -w -t filter -S FORWARD >/dev/null

start() {
	# All rules at once: no packet meets half of them.
	"$iptables-restore" -w --noflush <<'RULES'
*filter
:SIPNATD_FORWARD - [0:0]

# Through it. By IPv4 no stranger can send SIP to a phone, since it is behind a NAT.
# IPv6 has none, and this keeps them out there, too.
-A SIPNATD_FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A SIPNATD_FORWARD -i ppp0 -o eth0 -p udp -m udp --dport 5060 -j DROP
COMMIT
RULES
	hook filter FORWARD SIPNATD_FORWARD -I
}

remove() {
	unhook filter FORWARD SIPNATD_FORWARD
}

status() {
	hooked filter FORWARD SIPNATD_FORWARD
}

case ${1:-start} in
start) start ;;
remove) remove ;;
status) status || exit 3 ;;
*)
	echo "usage: $0 [start | remove | status]" >&2
	exit 2
	;;
esac
