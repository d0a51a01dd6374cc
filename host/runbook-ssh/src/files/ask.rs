//! Questions about files: those that are asked at the same time travel together, and cost as many processes as one.

use std::sync::{Arc, Mutex, PoisonError};

use runbook_engine::backend::CallContext;
use runbook_model::call::CallError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Answer, Path, SHARED, garbled, jail};
use crate::command::{Item, Library};
use crate::machine::{Lane, Machine};

/// Questions in one text, so that its arguments stay below what a shell takes well.
const TOGETHER: usize = 64;

/// What lies at some paths. Arguments, for each: what is asked (`stat`; `sha256` follows a link and wants a file; `prior`), path, its parent, its
/// name, the granted path, the SHA-256 that is wanted (`-`: none is needed), most bytes of content to give where it is another one, wanted
/// owner, wanted group.
///
/// Answers, for each: `K`, stat, target of the link, SHA-256, number of the wanted owner, of the wanted group, bytes of
/// content, and the content.
const ASK: Library = r#"
# For path number i: what it is (stat), or that nothing is there (empty).
lies() {
w=$1 x= p=
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
[ -z "$rest" ] || { absent; return; }
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
eval "w$i=\$w x$i=\$x y$i=\$y p$i=\$p s$i= h$i= f$i=\$6 c$i=\$7 u$i=\$8 g$i=\$9"
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
eval "w=\$w$i x=\$x$i y=\$y$i p=\$p$i s=\$s$i h=\$h$i f=\$f$i c=\$c$i u=\$u$i g=\$g$i"
t= o= q= k=
if [ -z "$x" ]; then
case $s in
a*) t=$(readlink "$p" && echo x) || x=failed y="the link cannot be read"; t=${t%?x} ;;
8*) if [ "$w" = prior ] && [ "$f" != - ] && [ "$h" != "$f" ]; then
k=${s#*/}; k=${k%%/*}
[ "$k" -le "$c" ] || k=
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
printf 'K\0%s\0%s\0%s\0%s\0%s\0%s\0' "$s" "$t" "$h" "$o" "$q" "$k"
[ -z "$k" ] || { head -c "$k" <"$p"; printf '\0'; }
done
}
"#;

/// One question.
pub(super) struct Question {
    /// `stat`, `sha256` or `prior`.
    pub(super) what: &'static str,
    pub(super) path: Path,
    /// The SHA-256 that is wanted; `-`: none is needed.
    pub(super) wanted: String,
    /// Most bytes of content to give where it is another one.
    pub(super) keep: u64,
    pub(super) owner: String,
    pub(super) group: String,
}

/// What lies at a path.
pub(super) struct Found {
    /// As the tool `stat` says it; empty: nothing is there.
    pub(super) stat: String,
    pub(super) link_target: String,
    pub(super) sha256: String,
    /// Number of the wanted owner; empty where the owner is the wanted one already.
    pub(super) owner: String,
    /// The same for the group.
    pub(super) group: String,
    pub(super) content: Option<Vec<u8>>,
}

/// Where the questions about the files of one machine wait for each other.
#[derive(Default)]
pub(crate) struct Desk(Mutex<Vec<Waiting>>);

struct Waiting {
    asked: Asked,
    answer: Whom,
}

struct Asked {
    question: Question,
    jail: String,
}

impl Desk {
    fn take(&self) -> Vec<Waiting> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives whether nobody was waiting.
    fn put(&self, waiting: Waiting) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(waiting);
        all.len() == 1
    }
}

/// Asks, together with whoever asks at the same time.
pub(super) async fn ask(machine: &Arc<Machine>, question: Question, ctx: &CallContext) -> Result<Found, CallError> {
    let (answer, answered) = oneshot::channel();
    let name = format!("a look at {}", question.path.whole);
    let jail = jail(ctx.jail.as_deref())?;
    if machine.desk.put(Waiting { asked: Asked { question, jail }, answer }) {
        let first = First { machine: machine.clone(), ctx: ctx.clone() };
        // Whoever is polled by the same task puts a question before this one goes on.
        tokio::task::yield_now().await;
        drop(first);
    }
    let lost = || CallError::Unreachable("the program is ending".to_owned());
    machine.wait(answered, ctx, &name).await?.map_err(|_| lost())?
}

/// The first at the desk sends all questions, also where it is dropped before.
struct First {
    machine: Arc<Machine>,
    ctx: CallContext,
}

impl Drop for First {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Each one waits for its own deadline and cancellation.
            let ctx = CallContext { cancel: CancellationToken::new(), ..self.ctx.clone() };
            runtime.spawn(together(self.machine.clone(), ctx));
        }
    }
}

/// Sends what waits at the desk as soon as a shell is there. Where the answers cannot be told apart, each is asked alone.
async fn together(machine: Arc<Machine>, ctx: CallContext) {
    let (hand_over, mut handed) = oneshot::channel();
    let (mut asked, mut whom) = (Vec::new(), Vec::new());
    let answers = tokio::select! {
        answers = send(&machine, &ctx, &mut asked, hand_over) => answers,
        () = nobody_waits(&mut handed, &mut whom) => return,
    };
    if whom.is_empty() {
        // They were handed over in the last moment, or never: then they wait at the desk for an answer, whatever it is.
        whom = handed.try_recv().unwrap_or_else(|_| machine.desk.take().into_iter().map(|one| one.answer).collect());
    }
    match answers {
        Ok(answers) => {
            for (whom, answer) in whom.into_iter().zip(answers) {
                // Nobody may wait for it any more.
                let _ = whom.send(answer);
            }
        }
        Err(Broken::Garbled(_)) if asked.len() > 1 => {
            for (asked, answer) in asked.into_iter().zip(whom) {
                let (hand_over, _) = oneshot::channel();
                let answers = send(&machine, &ctx, &mut vec![asked], hand_over).await;
                let one =
                    answers.map_err(Broken::into_error).and_then(|answers| answers.into_iter().next().transpose());
                let one = one.and_then(|one| one.ok_or_else(|| garbled(&machine)));
                let _ = answer.send(one);
            }
        }
        Err(error) => {
            let error = error.into_error();
            for whom in whom {
                let _ = whom.send(Err(error.clone()));
            }
        }
    }
}

type Whom = oneshot::Sender<Result<Found, CallError>>;

/// Ends when everybody who was handed over has gone.
async fn nobody_waits(handed: &mut oneshot::Receiver<Vec<Whom>>, whom: &mut Vec<Whom>) {
    match handed.await {
        Ok(handed) => *whom = handed,
        Err(_) => std::future::pending().await,
    }
    for one in whom {
        one.closed().await;
    }
}

/// Why there are no answers.
enum Broken {
    /// There are some, which cannot be told apart.
    Garbled(CallError),
    Lost(CallError),
}

impl Broken {
    fn into_error(self) -> CallError {
        let (Self::Garbled(error) | Self::Lost(error)) = self;
        error
    }
}

/// Sends `asked`, or where that is empty what waits at the desk when the shell is there.
async fn send(
    machine: &Machine,
    ctx: &CallContext,
    asked: &mut Vec<Asked>,
    hand_over: oneshot::Sender<Vec<Whom>>,
) -> Result<Vec<Result<Found, CallError>>, Broken> {
    const WHAT: &str = "looking at files";
    let mut hand_over = Some(hand_over);
    let items = || {
        if asked.is_empty() {
            let waiting = machine.desk.take();
            let (questions, whom): (Vec<_>, Vec<_>) = waiting.into_iter().map(|one| (one.asked, one.answer)).unzip();
            *asked = questions;
            if let Some(hand_over) = hand_over.take() {
                let _ = hand_over.send(whom);
            }
        }
        let texts = asked.chunks(TOGETHER).map(|asked| {
            let arguments = asked.iter().flat_map(arguments).collect();
            Item::script(WHAT, "ask \"$@\"", arguments).with(&[SHARED, ASK])
        });
        Ok(texts.collect())
    };
    let frames = machine.run(machine.privileged(), Lane::Look, items, ctx, &[]).await.map_err(Broken::Lost)?;
    let mut answers = Vec::new();
    for (asked, frame) in asked.chunks(TOGETHER).zip(frames) {
        let output = machine.script_output(WHAT, frame).map_err(Broken::Lost)?;
        let mut answer = Answer { rest: output, at: 0 };
        for one in asked {
            answers.push(read(machine, &one.question, &mut answer).map_err(Broken::Garbled)?);
        }
    }
    Ok(answers)
}

fn arguments(asked: &Asked) -> [Vec<u8>; 9] {
    let Asked { question, jail, .. } = asked;
    let Path { whole, parent, name } = &question.path;
    let keep = question.keep.to_string();
    [question.what, whole, parent, name, jail, &question.wanted, &keep, &question.owner, &question.group]
        .map(|argument| argument.as_bytes().to_vec())
}

/// The next answer. The outer error: it cannot be read.
fn read(machine: &Machine, question: &Question, answer: &mut Answer) -> Result<Result<Found, CallError>, CallError> {
    if let Err(error) = answer.kind(machine, &question.path.whole)? {
        return Ok(Err(error));
    }
    let mut next = || answer.text(machine);
    let (stat, link_target, sha256) = (next()?, next()?, next()?);
    let (owner, group, size) = (next()?, next()?, next()?);
    let content = match size.as_str() {
        "" => None,
        size => {
            let size = size.parse().map_err(|_| garbled(machine))?;
            let changing = |_| {
                let (path, name) = (&question.path.whole, &machine.name);
                CallError::Conflict(format!("{path} on {name} keeps changing while it is looked at"))
            };
            Some(answer.bytes(machine, size).map_err(changing)?)
        }
    };
    Ok(Ok(Found { stat, link_target, sha256, owner, group, content }))
}
