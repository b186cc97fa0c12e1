#!/bin/sh
#
# What a packet filter of Linux 2.2 needs that is in front of the machine with
# sipnatd: chains of its own, beside yours.
#
# Written by "sipnatd rules ipchains" for this configuration:
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
# To take it away:   sipnatd rules -remove ipchains | sh
#
# To be run on the box with Linux 2.2, any number of times:
#
#	sh FILE start     add them, or bring them up to date (what it does without a word)
#	sh FILE remove    take them away again
#	sh FILE status    3 where they are not there
#
# ipchains looks at packets, not at connections: there is no "established", and
# nothing opens a port when a call begins. So the box has to let in, all the time,
# each port that sipnatd may announce. Whom the media of a call may come from is
# decided behind it: the guard of sipnatd drops the rest, and a port without a call
# is closed there.
set -eu

# The interface of this box towards the Internet, called as sipnatd's own is.
outer=ppp0

# The address of sipnatd's outside interface.
sipnatd=10.0.0.2

# The address of this box, which sipnatd announces (host_outbound). Where it changes,
# run this from ip-up with PUBLIC=$4.
public=${PUBLIC:-203.0.113.1}

# What this box masquerades.
behind="10.0.0.0/24"

# The ports of sipnatd: SIP, and media from the first to the last. A phone keeps a port
# of its own outside, if it has one: then that port belongs to SIP here, too. Where it
# is taken, the phone gets one of the range of media.
sip="5060"
first=7070 last=7080

# Whom SIP may come from. sipnatd itself admits only hosts that phones have registered
# with or sent to. Networks of the provider may stand here.
from="0/0"

# forwarded ACTION: an ipmasqadm for each port. Masquerading alone would know no
# host behind it to hand a packet to that nobody has sent for.
forwarded() {
	port=$first
	for one in $sip; do
		forward "$1" "$one"
	done
	while [ "$port" -le "$last" ]; do
		forward "$1" "$port"
		port=$((port + 1))
	done
}

# forward add|delete PORT
forward() {
	ipmasqadm portfw -d -P udp -L "$public" "$2" 2>/dev/null || :
	if [ "$1" = add ]; then
		ipmasqadm portfw -a -P udp -L "$public" "$2" -R "$sipnatd" "$2"
	fi
}

# empty CHAIN OWN: OWN is there, has no rules, and CHAIN does not jump to it.
empty() {
	while ipchains -D "$1" -j "$2" 2>/dev/null; do :; done
	ipchains -N "$2" 2>/dev/null || ipchains -F "$2"
}

start() {
	empty input sip-in
	empty forward sip-fwd

	# What comes from outside passes "input", whether it is for this box or goes
	# through it. These are the two rules of siproxd's README:
	#
	#	ipchains -A input --proto udp --dport 5060 --log -j ACCEPT
	#	ipchains -A input --proto udp --dport 7070:7080 -j ACCEPT
	#
	# Both are needed: this box cannot know which port a call has. (--log wrote a line
	# for each packet.)
	for net in $from; do
		for port in $sip; do
			ipchains -A sip-in -i $outer -p udp -s "$net" -d 0/0 "$port" -j ACCEPT
		done
	done
	ipchains -A sip-in -i $outer -p udp -d 0/0 $first:$last -j ACCEPT

	# Their companions. The third rule of that README, for what goes out: in "forward"
	# -i is where a packet leaves.
	for net in $behind; do
		ipchains -A sip-fwd -i $outer -s "$net" -d 0/0 -j MASQ
	done
	# Masquerading gives it a port of these, and answers come there.
	ipchains -A sip-in -i $outer -p udp -d "$public" 61000:65095 -j ACCEPT
	# What comes in goes on to sipnatd, past "forward".
	forwarded add

	ipchains -I input -j sip-in
	ipchains -I forward -j sip-fwd
}

remove() {
	empty input sip-in
	empty forward sip-fwd
	ipchains -X sip-in
	ipchains -X sip-fwd
	forwarded delete
}

status() {
	ipchains -L sip-in -n >/dev/null 2>&1 && ipchains -L sip-fwd -n >/dev/null 2>&1
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
