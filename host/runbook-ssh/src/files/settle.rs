//! What became of a change of files whose answer was lost: what lies at its path tells.

use std::sync::Arc;

use runbook_engine::backend::{CallContext, Secrets};
use runbook_model::call::{
    Act, Answer, CallError, Change, Effect, FileKind, FilePrior, FileWant, FilesAct, Finding, Prior, Verdict,
};
use runbook_model::delta::delta;

use crate::command::materialise_bytes;
use crate::machine::Machine;

/// Looks at the path once more.
pub(crate) async fn settle(
    machine: &Arc<Machine>,
    act: &FilesAct,
    prior: &Prior,
    ctx: &CallContext,
) -> Result<Finding, CallError> {
    let (path, name) = (&act.path, &machine.name);
    let before = match prior {
        Prior::File(before) => before,
        Prior::None | Prior::DoneWhen(_) | Prior::Process { .. } | Prior::Object { .. } | Prior::PodFile { .. } => {
            return Err(CallError::Invalid(format!("{path} was not looked at before it was changed")));
        }
    };
    let now = match super::prior(machine, act, ctx).await {
        Ok(now) => now,
        // Something of another kind has come there.
        Err(CallError::Conflict(text)) => return Ok(Finding::Unclear(text)),
        Err(error) => return Err(error),
    };
    Ok(match found(act, before, &now, &ctx.secrets) {
        Found::AsWanted => Finding::Done(Answer::Verdict(Verdict::Changed)),
        Found::AsBefore => Finding::NotDone,
        Found::Otherwise => {
            let is = is(&now);
            Finding::Unclear(format!(
                "{path} on {name} is neither as it was before this change nor as it should be after it: {is}; look at it"
            ))
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    AsWanted,
    AsBefore,
    Otherwise,
}

/// Holds what lies there now against what did before, and what should.
fn found(act: &FilesAct, before: &FilePrior, now: &FilePrior, secrets: &Secrets) -> Found {
    let change = Change { act: Act::Files(act.clone()), effect: Effect::default() };
    if delta(&change, &Prior::File(now.clone())).is_none() {
        return Found::AsWanted;
    }
    let hashes = match (&before.sha256, &now.sha256) {
        (Some(before), Some(now)) => before == now,
        // A file takes the place of another one whole. Where no hash was recorded, size, mode and owner have to do.
        (None, _) | (_, None) => true,
    };
    if before.stat != now.stat || !hashes {
        return Found::Otherwise;
    }
    let is_directory = now.stat.as_ref().is_some_and(|stat| stat.kind == FileKind::Directory);
    match (&act.want, &before.content, &now.content) {
        // Its removal may have begun: then what is left is not what was kept of it, and must not be taken for it.
        (FileWant::Absent, Some(kept), left) if is_directory => {
            let kept = materialise_bytes(&kept.0, secrets);
            if left.as_ref().is_some_and(|left| left.0 == kept) { Found::AsBefore } else { Found::Otherwise }
        }
        // Nothing was kept that a second attempt could get wrong.
        (
            FileWant::Absent
            | FileWant::AbsentIfEmpty
            | FileWant::File { .. }
            | FileWant::Directory { .. }
            | FileWant::Link { .. }
            | FileWant::Tree { .. },
            _,
            _,
        ) => Found::AsBefore,
    }
}

/// What lies there, for people.
fn is(now: &FilePrior) -> String {
    let Some(stat) = &now.stat else { return "nothing is there".to_owned() };
    let kind = match stat.kind {
        FileKind::File => format!("a file of {} bytes is there", stat.size),
        FileKind::Directory => "a directory is there".to_owned(),
        FileKind::Link => format!("a link to {} is there", stat.link_target.as_deref().unwrap_or("somewhere")),
        FileKind::Other => "a special file is there".to_owned(),
    };
    format!("{kind} (mode {:04o}, owner {}, group {})", stat.mode, stat.owner, stat.group)
}

#[cfg(test)]
mod tests {
    use runbook_model::call::{Attributes, Content, Stat, Text};
    use runbook_model::delta::sha256;

    use super::*;

    fn stat(kind: FileKind, size: u64, mode: u32) -> Option<Stat> {
        let (owner, group) = ("root".to_owned(), "root".to_owned());
        Some(Stat { kind, size, mode, owner, group, link_target: None })
    }

    fn file(text: &str) -> FilePrior {
        FilePrior {
            stat: stat(FileKind::File, text.len() as u64, 0o644),
            sha256: Some(sha256(text.as_bytes())),
            wanted_sha256: Some(sha256(b"new")),
            ..FilePrior::default()
        }
    }

    fn directory(archive: Option<&str>) -> FilePrior {
        let content = archive.map(|archive| archive.into());
        FilePrior { stat: stat(FileKind::Directory, 0, 0o755), content, ..FilePrior::default() }
    }

    #[test]
    fn what_is_there_is_held_against_before_and_after() {
        let content = Content::Text(Text::plain("new"));
        let write = FileWant::File { content, attributes: Attributes::default(), validate: Vec::new() };
        let nothing = || FilePrior { wanted_sha256: Some(sha256(b"new")), ..FilePrior::default() };
        let bare = |prior: FilePrior| FilePrior { sha256: None, ..prior };
        let attributes = Attributes { mode: Some(0o700), ..Attributes::default() };
        let cases = [
            (write.clone(), file("old"), file("new"), Found::AsWanted),
            (write.clone(), file("old"), file("old"), Found::AsBefore),
            (write.clone(), bare(file("old")), file("old"), Found::AsBefore),
            (write.clone(), file("old"), file("odd"), Found::Otherwise),
            (write.clone(), nothing(), nothing(), Found::AsBefore),
            (write.clone(), nothing(), file("odd"), Found::Otherwise),
            (write, file("old"), nothing(), Found::Otherwise),
            (FileWant::Directory { attributes }, FilePrior::default(), directory(None), Found::Otherwise),
            (FileWant::Absent, file("old"), FilePrior::default(), Found::AsWanted),
            (FileWant::Absent, directory(Some("tar")), directory(Some("tar")), Found::AsBefore),
            (FileWant::Absent, directory(Some("tar")), directory(Some("less")), Found::Otherwise),
            (FileWant::Absent, directory(Some("tar")), directory(None), Found::Otherwise),
            (FileWant::Absent, directory(None), directory(Some("tar")), Found::AsBefore),
            (FileWant::Tree { archive: "tar".into() }, FilePrior::default(), directory(None), Found::AsWanted),
            (FileWant::Tree { archive: "tar".into() }, FilePrior::default(), FilePrior::default(), Found::AsBefore),
            (FileWant::AbsentIfEmpty, directory(None), directory(None), Found::AsBefore),
        ];
        for (want, before, now, expected) in cases {
            let act = FilesAct { path: "/x".to_owned(), want };
            assert_eq!(found(&act, &before, &now, &Secrets::default()), expected, "{act:?}\n{before:?}\n{now:?}");
        }
    }
}
