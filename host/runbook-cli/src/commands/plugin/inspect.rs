//! `runbook plugin inspect`.

use std::io::{self, Write};
use std::path::Path;

use runbook_model::exit_code;
use runbook_model::grant::power_name;
use runbook_model::manifest::{Action, Arity, Ask, Manifest, Need, WantedLimits};
use runbook_packs::MAX_COMPONENT;
use runbook_plugins::{Limits, Loaded};
use serde_json::Value;

use crate::args;
use crate::catalog::Catalog;
use crate::display::Styles;
use crate::error::CliError;

/// Shows what plugins can do and what they ask for.
pub(crate) fn run(args: &args::Inspect) -> Result<u8, CliError> {
    let catalog = Catalog::standard()?;
    let Some(asked) = &args.plugin else {
        let mut out = anstream::stdout().lock();
        for manifest in catalog.manifests() {
            let _ = overview(&mut out, manifest);
        }
        return Ok(exit_code::SUCCESS);
    };
    let known = catalog.names().collect::<Vec<_>>().join(", ");
    let (name, action) = asked.split_once('/').map_or((asked.as_str(), None), |(name, action)| (name, Some(action)));
    let (component, action) = match catalog.loaded(name) {
        Some(loaded) => (loaded.clone(), action),
        None if asked.ends_with(".wasm") || Path::new(asked).is_file() => (read(Path::new(asked))?, None),
        None => {
            return Err(CliError::usage(format!("there is no plugin `{asked}`"))
                .hint(format!("plugins of the program: {known}; or the path of a component")));
        }
    };
    let manifest = &component.manifest;
    if args.json {
        let text = serde_json::to_string_pretty(manifest).map_err(CliError::internal)?;
        let _ = writeln!(io::stdout().lock(), "{text}");
        return Ok(exit_code::SUCCESS);
    }
    let mut out = anstream::stdout().lock();
    let actions: Vec<&Action> = match action {
        None => manifest.actions.iter().collect(),
        Some(action) => {
            let known = || manifest.actions.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(", ");
            let found = manifest.action(action).ok_or_else(|| {
                CliError::usage(format!("`{name}` has no action `{action}`")).hint(format!("it has {}", known()))
            })?;
            vec![found]
        }
    };
    let (bold, dim) = (Styles::BOLD, Styles::DIM);
    let _ = writeln!(out, "{bold}{} {}{bold:#}  {}", manifest.name, manifest.version, manifest.summary);
    let _ = writeln!(out, "{dim}sha256:{}{dim:#}", component.sha256);
    let reach: Vec<&str> = component.imports.iter().map(String::as_str).filter(|i| i.starts_with("runbook:")).collect();
    let _ = writeln!(out, "{dim}can reach: {}{dim:#}", reach.join(", "));
    for action in actions {
        let _ = write_action(&mut out, manifest, action);
    }
    Ok(exit_code::SUCCESS)
}

/// A component that is no part of the program.
pub(super) fn read(path: &Path) -> Result<Loaded, CliError> {
    let bytes = runbook_packs::read_file(path, MAX_COMPONENT)
        .map_err(|error| CliError::usage(format!("{}: {error}", path.display())))?;
    let component = runbook_packs::read(&bytes)
        .map_err(|error| CliError::refused(format!("{} is not a plugin: {error}", path.display())))?;
    Ok(Loaded { manifest: component.manifest, sha256: component.sha256, imports: component.imports })
}

fn overview(out: &mut impl Write, manifest: &Manifest) -> io::Result<()> {
    let (bold, dim) = (Styles::BOLD, Styles::DIM);
    writeln!(out, "{bold}{}{bold:#}  {dim}{}{dim:#}", manifest.name, manifest.summary)?;
    for action in &manifest.actions {
        writeln!(out, "  {bold}{:24}{bold:#} {}", format!("{}/{}", manifest.name, action.name), action.summary)?;
    }
    Ok(())
}

fn write_action(out: &mut impl Write, manifest: &Manifest, action: &Action) -> io::Result<()> {
    let (bold, dim) = (Styles::BOLD, Styles::DIM);
    writeln!(out, "\n{bold}{}/{}{bold:#}  {}", manifest.name, action.name, action.summary)?;
    for role in &action.roles {
        let arity = match role.arity {
            Arity::Each => "one instance for each host",
            Arity::One => "one host",
            Arity::All => "all of these hosts at once",
        };
        let optional = if role.optional { ", may be left out" } else { "" };
        writeln!(out, "  on {bold}{}{bold:#}: {arity}{optional} {dim}{}{dim:#}", role.name, role.summary)?;
    }
    match action.cluster {
        Need::None => {}
        Need::Optional => writeln!(out, "  cluster: may be given")?,
        Need::Required => writeln!(out, "  cluster: needed")?,
    }
    if action.needs_block {
        writeln!(out, "  only in a block of steps (`[[step.do]]`), at whose end what it leaves is put back")?;
    }
    write_properties(out, "with", &action.inputs)?;
    write_properties(out, "outputs", &action.outputs)?;
    write_asks(out, action)?;
    write_limits(out, &action.limits)
}

/// What an action asks for, and why.
pub(super) fn write_asks(out: &mut impl Write, action: &Action) -> io::Result<()> {
    action.asks.iter().try_for_each(|ask| write_ask(out, ask))
}

/// What it may use, where it is not what any action may.
fn write_limits(out: &mut impl Write, limits: &WantedLimits) -> io::Result<()> {
    let sizes = limits.sizes().map(|(name, size)| format!("{name} {size}"));
    let counts = limits.counts().map(|(name, count)| format!("{name} {count}"));
    let wanted: Vec<String> =
        sizes.chain(counts).chain(limits.time.iter().map(|time| format!("time {time}"))).collect();
    if !wanted.is_empty() {
        writeln!(out, "  may use: {}", wanted.join(", "))?;
    }
    // Of a component that is only looked at: a run would refuse it.
    if let Err(over) = Limits::default().wanted(limits) {
        let bad = Styles::BAD;
        writeln!(out, "    {bad}too much: {}{bad:#}", over.join("; "))?;
    }
    Ok(())
}

fn write_properties(out: &mut impl Write, title: &str, schema: &Value) -> io::Result<()> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty()) else {
        return Ok(());
    };
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let (bold, dim) = (Styles::BOLD, Styles::DIM);
    writeln!(out, "  {title}:")?;
    for (name, property) in properties {
        let kind = property.get("type").map(|kind| kind.to_string().replace('"', "")).unwrap_or_default();
        let needed = if required.contains(&name.as_str()) { ", required" } else { "" };
        let default = property.get("default").map(|value| format!(", default {value}")).unwrap_or_default();
        let text = property.get("description").and_then(Value::as_str).unwrap_or_default();
        writeln!(out, "    {bold}{name}{bold:#} {dim}{kind}{needed}{default}{dim:#}  {text}")?;
    }
    Ok(())
}

fn write_ask(out: &mut impl Write, ask: &Ask) -> io::Result<()> {
    let (dim, change) = (Styles::DIM, Styles::CHANGE);
    let pattern = &ask.on;
    let mut parts = Vec::new();
    parts.extend(pattern.argv.as_ref().map(|argv| argv.join(" ")));
    parts.extend(pattern.path.clone());
    parts.extend(pattern.kind.clone());
    parts.extend(pattern.namespace.as_ref().map(|namespace| format!("in {namespace}")));
    parts.extend(pattern.name.clone());
    parts.extend(pattern.url.clone());
    let root = if ask.privileged { " as root" } else { "" };
    writeln!(out, "  asks {}{root} {}  {dim}{}{dim:#}", power_name(ask.call), parts.join(" "), ask.reason)?;
    if let Some(consequence) = &ask.irreversible {
        writeln!(out, "    {change}cannot be taken back: {consequence}{change:#}")?;
    }
    Ok(())
}
