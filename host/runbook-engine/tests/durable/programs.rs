//! The programs of the machines: not idempotent, so that whatever is done twice shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use runbook_engine::clock;
use runbook_model::call::{Act, Output, SshAct};
use runbook_world::kube::Cluster;
use runbook_world::{Invocation, Is, Machine, Node, Program, State, Thing, World, output};
use serde_json::json;

/// Everything that is to be the same after a crash.
pub(crate) type Things = BTreeMap<Thing, Is>;

const RESTARTS: &str = "/var/restarts";

/// When a service was started, in milliseconds of the world.
const STARTED: &str = "started";

/// How long a service takes until it is ready.
const READY_AFTER: u64 = 10 * 60 * 1000;

/// What there is, but for what repeats by nature.
pub(crate) fn end(world: &World) -> Things {
    let mut things = world.state().things();
    things.retain(|thing, _| match thing {
        Thing::Path(_, path) => path != RESTARTS && path != "/var",
        Thing::Value(_, name) => !name.starts_with(STARTED),
        Thing::Object(..) => true,
    });
    things
}

/// The programs that were run, in their order.
pub(crate) fn ran(world: &World) -> Vec<String> {
    let state = world.state();
    let lines = state.done.iter().filter_map(|done| match &done.act {
        Act::Ssh(SshAct::Run { pipeline, .. }) => Some(format!("{}: {}", done.target, pipeline[0].argv.join(" "))),
        _ => None,
    });
    lines.collect()
}

/// Two machines and a cluster.
pub(crate) fn world() -> World {
    let mut state = State::default();
    let epoch = clock::now();
    let services = move |machine: &mut Machine, call: &Invocation| service(machine, call, epoch);
    for host in ["n1", "n2"] {
        let programs: Vec<Arc<dyn Program>> = vec![Arc::new(programs), Arc::new(services)];
        let mut machine = Machine { programs, ..Machine::default() };
        machine.tree.put("/srv/old", Node::directory(0o700));
        machine.tree.put("/srv/old/note", Node::file("keep me", 0o600));
        machine.tree.put("/etc/list", Node::file("zero\n", 0o644));
        state.machines.insert(host.to_owned(), machine);
    }
    let mut cluster = Cluster::default();
    let named = |kind: &str, api: &str, name: &str, rest: serde_json::Value| {
        let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "shop"}});
        rest.as_object().into_iter().flatten().for_each(|(key, value)| object[key] = value.clone());
        object
    };
    for object in [
        named("Deployment", "apps/v1", "web", json!({"spec": {"replicas": 3}})),
        named("ConfigMap", "v1", "old", json!({"data": {"keep": "me"}})),
        named("ConfigMap", "v1", "list", json!({"items": ["zero"]})),
        named("PersistentVolumeClaim", "v1", "data", json!({"spec": {"storageClassName": "old"}})),
    ] {
        cluster.add(object).expect("an object");
    }
    state.clusters.insert("c".to_owned(), cluster);
    World::new(state)
}

fn programs(machine: &mut Machine, call: &Invocation) -> Option<Output> {
    let words: Vec<&str> = call.argv.iter().map(String::as_str).collect();
    let text = |machine: &Machine, path: &str| {
        machine.tree.read(path).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    };
    match words[..] {
        ["holds", path, word] => Some(output(i32::from(!text(machine, path).contains(word)), "")),
        // Each time one line more; says how many there are.
        ["append" | "burn", path, line] => {
            let text = format!("{}{line}\n", text(machine, path));
            let lines = text.lines().count();
            machine.tree.put(path, Node::file(text, 0o644));
            Some(output(0, lines.to_string()))
        }
        // What was appended goes, if it is there: it may be run twice.
        ["resume", path, line] => {
            unappend(machine, path, line);
            Some(output(0, ""))
        }
        ["unappend", path, line] => Some(output(i32::from(!unappend(machine, path, line)), "")),
        ["restart", _] => {
            let text = text(machine, RESTARTS) + "x";
            machine.tree.put(RESTARTS, Node::file(text, 0o644));
            Some(output(0, ""))
        }
        _ => None,
    }
}

/// Services that are ready some time after they were started.
fn service(machine: &mut Machine, call: &Invocation, epoch: Instant) -> Option<Output> {
    let now = u64::try_from(clock::now().saturating_duration_since(epoch).as_millis()).unwrap_or(u64::MAX);
    let words: Vec<&str> = call.argv.iter().map(String::as_str).collect();
    let started = |machine: &Machine, name: &str| machine.values.get(&format!("{STARTED} {name}"))?.parse::<u64>().ok();
    match words[..] {
        ["start", name] => {
            machine.values.insert(format!("{STARTED} {name}"), now.to_string());
            Some(output(0, ""))
        }
        ["started", name] => Some(output(i32::from(started(machine, name).is_none()), "")),
        ["ready", name] => {
            let ready = started(machine, name).is_some_and(|started| now >= started + READY_AFTER);
            Some(output(i32::from(!ready), ""))
        }
        _ => None,
    }
}

fn unappend(machine: &mut Machine, path: &str, line: &str) -> bool {
    let mut text = String::from_utf8_lossy(machine.tree.read(path).unwrap_or_default()).into_owned();
    let line = format!("{line}\n");
    let place = text.rfind(&line);
    if let Some(place) = place {
        text.replace_range(place..place + line.len(), "");
    }
    match text.is_empty() {
        true => machine.tree.remove(path),
        false => machine.tree.put(path, Node::file(text, 0o644)),
    }
    place.is_some()
}
