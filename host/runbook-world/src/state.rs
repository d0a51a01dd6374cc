//! Everything that the world is at one moment. A copy of it is a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use runbook_engine::backend::CallContext;
use runbook_model::call::{Act, CallError, Output, Prior, Target};
use runbook_model::delta::comparable;
use runbook_model::event::Instance;
use serde_json::Value;

use crate::kube::Cluster;
use crate::machine::{Invocation, Machine};
use crate::tree::{Kind, Node, Tree};

/// The world at one moment. Copying it costs microseconds.
#[derive(Clone, Default)]
pub struct State {
    /// By name.
    pub machines: BTreeMap<String, Machine>,
    /// By name.
    pub clusters: BTreeMap<String, Cluster>,
    /// What was begun under the number of its intent, and its result where it has ended: (target, run, record).
    pub(crate) marks: BTreeMap<(String, String, u64), Option<Output>>,
    /// Who may change each target: a run, and the session of it that is in charge.
    pub(crate) leases: BTreeMap<String, Lease>,
    /// What goes on although nobody hears of it.
    pub(crate) at_work: Vec<Work>,
    /// The changes that arrived, in their order.
    pub done: Vec<Done>,
    /// What was asked for that nobody described: the world cannot say how a real one would answer.
    pub gaps: BTreeSet<String>,
    /// Changes that were asked for although nothing may be changed, or without a mark.
    pub violations: usize,
}

/// How long a lease lasts that nobody renews.
pub(crate) const LEASE: Duration = Duration::from_secs(15 * 60);

/// Who may change a target.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) run: String,
    /// The session of the run that is in charge.
    pub(crate) session: u32,
    /// None: it is renewed, while its connection lives.
    pub(crate) until: Option<Instant>,
}

impl Lease {
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// A change that is at work.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) ends: Instant,
    pub(crate) target: Target,
    pub(crate) act: Act,
    pub(crate) prior: Prior,
    pub(crate) ctx: CallContext,
}

/// A change that arrived.
#[derive(Debug, Clone)]
pub struct Done {
    /// Where.
    pub target: Target,
    /// What.
    pub act: Act,
    /// Whose, and the number of the call; none: the program's own.
    pub call: Option<(Instance, u32)>,
    /// Whether it took another one back.
    pub is_undo: bool,
    /// What is different since.
    pub touched: BTreeSet<Thing>,
}

/// A part of the world that can be different.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A path on a machine, in a pod (`cluster/namespace/pod`) or in a volume (`cluster/volume of namespace/claim`).
    Path(String, String),
    /// What the programs of a machine or pod remember, by name.
    Value(String, String),
    /// An object of a cluster: kind with group, namespace, name.
    Object(String, [String; 4]),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(place, path) => write!(f, "{path} on {place}"),
            Self::Value(place, name) => write!(f, "`{name}` of {place}"),
            Self::Object(cluster, [kind, _, namespace, name]) if namespace.is_empty() => {
                write!(f, "{kind} {name} in {cluster}")
            }
            Self::Object(cluster, [kind, _, namespace, name]) => write!(f, "{kind} {namespace}/{name} in {cluster}"),
        }
    }
}

/// What a part of the world is.
#[derive(Debug, Clone, PartialEq)]
pub enum Is {
    /// A file, directory or link.
    Node(Node),
    /// A value.
    Text(String),
    /// An object, without what an API server changes by itself.
    Object(Value),
}

/// How a part of the world is at one moment, and at another; in words, the first difference that is found.
pub fn contrast(thing: &Thing, now: &State, wanted: &State) -> String {
    let (now, wanted) = (now.things().remove(thing), wanted.things().remove(thing));
    match (&now, &wanted) {
        (Some(Is::Object(now)), Some(Is::Object(wanted))) => {
            let (pointer, now, wanted) = first_difference(now, wanted, String::new());
            format!("{pointer} is {} instead of {}", told(now), told(wanted))
        }
        _ => {
            let said = |is: &Option<Is>| is.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
            format!("{} instead of {}", said(&now), said(&wanted))
        }
    }
}

/// Where two values differ first, and what stands there.
fn first_difference<'a>(
    one: &'a Value,
    other: &'a Value,
    pointer: String,
) -> (String, Option<&'a Value>, Option<&'a Value>) {
    let (Value::Object(ones), Value::Object(others)) = (one, other) else { return (pointer, Some(one), Some(other)) };
    let keys: BTreeSet<&String> = ones.keys().chain(others.keys()).collect();
    match keys.into_iter().find(|key| ones.get(*key) != others.get(*key)) {
        None => (pointer, Some(one), Some(other)),
        Some(key) => {
            let below = format!("{pointer}/{key}");
            match (ones.get(key), others.get(key)) {
                (Some(one), Some(other)) => first_difference(one, other, below),
                (one, other) => (below, one, other),
            }
        }
    }
}

fn told(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| brief(&value.to_string()))
}

/// The beginning of a text.
fn brief(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&brief(&format!("{text:?}"))),
            Self::Object(_) => f.write_str("an object"),
            Self::Node(node) => {
                let Node { kind, mode, owner, group } = node;
                match kind {
                    Kind::File(content) => {
                        f.write_str(&brief(&format!("{:?}", String::from_utf8_lossy(content))))?;
                    }
                    Kind::Directory => f.write_str("a directory")?,
                    Kind::Link(target) => return write!(f, "a link to {target}"),
                }
                write!(f, " ({mode:04o} {owner}:{group})")
            }
        }
    }
}

/// What is different between two moments.
pub fn differences(one: &State, other: &State) -> BTreeSet<Thing> {
    let (one, other) = (one.things(), other.things());
    let keys: BTreeSet<&Thing> = one.keys().chain(other.keys()).collect();
    keys.into_iter().filter(|thing| one.get(thing) != other.get(thing)).cloned().collect()
}

impl State {
    /// Brings to its end what is at work until now.
    pub(crate) fn go_on(&mut self, now: Instant) {
        while let Some(next) =
            (0..self.at_work.len()).filter(|at| self.at_work[*at].ends <= now).min_by_key(|at| self.at_work[*at].ends)
        {
            let work = self.at_work.remove(next);
            // Whoever asked does not hear it.
            let _ = self.change(&work.target, &work.act, &work.prior, false, &work.ctx);
        }
    }

    /// Everything that there is, as far as it matters whether two moments are the same.
    pub fn things(&self) -> BTreeMap<Thing, Is> {
        let mut things = BTreeMap::new();
        for (name, machine) in &self.machines {
            of_machine(name, machine, &mut things);
        }
        for (name, cluster) in &self.clusters {
            for (pod, machine) in &cluster.pods {
                of_machine(&format!("{name}/{pod}"), machine, &mut things);
            }
            for (claim, tree) in &cluster.volumes {
                of_tree(&format!("{name}/volume of {claim}"), tree, &mut things);
            }
            let names = cluster.names_of_uids();
            for (key, object) in cluster.objects() {
                let mut object = comparable(object);
                name_uids(&mut object, &names);
                things.insert(Thing::Object(name.clone(), key.clone()), Is::Object(object));
            }
        }
        things
    }

    /// Makes a part of the world what it was at another moment, behind everybody's back.
    pub fn sabotage(&mut self, thing: &Thing, other: &Self) {
        match thing {
            Thing::Path(place, path) => {
                let node = other.tree_of(place).and_then(|tree| tree.get(path)).cloned();
                let Some(tree) = self.tree_mut(place) else { return };
                match node {
                    Some(node) => tree.put(path, node),
                    None => tree.remove(path),
                }
            }
            Thing::Value(place, name) => {
                let value = other.place(place).and_then(|machine| machine.values.get(name)).cloned();
                let Some(machine) = self.place_mut(place) else { return };
                match value {
                    Some(value) => drop(machine.values.insert(name.clone(), value)),
                    None => drop(machine.values.remove(name)),
                }
            }
            Thing::Object(cluster, key) => {
                let object = other.clusters.get(cluster).and_then(|cluster| cluster.object(key)).cloned();
                if let Some(cluster) = self.clusters.get_mut(cluster) {
                    cluster.set(key, object);
                }
            }
        }
    }

    fn tree_of(&self, place: &str) -> Option<&Tree> {
        match place.split_once("/volume of ") {
            Some((cluster, claim)) => self.clusters.get(cluster)?.volumes.get(claim),
            None => self.place(place).map(|machine| &machine.tree),
        }
    }

    fn tree_mut(&mut self, place: &str) -> Option<&mut Tree> {
        match place.split_once("/volume of ") {
            Some((cluster, claim)) => self.clusters.get_mut(cluster)?.volumes.get_mut(claim),
            None => self.place_mut(place).map(|machine| &mut machine.tree),
        }
    }

    fn place(&self, name: &str) -> Option<&Machine> {
        let in_pod = || name.split_once('/').and_then(|(cluster, pod)| self.clusters.get(cluster)?.pods.get(pod));
        self.machines.get(name).or_else(in_pod)
    }

    fn place_mut(&mut self, name: &str) -> Option<&mut Machine> {
        if self.machines.contains_key(name) {
            return self.machines.get_mut(name);
        }
        let (cluster, pod) = name.split_once('/')?;
        self.clusters.get_mut(cluster)?.pods.get_mut(pod)
    }

    pub(crate) fn known(&self, target: &Target) -> Result<&Machine, CallError> {
        self.machines.get(&target.to_string()).ok_or_else(|| nobody(target))
    }

    pub(crate) fn change_machine(&mut self, target: &Target) -> Result<&mut Machine, CallError> {
        self.machines.get_mut(&target.to_string()).ok_or_else(|| nobody(target))
    }

    pub(crate) fn tree(&self, target: &Target) -> Result<&Tree, CallError> {
        self.known(target).map(|machine| &machine.tree)
    }

    /// Runs a command. What nobody described is a gap, and fails.
    pub(crate) fn execute(&mut self, target: &Target, call: &Invocation, half: bool) -> Result<Output, CallError> {
        let output = self.change_machine(target)?.run(call, half);
        output.ok_or_else(|| self.gap(format!("{target} has no program for {}", call.said())))
    }

    pub(crate) fn gap(&mut self, what: String) -> CallError {
        self.gaps.insert(what.clone());
        CallError::Failed(format!("this world does not say: {what}"))
    }
}

/// Puts names in the places of UIDs: an object that is made once more is the same one to whoever knows it by its name.
fn name_uids(value: &mut Value, names: &BTreeMap<&str, String>) {
    match value {
        Value::String(text) => match names.get(text.as_str()) {
            Some(name) => name.clone_into(text),
            None if crate::kube::is_uid(text) => "the UID of something that is gone".clone_into(text),
            None => {}
        },
        Value::Array(items) => items.iter_mut().for_each(|item| name_uids(item, names)),
        Value::Object(map) => map.values_mut().for_each(|value| name_uids(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn nobody(target: &Target) -> CallError {
    CallError::Unreachable(format!("{target}: there is no such machine in this world"))
}

fn of_tree(name: &str, tree: &Tree, things: &mut BTreeMap<Thing, Is>) {
    for (path, node) in tree.iter() {
        things.insert(Thing::Path(name.to_owned(), path.clone()), Is::Node(node.clone()));
    }
}

fn of_machine(name: &str, machine: &Machine, things: &mut BTreeMap<Thing, Is>) {
    of_tree(name, &machine.tree, things);
    for (key, value) in &machine.values {
        things.insert(Thing::Value(name.to_owned(), key.clone()), Is::Text(value.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_told() {
        let state = |file: Option<Node>, value: &str, object: Value| {
            let mut machine = Machine::default();
            file.into_iter().for_each(|node| machine.tree.put("/a", node));
            machine.values.insert("v".to_owned(), value.to_owned());
            let mut cluster = Cluster::default();
            cluster.add(object).expect("an object");
            let mut state = State::default();
            state.machines.insert("n1".to_owned(), machine);
            state.clusters.insert("c".to_owned(), cluster);
            state
        };
        let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "default"}, "data": data});
        let one = state(Some(Node::file("x\n", 0o600)), "1", map(json!({"a": "1", "b": {"c": 2}})));
        let other = state(None, "2", map(json!({"a": "1", "b": {"c": 3}})));
        let told: Vec<String> = differences(&one, &other).iter().map(|thing| contrast(thing, &one, &other)).collect();
        assert_eq!(
            told,
            [r#""x\n" (0600 root:root) instead of nothing"#, r#""1" instead of "2""#, "/data/b/c is 2 instead of 3"]
        );
        let long = state(Some(Node::file("y".repeat(100), 0o644)), "2", map(json!({})));
        let told: Vec<String> = differences(&long, &other).iter().map(|thing| contrast(thing, &long, &other)).collect();
        assert!(told[0].contains("yyy...") && told[1] == r#"/data/a is nothing instead of "1""#, "{told:?}");
    }
}
