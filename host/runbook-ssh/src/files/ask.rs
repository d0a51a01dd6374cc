//! Questions about files: those that are asked at the same time travel together, and cost as many processes as one.

use runbook_model::call::CallError;

use super::{Answer, Path, SHARED, garbled};
use crate::command::{Item, Library};
use crate::frame::Frame;
use crate::machine::Machine;

/// What lies at some paths. Arguments, for each: what is asked (`stat`; `sha256` follows a link and wants a file; `prior`; `tree`, which
/// archives a directory, too), path, its parent, its name, the granted path, the SHA-256 that is wanted (`-`: none is needed), most bytes
/// of content to give where it is another one, wanted owner, wanted group.
///
/// Answers, for each: `K`, stat, target of the link, SHA-256, number of the wanted owner, of the wanted group, how many directories
/// above it are missing, bytes of content, and the content.
const ASK: Library = r#"
# For path number i: what it is (stat), or that nothing is there (empty).
lies() {
w=$1 x= p= m=
near "$3" || { x=failed y="no permission to enter $3"; return; }
r=${R%/} rest=$REST sure=$SURE
if [ -z "$4" ]; then p=/; else p=$r$rest/$4; fi
if [ "$w" = sha256 ] && [ -L "$p" ]; then
t=$(readlink -f "$p" && echo x) || t=
if [ -z "$t" ]; then
if [ -z "$5" ]; then x=notfound y="the link leads nowhere"; else x=denied y="it lies outside of what is granted"; fi
return
fi
p=${t%?x}
jailed "$p" "$5" || { x=denied y="it lies outside of what is granted"; return; }
# What is granted for this very path needs no further look.
elif [ "$2" != "$5" ]; then
jailed "$p" "$5" || { x=denied y="it lies outside of what is granted"; return; }
fi
if [ -n "$sure" ]; then
[ -z "$rest" ] || { m=$rest; absent; return; }
[ -e "$p" ] || [ -L "$p" ] || { absent; return; }
fi
stats="$stats \"\$p$i\""
eval "l$i=1"
}
absent() { if [ "$w" = sha256 ]; then x=notfound y="nothing is there"; fi; }
# One stat that failed tells for which path only in words.
alone() {
if s=$(st "$p"); then return; fi
case $s in
*"No such file or directory" | *"Not a directory") absent ;;
*) x=failed y=$s ;;
esac
s=
}
# An archive of the directory $1. Its size is a multiple of 512, unless it is not whole.
archive() { tar -C "$1" -cf - . 2>/dev/null || printf x; }
number() {
N=
case $2 in '' | "$3" | "$4") return ;; *[!0-9]*) ;; *) N=$2; return ;; esac
while IFS=: read -r a b c d; do
if [ "$a" = "$2" ]; then N=$c; return; fi
done 2>/dev/null <"/etc/$1"
N=$(getent "$1" "$2" 2>/dev/null) || N=
N=${N#*:}; N=${N#*:}; N=${N%%:*}
}
ask() {
i=0 stats= hashes= big=
while [ $# -gt 0 ]; do
i=$((i+1))
eval "l$i= k$i="
lies "$1" "$2" "$3" "$4" "$5"
eval "w$i=\$w x$i=\$x y$i=\$y p$i=\$p m$i=\$m s$i= h$i= f$i=\$6 c$i=\$7 u$i=\$8 g$i=\$9"
shift 9
done
n=$i
set -f
if [ -n "$stats" ]; then
if s=$(eval "exec stat -c \$RB_STAT$stats" 2>/dev/null); then one=; IFS=$RB_NL; set -- $s; unset IFS; else one=1; fi
i=0
while [ $i -lt $n ]; do
i=$((i+1))
eval "l=\$l$i w=\$w$i x=\$x$i y=\$y$i p=\$p$i f=\$f$i"
[ -n "$l" ] || continue
if [ -n "$one" ]; then alone; else s=$1; shift; fi
case $s in
8*) if [ -z "$x" ] && [ "$f" != - ]; then
b=${s#*/}; b=${b%%/*}
if ! [ -r "$p" ]; then x=failed y="Permission denied"
elif vast "$b"; then big=1; eval "k$i=\$b"
else hashes="$hashes \"\$p$i\""; eval "k$i=1"; fi
fi ;;
?*) [ "$w" != sha256 ] || x=invalid y="it is not a regular file" ;;
esac
eval "s$i=\$s x$i=\$x y$i=\$y"
done
fi
if [ -n "$hashes$big" ]; then
one=1
if [ -n "$hashes" ] && h=$(eval "exec sha256sum$hashes" 2>/dev/null); then one=; IFS=$RB_NL; set -- $h; unset IFS; fi
i=0
while [ $i -lt $n ]; do
i=$((i+1))
eval "k=\$k$i p=\$p$i"
[ -n "$k" ] || continue
if [ -z "$one" ] && [ "$k" = 1 ]; then RB_H=${1#\\}; RB_H=${RB_H%% *}; shift
else sha "$k" 2>/dev/null <"$p" || eval "x$i=failed y$i='it cannot be read, or no tool there makes a SHA-256'"; fi
eval "h$i=\$RB_H"
done
fi
i=0
while [ $i -lt $n ]; do
i=$((i+1))
eval "w=\$w$i x=\$x$i y=\$y$i p=\$p$i m=\$m$i s=\$s$i h=\$h$i f=\$f$i c=\$c$i u=\$u$i g=\$g$i"
t= o= q= k= M=0
while [ -n "$m" ]; do m=${m%/*} M=$((M+1)); done
if [ -z "$x" ]; then
case $s in
a*) t=$(readlink "$p" && echo x) || x=failed y="the link cannot be read"; t=${t%?x} ;;
8*) case $w in prior | tree) if [ "$f" != - ] && [ "$h" != "$f" ]; then
k=${s#*/}; k=${k%%/*}
[ "$k" -le "$c" ] || k=
fi ;; esac ;;
4*) if [ "$w" = tree ]; then
k=$(archive "$p" | head -c $((c+1)) | wc -c)
[ $((k%512)) -eq 0 ] && [ $((k)) -gt 0 ] && k=$((k)) || k=
fi ;;
esac
fi
if [ -n "$x" ]; then printf 'X\0%s\0%s\0' "$x" "$y"; continue; fi
if [ -n "$s" ] && [ -n "$u$g" ]; then
z=${s#*/*/}
a=${z%%/*}; z=${z#*/}; b=${z%%/*}; z=${z#*/}
number passwd "$u" "${z%%/*}" "$a"; o=$N
number group "$g" "${z##*/}" "$b"; q=$N
fi
printf 'K\0%s\0%s\0%s\0%s\0%s\0%s\0%s\0' "$s" "$t" "$h" "$o" "$q" "$M" "$k"
if [ -n "$k" ]; then
case $s in 4*) archive "$p" | head -c "$k" ;; *) head -c "$k" <"$p" ;; esac
printf '\0'
fi
done
}
"#;

/// One question.
pub(crate) struct Asked {
    /// `stat`, `sha256`, `prior` or `tree`.
    pub(super) what: &'static str,
    pub(super) path: Path,
    /// The granted path.
    pub(super) jail: String,
    /// The SHA-256 that is wanted; `-`: none is needed.
    pub(super) wanted: String,
    /// Most bytes of content to give where it is another one.
    pub(super) keep: u64,
    pub(super) owner: String,
    pub(super) group: String,
    /// Its answer could not be told from others.
    pub(crate) alone: bool,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        &self.path.whole
    }
}

/// What lies at a path.
pub(crate) struct Found {
    /// As the tool `stat` says it; empty: nothing is there.
    pub(super) stat: String,
    pub(super) link_target: String,
    pub(super) sha256: String,
    /// Number of the wanted owner; empty where the owner is the wanted one already.
    pub(super) owner: String,
    /// The same for the group.
    pub(super) group: String,
    /// Directories above it that are missing, where nothing is there.
    pub(super) missing_parents: u32,
    pub(super) content: Option<Vec<u8>>,
}

/// Questions as one thing that a helper shell runs.
pub(crate) fn item<'a>(asked: impl Iterator<Item = &'a Asked>) -> Item {
    let arguments = asked.flat_map(arguments).collect();
    Item::script("looking at files", "ask \"$@\"", arguments).with(&[SHARED, ASK]).or("ask")
}

/// The answers to such an item.
pub(crate) struct Answers(Answer);

impl Answers {
    pub(crate) fn of(machine: &Machine, frame: Frame) -> Result<Self, CallError> {
        machine.script_output("looking at files", frame).map(Self::from_bytes)
    }

    pub(crate) fn from_bytes(output: Vec<u8>) -> Self {
        Self(Answer { rest: output, at: 0 })
    }

    /// The next answer. The outer error: it cannot be read, nor can those after it.
    pub(crate) fn next(&mut self, machine: &Machine, asked: &Asked) -> Result<Result<Found, CallError>, CallError> {
        let answer = &mut self.0;
        if let Err(error) = answer.kind(machine, &asked.path.whole)? {
            return Ok(Err(error));
        }
        let mut next = || answer.text(machine);
        let (stat, link_target, sha256) = (next()?, next()?, next()?);
        let (owner, group, missing, size) = (next()?, next()?, next()?, next()?);
        let missing_parents = missing.parse().map_err(|_| garbled(machine))?;
        let content = match size.as_str() {
            "" => None,
            size => {
                let size = size.parse().map_err(|_| garbled(machine))?;
                let changing = |_| {
                    let (path, name) = (&asked.path.whole, &machine.name);
                    CallError::Conflict(format!("{path} on {name} keeps changing while it is looked at"))
                };
                Some(answer.bytes(machine, size).map_err(changing)?)
            }
        };
        Ok(Ok(Found { stat, link_target, sha256, owner, group, missing_parents, content }))
    }
}

fn arguments(asked: &Asked) -> [Vec<u8>; 9] {
    let Path { whole, parent, name } = &asked.path;
    let keep = asked.keep.to_string();
    [asked.what, whole, parent, name, &asked.jail, &asked.wanted, &keep, &asked.owner, &asked.group]
        .map(|argument| argument.as_bytes().to_vec())
}
