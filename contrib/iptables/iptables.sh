#!/bin/sh
#
# What sipnatd needs of an iptables firewall that is there already: chains of its
# own, beside yours. It does for both kinds of iptables, iptables-legacy and
# iptables-nft; IPTABLES names another program than "iptables".
#
# Written by "sipnatd rules iptables-script" for this configuration:
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
# To take it away:   sipnatd rules -remove iptables-script | sh
#
#	sh FILE start     add them, or bring them up to date (what it does without a word)
#	sh FILE remove    take them away again
#	sh FILE status    3 where they are not there
#
# Each of it may be done any number of times. Nothing here translates SIP or RTP:
# that is done by a table of nftables which the daemon keeps, "ip sipnatd".
set -eu

iptables=${IPTABLES:-iptables}

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
	# All rules of a table at once: no packet meets half of them.
	"$iptables-restore" -w --noflush <<'RULES'
*filter
:SIPNATD_INPUT - [0:0]
:SIPNATD_FORWARD - [0:0]

# Into the firewall itself.
# Phones, and whoever calls them, speak to the daemon as to a proxy.
-A SIPNATD_INPUT -i eth0 -p udp -m udp --dport 5060 -j ACCEPT
-A SIPNATD_INPUT -i eth0 -p tcp -m tcp --dport 5060 -j ACCEPT
# The first of the two rules of siproxd's README: SIP from outside. Still needed.
-A SIPNATD_INPUT -i ppp0 -p udp -m udp --dport 5060 -j ACCEPT
# The same over TCP.
-A SIPNATD_INPUT -i ppp0 -p tcp -m tcp --dport 5060 -j ACCEPT
# The second one, for RTP. Not needed any more: siproxd received the media itself,
# here the kernel translates it and forwards it, and nothing of it comes in here.
# -A SIPNATD_INPUT -i ppp0 -p udp -m udp --dport 7070:7080 -j ACCEPT

# Through it. Media is RELATED, and so are calls to a phone that is registered.
# Without it nobody can call in, and audio starts late or never.
-A SIPNATD_FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
# SIP from inside. What comes back is ESTABLISHED. (A provider who speaks SIP on
# another port belongs into sip_ports.)
-A SIPNATD_FORWARD -i eth0 -o ppp0 -p udp -m udp --dport 5060 -j ACCEPT
# Only for kernels without any conntrack helper, where the daemon says at its start
# that it cannot make media RELATED. Whatever is translated from outside gets in
# with this, by your own port-forwards too:
# -A SIPNATD_FORWARD -i ppp0 -o eth0 -m conntrack --ctstate DNAT -j ACCEPT
COMMIT

*nat
:SIPNATD_POSTROUTING - [0:0]

# What leaves without a translation gets the firewall's address. SIP and media have
# one by then: the daemon's table comes before this.
-A SIPNATD_POSTROUTING -s 10.0.0.0/24 -o ppp0 -j MASQUERADE
COMMIT
RULES
	# Before whatever drops, and after whatever you translate yourself.
	hook filter INPUT SIPNATD_INPUT -I
	hook filter FORWARD SIPNATD_FORWARD -I
	hook nat POSTROUTING SIPNATD_POSTROUTING -A
}

remove() {
	unhook filter INPUT SIPNATD_INPUT
	unhook filter FORWARD SIPNATD_FORWARD
	unhook nat POSTROUTING SIPNATD_POSTROUTING
}

status() {
	hooked filter INPUT SIPNATD_INPUT &&
		hooked filter FORWARD SIPNATD_FORWARD &&
		hooked nat POSTROUTING SIPNATD_POSTROUTING
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
