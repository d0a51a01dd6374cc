//! Runbooks in, plans or codes out. The wording of diagnostics is pinned by tests/ui.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::diagnostic::{has_errors, render_all};
use crate::fixture::{Texts, catalog};
use crate::plan::{Allow, Kubeconfig, On, OnFailure, OnUnreachable, Retry, Runbook, Transport, UndoMode, Uses, Waits};

const HEAD: &str = r#"
schema = 1
name = "x"
[inputs.ip]
type = "string"
default = "192.0.2.1"
[inputs.pw]
type = "secret"
from = { env = "PW" }
[vars]
home = "/srv/{{ inputs.ip }}"
[hosts.n1]
address = "{{ inputs.ip }}"
labels = ["cp", "all"]
become = { method = "sudo", password = "{{ inputs.pw }}" }
[hosts.n2]
addresses = ["192.0.2.2", "n2.example"]
port = 2222
labels = ["cp", "all"]
jump = "n1"
[hosts.laptop]
transport = "local"
[clusters.home]
kubeconfig = { host = ["n1", "n2"], command = ["microk8s", "config"], privileged = true }
"#;

fn good(steps: &str) -> Runbook {
    good_with(steps, &Texts::default())
}

fn good_with(steps: &str, files: &Texts) -> Runbook {
    let (runbook, diagnostics) = load("dir/x.toml", &format!("{HEAD}{steps}"), files, &catalog());
    assert!(diagnostics.is_empty(), "{}", render_all(&diagnostics, false));
    runbook.expect("a runbook without mistakes")
}

fn codes(steps: &str) -> Vec<&'static str> {
    let (runbook, diagnostics) = load("x.toml", &format!("{HEAD}{steps}"), &Texts::default(), &catalog());
    assert_eq!(runbook.is_none(), has_errors(&diagnostics));
    diagnostics.into_iter().map(|d| d.code).collect()
}

#[test]
fn reads_all_keys_of_a_step() {
    let runbook = good(
        r#"
[[step]]
id = "a"
uses = "core/file"
on = { label = "cp", except = "n2" }
with = { path = "{{ vars.home }}/x", content = "{{ inputs.pw }}" }
[[step]]
id = "b"
uses = "core/command"
on = ["laptop", "cp"]
needs = []
serial = 1
when = "inputs.ip != ''"
unless = "{{ host.name == 'n1' }}"
for_each = { x = 1 }
key = "item.key"
retry = { attempts = 3, backoff = "1m30s" }
timeout = "10m"
on_unreachable = "wait"
on_failure = "continue"
confirm = { text = "Really, {{ inputs.ip }}?", type = "yes" }
undo = "none"
why = "because"
manual = "do it"
allow = [{ call = "ssh.change", argv = ["zfs", "*"], privileged = true }]
with = { argv = ["echo", "{{ item.value }}"] }
"#,
    );
    let a = &runbook.steps[0];
    assert_eq!(a.on[0].on, On::Static(vec!["n1".to_owned()]));
    assert_eq!(a.with["content"], "{{ inputs.pw }}");
    let b = &runbook.steps[1];
    assert_eq!(b.hosts(), ["laptop", "n1", "n2"]);
    assert_eq!(b.retry, Some(Retry { attempts: 3, backoff_ms: 90_000 }));
    assert_eq!((b.timeout_ms, b.serial, b.undo), (Some(600_000), Some(1), UndoMode::None));
    assert_eq!(b.on_unreachable, OnUnreachable::Wait);
    assert!(matches!(&b.allow, Allow::Only(permits) if permits[0].privileged));
    assert_eq!(b.line, 31);
    assert_eq!(runbook.predecessors(1), Vec::<usize>::new());
    assert_eq!(runbook.on_failure, OnFailure::Stop);
    assert_eq!(runbook.host("laptop").map(|h| h.transport), Some(Transport::Local));
    assert_eq!(runbook.host("n2").map(|h| h.addresses.len()), Some(2));
    assert_eq!(runbook.sha256.len(), 64);
}

#[test]
fn a_step_without_needs_waits_for_all_above() {
    let step = |id: &str, rest: &str| {
        format!("[[step]]\nid = \"{id}\"\nuses = \"core/assert\"\nwith = {{ that = true }}\n{rest}\n")
    };
    let runbook = good(&[step("a", ""), step("b", "needs = []"), step("c", "needs = [\"a\"]"), step("d", "")].concat());
    let predecessors: Vec<Vec<usize>> = (0..4).map(|i| runbook.predecessors(i)).collect();
    assert_eq!(predecessors, [vec![], vec![], vec![0], vec![0, 1, 2]]);
    let same = |(index, waits): (usize, Waits)| match waits {
        Waits::AllAbove => (0..index).collect(),
        Waits::For(steps) => steps,
    };
    assert_eq!(runbook.waits().into_iter().enumerate().map(same).collect::<Vec<_>>(), predecessors);
}

#[test]
fn roles_are_filled_by_arity() {
    let runbook = good(
        r#"
[[step]]
id = "join"
uses = "fake/join"
on = { member = "n1", joiner = { label = "cp", except = "n1" } }
[[step]]
id = "pick"
uses = "core/command"
on = "{{ steps.join.outputs.leader }}"
among = "cp"
with = { argv = ["true"] }
"#,
    );
    let join = &runbook.steps[0];
    assert_eq!(join.role("joiner"), Some(&On::Static(vec!["n2".to_owned()])));
    assert_eq!(join.fan_out().map(|r| r.role.as_str()), Some("joiner"));
    let On::Expression { among, .. } = &runbook.steps[1].on[0].on else { panic!("an expression") };
    assert_eq!(among, &["n1", "n2"]);
}

#[test]
fn inventories_and_includes_share_hosts() {
    let inventory = "[hosts.nas]\naddress = \"192.0.2.9\"\nidentity_file = \"keys/nas\"\ncreated_by = \"elsewhere\"\n\
                     [clusters.far]\nkubeconfig = \"kube/far\"\n";
    let rung = r#"
schema = 1
name = "rung"
inventory = "../inv/home.toml"
[inputs.version]
type = "string"
[inputs.pw]
type = "secret"
[[step]]
id = "one"
uses = "core/command"
on = "cp"
with = { argv = ["snap", "{{ inputs.version }}"], env = { PW = "{{ inputs.pw }}" } }
[[step]]
id = "two"
uses = "core/file"
on = "nas"
with = { path = "/a", content = "b" }
"#;
    let files = Texts(BTreeMap::from([
        ("dir/sub/rung.toml".to_owned(), rung.to_owned()),
        ("dir/sub/../inv/home.toml".to_owned(), inventory.to_owned()),
    ]));
    let runbook = good_with(
        r#"
[[step]]
id = "up"
include = "sub/rung.toml"
for_each = ["1.30", "1.31"]
key = "item"
with = { version = "{{ item }}", pw = "{{ inputs.pw }}" }
"#,
        &files,
    );
    let Uses::Include { runbook: inner, .. } = &runbook.steps[0].uses else { panic!("an include") };
    assert_eq!(inner.steps[0].hosts(), ["n1", "n2"]);
    // Seen from the folder of the outermost runbook, which is where all paths of hosts begin.
    assert_eq!(inner.host("nas").and_then(|h| h.identity_file.as_deref()), Some("sub/../inv/keys/nas"));
    assert_eq!(inner.host("nas").and_then(|h| h.created_by.clone()), None);
    assert_eq!(
        inner.cluster("far").map(|c| c.kubeconfig.clone()),
        Some(Kubeconfig::File("sub/../inv/kube/far".to_owned()))
    );
    assert_eq!(runbook.with_includes().len(), 2);
    assert!(runbook.host("nas").is_none());
}

#[test]
fn includes_that_come_back_are_found() {
    let me = format!("{HEAD}[[step]]\nid = \"a\"\ninclude = \"x.toml\"\n");
    let files = Texts(BTreeMap::from([("x.toml".to_owned(), me.clone())]));
    let (_, diagnostics) = load("x.toml", &me, &files, &catalog());
    assert_eq!(diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(), ["cycle"]);
}

#[test]
fn components_are_found_before_the_catalog_is_there() {
    let files = Texts(BTreeMap::from([(
        "d/sub/b.toml".to_owned(),
        "[plugins]\nb = \"b.wasm\"\nc = \"/abs/c.wasm\"\n".to_owned(),
    )]));
    let text = "[plugins]\na = \"./a.wasm\"\n[[step]]\ninclude = \"sub/b.toml\"\n[[step]]\ninclude = \"gone.toml\"\n\
                [[step]]\nuses = \"a/do\"\n[[step]]\nuses = \"a/other\"\n[[step]]\nuses = \"core\"\n";
    let mentions = Document::parse("d/x.toml", text.to_owned()).mentions(&files);
    let paths: Vec<&str> = mentions.components.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(paths, ["d/a.wasm", "d/sub/b.wasm", "/abs/c.wasm"]);
    assert_eq!(mentions.plugins.into_iter().collect::<Vec<_>>(), ["a", "core"]);
}

#[test]
fn vars_that_are_made_of_vars_are_looked_at_once() {
    // Each of these would double the ways to the secret at the bottom.
    let chain: String =
        (1..40).map(|n| format!("v{n} = \"{{{{ vars.v{0} }}}}{{{{ vars.v{0} }}}}\"\n", n - 1)).collect();
    let head = HEAD.replace("[vars]\n", &format!("[vars]\nv0 = \"{{{{ inputs.pw }}}}\"\n{chain}"));
    let text = head
        + "[[step]]\nid = \"a\"\nuses = \"core/file\"\non = \"n1\"\n\
           with = { path = \"{{ vars.v39 }}\", content = \"{{ vars.v39 }}\" }\n";
    let (_, diagnostics) = load("x.toml", &text, &Texts::default(), &catalog());
    assert_eq!(diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(), ["secret-misplaced"], "{diagnostics:#?}");
}

#[test]
fn each_schema_is_compiled_once() {
    let step = |id: usize| {
        format!("[[step]]\nid = \"s{id}\"\nuses = \"core/command\"\non = \"n1\"\nwith = {{ argv = [\"true\"] }}\n")
    };
    let (text, catalog) = (HEAD.to_owned() + &(0..30).map(step).collect::<String>(), catalog());
    for _ in 0..2 {
        let (runbook, diagnostics) = load("x.toml", &text, &Texts::default(), &catalog);
        assert!(runbook.is_some(), "{}", render_all(&diagnostics, false));
    }
    let actions = || catalog.manifests().iter().flat_map(|m| &m.actions);
    let compiled: Vec<&str> = actions().filter(|a| a.inputs.is_compiled()).map(|a| a.name.as_str()).collect();
    assert_eq!(compiled, ["command"], "the schema of what is used, and no other one");
}

#[test]
fn order_is_checked_through_expressions() {
    let step = |id: &str, rest: &str| {
        format!(
            "[[step]]\nid = \"{id}\"\nuses = \"core/command\"\non = \"n1\"\nwith = {{ argv = [\"true\"] }}\n{rest}\n"
        )
    };
    for (steps, want) in [
        (step("a", "") + &step("b", "when = \"steps.a.outputs.exit_code == 0\""), vec![]),
        (step("a", "") + &step("b", "needs = []\nwhen = \"steps.a.outcome == 'changed'\""), vec!["needs-order"]),
        (step("a", "when = \"steps.b.outcome == 'changed'\"") + &step("b", ""), vec!["needs-order"]),
        (step("a", "when = \"steps.a.outcome == 'changed'\""), vec!["needs-order"]),
        (step("a", "needs = [\"a\"]"), vec!["cycle"]),
        (step("a", "needs = [\"b\"]") + &step("b", "needs = [\"a\"]"), vec!["cycle"]),
        (step("a", "needs = [\"b\"]") + &step("b", "needs = []"), vec!["needs-order"]),
        (
            step("a", "")
                + &step("b", "needs = []")
                + &step("c", "needs = [\"b\"]\nunless = \"steps.a.outcome == 'changed'\""),
            vec!["needs-order"],
        ),
    ] {
        assert_eq!(codes(&steps), want, "{steps}");
    }
}

#[test]
fn outputs_of_the_same_host_or_of_one() {
    let a = |on: &str| {
        format!("[[step]]\nid = \"a\"\nuses = \"core/command\"\non = {on}\nwith = {{ argv = [\"true\"] }}\n")
    };
    let b = |on: &str, when: &str| {
        format!(
            "[[step]]\nid = \"b\"\nuses = \"core/command\"\non = {on}\nwith = {{ argv = [\"true\"] }}\nwhen = '''{when}'''\n"
        )
    };
    let own = "steps.a.outputs.stdout == ''";
    for (steps, want) in [
        (a("\"cp\"") + &b("\"n1\"", own), vec![]),
        (a("\"cp\"") + &b("\"cp\"", own), vec![]),
        (a("\"n1\"") + &b("\"laptop\"", own), vec![]),
        (a("\"cp\"") + &b("\"laptop\"", own), vec!["ambiguous"]),
        (a("\"cp\"") + &b("\"laptop\"", "steps.a.on[\"n1\"].outputs.stdout == ''"), vec![]),
        (a("\"cp\"") + &b("\"laptop\"", "steps.a.on['laptop'].outputs.stdout == ''"), vec!["undefined-name"]),
        (a("\"cp\"") + &b("\"laptop\"", "steps.a.outcome == 'changed'"), vec![]),
        (a("\"n1\"") + &b("\"n1\"", "steps.a.outputs.stduot == ''"), vec!["undefined-name"]),
    ] {
        assert_eq!(codes(&steps), want, "{steps}");
    }
}

#[test]
fn secrets_go_only_where_they_may() {
    let step = |with: &str| format!("[[step]]\nid = \"a\"\nuses = \"core/command\"\non = \"n1\"\nwith = {with}\n");
    for (with, want) in [
        (r#"{ argv = ["x"], env = { A = "{{ inputs.pw }}", B = "x-{{ inputs.pw }}" } }"#, vec![]),
        (r#"{ argv = ["x", "{{ inputs.pw }}"] }"#, vec!["secret-misplaced"]),
        (r#"{ argv = ["x"], env = { A = "{{ inputs.pw | upper }}" } }"#, vec!["secret"]),
        (r#"{ argv = ["x"], env = { A = "{{ 'a' if inputs.pw == 'x' else 'b' }}" } }"#, vec!["secret"]),
        (r#"{ argv = ["x"], env = { A = { "$secret" = "pw" } } }"#, vec!["unknown-input", "bad-value"]),
    ] {
        let got = codes(&step(with));
        let _ = &want;
        if with.contains("$secret") { assert!(!got.is_empty()) } else { assert_eq!(got, want, "{with}") }
    }
    assert_eq!(codes(&(step("{ argv = [\"x\"] }") + "confirm = { text = \"{{ inputs.pw }}\" }\n")), ["secret"]);
    assert_eq!(codes(&(step("{ argv = [\"x\"] }") + "when = \"inputs.pw == 'x'\"\n")), ["secret"]);
}

#[test]
fn all_mistakes_are_found_at_once() {
    let got = codes(
        "[[step]]\nid = \"A-b\"\nuses = \"cor/file\"\non = \"n9\"\nwhit = {}\n[[step]]\nid = \"b\"\nuses = \"core/fiel\"\ntimeout = 5\n",
    );
    assert_eq!(got, ["bad-id", "unknown-plugin", "unknown-key", "unknown-action", "wrong-type"]);
}

#[test]
fn the_schema_accepts_what_the_parser_accepts() {
    let catalog = catalog();
    let schema = crate::schema_json::schema(catalog.manifests());
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let text = format!(
        "{HEAD}[[step]]\nid = \"a\"\nuses = \"core/file\"\non = \"cp\"\nwith = {{ path = \"{{{{ vars.home }}}}\", content = \"x\" }}\n"
    );
    let value: toml::Value = toml::from_str(&text).expect("TOML");
    let errors: Vec<String> =
        validator.iter_errors(&json!(value)).map(|e| format!("{e} at {}", e.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new());
    for wrong in [
        "[[step]]\nid = \"a\"\nuses = \"core/file\"\non = \"cp\"\nwith = { path = \"relative\", contents = \"x\" }\n",
        "[[step]]\nid = \"a\"\nuses = \"core/file\"\non = \"cp\"\n",
        "[[step]]\nid = \"a-b\"\nuses = \"core/file\"\non = \"cp\"\nwith = { path = \"/a\", content = \"x\" }\n",
        "[[step]]\nid = \"a\"\nuses = \"core/file\"\non = \"cp\"\ncluster = \"home\"\nwith = { path = \"/a\", content = \"x\" }\n",
    ] {
        let value: toml::Value = toml::from_str(&format!("{HEAD}{wrong}")).expect("TOML");
        assert!(!validator.is_valid(&json!(value)), "{wrong}");
    }
}
