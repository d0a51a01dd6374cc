# Sourced by `lab`: builds the Kubernetes server binaries and two images, once, into $CACHE/bin and $CACHE/images.
#
# Debian's source package of Kubernetes is complete but for one generated file, and needs nothing from the network while it
# is compiled. What is kept are the four stripped binaries (about 210 MB) and the images; source and compiler caches go.

# Packages that the lab needs at build time and at run time.
LAB_PACKAGES=(golang-go etcd-server containerd runc containernetworking-plugins busybox-static iptables iproute2 conntrack
  socat dpkg-dev gcc libc6-dev openssl python3 curl procps util-linux)

# All binaries are in the cache. Each gets there whole, by a rename.
lab_is_built() {
  local c
  for c in "${COMPONENTS[@]}"; do [ -x "$CACHE/bin/$c" ] || return 1; done
}

lab_build() {
  mkdir -p "$CACHE"
  exec 9>"$CACHE/build.lock"
  flock -w 3600 9 || die "another build has held $CACHE/build.lock for an hour"
  "$here/../install" "${LAB_PACKAGES[@]}"
  [ -s "$CACHE/images/busybox.tar" ] || build_images
  if ! lab_is_built; then
    local work=$CACHE/work start=$SECONDS
    mkdir -p "$work"
    build_environment "$work"
    fetch_source "$work"
    mend_source "$work"
    generate_openapi "$work"
    local c
    for c in "${COMPONENTS[@]}"; do [ -x "$CACHE/bin/$c" ] || build_component "$work" "$c"; done
    [ -n "${KEEP_WORK:-}" ] || { chmod -R u+w "$work"; rm -rf "$work"; }
    say "built in $((SECONDS - start)) s: $CACHE"
  fi
  exec 9>&-
}

# GOPATH mode: with Go 1.16 and later, module mode refuses this tree ("updates to go.mod needed").
build_environment() {
  export GOCACHE=$1/gocache GOPATH=$1/gopath GO111MODULE=off GOPROXY=off GOSUMDB=off GOTOOLCHAIN=local
  export GOFLAGS=-p=${JOBS:-$(nproc)}
}

# Debian's source package, by this machine's own package sources with their source half switched on for this call alone.
fetch_source() {
  local work=$1 apt=$1/apt f
  if [ -z "$(compgen -G "$work/kubernetes-*/cmd")" ]; then
    mkdir -p "$apt"/etc "$apt"/lists/partial "$apt"/cache/archives/partial
    for f in /etc/apt/sources.list.d/*.sources; do
      if [ -e "$f" ] && grep -q '^URIs:.*debian' "$f"; then sed 's/^Types:.*/Types: deb-src/' "$f" > "$apt/etc/$(basename "$f")"; fi
    done
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
      if [ -e "$f" ]; then sed -n 's/^deb \(.*debian.*\)/deb-src \1/p' "$f" > "$apt/etc/$(basename "$f" .list).list"; fi
    done
    cat > "$apt/apt.conf" <<C
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/etc";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
C
    (
      cd "$work"
      export APT_CONFIG=$apt/apt.conf
      apt-get update -q && apt-get source -q --download-only kubernetes && dpkg-source -x kubernetes_*.dsc
    ) < /dev/null >&2 || die "fetching Debian's source package kubernetes failed; see above"
  fi
  KSRC=$(echo "$work"/kubernetes-*/)
  [ -d "$KSRC/cmd/kube-apiserver" ] || die "no Kubernetes source in $work after fetching"
  mkdir -p "$GOPATH/src/k8s.io"
  ln -sfn "${KSRC%/}" "$GOPATH/src/k8s.io/kubernetes"
}

# The vendored reflect2 1.0.1 calls the runtime's mapiterinit without the third argument that it has since Go 1.18: each JSON
# encoding of a map then writes over a random place in memory. Debian packages the release that knows better.
mend_source() {
  local work=$1 into=$KSRC/vendor/github.com/modern-go/reflect2
  [ -e "$into/go_above_118.go" ] && return
  (cd "$work" && apt-get download -q golang-github-modern-go-reflect2-dev && dpkg -x golang-github-modern-go-reflect2-dev_*.deb reflect2) < /dev/null >&2 \
    || die "fetching Debian's package golang-github-modern-go-reflect2-dev failed; see above"
  rm -rf "$into"
  cp -r "$work/reflect2/usr/share/gocode/src/github.com/modern-go/reflect2" "$into"
  [ -e "$into/go_above_118.go" ] || die "Debian's reflect2 is not the release 1.0.2 or later that Go 1.18 needs"
}

# The one generated file that the source package leaves out. Without it there is no OpenAPI and no server-side apply.
generate_openapi() {
  local work=$1 dirs
  cd "$GOPATH/src/k8s.io/kubernetes"
  [ -s pkg/generated/openapi/zz_generated.openapi.go ] && { cd "$OLDPWD"; return; }
  say "generating the OpenAPI definitions"
  CGO_ENABLED=0 nice -n 10 go build -o "$work/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
  dirs=$(grep -rl --include='*.go' '+k8s:openapi-gen=' -- pkg cmd plugin staging/src/k8s.io 2>/dev/null \
    | grep -vE '_test\.go$|/zz_generated|/testdata/|staging/src/k8s.io/(code-generator|sample-[a-z-]*|kube-openapi)/' \
    | xargs -n1 dirname | sort -u | sed 's#^staging/src/#k8s.io/kubernetes/vendor/#; t; s#^#k8s.io/kubernetes/#' | paste -sd,)
  nice -n 10 "$work/openapi-gen" --logtostderr --go-header-file hack/boilerplate/boilerplate.generatego.txt -i "$dirs" \
    -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi --output-base "$GOPATH/src" -r "$work/openapi-violations.txt" \
    || die "generating the OpenAPI definitions failed; see $work/openapi-violations.txt"
  cd "$OLDPWD"
}

# Tags: no cloud providers and no dockershim, which halves time and size, and keeps the kubelet from asking 169.254.169.254.
build_component() {
  local work=$1 name=$2 start=$SECONDS version flags='-s -w' p
  version=$(sed -n '1s/.*(\(.*\)).*/\1/p' "$KSRC/debian/changelog") # such as 1.20.5+really1.20.2-1.1+deb12u1
  version=${version##*really}
  version=v${version%%-*}
  for p in k8s.io/client-go/pkg/version k8s.io/component-base/version; do # GOPATH-mode import paths
    p=k8s.io/kubernetes/vendor/$p
    flags="$flags -X $p.gitMajor=1 -X $p.gitMinor=$(echo "$version" | cut -d. -f2) -X $p.gitVersion=$version -X $p.gitTreeState=archive"
  done
  say "compiling $name $version"
  (cd "$GOPATH/src/k8s.io/kubernetes" && CGO_ENABLED=0 nice -n 10 go build -trimpath -tags providerless,dockerless -ldflags "$flags" \
    -o "$work/$name" "k8s.io/kubernetes/cmd/$name") || die "compiling $name failed; see above"
  mkdir -p "$CACHE/bin"
  mv "$work/$name" "$CACHE/bin/$name"
  say "compiled $name in $((SECONDS - start)) s"
}

# Two tiny images, made by hand: localhost/pause:1 and docker.io/library/busybox:1.35.
build_images() {
  local out=$CACHE/images tmp
  mkdir -p "$out"
  tmp=$(mktemp -d)
  mkdir -p "$tmp"/pause "$tmp"/busybox/{bin,etc,root,tmp,proc,sys,dev,var/run,usr/bin,usr/sbin,sbin,mnt}
  gcc -static -Os -s -o "$tmp/pause/pause" "$here/images/pause.c"
  cp /bin/busybox "$tmp/busybox/bin/busybox"
  local applet
  for applet in $(/bin/busybox --list-full); do
    if [ "$applet" != bin/busybox ] && [ -d "$tmp/busybox/$(dirname "$applet")" ]; then ln -s /bin/busybox "$tmp/busybox/$applet"; fi
  done
  chmod 1777 "$tmp/busybox/tmp"
  echo 'root:x:0:0:root:/root:/bin/sh' > "$tmp/busybox/etc/passwd"
  echo 'root:x:0:' > "$tmp/busybox/etc/group"
  "$here/images/mkimage.py" "$out/pause.tar" localhost/pause:1 "$tmp/pause" /pause
  "$here/images/mkimage.py" "$out/busybox.tar" docker.io/library/busybox:1.35 "$tmp/busybox" sh
  rm -rf "$tmp"
}
