//! `runbook grant`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use runbook_model::consent::{self, Granted};
use runbook_model::exit_code;
use runbook_model::manifest::Ask;
use runbook_model::plan::{Runbook, Uses};
use runbook_packs::lock::{Lock, LockedPlugin, Use, not_older};

use crate::args;
use crate::asks;
use crate::catalog::Catalog;
use crate::display::{Styles, print, safe};
use crate::elsewhere::{self, Beside};
use crate::error::CliError;
use crate::gate;
use crate::runs_dir::{self, Begun};
use crate::session::{self, Loaded, walk};

/// Shows what plugins from elsewhere ask for, asks, and writes the lock.
pub(crate) fn run(args: &args::Grant) -> Result<u8, CliError> {
    match (&args.unused, &args.file) {
        (Some(run), _) => unused(run),
        (None, Some(file)) => grant(args, file),
        (None, None) => Err(CliError::usage("say which runbook")),
    }
}

fn grant(args: &args::Grant, file: &Path) -> Result<u8, CliError> {
    let Loaded { runbook, catalog, .. } = session::load(file)?;
    let signers = elsewhere::signers(&args.signers)?;
    let uses = elsewhere::uses(&runbook, &catalog, elsewhere::signer_of(&args.signers, &signers))?;
    let mut beside = Beside::of(file)?;
    if !args.allow_older {
        refuse_older(&beside.lock, &uses)?;
    }
    let mut granted = beside.lock.clone();
    granted.grant(&beside.runbook, &uses);
    if granted.to_text() == beside.lock.to_text() {
        print(&match uses.len() {
            0 => format!("{}: all plugins are part of the program: there is nothing to grant", file.display()),
            _ => format!("{}: {} grants what is asked for already", file.display(), beside.path.display()),
        });
        return Ok(exit_code::SUCCESS);
    }
    let mut news = false;
    for wanted in &uses {
        let before = granted_before(&beside.lock, &wanted.plugin);
        news |= is_news(&beside.lock, wanted);
        let _ = show(&mut anstream::stdout().lock(), &runbook, &catalog, wanted, before);
    }
    if news && !args.yes {
        agreed(file)?;
    }
    beside.lock = granted;
    beside.save()?;
    print(&format!("{}: written{}", beside.path.display(), if news { "" } else { "; nothing new was asked for" }));
    Ok(exit_code::SUCCESS)
}

fn agreed(file: &Path) -> Result<(), CliError> {
    if !gate::can_ask() {
        return Err(CliError::usage("a person has to agree, and there is no terminal; nothing was written")
            .hint(format!("runbook grant {} --yes, when you have read the above", file.display())));
    }
    if gate::answer("Grant this?", None) {
        return Ok(());
    }
    Err(CliError { code: exit_code::CANCELLED, ..CliError::usage("not granted; nothing was written") })
}

fn refuse_older(lock: &Lock, uses: &[Use]) -> Result<(), CliError> {
    for Use { plugin, pack } in uses {
        let older = match pack.as_ref().and_then(|pack| Some((pack, lock.pack(&pack.runbook, &pack.name)?))) {
            Some((pack, known)) => not_older(&format!("the pack `{}`", pack.name), &pack.version, &known.version),
            None => match granted_before(lock, plugin) {
                Some(known) => not_older(&format!("the plugin `{}`", plugin.name), &plugin.version, &known.version),
                None => Ok(()),
            },
        };
        older.map_err(|refusal| {
            CliError::refused(refusal).hint("if you want to go back to it: --allow-older; nothing was written")
        })?;
    }
    Ok(())
}

/// What was granted to a plugin. What was granted to another one of that name counts for nothing.
fn granted_before<'l>(lock: &'l Lock, plugin: &LockedPlugin) -> Option<&'l LockedPlugin> {
    lock.plugin(&plugin.runbook, &plugin.name).filter(|before| before.is_same_as(plugin))
}

/// Whether a person has something to agree to: a plugin or a signer that is new, content that nobody signed, or more than was granted.
fn is_news(lock: &Lock, Use { plugin, pack }: &Use) -> bool {
    let Some(before) = granted_before(lock, plugin) else { return true };
    let who = match pack {
        Some(pack) => lock.pack(&pack.runbook, &pack.name).is_none_or(|known| known.signer != pack.signer),
        None => before.digest != plugin.digest,
    };
    who || !consent::missing(&plugin.granted, &before.granted).is_empty()
}

fn show(
    out: &mut impl Write,
    runbook: &Runbook,
    catalog: &Catalog,
    Use { plugin, pack }: &Use,
    before: Option<&LockedPlugin>,
) -> io::Result<()> {
    let (bold, dim) = (Styles::BOLD, Styles::DIM);
    let Some(loaded) = catalog.loaded(&plugin.name) else { return Ok(()) };
    let was = before.filter(|before| before.version != plugin.version);
    let was = was.map(|before| format!(" (granted: {})", before.version)).unwrap_or_default();
    writeln!(out, "{bold}{} {}{bold:#}{was}  {}", plugin.name, plugin.version, safe(&loaded.manifest.summary))?;
    match pack {
        Some(pack) => {
            let called = plugin.in_pack.as_ref().map(|name| format!(", where it is called {name}")).unwrap_or_default();
            writeln!(out, "  {dim}from the pack {} {} {}{called}{dim:#}", pack.source, pack.version, pack.digest)?;
            writeln!(out, "  {dim}signed by {}{dim:#}", pack.signer)?;
        }
        None => {
            let path = plugin.source.as_deref().unwrap_or_default();
            writeln!(out, "  {dim}from the file {} {}, which nobody signed{dim:#}", safe(path), plugin.digest)?;
        }
    }
    let granted = before.map(|before| before.granted.as_slice()).unwrap_or_default();
    for (action, places) in places(runbook, &plugin.name) {
        let Some(action) = loaded.manifest.action(&action) else { continue };
        writeln!(out, "\n  {bold}{}{bold:#} may do this {}:", action.name, places)?;
        for ask in &action.asks {
            show_ask(out, &action.name, ask, granted)?;
        }
        if action.asks.is_empty() {
            writeln!(out, "    nothing that needs to be granted")?;
        }
    }
    for gone in consent::missing(granted, &plugin.granted) {
        writeln!(out, "  {dim}- {} (no longer asked for){dim:#}", safe(&gone.to_string()))?;
    }
    writeln!(out)
}

fn show_ask(out: &mut impl Write, action: &str, ask: &Ask, granted: &[Granted]) -> io::Result<()> {
    let (dim, good, perhaps) = (Styles::DIM, Styles::CHANGE, Styles::PERHAPS);
    let power = Granted::of(action, ask);
    let words = safe(&consent::words(ask.call, &ask.on, ask.privileged));
    let is_new = consent::missing(std::slice::from_ref(&power), granted).len() == 1;
    if is_new {
        writeln!(out, "    {good}+ {words}{good:#}")?;
    } else {
        writeln!(out, "      {words}")?;
    }
    writeln!(out, "        {dim}{}{dim:#}", safe(&ask.reason))?;
    if consent::runs_during_plan(ask.call) {
        writeln!(out, "        {perhaps}runs during plan, too{perhaps:#}")?;
    }
    if let Some(consequence) = &ask.irreversible {
        writeln!(out, "        {perhaps}cannot be taken back: {}{perhaps:#}", safe(consequence))?;
    }
    Ok(())
}

/// Where the actions of a plugin are used: "in a, b on n1, n2 and the cluster home".
fn places(runbook: &Runbook, plugin: &str) -> BTreeMap<String, String> {
    #[derive(Default)]
    struct Where {
        steps: Vec<String>,
        hosts: BTreeSet<String>,
        clusters: BTreeSet<String>,
    }
    let mut found: BTreeMap<String, Where> = BTreeMap::new();
    walk(runbook, &mut |step| {
        let Uses::Action { plugin: used, action } = &step.uses else { return };
        if used == plugin {
            let place = found.entry(action.clone()).or_default();
            place.steps.push(step.id.clone());
            place.hosts.extend(step.hosts());
            place.clusters.extend(step.cluster.clone());
        }
    });
    let words = |place: Where| {
        let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
        let mut on = Vec::new();
        if !place.hosts.is_empty() {
            on.push(list(place.hosts));
        }
        if !place.clusters.is_empty() {
            on.push(format!("the cluster {}", list(place.clusters)));
        }
        let steps = format!("in the step {}", place.steps.join(", "));
        if on.is_empty() { steps } else { format!("{steps} on {}", on.join(" and ")) }
    };
    found.into_iter().map(|(action, place)| (action, words(place))).collect()
}

/// Lists what was granted and not used in a run.
fn unused(run: &str) -> Result<u8, CliError> {
    let run = runs_dir::find(Some(run))?;
    let Loaded { runbook, mut catalog, .. } = session::of_begun(&Begun::load(&run)?)?;
    // To find what let its calls pass, not to let any pass.
    catalog.consent();
    let plugins = asks::unused(&runbook, &catalog, &runs_dir::read(&run)?);
    let mut out = anstream::stdout().lock();
    if plugins.is_empty() {
        let _ = writeln!(out, "all plugins of the run {run} are part of the program");
    }
    for plugin in plugins {
        let (bold, dim) = (Styles::BOLD, Styles::DIM);
        let (count, granted) = (plugin.unused.len(), plugin.granted);
        let _ =
            writeln!(out, "{bold}{}{bold:#}  {dim}{count} of {granted} grants not used in {run}{dim:#}", plugin.plugin);
        for power in &plugin.unused {
            let _ = writeln!(out, "  {}", safe(&power.to_string()));
        }
    }
    Ok(exit_code::SUCCESS)
}
