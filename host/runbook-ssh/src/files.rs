//! Files of a machine, by what every POSIX machine has: `sh`, and the tools of coreutils or busybox.
//!
//! Every operation is one round trip, and looks that are asked for at the same time share one. Links on the way to a path are resolved there, in the same text that then acts, and an
//! operation works from within the resolved directory, so that nothing can be swapped between check and act.

pub(crate) mod ask;
mod change;
pub(crate) mod here;
mod look;
mod prior;
mod settle;

use runbook_model::call::{CallError, FileKind, Stat, Target};

use crate::command::Library;
use crate::machine::{Machine, Who};

pub(crate) use change::act;
pub(crate) use look::look;
pub(crate) use prior::prior;
pub(crate) use settle::settle;

/// A path of the target, checked: absolute, without `..`, normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) whole: String,
    /// The directory that it lies in.
    pub(crate) parent: String,
    /// Its last component; empty for the root.
    pub(crate) name: String,
}

impl Path {
    pub(crate) fn new(path: &str) -> Result<Self, CallError> {
        if path.contains('\0') {
            return Err(CallError::Invalid(format!("a NUL byte in the path {path:?}")));
        }
        if !path.starts_with('/') {
            return Err(CallError::Invalid(format!("the path {path:?} is not absolute")));
        }
        let components: Vec<&str> = path.split('/').filter(|c| !c.is_empty() && *c != ".").collect();
        if components.contains(&"..") {
            return Err(CallError::Denied(format!("`..` in the path {path:?}")));
        }
        let (name, parents) = components.split_last().unwrap_or((&"", &[]));
        let parent = format!("/{}", parents.join("/"));
        Ok(Self { whole: format!("/{}", components.join("/")), parent, name: (*name).to_owned() })
    }
}

/// The granted path as a plain path: what comes below it is left off.
fn jail(jail: Option<&str>) -> Result<String, CallError> {
    let Some(jail) = jail else { return Ok(String::new()) };
    let plain = jail.strip_suffix("/**").or_else(|| jail.strip_suffix("/*")).unwrap_or(jail);
    let plain = if plain.is_empty() { "/" } else { plain };
    Path::new(plain).map(|path| path.whole)
}

/// What the scripts of this module share.
///
/// They answer with fields that end in NUL: `K` and what was asked, or `X`, a kind of error, and words. They fork as little as
/// they can: what a shell knows by itself (`cd`, `[`, `read`) is not asked of a program.
const SHARED: Library = r#"
RB_NL='
'
fail() { printf 'X\0%s\0%s\0' "$1" "$2"; exit 0; }
# Whether so many bytes are worth a start of openssl, which uses what the processor has for it: five times as fast.
vast() { [ "$1" -gt 8388608 ] && command -v openssl >/dev/null 2>&1; }
# RB_H: SHA-256 of standard input, of about $1 bytes.
sha() {
if vast "$1"; then RB_H=$(openssl dgst -sha256 -r)
elif command -v sha256sum >/dev/null 2>&1; then RB_H=$(sha256sum)
elif command -v shasum >/dev/null 2>&1; then RB_H=$(shasum -a 256)
else RB_H=$(openssl dgst -sha256 -r); fi
RB_H=${RB_H%% *}
[ ${#RB_H} -eq 64 ]
}
RB_STAT=%f/%s/%u/%g/%U/%G
st() { stat -c $RB_STAT "$1" 2>&1; }
# Goes to the directory $1 as far as it is there. R: where it really is; REST: what of it does not exist yet; SURE: we are in R,
# so that what is not found below R is not there.
near() {
RB_N=$1 REST= SURE=1
until cd -P "$RB_N" 2>/dev/null; do
if [ -e "$RB_N" ] || [ -L "$RB_N" ]; then
SURE=
R=$(readlink -f "$RB_N" && echo x) || return 1
R=${R%?x}
[ -n "$R" ]; return
fi
REST="/${RB_N##*/}$REST"; RB_N=${RB_N%/*}; [ -n "$RB_N" ] || RB_N=/
done
R=$PWD
case $R in /*) return 0 ;; esac
return 1
}
# $1, resolved, lies at or below the granted path $2.
jailed() {
[ -n "$2" ] || return 0
RB_P=${2%/*}; [ -n "$RB_P" ] || RB_P=/
near "$RB_P" || return 1
[ "$1" != "${R%/}$REST/${2##*/}" ] || return 0
near "$2" || return 1
[ "$R$REST" != / ] || return 0
RB_J=${R%/}$REST
case $1 in "$RB_J" | "$RB_J"/*) return 0 ;; esac
return 1
}
"#;

/// The fields of an answer.
struct Answer {
    rest: Vec<u8>,
    at: usize,
}

impl Answer {
    /// Reads the kind of the answer; an error becomes one.
    fn of(machine: &Machine, path: &str, bytes: Vec<u8>) -> Result<Self, CallError> {
        let mut answer = Self { rest: bytes, at: 0 };
        answer.kind(machine, path)??;
        Ok(answer)
    }

    /// The kind of an answer: well, or an error of the target's. The outer error is an answer that cannot be read.
    fn kind(&mut self, machine: &Machine, path: &str) -> Result<Result<(), CallError>, CallError> {
        match self.text(machine)?.as_str() {
            "K" => Ok(Ok(())),
            "X" => {
                let (kind, words) = (self.text(machine)?, self.text(machine)?);
                let text = format!("{path} on {}: {}", machine.name, explain(machine, &words));
                Ok(Err(match kind.as_str() {
                    "denied" => CallError::Denied(text),
                    "notfound" => CallError::NotFound(text),
                    "conflict" => CallError::Conflict(text),
                    "invalid" => CallError::Invalid(text),
                    _ => CallError::Failed(text),
                }))
            }
            _ => Err(garbled(machine)),
        }
    }

    fn field(&mut self, machine: &Machine) -> Result<&[u8], CallError> {
        let rest = &self.rest[self.at..];
        let end = memchr::memchr(0, rest).ok_or_else(|| garbled(machine))?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn text(&mut self, machine: &Machine) -> Result<String, CallError> {
        self.field(machine).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// So many bytes, which a NUL follows.
    fn bytes(&mut self, machine: &Machine, count: usize) -> Result<Vec<u8>, CallError> {
        let rest = &self.rest[self.at..];
        let bytes = rest.get(..count).filter(|_| rest.get(count) == Some(&0)).ok_or_else(|| garbled(machine))?;
        self.at += count + 1;
        Ok(bytes.to_vec())
    }

    /// All that follows.
    fn rest(mut self) -> Vec<u8> {
        self.rest.split_off(self.at)
    }
}

/// What is made of such bytes as an answer to questions, to a listing, and to a change; for fuzzers. The names of the listing, and how much
/// content there was.
pub(crate) fn read_anything(machine: &Machine, bytes: &[u8]) -> (Vec<String>, usize) {
    let path = Path { whole: "/etc/x".to_owned(), parent: "/etc".to_owned(), name: "x".to_owned() };
    let text = String::new;
    let asked = ask::Asked {
        what: "prior",
        path: path.clone(),
        jail: text(),
        wanted: text(),
        keep: 0,
        owner: text(),
        group: text(),
        alone: false,
    };
    let (mut answers, mut content) = (ask::Answers::from_bytes(bytes.to_vec()), 0);
    while let Ok(answer) = answers.next(machine, &asked) {
        let Ok(found) = answer else { continue };
        content += found.content.as_ref().map_or(0, Vec::len);
        let _ = stat(machine, &found.stat, Some(found.link_target));
    }
    let _ = Answer::of(machine, &path.whole, bytes.to_vec()).and_then(|mut answer| answer.text(machine));
    let listed = Answer::of(machine, &path.whole, bytes.to_vec()).and_then(|answer| look::entries(machine, answer));
    let names = listed.ok().flatten().unwrap_or_default().into_iter().map(|entry| entry.name).collect();
    (names, content)
}

fn garbled(machine: &Machine) -> CallError {
    CallError::Unreachable(format!("{} gave a garbled answer to a file operation", machine.name))
}

/// What a tool said, with what it means in front where that is known.
fn explain(machine: &Machine, words: &str) -> String {
    let words = words.trim();
    let meanings = [
        ("No space left on device", "the disk is full"),
        ("Disk quota exceeded", "the disk quota is used up"),
        ("Read-only file system", "the file system is read-only"),
        ("Permission denied", "no permission"),
        ("Operation not permitted", "no permission"),
    ];
    let Some((_, meaning)) = meanings.iter().find(|(said, _)| words.contains(said)) else {
        return words.to_owned();
    };
    let hint = match (&machine.target, machine.privileged()) {
        (Target::Machine(name), Who::Login) if *meaning == "no permission" => {
            format!("; if root has it, set hosts.{name}.become = \"sudo\"")
        }
        _ => String::new(),
    };
    format!("{meaning} ({words}){hint}")
}

/// A stat of the script `st`, with the numbers of owner and group.
fn stat(machine: &Machine, line: &str, link_target: Option<String>) -> Result<(Stat, String, String), CallError> {
    let fields: Vec<&str> = line.trim_end_matches('\n').splitn(6, '/').collect();
    let [mode, size, uid, gid, owner, group] = fields[..] else { return Err(garbled(machine)) };
    let mode = u32::from_str_radix(mode, 16).map_err(|_| garbled(machine))?;
    let kind = match mode & 0o170_000 {
        0o100_000 => FileKind::File,
        0o040_000 => FileKind::Directory,
        0o120_000 => FileKind::Link,
        _ => FileKind::Other,
    };
    let size = size.parse().map_err(|_| garbled(machine))?;
    let named = |name: &str, number: &str| {
        if name.is_empty() || name == "UNKNOWN" { number.to_owned() } else { name.to_owned() }
    };
    let stat = Stat {
        kind,
        size: if kind == FileKind::File { size } else { 0 },
        mode: mode & 0o7777,
        owner: named(owner, uid),
        group: named(group, gid),
        link_target: link_target.filter(|_| kind == FileKind::Link),
    };
    Ok((stat, uid.to_owned(), gid.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_do_not_climb() {
        let path = Path::new("//etc/./ssh//sshd_config/").expect("absolute");
        assert_eq!(
            (path.whole.as_str(), path.parent.as_str(), path.name.as_str()),
            ("/etc/ssh/sshd_config", "/etc/ssh", "sshd_config")
        );
        let root = Path::new("/").expect("absolute");
        assert_eq!((root.whole.as_str(), root.parent.as_str(), root.name.as_str()), ("/", "/", ""));
        assert!(matches!(Path::new("/etc/../x"), Err(CallError::Denied(_))));
        assert!(matches!(Path::new("etc"), Err(CallError::Invalid(_))));
        assert!(matches!(Path::new("/a\0b"), Err(CallError::Invalid(_))));
        assert!(Path::new("/etc/..x").is_ok());
    }

    #[test]
    fn jails_lose_their_pattern() {
        assert_eq!(jail(Some("/srv/**")).expect("plain"), "/srv");
        assert_eq!(jail(Some("/**")).expect("plain"), "/");
        assert_eq!(jail(None).expect("plain"), "");
    }
}
