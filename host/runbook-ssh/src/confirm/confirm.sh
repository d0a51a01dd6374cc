# One change that is confirmed over a new connection. Runs on the machine: from a helper shell, and as a program of its own in the
# change's folder, for when nobody is connected. Needs a POSIX sh with GNU tools or busybox.
#
# $1 names the change, $2 says what to do. What was decided is the name of one file, which only one can rename: `token` is armed,
# `confirmed` stays, `reverted` is or was taken back.
LC_ALL=C
export LC_ALL
id=$1 verb=$2
root=/var/lib/runbook/confirm
units=/etc/systemd/system
d=$root/$id
revert=runbook-revert-$id boot=runbook-boot-$id
umask 077

fail() { echo "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
systemd() { [ -d /run/systemd/system ] && has systemd-run; }
uptime() { read -r up_ rest_ </proc/uptime && up_=${up_%%.*}; }
boot_id() { cat /proc/sys/kernel/random/boot_id 2>/dev/null; }
# What must outlive a power cut. All of the machine's disks only where its sync knows no better.
durable() { sync -f "$@" 2>/dev/null || sync; }
put() { printf '%s\n' "$2" >"$d/.$1" && mv -f "$d/.$1" "$d/$1"; }
value() { cat "$d/$1" 2>/dev/null || echo "${2:--}"; }

# Runs "$@" outside of every session, so that no connection's end reaches it.
detached() {
  if systemd; then
    systemd-run --quiet --collect --unit="runbook-$1-$id" /bin/sh "$d/program" "$id" "$1"
  else
    setsid sh "$d/program" "$id" "$1" </dev/null >/dev/null 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
  fi
}

# Whether process $1 is this change's, doing $2: numbers are given anew.
ours() { [ -n "$1" ] && tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF -- "$id $2 "; }

# Ends the session of what does $1.
end() {
  p_=$(value "$1.pid" '')
  ours "$p_" "$1" || return 0
  kill -TERM -- "-$p_" 2>/dev/null
  for n_ in 1 2 3 4 5; do kill -0 -- "-$p_" 2>/dev/null || return 0; sleep 1; done
  kill -KILL -- "-$p_" 2>/dev/null
}

# Runs the commit or the revert. Which PATH the login had is part of what was asked.
run() {
  PATH=$(value path "$PATH")
  sh "$d/$1" <"$d/$1.in" >"$d/$1.out" 2>"$d/$1.err"
}

# Nothing more will happen by itself; what may hold secrets goes, what tells how it ended stays.
tidy() {
  rm -f "$units/multi-user.target.wants/$boot.service" "$units/$boot.service" 2>/dev/null
  if systemd; then
    systemctl stop "$revert.timer" 2>/dev/null
    # Where something made systemd read it meanwhile, as netplan does, it is to be forgotten, too.
    [ "$(systemctl show -p LoadState --value "$boot.service" 2>/dev/null)" != loaded ] || systemctl daemon-reload 2>/dev/null
  fi
  [ "$verb" = watch ] || end watch
  rm -rf "$d/commit" "$d/revert" "$d/commit.in" "$d/revert.in" "$d/commit.d" "$d/revert.d"
}

take_back() {
  if systemd; then systemctl stop "runbook-commit-$id.service" 2>/dev/null; else end commit; fi
  tries=3
  until run revert; do
    status=$?
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || break
    sleep 3
  done
  [ "$tries" -eq 0 ] || status=0
  put revert.exit "$status"
  tidy
  durable "$d"
}

state() {
  if [ -e "$d/confirmed" ]; then is=confirmed
  elif [ -e "$d/reverted" ]; then is=reverted
  elif [ -e "$d/token" ]; then is=armed
  elif [ -e "$d/void" ]; then is=void
  else is=absent; fi
  left=0
  if uptime && [ "$(value boot)" = "$(boot_id)" ]; then left=$(($(value until 0) - up_)); fi
  printf '%s %s %s %s' "$is" "$(value commit.exit)" "$(value revert.exit)" "$left"
  # Only what is not written any more: it has a length.
  said=
  [ ! -e "$d/commit.exit" ] || said="commit.out commit.err"
  [ ! -e "$d/revert.exit" ] || said="$said revert.err"
  for f in commit.out commit.err revert.err; do
    case " $said " in *" $f "*) printf ' %s' "$(($(wc -c <"$d/$f")))" ;; *) printf ' 0' ;; esac
  done
  echo
  for f in $said; do cat "$d/$f"; done
}

case $verb in
arm)
  # session, seconds, then files: names and contents.
  session=$3 seconds=$4
  shift 4
  has setsid || systemd || fail "it has neither systemd nor setsid: nothing could take the change back while nobody is connected"
  mkdir -p "$root" && chmod 700 "$root" || exit 1
  for other in "$root"/*/token; do
    [ ! -e "$other" ] || [ "$other" = "$d/token" ] || fail "another change waits for its confirmation: wait until it was taken" \
      "back, or do that now with \`sh ${other%/token}/program $(basename "${other%/token}") take-back\`"
  done
  # What tells how old ones ended is kept for 90 days.
  find "$root" -mindepth 1 -maxdepth 1 -mtime +90 -exec rm -rf {} + 2>/dev/null
  # One that was never begun, or was taken back, may be made again, by whoever is in charge now.
  if { [ -e "$d/void" ] && [ "$(value void 0)" -le "$session" ]; } || [ -e "$d/revert.exit" ]; then
    mv "$d" "$root/.$id.$$" && rm -rf "$root/.$id.$$"
  fi
  mkdir "$d" 2>/dev/null || fail "$d is there: this change was begun before"
  mkdir "$d/commit.d" "$d/revert.d" || exit 1
  while [ $# -gt 1 ]; do
    printf '%s' "$2" >"$d/$1" || exit 1
    shift 2
  done
  put path "$PATH"
  put boot "$(boot_id)"
  uptime && put until "$((up_ + seconds))"
  put seconds "$seconds"
  if systemd; then
    # Timers that were made on the fly are gone after a reboot; then this takes the change back.
    printf '%s\n' '[Unit]' "Description=Takes back a change that nobody confirmed before the reboot" 'After=network.target dbus.service' \
      '[Service]' Type=oneshot "ExecStart=/bin/sh $d/program $id boot" '[Install]' WantedBy=multi-user.target >"$units/$boot.service" &&
      chmod 644 "$units/$boot.service" && mkdir -p "$units/multi-user.target.wants" &&
      ln -sf "$units/$boot.service" "$units/multi-user.target.wants/$boot.service" || fail "no unit can be made in $units"
    durable "$units/$boot.service"
  fi
  durable "$d"
  put token ''
  armed=
  if systemd; then
    systemctl reset-failed "$revert.service" "$revert.timer" 2>/dev/null
    systemd-run --quiet --collect --unit="$revert" --on-active="$seconds" --timer-property=AccuracySec=1s \
      /bin/sh "$d/program" "$id" revert && systemctl is-active --quiet "$revert.timer" && armed=1
  else
    detached watch
    for n_ in 1 2 3 4 5 6 7 8 9 10; do
      [ ! -e "$d/watch.pid" ] || { armed=1; break; }
      sleep 1
    done
  fi
  if [ -z "$armed" ]; then
    mv "$d/token" "$d/void" && put void 0 && tidy
    fail "what takes the change back could not be started"
  fi
  durable "$d"
  detached commit || fail "the change itself could not be started"
  state
  ;;
commit)
  put commit.pid $$
  # The answer that it was begun is to arrive before the connection may go.
  sleep 1
  [ -e "$d/token" ] || exit 0
  run commit
  put commit.exit $?
  ;;
watch)
  put watch.pid $$
  sleep "$(value seconds 0)"
  mv "$d/token" "$d/reverted" 2>/dev/null && take_back
  ;;
revert)
  mv "$d/token" "$d/reverted" 2>/dev/null && take_back
  ;;
boot)
  # Also one that a power cut interrupted.
  mv "$d/token" "$d/reverted" 2>/dev/null
  if [ -e "$d/reverted" ] && [ ! -e "$d/revert.exit" ]; then take_back; else tidy; fi
  ;;
take-back)
  # Detached: the connection may go with it. Where it was begun and is not at work any more, it is begun again.
  if [ -e "$d/token" ]; then detached revert; sleep 1; fi
  state
  ;;
confirm)
  if mv "$d/token" "$d/confirmed" 2>/dev/null; then durable "$d"; fi
  [ ! -e "$d/confirmed" ] || tidy
  state
  ;;
void)
  # Whoever has not begun it yet, does not begin it any more.
  if [ ! -e "$d/token" ] && [ ! -e "$d/confirmed" ] && [ ! -e "$d/reverted" ] && [ ! -e "$d/void" ]; then
    mkdir -p "$root" && chmod 700 "$root" || exit 1
    [ ! -e "$d" ] || { mv "$d" "$root/.$id.$$" && rm -rf "$root/.$id.$$"; }
    rm -f "$units/multi-user.target.wants/$boot.service" "$units/$boot.service" 2>/dev/null
    mkdir "$d" && put void "$3" || exit 1
  fi
  state
  ;;
state) state ;;
esac
