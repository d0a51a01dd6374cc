//! From an author's folder to a pack: `pack.toml`, and the files that it names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::component::{self, MAX_COMPONENT, ReadError};
use crate::config::{
    CONFIG_TYPE, Config, ConfigError, FileKind, PACK_TYPE, PackedFile, PackedPlugin, TITLE, check_path, check_words,
};
use crate::file::read_file;
use crate::image::{Descriptor, Digest, Image, MANIFEST_TYPE, Manifest};
use crate::pack::{Pack, PackError, parts};

/// Name of the file that authors write.
pub const SOURCE: &str = "pack.toml";

/// Bytes of a file that is no component.
const MAX_FILE: usize = 16 << 20;

/// Folders in folders.
const MAX_DEPTH: usize = 8;

/// Where the build of a plugin project leaves its component, relative to the project: `runbook plugin build`, another one, the target
/// folder of cargo, that of a workspace.
const BUILT: [&str; 5] = ["build", ".", "dist", "target/wasm32-wasip2/release", "../target/wasm32-wasip2/release"];

/// `pack.toml`, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// 1.
    pub schema: u32,
    /// See [`Config`].
    pub name: String,
    /// See [`Config`].
    pub version: String,
    /// See [`Config`].
    pub summary: String,
    /// See [`Config`].
    pub license: Option<String>,
    /// Components, or folders of plugins that were built.
    #[serde(default)]
    pub plugins: Vec<String>,
    /// Files or folders.
    #[serde(default)]
    pub runbooks: Vec<String>,
    /// Files or folders.
    #[serde(default)]
    pub docs: Vec<String>,
    /// Files or folders.
    #[serde(default)]
    pub cassettes: Vec<String>,
}

/// Why no pack was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file that cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// `pack.toml` is not as it should be.
    #[error("{}: {message}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        message: String,
    },
    /// What it says makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A component that is no plugin.
    #[error("{}: {error}", path.display())]
    Component {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ReadError,
    },
    /// A folder in which no component, or more than one, was found.
    #[error("{}: {found} components were found there, not one; build the plugin, or name the file", path.display())]
    NotOne {
        /// The folder.
        path: PathBuf,
        /// How many.
        found: usize,
    },
    /// Something that is neither a file nor a folder, or lies too deep.
    #[error("{}: it is no file, or lies too deep, or is larger than {} MiB", .0.display(), MAX_FILE >> 20)]
    Odd(PathBuf),
    /// What was built cannot be read again.
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// Builds the pack of a folder: the same files give the same bytes, whenever and wherever that is.
///
/// # Errors
///
/// What is wrong with the folder.
pub fn build(folder: &Path) -> Result<Pack, BuildError> {
    let source = read_source(&folder.join(SOURCE))?;
    let mut blobs = BTreeMap::new();
    let mut keep = |bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        blobs.insert(digest.clone(), bytes);
        digest
    };
    let mut plugins = Vec::new();
    for path in &source.plugins {
        let (path, bytes) = read_component(&folder.join(path))?;
        let component = component::read(&bytes).map_err(|error| BuildError::Component { path, error })?;
        plugins.push(PackedPlugin::of(&component, keep(bytes)));
    }
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    let mut files = Vec::new();
    let kinds =
        [(FileKind::Runbook, &source.runbooks), (FileKind::Doc, &source.docs), (FileKind::Cassette, &source.cassettes)];
    for (kind, named) in kinds {
        for path in named {
            let mut found = Vec::new();
            gather(folder, path.trim_start_matches("./").trim_end_matches('/'), 0, &mut found)?;
            for (path, bytes) in found {
                files.push(PackedFile { path, kind, digest: keep(bytes) });
            }
        }
    }
    files.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
    let Source { name, version, summary, license, .. } = source;
    let config = Config { schema: 1, name, version, summary, license, plugins, files };
    config.check()?;
    Ok(Pack::read(assemble(&config, blobs))?)
}

fn read_source(path: &Path) -> Result<Source, BuildError> {
    let text = fs::read_to_string(path).map_err(|error| BuildError::Io { path: path.to_owned(), error })?;
    Source::parse(path, &text)
}

impl Source {
    /// Reads a text; `path` is where it lies, for messages.
    ///
    /// # Errors
    ///
    /// [`BuildError::Source`], [`BuildError::Config`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, BuildError> {
        let wrong = |message: String| BuildError::Source { path: path.to_owned(), message };
        // A message has the line that is wrong in it, and with that whatever stands there.
        let source: Self = toml::from_str(text).map_err(|error| wrong(plain(&error.to_string())))?;
        if source.schema != 1 {
            let schema = source.schema;
            return Err(wrong(format!("this version of runbook reads `schema = 1`, and the file says {schema}")));
        }
        check_words(&source.name, &source.version, &source.summary, source.license.as_deref())?;
        Ok(source)
    }
}

/// Lines as they can go to a terminal.
fn plain(text: &str) -> String {
    let escaped = |c: char| c.is_control() && c != '\n';
    text.chars().map(|c| if escaped(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A component, or the one that the build of a project has left.
fn read_component(path: &Path) -> Result<(PathBuf, Vec<u8>), BuildError> {
    let found = if path.is_dir() { built(path) } else { vec![path.to_owned()] };
    let [file] = found.as_slice() else {
        return Err(BuildError::NotOne { path: path.to_owned(), found: found.len() });
    };
    Ok((file.clone(), read_whole(file, MAX_COMPONENT)?))
}

fn built(project: &Path) -> Vec<PathBuf> {
    let project_name = project.canonicalize().ok();
    let name = project_name.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().replace('-', "_"));
    for place in BUILT {
        let Ok(entries) = fs::read_dir(project.join(place)) else { continue };
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "wasm") && path.is_file())
            .collect();
        // The target folder of a workspace holds the components of its other members, too.
        let is_its_own = |path: &PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().replace('-', "_")) == name;
        if found.iter().any(is_its_own) {
            found.retain(is_its_own);
        }
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// The files at or below a path, as the pack calls them, in the order of their names. What begins with a dot is left out.
fn gather(root: &Path, path: &str, depth: usize, found: &mut Vec<(String, Vec<u8>)>) -> Result<(), BuildError> {
    check_path(path)?;
    let whole = root.join(path);
    let io = |error| BuildError::Io { path: whole.clone(), error };
    // A link could lead out of the folder.
    let kind = fs::symlink_metadata(&whole).map_err(io)?.file_type();
    if kind.is_file() {
        found.push((path.to_owned(), read_whole(&whole, MAX_FILE)?));
        return Ok(());
    }
    if !kind.is_dir() || depth == MAX_DEPTH {
        return Err(BuildError::Odd(whole));
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&whole).map_err(io)? {
        names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    for name in names.iter().filter(|name| !name.starts_with('.')) {
        gather(root, &format!("{path}/{name}"), depth + 1, found)?;
    }
    Ok(())
}

fn read_whole(path: &Path, limit: usize) -> Result<Vec<u8>, BuildError> {
    let bytes = read_file(path, limit).map_err(|error| BuildError::Io { path: path.to_owned(), error })?;
    if bytes.len() > limit {
        return Err(BuildError::Odd(path.to_owned()));
    }
    Ok(bytes)
}

/// The image of a pack.
fn assemble(config: &Config, mut blobs: BTreeMap<Digest, Vec<u8>>) -> Image {
    // Serialising what holds neither maps with other keys than texts nor numbers that are none cannot fail.
    let text = serde_json::to_vec(config).unwrap_or_default();
    let layer = |(media_type, digest, title): (&str, &Digest, String)| Descriptor {
        annotations: BTreeMap::from([(TITLE.to_owned(), title)]),
        ..Descriptor::of(media_type, blobs.get(digest).map(Vec::as_slice).unwrap_or_default())
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE.to_owned(),
        artifact_type: Some(PACK_TYPE.to_owned()),
        config: Descriptor::of(CONFIG_TYPE, &text),
        layers: parts(config).map(layer).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    };
    blobs.insert(Digest::of(&text), text);
    Image { manifest: serde_json::to_vec(&manifest).unwrap_or_default(), blobs, signatures: Vec::new() }
}
