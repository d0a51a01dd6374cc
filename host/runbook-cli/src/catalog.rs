//! The plugins that a runbook can use: those of the program, and those that it brings.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use runbook_engine::run::Actions;
use runbook_model::event::PluginPin;
use runbook_model::manifest::{Action, Manifest};
use runbook_plugins::{Host, Loaded, Options};

use crate::error::CliError;
use crate::{runs_dir, standard};

/// The plugins, by name, loaded and not yet compiled.
pub(crate) struct Catalog {
    host: Host,
    plugins: BTreeMap<String, Entry>,
}

struct Entry {
    loaded: Loaded,
    standard: bool,
}

impl Catalog {
    /// The plugins of the program.
    pub(crate) fn standard() -> Result<Self, CliError> {
        let cache_dir = runs_dir::cache().ok();
        let host = Host::new(Options { cache_dir, ..Options::default() }).map_err(CliError::internal)?;
        let mut catalog = Self { host, plugins: BTreeMap::new() };
        for (name, bytes) in standard::STANDARD {
            catalog.add(name, Cow::Borrowed(*bytes), true).map_err(CliError::internal)?;
        }
        Ok(catalog)
    }

    /// A plugin from a file, under the name that the runbook gives it.
    pub(crate) fn add_file(&mut self, name: &str, path: &Path) -> Result<(), CliError> {
        if self.plugins.get(name).is_some_and(|entry| entry.standard) {
            return Err(CliError::refused(format!("a plugin of the program is called `{name}`, too"))
                .hint(format!("give {} another name under [plugins]", path.display())));
        }
        let bytes = std::fs::read(path).map_err(|error| {
            CliError::refused(format!("plugin `{name}`: {}: {error}", path.display()))
                .hint("paths under [plugins] are relative to the runbook's folder")
        })?;
        self.add(name, Cow::Owned(bytes), false)
            .map_err(|error| CliError::refused(format!("{}: {error}", path.display())))
    }

    fn add(&mut self, name: &str, bytes: Cow<'static, [u8]>, standard: bool) -> Result<(), String> {
        let loaded = self.host.load(name, bytes).map_err(|error| error.to_string())?;
        self.plugins.insert(name.to_owned(), Entry { loaded, standard });
        Ok(())
    }

    /// The embedding, for calls.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// What a plugin is pinned by in the journal.
    pub(crate) fn pin(&self, name: &str) -> Option<PluginPin> {
        let loaded = &self.plugins.get(name)?.loaded;
        Some(PluginPin {
            name: name.to_owned(),
            version: loaded.manifest.version.clone(),
            sha256: loaded.sha256.clone(),
        })
    }

    /// What was read of a plugin.
    pub(crate) fn loaded(&self, name: &str) -> Option<&Loaded> {
        self.plugins.get(name).map(|entry| &entry.loaded)
    }

    /// What the plugins say of themselves.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.plugins.values().map(|entry| &entry.loaded.manifest)
    }

    /// Names of all plugins.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.plugins.keys().map(String::as_str)
    }
}

impl Actions for Catalog {
    fn action(&self, plugin: &str, action: &str) -> Option<(&Action, bool)> {
        let entry = self.plugins.get(plugin)?;
        Some((entry.loaded.manifest.action(action)?, entry.standard))
    }
}

impl runbook_model::parse::Catalog for Catalog {
    fn manifest(&self, plugin: &str) -> Option<&Manifest> {
        self.plugins.get(plugin).map(|entry| &entry.loaded.manifest)
    }

    fn names(&self) -> Vec<String> {
        self.plugins.keys().cloned().collect()
    }

    fn is_builtin(&self, plugin: &str) -> bool {
        self.plugins.get(plugin).is_some_and(|entry| entry.standard)
    }
}
