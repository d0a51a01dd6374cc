#!/bin/bash
# floor.sh SET N: the floor, written by hand for this workload. One ssh and one exec for each host: the script travels as the command,
# the seven files as a tar on its standard input.
set -u
set=$1 n=$2 here=$(dirname "$0")
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
lib=$(grep -v '^#' "$here/lib.sh")

one() {
  local i=$1 t
  mkdir "$tmp/$i"
  for t in 1 2 3 4 5 6; do
    sed -e "s/{{ host_name }}/h$i/g; s/{{ env }}/prod/g; s/{{ app_port }}/8443/g; s/{{ workers }}/12/g; s/{{ db_host }}/db01.internal/g; s/{{ host_idx }}/$i/g" \
      "$set/files/t$t.conf.j2" > "$tmp/$i/t$t.conf"
  done
  out=$(tar -C "$tmp/$i" -c . -C "$set/files" payload.bin | ssh -F "$set/ssh_config" "h$i" "$lib"'
app=$HOSTROOT/app; etc=$HOSTROOT/etc; w=$(mktemp -d); tar -x -C $w -f -
dir $app 755 root root; dir $app/conf 750 root adm; dir $app/data 700 nobody nogroup; dir $app/log 775 root adm
for n in 1 2 3; do put $app/conf/t$n.conf 644 root root < $w/t$n.conf; done
for n in 4 5 6; do put $app/conf/t$n.conf 640 root adm < $w/t$n.conf; done
replace $etc/app.conf "^MaxConnections " "MaxConnections 512"
append $etc/hosts "10.0.0.7 db01.internal"
block $etc/profile BENCH "export APP_PORT=8443
export APP_ENV=prod"
put $app/data/payload.bin 644 root root < $w/payload.bin
creates $app/data/payload.sha256 "cd $app/data && sha256sum payload.bin > payload.sha256"
creates $app/data/generated.txt "tr a-z A-Z < $app/conf/t1.conf > $app/data/generated.txt"
(link $app)
creates $app/data/lines.txt "cat $app/conf/*.conf | sort -u | wc -l > $app/data/lines.txt"
s=$(cat $app/data/svc.state 2>/dev/null || echo stopped); say ok
if [ "$s" != running ]; then echo running > $app/data/svc.state; say changed; else say ok; fi
rm -rf $w') || return
  echo "h$i steps=$(wc -w <<< "$out") changed=$(grep -c changed <<< "$out")"
}

for ((i = 1; i <= n; i++)); do one "$i" & jobs[i]=$!; done
code=0
for job in "${jobs[@]}"; do wait "$job" || code=1; done
exit $code
