//! The plugins that a runbook can use: those of the program, and those that it brings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use runbook_engine::run::Actions;
use runbook_model::event::PluginPin;
use runbook_model::manifest::{Action, Manifest};
use runbook_model::parse::Mentions;
use runbook_plugins::{Host, Loaded, Options};

use crate::error::CliError;
use crate::runs_dir;
use crate::standard::{self, STANDARD};

/// The plugins, by name, loaded and not yet compiled.
pub(crate) struct Catalog {
    host: Host,
    plugins: BTreeMap<String, Arc<Loaded>>,
}

impl Catalog {
    /// The plugins of the program.
    pub(crate) fn standard() -> Result<Self, CliError> {
        let plugins = STANDARD.iter().map(|plugin| plugin.name.to_owned()).collect();
        Self::of(&Mentions { plugins, ..Mentions::default() })
    }

    /// The plugins that a runbook mentions, those of the program and those that it brings. The others are known by name alone.
    pub(crate) fn of(mentions: &Mentions) -> Result<Self, CliError> {
        let cache_dir = runs_dir::cache().ok();
        let options = Options { cache_dir, compiling: Some(say_compiling), ..Options::default() };
        let host = Host::new(options).map_err(CliError::internal)?;
        let mut catalog = Self { host, plugins: BTreeMap::new() };
        for plugin in mentions.plugins.iter().filter_map(|name| standard::find(name)) {
            let loaded = catalog.host.load_own(plugin.name, plugin.bytes, plugin.sha256).map_err(CliError::internal)?;
            catalog.plugins.insert(plugin.name.to_owned(), loaded);
        }
        let components = mentions.components.iter();
        let refused = components.filter_map(|c| catalog.add_file(&c.name, Path::new(&c.path)).err()).collect();
        match CliError::together("plugins are refused", refused) {
            Some(error) => Err(error),
            None => Ok(catalog),
        }
    }

    /// Compiles plugins, and looks whether what they import and export is what is offered: for all of them, before the first step.
    pub(crate) async fn prepare(&self, names: &BTreeSet<String>) -> Result<(), CliError> {
        let mut refused = Vec::new();
        for name in names {
            if let Err(error) = self.host.prepare(name).await {
                refused.push(CliError::refused(format!("`{name}`: {error}")));
            }
        }
        CliError::together("plugins are refused", refused).map_or(Ok(()), Err)
    }

    /// A plugin from a file, under the name that the runbook gives it.
    fn add_file(&mut self, name: &str, path: &Path) -> Result<(), CliError> {
        if standard::find(name).is_some() {
            return Err(CliError::refused(format!("a plugin of the program is called `{name}`, too"))
                .hint(format!("give {} another name under [plugins]", path.display())));
        }
        let bytes = bytes_of(path).map_err(|error| {
            CliError::refused(format!("plugin `{name}`: {}: {error}", path.display()))
                .hint("paths under [plugins] are relative to the runbook's folder")
        })?;
        let loaded = self.host.load(name, bytes);
        let loaded = loaded.map_err(|error| CliError::refused(format!("{}: {error}", path.display())))?;
        self.plugins.insert(name.to_owned(), loaded);
        Ok(())
    }

    /// The embedding, for calls.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// What a plugin is pinned by in the journal.
    pub(crate) fn pin(&self, name: &str) -> Option<PluginPin> {
        let loaded = self.plugins.get(name)?;
        Some(PluginPin {
            name: name.to_owned(),
            version: loaded.manifest.version.clone(),
            sha256: loaded.sha256.clone(),
        })
    }

    /// What was read of a plugin.
    pub(crate) fn loaded(&self, name: &str) -> Option<&Loaded> {
        self.plugins.get(name).map(Arc::as_ref)
    }

    /// What the plugins say of themselves.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.plugins.values().map(|loaded| &loaded.manifest)
    }

    /// Names of all plugins.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.plugins.keys().map(String::as_str)
    }
}

/// An interpreter takes ten seconds to compile; nobody is to think that the program hangs.
pub(crate) fn say_compiling(plugin: &str) {
    let _ = writeln!(anstream::stderr().lock(), "compiling plugin {plugin} for this machine, once");
}

/// The bytes of a component, as far as one is long. No pipe and no device: these have no end.
pub(crate) fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    // One more than is allowed: what reads it says so.
    File::open(path)?.take(runbook_packs::MAX_COMPONENT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Actions for Catalog {
    fn action(&self, plugin: &str, action: &str) -> Option<(&Action, bool)> {
        Some((self.plugins.get(plugin)?.manifest.action(action)?, standard::find(plugin).is_some()))
    }
}

impl runbook_model::parse::Catalog for Catalog {
    fn manifest(&self, plugin: &str) -> Option<&Manifest> {
        self.plugins.get(plugin).map(|loaded| &loaded.manifest)
    }

    fn names(&self) -> Vec<String> {
        let standard = STANDARD.iter().map(|plugin| plugin.name);
        let names: BTreeSet<&str> = standard.chain(self.plugins.keys().map(String::as_str)).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    fn is_builtin(&self, plugin: &str) -> bool {
        standard::find(plugin).is_some()
    }
}
