//! What the language costs before a run (read and check a runbook) and in it (the inputs of one step).
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use common::{Texts, catalog};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use runbook_model::event::StepOutcome;
use runbook_model::expr::{HostView, InstanceView, Outputs, RunView, Scope, render};
use runbook_model::parse::{Catalog as _, load};
use runbook_model::{input_schema, prepare};
use serde_json::{Value, json};

/// A runbook whose steps are files with expressions in them, commands, and commands that use what an earlier one gave.
fn runbook(steps: usize) -> String {
    let mut text = "schema = 1\nname = \"bench\"\n[inputs.ip]\ntype = \"string\"\ndefault = \"192.0.2.1\"\n[vars]\n\
                    folder = \"/srv/app\"\n[hosts.n1]\naddress = \"{{ inputs.ip }}\"\nlabels = [\"nodes\"]\n"
        .to_owned();
    for step in 0..steps {
        let rest = match step % 3 {
            0 => {
                "uses = \"core/file\"\nwith = { path = \"{{ vars.folder }}/{{ host.name }}\", content = \"a = 1\\n\" }"
                    .to_owned()
            }
            1 => {
                "uses = \"core/command\"\nwith = { argv = [\"systemctl\", \"is-active\", \"app\"] }\ntimeout = \"30s\""
                    .to_owned()
            }
            _ => format!(
                "uses = \"core/command\"\nwhen = \"steps.s{}.outputs.exit_code != 0\"\nwith = {{ argv = [\"true\"] }}",
                step - 1
            ),
        };
        let head = format!("[[step]]\nid = \"s{step}\"\nwhy = \"it has to be there\"\non = \"nodes\"\n");
        text.extend([head.as_str(), &rest, "\n"]);
    }
    text
}

fn check_runbooks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read and check a runbook");
    for steps in [50, 5_000] {
        let text = runbook(steps);
        group.throughput(Throughput::Elements(steps as u64));
        group.sample_size(if steps > 1000 { 10 } else { 100 });
        group.bench_function(format!("{steps} steps"), |bencher| {
            bencher.iter(|| {
                // A new catalog: a process compiles the schemas that it uses once.
                let (runbook, diagnostics) = load("bench.toml", &text, &Texts::default(), &catalog());
                assert!(diagnostics.is_empty(), "{diagnostics:?}");
                black_box(runbook)
            });
        });
    }
}

fn scope() -> Scope {
    let host = HostView {
        name: "n1".to_owned(),
        address: Some("192.0.2.1".to_owned()),
        labels: vec!["nodes".to_owned()],
        ..HostView::default()
    };
    let ended = InstanceView {
        host: Some("n1".to_owned()),
        item: None,
        outcome: Some(StepOutcome::Changed),
        outputs: Outputs::Known(json!({ "stdout": "16\n", "exit_code": 0 })),
    };
    let Value::Object(vars) = json!({ "folder": "/srv/app" }) else { unreachable!() };
    Scope {
        vars,
        hosts: Arc::new(vec![host.clone()]),
        host: Some(host),
        steps: Arc::new(BTreeMap::from([("look".to_owned(), vec![ended])])),
        run: RunView::default(),
        ..Scope::default()
    }
}

fn render_inputs(criterion: &mut Criterion) {
    let scope = scope();
    let plugins = catalog();
    let schema = &plugins.manifest("core").unwrap().action("file").unwrap().inputs;
    let mut group = criterion.benchmark_group("inputs of a step");
    for (name, with) in [
        ("without expressions", json!({ "path": "/srv/app/conf", "content": "a = 1\n", "mode": "0644" })),
        (
            "with three expressions",
            json!({
                "path": "{{ vars.folder }}/{{ host.name }}",
                "content": "workers = {{ steps.look.outputs.stdout | trim }}\n",
                "mode": "0644",
            }),
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut inputs = render(&with, &scope).expect("renders").value;
                assert!(input_schema::check(schema, &inputs).expect("a good schema").is_empty());
                prepare::fill_defaults(schema, &mut inputs);
                prepare::resolve_paths(schema, &mut inputs, "/home/u/dr", "/home/u");
                black_box(inputs)
            });
        });
    }
}

criterion_group!(benches, check_runbooks, render_inputs);
criterion_main!(benches);
