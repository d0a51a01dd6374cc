//! From a file to a run that can begin: the runbook checked, its plugins loaded, its inputs known, its world described.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook_engine::backend::Secrets;
use runbook_engine::run::Header;
use runbook_engine::scope::Inputs;
use runbook_model::diagnostic::{Diagnostic, has_errors, render_all};
use runbook_model::event::PluginPin;
use runbook_model::expr::{ExprError, RunView, Scope};
use runbook_model::parse::{self, Component, Document, Mentions, PackMention};
use runbook_model::plan::{Become as Elevation, BecomeMethod, InputType, Runbook, Step, Uses};
use runbook_model::redact::SHORTEST;
use runbook_model::resolve;
use runbook_ssh::r#become::Become;
use serde_json::{Map, Value};

use crate::args;
use crate::catalog::Catalog;
use crate::elsewhere;
use crate::error::CliError;
use crate::inputs;
use crate::locks::{self, Used};
use crate::runs_dir::Begun;
use crate::world::Inventory;

/// A runbook without mistakes, and the plugins that it uses.
pub(crate) struct Loaded {
    pub(crate) runbook: Runbook,
    pub(crate) catalog: Catalog,
    /// Absolute path of the runbook's folder.
    pub(crate) folder: String,
    /// The user's home.
    pub(crate) home: String,
}

/// Everything that a run is made of, before anything is connected.
pub(crate) struct Session {
    pub(crate) runbook: Runbook,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) inputs: Inputs,
    pub(crate) secrets: Secrets,
    pub(crate) inventory: Inventory,
    pub(crate) only: BTreeSet<String>,
    pub(crate) from: Option<String>,
}

/// Reads files for the language: inventories and included runbooks.
struct Disk;

impl parse::Files for Disk {
    fn read(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| error.to_string())
    }
}

/// Reads and checks a runbook; shows its mistakes.
pub(crate) fn load(file: &Path) -> Result<Loaded, CliError> {
    let (loaded, diagnostics) = check(file)?;
    show(&diagnostics);
    match loaded {
        Some(loaded) if !has_errors(&diagnostics) => Ok(loaded),
        _ => Err(CliError::after_diagnostics(&file.display().to_string(), diagnostics.len())),
    }
}

/// Reads and checks a runbook.
pub(crate) fn check(file: &Path) -> Result<(Option<Loaded>, Vec<Diagnostic>), CliError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let error = CliError::usage(format!("{}: {error}", file.display()));
        if file.exists() { error } else { error.hint("give the path of a runbook, such as runbooks/quickstart.toml") }
    })?;
    let folder = file
        .canonicalize()
        .ok()
        .and_then(|path| path.parent().map(Path::to_path_buf))
        .ok_or_else(|| CliError::usage(format!("{} has no folder", file.display())))?;
    let home = std::env::var("HOME").unwrap_or_else(|_| "/".to_owned());
    let document = Document::parse(&file.to_string_lossy(), text);
    let catalog = Catalog::of(&document.mentions(&Disk), file)?;
    let (runbook, diagnostics) = document.load(&Disk, &catalog);
    let folder = folder.to_string_lossy().into_owned();
    Ok((runbook.map(|runbook| Loaded { runbook, catalog, folder, home }), diagnostics))
}

/// Shows mistakes on stderr.
pub(crate) fn show(diagnostics: &[Diagnostic]) {
    use std::io::Write as _;
    if !diagnostics.is_empty() {
        let _ = writeln!(anstream::stderr().lock(), "{}", render_all(diagnostics, true));
    }
}

/// Settles everything that can be settled before a target is touched.
pub(crate) async fn prepare(args: &args::Inputs) -> Result<Session, CliError> {
    let loaded = load(&args.file)?;
    check_selection(&loaded.runbook, args)?;
    let given = args.vars.iter().cloned().collect();
    let selection = Selection { only: args.only.iter().cloned().collect(), from: args.from.clone() };
    settle(loaded, &given, selection, &args.file.display().to_string()).await
}

/// The same for a later session of a run: what it was given before, it is given again.
pub(crate) async fn prepare_again(
    loaded: Loaded,
    recorded: &Value,
    vars: &[(String, String)],
    selection: Selection,
) -> Result<Session, CliError> {
    let mut given: BTreeMap<String, String> = BTreeMap::new();
    for input in loaded.runbook.inputs.iter().filter(|input| input.kind != InputType::Secret) {
        if let Some(value) = recorded.get(&input.name) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            given.insert(input.name.clone(), text);
        }
    }
    given.extend(vars.iter().cloned());
    let file = loaded.runbook.file.clone();
    settle(loaded, &given, selection, &file).await
}

/// The steps that are meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    pub(crate) only: BTreeSet<String>,
    pub(crate) from: Option<String>,
}

fn check_selection(runbook: &Runbook, args: &args::Inputs) -> Result<(), CliError> {
    let steps: Vec<&str> = runbook.steps.iter().map(|step| step.id.as_str()).collect();
    for name in args.only.iter().chain(&args.from) {
        if !steps.contains(&name.as_str()) {
            let help = runbook_model::diagnostic::name_help(name, "steps", steps.iter().copied());
            let error = CliError::usage(format!("the runbook has no step `{name}`"));
            return Err(match help {
                Some(help) => error.hint(help),
                None => error,
            });
        }
    }
    Ok(())
}

async fn settle(
    loaded: Loaded,
    given: &BTreeMap<String, String>,
    selection: Selection,
    file: &str,
) -> Result<Session, CliError> {
    let Loaded { runbook, mut catalog, folder, home } = loaded;
    let read = inputs::read(&runbook, given, &folder, &home);
    let resolved = runbook_model::inputs::resolve(&runbook.inputs, given, &read).map_err(|diagnostics| {
        show(&diagnostics);
        CliError::after_diagnostics(file, diagnostics.len())
    })?;
    elsewhere::consent(&runbook, &mut catalog)?;
    if !catalog.is_empty() {
        catalog.prepare(&used_plugins(&runbook)).await?;
    }
    let mut secrets = resolved.secrets;
    for (name, value) in &secrets {
        if value.chars().count() < SHORTEST {
            tracing::warn!("secret `{name}` is shorter than {SHORTEST} characters: it is not looked for in outputs");
        }
    }
    let (inputs, inventory) =
        inventory(&runbook, resolved.values, &mut secrets, folder, home).map_err(|error| invalid(&error))?;
    Ok(Session {
        runbook,
        catalog: Arc::new(catalog),
        inputs,
        secrets: Secrets(secrets),
        inventory,
        only: selection.only,
        from: selection.from,
    })
}

/// A runbook that was checked when its run began, with the plugins that it uses.
pub(crate) fn of_begun(begun: &Begun) -> Result<Loaded, CliError> {
    let mut mentions = Mentions::default();
    walk(&begun.runbook, &mut |step| {
        if let Uses::Action { plugin, .. } = &step.uses {
            mentions.plugins.insert(plugin.clone());
        }
    });
    for level in begun.runbook.with_includes() {
        for (name, path) in &level.plugins {
            let path = parse::join_path(&begun.path.to_string_lossy(), path);
            mentions.components.insert(Component { name: name.clone(), path });
        }
        for (name, source) in &level.packs {
            let source = parse::join_source(&begun.path.to_string_lossy(), source);
            let rename = level.renamed.get(name).cloned().unwrap_or_default();
            mentions.packs.insert(PackMention { name: name.clone(), source, rename });
        }
    }
    let catalog = Catalog::of(&mentions, &begun.path)?;
    let (folder, home) = (begun.folder.clone(), begun.home.clone());
    Ok(Loaded { runbook: begun.runbook.clone(), catalog, folder, home })
}

/// The same for what needs no plugin, such as an undo: those from elsewhere may be gone.
pub(crate) fn of_begun_without_plugins(begun: &Begun) -> Result<Loaded, CliError> {
    let (runbook, folder, home) = (begun.runbook.clone(), begun.folder.clone(), begun.home.clone());
    Ok(Loaded { runbook, catalog: Catalog::none()?, folder, home })
}

fn invalid(error: &ExprError) -> CliError {
    let cli = CliError::invalid(error.to_string());
    match &error.help {
        Some(help) => cli.hint(help.clone()),
        None => cli,
    }
}

/// Every step of a runbook and of those that it includes.
pub(crate) fn walk(runbook: &Runbook, visit: &mut impl FnMut(&Step)) {
    for step in &runbook.steps {
        visit(step);
        if let Uses::Include { runbook, .. } = &step.uses {
            walk(runbook, visit);
        }
    }
}

pub(crate) fn used_plugins(runbook: &Runbook) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    walk(runbook, &mut |step| {
        if let Uses::Action { plugin, .. } = &step.uses {
            used.insert(plugin.clone());
        }
    });
    used
}

/// Hosts and clusters of the runbook and of those that it includes, with the run's values in their texts.
fn inventory(
    runbook: &Runbook,
    values: Map<String, Value>,
    secrets: &mut BTreeMap<String, String>,
    folder: String,
    home: String,
) -> Result<(Inputs, Inventory), ExprError> {
    let mut scope = Scope { inputs: values, run: RunView::default(), ..Scope::default() };
    resolve::vars(runbook, &mut scope)?;
    let mut inventory =
        Inventory { hosts: BTreeMap::new(), clusters: BTreeMap::new(), elevation: BTreeMap::new(), folder, home };
    let mut views = Vec::new();
    let mut levels = vec![runbook];
    while let Some(level) = levels.pop() {
        for host in &level.hosts {
            if inventory.hosts.contains_key(&host.name) {
                continue;
            }
            let host = resolve::host(host, &scope)?;
            views.push(resolve::view(&host, None));
            inventory.elevation.insert(host.name.clone(), elevation(&host.name, &host.elevation, secrets));
            inventory.hosts.insert(host.name.clone(), host);
        }
        for cluster in &level.clusters {
            if !inventory.clusters.contains_key(&cluster.name) {
                inventory.clusters.insert(cluster.name.clone(), resolve::cluster(cluster, &scope)?);
            }
        }
        levels.extend(level.steps.iter().filter_map(|step| match &step.uses {
            Uses::Include { runbook, .. } => Some(runbook.as_ref()),
            Uses::Action { .. } => None,
        }));
    }
    let inputs = Inputs { values: scope.inputs, vars: scope.vars, hosts: Arc::new(views), ..Inputs::default() };
    Ok((inputs, inventory))
}

/// A password is handed on by the name of its secret; one that is put together from several becomes a secret of its own.
fn elevation(host: &str, elevation: &Elevation, secrets: &mut BTreeMap<String, String>) -> Become {
    match elevation.method {
        BecomeMethod::None => Become::None,
        BecomeMethod::Sudo => {
            let password = elevation.password.as_ref().map(|password| {
                if let Some(name) = password.get("$secret").and_then(Value::as_str) {
                    return name.to_owned();
                }
                let part = |part: &Value| match part.get("$secret").and_then(Value::as_str) {
                    Some(name) => secrets.get(name).cloned().unwrap_or_default(),
                    None => part.as_str().unwrap_or_default().to_owned(),
                };
                let value = match password.get("$text").and_then(Value::as_array) {
                    Some(parts) => parts.iter().map(part).collect(),
                    None => part(password),
                };
                let name = format!("become password of {host}");
                secrets.insert(name.clone(), value);
                name
            });
            Become::Sudo { password }
        }
    }
}

impl Session {
    /// What the first event says.
    pub(crate) fn header(&self) -> Header {
        Header {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            plugins: used_plugins(&self.runbook)
                .iter()
                .filter_map(|name| self.catalog.pin(name))
                .collect::<Vec<PluginPin>>(),
            pid: std::process::id(),
            boot_id: locks::boot_id(),
            ..Header::default()
        }
    }

    /// The targets that its steps may use.
    pub(crate) fn used(&self) -> Used {
        let mut used = Used::default();
        let mut visit = |step: &Step| {
            used.hosts.extend(step.hosts());
            used.clusters.extend(step.cluster.clone());
        };
        for step in self.runbook.steps.iter().filter(|step| self.selected(&step.id)) {
            visit(step);
            if let Uses::Include { runbook, .. } = &step.uses {
                walk(runbook, &mut visit);
            }
        }
        used
    }

    /// What a later session needs of it.
    pub(crate) fn begun(&self, path: PathBuf) -> Begun {
        Begun {
            runbook: self.runbook.clone(),
            path,
            folder: self.inventory.folder.clone(),
            home: self.inventory.home.clone(),
            only: self.only.clone(),
            from: self.from.clone(),
            yes: false,
            approve: Vec::new(),
        }
    }

    /// Whether a step was selected.
    pub(crate) fn selected(&self, id: &str) -> bool {
        let position = |id: &str| self.runbook.steps.iter().position(|step| step.id == id);
        (self.only.is_empty() || self.only.contains(id))
            && self.from.as_deref().is_none_or(|from| position(from) <= position(id))
    }

    /// A folder for what has to lie somewhere in a run that is not kept.
    pub(crate) fn scratch(&self) -> PathBuf {
        std::env::temp_dir().join(format!("runbook-{}", std::process::id()))
    }
}
