//! What a change of files would meet.

use std::collections::BTreeMap;

use runbook_engine::backend::CallContext;
use runbook_model::call::{Attributes, CallError, Content, FileKind, FilePrior, FileWant, FilesAct};
use runbook_model::delta::sha256;

use super::{Answer, Path, jail, preamble, stat};
use crate::command::{Item, materialise};
use crate::machine::{Lane, Machine};

/// Arguments: parent, name, the granted path, SHA-256 of the wanted content (`-`: content is not looked at), most bytes of
/// content, wanted owner, wanted group.
const PRIOR: &str = concat!(
    preamble!(),
    r#"
number() {
case $2 in '' | *[!0-9]*) ;; *) printf '%s\0' "$2"; return ;; esac
N=
[ -z "$2" ] || while IFS=: read -r a b c d; do
if [ "$a" = "$2" ]; then N=$c; break; fi
done 2>/dev/null <"/etc/$1"
if [ -z "$N" ] && [ -n "$2" ]; then
N=$(getent "$1" "$2" 2>/dev/null) || N=
N=${N#*:}; N=${N#*:}; N=${N%%:*}
fi
printf '%s\0' "$N"
}
near "$1" || fail failed "no permission to enter $1"
if [ -z "$2" ]; then P=/; else P=${R%/}$REST/$2; fi
jailed "$P" "$3" || fail denied "it lies outside of what is granted"
t= RB_H= keep=
if s=$(st "$P"); then
case $s in
a*) t=$(readlink "$P" && echo x) || fail failed "the link cannot be read"; t=${t%?x} ;;
8*) if [ "$4" != - ]; then
[ -r "$P" ] || fail failed "Permission denied"
sha <"$P" || fail failed "no tool there makes a SHA-256"
n=${s#*/}; n=${n%%/*}
if [ "$RB_H" != "$4" ] && [ "$n" -le "$5" ]; then keep=1; fi
fi ;;
esac
else
case $s in
*"No such file or directory" | *"Not a directory") s= ;;
*) fail failed "$s" ;;
esac
fi
printf 'K\0%s\0%s\0%s\0' "$s" "$t" "$RB_H"
number passwd "$6"
number group "$7"
printf '%s\0' "$keep"
if [ -n "$keep" ]; then exec cat <"$P"; fi
"#
);

/// Looks at what a change would meet, in one round trip.
pub(crate) async fn prior(machine: &Machine, act: &FilesAct, ctx: &CallContext) -> Result<FilePrior, CallError> {
    let path = Path::new(&act.path)?;
    let none = Attributes::default();
    let attributes = match &act.want {
        FileWant::File { attributes, .. } | FileWant::Directory { attributes } => attributes,
        FileWant::Link { .. } | FileWant::Absent => &none,
    };
    let wanted_sha256 = match &act.want {
        FileWant::File { content: Content::CopyOf(source), .. } => Some(source.sha256.clone()),
        FileWant::File { content, .. } => materialise(content, &ctx.secrets)?.map(|bytes| sha256(&bytes)),
        FileWant::Directory { .. } | FileWant::Link { .. } | FileWant::Absent => None,
    };
    let compare = match &act.want {
        FileWant::Directory { .. } => "-",
        _ => wanted_sha256.as_deref().unwrap_or_default(),
    };
    let jail = jail(ctx.jail.as_deref())?;
    let item = || {
        let keep = FilePrior::KEEP.to_string();
        let (owner, group) = (attributes.owner.as_deref(), attributes.group.as_deref());
        let (owner, group) = (owner.unwrap_or_default(), group.unwrap_or_default());
        let arguments = [path.parent.as_str(), &path.name, &jail, compare, &keep, owner, group];
        let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        Item::script(format!("looking at {}", path.whole), PRIOR, arguments)
    };
    check(attributes)?;
    let bytes = machine.script(machine.privileged(), Lane::Look, item, ctx, &[]).await?;
    let mut answer = Answer::of(machine, &path.whole, bytes)?;
    let mut next = || answer.text(machine);
    let (line, target, hash) = (next()?, next()?, next()?);
    let (owner, group, content) = (next()?, next()?, next()?);
    if line.is_empty() {
        return Ok(FilePrior { wanted_sha256, ..FilePrior::default() });
    }
    let (stat, uid, gid) = stat(machine, &line, Some(target))?;
    replaceable(machine, &path, stat.kind, &act.want)?;
    let mut ids = BTreeMap::new();
    let pairs =
        [("user", &attributes.owner, owner, uid, &stat.owner), ("group", &attributes.group, group, gid, &stat.group)];
    for (sort, wanted, number, is, name) in pairs {
        if let Some(wanted) = wanted.as_ref().filter(|_| !number.is_empty()) {
            // In the form that the stat has, so that a number and a name compare equal.
            ids.insert(format!("{sort}:{wanted}"), if number == is { name.clone() } else { number });
        }
    }
    Ok(FilePrior {
        stat: Some(stat),
        sha256: Some(hash).filter(|hash| !hash.is_empty()),
        content: (!content.is_empty()).then(|| answer.rest().into()),
        wanted_sha256,
        ids,
    })
}

/// Refuses what could only be done by destroying something of another kind. Says so before anything is changed.
fn replaceable(machine: &Machine, path: &Path, is: FileKind, want: &FileWant) -> Result<(), CallError> {
    let fine = match want {
        FileWant::File { .. } | FileWant::Link { .. } => matches!(is, FileKind::File | FileKind::Link),
        FileWant::Directory { .. } => is == FileKind::Directory,
        FileWant::Absent => true,
    };
    if fine {
        return Ok(());
    }
    let name = |kind| match kind {
        FileKind::File => "a file",
        FileKind::Directory => "a directory",
        FileKind::Link => "a link",
        FileKind::Other => "a special file",
    };
    let want = match want {
        FileWant::File { .. } => "a file",
        FileWant::Directory { .. } => "a directory",
        FileWant::Link { .. } | FileWant::Absent => "a link",
    };
    Err(CallError::Conflict(format!(
        "{} on {} is {}, where {want} is wanted; remove it first if it is not needed",
        path.whole,
        machine.name,
        name(is)
    )))
}

/// Owner and group as tools take them.
fn check(attributes: &Attributes) -> Result<(), CallError> {
    for name in [&attributes.owner, &attributes.group].into_iter().flatten() {
        if name.is_empty() || name.starts_with('-') || name.contains([':', '/', '\n', '\0']) {
            return Err(CallError::Invalid(format!("{name:?} is no name of a user or group")));
        }
    }
    match attributes.mode {
        Some(mode) if mode > 0o7777 => Err(CallError::Invalid(format!("{mode:o} is no file mode"))),
        _ => Ok(()),
    }
}
