//! Every function of the world, once, with arguments that can be told apart.

use crate::runbook::base::types::{Effect, TextPart, Timing};
use crate::runbook::files::trees::{self, Attributes, Content};
use crate::runbook::kube::clusters::{
    self, Condition, DeleteOptions, ObjectRef, PatchType, PodUndo, Propagation, ResourceKind, Selector,
};
use crate::runbook::plugin::run;
use crate::runbook::ssh::machines::{self, Command, Input, Inverse, Request, Temporary, Undo};

/// What each of them came back with.
pub fn run() -> Vec<String> {
    let mut results = Vec::new();
    macro_rules! note {
        ($name:literal, $result:expr) => {
            results.push(format!(concat!($name, ": {:?}"), $result))
        };
    }

    run::log(run::Level::Debug, "a");
    run::log(run::Level::Info, "b");
    run::log(run::Level::Warn, "c");
    run::progress("copying", 3, Some(10), "files");
    run::progress("waiting", 0, None, "");
    note!("pause", run::pause(250));
    note!("baseline", run::baseline("replicas", "{\"n\":3}"));

    let controller = trees::controller();
    note!("stat", controller.stat("/c/file"));
    note!("stat", controller.stat("/c/missing"));
    note!("read", controller.read("/c/read", 99));
    note!("read all", controller.read("/c/read", u64::MAX));
    note!("list", controller.list("/c"));
    note!("sha256", controller.sha256("/c/sha"));
    let source = controller.source("/c/source").expect("a source");
    note!("source", (source.size(), source.sha256()));
    note!("receipt", run::receipt("backup", "db", &source, 1700));

    note!("no such role", machines::targets("other").len());
    let targets = machines::targets("on");
    note!("names", targets.iter().map(machines::Machine::name).collect::<Vec<_>>());
    let machine = &targets[1];
    note!("facts", machine.facts());
    let tree = machine.files();
    let attributes = |mode| Attributes { mode, owner: Some("root".to_owned()), group: Some("0".to_owned()) };
    let text = [TextPart::Plain("a=".to_owned()), TextPart::Secret("token".to_owned())];
    let e = effect("write", Timing::Now);
    note!("file bytes", tree.ensure_file("/m/a", &Content::Bytes(vec![1, 255]), &attributes(Some(0o4755)), &[], &e));
    note!(
        "file text",
        tree.ensure_file("/m/b", &Content::Text(text.to_vec()), &attributes(None), &["check".into(), "{}".into()], &e)
    );
    note!(
        "file copy",
        tree.ensure_file("/m/c", &Content::CopyOf(&source), &attributes(None), &[], &effect("copy", Timing::StepEnd))
    );
    note!("file mode", tree.ensure_file("/m/d", &Content::Bytes(vec![]), &attributes(Some(0o10000)), &[], &e));
    note!(
        "directory",
        tree.ensure_directory("/m/dir", &attributes(Some(0o700)), &effect("mkdir", Timing::StepEndIfChanged))
    );
    note!("link", tree.ensure_link("/m/link", "../a", &effect("link", Timing::BlockEnd)));
    note!("absent", tree.ensure_absent("/m/gone", &e));

    note!("observe", machine.observe(&command("uname")));
    note!("observe all", machine.observe_all(&[command("one"), full(&source)]));
    note!("observe none", machine.observe_all(&[]));
    let inverse = Inverse { command: command("back"), only_if: Some(command("if")) };
    note!("change", machine.change(&command("do"), Some(&command("done")), &Undo::Inverse(inverse), &e));
    note!("change", machine.change(&command("planned"), None, &Undo::Harmless, &e));
    note!("change", machine.change(&command("already"), None, &Undo::ByHand("put it back".to_owned()), &e));
    note!(
        "pipeline",
        machine.change_pipeline(
            &[command("deferred"), command("gzip")],
            None,
            &Undo::Irreversible("gone".to_owned()),
            &e
        )
    );
    note!("pipeline none", machine.change_pipeline(&[], None, &Undo::Harmless, &e));
    note!("reboot", machine.reboot(u32::MAX, &effect("reboot", Timing::Now)));
    note!("http", machine.http(&request("GET")));
    note!("http change", machine.http_change(&request("POST"), &Undo::Harmless, &e));
    note!("tcp", machine.tcp("10.0.0.1", 22, 500));
    note!("resolve", machine.resolve("n1.lan", "A", Some("10.0.0.53")));

    let cluster = clusters::target().expect("a cluster");
    let pod = object("", "Pod", Some("ns"), "p");
    note!("cluster", cluster.name());
    note!("uid", cluster.uid());
    note!("get", cluster.get(&object("apps", "Deployment", Some("ns"), "d")));
    note!("get", cluster.get(&object("", "Node", None, "missing")));
    let selector = Selector {
        kind: kind("", "Pod"),
        namespace: None,
        labels: Some("a=b".to_owned()),
        fields: Some("status.phase=Running".to_owned()),
    };
    note!("list", cluster.list(&selector));
    note!("logs", cluster.logs(&pod, Some("main"), u32::MAX));
    note!("apply", cluster.apply("{\"kind\":\"ConfigMap\"}", true, &e));
    note!("apply", cluster.apply("{not json", true, &e));
    for patch_type in [PatchType::Merge, PatchType::Strategic, PatchType::JsonPatch] {
        note!("patch", cluster.patch(&pod, patch_type, "[]", Some("status"), &e));
    }
    for propagation in [Propagation::Background, Propagation::Foreground, Propagation::Orphan] {
        let options = DeleteOptions { grace_seconds: Some(7), propagation, uid: Some("u-1".to_owned()) };
        note!("delete", cluster.delete(&pod, &options, &e));
    }
    note!("scale", cluster.scale(&object("apps", "Deployment", Some("ns"), "d"), 0, &e));
    note!("scale", cluster.scale(&object("apps", "Deployment", Some("ns"), "d"), u32::MAX, &e));
    note!("evict", cluster.evict(&pod, 9000, &e));
    for condition in [
        Condition::Exists,
        Condition::Absent,
        Condition::Status(("Ready".to_owned(), "True".to_owned())),
        Condition::Equals(("/status/n".to_owned(), "3".to_owned())),
        Condition::RolledOut,
    ] {
        note!("wait", cluster.wait(&pod, &condition, 1000));
    }
    note!("wait none", cluster.wait_none(&selector, 2000));
    let argv = ["ls".to_owned(), "/".to_owned()];
    note!("observe exec", cluster.observe_exec(&pod, None, &argv));
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let done_when = words(&["test", "-e", "/x"]);
    let lost = PodUndo::Irreversible("lost".to_owned());
    note!("change exec", cluster.change_exec(&pod, Some("main"), &argv, b"in", Some(&done_when), &lost, &e));
    for (program, undo) in [
        ("planned", PodUndo::Inverse(words(&["thaw", "/"]))),
        ("already", PodUndo::Harmless),
        ("deferred", PodUndo::ByHand("thaw it".to_owned())),
    ] {
        note!("change exec", cluster.change_exec(&pod, None, &words(&[program]), b"", None, &undo, &e));
    }
    note!("copy in", cluster.copy_in(&pod, None, &source, "/p/in", &e));
    let copied = cluster.copy_out(&pod, Some("main"), "/p/out").expect("a source");
    note!("copy out", (copied.size(), copied.sha256()));
    results
}

fn effect(summary: &str, timing: Timing) -> Effect {
    Effect { summary: summary.to_owned(), timing, alters: vec!["service:x".to_owned()], repeats: true }
}

/// A command of which only the program is said.
fn command(program: &str) -> Command<'_> {
    Command {
        argv: vec![program.to_owned()],
        cwd: None,
        env: Vec::new(),
        stdin: Input::None,
        files: Vec::new(),
        reads: Vec::new(),
        timeout_ms: None,
        privileged: false,
        follow: false,
    }
}

/// A command of which everything is said.
fn full(source: &trees::Source) -> Command<'_> {
    Command {
        argv: vec!["two".to_owned(), "{key}".to_owned()],
        cwd: Some("/srv".to_owned()),
        env: vec![("TOKEN".to_owned(), vec![TextPart::Secret("token".to_owned())])],
        stdin: Input::CopyOf(source),
        files: vec![Temporary { name: "key".to_owned(), content: vec![TextPart::Plain("k".to_owned())] }],
        reads: vec!["path:/srv".to_owned()],
        timeout_ms: Some(1500),
        privileged: true,
        follow: true,
    }
}

fn request(method: &str) -> Request {
    Request {
        method: method.to_owned(),
        url: "https://x/".to_owned(),
        headers: vec![("accept".to_owned(), vec![TextPart::Plain("*/*".to_owned())])],
        body: vec![TextPart::Plain("b".to_owned())],
        ca: Some("insecure".to_owned()),
    }
}

fn kind(group: &str, kind: &str) -> ResourceKind {
    ResourceKind { group: group.to_owned(), version: "v1".to_owned(), kind: kind.to_owned() }
}

fn object(group: &str, name_of_kind: &str, namespace: Option<&str>, name: &str) -> ObjectRef {
    ObjectRef { kind: kind(group, name_of_kind), namespace: namespace.map(str::to_owned), name: name.to_owned() }
}
