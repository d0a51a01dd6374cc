//! Marks: what a command leaves at a machine of its start and its end, so that its fate can be found out when the answer was lost.
//!
//! In the run's folder there, the lines of `marks` tell of all changes: `RECORD.SESSION start BOOT-ID NONCE GROUP` of a start, with the nonce
//! of the frame; `RECORD.SESSION group GROUP` of the process groups of a pipeline; and how it ended, `refused`, or `part PLACE STATUS` for
//! each command of a pipeline, and `end STATUS`. A line ends with ` .`, and begins on a line of its own whatever is wrong with the one before it.
//! The shell itself writes them: no process more, and one file for a run, since a disk that is synced by others takes long to make one.
//! `RECORD.SESSION.out` and `.err` hold the streams as the shell wrote them, frames and all, where they are kept.

use std::sync::Arc;

use runbook_engine::backend::{CallContext, Mark};
use runbook_model::call::{CallError, Output};

use crate::command::{Item, Library, OUTPUT_LIMIT};
use crate::frame::{FrameSpec, Frames};
use crate::lease::Held;
use crate::machine::{Machine, Who};
use crate::shells::Lane;

/// The shell's streams to where output is kept.
pub(crate) const KEPT: [u8; 2] = [7, 9];
/// Stands in a mark where a machine has no boot id, since a shell does not count empty words.
const NO_BOOT_ID: &str = "-";
/// Most process groups of one change that are read.
const MOST_GROUPS: usize = 64;

/// What a shell that marks commands knows. `RB_M` is the run's folder and `RECORD.SESSION`.
///
/// `rb_start` notes a start, and then looks whether its session still is in charge: so a text that comes late is either seen by
/// the next session, or refuses itself. Where it fails, `RB_F` says why.
///
/// `rb_keep` opens 7 and 9 for what is kept of standard output and standard error, by a `tee` for each that ends when the last
/// writer has closed its stream. Nobody waits for them: what the shell says through them at the end comes after all output, and
/// something that the command left behind may hold them open for ever. They outlive the connection, which a command would not
/// that writes to it.
const MARKS: Library = r#"
rb_note() { { printf '\n%s %s .\n' "${RB_M##*/}" "$*" >>"${RB_M%/*}/marks"; } 2>/dev/null; }
rb_start() {
RB_F=marks
rb_note start "$1" "$2" "$3" || return
RB_F=session RB_X=
{ read -r RB_X RB_Y <"${RB_M%/*}/session"; } 2>/dev/null
[ "$RB_X" != "$4" ] || return 0
rb_note refused
return 1
}
rb_keep() {
command -v tee >/dev/null 2>&1 && mkfifo "$RB_M.1" "$RB_M.2" 2>/dev/null || return
exec 5<>"$RB_M.1" 6<"$RB_M.1" 7>"$RB_M.1" 5>&-
exec 5<>"$RB_M.2" 8<"$RB_M.2" 9>"$RB_M.2" 5>&-
( trap '' HUP INT PIPE; exec tee "$RB_M.out" <&6 2>/dev/null 6<&- 7>&- 8<&- 9>&- ) &
( trap '' HUP INT PIPE; exec tee "$RB_M.err" <&8 >&2 2>/dev/null 6<&- 7>&- 8<&- 9>&- ) &
exec 6<&- 8<&-
}
"#;

pub(crate) const LIBRARIES: &[Library] = &[MARKS];

/// Reads the marks of a change. Arguments: the run's folder, record, the newest session that may have made it. Whether something of
/// it is alive is looked at before its end is read: else it could end in between.
const LOOK: &str = r#"
slurp() {
V=
while read -r L || [ -n "$L" ]; do V="$V$L$N"; done 2>/dev/null <"$1"
}
# Whether a process is left that is, or whose process group or session is, one of these.
alive() {
if [ ! -r /proc/self/stat ]; then
for p do if kill -0 "-$p" || kill -0 "$p"; then return; fi; done 2>/dev/null
return 1
fi
o=" $* "
for f in /proc/[0-9]*/stat; do
slurp "$f"
[ -n "$V" ] || continue
p=${f#/proc/} p=${p%/stat}
set -- ${V##*) }
case $1 in Z | X) continue ;; esac
case $o in *" $p "* | *" $3 "* | *" $4 "*) return ;; esac
done
return 1
}
N='
' F=$1 R=$2 S=$3
# What a later session notes of this record takes the place of all before it.
tell() {
n=0 b= g= e=
while read -r k w r; do
s=${k#"$R".}
case $s in "$k" | '' | *[!0-9]*) continue ;; esac
case $r in . | *' .') r=${r%.} r=${r% } ;; *) continue ;; esac
if [ "$w" = start ] && [ "$s" -le "$S" ] && [ "$s" -ge "$n" ]; then
n=$s e= b=${r%% *}$N r=${r#* }
b=$b${r%% *}$N g=
case $r in *' '*) g=${r#* } ;; esac
elif [ "$s" -eq "$n" ]; then
case $w in
group) g="$g $r" ;;
refused) e="${e}refused$N" ;;
part | end) e="$e$w $r$N" ;;
esac
fi
done 2>/dev/null <"$F/marks"
}
tell
set --
for L in $g; do case $L in *[!0-9]* | 0 | 1) ;; *) set -- "$@" "$L" ;; esac; done
a=
if [ $# -gt 0 ] && alive "$@"; then a=alive; fi
tell
for L in $g; do b="$b$L$N"; done
printf '%s\0' "$n" "$b" "$a" "$e" "$F/$R.$n"
"#;

/// Gives what was kept of both streams. Arguments: path of the marks.
const OUTPUT: &str = r#"
[ -f "$1.out" ] && [ -f "$1.err" ] || exit 1
cat "$1.out" && cat "$1.err" >&2
"#;

/// What a command leaves at a machine.
#[derive(Debug, Clone)]
pub(crate) struct Marked {
    /// Of the run, on the machine.
    pub(crate) folder: String,
    pub(crate) session: u32,
    pub(crate) record: u64,
    /// Of the machine now.
    pub(crate) boot_id: String,
    /// Its output, too: where its exit code alone could not stand for its answer.
    pub(crate) keep: bool,
}

impl Marked {
    pub(crate) fn new(held: Held, mark: &Mark, keep: bool) -> Self {
        Self { folder: held.folder, session: mark.session, record: mark.record, boot_id: held.boot_id, keep }
    }

    /// Of the marks, without what tells them apart.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}.{}", self.folder, self.record, self.session)
    }

    /// As a mark has it.
    pub(crate) fn boot_id(&self) -> &str {
        if self.boot_id.is_empty() { NO_BOOT_ID } else { &self.boot_id }
    }
}

/// The marks of one change, as they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// None: there is no mark of a start.
    pub(crate) start: Option<Start>,
    /// Whether something of it is at work.
    pub(crate) alive: bool,
    pub(crate) exit: Option<Ended>,
    /// Where they are.
    pub(crate) path: String,
}

/// A mark of a start. Where power was lost, it may be there without a word in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) boot_id: String,
    pub(crate) nonce: String,
    /// Without the number where the shell could not tell.
    pub(crate) groups: Vec<u32>,
}

/// A mark of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It saw a newer session in charge, and did nothing.
    Refused,
    /// With this status, as a shell's `$?`.
    Status(i32),
}

impl Marks {
    /// Reads the fields of [`LOOK`]: session, start, whether alive, exit, path.
    pub(crate) fn read(answer: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(answer);
        let mut fields = text.split('\0');
        let mut next = || fields.next();
        let (session, start, alive, exit, path) = (next()?, next()?, next()?, next()?, next()?);
        let found = session.parse::<i64>().ok()? > 0;
        Some(Self {
            start: found.then(|| start_of(start)),
            alive: alive == "alive",
            exit: found.then(|| ended(exit)).flatten(),
            path: path.to_owned(),
        })
    }
}

fn start_of(text: &str) -> Start {
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default().to_owned();
    let (boot_id, nonce) = (next(), next());
    let boot_id = if boot_id == NO_BOOT_ID { String::new() } else { boot_id };
    let groups = lines.filter_map(|line| line.parse().ok()).filter(|group| *group > 1).take(MOST_GROUPS).collect();
    Start { boot_id, nonce, groups }
}

/// None where it is not written to its end. The last part of a pipeline that failed tells how all of it ended.
fn ended(text: &str) -> Option<Ended> {
    let mut failed: Option<(u32, i32)> = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["refused"] => return Some(Ended::Refused),
            ["part", place, status] => {
                let part = (place.parse().ok()?, status.parse().ok()?);
                if part.1 != 0 {
                    failed = failed.max(Some(part));
                }
            }
            ["end", status] => {
                let status = status.parse().ok()?;
                return Some(Ended::Status(failed.map_or(status, |(_, status)| status)));
            }
            _ => return None,
        }
    }
    None
}

/// Looks at the marks of a change.
pub(crate) async fn look(
    machine: &Arc<Machine>,
    who: Who,
    held: &Held,
    mark: &Mark,
    ctx: &CallContext,
) -> Result<Marks, CallError> {
    let arguments = [held.folder.clone(), mark.record.to_string(), mark.session.to_string()];
    let arguments: Vec<Vec<u8>> = arguments.into_iter().map(String::into_bytes).collect();
    let item = || Item::script("looking at the marks of a change", LOOK, arguments.clone());
    let answer = machine.script(who, Lane::Look, item, ctx, &[]).await?;
    Marks::read(&answer)
        .ok_or_else(|| CallError::Unreachable(format!("{} gave a garbled answer about a change", machine.name)))
}

/// What was kept of an output.
pub(crate) enum Kept {
    Nothing,
    /// Its end is missing: yet, or for ever.
    Part,
    Whole(Output),
}

/// Reads the output that was kept.
pub(crate) async fn kept(
    machine: &Arc<Machine>,
    who: Who,
    what: &str,
    marks: &Marks,
    ctx: &CallContext,
) -> Result<Kept, CallError> {
    let Some(start) = marks.start.as_ref().filter(|start| !start.nonce.is_empty()) else {
        return Ok(Kept::Nothing);
    };
    // The frames' own words come on top of what a command may write.
    let item = || Item {
        limit: OUTPUT_LIMIT + (1 << 20),
        ..Item::script("reading kept output", OUTPUT, vec![marks.path.clone().into_bytes()])
    };
    let frames = machine.run(who, Lane::Look, || Ok(vec![item()]), ctx, &[]).await?;
    let Some(frame) = frames.into_iter().next() else { return Ok(Kept::Nothing) };
    let read = machine.output("reading kept output", frame)?;
    if !read.exit.success() {
        return Ok(Kept::Nothing);
    }
    let spec = FrameSpec { nonce: start.nonce.clone(), follow: None, limit: OUTPUT_LIMIT, pass_on: false };
    let mut frames = Frames::new(vec![spec]);
    if frames.push(0, &read.stdout.0).is_err() || frames.push(1, &read.stderr.0).is_err() || !frames.is_done() {
        return Ok(Kept::Part);
    }
    match frames.into_frames().pop() {
        Some(frame) => machine.output(what, frame).map(Kept::Whole),
        None => Ok(Kept::Part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_believed_when_they_are_whole() {
        let cases = [
            ("", None),
            ("end 0\n", Some(Ended::Status(0))),
            ("end 137\n", Some(Ended::Status(137))),
            ("refused\nend 125\n", Some(Ended::Refused)),
            ("part 0 0\npart 1 3\n", None),
            ("part 1 3\npart 0 4\npart 2 0\nend 0\n", Some(Ended::Status(3))),
            ("part 0 0\nend 0\n", Some(Ended::Status(0))),
            ("end \n", None),
            ("end\n", None),
            ("\0\0\0\n", None),
        ];
        for (text, expected) in cases {
            assert_eq!(ended(text), expected, "{text:?}");
        }
    }

    #[test]
    fn starts_are_read_as_far_as_they_go() {
        let start = |boot_id: &str, nonce: &str, groups: &[u32]| Start {
            boot_id: boot_id.to_owned(),
            nonce: nonce.to_owned(),
            groups: groups.to_vec(),
        };
        assert_eq!(start_of("b\nn\n4711\n"), start("b", "n", &[4711]));
        assert_eq!(start_of("b\nn\n\n12\n13\n"), start("b", "n", &[12, 13]));
        assert_eq!(start_of("b\nn\n0\n"), start("b", "n", &[]));
        assert_eq!(start_of("-\nn\n5\n"), start("", "n", &[5]));
        assert_eq!(start_of(""), start("", "", &[]));
        assert_eq!(Marks::read(b"0\0\0\0\0/x/7.0\0"), Some(Marks { path: "/x/7.0".to_owned(), ..Marks::default() }));
        assert_eq!(Marks::read(b"garbled"), None);
    }
}
