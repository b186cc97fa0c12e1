#!/bin/sh
#
# A packet filter of Linux 2.2 in front of the firewall that sipnatd runs on:
#
#	provider -- eth1 [this machine] eth0 -- 203.0.113.1 [sipnatd] -- phones
#
# sipnatd itself needs netfilter, so it cannot run on Linux 2.2, but it can stand
# behind it. ipchains knows packets, not connections: there is no "established",
# and nothing opens a port when a call begins. So the filter has to let in, all
# the time, each port that sipnatd may announce. Whom the media of a call may
# come from is decided behind it: the guard of sipnatd drops the rest, and a port
# without a call is closed there.
#
# This machine does no masquerading; the address of sipnatd is a public one.

# The address that sipnatd announces.
sipnatd=203.0.113.1

# The networks of the provider's SIP servers.
providers="203.0.113.0/24"

# The public ports of signalling: those that the phones use themselves. A phone
# whose port is taken already gets one of the range of media.
sip_ports="5060"

# rtp_port_low and rtp_port_high of siproxd.conf, these being its defaults.
media=7070:7999

# Towards the provider, and towards sipnatd.
outer=eth1
inner=eth0

ipchains -F
ipchains -P input ACCEPT
ipchains -P output ACCEPT
ipchains -P forward DENY

# Nobody outside has the address of sipnatd.
ipchains -A input -i $outer -s $sipnatd -j DENY -l

# Out: everything. In the forward chain -i is where a packet leaves.
ipchains -A forward -i $outer -s $sipnatd -j ACCEPT

# In: SIP from the provider, and media from wherever the other phone is. SIP may
# come on the ports of media, too.
for net in $providers; do
	for port in $sip_ports; do
		ipchains -A forward -i $inner -p udp -s $net -d $sipnatd $port -j ACCEPT
	done
done
ipchains -A forward -i $inner -p udp -d $sipnatd $media -j ACCEPT

# In: the further pieces of a long INVITE. They name no ports, and without the
# first piece, which does, they are worth nothing.
ipchains -A forward -f -i $inner -p udp -d $sipnatd -j ACCEPT

# In: what answers other traffic from behind. For TCP that is all but the first
# packet; for UDP the name server is worth a rule.
ipchains -A forward -i $inner -p tcp ! -y -d $sipnatd -j ACCEPT
ipchains -A forward -i $inner -p udp -s 0/0 53 -d $sipnatd 1024:65535 -j ACCEPT

# In: "unreachable" (3), with which too long packets are reported, too.
ipchains -A forward -i $inner -p icmp -s 0/0 3 -d $sipnatd -j ACCEPT
