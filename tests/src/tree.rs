//! A directory tree as it was at one moment.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// A directory tree as it was at one moment: paths, kinds, modes, owners, contents.
///
/// Two of them are equal when nothing of that differs. Times and inode numbers are kept too, but only
/// [`assert_untouched`](Self::assert_untouched) looks at them.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Kind, mode, owner and content, in words.
    what: String,
    /// Inode and time of change: a rewrite with the same content shows here.
    touched: (u64, i64, i64),
}

impl Tree {
    /// Reads the tree below `root`; one that does not exist is empty.
    ///
    /// # Panics
    ///
    /// When something in it cannot be read.
    pub fn of(root: impl AsRef<Path>) -> Self {
        let mut tree = Self { root: root.as_ref().to_owned(), entries: BTreeMap::new() };
        if tree.root.symlink_metadata().is_ok() {
            tree.walk(PathBuf::new());
        }
        tree
    }

    fn walk(&mut self, below: PathBuf) {
        let path = self.root.join(&below);
        let fail = |e: std::io::Error| -> ! { panic!("reading {}: {e}", path.display()) };
        let meta = path.symlink_metadata().unwrap_or_else(|e| fail(e));
        let kind = meta.file_type();
        let content = if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_else(|e| fail(e));
            format!("file of {} bytes {}", bytes.len(), hex::encode(Sha256::digest(&bytes)))
        } else if kind.is_symlink() {
            format!("link to {}", std::fs::read_link(&path).unwrap_or_else(|e| fail(e)).display())
        } else if kind.is_dir() {
            "directory".to_owned()
        } else if kind.is_socket() {
            "socket".to_owned()
        } else if kind.is_char_device() && meta.rdev() == 0 {
            // What an overlay's layer holds for something that was removed.
            "removed".to_owned()
        } else {
            "something else".to_owned()
        };
        let what = format!("{content} {:04o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid());
        self.entries.insert(below.clone(), Entry { what, touched: (meta.ino(), meta.ctime(), meta.ctime_nsec()) });
        if kind.is_dir() {
            let children = std::fs::read_dir(&path).unwrap_or_else(|e| fail(e));
            for child in children {
                self.walk(below.join(child.unwrap_or_else(|e| fail(e)).file_name()));
            }
        }
    }

    /// Without what an overlay's layer keeps of folders that were made and removed again: the folders above them, where nothing
    /// else is in them, and that they are gone.
    #[must_use]
    pub fn without_traces_of(mut self, path: &str) -> Self {
        let gone = |entry: &Entry| entry.what.starts_with("removed");
        if self.entries.get(Path::new(path)).is_some_and(gone) {
            self.entries.remove(Path::new(path));
        }
        for above in Path::new(path).ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            let holds_something = self.entries.keys().any(|other| other != above && other.starts_with(above));
            if holds_something {
                break;
            }
            self.entries.remove(above);
        }
        self
    }

    /// The paths in it, relative to its root; the root itself is the empty path.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.entries.keys().map(PathBuf::as_path)
    }

    /// What became of it: one line for each path that differs in `later`, such as `+ etc/foo: file of 3 bytes ...`.
    pub fn differences(&self, later: &Tree) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, entry) in &self.entries {
            match later.entries.get(path) {
                None => lines.push(format!("- {}: {}", path.display(), entry.what)),
                Some(now) if now.what != entry.what => {
                    lines.push(format!("~ {}: {} -> {}", path.display(), entry.what, now.what))
                }
                Some(_) => {}
            }
        }
        for (path, now) in &later.entries {
            if !self.entries.contains_key(path) {
                lines.push(format!("+ {}: {}", path.display(), now.what));
            }
        }
        lines
    }

    /// Reads the tree again and finds nothing different.
    ///
    /// # Panics
    ///
    /// When something differs, with all that does.
    pub fn assert_unchanged(&self) {
        let differences = self.differences(&Self::of(&self.root));
        assert!(differences.is_empty(), "{} was to stay as it was:\n{}", self.root.display(), differences.join("\n"));
    }

    /// The same, and nothing was even written again with the content that it had.
    ///
    /// # Panics
    ///
    /// When something was touched, with all that was.
    pub fn assert_untouched(&self) {
        self.assert_unchanged();
        let now = Self::of(&self.root);
        let touched: Vec<_> = self
            .entries
            .iter()
            .filter(|(path, e)| now.entries.get(*path).is_some_and(|n| n.touched != e.touched))
            .map(|(path, _)| path.display().to_string())
            .collect();
        assert!(touched.is_empty(), "in {}, these were to be left alone:\n{}", self.root.display(), touched.join("\n"));
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.differences(other).is_empty()
    }
}
