# Prints the files of netplan, each line after `|`, each file after `@` and its path. Passwords and keys stay on the machine.
for d in /lib/netplan /etc/netplan /run/netplan; do
  ls "$d" 2>/dev/null | grep '\.yaml$' | while IFS= read -r f; do
    echo "@$d/$f"
    sed -E -e "s/((password|psk|private|shared|secret|key)[\"']?[[:space:]]{0,}:[[:space:]]{0,})[^[:space:]].{0,}/\1\"(hidden)\"/" -e 's/^/|/' "$d/$f"
    echo
  done
done
# cloud-init writes its file back at a boot, unless something tells it not to.
if [ -e /etc/cloud/cloud.cfg ] && ! grep -rqs '^[^#]\{0,\}config:[[:space:]]\{0,\}disabled' /etc/cloud/cloud.cfg /etc/cloud/cloud.cfg.d; then
  echo "@cloud-init"
  f=/etc/cloud/cloud.cfg.d/99-disable-network-config.cfg
  if [ -e "$f" ]; then echo "@$f"; sed 's/^/|/' "$f"; echo; fi
fi
