# fish completion for sipnatd(8)

set -l commands check config rules clear version
set -l formats nft iptables ip6tables iptables-script ip6tables-script ipchains firewalld ufw openwrt shorewall
set -l classes babble net sip reg nospec proxy dns nettraf config rtp access auth plugin rtpbabble all none
set -l none "not __fish_seen_subcommand_from $commands"

complete -c sipnatd -f
complete -c sipnatd -n $none -a check -d 'look for what keeps this machine from working'
complete -c sipnatd -n $none -a config -d 'check, show or explain the configuration'
complete -c sipnatd -n $none -a rules -d 'write rule files for firewalls'
complete -c sipnatd -n $none -a clear -d 'take away what a stopped daemon has left'
complete -c sipnatd -n $none -a version -d 'say which version this is'

complete -c sipnatd -n $none -s c -l config -rF -d 'configuration'
complete -c sipnatd -n $none -s p -l pid-file -rF -d 'file for the process number'
complete -c sipnatd -n $none -s d -l debug -x -a "$classes" -d 'debug messages'
complete -c sipnatd -s h -l help -d 'help'

complete -c sipnatd -n '__fish_seen_subcommand_from check config rules' -s c -rF -d 'configuration'
complete -c sipnatd -n '__fish_seen_subcommand_from check' -o json -d 'for programs'
complete -c sipnatd -n '__fish_seen_subcommand_from config' -a 'check show reference'
complete -c sipnatd -n '__fish_seen_subcommand_from rules' -a "$formats"
complete -c sipnatd -n '__fish_seen_subcommand_from rules' -o whole -d 'a complete firewall'
complete -c sipnatd -n '__fish_seen_subcommand_from rules' -o remove -d 'what takes it away again'
