//! The packs that are kept on this machine: one file each, found by digest, and by name and version.
//!
//! ```text
//! bob/zfs/1.2.0/9f86d081....pack
//! ```
//!
//! Names of folders are for finding, and prove nothing: a pack that is read from here is verified as any other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use semver::Version;

use crate::image::Digest;
use crate::layout::{self, LayoutError};
use crate::trust::Trusted;

/// The folder of the packs.
#[derive(Debug, Clone)]
pub struct Store(PathBuf);

/// A pack that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Its digest.
    pub digest: Digest,
    /// Its file.
    pub path: PathBuf,
}

impl Store {
    /// The store in this folder, which need not be there.
    pub fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Keeps a pack that was verified. One that is kept already is written again, for its signatures may be more.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn keep(&self, trusted: &Trusted) -> Result<PathBuf, LayoutError> {
        let config = &trusted.pack.config;
        let folder = self.0.join(&config.name).join(&config.version);
        let path = folder.join(format!("{}.pack", trusted.pack.digest.hex()));
        fs::create_dir_all(&folder).map_err(|error| LayoutError::Io { path: folder.clone(), error })?;
        layout::write_file(trusted.pack.image(), &path)?;
        Ok(path)
    }

    /// All packs, by name, the newest of each first.
    ///
    /// # Errors
    ///
    /// When the folder is there and cannot be read.
    pub fn list(&self) -> io::Result<Vec<Kept>> {
        let mut found = Vec::new();
        for top in folders(&self.0)? {
            for inner in folders(&top)? {
                // Names have one or two parts.
                versions(&self.0, &top, &inner, &mut found)?;
                for version in folders(&inner)? {
                    versions(&self.0, &inner, &version, &mut found)?;
                }
            }
        }
        found.sort_by(|a, b| (&a.name, &b.version, &a.digest).cmp(&(&b.name, &a.version, &b.digest)));
        Ok(found)
    }
}

/// The packs in the folder of a version.
fn versions(root: &Path, name: &Path, folder: &Path, found: &mut Vec<Kept>) -> io::Result<()> {
    let text = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Ok(version) = Version::parse(&text(folder)) else { return Ok(()) };
    let Ok(name) = name.strip_prefix(root) else { return Ok(()) };
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let digest = text(&path).strip_suffix(".pack").and_then(|hex| Digest::parse(&format!("sha256:{hex}")).ok());
        let Some(digest) = digest else { continue };
        found.push(Kept { name: name.to_string_lossy().into_owned(), version: version.clone(), digest, path });
    }
    Ok(())
}

/// The folders in a folder; none where there is none.
fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_listed_by_name_the_newest_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let hex = |digit: &str| digit.repeat(64);
        for path in [
            format!("bob/zfs/1.9.0/{}.pack", hex("a")),
            format!("bob/zfs/1.10.0/{}.pack", hex("b")),
            format!("zfs/1.0.0/{}.pack", hex("c")),
            format!("zfs/1.0.0/{}.pack", hex("d")),
            "zfs/1.0.0/notes.txt".to_owned(),
            "zfs/1.0.0/short.pack".to_owned(),
            format!("bob/zfs/newest/{}.pack", hex("e")),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("our own folder");
            fs::write(path, "").expect("our own folder");
        }
        let listed = Store::at(dir.path().to_owned()).list().expect("our own folder");
        let listed: Vec<String> =
            listed.iter().map(|kept| format!("{} {} {}", kept.name, kept.version, &kept.digest.hex()[..1])).collect();
        assert_eq!(listed, ["bob/zfs 1.10.0 b", "bob/zfs 1.9.0 a", "zfs 1.0.0 c", "zfs 1.0.0 d"]);
        assert_eq!(Store::at(dir.path().join("none")).list().expect("nothing there"), []);
    }
}
