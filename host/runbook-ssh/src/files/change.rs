//! Changes of files: each is one round trip, leaves the old state or the new one, and nothing else behind.

use std::sync::Arc;

use runbook_engine::backend::CallContext;
use runbook_model::call::{
    Answer as Reply, Attributes, CallError, Content, Exit, FileKind, FilePrior, FileWant, FilesAct,
};
use runbook_model::call::{Response, Verdict};
use runbook_model::delta::sha256;

use super::{Answer, Path, SHARED, jail};
use crate::command::{Item, Library, inline, materialise, materialise_bytes};
use crate::machine::{Machine, Sources, feed_of};
use crate::quote::nonce;
use crate::shell::Feed;
use crate::shells::Lane;

/// Bytes of a name that go into the name of its temporary neighbour, so that this stays a possible name.
const NAME: usize = 160;

/// What the changes share.
///
/// `begin` goes to the directory that holds the path, and knows whether what was looked at before still lies there. Its
/// arguments, which every change starts with: parent, name, the granted path, what was there (`f`, `d`, `l`, `o`, `-`), its
/// SHA-256 and size or the link's target.
const CHANGES: Library = r#"
RB_ID=$(id)
begin() {
near "$1" || fail failed "no permission to enter $1"
r=$R rest=$REST
[ "$3" = "${1%/}/$2" ] || jailed "${R%/}$REST/$2" "$3" || fail denied "it lies outside of what is granted"
R=$r REST=$rest
n=./$2 was=$4 mark=$5
}
same() {
case $was in
-) ! [ -e "$n" ] && ! [ -L "$n" ] ;;
f) [ -f "$n" ] && ! [ -L "$n" ] && { [ -z "$mark" ] || { sha "${mark#* }" <"$n" && [ "$RB_H" = "${mark% *}" ]; }; } ;;
d) [ -d "$n" ] && ! [ -L "$n" ] ;;
l) [ -L "$n" ] && t_=$(readlink "$n" && echo x) && [ "${t_%?x}" = "$mark" ] ;;
*) [ -e "$n" ] && ! [ -L "$n" ] ;;
esac
}
enter() {
cd -P "$R" 2>/dev/null || fail failed "no permission to enter $R"
[ "$PWD" = "$R" ] || fail conflict "its directory was moved meanwhile"
}
enter_parent() {
[ -z "$REST" ] || fail failed "the directory $R$REST does not exist; make it first"
enter
}
differs() { fail conflict "it is not any more what it was when it was looked at"; }
# Puts $1 in the place of $n.
place() {
e=$(mv -f -T "$1" "$n" 2>&1) && return
# Some tools know no -T, some take a link to a directory for the directory.
case $e in
*nvalid\ option* | *nrecognized\ option* | *is\ a\ directory*)
if [ -d "$n" ]; then [ -L "$n" ] && rm -f "$n" || fail conflict "a directory is there now"; fi
e=$(mv -f "$1" "$n" 2>&1) && return ;;
esac
fail failed "$e"
}
# Whether $2 and $3, which may be empty, are the owner and group of what we make in this directory.
ours() {
if [ -n "$2" ]; then case $RB_ID in "uid=$2("* | uid=*"($2) gid="*) ;; *) return 1 ;; esac; fi
if [ -n "$3" ]; then
case $RB_ID in *" gid=$3("* | *" gid="*"($3) groups="*) ;; *) return 1 ;; esac
! [ -g . ] || return 1
fi
}
# Mode $1, owner $2, group $3 of $4, which is new and ours; empty: as it is.
dress() {
if ! ours "$@"; then e=$(chown "${2:-}${3:+:$3}" "$4" 2>&1) || fail failed "$e"; fi
if [ -n "$1" ]; then e=$(chmod "$1" "$4" 2>&1) || fail failed "$e"; fi
}
# The same for something that may have it already. Gives whether anything was changed.
attributes() {
a=$(stat -c '%u:%g:%a' "$4" 2>&1) || fail failed "$a"
ids=${a%:*}
o=${2:-${ids%:*}}:${3:-${ids#*:}}
if [ "$o" != "$ids" ]; then e=$(chown "$o" "$4" 2>&1) || fail failed "$e"; fi
m=${1:-${a##*:}}
b=$(stat -c '%u:%g:%a' "$4" 2>&1) || fail failed "$b"
if [ "$m" != "${b##*:}" ]; then e=$(chmod "$m" "$4" 2>&1) || fail failed "$e"; fi
[ "$b" != "$a" ] || [ "$m" != "${a##*:}" ]
}
"#;

/// Further arguments: mode, owner, group, name of the temporary file, bytes of the content, `text` or `feed`, the
/// text, and the validator's words.
const WRITE: Library = r#"
# Passes on $1 bytes of standard input, and reads not one more. Where the tool can, in pieces that a pipe holds: less work.
take() {
if [ "$1" -gt 1048576 ] && dd bs=1 count=0 iflag=fullblock,count_bytes status=none </dev/null >/dev/null 2>&1
then dd bs=131072 count="$1" iflag=fullblock,count_bytes status=none
else head -c "$1"; fi
}
write() {
# What comes on the shell's input must be read, or the shell must end: see `Stdin::Part`.
[ "${11}" = text ] || fail() { printf 'X\0%s\0%s\0' "$1" "$2"; exit 3; }
begin "$@"
enter_parent
t=./$9
trap 'rm -f "$t"' EXIT
trap 'exit 1' HUP INT TERM PIPE
mode=$6 owner=$7 group=$8 size=${10} way=${11} text=${12}
shift 12
if [ "$was" = f ] && [ -z "$mode" -o -z "$owner" -o -z "$group" ]; then
k=$(stat -c '%u:%g:%a' "$n" 2>&1) || differs
i=${k%:*}
mode=${mode:-${k##*:}} owner=${owner:-${i%:*}} group=${group:-${i#*:}}
fi
# For us alone until it is dressed.
if [ -z "$mode" ] && ours "" "$owner" "$group"; then umask 022; else umask 077; mode=${mode:-644}; fi
set -C
if [ "$way" = text ]; then
# The shell's own printf does not say why; dd does.
if ! printf '%s' "$text" 2>/dev/null >"$t"; then
set +C
e=$(dd if=/dev/zero of="$t" bs=65536 count=1 2>&1) && e=
fail failed "${e:-it could not be written}"
fi
elif ! e=$(take "$size" 2>&1 >"$t"); then
set +C
# Not every tool says why.
case $e in '' | *I/O\ error*) d=$(dd if=/dev/zero of="$t" bs=65536 count=$((size / 65536 + 1)) 2>&1) || e=$d ;; esac
fail failed "${e:-it could not be written}"
fi
set +C
# A shell that reads characters where there are bytes would count differently.
[ "$way" != text ] || [ ${#text} -eq "$size" ] || fail failed "what arrived is not what was sent: ${#text} bytes of $size"
dress "$mode" "$owner" "$group" "$t"
[ "$was" != f ] || [ ! -e /sys/fs/selinux/enforce ] || chcon --reference="$n" "$t" 2>/dev/null || :
if [ $# -gt 0 ]; then
v=$( "$@" 2>&1 </dev/null ) || fail failed "the new content was refused by $1 (exit code $?), the old one is untouched: $v"
fi
sync "$t" 2>/dev/null || :
same || differs
place "$t"
trap - EXIT
printf 'K\0changed\0'
}
"#;

/// Further arguments: mode, owner, group.
const SET: &str = r#"
begin "$@"
enter_parent
same || differs
if attributes "$6" "$7" "$8" "$n"; then printf 'K\0changed\0'; else printf 'K\0unchanged\0'; fi
"#;

/// Further arguments: mode, owner, group.
const DIRECTORY: Library = r#"
directory() {
begin "$@"
enter
d=.$REST
n=$d/$2
same || differs
if [ "$was" = - ]; then
umask 022
if [ -n "$REST" ]; then e=$(mkdir -p "$d" 2>&1) || fail failed "$e"; fi
mode=$6
if [ -n "$mode" ] || ! ours "" "$7" "$8"; then umask 077; mode=${6:-755}; fi
e=$(mkdir "$n" 2>&1) || fail failed "$e"
dress "$mode" "$7" "$8" "$n"
printf 'K\0changed\0'
elif attributes "$6" "$7" "$8" "$n"; then printf 'K\0changed\0'; else printf 'K\0unchanged\0'; fi
}
"#;

/// Further arguments: where the link points, name of the temporary link.
const LINK: &str = r#"
begin "$@"
enter_parent
t=./$7
trap 'rm -f "$t"' EXIT
trap 'exit 1' HUP INT TERM PIPE
if [ "$was" = l ] && [ "$mark" = "$6" ]; then same || differs; printf 'K\0unchanged\0'; exit; fi
e=$(ln -s -- "$6" "$t" 2>&1) || fail failed "$e"
same || differs
place "$t"
trap - EXIT
printf 'K\0changed\0'
"#;

/// Further argument: `empty` where it is removed only if it is an empty directory.
const ABSENT: &str = r#"
begin "$@"
if [ "$was" = - ]; then
if [ -z "$REST" ]; then enter; same || differs; fi
printf 'K\0unchanged\0'
exit
fi
enter_parent
same || differs
if [ "$was" = d ]; then
p=${R%/}/$2
case $p in
/bin | /boot | /dev | /etc | /home | /lib* | /media | /mnt | /opt | /proc | /root | /run | /sbin | /snap | /srv | /sys | /tmp | /usr | /var | \
/usr/bin | /usr/lib* | /usr/local | /usr/sbin | /usr/share | /var/lib | /var/log | /var/cache | /var/spool | /var/snap | /var/tmp)
fail denied "a directory of the system is never removed" ;;
esac
while read -r a b c d m rest; do
case $m in *\\*) m=$(printf "$(printf '%s' "$m" | sed 's/%/%%/g')x"); m=${m%x} ;; esac
case $m in "$p" | "$p"/*) fail denied "a file system is mounted at $m; unmount it first" ;; esac
done 2>/dev/null </proc/self/mountinfo
if [ "$6" = empty ]; then e=$(rmdir "$n" 2>&1) || case $e in *ot\ empty* | *xists*) fail conflict "it is not empty" ;; esac
else e=$(rm -rf --one-file-system -- "$n" 2>&1) || case $e in
*nvalid\ option* | *nrecognized\ option*) e=$(rm -rf -- "$n" 2>&1) || : ;;
esac
fi
elif [ "$6" = empty ]; then fail conflict "it is no directory"
else
e=$(rm -f -- "$n" 2>&1) || :
fi
if [ -e "$n" ] || [ -L "$n" ]; then fail failed "${e:-it is still there}"; fi
printf 'K\0changed\0'
"#;

/// Further arguments: name of the temporary directory, bytes of the archive, which comes on the shell's input.
const TREE: &str = r#"
# See `write`.
fail() { printf 'X\0%s\0%s\0' "$1" "$2"; exit 3; }
begin "$@"
enter_parent
t=./$6
trap 'rm -rf "$t" "$t.tar"' EXIT
trap 'exit 1' HUP INT TERM PIPE
umask 077
e=$(mkdir "$t" 2>&1) || fail failed "$e"
e=$(take "$7" 2>&1 >"$t.tar") || fail failed "${e:-it could not be written}"
e=$(tar -xpf "$t.tar" -C "$t" 2>&1) || fail failed "$e"
rm -f "$t.tar"
same || differs
place "$t"
trap - EXIT
printf 'K\0changed\0'
"#;

/// Exit code of a script that says why it did not read what was sent.
const UNREAD: i32 = 3;

/// What a shell that changes files knows.
const LIBRARIES: &[Library] = &[SHARED, CHANGES, WRITE, DIRECTORY];

/// Carries a change out.
pub(crate) async fn act(
    machine: &Arc<Machine>,
    act: &FilesAct,
    prior: &FilePrior,
    sources: &dyn Sources,
    ctx: &CallContext,
) -> Response {
    let path = Path::new(&act.path)?;
    if path.name.is_empty() {
        return Err(CallError::Denied(format!("/ of {} is no place for a change", machine.name)));
    }
    let mut script = Script { machine, arguments: head(&path, prior, ctx)?, path, ctx };
    let is_file = prior.stat.as_ref().is_some_and(|stat| stat.kind == FileKind::File);
    match &act.want {
        FileWant::File { content, attributes, validate } => {
            let sha256 = match content {
                Content::CopyOf(source) => source.sha256.clone(),
                other => materialise(other, &ctx.secrets)?.map(|bytes| sha256(&bytes)).unwrap_or_default(),
            };
            if is_file && prior.sha256.as_ref() == Some(&sha256) {
                script.attributes(attributes);
                return script.run(SET, Some("set")).await;
            }
            script.write(content, attributes, validate, sources).await
        }
        FileWant::Directory { attributes } => {
            script.attributes(attributes);
            script.run("directory \"$@\"", Some("directory")).await
        }
        FileWant::Link { target } => {
            if target.is_empty() || target.contains('\0') {
                return Err(CallError::Invalid(format!("{target:?} is nowhere that a link can point to")));
            }
            let temporary = script.path.temporary();
            script.add(target);
            script.add(&temporary);
            script.run(LINK, None).await
        }
        FileWant::Absent => {
            script.add("");
            script.run(ABSENT, None).await
        }
        FileWant::AbsentIfEmpty => {
            script.add("empty");
            script.run(ABSENT, None).await
        }
        FileWant::Tree { .. } if prior.stat.is_some() => Err(CallError::Conflict(format!(
            "{} on {}: something is there, where a directory is to be put back",
            act.path, machine.name
        ))),
        FileWant::Tree { archive } => script.tree(materialise_bytes(&archive.0, &ctx.secrets)).await,
    }
}

/// The arguments that every change starts with.
fn head(path: &Path, prior: &FilePrior, ctx: &CallContext) -> Result<Vec<Vec<u8>>, CallError> {
    let content = prior.stat.as_ref().zip(prior.sha256.as_ref());
    let content = content.map(|(stat, sha256)| format!("{sha256} {}", stat.size)).unwrap_or_default();
    let (kind, mark) = match &prior.stat {
        None => ("-", ""),
        Some(stat) => match stat.kind {
            FileKind::File => ("f", content.as_str()),
            FileKind::Directory => ("d", ""),
            FileKind::Link => ("l", stat.link_target.as_deref().unwrap_or_default()),
            FileKind::Other => ("o", ""),
        },
    };
    let jail = jail(ctx.jail.as_deref())?;
    let arguments = [path.parent.as_str(), &path.name, &jail, kind, mark];
    Ok(arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect())
}

struct Script<'a> {
    machine: &'a Arc<Machine>,
    path: Path,
    arguments: Vec<Vec<u8>>,
    ctx: &'a CallContext,
}

impl Script<'_> {
    fn add(&mut self, argument: &str) {
        self.arguments.push(argument.as_bytes().to_vec());
    }

    fn attributes(&mut self, attributes: &Attributes) {
        self.add(&attributes.mode.map(|mode| format!("{mode:o}")).unwrap_or_default());
        self.add(attributes.owner.as_deref().unwrap_or_default());
        self.add(attributes.group.as_deref().unwrap_or_default());
    }

    async fn run(self, text: &'static str, operation: Option<&'static str>) -> Response {
        let item = || {
            let what = format!("changing {}", self.path.whole);
            let item = Item::script(what, text, self.arguments.clone()).with(LIBRARIES);
            match operation {
                Some(operation) => item.or(operation),
                None => item,
            }
        };
        let answer = self.machine.script(self.machine.privileged(), Lane::Change, item, self.ctx, &[]).await?;
        self.verdict(answer)
    }

    fn verdict(&self, answer: Vec<u8>) -> Response {
        let mut answer = Answer::of(self.machine, &self.path.whole, answer)?;
        let changed = answer.text(self.machine)? == "changed";
        Ok(Reply::Verdict(if changed { Verdict::Changed } else { Verdict::Unchanged }))
    }

    /// Writes a new file beside the old one and puts it in its place.
    async fn write(
        mut self,
        content: &Content,
        attributes: &Attributes,
        validate: &[String],
        sources: &dyn Sources,
    ) -> Response {
        let temporary = self.path.temporary();
        let beside = format!("{}/{temporary}", self.path.parent.trim_end_matches('/'));
        let (text, size, feed): (Vec<u8>, u64, Option<Feed>) = match (content, materialise(content, &self.ctx.secrets)?)
        {
            (Content::CopyOf(source), _) => (Vec::new(), source.size, Some(sources.feed(source, self.ctx).await?)),
            (_, Some(bytes)) if inline(&bytes) => (bytes, 0, None),
            (_, bytes) => {
                let bytes = bytes.unwrap_or_default();
                (Vec::new(), bytes.len() as u64, Some(feed_of(bytes)))
            }
        };
        let size = if feed.is_some() { size } else { text.len() as u64 };
        self.attributes(attributes);
        self.add(&temporary);
        self.add(&size.to_string());
        self.add(if feed.is_some() { "feed" } else { "text" });
        self.arguments.push(text);
        for word in validate {
            if word.contains('\0') {
                return Err(CallError::Invalid("a NUL byte in the validator's argv".to_owned()));
            }
            self.add(&word.replace("{}", &beside));
        }
        let what = format!("writing {}", self.path.whole);
        let leftovers = [beside];
        let item = || Item::script(what.clone(), "write \"$@\"", self.arguments.clone()).with(LIBRARIES).or("write");
        match feed {
            None => {
                let who = self.machine.privileged();
                let answer = self.machine.script(who, Lane::Change, item, self.ctx, &leftovers).await?;
                self.verdict(answer)
            }
            Some(feed) => self.fed(item().fed(size), feed, &leftovers).await,
        }
    }

    /// Unpacks an archive beside the path and puts what was in it there.
    async fn tree(mut self, archive: Vec<u8>) -> Response {
        let temporary = self.path.temporary();
        let beside = format!("{}/{temporary}", self.path.parent.trim_end_matches('/'));
        let size = archive.len() as u64;
        self.add(&temporary);
        self.add(&size.to_string());
        let what = format!("putting {} back", self.path.whole);
        let item = Item::script(what, TREE, self.arguments.clone()).with(LIBRARIES).fed(size);
        let leftovers = [format!("{beside}.tar"), beside];
        self.fed(item, feed_of(archive), &leftovers).await
    }

    /// Runs a script that reads from the shell's input.
    async fn fed(&self, item: Item, feed: Feed, leftovers: &[String]) -> Response {
        let (who, what) = (self.machine.privileged(), item.what.clone());
        let frame = self.machine.run_fed(who, item, feed, self.ctx, leftovers, Lane::Change).await?;
        let output = self.machine.output(&what, frame)?;
        self.verdict(match output.exit {
            Exit::Code(0 | UNREAD) => output.stdout.0,
            Exit::Code(_) | Exit::Signal(_) => self.machine.ended_well(&what, output)?,
        })
    }
}

impl Path {
    /// A name beside it that nobody else uses, and that programs which read a whole directory skip.
    fn temporary(&self) -> String {
        let mut end = self.name.len().min(NAME);
        while !self.name.is_char_boundary(end) {
            end -= 1;
        }
        format!(".{}.runbook-{}", &self.name[..end], &nonce()[..16])
    }
}
