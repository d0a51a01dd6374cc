# Gives an interface its addresses.
# $1 is its name, then come words, carried out in their order:
#   free IP               nobody else has it, else nothing more is done
#   file PATH MODE FILE   PATH has the content of FILE
#   gone PATH             nothing is there
#   netplan               its files come into force
#   profile UUID METHOD ADDRESSES GATEWAY DNS   the profile of NetworkManager says so, and comes into force
#   keep IP/PREFIX        the interface has it at once, whatever the renderer will say
#   has IP/PREFIX         the interface has it by now
#   not IP/PREFIX         the interface does not have it any more
#   tell IP               the neighbours know who has it now
# Runs when nobody is connected, and more than once.
PATH=$PATH:/usr/sbin:/sbin
LC_ALL=C
export PATH LC_ALL
i=$1
shift
fail() { echo "$1" >&2; exit 1; }
count() { echo "$2" | sed -n "s/^$1 \([0-9]\{1,\}\) .\{0,\}/\1/p"; }
free() {
  said=$(arping -D -c 3 -w 5 -I "$i" "$1" 2>&1)
  sent=$(count Sent "$said")
  received=$(count Received "$said")
  if [ -n "$received" ] && [ "$received" -gt 0 ]; then fail "somebody has $1: $(echo "$said" | grep ' reply from ')"; fi
  [ -n "$received" ] && [ -n "$sent" ] && [ "$sent" -gt 0 ] || fail "nobody can tell whether $1 is free: $said"
}
lay() {
  mkdir -p "$(dirname "$1")" && cp "$3" "$1.runbook-new" && chmod "$2" "$1.runbook-new" && mv -f "$1.runbook-new" "$1" || fail "$1 cannot be written"
  sync "$1" 2>/dev/null || sync
}
there() { ip -4 -o addr show dev "$i" | grep -qwF "inet $1"; }
has() {
  n=0
  until there "$1"; do
    n=$((n + 1))
    [ "$n" -le 30 ] || fail "$i does not get $1: it has $(ip -4 -o addr show dev "$i" | grep -o 'inet [0-9./]\{1,\}' | tr '\n' ' ')"
    sleep 1
  done
}
# Some versions of a renderer leave an address behind that they do not know.
not() {
  n=0
  while there "$1" && [ "$n" -lt 3 ]; do n=$((n + 1)); sleep 1; done
  there "$1" || return 0
  # Else the kernel takes the others of the same network along.
  echo 1 >"/proc/sys/net/ipv4/conf/$i/promote_secondaries"
  ip addr del "$1" dev "$i" || fail "$1 cannot be taken from $i"
}
tell() {
  arping -U -c 3 -w 5 -I "$i" "$1" >/dev/null 2>&1 &
  arping -A -c 3 -w 5 -I "$i" "$1" >/dev/null 2>&1
  wait
}
while [ $# -gt 0 ]; do
  left=$#
  case $1 in
    free) free "$2"; shift 2 ;;
    file) lay "$2" "$3" "$4"; shift 4 ;;
    gone) rm -f "$2" || fail "$2 cannot be removed"; shift 2 ;;
    netplan) netplan generate && netplan apply || fail "netplan does not put it into force"; shift ;;
    profile)
      nmcli con mod "$2" ipv4.method "$3" ipv4.addresses "$4" ipv4.gateway "$5" ipv4.dns "$6" && nmcli con up "$2" ||
        fail "NetworkManager does not put it into force"
      shift 6
      ;;
    has) has "$2"; shift 2 ;;
    not) not "$2"; shift 2 ;;
    tell) tell "$2"; shift 2 ;;
    keep) ip addr replace "$2" dev "$i"; shift 2 ;;
  esac
  [ "$#" -lt "$left" ] || fail "$1 is no word"
done
