# Sourced by `lab`: brings cluster $NAME up and down.
#
#   control  etcd, kube-apiserver, kube-controller-manager and kube-scheduler on 127.0.0.1: volumes bind, objects live, no pods.
#   full     the same, and containerd and a kubelet: one real node. All of it in the network namespace $NETNS, so that nothing
#            leaves it and any number of clusters can use the same addresses. The API is carried to 127.0.0.1:$PORT of the
#            machine over a Unix socket, at the same port as inside: the kubeconfig works on both sides.

[[ $NAME =~ ^[a-z][a-z0-9]{0,11}$ ]] || die "name '$NAME' is not 1 to 12 lower-case letters and digits"
BIN=$CACHE/bin
STATE=$CACHE/run/$NAME
P=$STATE/pki
RUN=/run/runbook-kube-lab/$NAME        # short: it holds sockets, whose path may have 107 bytes
NETNS=rbkube-$NAME
CGROUP=rbkube-$NAME
NODE=node1
NODEIP=198.18.0.1 SVCNET=198.18.64.0/20 SVCIP=198.18.64.1 PODNET=198.18.128.0/24 # benchmarking addresses: nobody's LAN
READY_SECONDS=${RUNBOOK_KUBE_LAB_READY_SECONDS:-240} # one start took 103 s on a swamped machine

# Marks every process of this cluster, so that `down` never ends somebody else's after a pid was used again.
export RUNBOOK_KUBE_LAB_STATE=$STATE
# The kubelet otherwise asks 169.254.169.254 for registry credentials.
export AWS_EC2_METADATA_DISABLED=true

lab_env() {
  [ -s "$STATE/env" ] || die "cluster '$NAME' is not up"
  cat "$STATE/env"
}

lab_up() {
  local mode=$1 start=$SECONDS
  mkdir -p "$STATE"
  exec 8>"$CACHE/run/$NAME.lock"
  flock -w 600 8 || die "somebody has held the lock of cluster '$NAME' for ten minutes"
  [ -e "$STATE/env" ] && die "cluster '$NAME' is up already; 'lab down $NAME' first, or use it by 'lab env $NAME'"
  [ -e "$STATE/pids" ] && lab_down
  trap 'say "bringing up cluster $NAME failed; logs in $STATE/log, then: lab down $NAME"' ERR
  mkdir -p "$STATE"/{pki,log,pids}
  IN=()
  # shellcheck disable=SC2046
  set -- $(free_ports 3)
  PORT=$1 ETCD_PORT=$2 PEER_PORT=$3
  make_pki
  local user
  for user in admin kcm sched kubelet; do kubeconfig $user; done
  [ "$mode" = full ] && start_namespace
  start_etcd_and_api "$mode"
  [ "$mode" = full ] && start_containerd
  wait_for "the API server" api_is_ready
  start_controllers
  [ "$mode" = full ] && start_kubelet
  wait_for "service account default" api /api/v1/namespaces/default/serviceaccounts/default
  [ "$mode" = full ] && wait_for "node $NODE" node_is_ready
  write_env "$mode"
  trap - ERR
  exec 8>&-
  say "cluster $NAME ($mode) is up after $((SECONDS - start)) s"
}

# Ports that are free now on 127.0.0.1.
free_ports() {
  python3 -c 'import socket, sys
s = [socket.socket() for _ in range(int(sys.argv[1]))]
for x in s: x.bind(("127.0.0.1", 0))
print(*(x.getsockname()[1] for x in s))' "$1"
}

# Starts a process of the cluster in the background. Inherited locks are closed: they would be held for its whole life.
run() {
  local name=$1
  shift
  setsid nice -n 5 "${IN[@]}" "$@" > "$STATE/log/$name.log" 2>&1 < /dev/null 8>&- 9>&- &
  echo $! > "$STATE/pids/$name"
}

wait_for() {
  local what=$1 end=$((SECONDS + READY_SECONDS))
  shift
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { say "$what is not ready after $READY_SECONDS s; the last lines of the logs:"; tail -n 3 "$STATE"/log/*.log >&2; return 1; }
    sleep 0.2
  done
}

api() { curl -fsS -m 10 --cacert "$P/ca.crt" --cert "$P/admin.crt" --key "$P/admin.key" "https://127.0.0.1:$PORT$1"; }
api_is_ready() { [ "$(api /readyz)" = ok ]; }
node_is_ready() {
  api "/api/v1/nodes/$NODE" | python3 -c 'import json, sys
sys.exit(not any(c["type"] == "Ready" and c["status"] == "True" for c in json.load(sys.stdin)["status"]["conditions"]))'
}

write_env() {
  {
    echo "export KUBECONFIG='$STATE/admin.kubeconfig'"
    echo "export RUNBOOK_TEST_KUBECONFIG='$STATE/admin.kubeconfig'"
    if [ "$1" = full ]; then
      echo "export RUNBOOK_TEST_NETNS='$NETNS'"
      echo "export RUNBOOK_TEST_NODE='$NODE'"
      echo "export RUNBOOK_TEST_CONTAINERD='$RUN/containerd.sock'"
      echo "export RUNBOOK_TEST_CERTS_D='$STATE/certs.d'"
    fi
  } > "$STATE/env.tmp"
  mv "$STATE/env.tmp" "$STATE/env"
}

make_pki() {
  local ec=(openssl ecparam -name prime256v1 -genkey -noout -out)
  "${ec[@]}" "$P/ca.key"
  openssl req -x509 -new -key "$P/ca.key" -subj "/CN=runbook-lab-$NAME" -days 3650 -sha256 -out "$P/ca.crt" -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
  local line name subject san
  while read -r name subject san; do
    "${ec[@]}" "$P/$name.key"
    openssl req -new -key "$P/$name.key" -subj "$subject" -out "$P/$name.csr"
    openssl x509 -req -in "$P/$name.csr" -CA "$P/ca.crt" -CAkey "$P/ca.key" -CAcreateserial -days 3650 -sha256 -out "$P/$name.crt" 2>/dev/null -extfile <(
      printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\n'
      printf '%s\n' "${san:+subjectAltName=$san}"
    )
  done <<T
apiserver /CN=kube-apiserver DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$NODEIP,IP:$SVCIP
admin /O=system:masters/CN=admin
kcm /CN=system:kube-controller-manager
sched /CN=system:kube-scheduler
kubelet /O=system:nodes/CN=system:node:$NODE DNS:$NODE,IP:$NODEIP,IP:127.0.0.1
apikubelet /O=system:masters/CN=apiserver-kubelet-client
T
  openssl genrsa -out "$P/sa.key" 2048 2>/dev/null
  openssl rsa -in "$P/sa.key" -pubout -out "$P/sa.pub" 2>/dev/null
}

kubeconfig() {
  (umask 077; cat > "$STATE/$1.kubeconfig") <<Y
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://127.0.0.1:$PORT", certificate-authority-data: $(base64 -w0 "$P/ca.crt")}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$P/$1.crt"), client-key-data: $(base64 -w0 "$P/$1.key")}}]
contexts: [{name: lab, context: {cluster: lab, user: $1}}]
current-context: lab
Y
}

start_namespace() {
  [ "$(id -u)" = 0 ] || die "a full cluster needs root"
  mkdir -p "$RUN"
  ip netns add "$NETNS"
  # Not `ip netns exec`: that remounts /sys and hides the mounts of the cgroups.
  IN=(nsenter "--net=/run/netns/$NETNS")
  "${IN[@]}" ip link set lo up
  "${IN[@]}" ip addr replace $NODEIP/32 dev lo
  "${IN[@]}" ip link add node0 type bridge
  "${IN[@]}" ip addr replace 198.18.1.1/24 dev node0
  "${IN[@]}" ip link set node0 up
  "${IN[@]}" ip route replace default dev node0 # a default route that leads nowhere: nothing leaves the namespace
  "${IN[@]}" sysctl -qw net.ipv4.ip_forward=1
  run api-inside socat "UNIX-LISTEN:$RUN/api.sock,fork,mode=0600" "TCP:127.0.0.1:$PORT"
  IN=()
  run api-outside socat "TCP-LISTEN:$PORT,bind=127.0.0.1,fork,reuseaddr" "UNIX-CONNECT:$RUN/api.sock"
  IN=(nsenter "--net=/run/netns/$NETNS")
}

start_etcd_and_api() {
  local data bind=127.0.0.1 advertise=(--endpoint-reconciler-type=none "--advertise-address=$SVCIP")
  [ "$1" = full ] && bind=0.0.0.0 advertise=("--advertise-address=$NODEIP")
  data=$(mktemp -d /dev/shm/rbkube-etcd.XXXXXX) # in memory: its fsyncs are most of the time of a cluster on a slow disk
  ln -sfn "$data" "$STATE/etcd"
  run etcd etcd --name s1 --data-dir "$data" --listen-client-urls "http://127.0.0.1:$ETCD_PORT" --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" \
    --listen-peer-urls "http://127.0.0.1:$PEER_PORT" --initial-advertise-peer-urls "http://127.0.0.1:$PEER_PORT" --initial-cluster "s1=http://127.0.0.1:$PEER_PORT"
  run apiserver "$BIN/kube-apiserver" --etcd-servers="http://127.0.0.1:$ETCD_PORT" --bind-address=$bind --secure-port="$PORT" "${advertise[@]}" \
    --service-cluster-ip-range=$SVCNET --client-ca-file="$P/ca.crt" --tls-cert-file="$P/apiserver.crt" --tls-private-key-file="$P/apiserver.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --service-account-issuer=https://kubernetes.default.svc --service-account-signing-key-file="$P/sa.key" --service-account-key-file="$P/sa.pub" \
    --kubelet-client-certificate="$P/apikubelet.crt" --kubelet-client-key="$P/apikubelet.key" --kubelet-certificate-authority="$P/ca.crt" \
    --kubelet-preferred-address-types=InternalIP --event-ttl=1h --audit-policy-file="$here/audit.yaml" --audit-log-path="$STATE/audit.log"
}

# Without ports of their own, so that control planes side by side do not fight for 10257 and 10259.
start_controllers() {
  run kcm "$BIN/kube-controller-manager" --kubeconfig="$STATE/kcm.kubeconfig" --port=0 --secure-port=0 --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file="$P/sa.key" --root-ca-file="$P/ca.crt" --kube-api-qps=200 --kube-api-burst=400 \
    --cluster-signing-cert-file="$P/ca.crt" --cluster-signing-key-file="$P/ca.key" --node-monitor-period=2s --pvclaimbinder-sync-period=2s
  run sched "$BIN/kube-scheduler" --kubeconfig="$STATE/sched.kubeconfig" --port=0 --secure-port=0 --leader-elect=false
}

start_containerd() {
  local c=$STATE/containerd f
  mkdir -p "$c" "$STATE/cni" "$STATE/certs.d"
  cat > "$c/config.toml" <<T
version = 2
root = "$c/root"
state = "$RUN/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "$RUN/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true      # without CAP_SYS_RESOURCE runc may not lower oom_score_adj
  disable_apparmor = true
  netns_mounts_under_state_dir = true # not /run/netns, which all clusters share
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$STATE/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
T
  cat > "$STATE/cni/10-lab.conflist" <<J
{"cniVersion": "0.4.0", "name": "lab", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$STATE/ipam", "ranges": [[{"subnet": "$PODNET"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
J
  run containerd containerd --config "$c/config.toml"
  wait_for containerd ctr -a "$RUN/containerd.sock" version
  for f in "$CACHE"/images/*.tar; do ctr -a "$RUN/containerd.sock" -n k8s.io image import "$f" > /dev/null; done
}

start_kubelet() {
  local k=$STATE/kubelet c
  mkdir -p "$k"
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$CGROUP"
  else
    for c in cpu cpuacct cpuset memory devices freezer blkio pids systemd; do mkdir -p "/sys/fs/cgroup/$c/$CGROUP"; done
    for c in cpus mems; do cat "/sys/fs/cgroup/cpuset/cpuset.$c" > "/sys/fs/cgroup/cpuset/$CGROUP/cpuset.$c"; done
  fi
  cat > "$k/config.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failSwapOn: false
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $P/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $P/kubelet.crt
tlsPrivateKeyFile: $P/kubelet.key
address: $NODEIP
clusterDomain: cluster.local
clusterDNS: [198.18.64.10]
resolvConf: ""
evictionHard: {memory.available: 50Mi, nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
syncFrequency: 10s
nodeStatusUpdateFrequency: 1s
fileCheckFrequency: 5s
volumeStatsAggPeriod: 0s
makeIPTablesUtilChains: false
registryPullQPS: 0
kubeAPIQPS: 50
kubeAPIBurst: 100
Y
  # The kubelet sets these for the whole machine; the last cluster that goes down puts them back.
  [ -e "$CACHE/run/sysctl.before" ] || sysctl vm.overcommit_memory kernel.panic kernel.panic_on_oops > "$CACHE/run/sysctl.before"
  run kubelet "$BIN/kubelet" --config="$k/config.yaml" --kubeconfig="$STATE/kubelet.kubeconfig" --hostname-override=$NODE --node-ip=$NODEIP \
    --root-dir="$k/root" --cert-dir="$k/pki" --container-runtime=remote "--containerd=$RUN/containerd.sock" \
    "--container-runtime-endpoint=unix://$RUN/containerd.sock"
}

# ---------- down

is_ours() { { tr '\0' '\n' < "/proc/$1/environ"; } 2>/dev/null | grep -qxF "RUNBOOK_KUBE_LAB_STATE=$STATE"; }

stop() {
  local pid i
  [ -s "$STATE/pids/$1" ] || return 0
  pid=$(cat "$STATE/pids/$1")
  if is_ours "$pid"; then
    kill "$pid" 2>/dev/null
    for i in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null
  fi
  rm -f "$STATE/pids/$1"
}

cgroup_roots() { [ -e /sys/fs/cgroup/cgroup.controllers ] && echo "/sys/fs/cgroup/$CGROUP" || echo /sys/fs/cgroup/*/"$CGROUP"; }

# Whatever is left goes by our own marks: the cgroup, the environment, the path of our containerd socket.
lab_down() {
  set +e
  local root p id c i
  [ -d "$STATE" ] || { say "cluster $NAME is not there"; return 0; }
  rm -f "$STATE/env"
  stop kubelet
  for root in $(cgroup_roots); do
    for p in $(find "$root" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u); do kill -9 "$p" 2>/dev/null; done
  done
  for p in sched kcm apiserver api-outside api-inside; do stop $p; done
  if [ -S "$RUN/containerd.sock" ]; then
    for c in $(timeout 10 ctr -a "$RUN/containerd.sock" -n k8s.io task ls -q 2>/dev/null); do
      timeout 10 ctr -a "$RUN/containerd.sock" -n k8s.io task rm -f "$c" > /dev/null 2>&1
    done
  fi
  stop containerd
  stop etcd
  for p in /proc/[0-9]*; do
    id=${p#/proc/}
    [ "$id" = $$ ] || [ "$id" = "$BASHPID" ] && continue
    if { tr '\0' ' ' < "$p/cmdline"; } 2>/dev/null | grep -qF -- "-address $RUN/containerd.sock "; then kill -9 "$id" 2>/dev/null; fi
  done
  awk '{ print $2 }' /proc/mounts | grep -E "^($STATE|$RUN)/" | sort -r | while read -r p; do umount -l "$p"; done
  for i in 1 2 3; do
    for root in $(cgroup_roots); do find "$root" -depth -type d -exec rmdir {} + 2>/dev/null; done
  done
  [ -e "/run/netns/$NETNS" ] && ip netns del "$NETNS"
  [ -L "$STATE/etcd" ] && rm -rf "$(readlink "$STATE/etcd")"
  rm -rf "$STATE" "$RUN" "$CACHE/run/$NAME.lock"
  rmdir /run/runbook-kube-lab 2>/dev/null
  if [ -s "$CACHE/run/sysctl.before" ] && [ -z "$(ls -d "$CACHE"/run/*/ 2>/dev/null)" ]; then
    sysctl -q -p "$CACHE/run/sysctl.before" > /dev/null
    rm -f "$CACHE/run/sysctl.before"
  fi
  set -e
  say "cluster $NAME is down"
}
