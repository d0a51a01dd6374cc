//! A pack that was read: whole, and as it says of itself.

use crate::component::{self, Component, ReadError};
use crate::config::{
    COMPONENT_TYPE, CONFIG_TYPE, Config, ConfigError, FILE_TYPE, MAX_CONFIG, PACK_TYPE, PackedPlugin, TITLE,
    check_path, packed_actions,
};
use crate::image::{Descriptor, Digest, Image, ImageError, said};

/// A pack whose parts are there and agree with what it says of them. Who made it is another question: [`crate::trust`].
#[derive(Debug, Clone, PartialEq)]
pub struct Pack {
    /// Its digest.
    pub digest: Digest,
    /// What it says of itself.
    pub config: Config,
    image: Image,
}

/// Why an image is no pack that could be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PackError {
    /// It is not whole.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It is something else.
    #[error("it is no pack of runbook, but says that it is `{0}`")]
    Type(String),
    /// More than [`MAX_CONFIG`].
    #[error("its configuration is larger than {} MiB", MAX_CONFIG >> 20)]
    ConfigTooLarge,
    /// Not JSON of the right shape.
    #[error("its configuration cannot be read: {0}")]
    ConfigShape(String),
    /// Of a later version of the format.
    #[error("it was made for a newer version of runbook: its format is {0}, this version reads 1")]
    Newer(u32),
    /// It says something impossible.
    #[error("its configuration is wrong: {0}")]
    Config(#[from] ConfigError),
    /// Other parts than it says.
    #[error("its manifest lists other parts than its configuration: {0}")]
    Parts(String),
    /// A component that is no plugin.
    #[error("its plugin `{plugin}` is no plugin: {error}")]
    Component {
        /// Its name, as the pack has it.
        plugin: String,
        /// What is wrong with it.
        error: ReadError,
    },
    /// A component that is not what the pack says of it.
    #[error("the pack disagrees with its plugin `{plugin}`: {how}")]
    Disagrees {
        /// Its name, as the pack has it.
        plugin: String,
        /// In what.
        how: Disagreement,
    },
}

/// In what a pack and one of its components disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// The name.
    #[error("the component calls itself `{0}`")]
    Name(String),
    /// The version.
    #[error("the pack says version {said}, the component {found}")]
    Version {
        /// By the pack.
        said: String,
        /// By the component.
        found: String,
    },
    /// What it imports.
    #[error("the component imports what the pack does not say, or the other way round: {0}")]
    Imports(String),
    /// What it asks for.
    #[error("the component asks for what the pack does not say, or the other way round: {0}")]
    Asks(String),
}

impl Pack {
    /// Reads a pack: every digest, every component, and whether they are what it says.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(image: Image) -> Result<Self, PackError> {
        let manifest = image.check()?;
        if manifest.artifact_type.as_deref() != Some(PACK_TYPE) || manifest.config.media_type != CONFIG_TYPE {
            let kind = manifest.artifact_type.unwrap_or(manifest.config.media_type);
            return Err(PackError::Type(said(&kind)));
        }
        let config = image.blobs.get(&manifest.config.digest).map(Vec::as_slice).unwrap_or_default();
        let config = read_config(config)?;
        check_parts(&config, &manifest.layers)?;
        let pack = Self { digest: image.digest(), config, image };
        for plugin in &pack.config.plugins {
            let bytes = pack.blob(&plugin.digest);
            let component =
                component::read(bytes).map_err(|error| PackError::Component { plugin: plugin.name.clone(), error })?;
            agree(plugin, &component).map_err(|how| PackError::Disagrees { plugin: plugin.name.clone(), how })?;
        }
        Ok(pack)
    }

    /// The component of a plugin.
    pub fn component(&self, plugin: &str) -> Option<&[u8]> {
        let plugin = self.config.plugins.iter().find(|known| known.name == plugin)?;
        Some(self.blob(&plugin.digest))
    }

    /// The content of a file.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        let file = self.config.files.iter().find(|file| file.path == path)?;
        Some(self.blob(&file.digest))
    }

    /// The image that it was read from.
    pub fn image(&self) -> &Image {
        &self.image
    }

    fn blob(&self, digest: &Digest) -> &[u8] {
        self.image.blobs.get(digest).map(Vec::as_slice).unwrap_or_default()
    }
}

fn read_config(bytes: &[u8]) -> Result<Config, PackError> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema: u32,
    }
    if bytes.len() > MAX_CONFIG {
        return Err(PackError::ConfigTooLarge);
    }
    let shape = |error: serde_json::Error| PackError::ConfigShape(said(&error.to_string()));
    let Version { schema } = serde_json::from_slice(bytes).map_err(shape)?;
    if schema != 1 {
        return Err(PackError::Newer(schema));
    }
    let config: Config = serde_json::from_slice(bytes).map_err(shape)?;
    config.check()?;
    Ok(config)
}

/// The layers that a pack with this configuration has, in their order: media type, digest and title.
pub(crate) fn parts(config: &Config) -> impl Iterator<Item = (&'static str, &Digest, String)> {
    let components = config.plugins.iter().map(|plugin| (COMPONENT_TYPE, &plugin.digest, plugin.title()));
    components.chain(config.files.iter().map(|file| (FILE_TYPE, &file.digest, file.path.clone())))
}

fn check_parts(config: &Config, layers: &[Descriptor]) -> Result<(), PackError> {
    let mut layers = layers.iter();
    for (media_type, digest, title) in parts(config) {
        let other = || PackError::Parts(format!("`{title}` is missing, or is another one"));
        let layer = layers.next().ok_or_else(other)?;
        let named = layer.annotations.get(TITLE).map(String::as_str).unwrap_or_default();
        check_path(named)?;
        if layer.media_type != media_type || layer.digest != *digest || named != title {
            return Err(other());
        }
    }
    match layers.next() {
        Some(layer) => Err(PackError::Parts(format!("{} is one too many", layer.digest))),
        None => Ok(()),
    }
}

fn agree(plugin: &PackedPlugin, component: &Component) -> Result<(), Disagreement> {
    let manifest = &component.manifest;
    if manifest.name != plugin.name {
        return Err(Disagreement::Name(said(&manifest.name)));
    }
    if manifest.version != plugin.version {
        let (said, found) = (said(&plugin.version), said(&manifest.version));
        return Err(Disagreement::Version { said, found });
    }
    if component.imports != plugin.imports {
        let name = first_difference(&plugin.imports, &component.imports);
        return Err(Disagreement::Imports(name.map_or_else(|| "their order".to_owned(), |name| said(name))));
    }
    let found = packed_actions(manifest);
    if found != plugin.actions {
        let action = first_difference(&plugin.actions, &found);
        return Err(Disagreement::Asks(match action {
            Some(action) => format!("action `{}`", said(&action.name)),
            None => "the order of its actions".to_owned(),
        }));
    }
    Ok(())
}

/// What only one of the two has.
fn first_difference<'a, T: PartialEq>(a: &'a [T], b: &'a [T]) -> Option<&'a T> {
    b.iter().find(|item| !a.contains(item)).or_else(|| a.iter().find(|item| !b.contains(item)))
}
