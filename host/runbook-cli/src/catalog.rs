//! The plugins that a runbook can use: those of the program, and those that it brings.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use runbook_engine::run::Actions;
use runbook_model::consent::Consent;
use runbook_model::diagnostic::name_help;
use runbook_model::event::PluginPin;
use runbook_model::manifest::{Action, Manifest};
use runbook_model::pack_source::PackSource;
use runbook_model::parse::{Mentions, PackMention};
use runbook_packs::MAX_COMPONENT;
use runbook_packs::pack::Pack;
use runbook_plugins::{Host, Loaded, Options};

use crate::elsewhere::{self, Beside};
use crate::error::CliError;
use crate::runs_dir;
use crate::standard::{self, STANDARD};

/// The plugins, by name, loaded and not yet compiled.
pub(crate) struct Catalog {
    host: Host,
    plugins: BTreeMap<String, Arc<Loaded>>,
    /// Those that are not part of the program.
    origins: BTreeMap<String, Origin>,
    /// The packs, by their names in the runbook: where each comes from, and what it is.
    packs: BTreeMap<String, (String, Pack)>,
    /// The lock, where something is from elsewhere.
    beside: Option<Beside>,
    /// The owner agreed to what the plugins from elsewhere ask for.
    consented: bool,
}

/// Where a plugin comes from that is not part of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The path of its component, seen from the runbook's folder.
    File(String),
    /// A plugin of a pack.
    Pack {
        /// The name that the runbook gives the pack.
        pack: String,
        /// The plugin's own name, where the runbook gives it another one.
        itself: Option<String>,
    },
}

impl Catalog {
    /// The plugins of the program.
    pub(crate) fn standard() -> Result<Self, CliError> {
        let plugins = STANDARD.iter().map(|plugin| plugin.name.to_owned()).collect();
        Self::own(&Mentions { plugins, ..Mentions::default() })
    }

    /// The plugins of the program that are mentioned.
    fn own(mentions: &Mentions) -> Result<Self, CliError> {
        let mut catalog = Self::none()?;
        for plugin in mentions.plugins.iter().filter_map(|name| standard::find(name)) {
            let loaded = catalog.host.load_own(plugin.name, plugin.bytes, plugin.sha256).map_err(CliError::internal)?;
            catalog.plugins.insert(plugin.name.to_owned(), loaded);
        }
        Ok(catalog)
    }

    /// No plugin at all, for what needs none.
    pub(crate) fn none() -> Result<Self, CliError> {
        let cache_dir = runs_dir::cache().ok();
        let memory_of_all = memory_of_all()?;
        let options = Options { cache_dir, memory_of_all, compiling: Some(say_compiling), ..Options::default() };
        let host = Host::new(options).map_err(CliError::internal)?;
        let (plugins, origins, packs) = Default::default();
        Ok(Self { host, plugins, origins, packs, beside: None, consented: false })
    }

    /// The plugins that a case or a cassette of a project mentions. They act in no world, so there is no lock to ask.
    pub(crate) fn of_project(mentions: &Mentions) -> Result<Self, CliError> {
        let mut catalog = Self::own(mentions)?;
        catalog.add_files(mentions)?;
        catalog.consented = true;
        Ok(catalog)
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

    /// The plugins that a runbook of a pack mentions: those of the program, and those of the pack itself.
    pub(crate) fn of_pack(mentions: &Mentions, pack: &Pack) -> Result<Self, CliError> {
        let mut catalog = Self::own(mentions)?;
        let is_itself = |mention: &&PackMention| match PackSource::parse(&mention.source) {
            Ok(PackSource::Stored(reference)) => reference.is_of(&pack.config.name),
            Ok(PackSource::Path(_)) | Err(_) => false,
        };
        match mentions.packs.iter().find(is_itself) {
            Some(mention) => catalog.add_pack(mention, pack)?,
            None => catalog.add_pack(&PackMention { name: "pack".to_owned(), ..PackMention::default() }, pack)?,
        }
        Ok(catalog)
    }

    /// The plugins that a runbook mentions, those of the program and those that it brings. The others are known by name alone. `runbook` is
    /// its path. What is from elsewhere was only read: [`elsewhere::consent`] decides whether it may be used.
    pub(crate) fn of(mentions: &Mentions, runbook: &Path) -> Result<Self, CliError> {
        let mut catalog = Self::own(mentions)?;
        if mentions.components.is_empty() && mentions.packs.is_empty() {
            return Ok(catalog);
        }
        let beside = Beside::of(runbook)?;
        catalog.add_files(mentions)?;
        for component in &mentions.components {
            let path = elsewhere::from_folder(runbook, &component.path);
            catalog.origins.insert(component.name.clone(), Origin::File(path));
        }
        for mention in &mentions.packs {
            let pack = elsewhere::read_pack(mention, &beside)?;
            catalog.add_pack(mention, &pack)?;
            catalog.packs.insert(mention.name.clone(), (elsewhere::source_from_folder(runbook, &mention.source), pack));
        }
        catalog.beside = Some(beside);
        Ok(catalog)
    }

    /// The plugins of a pack, under the names that they have in the runbook.
    fn add_pack(&mut self, mention: &PackMention, pack: &Pack) -> Result<(), CliError> {
        let plugins = || pack.config.plugins.iter().map(|plugin| plugin.name.as_str());
        if let Some(itself) = mention.rename.keys().find(|name| !plugins().any(|plugin| plugin == *name)) {
            let error = CliError::invalid(format!("the pack `{}` brings no plugin `{itself}` to rename", mention.name));
            return Err(match name_help(itself, "plugins of the pack", plugins()) {
                Some(help) => error.hint(help),
                None => error,
            });
        }
        for itself in plugins() {
            let (name, other) = (mention.name_of(itself), format!("{}-{itself}", mention.name));
            if standard::find(name).is_some() || self.plugins.contains_key(name) {
                let refused = match self.origin(name) {
                    Some(Origin::Pack { pack, .. }) => {
                        format!("the packs `{pack}` and `{}` both bring a plugin `{name}`", mention.name)
                    }
                    Some(Origin::File(path)) => {
                        format!("the pack `{}` brings a plugin `{name}`, and {path} is called so, too", mention.name)
                    }
                    None => format!("the pack `{}` brings a plugin `{name}`, as the program does", mention.name),
                };
                return Err(CliError::refused(refused).hint(format!(
                    "under [packs], give it a name of its own: {} = {{ source = \"{}\", rename = {{ {itself} = \"{other}\" }} }}",
                    mention.name, mention.source
                )));
            }
            let bytes = pack.component(itself).unwrap_or_default().to_vec();
            let loaded = self.host.load_as(name, itself, bytes);
            let loaded = loaded.map_err(|error| CliError::refused(format!("the pack `{}`: {error}", mention.name)))?;
            self.plugins.insert(name.to_owned(), loaded);
            let origin =
                Origin::Pack { pack: mention.name.clone(), itself: (name != itself).then(|| itself.to_owned()) };
            self.origins.insert(name.to_owned(), origin);
        }
        Ok(())
    }

    /// The plugins from files; what is wrong with any of them is said at once.
    fn add_files(&mut self, mentions: &Mentions) -> Result<(), CliError> {
        let components = mentions.components.iter();
        let refused = components.filter_map(|c| self.add_file(&c.name, Path::new(&c.path)).err()).collect();
        CliError::together("plugins are refused", refused).map_or(Ok(()), Err)
    }

    /// A plugin from a file, under the name that the runbook gives it.
    fn add_file(&mut self, name: &str, path: &Path) -> Result<(), CliError> {
        if standard::find(name).is_some() {
            return Err(CliError::refused(format!("a plugin of the program is called `{name}`, too"))
                .hint(format!("{} must be built with another name", path.display())));
        }
        let bytes = runbook_packs::read_file(path, MAX_COMPONENT).map_err(|error| {
            CliError::refused(format!("plugin `{name}`: {}: {error}", path.display()))
                .hint("paths under [plugins] are relative to the runbook's folder")
        })?;
        let loaded = self.host.load(name, bytes);
        let loaded = loaded.map_err(|error| CliError::refused(format!("{}: {error}", path.display())))?;
        self.plugins.insert(name.to_owned(), loaded);
        Ok(())
    }

    /// The lock beside the runbook; none where all plugins are part of the program.
    pub(crate) fn beside(&self) -> Option<&Beside> {
        self.beside.as_ref()
    }

    /// Where a plugin is from that is not part of the program.
    pub(crate) fn origin(&self, plugin: &str) -> Option<&Origin> {
        self.origins.get(plugin)
    }

    /// Where a pack comes from, and what it is, by its name in the runbook.
    pub(crate) fn pack(&self, name: &str) -> Option<&(String, Pack)> {
        self.packs.get(name)
    }

    /// Takes down that the owner agreed to what the plugins from elsewhere ask for.
    pub(crate) fn consent(&mut self) {
        self.consented = true;
    }

    /// Whether there is no plugin.
    pub(crate) fn is_empty(&self) -> bool {
        self.plugins.is_empty()
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

/// What all plugins at work may have together, where the person says it.
fn memory_of_all() -> Result<Option<usize>, CliError> {
    const NAME: &str = "RUNBOOK_PLUGIN_MEMORY";
    let Some(text) = std::env::var_os(NAME) else { return Ok(None) };
    let text = text.to_string_lossy();
    let wrong = |why: String| CliError::usage(format!("{NAME}: {text:?} {why}")).hint("write a size such as 512MiB");
    let bytes = runbook_model::size::parse(&text).map_err(wrong)?;
    Ok(Some(usize::try_from(bytes).unwrap_or(usize::MAX)))
}

/// An interpreter takes ten seconds to compile; nobody is to think that the program hangs.
pub(crate) fn say_compiling(plugin: &str) {
    let _ = writeln!(anstream::stderr().lock(), "compiling plugin {plugin} for this machine, once");
}

impl Actions for Catalog {
    fn action(&self, plugin: &str, action: &str) -> Option<(&Action, Consent)> {
        let consent = match (standard::find(plugin), self.consented) {
            (Some(_), _) => Consent::Implied,
            (None, true) => Consent::Granted,
            (None, false) => Consent::Missing,
        };
        Some((self.plugins.get(plugin)?.manifest.action(action)?, consent))
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
