//! What the names of an expression stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::event::StepOutcome;
use crate::expr::syntax::{Reference, Segment};

/// What the names of an expression stand for, for one instance of a step.
///
/// Values of inputs, vars, hosts and items may hold secrets as references (`{"$secret": "name"}`, `{"$text": [...]}`), as
/// [`crate::inputs`], [`crate::resolve`] and [`super::render`] give them. Outputs never do: what looks like a reference in
/// them came from a host, and is refused.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// `inputs.NAME`.
    pub inputs: Map<String, Value>,
    /// `vars.NAME`.
    pub vars: Map<String, Value>,
    /// `host`: the one that this instance is for.
    pub host: Option<HostView>,
    /// What `hosts("label")` chooses from, in the order of the inventory.
    pub hosts: Arc<Vec<HostView>>,
    /// `steps.ID`: the instances of the steps that have ended. A step that was left out (`--only`) or skipped must be here too.
    pub steps: Arc<BTreeMap<String, Vec<InstanceView>>>,
    /// `item`.
    pub item: Option<Value>,
    /// `run`.
    pub run: RunView,
    /// Of "item", "inputs.NAME" and "vars.NAME" those that were computed from outputs of steps.
    pub computed: BTreeSet<String>,
    /// Of the same those that are unknown in this plan, with the step that they wait for.
    pub unknown: BTreeMap<String, String>,
}

/// A host as expressions see it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostView {
    /// `host.name`.
    pub name: String,
    /// `host.address`: the one that answered, else the first.
    pub address: Option<String>,
    /// `host.labels`.
    pub labels: Vec<String>,
    /// `host.vars`.
    pub vars: Map<String, Value>,
}

/// The run as expressions see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunView {
    /// `run.id`.
    pub id: String,
    /// `run.dir`.
    pub dir: String,
}

/// An instance of a step that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceView {
    /// Its host, where the step fans out.
    pub host: Option<String>,
    /// The name of its item, where it has one.
    pub item: Option<String>,
    /// How it ended; none: unknown in this plan.
    pub outcome: Option<StepOutcome>,
    /// What it gave.
    pub outputs: Outputs,
}

/// What an instance of a step gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Outputs {
    /// This.
    Known(Value),
    /// None: it was skipped.
    None,
    /// In a plan: it would only be known afterwards.
    Unknown,
}

/// The instance that a reference means.
pub(super) enum Chosen<'s> {
    /// This one.
    One(&'s InstanceView),
    /// The step has none, and was skipped as a whole.
    Skipped,
    /// Several could be meant.
    Ambiguous,
}

impl Scope {
    /// The instance that `steps.ID.outputs` means: the one of the same host, else the only one.
    pub(super) fn choose<'s>(&self, instances: &'s [InstanceView]) -> Chosen<'s> {
        if instances.is_empty() {
            return Chosen::Skipped;
        }
        if let Some(host) = &self.host {
            let mut same = instances.iter().filter(|i| i.host.as_ref() == Some(&host.name));
            if let Some(first) = same.next() {
                return if same.next().is_none() { Chosen::One(first) } else { Chosen::Ambiguous };
            }
        }
        match instances {
            [one] => Chosen::One(one),
            _ => Chosen::Ambiguous,
        }
    }

    /// Whether an expression computes with a secret by this reference: one lies there (or in what lies there), and it is not
    /// only passed on, or a part of it is asked for.
    pub(super) fn misuses_secret(&self, reference: &Reference) -> bool {
        let (mut value, path) = match (reference.root.as_str(), reference.key(0)) {
            ("inputs" | "vars", None) => {
                let map = if reference.root == "vars" { &self.vars } else { &self.inputs };
                return !reference.passed_on && map.values().any(holds_secret);
            }
            ("inputs", Some(name)) => (self.inputs.get(name), &reference.path[1..]),
            ("vars", Some(name)) => (self.vars.get(name), &reference.path[1..]),
            ("item", _) => (self.item.as_ref(), &reference.path[..]),
            ("host", Some("vars")) => match (&self.host, reference.key(1)) {
                (Some(host), Some(name)) => (host.vars.get(name), &reference.path[2..]),
                (Some(host), None) => return !reference.passed_on && host.vars.values().any(holds_secret),
                (None, _) => return false,
            },
            ("host", None) => {
                return !reference.passed_on && self.host.as_ref().is_some_and(|h| h.vars.values().any(holds_secret));
            }
            _ => return false,
        };
        for segment in path {
            let Some(Value::Object(map)) = value else { break };
            if value.is_some_and(super::is_reference) {
                return true;
            }
            match segment {
                Segment::Key(key) => value = map.get(key),
                Segment::Dynamic => break,
            }
        }
        !reference.passed_on && value.is_some_and(holds_secret)
    }

    /// The steps for which a reference has to wait in this plan.
    pub(super) fn unknown_behind(&self, reference: &Reference) -> BTreeSet<String> {
        let mut waits = BTreeSet::new();
        match reference.root.as_str() {
            "item" => waits.extend(self.unknown.get("item").cloned()),
            "inputs" | "vars" => match reference.key(0) {
                Some(name) => waits.extend(self.unknown.get(&format!("{}.{name}", reference.root)).cloned()),
                None => {
                    let prefix = format!("{}.", reference.root);
                    waits.extend(self.unknown.iter().filter(|(k, _)| k.starts_with(&prefix)).map(|(_, v)| v.clone()));
                }
            },
            "steps" => {
                let of_interest: Vec<(&String, &Vec<InstanceView>)> = match reference.key(0) {
                    Some(id) => self.steps.get_key_value(id).into_iter().collect(),
                    None => self.steps.iter().collect(),
                };
                for (id, instances) in of_interest {
                    if self.is_unknown(instances, &reference.path[1.min(reference.path.len())..]) {
                        waits.insert(id.clone());
                    }
                }
            }
            _ => {}
        }
        waits
    }

    /// Whether what lies at this path of a step is unknown.
    fn is_unknown(&self, instances: &[InstanceView], path: &[Segment]) -> bool {
        let no_outputs = |i: &InstanceView| i.outputs == Outputs::Unknown;
        let no_outcome = |i: &InstanceView| i.outcome.is_none();
        let key = |index: usize| match path.get(index) {
            Some(Segment::Key(key)) => Some(key.as_str()),
            _ => None,
        };
        match key(0) {
            Some("outcome") => instances.iter().any(no_outcome),
            Some("outputs") => match self.choose(instances) {
                Chosen::One(one) => no_outputs(one),
                Chosen::Skipped => false,
                Chosen::Ambiguous => instances.iter().any(no_outputs),
            },
            Some("on") => match key(1) {
                Some(name) => instances
                    .iter()
                    .filter(|i| i.host.as_deref() == Some(name) || i.item.as_deref() == Some(name))
                    .any(|i| {
                        if key(2) == Some("outcome") {
                            no_outcome(i)
                        } else {
                            no_outputs(i) || (key(2).is_none() && no_outcome(i))
                        }
                    }),
                None => instances.iter().any(|i| no_outputs(i) || no_outcome(i)),
            },
            _ => instances.iter().any(|i| no_outputs(i) || no_outcome(i)),
        }
    }
}

/// Whether a reference to a secret stands somewhere in a value.
fn holds_secret(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(holds_secret),
        Value::Object(map) => super::is_reference(value) || map.values().any(holds_secret),
        _ => false,
    }
}
