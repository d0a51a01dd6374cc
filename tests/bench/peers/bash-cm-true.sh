#!/bin/bash
# bash-cm-true.sh SET N: one ssh master, and N times ssh through it with `true`. $SOCKETS is the folder of the master's socket.
set -eu
mkdir -p "$SOCKETS"
via=(-F "$1/ssh_config" -o "ControlPath=$SOCKETS/bash-true")
ssh "${via[@]}" -o ControlMaster=yes -Nf h1 2>/dev/null < /dev/null
for ((i = 0; i < $2; i++)); do ssh "${via[@]}" h1 true < /dev/null; done
ssh "${via[@]}" -O exit h1 2>/dev/null
