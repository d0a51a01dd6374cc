//! What a change of files would meet.

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_engine::backend::CallContext;
use runbook_model::call::{Attributes, CallError, Content, FileKind, FilePrior, FileWant, FilesAct};
use runbook_model::delta::sha256;

use super::ask::Asked;
use super::{Path, jail, stat};
use crate::command::materialise;
use crate::looks;
use crate::machine::Machine;

/// Looks at what a change would meet, in one round trip.
pub(crate) async fn prior(machine: &Arc<Machine>, act: &FilesAct, ctx: &CallContext) -> Result<FilePrior, CallError> {
    let path = Path::new(&act.path)?;
    let none = Attributes::default();
    let attributes = match &act.want {
        FileWant::File { attributes, .. } | FileWant::Directory { attributes } => attributes,
        FileWant::Link { .. } | FileWant::Absent | FileWant::AbsentIfEmpty | FileWant::Tree { .. } => &none,
    };
    let wanted_sha256 = match &act.want {
        FileWant::File { content: Content::CopyOf(source), .. } => Some(source.sha256.clone()),
        FileWant::File { content, .. } => materialise(content, &ctx.secrets)?.map(|bytes| sha256(&bytes)),
        FileWant::Directory { .. }
        | FileWant::Link { .. }
        | FileWant::Absent
        | FileWant::AbsentIfEmpty
        | FileWant::Tree { .. } => None,
    };
    let compare = match &act.want {
        FileWant::Directory { .. } => "-",
        _ => wanted_sha256.as_deref().unwrap_or_default(),
    };
    check(attributes)?;
    let asked = Asked {
        // Also in plans: what was seen ahead is what a run goes by.
        what: if act.want == FileWant::Absent { "tree" } else { "prior" },
        path: path.clone(),
        jail: jail(ctx.jail.as_deref())?,
        wanted: compare.to_owned(),
        keep: FilePrior::KEEP,
        owner: attributes.owner.clone().unwrap_or_default(),
        group: attributes.group.clone().unwrap_or_default(),
        alone: false,
    };
    let found = looks::question(machine, asked, ctx).await?;
    if found.stat.is_empty() {
        return Ok(FilePrior { wanted_sha256, missing_parents: found.missing_parents, ..FilePrior::default() });
    }
    let (stat, uid, gid) = stat(machine, &found.stat, Some(found.link_target))?;
    replaceable(machine, &path, stat.kind, &act.want)?;
    let mut ids = BTreeMap::new();
    let pairs = [
        ("user", &attributes.owner, found.owner, uid, &stat.owner),
        ("group", &attributes.group, found.group, gid, &stat.group),
    ];
    for (sort, wanted, number, is, name) in pairs {
        let Some(wanted) = wanted else { continue };
        // In the form that the stat has, so that a number and a name compare equal.
        if *wanted == is || *wanted == *name || number == is {
            ids.insert(format!("{sort}:{wanted}"), name.clone());
        } else if !number.is_empty() {
            ids.insert(format!("{sort}:{wanted}"), number);
        }
    }
    Ok(FilePrior {
        stat: Some(stat),
        sha256: Some(found.sha256).filter(|hash| !hash.is_empty()),
        content: found.content.map(Into::into),
        wanted_sha256,
        ids,
        missing_parents: 0,
    })
}

/// Refuses what could only be done by destroying something of another kind. Says so before anything is changed.
fn replaceable(machine: &Machine, path: &Path, is: FileKind, want: &FileWant) -> Result<(), CallError> {
    let fine = match want {
        FileWant::File { .. } | FileWant::Link { .. } => matches!(is, FileKind::File | FileKind::Link),
        FileWant::Directory { .. } => is == FileKind::Directory,
        FileWant::AbsentIfEmpty => is == FileKind::Directory,
        FileWant::Absent | FileWant::Tree { .. } => true,
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
        FileWant::Directory { .. } | FileWant::Tree { .. } | FileWant::AbsentIfEmpty => "a directory",
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
