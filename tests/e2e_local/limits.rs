//! Plugins that use up what they are given: one failed step each, and everything else goes on.

use runbook_model::event::{Event, StepOutcome};
use runbook_tests::{TestEnv, component};

use crate::support::{folder, journal, outcomes, reason};

/// The probe on one host, with a step for another host beside it.
fn misbehave(how: &str, timeout: &str) -> (TestEnv, runbook_tests::Outcome) {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    std::fs::copy(component("probe"), env.work().join("probe.wasm")).expect("it was built");
    let text = format!(
        r#"schema = 1
name = "limits"

[plugins]
probe = "./probe.wasm"

[hosts.here]
transport = "local"

[hosts.other]
transport = "local"

[[step]]
id = "bad"
uses = "probe/misbehave"
on = "here"
needs = []
allow = "asked"
on_failure = "continue"
timeout = "{timeout}"
with = {{ how = "{how}" }}

[[step]]
id = "beside"
uses = "core/file"
on = "other"
needs = []
with = {{ path = "{dir}/beside", content = "fine" }}

[[step]]
id = "after"
uses = "core/file"
on = "other"
with = {{ path = "{dir}/after", content = "fine" }}
"#,
        dir = scratch.display()
    );
    env.write("x.toml", text);
    env.grant("x.toml");
    let out = env.run(&["exec", "x.toml"]);
    for name in ["beside", "after"] {
        assert!(scratch.join(name).exists(), "{how}: {name}: {out}");
    }
    (env, out)
}

#[test]
fn each_is_one_failed_step_with_a_clear_message() {
    for (how, timeout, says) in [
        ("loop", "3s", "time"),
        ("memory", "5m", "memory"),
        ("recurse", "5m", "endless recursion"),
        ("log", "5m", "log"),
        ("calls", "5m", "calls"),
        ("handles", "5m", "handles"),
        ("sleep", "3s", "time"),
        ("pause", "3s", "time"),
        ("panic", "5m", "the reason of the panic"),
        ("exit", "5m", "exit"),
        ("forge", "5m", "handle"),
        ("use after drop", "5m", "handle"),
        ("confuse", "5m", "handle"),
        ("no json", "5m", "JSON"),
        ("not declared", "5m", "surprise"),
        ("large", "5m", "outputs"),
    ] {
        let (env, out) = misbehave(how, timeout);
        assert_eq!(out.code, Some(1), "{how}: {out}");
        let out = out.last_line("failed: 3 steps, 2 changed, 0 unchanged, 0 skipped, 1 failed");
        let records = journal(&env);
        let ended = outcomes(&records);
        assert!(ended.contains(&("bad on here".to_owned(), StepOutcome::Failed)), "{how}: {out}");
        let reason = reason(&records, "bad");
        assert!(reason.to_lowercase().contains(&says.to_lowercase()), "{how}: {reason}");
        assert!(reason.len() < 4000, "{how}: a message is for reading: {reason}");
        let size = std::fs::metadata(crate::support::runs(&env)[0].join("journal.jsonl")).map_or(0, |m| m.len());
        assert!(size < 64 << 20, "{how}: a flood does not fill the disk with its journal: {size} bytes");
    }
}

/// KiB that `runbook` may have at a time: what the guests may have together, and what a debug build takes to compile and run at all.
const MOST_MEMORY: u64 = 400 << 10;

#[test]
fn many_hosts_at_once_have_no_more_memory_than_all_plugins_may() {
    let env = TestEnv::new().var("RUNBOOK_PLUGIN_MEMORY", "256MiB");
    let scratch = folder(&env, "scratch");
    std::fs::copy(component("probe"), env.work().join("probe.wasm")).expect("it was built");
    let hosts: String =
        (0..24).map(|n| format!("[hosts.h{n}]\ntransport = \"local\"\nlabels = [\"many\"]\n\n")).collect();
    let text = format!(
        r#"schema = 1
name = "limits"

[plugins]
probe = "./probe.wasm"

{hosts}
[[step]]
id = "bad"
uses = "probe/misbehave"
on = "many"
needs = []
allow = "asked"
on_failure = "continue"
with = {{ how = "memory" }}

[[step]]
id = "beside"
uses = "core/file"
on = "many"
needs = []
with = {{ path = "{}/{{{{ host.name }}}}", content = "fine" }}
"#,
        scratch.display()
    );
    env.write("x.toml", text);
    env.grant("x.toml");
    let out = env.run(&["exec", "x.toml"]).code(1);
    assert!(out.peak < MOST_MEMORY, "{} MiB of memory are too much", out.peak >> 10);
    let made = std::fs::read_dir(&scratch).expect("our own folder").count();
    assert_eq!(made, 24, "small plugins come to their work beside large ones: {out}");
    let records = journal(&env);
    let reasons: Vec<&str> = records
        .iter()
        .filter_map(|record| match &record.event {
            Event::StepFinished { instance, reason, .. } if instance.step == "bad" => reason.as_deref(),
            _ => None,
        })
        .collect();
    assert_eq!(reasons.len(), 24, "{out}");
    let together = "for all of them together (`serial` at the step";
    assert!(
        reasons.iter().all(|reason| reason.contains("memory: it wanted ") && reason.contains(together)),
        "{reasons:?}"
    );
    let wrong = TestEnv::new().var("RUNBOOK_PLUGIN_MEMORY", "much");
    wrong.write("x.toml", crate::support::local("[[step]]\nid = \"a\"\nuses = \"core/reboot\"\non = \"here\"\n"));
    drop(
        wrong
            .run(&["validate", "x.toml"])
            .code(2)
            .stderr_has("RUNBOOK_PLUGIN_MEMORY: \"much\" is not a size")
            .stderr_has("512MiB"),
    );
}

#[test]
fn paths_that_climb_are_denied() {
    let (env, out) = misbehave("climb", "5m");
    let denied = journal(&env).iter().filter(|r| matches!(r.event, Event::Denied { .. })).count();
    assert!(denied >= 2, "{out}");
}
