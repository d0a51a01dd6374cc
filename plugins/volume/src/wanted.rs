//! Which files are to be in the volume.

use std::collections::BTreeMap;

use runbook_sdk::prelude::*;
use runbook_sdk::{FileKind, Stat};

use crate::input::Input;

/// More are not seeded one by one: an archive, or an image, is the better way.
const MOST: usize = 500;
/// A path goes into the URL of an exec.
const LONGEST: usize = 1000;
/// Directories within directories.
const DEEPEST: usize = 32;

/// A file that is to be there.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Relative to the top of the volume.
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) sha256: String,
    pub(crate) size: u64,
    /// None only in tests.
    pub(crate) source: Option<Source>,
}

/// All files that are to be there, by path.
#[derive(Debug)]
pub(crate) struct Set(pub(crate) Vec<Wanted>);

impl Set {
    /// Finds them on the controller and pins their content.
    ///
    /// # Errors
    ///
    /// `invalid` where the inputs name what is not there, or what cannot be a file of the volume.
    pub(crate) fn collect(input: &Input) -> Result<Self> {
        let tree = Tree::controller();
        let source = input.source.trim_end_matches('/');
        let Some(stat) = tree.stat(source)? else { invalid!("source: there is nothing at {source}") };
        let mut found: BTreeMap<String, (String, u32)> = BTreeMap::new();
        let mut add = |path: String, from: String, mode: Option<Mode>| -> Result<()> {
            check(&path)?;
            if path == input.marker() {
                invalid!("{path} is the name of the marker of this seed: choose another `name`");
            }
            if let Some((other, _)) = found.insert(path.clone(), (from.clone(), mode.unwrap_or(input.mode).bits())) {
                invalid!("{other} and {from} are both to be {path} in the volume");
            }
            ensure_few(found.len())
        };
        match (&stat, &input.files) {
            (Stat { kind: FileKind::File, .. }, None) => {
                let name = source.rsplit('/').next().unwrap_or_default();
                let path = if input.path.is_empty() { name.to_owned() } else { of_file(&input.path, name) };
                add(path, source.to_owned(), None)?;
            }
            (Stat { kind: FileKind::File, .. }, Some(_)) => {
                invalid!("source: with `files`, it is the folder that they are in")
            }
            (Stat { kind: FileKind::Directory, .. }, None) => {
                let mut all = Vec::new();
                walk(&tree, source, "", 0, &mut all)?;
                if all.is_empty() {
                    invalid!("source: there is no file in {source}");
                }
                for below in all {
                    add(join(&input.path, &below), format!("{source}/{below}"), None)?;
                }
            }
            (Stat { kind: FileKind::Directory, .. }, Some(files)) => {
                for file in files {
                    check(&file.source).context("files.source")?;
                    let to = file.path.as_ref().unwrap_or(&file.source);
                    add(join(&input.path, to), format!("{source}/{}", file.source), file.mode)?;
                }
            }
            _ => invalid!("source: {source} is neither a file nor a folder (links are not followed)"),
        }
        let wanted = found.into_iter().map(|(path, (from, mode))| {
            let source = tree.source(&from)?;
            Ok(Wanted { path, mode, sha256: source.sha256(), size: source.size(), source: Some(source) })
        });
        Ok(Self(wanted.collect::<Result<_>>()?))
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|wanted| wanted.size).sum()
    }

    /// What the marker says: as `sha256sum -c` reads it.
    pub(crate) fn marker(&self) -> String {
        self.0.iter().fold(String::new(), |text, wanted| text + &wanted.sha256 + "  " + &wanted.path + "\n")
    }

    /// What the annotation says: changes with content, names, modes and owner.
    pub(crate) fn record(&self, input: &Input) -> String {
        let id = |id: Option<u32>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let modes = self.0.iter().fold(String::new(), |text, wanted| text + &format!("{:o} ", wanted.mode));
        digest(&format!("{}{modes}{}:{}", self.marker(), id(input.owner), id(input.group)))
    }
}

fn ensure_few(count: usize) -> Result<()> {
    if count > MOST {
        invalid!("source: more than {MOST} files: put them into an archive, or into an image with an init container");
    }
    Ok(())
}

/// A file keeps its name where the path ends in `/`.
fn of_file(path: &str, name: &str) -> String {
    if path.ends_with('/') { join(path, name) } else { path.to_owned() }
}

fn join(folder: &str, name: &str) -> String {
    match folder.trim_end_matches('/') {
        "" | "." => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

/// A path below the top of the volume, written as `sha256sum` writes it.
fn check(path: &str) -> Result<()> {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.is_empty() || !path.split('/').all(part) {
        invalid!("{path:?} is not a path below the top of the volume: relative, without . and ..");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') || path.len() > LONGEST {
        invalid!(
            "{path:?}: names with control characters or backslashes, or longer than {LONGEST} bytes, are not seeded"
        );
    }
    Ok(())
}

fn walk(tree: &Tree, top: &str, below: &str, depth: usize, found: &mut Vec<String>) -> Result<()> {
    let folder = if below.is_empty() { top.to_owned() } else { format!("{top}/{below}") };
    if depth > DEEPEST {
        invalid!("source: {folder}: more than {DEEPEST} folders deep");
    }
    for entry in tree.list(&folder)? {
        let path = join(below, &entry.name);
        match entry.stat.kind {
            FileKind::File => found.push(path),
            FileKind::Directory => walk(tree, top, &path, depth + 1, found)?,
            FileKind::Link | FileKind::Other => {
                invalid!(
                    "source: {folder}/{} is a link or a special file: only files and folders are seeded",
                    entry.name
                );
            }
        }
        ensure_few(found.len())?;
    }
    Ok(())
}

/// 128 bits of FNV-1a, as hex: nobody is to be kept from forging it, who could as well change the files.
pub(crate) fn digest(text: &str) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    const START: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let hash = text.bytes().fold(START, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn set(files: &[(&str, &str)]) -> Set {
        let wanted = |(path, sha256): &(&str, &str)| Wanted {
            path: (*path).to_owned(),
            mode: 0o644,
            sha256: (*sha256).to_owned(),
            size: 5,
            source: None,
        };
        Set(files.iter().map(wanted).collect())
    }

    pub(crate) fn input(more: Value) -> Input {
        let mut all = json!({ "namespace": "homeslice", "claim": "chime", "source": "/home/me/chime.mp3" });
        for (key, value) in more.as_object().unwrap() {
            all[key] = value.clone();
        }
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn paths_stay_in_the_volume() {
        for good in ["a", "a/b c", ".hidden", "a/..b", "ü.mp3"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\nb", "a\\b", &"x".repeat(1001)] {
            assert_eq!(check(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
        assert_eq!((join("", "a"), join("x/", "a"), join(".", "a")), ("a".into(), "x/a".into(), "a".into()));
        assert_eq!((of_file("x/", "a"), of_file("x/y", "a")), ("x/a".into(), "x/y".into()));
    }

    #[test]
    fn marker_and_record_change_with_what_they_stand_for() {
        let one = set(&[("a", "11"), ("b/c", "22")]);
        assert_eq!(one.marker(), "11  a\n22  b/c\n");
        assert_eq!(one.bytes(), 10);
        let plain = one.record(&input(json!({})));
        assert_eq!(plain.len(), 32);
        assert_eq!(plain, set(&[("a", "11"), ("b/c", "22")]).record(&input(json!({}))));
        assert_ne!(plain, one.record(&input(json!({ "owner": 0 }))));
        assert_ne!(one.record(&input(json!({ "owner": 1 }))), one.record(&input(json!({ "group": 1 }))));
        assert_ne!(plain, set(&[("a", "12"), ("b/c", "22")]).record(&input(json!({}))));
    }
}
