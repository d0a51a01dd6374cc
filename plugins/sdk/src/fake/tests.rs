use serde_json::json;

use super::*;
use crate::{Cmd, Condition, ObjectRef, Period, Selector, Verdict};

fn machine() -> crate::Machine {
    crate::Machine::target("host").unwrap()
}

fn node1() -> Machine {
    Machine::new("node1")
        .directory("/etc/app")
        .file("/etc/app/port", "80\n")
        .fails(["systemctl", "is-active", "app"], 3, "")
        .changes(["systemctl", "start", "app"], |node| node.answers(["systemctl", "is-active", "app"], "active\n"))
        .changes(["systemctl", "reload", "app"], |node| node)
}

fn is_active(machine: &crate::Machine) -> Cmd<'_> {
    machine.cmd(["systemctl", "is-active", "app"]).reads(["service:app"])
}

/// A port, a service that runs, and a reload where something changed.
fn app(_: Value) -> Result<()> {
    let machine = machine();
    machine.files().file("/etc/app/port").text("8080\n").mode(0o600).ensure()?;
    let start = machine.cmd(["systemctl", "start", "app"]).change("start app").alters(["service:app"]);
    start.done_when(is_active(&machine)).run()?;
    let reload = machine.cmd(["systemctl", "reload", "app"]).change("reload app").harmless();
    reload.at_step_end_if_changed().run()?;
    Ok(())
}

#[test]
fn an_action_is_planned_applied_and_looked_at_again() {
    let mut world = World::new().machine(node1());
    let expect = ["write /etc/app/port", "start app", "reload app"];
    assert_eq!(world.plan(app, json!({})).summaries(), expect);
    assert_eq!(world.at("node1").text("/etc/app/port").unwrap(), "80\n", "a plan changes nothing");
    let run = world.converges(app, json!({}));
    assert_eq!(run.summaries(), expect);
    assert_eq!(run.changes[1].call, r#"node1: ["systemctl", "start", "app"]"#);
    assert_eq!(world.at("node1").text("/etc/app/port").unwrap(), "8080\n");
    assert_eq!(world.at("node1").mode("/etc/app/port"), Some(0o600));
    assert!(world.apply(app, json!({})).changes.is_empty());
}

#[test]
#[should_panic(expected = "the second look is not at rest")]
fn a_command_without_a_guard_is_found_again() {
    let start = |_: Value| machine().cmd(["systemctl", "start", "app"]).change("start app").run().map(drop);
    let _ = World::new().machine(node1()).converges(start, json!({}));
}

/// Asks something, and does not care what becomes of it.
fn asks<T>(ask: impl Fn(&crate::Machine) -> Result<T>) -> impl Fn(Value) -> Result<()> {
    move |_| {
        drop(ask(&machine()));
        Ok(())
    }
}

#[test]
fn what_was_not_said_is_an_error_whatever_becomes_of_it() {
    let world = World::new().machine(node1());
    for (run, word) in [
        (world.plan(asks(|m| m.cmd(["uname"]).observe()), json!({})), "[\"uname\"]"),
        (world.plan(asks(|m| m.files().read("/etc/hosts")), json!({})), "what lies at /etc/hosts"),
        (world.plan(asks(|m| m.tcp("a", 1, Period::seconds(1))), json!({})), "the port a:1"),
        (world.plan(asks(crate::Machine::facts), json!({})), "its facts"),
    ] {
        let error = run.outputs.unwrap_err();
        assert!(error.message().contains(word) && error.message().contains("node1"), "{word}: {error}");
    }
    let known = world.plan(asks(|m| m.files().read("/etc/app/other")), json!({}));
    assert!(known.outputs.is_ok(), "nothing else is in that directory");
}

#[test]
fn a_plan_does_not_know_what_a_planned_command_alters() {
    let look = |reads: &'static str, alters: &'static [&'static str]| {
        move |_: Value| {
            let machine = machine();
            machine.cmd(["systemctl", "start", "app"]).change("start app").alters(alters.iter().copied()).run()?;
            is_active(&machine).reads([reads]).observe()?.ok_if(&[0, 3]).map(drop)
        }
    };
    let world = World::new().machine(node1());
    let kind = |run: Run| run.outputs.map_err(|error| error.kind());
    assert_eq!(kind(world.plan(look("service:app", &["service:app"]), json!({}))), Err(Kind::Unknown));
    assert_eq!(kind(world.plan(look("service:app", &[]), json!({}))), Err(Kind::Unknown), "all of the machine");
    let other = |_: Value| {
        let machine = machine();
        machine.cmd(["systemctl", "start", "app"]).change("start").alters(["path:/run"]).run()?;
        is_active(&machine).observe().map(drop)
    };
    assert_eq!(kind(world.plan(other, json!({}))), Ok(json!({})), "it reads something else");
}

#[test]
fn verify_only_looks() {
    let world = World::new().machine(node1());
    let wrong = world.verify(|_: Value| Ok(vec!["it is down".to_owned()]), json!({}));
    assert_eq!(wrong, Ok(vec!["it is down".to_owned()]));
    let changes = |_: Value| {
        machine().files().absent("/etc/app/port").ensure()?;
        Ok(Vec::new())
    };
    assert!(world.verify(changes, json!({})).unwrap_err().message().contains("verify changes something"));
}

fn home() -> World {
    let plex = json!({ "metadata": { "name": "plex", "namespace": "media", "labels": { "app": "plex" } }, "spec": { "replicas": 1 } });
    World::new().cluster(Cluster::new("home").objects("Deployment", [plex]).objects("ConfigMap", []))
}

#[test]
fn objects_are_found_and_changed() {
    let plex = || ObjectRef::new("Deployment", "plex").namespace("media");
    let converge = move |_: Value| {
        let cluster = crate::Cluster::target()?;
        let labelled = cluster.list::<Value>(&Selector::new("Deployment").namespace("media").labels("app=plex"))?;
        let other = cluster.list::<Value>(&Selector::new("Deployment").labels("app=other"))?;
        crate::ensure!(labelled.len() == 1 && other.is_empty(), "found {labelled:?} and {other:?}");
        cluster.scale(&plex(), 0).run()?;
        let settings = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "namespace": "media" }, "data": { "k": "v" } });
        cluster.apply(&settings)?.run()?;
        cluster.wait(&plex(), &Condition::Equals("/spec/replicas".into(), json!(0)), Period::seconds(1))
    };
    let mut world = home();
    let run = world.converges(converge, json!({}));
    assert_eq!(run.summaries(), ["scale Deployment media/plex to 0", "apply ConfigMap media/a"]);
    let cluster = world.cluster.unwrap();
    assert_eq!(cluster.object("ConfigMap", Some("media"), "a").unwrap()["data"]["k"], "v");
}

#[test]
fn objects_are_absent_only_where_their_kind_was_said() {
    let get = |kind: &'static str| {
        move |_: Value| {
            let cluster = crate::Cluster::target()?;
            let object = ObjectRef::new(kind, "none").namespace("media");
            crate::ensure!(cluster.get::<Value>(&object)?.is_none(), "it is there");
            crate::ensure!(cluster.delete(&object).run()? == Verdict::Unchanged, "it was there");
            Ok(())
        }
    };
    assert!(home().plan(get("Deployment"), json!({})).outputs.is_ok());
    assert!(home().plan(get("Pod"), json!({})).outputs.unwrap_err().message().contains("the kind Pod"));
}

#[test]
fn time_goes_on_by_waiting_alone() {
    let waits = |_: Value| {
        let what = || Ok(crate::run::Probe::<()>::NotYet("not yet".to_owned()));
        crate::run::wait_until("it", Period::minutes(5), Period::seconds(5), what)
    };
    let error = World::new().apply(waits, json!({})).outputs.unwrap_err();
    assert_eq!(error.kind(), Kind::TimedOut, "{error}");
}

#[test]
#[should_panic(expected = "there is no world here")]
fn without_a_world_a_call_says_what_is_missing() {
    let _ = crate::Machine::targets("host");
}
