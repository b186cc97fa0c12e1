# What the scripts use of OpenWrt's /lib/functions.sh, network.sh and procd.sh, as far as
# they use it. UCI files are read from $ROOT/etc/config; what procd would be told, and what
# the uci program would do, is written to the standard output.

reset_cb() {
	config_cb() { :; }
	option_cb() { :; }
	list_cb() { :; }
}
reset_cb
LIST_SEP=" "

append() { eval "$1=\"\${$1:+\${$1}\${3:- }}\$2\""; }
list_contains() { eval "case \" \$$1 \" in *\" $2 \"*) ;; *) false ;; esac"; }

# A UCI file is a shell script of these.
package() { :; }
config() { SECTION=$2; config_cb "$1" "$2"; }
option() { eval "CONFIG_${SECTION}_$1=\$2"; option_cb "$1" "$2"; }
list() { append "CONFIG_${SECTION}_$1" "$2" "$LIST_SEP"; list_cb "$1" "$2"; }

config_load() {
	local variable
	for variable in $(set | sed -n 's/^\(CONFIG_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$variable"; done
	. "$ROOT/etc/config/$1"
	config_cb
}
config_get() {
	if [ $# = 2 ]; then eval "printf '%s\n' \"\$CONFIG_$1_$2\""; else eval "$1=\"\${CONFIG_$2_$3:-\$4}\""; fi
}
config_get_bool() {
	config_get "$@"
	eval "case \$$1 in 1 | on | true | yes | enabled) $1=1 ;; 0 | off | false | no | disabled) $1=0 ;; *) $1=\$4 ;; esac"
}

# lan and wan are up, dsl is not.
network_get_device() {
	case $2 in
	lan) eval "$1=br-lan" ;;
	wan) eval "$1=pppoe-wan" ;;
	*) return 1 ;;
	esac
}
network_get_physdev() {
	case $2 in
	dsl) eval "$1=dsl0" ;;
	*) return 1 ;;
	esac
}

procd_open_instance() { echo "procd open"; }
procd_set_param() { echo "procd set $*"; }
procd_close_instance() { echo "procd close"; }
procd_add_reload_trigger() { echo "procd reload trigger $*"; }
procd_add_raw_trigger() { echo "procd raw trigger $*"; }

chown() { echo "chown $1"; }
user_exists() { return 1; }
group_add_next() { echo 32768; }
user_add() { echo "user_add $1 gid $3"; }
uci() {
	case "$*" in
	"-q show sipnatd.main") cat "$ROOT/shown" ;;
	*) echo "uci $*" ;;
	esac
}
