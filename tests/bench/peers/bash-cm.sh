#!/bin/bash
# bash-cm.sh SET N: W20 by hand, one ssh master for each host, and one ssh command for each step through it. Hosts side by side.
# $SOCKETS is the folder of the masters' sockets.
set -u
set=$1 n=$2 here=$(dirname "$0")
mkdir -p "$SOCKETS"
for f in dir put same replace append block creates link; do declare "lib_$f=$(sed -n "/^$f() {/,/^}/p" "$here/lib.sh")"; done
sum=$(sha256sum "$set/files/payload.bin" | cut -d' ' -f1)

one() {
  local h=h$1 i=$1 out=() app etc root t mode said
  root=$(sed -n "s/^$h .* hostroot=\([^ ]*\).*/\1/p" "$set/hosts.ini"); app=$root/app etc=$root/etc
  local via=(-F "$set/ssh_config" -o "ControlPath=$SOCKETS/bash-$h")
  ssh "${via[@]}" -o ControlMaster=yes -Nf "$h" 2>/dev/null < /dev/null || { echo "$h: unreachable"; return 1; }
  step() { # FUNCTION ARGUMENTS...: as text for the host's shell
    local lib=lib_$1
    out+=("$(ssh "${via[@]}" "$h" "${!lib-}
$*")") || { echo "$h: failed: $*"; exit 1; }
  }
  step dir "$app 755 root root" < /dev/null
  step dir "$app/conf 750 root adm" < /dev/null
  step dir "$app/data 700 nobody nogroup" < /dev/null
  step dir "$app/log 775 root adm" < /dev/null
  for t in 1 2 3 4 5 6; do
    mode="644 root root"; [ $t -gt 3 ] && mode="640 root adm"
    step put "$app/conf/t$t.conf $mode" < <(
      sed -e "s/{{ host_name }}/$h/g; s/{{ env }}/prod/g; s/{{ app_port }}/8443/g; s/{{ workers }}/12/g; s/{{ db_host }}/db01.internal/g; s/{{ host_idx }}/$i/g" "$set/files/t$t.conf.j2"
    )
  done
  step replace "$etc/app.conf '^MaxConnections ' 'MaxConnections 512'" < /dev/null
  step append "$etc/hosts '10.0.0.7 db01.internal'" < /dev/null
  step block "$etc/profile BENCH 'export APP_PORT=8443
export APP_ENV=prod'" < /dev/null
  step same "$app/data/payload.bin 644 root root $sum" < /dev/null
  [ "${out[-1]}" = ok ] || step put "$app/data/payload.bin 644 root root" < "$set/files/payload.bin"
  step creates "$app/data/payload.sha256 'cd $app/data && sha256sum payload.bin > payload.sha256'" < /dev/null
  step creates "$app/data/generated.txt 'tr a-z A-Z < $app/conf/t1.conf > $app/data/generated.txt'" < /dev/null
  step link "$app" < /dev/null
  step creates "$app/data/lines.txt 'cat $app/conf/*.conf | sort -u | wc -l > $app/data/lines.txt'" < /dev/null
  step cat "$app/data/svc.state 2>/dev/null || echo stopped" < /dev/null
  [ "${out[-1]}" = running ] || step echo "running > $app/data/svc.state; echo changed" < /dev/null
  ssh "${via[@]}" -O exit "$h" 2>/dev/null
  said=$(printf '%s\n' "${out[@]}" | grep -c changed)
  echo "$h steps=${#out[@]} changed=$said"
}

for ((i = 1; i <= n; i++)); do one "$i" & jobs[i]=$!; done
code=0
for job in "${jobs[@]}"; do wait "$job" || code=1; done
exit $code
