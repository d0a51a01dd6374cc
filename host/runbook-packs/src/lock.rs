//! `runbook.lock`: which packs and plugins from elsewhere the runbooks of a folder use, by digest, and what their owner granted them.
//!
//! It lies beside the runbooks and is kept with them. [`Lock::check`] is what every use of such a plugin passes before it runs.

use std::collections::BTreeSet;

use runbook_model::consent::{self, Granted};
use runbook_model::pack_source::PackSource;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::image::Digest;

/// Name of the file.
pub const LOCK: &str = "runbook.lock";

/// Bytes of a lock. That of a plugin with 200 asks has some 30 KiB.
pub const MAX_LOCK: usize = 8 << 20;

const HEAD: &str = "\
# Packs and plugins that are not part of the program: which ones the runbooks of this folder use, and what they may do.
# `runbook grant` writes it after it has shown what they ask for. Keep it with the runbooks.
";

/// A lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    packs: Vec<LockedPack>,
    plugins: Vec<LockedPlugin>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(default, rename = "pack")]
    packs: Vec<LockedPack>,
    #[serde(default, rename = "plugin")]
    plugins: Vec<LockedPlugin>,
}

/// A pack that a runbook uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPack {
    /// The runbook's file, in the folder of the lock.
    pub runbook: String,
    /// The pack's name in the runbook.
    pub name: String,
    /// Where it comes from, as the runbook says it.
    pub source: String,
    /// Its version.
    #[serde(with = "as_text")]
    pub version: Version,
    /// Its digest.
    pub digest: Digest,
    /// Fingerprint of the key that signed it.
    pub signer: String,
}

/// A plugin that a runbook uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPlugin {
    /// The runbook's file, in the folder of the lock.
    pub runbook: String,
    /// Its name.
    pub name: String,
    /// The pack that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<String>,
    /// Its name in the pack, where the runbook gives it another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_pack: Option<String>,
    /// The path of its component, where it is in no pack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its version.
    #[serde(with = "as_text")]
    pub version: Version,
    /// Its component.
    pub digest: Digest,
    /// What its owner granted it.
    #[serde(default)]
    pub granted: Vec<Granted>,
}

impl LockedPlugin {
    /// Whether both are one plugin, if perhaps in two versions: the same plugin of the same pack, or the same component. A name is the
    /// runbook's, and may stand for another plugin tomorrow.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.digest == other.digest || (&self.pack, &self.in_pack) == (&other.pack, &other.in_pack)
    }

    /// "`zfs` of the pack `bob`".
    fn whose(&self) -> String {
        match &self.pack {
            Some(pack) => format!("`{}` of the pack `{pack}`", self.in_pack.as_ref().unwrap_or(&self.name)),
            None => format!("the file {}", self.source.as_deref().unwrap_or_default()),
        }
    }
}

/// A plugin from elsewhere as a runbook would use it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// As it would be locked; `granted` is what the actions that are used ask for.
    pub plugin: LockedPlugin,
    /// Its pack, as it would be locked.
    pub pack: Option<LockedPack>,
}

/// Why a lock cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// More bytes than [`MAX_LOCK`].
    #[error("it is larger than {} MiB", MAX_LOCK >> 20)]
    TooLarge,
    /// Not TOML of the right shape.
    #[error("{0}")]
    Shape(String),
    /// Of a later version.
    #[error("it was written by a newer version of runbook (version {0})")]
    Newer(u32),
    /// Two entries for one thing, as a merge may leave them.
    #[error("it has two entries for `{name}` in {runbook}")]
    Twice {
        /// The runbook's file.
        runbook: String,
        /// The pack or plugin.
        name: String,
    },
}

/// Why a plugin may not be used as the lock stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody was asked.
    #[error("the plugin `{plugin}` is from elsewhere, and nothing was granted to it in {runbook}")]
    Unknown {
        /// The plugin.
        plugin: String,
        /// The runbook's file.
        runbook: String,
    },
    /// The name stands for another plugin than when it was granted something.
    #[error("the plugin `{plugin}` is {found} here, and what was granted in {runbook} was granted to {locked}")]
    Another {
        /// The plugin.
        plugin: String,
        /// The runbook's file.
        runbook: String,
        /// What the name stands for.
        found: String,
        /// What it stood for.
        locked: String,
    },
    /// The content is not what was granted.
    #[error("{what} is not what was granted: the lock has {locked}, this is {found}")]
    Digest {
        /// "the pack `zfs`".
        what: String,
        /// In the lock.
        locked: Digest,
        /// What is there.
        found: Digest,
    },
    /// The version is older than what was granted: perhaps somebody serves old packs.
    #[error("{what} has the version {found}, which is older than {locked}, which the lock has")]
    Older {
        /// "the pack `zfs`".
        what: String,
        /// In the lock.
        locked: Box<Version>,
        /// What is there.
        found: Box<Version>,
    },
    /// Somebody else signed it.
    #[error("{what} {found} is signed by {by}, and {locked}, which the lock has, was signed by {before}")]
    Signer {
        /// "the pack `zfs`".
        what: String,
        /// Version that is there.
        found: Box<Version>,
        /// Fingerprint of the key.
        by: String,
        /// Version in the lock.
        locked: Box<Version>,
        /// Fingerprint of its key.
        before: String,
    },
    /// It asks for more.
    #[error("the plugin `{plugin}` {found} asks for more than was granted to {locked}{}", lines(.more))]
    More {
        /// The plugin.
        plugin: String,
        /// Version in the lock.
        locked: Box<Version>,
        /// Version that is there.
        found: Box<Version>,
        /// What was not granted.
        more: Vec<Granted>,
    },
}

fn lines(powers: &[Granted]) -> String {
    powers.iter().map(|power| format!("\n  + {power}")).collect()
}

/// How a plugin stands that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The lock has it as it is.
    Locked,
    /// The runbook names a newer pack than the lock has, which asks for nothing more.
    Newer,
}

impl Lock {
    /// Reads a lock.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        if text.len() > MAX_LOCK {
            return Err(LockError::TooLarge);
        }
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let shape = |error: toml::de::Error| LockError::Shape(error.to_string());
        let Head { version } = toml::from_str(text).map_err(shape)?;
        if version != 1 {
            return Err(LockError::Newer(version));
        }
        let File { packs, plugins, .. } = toml::from_str(text).map_err(shape)?;
        once(packs.iter().map(|pack| (&pack.runbook, &pack.name)))?;
        once(plugins.iter().map(|plugin| (&plugin.runbook, &plugin.name)))?;
        Ok(Self { packs, plugins })
    }

    /// The pack that a runbook knows by this name.
    pub fn pack(&self, runbook: &str, name: &str) -> Option<&LockedPack> {
        self.packs.iter().find(|pack| pack.runbook == runbook && pack.name == name)
    }

    /// The versions of a pack that any runbook has locked, by the pack's own name. Sources that are paths do not tell it.
    pub fn versions(&self, name: &str) -> impl Iterator<Item = &Version> {
        let is_of =
            move |source: &str| matches!(PackSource::parse(source), Ok(PackSource::Stored(known)) if known.is_of(name));
        self.packs.iter().filter(move |pack| is_of(&pack.source)).map(|pack| &pack.version)
    }

    /// What is locked of a plugin.
    pub fn plugin(&self, runbook: &str, name: &str) -> Option<&LockedPlugin> {
        self.plugins.iter().find(|plugin| plugin.runbook == runbook && plugin.name == name)
    }

    /// The runbook and the name of each plugin.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.plugins.iter().map(|plugin| (plugin.runbook.as_str(), plugin.name.as_str()))
    }

    /// Locks a runbook's plugins as they are. What the lock had of this runbook before goes; that of others stays.
    pub fn grant(&mut self, runbook: &str, uses: &[Use]) {
        self.packs.retain(|pack| pack.runbook != runbook);
        self.plugins.retain(|plugin| plugin.runbook != runbook);
        for Use { plugin, pack } in uses {
            self.plugins.push(plugin.clone());
            if let Some(pack) = pack {
                self.packs.retain(|known| known != pack);
                self.packs.push(pack.clone());
            }
        }
    }

    /// Whether a plugin may be used, and how it stands.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self, wanted: &Use) -> Result<Standing, Refusal> {
        let Use { plugin, pack } = wanted;
        let Some(locked) = self.plugin(&plugin.runbook, &plugin.name) else {
            return Err(Refusal::Unknown { plugin: plugin.name.clone(), runbook: plugin.runbook.clone() });
        };
        if pack.is_some() && !locked.is_same_as(plugin) {
            let (found, locked) = (plugin.whose(), locked.whose());
            let (plugin, runbook) = (plugin.name.clone(), plugin.runbook.clone());
            return Err(Refusal::Another { plugin, runbook, found, locked });
        }
        let standing = match pack {
            Some(pack) => self.check_pack(pack, plugin)?,
            None => {
                let what = format!("the plugin `{}`", plugin.name);
                not_older(&what, &plugin.version, &locked.version)?;
                // What nobody signed is known by its digest alone.
                same(&what, &plugin.digest, &locked.digest)?;
                Standing::Locked
            }
        };
        let more: Vec<Granted> = consent::missing(&plugin.granted, &locked.granted).into_iter().cloned().collect();
        if more.is_empty() {
            return Ok(standing);
        }
        let (found, locked) = (Box::new(plugin.version.clone()), Box::new(locked.version.clone()));
        Err(Refusal::More { plugin: plugin.name.clone(), locked, found, more })
    }

    fn check_pack(&self, pack: &LockedPack, plugin: &LockedPlugin) -> Result<Standing, Refusal> {
        let Some(locked) = self.pack(&pack.runbook, &pack.name) else {
            return Err(Refusal::Unknown { plugin: plugin.name.clone(), runbook: pack.runbook.clone() });
        };
        if locked.digest == pack.digest {
            return Ok(Standing::Locked);
        }
        let what = format!("the pack `{}`", pack.name);
        not_older(&what, &pack.version, &locked.version)?;
        // Only the owner, in the runbook, says that another pack is meant.
        if locked.source == pack.source || locked.version == pack.version {
            same(&what, &pack.digest, &locked.digest)?;
        }
        if locked.signer == pack.signer {
            return Ok(Standing::Newer);
        }
        let (by, before) = (pack.signer.clone(), locked.signer.clone());
        let (found, locked) = (Box::new(pack.version.clone()), Box::new(locked.version.clone()));
        Err(Refusal::Signer { what, found, by, locked, before })
    }

    /// The file, in an order that does not depend on who wrote it when.
    pub fn to_text(&self) -> String {
        let (mut packs, mut plugins) = (self.packs.clone(), self.plugins.clone());
        packs.sort_by(|a, b| (&a.runbook, &a.name).cmp(&(&b.runbook, &b.name)));
        plugins.sort_by(|a, b| (&a.runbook, &a.name).cmp(&(&b.runbook, &b.name)));
        let mut text = format!("{HEAD}version = 1\n");
        for pack in &packs {
            text += "\n[[pack]]\n";
            text += &toml::to_string(pack).unwrap_or_default();
        }
        for plugin in &plugins {
            let mut granted: Vec<String> = plugin.granted.iter().map(inline).collect();
            granted.sort_unstable();
            granted.dedup();
            let head = LockedPlugin { granted: Vec::new(), ..plugin.clone() };
            text += "\n[[plugin]]\n";
            // Only the last line is ours to replace: a name may hold any text.
            let head = toml::to_string(&head).unwrap_or_default();
            text += head.strip_suffix("granted = []\n").unwrap_or(&head);
            text += "granted = [\n";
            text += &granted.iter().map(|line| format!("    {line},\n")).collect::<String>();
            text += "]\n";
        }
        text
    }
}

fn once<'a>(names: impl Iterator<Item = (&'a String, &'a String)>) -> Result<(), LockError> {
    let mut seen = BTreeSet::new();
    for (runbook, name) in names {
        if !seen.insert((runbook, name)) {
            return Err(LockError::Twice { runbook: runbook.clone(), name: name.clone() });
        }
    }
    Ok(())
}

/// Versions as texts.
mod as_text {
    use semver::Version;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(version: &Version, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(version)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Version, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// A power on one line, so that a difference shows powers.
fn inline(power: &Granted) -> String {
    let mut text = String::new();
    // A struct of texts can be written.
    let _ = power.serialize(toml::ser::ValueSerializer::new(&mut text));
    text
}

fn same(what: &str, found: &Digest, locked: &Digest) -> Result<(), Refusal> {
    if found == locked {
        return Ok(());
    }
    Err(Refusal::Digest { what: what.to_owned(), locked: locked.clone(), found: found.clone() })
}

/// Refuses a version that is older than one that was already granted, or already seen: an old index that is served again would bring
/// back what was mended since.
///
/// # Errors
///
/// [`Refusal::Older`].
pub fn not_older(what: &str, found: &Version, known: &Version) -> Result<(), Refusal> {
    if found >= known {
        return Ok(());
    }
    let (locked, found) = (Box::new(known.clone()), Box::new(found.clone()));
    Err(Refusal::Older { what: what.to_owned(), locked, found })
}
