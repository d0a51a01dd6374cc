//! What the expressions of a runbook see while it runs: a level for the runbook itself, and one for each included one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use runbook_model::event::{Instance, StepOutcome};
use runbook_model::expr::{self, ExprError, HostView, InstanceView, Items, RunView, Scope};
use runbook_model::input_schema;
use runbook_model::manifest::Action;
use runbook_model::plan::{Confirm, NeedsReceipt, Runbook, Step, Uses};
use runbook_model::prepare;
use runbook_model::resolve;
use serde_json::{Map, Value};

use crate::attempt::Outputs;
use crate::run::Options;
use crate::shared::{Shared, lock};

pub use runbook_model::expr::Item;

/// The inputs of a level, and what follows from them alone.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// `inputs.NAME`; secrets are references.
    pub values: Map<String, Value>,
    /// `vars.NAME`.
    pub vars: Map<String, Value>,
    /// The hosts, in the order of the inventory.
    pub hosts: Arc<Vec<HostView>>,
    /// Of "inputs.NAME" and "vars.NAME" those that were computed from outputs of an outer level.
    pub computed: BTreeSet<String>,
    /// Of the same those that are unknown in this plan, with the step that they wait for.
    pub unknown: BTreeMap<String, String>,
}

impl Inputs {
    /// For the journal: secrets stay references.
    pub(crate) fn visible(&self) -> Map<String, Value> {
        self.values.clone()
    }
}

/// Why a step, or an instance of it, is not called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its condition does not hold.
    Skip(String),
    /// In a plan: it depends on something that is unknown.
    Unknown(String),
    /// An expression has no value, or a wrong one.
    Wrong(String),
}

impl From<ExprError> for Trouble {
    fn from(error: ExprError) -> Self {
        let help = error.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        Self::Wrong(format!("{error}{help}"))
    }
}

fn waits_for(step: &str) -> Trouble {
    Trouble::Unknown(format!("depends on {step}, which has not run"))
}

/// A runbook at work, with what its steps came to.
pub(crate) struct Level<'a> {
    pub(crate) runbook: &'a Runbook,
    /// Ids of the including steps, each with a `/` behind it.
    pub(crate) prefix: String,
    /// Absolute path of the runbook's folder, which paths on the controller are relative to.
    folder: String,
    inputs: Inputs,
    /// Where each host stands in the inputs.
    places: Arc<HashMap<String, usize>>,
    run: RunView,
    ended: Mutex<Arc<BTreeMap<String, Vec<InstanceView>>>>,
}

impl<'a> Level<'a> {
    pub(crate) fn new(runbook: &'a Runbook, inputs: Inputs, shared: &Shared, folder: &str) -> Self {
        let run = RunView { id: shared.run.clone(), dir: shared.artifacts.to_string_lossy().into_owned() };
        let (prefix, folder) = (String::new(), folder.to_owned());
        let places = inputs.hosts.iter().enumerate().map(|(place, host)| (host.name.clone(), place)).collect();
        let ended = Mutex::new(Arc::new(BTreeMap::new()));
        Self { runbook, prefix, folder, inputs, places: Arc::new(places), run, ended }
    }

    /// A step's id, with those of the including steps.
    pub(crate) fn path(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    pub(crate) fn instance(&self, step: &Step, host: Option<&str>, item: Option<&Item>) -> Instance {
        Instance { step: self.path(&step.id), host: host.map(str::to_owned), item: item.map(|item| item.name.clone()) }
    }

    fn scope(&self, host: Option<&str>, item: Option<&Item>) -> Scope {
        let mut scope = Scope {
            inputs: self.inputs.values.clone(),
            vars: self.inputs.vars.clone(),
            host: host.and_then(|name| self.places.get(name)).and_then(|place| self.inputs.hosts.get(*place).cloned()),
            hosts: Arc::clone(&self.inputs.hosts),
            steps: Arc::clone(&lock(&self.ended)),
            item: None,
            run: self.run.clone(),
            computed: self.inputs.computed.clone(),
            unknown: self.inputs.unknown.clone(),
        };
        if let Some(item) = item {
            scope.item = Some(item.value.clone());
            if item.computed {
                scope.computed.insert("item".to_owned());
            }
            scope.unknown.extend(item.unknown.clone().map(|step| ("item".to_owned(), step)));
        }
        scope
    }

    /// What an instance came to, for the steps after it.
    pub(crate) fn remember(&self, instance: &Instance, outcome: StepOutcome, outputs: Outputs) {
        let Some(id) = instance.step.strip_prefix(&self.prefix).filter(|id| !id.contains('/')) else { return };
        let unknown = outputs == Outputs::Unknown;
        let view = InstanceView {
            host: instance.host.clone(),
            item: instance.item.clone(),
            // What a plan cannot see may come out in any way.
            outcome: (!(unknown && outcome == StepOutcome::MayChange)).then_some(outcome),
            outputs: match outputs {
                Outputs::Known(outputs) => expr::Outputs::Known(outputs),
                Outputs::Unknown => expr::Outputs::Unknown,
                Outputs::None => expr::Outputs::None,
            },
        };
        Arc::make_mut(&mut lock(&self.ended)).entry(id.to_owned()).or_default().push(view);
    }

    /// The worst outcome so far.
    pub(crate) fn worst(&self) -> StepOutcome {
        let ended = Arc::clone(&lock(&self.ended));
        let outcomes = ended.values().flatten().map(|view| view.outcome.unwrap_or(StepOutcome::MayChange));
        outcomes.max().unwrap_or(StepOutcome::Skipped)
    }

    /// The items of `for_each`; one that is none where the step has no `for_each`.
    pub(crate) fn items(&self, step: &Step) -> Result<Vec<Option<Item>>, Trouble> {
        let Some(for_each) = &step.for_each else { return Ok(vec![None]) };
        match expr::items(for_each, step.key.as_deref(), &self.scope(None, None))? {
            Items::Known(items) => Ok(items.into_iter().map(Some).collect()),
            Items::Unknown(step) => Err(waits_for(&step)),
        }
    }

    /// Whether the step is to run.
    pub(crate) fn condition(&self, step: &Step, host: Option<&str>, item: Option<&Item>) -> Result<(), Trouble> {
        self.holds(&step.when, &step.unless, host, item)
    }

    /// The same for conditions of a block.
    pub(crate) fn holds(
        &self,
        when: &Option<String>,
        unless: &Option<String>,
        host: Option<&str>,
        item: Option<&Item>,
    ) -> Result<(), Trouble> {
        for (source, wanted, word) in [(when, true, "when"), (unless, false, "unless")] {
            let Some(source) = source else { continue };
            match expr::condition(source, &self.scope(host, item))? {
                Some(holds) if holds == wanted => {}
                Some(_) => return Err(Trouble::Skip(format!("{word}: {source}"))),
                None => return Err(Trouble::Unknown(format!("`{word}` depends on a step that has not run: {source}"))),
            }
        }
        Ok(())
    }

    /// The receipt that a step needs.
    pub(crate) fn needs_receipt(
        &self,
        step: &Step,
        host: Option<&str>,
        item: Option<&Item>,
    ) -> Result<Option<NeedsReceipt>, Trouble> {
        let Some(needs) = &step.needs_receipt else { return Ok(None) };
        let subject = match &needs.subject {
            None => None,
            Some(template) => match expr::text(template, &self.scope(host, item))? {
                Some(subject) => Some(subject),
                None => {
                    return Err(Trouble::Unknown(format!(
                        "`needs_receipt` depends on a step that has not run: {template}"
                    )));
                }
            },
        };
        Ok(Some(NeedsReceipt { subject, ..needs.clone() }))
    }

    /// The inputs of the action, and the names of those that were computed from outputs.
    pub(crate) fn inputs(
        &self,
        step: &Step,
        action: &Action,
        host: Option<&str>,
        item: Option<&Item>,
        options: &Options,
    ) -> Result<(Value, BTreeSet<String>), Trouble> {
        let rendered = expr::render(&step.with, &self.scope(host, item))?;
        if let Some(unknown) = rendered.unknown.first() {
            return Err(waits_for(&unknown.step));
        }
        let mut value = rendered.value;
        if value.is_null() {
            value = Value::Object(Map::new());
        }
        // What has no template in it was checked before the run.
        if value != step.with {
            let problems = input_schema::check(&action.inputs, &value).map_err(Trouble::Wrong)?;
            if let Some(problem) = problems.first() {
                return Err(Trouble::Wrong(format!("with{}: {}", problem.path, problem.message)));
            }
        }
        prepare::fill_defaults(&action.inputs, &mut value);
        prepare::resolve_paths(&action.inputs, &mut value, &self.folder, &options.home);
        Ok((value, rendered.computed))
    }

    /// The hosts that an expression names.
    pub(crate) fn hosts(&self, expr: &str, among: &[String], item: Option<&Item>) -> Result<Vec<String>, Trouble> {
        match expr::on_hosts(expr, among, &self.scope(None, item))? {
            Some(hosts) => Ok(hosts),
            None => Err(Trouble::Unknown(format!("its hosts depend on a step that has not run: {expr}"))),
        }
    }

    /// The question to a person, and what must be typed.
    pub(crate) fn confirm_texts(
        &self,
        confirm: &Confirm,
        item: Option<&Item>,
    ) -> Result<(String, Option<String>), Trouble> {
        let scope = self.scope(None, item);
        let text = |template: &str| expr::text(template, &scope).map(Option::unwrap_or_default);
        let typed = confirm.typed.as_deref().map(text).transpose()?;
        Ok((text(&confirm.text)?, typed))
    }

    /// The level of an included runbook.
    pub(crate) fn include(
        &self,
        step: &Step,
        runbook: &'a Runbook,
        item: Option<&Item>,
        options: &Options,
    ) -> Result<Self, Trouble> {
        let rendered = expr::render(&step.with, &self.scope(None, item))?;
        let unknown = rendered.unknown.iter().filter_map(|unknown| {
            let name = unknown.path.trim_start_matches('/').split('/').next()?;
            Some((format!("inputs.{name}"), unknown.step.clone()))
        });
        let mut inputs = Inputs {
            values: Map::new(),
            vars: Map::new(),
            hosts: Arc::clone(&self.inputs.hosts),
            computed: rendered.computed.iter().map(|name| format!("inputs.{name}")).collect(),
            unknown: unknown.collect(),
        };
        let given = match rendered.value {
            Value::Object(mut map) => {
                // What is unknown in this plan has no value to be checked.
                map.retain(|name, _| !inputs.unknown.contains_key(&format!("inputs.{name}")));
                map
            }
            _ => Map::new(),
        };
        let known: Vec<_> = runbook
            .inputs
            .iter()
            .filter(|input| !inputs.unknown.contains_key(&format!("inputs.{}", input.name)))
            .cloned()
            .collect();
        inputs.values =
            runbook_model::inputs::of_include(&known, &given).map_err(|wrong| Trouble::Wrong(wrong.join("; ")))?;
        let prefix = match item {
            Some(item) => format!("{}{}[{}]/", self.prefix, step.id, item.name),
            None => format!("{}{}/", self.prefix, step.id),
        };
        let folder = match &step.uses {
            Uses::Include { file, .. } => prepare::absolute(file, &self.folder, &options.home),
            Uses::Action { .. } => self.folder.clone(),
        };
        let folder = folder.rsplit_once('/').map_or(folder.as_str(), |(folder, _)| folder).to_owned();
        let (run, ended) = (self.run.clone(), Mutex::new(Arc::new(BTreeMap::new())));
        let mut level = Self { runbook, prefix, folder, inputs, places: Arc::clone(&self.places), run, ended };
        let mut scope = level.scope(None, None);
        resolve::vars(runbook, &mut scope)?;
        level.inputs.vars = scope.vars;
        level.inputs.computed = scope.computed;
        level.inputs.unknown = scope.unknown;
        Ok(level)
    }
}
