//! What a pack says of itself: the configuration of its image. All of it can be read from its parts, too, and must agree with them.

use runbook_model::manifest::{Ask, Manifest as PluginManifest};
use serde::{Deserialize, Serialize};

use crate::component::Component;
use crate::image::Digest;

/// `artifactType` of a pack.
pub const PACK_TYPE: &str = "application/vnd.runbook.pack.v1+json";

/// Media type of a pack's configuration.
pub const CONFIG_TYPE: &str = "application/vnd.runbook.pack.config.v1+json";

/// Media type of components, as the tools of the WebAssembly ecosystem have it.
pub const COMPONENT_TYPE: &str = "application/wasm";

/// Media type of all other files.
pub const FILE_TYPE: &str = "application/vnd.runbook.file.v1";

/// The annotation of a layer that holds its path.
pub const TITLE: &str = "org.opencontainers.image.title";

/// Bytes of a configuration. That of a plugin with 200 asks has some 50 KiB.
pub const MAX_CONFIG: usize = 4 << 20;

/// Characters of a path in a pack.
const MAX_PATH: usize = 200;

/// What a pack says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// 1.
    pub schema: u32,
    /// "zfs", or with whose it is: "bob/zfs".
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// One line.
    pub summary: String,
    /// SPDX expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Its plugins.
    pub plugins: Vec<PackedPlugin>,
    /// Its other files.
    pub files: Vec<PackedFile>,
}

/// A plugin of a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedPlugin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its component.
    pub digest: Digest,
    /// What it imports: the versions of the host that it was made for.
    pub imports: Vec<String>,
    /// What its actions ask for, and why.
    pub actions: Vec<PackedAction>,
}

/// An action of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedAction {
    /// Its name.
    pub name: String,
    /// What it asks for.
    pub asks: Vec<Ask>,
}

/// A file of a pack that is no component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedFile {
    /// Where it stood in the author's folder; of safe characters, and never outside of it.
    pub path: String,
    /// What it is for.
    pub kind: FileKind,
    /// Its content.
    pub digest: Digest,
}

/// What a file of a pack is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A runbook.
    Runbook,
    /// Something to read.
    Doc,
    /// A recorded run, which tests of the plugins replay.
    Cassette,
}

impl PackedPlugin {
    /// What a pack says of this component.
    pub fn of(component: &Component, digest: Digest) -> Self {
        Self {
            name: component.manifest.name.clone(),
            version: component.manifest.version.clone(),
            digest,
            imports: component.imports.clone(),
            actions: packed_actions(&component.manifest),
        }
    }

    /// The title of its layer.
    pub fn title(&self) -> String {
        format!("{}.wasm", self.name)
    }
}

/// The actions of a plugin with what they ask for.
pub fn packed_actions(manifest: &PluginManifest) -> Vec<PackedAction> {
    let packed = |action: &runbook_model::manifest::Action| PackedAction {
        name: action.name.clone(),
        asks: action.asks.clone(),
    };
    manifest.actions.iter().map(packed).collect()
}

/// What a configuration, or the file that it is made of, can get wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not a name.
    #[error("`{0}` is not the name of a pack: use lower-case letters, digits and `-`, with at most one `/`")]
    Name(String),
    /// Not a version.
    #[error("`{0}` is not a semantic version such as 1.2.3 (what stands behind a `+` has no place in a registry)")]
    Version(String),
    /// Not one line.
    #[error("`{0}` must be one line of 1 to 500 characters")]
    Line(&'static str),
    /// A path that leads elsewhere.
    #[error("the path `{0}` leads out of the pack, or has characters that files of a pack must not have")]
    Path(String),
    /// Something that is there twice.
    #[error("`{0}` is there twice")]
    Twice(String),
    /// Nothing in it.
    #[error("it has neither a plugin nor a runbook")]
    Empty,
}

/// Checks what a person wrote, or claims to have written.
///
/// # Errors
///
/// The first mistake.
pub fn check_words(name: &str, version: &str, summary: &str, license: Option<&str>) -> Result<(), ConfigError> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part.len() <= 64
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 || !parts.iter().all(|text| part(text)) {
        return Err(ConfigError::Name(crate::image::said(name)));
    }
    if !semver::Version::parse(version).is_ok_and(|version| version.build.is_empty()) {
        return Err(ConfigError::Version(crate::image::said(version)));
    }
    for (what, text) in [("summary", Some(summary)), ("license", license)] {
        let Some(text) = text else { continue };
        if text.trim().is_empty() || text.chars().count() > 500 || text.chars().any(char::is_control) {
            return Err(ConfigError::Line(what));
        }
    }
    Ok(())
}

/// Checks a path: relative, no way up, nothing that a shell, a terminal or another file system would take for something else.
///
/// # Errors
///
/// When it is not so.
pub fn check_path(path: &str) -> Result<(), ConfigError> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.+ ".contains(c);
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(good);
    if path.len() <= MAX_PATH && !path.starts_with('-') && path.split('/').all(part) {
        return Ok(());
    }
    Err(ConfigError::Path(crate::image::said(path)))
}

impl Config {
    /// Checks it by itself.
    ///
    /// # Errors
    ///
    /// The first mistake.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_words(&self.name, &self.version, &self.summary, self.license.as_deref())?;
        let has_runbook = self.files.iter().any(|file| file.kind == FileKind::Runbook);
        if self.plugins.is_empty() && !has_runbook {
            return Err(ConfigError::Empty);
        }
        let mut names = std::collections::BTreeSet::new();
        for name in self.plugins.iter().map(PackedPlugin::title).chain(self.files.iter().map(|file| file.path.clone()))
        {
            check_path(&name)?;
            if let Some(twice) = names.replace(name) {
                return Err(ConfigError::Twice(twice));
            }
        }
        Ok(())
    }
}
