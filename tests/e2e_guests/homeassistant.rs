//! `homeassistant`, in JavaScript: requests that look and change, secrets, undo and resume.

use runbook_model::event::StepOutcome;
use runbook_tests::TestEnv;

use crate::house::{ENTITY, House, TOKEN};
use crate::support::{assert_keeps_the_laws, changes, ended, runbook, world};

const PROJECT: &str = "plugins/js/homeassistant";

fn env(house: &House, entity: &str) -> TestEnv {
    let env = world().var("HA_TOKEN", TOKEN);
    let rest = format!(
        r#"[inputs.token]
type = "secret"
from = {{ env = "HA_TOKEN" }}

[[step]]
id = "power"
uses = "homeassistant/switched"
on = "here"
allow = "asked"
with = {{ url = "{}", token = "{{{{ inputs.token }}}}", entity = "{entity}", state = "on" }}
"#,
        house.url
    );
    env.write("house.toml", runbook(PROJECT, &rest));
    env.grant("house.toml");
    env
}

fn on() -> String {
    format!(r#"on {{"entity_id":"{ENTITY}"}}"#)
}

#[test]
fn plans_does_finds_nothing_left_and_takes_back() {
    let house = House::new("off");
    let env = env(&house, ENTITY);
    let plan = env.run(&["plan", "house.toml"]).ok();
    assert!(plan.stdout.contains("switch switch.nas_plug on") && plan.stdout.contains("1 would change"), "{plan}");
    assert!(house.switched().is_empty(), "a plan changes nothing");

    let line = |what: &str| format!("succeeded: 1 steps, {what}, 0 skipped, 0 failed");
    env.run(&["exec", "house.toml"]).ok().last_line(&line("1 changed, 0 unchanged")).nowhere(TOKEN);
    assert_eq!(house.switched(), [on()]);
    let (_, outputs, _) = ended(&env, "power");
    assert_eq!(outputs, serde_json::json!({ "name": "Büro-NAS 💾", "was": "off" }));

    env.run(&["undo"]).ok().nowhere(TOKEN);
    assert_eq!(house.plug(), "off", "{:?}", house.switched());
    env.run(&["exec", "house.toml"]).ok().last_line(&line("1 changed, 0 unchanged"));
    env.run(&["exec", "house.toml"]).ok().last_line(&line("0 changed, 1 unchanged"));
    assert_eq!(house.switched().len(), 3);
}

#[test]
fn a_run_that_was_killed_goes_on_and_remembers_how_it_was() {
    let house = House::new("off");
    let whole = env(&house, ENTITY);
    whole.run(&["exec", "house.toml"]).ok();
    let cut = format!("{}:after", changes(&whole)[0]);

    let house = House::new("off");
    let env = env(&house, ENTITY);
    assert_eq!(env.run(&["exec", "house.toml", "--drill-kill", &cut]).signal, Some(9), "{cut}");
    assert_eq!(house.plug(), "on", "it was killed after the change");
    env.run(&["resume"]).ok();
    assert_eq!(house.switched(), [on()]);
    let (outcome, outputs, _) = ended(&env, "power");
    assert_eq!((outcome, &outputs["was"]), (StepOutcome::Changed, &serde_json::json!("off")));
}

#[test]
fn what_it_says_arrives_as_the_reason() {
    let house = House::new("off");
    let unknown = env(&house, "switch.other");
    let out = unknown.run(&["exec", "house.toml"]).code(1);
    assert!(out.stderr.contains("Home Assistant knows no switch.other"), "{out}");
    let gone = House::new("unavailable");
    let out = env(&gone, ENTITY).run(&["exec", "house.toml"]).code(1);
    assert!(out.stderr.contains("does not reach switch.nas_plug: it is unavailable"), "{out}");
    assert!(gone.switched().is_empty());
}

#[test]
fn it_keeps_the_laws() {
    assert_keeps_the_laws(PROJECT);
}
