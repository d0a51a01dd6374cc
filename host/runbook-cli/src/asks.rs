//! Which ask of a plugin let a recorded call pass: found again from the journal, by the code that let it pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runbook_engine::compare;
use runbook_engine::run::Actions as _;
use runbook_model::call::Request;
use runbook_model::consent::Granted;
use runbook_model::event::{Event, Instance, Record};
use runbook_model::manifest::Ask;
use runbook_model::plan::{Runbook, Uses};
use serde_json::Value;

use crate::catalog::Catalog;
use crate::display::hint;
use crate::elsewhere;
use crate::runs_dir;
use crate::session::Session;

/// What an attempt was given.
struct Given {
    inputs: Value,
    roles: Vec<(String, Vec<String>)>,
}

/// Finds asks.
pub(crate) struct Asks<'a> {
    runbook: &'a Runbook,
    catalog: &'a Catalog,
    /// How the attempts began that are going on.
    started: BTreeMap<Instance, Given>,
}

impl<'a> Asks<'a> {
    pub(crate) fn new(runbook: &'a Runbook, catalog: &'a Catalog) -> Self {
        Self { runbook, catalog, started: BTreeMap::new() }
    }

    /// Takes notice of an attempt that begins.
    pub(crate) fn read(&mut self, event: &Event) {
        if let Event::StepStarted { instance, inputs, roles, .. } = event {
            self.started.insert(instance.clone(), Given { inputs: inputs.clone(), roles: roles.clone() });
        }
    }

    /// The plugin that made a call, and its ask that lets it pass.
    pub(crate) fn of(&self, instance: &Instance, request: &Request) -> Option<(Used<'a>, &'a Ask)> {
        let Given { inputs, roles } = self.started.get(instance)?;
        let step = *self.runbook.trail(&instance.step)?.last()?;
        let Uses::Action { plugin, action: name } = &step.uses else { return None };
        let (action, consent) = self.catalog.action(plugin, name)?;
        let passed = compare::grants(step, action, consent, inputs, roles).check(request).ok()?;
        Some((Used { plugin, action: name }, action.asks.get(passed.ask?)?))
    }
}

/// The action that a step used.
pub(crate) struct Used<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) action: &'a str,
}

/// What was granted to a plugin and not used.
pub(crate) struct Unused {
    pub(crate) plugin: String,
    /// How many powers were granted.
    pub(crate) granted: usize,
    pub(crate) unused: Vec<Granted>,
}

/// What was granted to plugins from elsewhere and let no call pass in these records. A look or a change counts, also one that found nothing to
/// do; commands within a call (guards, inverses) count as the call's own ask, so that theirs may be listed.
pub(crate) fn unused(runbook: &Runbook, catalog: &Catalog, records: &[Record]) -> Vec<Unused> {
    let Ok(uses) = elsewhere::uses(runbook, catalog, |_, _| Ok(String::new())) else { return Vec::new() };
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    let mut asks = Asks::new(runbook, catalog);
    for record in records {
        let (instance, request) = match &record.event {
            Event::Looked { instance, request, .. }
            | Event::Intended { instance, request, .. }
            | Event::Unchanged { instance, request, .. }
            | Event::Deferred { instance, request, .. } => (instance, request),
            event => {
                asks.read(event);
                continue;
            }
        };
        if let Some((by, ask)) = asks.of(instance, request) {
            used.insert((by.plugin.to_owned(), Granted::of(by.action, ask).to_string()));
        }
    }
    let of_plugin = |plugin: runbook_packs::lock::LockedPlugin| {
        let granted = plugin.granted.len();
        let is_unused = |power: &Granted| !used.contains(&(plugin.name.clone(), power.to_string()));
        let unused = plugin.granted.into_iter().filter(is_unused).collect();
        Unused { plugin: plugin.name.clone(), granted, unused }
    };
    uses.into_iter().map(|wanted| of_plugin(wanted.plugin)).collect()
}

/// Points out after a run what was granted and not used.
pub(crate) struct Afterwards(Option<(Runbook, Arc<Catalog>)>);

impl Afterwards {
    /// Keeps what it needs of a session that is about to run.
    pub(crate) fn of(session: &Session) -> Self {
        let is_concerned = session.catalog.beside().is_some();
        Self(is_concerned.then(|| (session.runbook.clone(), Arc::clone(&session.catalog))))
    }

    /// Says it in one line, of plugins that came to work at all.
    pub(crate) fn point_out(&self, run: &str) {
        let Some((runbook, catalog)) = &self.0 else { return };
        let Ok(records) = runs_dir::read(run) else { return };
        let words: Vec<String> = unused(runbook, catalog, &records)
            .iter()
            .filter(|plugin| !plugin.unused.is_empty() && plugin.unused.len() < plugin.granted)
            .map(|plugin| format!("{} of {} of `{}`", plugin.unused.len(), plugin.granted, plugin.plugin))
            .collect();
        if !words.is_empty() {
            hint(&format!(
                "grants that this run did not use: {}; runbook grant --unused {run} lists them",
                words.join(", ")
            ));
        }
    }
}
