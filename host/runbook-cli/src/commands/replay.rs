//! `runbook replay`: plugins are executed once more against what a run recorded, without any network.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use runbook_engine::backend::{NoRuns, Secrets};
use runbook_engine::compare::{self, Nowhere};
use runbook_engine::journal::{Journal, Start};
use runbook_engine::receipts::Receipts;
use runbook_engine::shared::Shared;
use runbook_engine::vault::Vault;
use runbook_model::call::Request;
use runbook_model::consent;
use runbook_model::event::{Event, Instance, Record};
use runbook_model::exit_code;
use runbook_model::history::{self, History};
use runbook_model::manifest::Ask;
use runbook_model::plan::Runbook;
use runbook_model::redact::Redactor;
use runbook_model::words;
use tokio_util::sync::CancellationToken;

use crate::args;
use crate::asks::Asks;
use crate::catalog::Catalog;
use crate::display::{Styles, print, safe};
use crate::elsewhere;
use crate::error::CliError;
use crate::runs_dir::{self, Begun};
use crate::session::{self, Loaded};

/// Executes the plugins of a run once more, and says where they would have acted differently.
pub(crate) async fn replay(args: args::Replay) -> Result<u8, CliError> {
    let run = runs_dir::find(args.run.as_deref())?;
    let begun = Begun::load(&run)?;
    let records = runs_dir::read(&run)?;
    let is_meant = |instance: &Instance| args.step.as_deref().is_none_or(|step| instance.is_of(step));
    let Loaded { runbook, mut catalog, .. } = session::of_begun(&begun)?;
    elsewhere::consent_to_replay(&runbook, &mut catalog)?;
    let mut out = anstream::stdout().lock();
    if args.trace {
        let _ = Trace::new(&runbook, &catalog).write(&mut out, &records, &is_meant);
    }
    let wrong = |error: String| CliError::invalid(format!("{run}: {error}"));
    let attempts = history::attempts(records.iter().cloned()).map_err(wrong)?;
    let attempts: Vec<_> = attempts.into_iter().filter(|attempt| is_meant(&attempt.instance)).collect();
    if let (true, Some(step)) = (attempts.is_empty(), &args.step) {
        return Err(CliError::usage(format!("nothing of a step `{step}` is recorded in the run {run}"))
            .hint(format!("runbook show {run} lists its steps")));
    }
    catalog.prepare(&session::used_plugins(&runbook)).await?;
    let past = History::of(records).map_err(|error| wrong(error.to_string()))?;
    let folder = runs_dir::root()?.join(&run);
    let vault = Vault::open(&runs_dir::key()?, folder.join("blobs"))
        .map_err(|error| CliError::internal(format!("the key of this installation: {error}")))?;
    let shared = Arc::new(nowhere(&run, past, vault, folder.join("artifacts")));
    let plugins = catalog.host().plugins();
    let (mut calls, mut different) = (0, 0);
    for attempt in &attempts {
        let compared = compare::compare(&shared, &plugins, &catalog, &runbook, attempt).await;
        calls += compared.same;
        let name = &attempt.instance;
        let number = attempt.past.attempts;
        let which = if number > 1 { format!(" (attempt {number})") } else { String::new() };
        let _ = match &compared.difference {
            None => {
                let good = Styles::GOOD;
                writeln!(out, "{good}={good:#} {name}{which}  {} calls", compared.same)
            }
            Some(difference) => {
                different += 1;
                let bad = Styles::BAD;
                writeln!(
                    out,
                    "{bad}x {name}{which}{bad:#}  differs after {} calls\n    {}",
                    compared.same,
                    safe(difference)
                )
            }
        };
    }
    drop(out);
    let attempts = attempts.len();
    if different == 0 {
        print(&format!("same: {attempts} attempts, {calls} calls"));
        return Ok(exit_code::SUCCESS);
    }
    print(&format!("different: {different} of {attempts} attempts, {calls} calls are the same"));
    Ok(exit_code::CHANGES)
}

/// What a run shares, where there is no world and nothing is kept.
pub(super) fn nowhere(run: &str, past: History, vault: Vault, artifacts: PathBuf) -> Shared {
    Shared {
        backend: Arc::new(Nowhere),
        journal: Journal::new(None, Start::default(), Redactor::default(), Vec::new()),
        redactor: Redactor::default(),
        secrets: Arc::new(Secrets::default()),
        vault: Arc::new(vault),
        receipts: Arc::new(Receipts::default()),
        artifacts,
        cancel: CancellationToken::new(),
        run: run.to_owned(),
        owner: String::new(),
        runs: Arc::new(NoRuns),
        baselines: Mutex::new(past.baselines.clone()),
        past,
        foresight: Default::default(),
    }
}

/// Prints every call with its grant and its timing.
struct Trace<'a> {
    asks: Asks<'a>,
    /// Changes that have left and not come back.
    under_way: BTreeMap<(Instance, u32), Request>,
}

impl<'a> Trace<'a> {
    fn new(runbook: &'a Runbook, catalog: &'a Catalog) -> Self {
        Self { asks: Asks::new(runbook, catalog), under_way: BTreeMap::new() }
    }

    fn write(
        mut self,
        out: &mut impl Write,
        records: &[Record],
        is_meant: &dyn Fn(&Instance) -> bool,
    ) -> std::io::Result<()> {
        let began = records.first().map_or(0, |record| record.at);
        for record in records {
            let at = record.at.saturating_sub(began);
            let (instance, call, request, what) = match &record.event {
                Event::StepStarted { .. } => {
                    self.asks.read(&record.event);
                    continue;
                }
                Event::Intended { instance, call, request, .. } => {
                    self.under_way.insert((instance.clone(), *call), request.clone());
                    continue;
                }
                Event::Looked { instance, call, request, elapsed_us, .. } => {
                    (instance, call, Some(request.clone()), took(*elapsed_us))
                }
                Event::Changed { instance, call, elapsed_us, .. } => {
                    let request = self.under_way.remove(&(instance.clone(), *call));
                    (instance, call, request, format!("{}, a change", took(*elapsed_us)))
                }
                Event::Unchanged { instance, call, request } => {
                    (instance, call, Some(request.clone()), "was so already".to_owned())
                }
                Event::Deferred { instance, call, request, .. } => {
                    (instance, call, Some(request.clone()), "waits for its time".to_owned())
                }
                Event::Denied { instance, call, request, reason } => {
                    (instance, call, Some(request.clone()), safe(reason))
                }
                Event::Lost { instance, call, .. } => {
                    let request = self.under_way.remove(&(instance.clone(), *call));
                    (instance, call, request, "its answer was lost".to_owned())
                }
                _ => continue,
            };
            let Some(request) = request.filter(|_| is_meant(instance)) else { continue };
            let (dim, seconds) = (Styles::DIM, at / 1000);
            let words = safe(&words::request(&request));
            writeln!(out, "{dim}{seconds:>5}.{:03}{dim:#} {instance} #{call}  {words}  {dim}{what}{dim:#}", at % 1000)?;
            let by = match self.asks.of(instance, &request) {
                Some((_, ask)) => format!("{} — {}", safe(&words_of(ask)), safe(&ask.reason)),
                None => "no grant is needed, or none is left that gives it".to_owned(),
            };
            writeln!(out, "          {dim}{by}{dim:#}")?;
        }
        Ok(())
    }
}

fn took(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

fn words_of(ask: &Ask) -> String {
    consent::words(ask.call, &ask.on, ask.privileged)
}
