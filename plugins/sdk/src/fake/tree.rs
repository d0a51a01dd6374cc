//! Files of a fake machine.

use std::collections::BTreeMap;

use crate::bindings::runbook::files::trees::{Entry, Kind, Stat};

/// What is known of a tree: nothing of a path that was not spoken of, but that what was said lies somewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files(BTreeMap<String, Node>);

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) what: What,
    pub(crate) mode: u32,
    pub(crate) owner: String,
    pub(crate) group: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    File(Vec<u8>),
    /// With what was said to be in it, and nothing else.
    Directory,
    Link(String),
    /// Nothing lies there.
    Absent,
}

impl Node {
    pub(crate) fn new(what: What) -> Self {
        let mode = if what == What::Directory { 0o755 } else { 0o644 };
        Self { what, mode, owner: "root".to_owned(), group: "root".to_owned() }
    }

    /// As the host says it; none where nothing lies there.
    pub(crate) fn stat(&self) -> Option<Stat> {
        let (kind, size, link_target) = match &self.what {
            What::File(content) => (Kind::File, content.len() as u64, None),
            What::Directory => (Kind::Directory, 0, None),
            What::Link(target) => (Kind::Link, 0, Some(target.clone())),
            What::Absent => return None,
        };
        let (owner, group) = (self.owner.clone(), self.group.clone());
        Some(Stat { kind, size, mode: self.mode, owner, group, link_target })
    }
}

impl Files {
    pub(crate) fn put(&mut self, path: &str, content: Vec<u8>) {
        self.set(path, Node::new(What::File(content)));
    }

    pub(crate) fn set(&mut self, path: &str, node: Node) {
        if node.what == What::Absent {
            let below = format!("{}/", path.trim_end_matches('/'));
            self.0.retain(|known, _| !known.starts_with(&below));
        }
        self.0.insert(path.to_owned(), node);
    }

    /// What lies at a path. None where that was not said.
    pub(crate) fn get(&self, path: &str) -> Option<Node> {
        if let Some(node) = self.0.get(path) {
            return Some(node.clone());
        }
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            match self.0.get(parent).map(|node| &node.what) {
                Some(What::Directory | What::Absent) => return Some(Node::new(What::Absent)),
                Some(What::File(_) | What::Link(_)) => return None,
                None => above = parent,
            }
        }
        None
    }

    /// The entries of a directory that was said to be one.
    pub(crate) fn list(&self, path: &str) -> Vec<Entry> {
        let below = format!("{}/", path.trim_end_matches('/'));
        let names = self.0.iter().filter_map(|(known, node)| Some((known.strip_prefix(&below)?, node.stat()?)));
        names
            .filter(|(name, _)| !name.contains('/'))
            .map(|(name, stat)| Entry { name: name.to_owned(), stat })
            .collect()
    }
}
