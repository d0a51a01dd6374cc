# Copies the volume at $SRC to the one at $DST and compares both. The result goes to $RESULT as JSON: counts and sums, or
# {"error": ...}. Needs a POSIX sh with GNU tools or busybox. Runs in the copying pod; $WORK is an empty folder of its own.
set -eu
LC_ALL=C
export LC_ALL
SRC=${SRC:-/src} DST=${DST:-/dst} WORK=${WORK:-/work} RESULT=${RESULT:-/dev/termination-log}
# Lies in the target while it is being filled: what is there is half a copy, and may be cleared.
mark=.runbook-migrate
broken=$WORK/broken
doing=starting

refuse() {
  printf '{"error":"%s","need":%s,"free":%s}' "$1" "${2:-0}" "${3:-0}" >"$RESULT"
  exit 3
}
trap 'code=$?; [ $code -eq 0 ] || [ -s "$RESULT" ] || printf "{\"error\":\"%s\"}" "$doing" >"$RESULT"' EXIT

# A copy that nobody waits for any more must not come to its end: then its mark would be gone, and nobody would know whose it is.
trap 'exit 143' TERM INT

say() { doing=$1; echo "$1"; }
top() { find "$1" -mindepth 1 -maxdepth 1 ! -name lost+found ! -name "$mark"; }
# Runs find on all that counts. What fails in a pipe must not look like an empty answer.
all() { { find . -xdev \( -path ./lost+found -o -path "./$mark" \) -prune -o "$@" || : >"$broken"; } }

content() { all -type f -print0 | sort -z | { xargs -0 -r sha256sum || : >"$broken"; }; }
# Types, modes, owners and link targets; sockets are made anew by whoever listens. The top folder's own time is the marker's.
shape() { all ! -type s -print0 | sort -z | { xargs -0 -r stat -c '%f %u %g %t %T %N' || : >"$broken"; }; }
# Times and hard links.
dates() { all -type f -print0 | sort -z | { xargs -0 -r stat -c '%s %Y %h %n' || : >"$broken"; }; }
extra() {
  if command -v getfattr >/dev/null 2>&1; then all -print0 | sort -z | xargs -0 -r getfattr -h -d -m '^(user|security.capability)' 2>/dev/null; fi
  if command -v getfacl >/dev/null 2>&1; then all ! -type l -print0 | sort -z | xargs -0 -r getfacl -n -p 2>/dev/null; fi
  return 0
}
sums() (cd "$1" && { content; shape; dates; extra; } | sha256sum | cut -d' ' -f1)
same() {
  a=$(sums "$SRC")
  b=$(sums "$DST")
  [ ! -e "$broken" ] || exit 4
  [ -n "$a" ] && [ "$a" = "$b" ]
}
# Names, sizes and times alone: what differs is found without reading it.
outline() (cd "$1" && dates | sha256sum)
report() {
  files=$(cd "$SRC" && all -type f -print0 | tr -dc '\0' | wc -c)
  [ ! -e "$broken" ] || exit 4
  printf '{"source":"%s","copy":"%s","files":%d,"kib":%d,"tool":"%s","attributes":%s}' \
    "$a" "$b" "$files" "$need" "$tool" "$([ -n "$keep" ] && echo true || echo false)" >"$RESULT"
  say done
}

say looking
[ -d "$SRC" ] && [ -d "$DST" ] || refuse no-volume
if [ -n "$(top "$DST")" ]; then
  if [ ! -e "$DST/$mark" ] && [ "${AGAIN:-}" != yes ]; then
    # It may be a copy that came to its end when nobody listened any more.
    if [ "$(outline "$SRC")" != "$(outline "$DST")" ] || ! same; then refuse not-empty; fi
    need=$(du -sk "$SRC" | cut -f1) tool=none keep=yes
    report
    exit 0
  fi
  say clearing
  top "$DST" | while IFS= read -r entry; do rm -rf "$entry"; done
  # A name with a line feed in it.
  find "$DST" -mindepth 1 -maxdepth 1 ! -name lost+found ! -name "$mark" -exec rm -rf {} \;
fi
: >"$DST/$mark"

say measuring
need=$(du -sk "$SRC" | cut -f1)
free=$(df -Pk "$DST" | { read -r _; read -r _ _ _ free _; echo "$free"; })
case $need,$free in *[!0-9,]* | ,* | *,) refuse space-unknown ;; esac
[ "$free" -gt $((need + need / 20)) ] || refuse no-space "$need" "$free"

say copying
if tar --version 2>/dev/null | grep -q 'GNU tar'; then
  tool=tar keep='--acls --xattrs'
  # A tar that was built without them says so.
  (cd "$WORK" && : >probe && tar $keep -cf probe.tar probe) 2>/dev/null || keep=
  { tar -C "$SRC" --numeric-owner $keep --sparse --anchored --exclude=./lost+found --exclude="./$mark" -cpf - . ||
    : >"$broken"; } |
    tar -C "$DST" --numeric-owner --same-owner $keep ${keep:+--xattrs-include=* --xattrs-exclude=security.selinux} -xpf -
else
  tool=cp keep=
  cp -a "$SRC/." "$DST/"
fi
[ ! -e "$broken" ] || exit 4

say syncing
sync
say comparing
chown "$(stat -c %u:%g "$SRC")" "$DST"
chmod "$(stat -c %a "$SRC")" "$DST"
if same; then
  rm -f "$DST/$mark"
  touch -r "$SRC" "$DST" || :
fi
report
