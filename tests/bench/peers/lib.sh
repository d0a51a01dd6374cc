# What the hand-written peers run on a host, in the shell of POSIX. Each function says "changed" or "ok".
say() {
  echo "$1"
}
dir() { # path mode user group
  if [ "$(stat -c %F:%a:%U:%G "$1" 2>/dev/null)" = "directory:$2:$3:$4" ]; then echo ok; else
    mkdir -p "$1" && chmod "$2" "$1" && chown "$3:$4" "$1" && echo changed; fi
}
put() { # path mode user group < content
  t="$1.new.$$"; cat > "$t"
  if cmp -s "$t" "$1" && [ "$(stat -c %a:%U:%G "$1")" = "$2:$3:$4" ]; then rm -f "$t"; echo ok; else
    chmod "$2" "$t" && chown "$3:$4" "$t" && mv -f "$t" "$1" && echo changed; fi
}
same() { # path mode user group sha256
  if [ "$(sha256sum "$1" 2>/dev/null | cut -d' ' -f1)" = "$5" ] && [ "$(stat -c %a:%U:%G "$1")" = "$2:$3:$4" ]; then echo ok; else echo differs; fi
}
replace() { # path regex line
  if grep -qxF -- "$3" "$1"; then echo ok; else sed -i "s|$2.*|$3|" "$1"; echo changed; fi
}
append() { # path line
  if grep -qxF -- "$2" "$1"; then echo ok; else printf '%s\n' "$2" >> "$1"; echo changed; fi
}
block() { # path name body
  if [ "$(sed -n "/^# BEGIN $2\$/,/^# END $2\$/p" "$1")" = "$(printf '# BEGIN %s\n%s\n# END %s' "$2" "$3" "$2")" ]; then echo ok; else
    sed -i "/^# BEGIN $2\$/,/^# END $2\$/d" "$1"; printf '# BEGIN %s\n%s\n# END %s\n' "$2" "$3" "$2" >> "$1"; echo changed; fi
}
creates() { # path command
  if [ -e "$1" ]; then echo ok; else sh -c "$2"; echo changed; fi
}
link() { # directory
  if [ "$(readlink "$1/current")" = data ]; then echo ok; else cd "$1" && ln -sfn data current; echo changed; fi
}
