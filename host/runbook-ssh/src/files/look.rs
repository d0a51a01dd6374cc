//! Looks at files: stat, read, list, hash, open as a source.

use std::sync::Arc;

use runbook_engine::backend::CallContext;
use runbook_model::call::{self, CallError, Entry, FilesLook, Response, SourceRef, Target};

use super::ask::Asked;
use super::{Answer, Path, SHARED, garbled, here, jail, stat};
use crate::command::{Item, Library, OUTPUT_LIMIT};
use crate::looks;
use crate::machine::Machine;
use crate::shells::Lane;

/// Attempts to list a directory that changes meanwhile.
const LISTINGS: usize = 3;

/// Arguments: what, path, its parent, its name, the granted path, the most bytes to read.
const LOOK: Library = r#"
look() {
near "$3" || fail failed "no permission to enter $3"
if [ -z "$4" ]; then P=/; else P=${R%/}$REST/$4; fi
if [ -L "$P" ]; then
t=$(readlink -f "$P" && echo x) || t=
[ -n "$t" ] || { [ -z "$5" ] || fail denied "it lies outside of what is granted"; fail notfound "the link leads nowhere"; }
P=${t%?x}
jailed "$P" "$5" || fail denied "it lies outside of what is granted"
elif [ "$2" != "$5" ]; then
jailed "$P" "$5" || fail denied "it lies outside of what is granted"
fi
if [ "$1" = list ] && [ -d "$P" ]; then
cd "$P" 2>/dev/null && [ -r . ] || fail failed "Permission denied"
names() {
for f in ./* ./.[!.]* ./..?*; do
if [ -e "$f" ] || [ -L "$f" ]; then printf '%s\0' "$f"; fi
done
}
printf 'K\0'; names; printf '\0'
s=$(names | xargs -0 stat -c $RB_STAT 2>/dev/null)
printf '%s\0' "$s"
for f in ./* ./.[!.]* ./..?*; do
if [ -L "$f" ]; then t=$(readlink "$f" && echo x); printf '%s\0' "${t%?x}"; fi
done
exit
fi
if [ "$1" = read ] && [ -f "$P" ] && [ -r "$P" ]; then
printf 'K\0'
exec head -c "$6" <"$P"
fi
s=$(st "$P") || case $s in
*"No such file or directory" | *"Not a directory") fail notfound "nothing is there" ;;
*) fail failed "$s" ;;
esac
[ "$1" != list ] || fail invalid "it is not a directory"
[ -f "$P" ] || fail invalid "it is not a regular file"
fail failed "Permission denied"
}
"#;

/// Answers a look.
pub(crate) async fn look(machine: &Arc<Machine>, look: &FilesLook, ctx: &CallContext) -> Response {
    if machine.target == Target::Controller {
        return here::look(look, ctx).await;
    }
    let path = Path::new(look.path())?;
    match look {
        FilesLook::Stat { .. } => {
            let found = looks::question(machine, question("stat", "-", path, ctx)?, ctx).await?;
            if found.stat.is_empty() {
                return Ok(call::Answer::Stat(None));
            }
            Ok(call::Answer::Stat(Some(stat(machine, &found.stat, Some(found.link_target))?.0)))
        }
        FilesLook::Read { limit, .. } => {
            let limit = (*limit).min(OUTPUT_LIMIT - 1024);
            let bytes = script(machine, "read", &path, limit + 1, ctx).await?.rest();
            if bytes.len() as u64 > limit {
                let text = format!("{} on {} is larger than {limit} bytes", path.whole, machine.name);
                return Err(CallError::Invalid(text));
            }
            Ok(call::Answer::Bytes(bytes.into()))
        }
        FilesLook::List { .. } => list(machine, &path, ctx).await.map(call::Answer::Entries),
        FilesLook::Sha256 { .. } => looks::question(machine, question("sha256", "", path, ctx)?, ctx)
            .await
            .map(|found| call::Answer::Text(found.sha256)),
        FilesLook::Source { .. } => {
            let found = looks::question(machine, question("sha256", "", path.clone(), ctx)?, ctx).await?;
            let size = stat(machine, &found.stat, None)?.0.size;
            let target = machine.target.clone();
            Ok(call::Answer::Source(SourceRef { target, path: path.whole, size, sha256: found.sha256 }))
        }
    }
}

fn question(what: &'static str, wanted: &str, path: Path, ctx: &CallContext) -> Result<Asked, CallError> {
    let (wanted, jail) = (wanted.to_owned(), jail(ctx.jail.as_deref())?);
    Ok(Asked { what, path, jail, wanted, keep: 0, owner: String::new(), group: String::new(), alone: false })
}

async fn script(
    machine: &Arc<Machine>,
    what: &'static str,
    path: &Path,
    limit: u64,
    ctx: &CallContext,
) -> Result<Answer, CallError> {
    let jail = jail(ctx.jail.as_deref())?;
    let item = || {
        let limit = limit.to_string();
        let arguments = [what, &path.whole, &path.parent, &path.name, &jail, &limit];
        let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        let item = Item::script(format!("{what} of {}", path.whole), "look \"$@\"", arguments).with(&[SHARED, LOOK]);
        if what == "read" { item.or("look") } else { item }
    };
    let bytes = machine.script(machine.privileged(), Lane::Look, item, ctx, &[]).await?;
    Answer::of(machine, &path.whole, bytes)
}

async fn list(machine: &Arc<Machine>, path: &Path, ctx: &CallContext) -> Result<Vec<Entry>, CallError> {
    for _ in 0..LISTINGS {
        let answer = script(machine, "list", path, 0, ctx).await?;
        if let Some(entries) = entries(machine, answer)? {
            return Ok(entries);
        }
    }
    Err(CallError::Conflict(format!("{} on {} keeps changing while it is listed", path.whole, machine.name)))
}

/// The entries of a listing. None: something came or went between the names and the rest.
pub(super) fn entries(machine: &Machine, mut answer: Answer) -> Result<Option<Vec<Entry>>, CallError> {
    let mut names = Vec::new();
    loop {
        let name = answer.text(machine)?;
        if name.is_empty() {
            break;
        }
        let name = name.strip_prefix("./").ok_or_else(|| garbled(machine))?;
        // Who puts a name behind a path must not come out somewhere else.
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(garbled(machine));
        }
        names.push(name.to_owned());
    }
    let lines = answer.text(machine)?;
    let lines: Vec<&str> = lines.lines().collect();
    if lines.len() != names.len() {
        return Ok(None);
    }
    let mut entries = Vec::new();
    for (name, line) in names.into_iter().zip(lines) {
        let mut stat = stat(machine, line, Some(String::new()))?.0;
        if stat.link_target.is_some() {
            stat.link_target = Some(answer.text(machine)?);
        }
        entries.push(Entry { name, stat });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(entries))
}
