# bash completion for sipnatd(8)

_sipnatd() {
	local word=$2 previous=$3 command="" argument="" words="" flags="" i
	COMPREPLY=()

	case $previous in
	-c | --config | -p | --pid-file)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		compopt -o filenames 2>/dev/null
		return
		;;
	-d | --debug)
		mapfile -t COMPREPLY < <(compgen -W "babble net sip reg nospec proxy dns nettraf config rtp access auth plugin rtpbabble all none" -- "$word")
		return
		;;
	esac

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-c | --config | -p | --pid-file | -d | --debug) ((i++)) ;;
		-*) ;;
		*) if [ -z "$command" ]; then command=${COMP_WORDS[i]}; else argument=${COMP_WORDS[i]}; fi ;;
		esac
	done

	case $command in
	"")
		words="check config rules clear version"
		flags="-c -d -p -h --config --debug --pid-file --help"
		;;
	check) flags="-c -json -h" ;;
	config)
		words="check show reference"
		flags="-c -h"
		;;
	rules)
		words="nft iptables ip6tables iptables-script ip6tables-script ipchains firewalld ufw openwrt shorewall"
		flags="-c -whole -remove -h"
		;;
	clear) flags="-c -h" ;;
	esac
	[ -z "$argument" ] || words=
	[[ $word != -* && $words ]] || words=$flags
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _sipnatd sipnatd
