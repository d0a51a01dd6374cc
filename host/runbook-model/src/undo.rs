//! What takes a change back, from the change, what was there before it, and what it answered.
//!
//! Files and commands are decided here, Kubernetes objects in [`crate::undo_kube`], since those need the object as it is now.

use crate::call::{
    Act, Attributes, Command, Content, Exit, FileKind, FilePrior, FileWant, FilesAct, Outcome, Prior, Response,
    SourceRef, SshAct, Stat, Target, Undo,
};
use crate::call::{Answer, Change, Effect};
use crate::state::may_have_changed;

/// What takes a change back.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
pub enum Inverse {
    /// Nothing is to be done; why.
    Nothing(String),
    /// These changes of files, after a look whether the first path is as it was left.
    Files {
        /// One after the other. The first must succeed; those after it only where they can (parents that were made along the way).
        acts: Vec<FilesAct>,
        /// What was left at the path.
        left: Left,
    },
    /// A command.
    Command {
        /// The command, as a change whose inverse is the original.
        act: SshAct,
        /// Must end with exit code 0 first; else nobody knows whether there is something to take back.
        only_if: Option<Command>,
        /// Must end with exit code 0 first; else there is nothing to take back.
        unless_undone: Option<Command>,
    },
    /// It is decided by the object as it is now.
    Kube,
    /// Only a person can; what to do, in words.
    ByHand(String),
    /// It was for good; the consequence in words.
    Irreversible(String),
}

/// What a change of files left at its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// A file.
    File {
        /// Of its content.
        sha256: String,
        /// Permission bits, where they are known.
        mode: Option<u32>,
    },
    /// A directory.
    Directory,
    /// A link, and where it points.
    Link(String),
}

/// What takes a change back. `target` is where it was made, `prior` what was there, with contents.
pub fn inverse(target: &Target, change: &Change, prior: &Prior, response: &Response) -> Inverse {
    if !may_have_changed(response) {
        return Inverse::Nothing("nothing was changed".to_owned());
    }
    match (&change.act, prior) {
        (Act::Files(act), Prior::File(prior)) => files(target, act, prior),
        (Act::Files(act), _) => Inverse::ByHand(format!("look at {}: what was there before is not known", act.path)),
        (Act::Kube(_), _) => Inverse::Kube,
        (Act::Ssh(SshAct::Reboot { .. }), _) => Inverse::Nothing("a reboot leaves nothing to take back".to_owned()),
        (Act::Ssh(SshAct::Confirm { commit, revert, window_ms, .. }), _) => Inverse::Command {
            act: SshAct::Confirm {
                commit: revert.clone(),
                revert: commit.clone(),
                window_ms: *window_ms,
                addresses: Vec::new(),
            },
            only_if: None,
            unless_undone: None,
        },
        (Act::Ssh(SshAct::Run { pipeline, done_when, undo }), _) => {
            let original = pipeline.first().filter(|_| pipeline.len() == 1);
            command(undo, original, done_when.as_deref(), response, &change.effect)
        }
        (Act::Ssh(SshAct::Http { undo, .. }), _) => command(undo, None, None, response, &change.effect),
    }
}

fn command(
    undo: &Undo,
    original: Option<&Command>,
    done_when: Option<&Command>,
    response: &Response,
    effect: &Effect,
) -> Inverse {
    match undo {
        Undo::Harmless => Inverse::Nothing("leaving it as it is does no harm".to_owned()),
        Undo::Irreversible(consequence) => Inverse::Irreversible(consequence.clone()),
        Undo::ByHand(what) if what.is_empty() => Inverse::ByHand(format!("take back by hand: {}", effect.summary)),
        Undo::ByHand(what) => Inverse::ByHand(what.clone()),
        Undo::Inverse { command, only_if } => {
            let again = match original {
                Some(original) => Undo::Inverse { command: Box::new(original.clone()), only_if: None },
                None => Undo::ByHand(format!("do by hand: {}", effect.summary)),
            };
            let act = SshAct::Run { pipeline: vec![command.as_ref().clone()], done_when: None, undo: again };
            // A command that failed may have done nothing: what says that it is done says so, too.
            let unless_undone = done_when.filter(|_| !ended_well(response) && only_if.is_none()).cloned();
            Inverse::Command { act, only_if: only_if.as_deref().cloned(), unless_undone }
        }
    }
}

fn ended_well(response: &Response) -> bool {
    match response {
        Ok(Answer::Outcome(Outcome::Done(output))) => output.exit == Exit::Code(0),
        Ok(_) => true,
        Err(_) => false,
    }
}

fn files(target: &Target, act: &FilesAct, prior: &FilePrior) -> Inverse {
    let path = &act.path;
    let left = match (&act.want, &prior.wanted_sha256) {
        (FileWant::File { attributes, .. }, Some(sha256)) => {
            let before = prior.stat.as_ref().filter(|stat| stat.kind == FileKind::File).map(|stat| stat.mode);
            Left::File { sha256: sha256.clone(), mode: attributes.mode.or(before) }
        }
        (FileWant::File { .. }, None) => {
            return Inverse::ByHand(format!("look at {path}: what was written there is not known any more"));
        }
        (FileWant::Directory { .. } | FileWant::Tree { .. }, _) => Left::Directory,
        (FileWant::Link { target }, _) => Left::Link(target.clone()),
        (FileWant::Absent | FileWant::AbsentIfEmpty, _) => Left::Nothing,
    };
    let acts = match &prior.stat {
        None => removal(act, prior),
        Some(stat) => vec![match restored(target, act, prior, stat) {
            Ok(want) => FilesAct { path: path.clone(), want },
            Err(by_hand) => return Inverse::ByHand(by_hand),
        }],
    };
    Inverse::Files { acts, left }
}

/// Takes away what was made where nothing was.
fn removal(act: &FilesAct, prior: &FilePrior) -> Vec<FilesAct> {
    let mut acts = Vec::new();
    let want = match &act.want {
        FileWant::Directory { .. } => FileWant::AbsentIfEmpty,
        FileWant::File { .. }
        | FileWant::Tree { .. }
        | FileWant::Link { .. }
        | FileWant::Absent
        | FileWant::AbsentIfEmpty => FileWant::Absent,
    };
    acts.push(FilesAct { path: act.path.clone(), want });
    let mut above = act.path.trim_end_matches('/');
    for _ in 0..prior.missing_parents {
        let Some((parent, _)) = above.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) else { break };
        acts.push(FilesAct { path: parent.to_owned(), want: FileWant::AbsentIfEmpty });
        above = parent;
    }
    acts
}

/// What was there before; else what a person has to do.
fn restored(target: &Target, act: &FilesAct, prior: &FilePrior, stat: &Stat) -> Result<FileWant, String> {
    let path = &act.path;
    let attributes =
        Attributes { mode: Some(stat.mode), owner: Some(stat.owner.clone()), group: Some(stat.group.clone()) };
    match stat.kind {
        FileKind::File => {
            let content = match (&prior.content, &prior.sha256) {
                (Some(content), _) => Content::Bytes(content.clone()),
                // The content is the same, mode or owner were not: only they are put back.
                (None, Some(sha256)) if prior.wanted_sha256.as_ref() == Some(sha256) => Content::CopyOf(SourceRef {
                    target: target.clone(),
                    path: path.clone(),
                    size: stat.size,
                    sha256: sha256.clone(),
                }),
                (None, _) => {
                    return Err(format!(
                        "put {path} back from a backup: it had {} bytes, and what is larger than {} MiB is not kept",
                        stat.size,
                        FilePrior::KEEP >> 20
                    ));
                }
            };
            Ok(FileWant::File { content, attributes, validate: Vec::new() })
        }
        FileKind::Link => match &stat.link_target {
            Some(target) => Ok(FileWant::Link { target: target.clone() }),
            None => Err(format!("put the link {path} back: where it pointed is not known")),
        },
        FileKind::Directory => match (&act.want, &prior.content) {
            (FileWant::AbsentIfEmpty, _) | (FileWant::Directory { .. }, _) => Ok(FileWant::Directory { attributes }),
            (_, Some(archive)) => Ok(FileWant::Tree { archive: archive.clone() }),
            (_, None) => Err(format!("put the directory {path} back from a backup: it was too large to be kept")),
        },
        FileKind::Other => Err(format!("put {path} back by hand: it was a device, socket or pipe")),
    }
}

/// What is at the path of a change, as against what it left there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now {
    /// What was left.
    AsLeft,
    /// What is to be put back is there already.
    Back,
    /// Something else; in words.
    Other(String),
}

/// Compares what is at a path with what was left there, and with what the undo wants there.
pub fn compare(left: &Left, undo: &FilesAct, now: &FilePrior) -> Now {
    let back = match (&undo.want, &now.stat) {
        (FileWant::Absent | FileWant::AbsentIfEmpty, stat) => stat.is_none(),
        (FileWant::File { attributes, .. }, Some(stat)) => {
            stat.kind == FileKind::File && now.sha256 == now.wanted_sha256 && attributes.mode == Some(stat.mode)
        }
        (FileWant::Link { target }, Some(stat)) => stat.link_target.as_ref() == Some(target),
        (FileWant::Directory { attributes }, Some(stat)) => {
            stat.kind == FileKind::Directory && attributes.mode == Some(stat.mode)
        }
        (FileWant::Tree { .. }, stat) => stat.as_ref().is_some_and(|stat| stat.kind == FileKind::Directory),
        (FileWant::File { .. } | FileWant::Link { .. } | FileWant::Directory { .. }, None) => false,
    };
    let as_left = match (left, &now.stat) {
        (Left::Nothing, stat) => stat.is_none(),
        (Left::File { sha256, mode }, Some(stat)) => {
            stat.kind == FileKind::File
                && now.sha256.as_ref() == Some(sha256)
                && mode.is_none_or(|mode| mode == stat.mode)
        }
        (Left::Directory, Some(stat)) => stat.kind == FileKind::Directory,
        (Left::Link(target), Some(stat)) => stat.link_target.as_ref() == Some(target),
        (Left::File { .. } | Left::Directory | Left::Link(_), None) => false,
    };
    match (back, as_left) {
        (true, _) => Now::Back,
        (false, true) => Now::AsLeft,
        (false, false) => Now::Other(conflict(left, &undo.path, now)),
    }
}

fn conflict(left: &Left, path: &str, now: &FilePrior) -> String {
    let was = match left {
        Left::Nothing => "nothing was left".to_owned(),
        Left::File { sha256, mode: Some(mode) } => {
            format!("a file of mode {mode:04o} was left, SHA-256 {}", short(sha256))
        }
        Left::File { sha256, mode: None } => format!("a file was left, SHA-256 {}", short(sha256)),
        Left::Directory => "a directory was left".to_owned(),
        Left::Link(target) => format!("a link to {target} was left"),
    };
    let is = match &now.stat {
        None => "nothing is there now".to_owned(),
        Some(stat) => match stat.kind {
            FileKind::File => {
                let sha256 = now.sha256.as_deref().map(short).unwrap_or("unknown");
                format!("a file of mode {:04o} is there now, SHA-256 {sha256}", stat.mode)
            }
            FileKind::Directory => "a directory is there now".to_owned(),
            FileKind::Link => format!("a link to {} is there now", stat.link_target.as_deref().unwrap_or("?")),
            FileKind::Other => "a special file is there now".to_owned(),
        },
    };
    format!("{path} is not as it was left: {was}, {is}")
}

fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

#[cfg(test)]
mod tests;
