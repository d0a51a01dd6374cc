//! Looks at files and changes of them, as a real helper answers.

use runbook_engine::backend::Secrets;
use runbook_model::bytes::Bytes;
use runbook_model::call::{Act, Change, Effect, Finding, Prior};
use runbook_model::call::{
    Answer, Attributes, CallError, Content, FileKind, FilePrior, FileWant, FilesAct, FilesLook, Response, SourceRef,
    Target, Verdict,
};
use runbook_model::delta::{delta, sha256};

use crate::machine::{Invocation, fill};
use crate::state::State;
use crate::tree::{Kind, Node, Tree, normal, parents};

/// A place with files: a machine, or this computer.
pub(crate) struct Place<'a> {
    pub(crate) target: &'a Target,
    pub(crate) secrets: &'a Secrets,
}

pub(crate) fn look(tree: &Tree, target: &Target, look: &FilesLook) -> Response {
    let path = normal(look.path())?;
    Ok(match look {
        FilesLook::Stat { .. } => Answer::Stat(match path.as_str() {
            "/" => Some(Node::directory(0o755).stat()),
            path => tree.get(path).map(Node::stat),
        }),
        FilesLook::Read { limit, .. } => {
            let content = tree.read(&path)?;
            if content.len() as u64 > *limit {
                return Err(CallError::Invalid(format!("{path} is larger than {limit} bytes")));
            }
            Answer::Bytes(Bytes(content.to_vec()))
        }
        FilesLook::List { .. } => {
            let end = tree.resolve(&path)?;
            match () {
                () if tree.is_directory(&end) => Answer::Entries(tree.list(&end)),
                () if tree.has(&end) => return Err(CallError::Invalid(format!("{path} is not a directory"))),
                () => return Err(CallError::NotFound(format!("{path}: nothing is there"))),
            }
        }
        FilesLook::Sha256 { .. } => Answer::Text(sha256(tree.read(&path)?)),
        FilesLook::Source { .. } => {
            let content = tree.read(&path)?;
            let (target, size) = (target.clone(), content.len() as u64);
            Answer::Source(SourceRef { target, path, size, sha256: sha256(content) })
        }
    })
}

impl State {
    /// The bytes that a source stands for, if they still lie there.
    pub(crate) fn source(&self, source: &SourceRef) -> Result<Vec<u8>, CallError> {
        let machine = self.machines.get(&source.target.to_string());
        let content = machine.ok_or_else(|| CallError::NotFound(source.path.clone()))?.tree.read(&source.path)?;
        if sha256(content) != source.sha256 {
            return Err(CallError::Conflict(format!("{} was changed since it was opened", source.path)));
        }
        Ok(content.to_vec())
    }

    fn wanted(&self, content: &Content, secrets: &Secrets) -> Result<Vec<u8>, CallError> {
        match content {
            Content::Bytes(bytes) => Ok(bytes.0.clone()),
            Content::Text(text) => fill(text, secrets).map(String::into_bytes),
            Content::CopyOf(source) => self.source(source),
        }
    }

    pub(crate) fn file_prior(&self, place: &Place, act: &FilesAct) -> Result<FilePrior, CallError> {
        let path = normal(&act.path)?;
        let tree = &self.known(place.target)?.tree;
        let wanted_sha256 = match &act.want {
            FileWant::File { content: Content::CopyOf(source), .. } => Some(source.sha256.clone()),
            FileWant::File { content, .. } => Some(sha256(&self.wanted(content, place.secrets)?)),
            _ => None,
        };
        let node = tree.get(&path);
        let mut prior = FilePrior { stat: node.map(Node::stat), wanted_sha256, ..FilePrior::default() };
        match node.map(|node| &node.kind) {
            Some(Kind::File(content)) => {
                prior.sha256 = Some(sha256(content));
                let differs = prior.sha256 != prior.wanted_sha256;
                prior.content = differs.then(|| Bytes(content.clone()));
            }
            Some(Kind::Directory) if act.want == FileWant::Absent => prior.content = Some(Bytes(tree.archive(&path))),
            Some(Kind::Directory | Kind::Link(_)) => {}
            None => prior.missing_parents = parents(&path).filter(|above| !tree.has(above)).count() as u32,
        }
        Ok(prior)
    }

    pub(crate) fn change_file(&mut self, place: &Place, act: &FilesAct, prior: &Prior) -> Response {
        let path = normal(&act.path)?;
        let now = self.file_prior(place, act)?;
        if matches!(act.want, FileWant::Absent | FileWant::AbsentIfEmpty) && now.stat.is_none() {
            return Ok(Answer::Verdict(Verdict::Unchanged));
        }
        if let Prior::File(prior) = prior
            && (prior.sha256 != now.sha256 || prior.stat.as_ref().map(|s| s.kind) != now.stat.as_ref().map(|s| s.kind))
        {
            return Err(CallError::Conflict(format!("{path} is not any more what it was when it was looked at")));
        }
        let kind = now.stat.as_ref().map(|stat| stat.kind);
        let old = self.known(place.target)?.tree.get(&path).cloned();
        let node = match &act.want {
            FileWant::File { content, attributes, validate } => {
                self.parent_is_there(place.target, &path)?;
                if kind == Some(FileKind::Directory) {
                    return Err(CallError::Conflict(format!("{path} is a directory")));
                }
                let content = self.wanted(content, place.secrets)?;
                self.validate(place.target, &path, &content, validate)?;
                Some(with(Kind::File(content), 0o644, attributes, old.filter(|old| old.content().is_some())))
            }
            FileWant::Directory { attributes } => {
                if kind.is_some_and(|kind| kind != FileKind::Directory) {
                    return Err(CallError::Conflict(format!("{path} is there, and is no directory")));
                }
                Some(with(Kind::Directory, 0o755, attributes, old))
            }
            FileWant::Link { target } => {
                self.parent_is_there(place.target, &path)?;
                if kind == Some(FileKind::Directory) {
                    return Err(CallError::Conflict(format!("{path} is a directory")));
                }
                Some(Node::link(target.clone()))
            }
            FileWant::AbsentIfEmpty if kind == Some(FileKind::Directory) => {
                if !self.known(place.target)?.tree.is_empty(&path) {
                    return Err(CallError::Conflict(format!("{path} is not empty")));
                }
                None
            }
            FileWant::Absent | FileWant::AbsentIfEmpty => None,
            FileWant::Tree { archive } => {
                self.change_machine(place.target)?.tree.unarchive(&archive.0)?;
                return Ok(Answer::Verdict(Verdict::Changed));
            }
        };
        let tree = &mut self.change_machine(place.target)?.tree;
        match node {
            Some(node) => tree.put(&path, node),
            None => tree.remove(&path),
        }
        Ok(Answer::Verdict(Verdict::Changed))
    }

    fn parent_is_there(&self, target: &Target, path: &str) -> Result<(), CallError> {
        let Some(parent) = parents(path).next() else { return Ok(()) };
        let tree = &self.known(target)?.tree;
        if tree.is_directory(&tree.resolve(parent)?) {
            return Ok(());
        }
        Err(CallError::Failed(format!("the directory {parent} does not exist; make it first")))
    }

    /// Runs what checks a new file, with the file beside its place.
    fn validate(&mut self, target: &Target, path: &str, content: &[u8], argv: &[String]) -> Result<(), CallError> {
        if argv.is_empty() {
            return Ok(());
        }
        let beside = format!("{path}.new");
        let argv = argv.iter().map(|word| if word == "{}" { beside.clone() } else { word.clone() }).collect();
        let call = Invocation { argv, ..Invocation::default() };
        self.change_machine(target)?.tree.put(&beside, Node::file(content, 0o600));
        let output = self.execute(target, &call, false);
        self.change_machine(target)?.tree.remove(&beside);
        let output = output?;
        if output.exit.success() {
            return Ok(());
        }
        Err(CallError::Invalid(format!("{path}: the check of it says: {}", output.stderr.lossy())))
    }

    /// What became of a change of files, by what lies at its path.
    pub(crate) fn file_settled(&self, place: &Place, act: &FilesAct, prior: &Prior) -> Result<Finding, CallError> {
        let now = Prior::File(self.file_prior(place, act)?);
        let change = Change { act: Act::Files(act.clone()), effect: Effect::default() };
        Ok(match delta(&change, &now) {
            None => Finding::Done(Answer::Verdict(Verdict::Changed)),
            Some(_) if now == *prior => Finding::NotDone,
            Some(_) => Finding::Unclear(format!("{} is something else", act.path)),
        })
    }
}

fn with(kind: Kind, mode: u32, attributes: &Attributes, old: Option<Node>) -> Node {
    let old_mode = old.as_ref().map(|old| old.mode);
    let (owner, group) = match old {
        Some(old) => (old.owner, old.group),
        None => ("root".to_owned(), "root".to_owned()),
    };
    Node {
        kind,
        mode: attributes.mode.or(old_mode).unwrap_or(mode),
        owner: attributes.owner.clone().unwrap_or(owner),
        group: attributes.group.clone().unwrap_or(group),
    }
}
