//! Trees of files: what lies at a path, with owner and mode.

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_model::call::{CallError, Entry, FileKind, Stat};
use runbook_model::facet::at_or_below;
use serde::{Deserialize, Serialize};

/// Links that are followed on the way to a file; more are a loop.
const LINKS: usize = 16;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Name of the owner.
    pub owner: String,
    /// Name of the group.
    pub group: String,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A file with this content.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A link, and where it points.
    Link(String),
}

impl Node {
    fn of(kind: Kind, mode: u32) -> Self {
        Self { kind, mode, owner: "root".to_owned(), group: "root".to_owned() }
    }

    /// A file of root.
    pub fn file(content: impl AsRef<[u8]>, mode: u32) -> Self {
        Self::of(Kind::File(content.as_ref().to_vec()), mode)
    }

    /// A directory of root.
    pub fn directory(mode: u32) -> Self {
        Self::of(Kind::Directory, mode)
    }

    /// A link.
    pub fn link(target: impl Into<String>) -> Self {
        Self::of(Kind::Link(target.into()), 0o777)
    }

    /// The content of a file.
    pub fn content(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::File(content) => Some(content),
            Kind::Directory | Kind::Link(_) => None,
        }
    }

    pub(crate) fn stat(&self) -> Stat {
        let (kind, size, link_target) = match &self.kind {
            Kind::File(content) => (FileKind::File, content.len() as u64, None),
            Kind::Directory => (FileKind::Directory, 0, None),
            Kind::Link(target) => (FileKind::Link, 0, Some(target.clone())),
        };
        Stat { kind, size, mode: self.mode, owner: self.owner.clone(), group: self.group.clone(), link_target }
    }
}

/// The files of a machine. Copies share what they have in common, so that one costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(Arc<BTreeMap<String, Node>>);

/// A path without doubled and trailing slashes.
pub(crate) fn normal(path: &str) -> Result<String, CallError> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(CallError::Invalid(format!("the path {path:?} is not absolute")));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(CallError::Denied(format!("`..` in the path {path:?}")));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// The directories above a path, the nearest first; the root is always there, and none of them.
pub(crate) fn parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(path), |above| parent(above))
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent).filter(|parent| !parent.is_empty())
}

impl Tree {
    /// What lies at a path; links are not followed.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    /// Everything, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.0.iter()
    }

    /// Whether something is there. The root is.
    pub(crate) fn has(&self, path: &str) -> bool {
        path == "/" || self.0.contains_key(path)
    }

    pub(crate) fn is_directory(&self, path: &str) -> bool {
        path == "/" || self.get(path).is_some_and(|node| node.kind == Kind::Directory)
    }

    /// Puts something at a path, in the place of what was there. Directories above it are made.
    pub fn put(&mut self, path: &str, node: Node) {
        let nodes = Arc::make_mut(&mut self.0);
        for above in parents(path) {
            nodes.entry(above.to_owned()).or_insert_with(|| Node::directory(0o755));
        }
        nodes.insert(path.to_owned(), node);
    }

    /// Takes a path away, with all that is below it.
    pub fn remove(&mut self, path: &str) {
        if self.has(path) {
            Arc::make_mut(&mut self.0).retain(|other, _| !at_or_below(other, path));
        }
    }

    /// Whether a directory holds nothing.
    pub(crate) fn is_empty(&self, path: &str) -> bool {
        !self.0.keys().any(|other| other != path && at_or_below(other, path))
    }

    /// What lies directly in a directory.
    pub(crate) fn list(&self, path: &str) -> Vec<Entry> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let inside = self.0.iter().filter_map(|(other, node)| {
            let name = other.strip_prefix(&prefix).filter(|name| !name.contains('/'))?;
            Some(Entry { name: name.to_owned(), stat: node.stat() })
        });
        inside.collect()
    }

    /// The content of the file that a path leads to, over links.
    pub fn read(&self, path: &str) -> Result<&[u8], CallError> {
        match self.get(&self.resolve(path)?) {
            Some(node) => node.content().ok_or_else(|| CallError::Invalid(format!("{path} is not a regular file"))),
            None => Err(CallError::NotFound(format!("{path}: nothing is there"))),
        }
    }

    /// The text of a file; empty where there is none.
    pub(crate) fn text(&self, path: &str) -> String {
        self.read(path).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    }

    /// Where a path leads.
    pub(crate) fn resolve(&self, path: &str) -> Result<String, CallError> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let above = std::iter::once(path.as_str()).chain(parents(&path));
            let link = above.filter_map(|above| match self.get(above).map(|node| &node.kind) {
                Some(Kind::Link(target)) => Some((above.to_owned(), target.clone())),
                _ => None,
            });
            let Some((link, target)) = link.last() else { return Ok(path) };
            let rest = path[link.len()..].to_owned();
            path = if target.starts_with('/') {
                normal(&format!("{target}{rest}"))?
            } else {
                climbed(&format!("{}/{target}{rest}", parent(&link).unwrap_or_default()))
            };
        }
        Err(CallError::Failed(format!("{path}: too many links")))
    }

    /// What is below a directory, as if that were the root.
    pub(crate) fn below(&self, top: &str) -> Self {
        let inside = self.0.iter().filter_map(|(path, node)| Some((path.strip_prefix(top)?, node)));
        let inside = inside.filter(|(path, _)| path.starts_with('/'));
        Self(Arc::new(inside.map(|(path, node)| (path.to_owned(), node.clone())).collect()))
    }

    /// A directory as one text, for an undo.
    pub(crate) fn archive(&self, path: &str) -> Vec<u8> {
        let below: Vec<_> = self.0.iter().filter(|(other, _)| at_or_below(other, path)).collect();
        serde_json::to_vec(&below).unwrap_or_default()
    }

    pub(crate) fn unarchive(&mut self, archive: &[u8]) -> Result<(), CallError> {
        let nodes: Vec<(String, Node)> = serde_json::from_slice(archive)
            .map_err(|error| CallError::Invalid(format!("the archive of a directory: {error}")))?;
        nodes.into_iter().for_each(|(path, node)| self.put(&path, node));
        Ok(())
    }
}

/// A path whose `..` are taken at their word.
fn climbed(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_loops_are_not() {
        let mut tree = Tree::default();
        tree.put("/srv/v2/conf", Node::file("two", 0o644));
        tree.put("/srv/now", Node::link("v2"));
        tree.put("/etc/app", Node::link("../srv/now"));
        assert_eq!(tree.read("/etc/app/conf").expect("a file"), b"two");
        assert!(matches!(tree.read("/etc/app/none"), Err(CallError::NotFound(_))));
        tree.put("/a", Node::link("/b"));
        tree.put("/b", Node::link("/a"));
        assert!(matches!(tree.read("/a"), Err(CallError::Failed(_))));
    }

    #[test]
    fn a_copy_is_not_changed_with_the_original() {
        let mut tree = Tree::default();
        tree.put("/a/b", Node::file("x", 0o600));
        let before = tree.clone();
        let archive = tree.archive("/a");
        tree.remove("/a");
        assert!(tree.is_empty("/") && before.has("/a/b"));
        tree.unarchive(&archive).expect("our own");
        assert_eq!(tree, before);
    }
}
