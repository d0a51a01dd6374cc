//! Facets: the parts of a target that changes alter and observations read, so that a plan knows what it cannot know yet.

use crate::call::{FilesLook, KubeLook, Look, SshLook, Target};

/// A part of a target: a word with an optional `:name` ("path:/etc", "service:containerd", "version"), or all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facet {
    /// Of which target.
    pub target: Target,
    /// Which part; none: all of it.
    pub part: Option<String>,
}

impl Facet {
    /// All of a target.
    pub fn all(target: &Target) -> Self {
        Self { target: target.clone(), part: None }
    }

    /// One part of a target.
    pub fn part(target: &Target, part: impl Into<String>) -> Self {
        Self { target: target.clone(), part: Some(part.into()) }
    }

    /// A path of a target.
    pub fn path(target: &Target, path: &str) -> Self {
        Self::part(target, format!("path:{path}"))
    }

    /// Whether the two have something in common: one path at or below the other, the same word, a word and one of its names.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.target != other.target {
            return false;
        }
        let (Some(a), Some(b)) = (&self.part, &other.part) else { return true };
        match (a.strip_prefix("path:"), b.strip_prefix("path:")) {
            (Some(a), Some(b)) => at_or_below(a, b) || at_or_below(b, a),
            (None, None) => {
                a == b
                    || a.strip_prefix(b.as_str()).is_some_and(|rest| rest.starts_with(':'))
                    || b.strip_prefix(a.as_str()).is_some_and(|rest| rest.starts_with(':'))
            }
            _ => false,
        }
    }
}

/// Whether `path` is `top` or lies below it. Both are normalised.
pub fn at_or_below(path: &str, top: &str) -> bool {
    let top = top.trim_end_matches('/');
    path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))
}

/// What an observation reads.
pub fn reads(target: &Target, look: &Look) -> Vec<Facet> {
    match look {
        Look::Ssh(SshLook::Facts) => vec![Facet::part(target, "facts")],
        Look::Ssh(SshLook::Observe { commands }) => commands
            .iter()
            .flat_map(|command| match command.reads.as_slice() {
                [] => vec![Facet::all(target)],
                parts => parts.iter().map(|part| Facet::part(target, part)).collect(),
            })
            .collect(),
        // What listens, or resolves, may depend on anything there.
        Look::Ssh(SshLook::Http { .. } | SshLook::Tcp { .. } | SshLook::Resolve { .. }) => vec![Facet::all(target)],
        Look::Files(look) => vec![files_reads(target, look)],
        Look::Kube(KubeLook::Exec { pod, .. } | KubeLook::CopyOut { pod, .. }) => {
            let namespace = pod.namespace.as_deref().unwrap_or_default();
            vec![Facet::part(target, format!("pod:{namespace}/{}", pod.name))]
        }
        // Objects are answered by the overlay, object by object.
        Look::Kube(
            KubeLook::Uid
            | KubeLook::Get { .. }
            | KubeLook::List { .. }
            | KubeLook::Logs { .. }
            | KubeLook::Wait { .. }
            | KubeLook::WaitNone { .. },
        ) => vec![Facet::part(target, "objects")],
    }
}

fn files_reads(target: &Target, look: &FilesLook) -> Facet {
    Facet::path(target, look.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_follows_paths_and_words() {
        let machine = Target::Machine("n1".into());
        let cases = [
            ("path:/etc", "path:/etc/hosts", true),
            ("path:/etc/hosts", "path:/etc", true),
            ("path:/etc", "path:/etcetera", false),
            ("service:a", "service:b", false),
            ("service:a", "service", true),
            ("version", "version", true),
            ("path:/etc", "version", false),
        ];
        for (a, b, expect) in cases {
            assert_eq!(Facet::part(&machine, a).overlaps(&Facet::part(&machine, b)), expect, "{a} {b}");
        }
        assert!(Facet::all(&machine).overlaps(&Facet::part(&machine, "version")));
        assert!(!Facet::all(&machine).overlaps(&Facet::all(&Target::Machine("n2".into()))));
    }
}
