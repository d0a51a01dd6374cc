//! Every function of the world: what arrives on the road, and what comes back to the guest.

use runbook_model::call::{
    Act, Attributes, Call, Change, Command, Condition, Content, DeleteOptions, Effect, FileWant, FilesAct, FilesLook,
    HttpRequest, Input, KubeAct, KubeLook, Level, Look, Note, ObjectRef, PatchType, PodUndo, Propagation, Request,
    ResourceKind, Selector, SshAct, SshLook, Target, Text, TextPart, Timing, Undo,
};
use serde_json::json;

use crate::road::{FakeRoad, source};
use crate::support::{SOON, call, host, limits, results};

#[tokio::test]
async fn every_call_arrives_as_it_was_made() {
    let road = FakeRoad::new().into_arc();
    host(limits()).plugins().converge(call("everything", "", road.clone(), SOON)).await.unwrap();
    let arrived = road.requests();
    let expected = expected();
    for (i, (arrived, expected)) in arrived.iter().zip(&expected).enumerate() {
        assert_eq!(arrived, expected, "call {i}");
    }
    assert_eq!(arrived.len(), expected.len());
}

#[tokio::test]
async fn every_answer_comes_back_as_it_was_given() {
    let road = FakeRoad::new().into_arc();
    let outputs = host(limits()).plugins().converge(call("everything", "", road, SOON)).await.unwrap();
    let results = results(&outputs);
    let expected = include_str!("everything.txt").lines().collect::<Vec<_>>();
    for (result, expected) in results.iter().zip(&expected) {
        assert_eq!(result, expected);
    }
    assert_eq!(results.len(), expected.len(), "{}", results.join("\n"));
}

fn note(note: Note) -> Request {
    Request { target: Target::Run, call: Call::Note(note) }
}

fn log(level: Level, message: &str) -> Request {
    note(Note::Log { level, message: message.to_owned() })
}

fn n2() -> Target {
    Target::Machine("n2".to_owned())
}

fn effect(summary: &str, timing: Timing) -> Effect {
    Effect { summary: summary.to_owned(), timing, alters: vec!["service:x".to_owned()], repeats: true }
}

fn files_look(look: FilesLook) -> Request {
    Request { target: Target::Controller, call: Call::Look(Look::Files(look)) }
}

fn change(target: Target, act: Act, effect: Effect) -> Request {
    Request { target, call: Call::Change(Change { act, effect }) }
}

fn ensure(path: &str, want: FileWant, summary: &str, timing: Timing) -> Request {
    change(n2(), Act::Files(FilesAct { path: path.to_owned(), want }), effect(summary, timing))
}

fn file(path: &str, content: Content, mode: Option<u32>, validate: &[&str], summary: &str, timing: Timing) -> Request {
    let validate = validate.iter().map(|&word| word.to_owned()).collect();
    ensure(path, FileWant::File { content, attributes: attributes(mode), validate }, summary, timing)
}

fn attributes(mode: Option<u32>) -> Attributes {
    Attributes { mode, owner: Some("root".to_owned()), group: Some("0".to_owned()) }
}

fn command(program: &str) -> Command {
    Command { argv: vec![program.to_owned()], ..Command::default() }
}

fn full() -> Command {
    Command {
        argv: vec!["two".to_owned(), "{key}".to_owned()],
        cwd: Some("/srv".to_owned()),
        env: vec![("TOKEN".to_owned(), Text(vec![TextPart::Secret("token".to_owned())]))],
        stdin: Input::CopyOf(source(Target::Controller, "/c/source")),
        files: vec![("key".to_owned(), Text::plain("k"))],
        reads: vec!["path:/srv".to_owned()],
        timeout_ms: Some(1500),
        privileged: true,
        follow: true,
    }
}

fn ssh_look(look: SshLook) -> Request {
    Request { target: n2(), call: Call::Look(Look::Ssh(look)) }
}

fn observe(commands: Vec<Command>) -> Request {
    ssh_look(SshLook::Observe { commands })
}

fn ssh_act(act: SshAct, summary: &str) -> Request {
    change(n2(), Act::Ssh(act), effect(summary, Timing::Now))
}

fn run(pipeline: &[&str], done_when: Option<&str>, undo: Undo) -> Request {
    let pipeline = pipeline.iter().map(|program| command(program)).collect();
    ssh_act(SshAct::Run { pipeline, done_when: done_when.map(command).map(Box::new), undo }, "write")
}

fn http(method: &str) -> HttpRequest {
    HttpRequest {
        method: method.to_owned(),
        url: "https://x/".to_owned(),
        headers: vec![("accept".to_owned(), Text::plain("*/*"))],
        body: Text::plain("b"),
        ca: Some("insecure".to_owned()),
    }
}

fn home() -> Target {
    Target::Cluster("home".to_owned())
}

fn kube_look(look: KubeLook) -> Request {
    Request { target: home(), call: Call::Look(Look::Kube(look)) }
}

fn kube_act(act: KubeAct) -> Request {
    change(home(), Act::Kube(act), effect("write", Timing::Now))
}

fn object(group: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectRef {
    ObjectRef {
        kind: ResourceKind { group: group.to_owned(), version: "v1".to_owned(), kind: kind.to_owned() },
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    }
}

fn pod() -> ObjectRef {
    object("", "Pod", Some("ns"), "p")
}

fn pod_exec(
    container: Option<String>,
    argv: &[&str],
    stdin: &[u8],
    done_when: Option<&[&str]>,
    undo: PodUndo,
) -> Request {
    let words = |argv: &[&str]| argv.iter().map(|&word| word.to_owned()).collect();
    kube_act(KubeAct::Exec {
        pod: pod(),
        container,
        argv: words(argv),
        stdin: stdin.to_vec().into(),
        done_when: done_when.map(words),
        undo,
    })
}

fn selector() -> Selector {
    Selector {
        kind: pod().kind,
        namespace: None,
        labels: Some("a=b".to_owned()),
        fields: Some("status.phase=Running".to_owned()),
    }
}

/// What the guest's `everything.rs` asks, in its order. What makes no sense, or asks nothing, does not arrive.
fn expected() -> Vec<Request> {
    let day = 24 * 60 * 60 * 1000;
    let mut all = vec![
        log(Level::Debug, "a"),
        log(Level::Info, "b"),
        log(Level::Warn, "c"),
        note(Note::Progress { message: "copying".to_owned(), done: 3, total: Some(10), unit: "files".to_owned() }),
        note(Note::Progress { message: "waiting".to_owned(), done: 0, total: None, unit: String::new() }),
        note(Note::Pause { milliseconds: 250 }),
        note(Note::Baseline { key: "replicas".to_owned(), value: json!({ "n": 3 }) }),
        files_look(FilesLook::Stat { path: "/c/file".to_owned() }),
        files_look(FilesLook::Stat { path: "/c/missing".to_owned() }),
        files_look(FilesLook::Read { path: "/c/read".to_owned(), limit: 99 }),
        files_look(FilesLook::Read { path: "/c/read".to_owned(), limit: 64 << 20 }),
        files_look(FilesLook::List { path: "/c".to_owned() }),
        files_look(FilesLook::Sha256 { path: "/c/sha".to_owned() }),
        files_look(FilesLook::Source { path: "/c/source".to_owned() }),
        note(Note::Receipt {
            kind: "backup".to_owned(),
            subject: "db".to_owned(),
            place: source(Target::Controller, "/c/source"),
            made_at: 1700,
        }),
        ssh_look(SshLook::Facts),
        file("/m/a", Content::Bytes(vec![1, 255].into()), Some(0o4755), &[], "write", Timing::Now),
        file(
            "/m/b",
            Content::Text(Text(vec![TextPart::Plain("a=".to_owned()), TextPart::Secret("token".to_owned())])),
            None,
            &["check", "{}"],
            "write",
            Timing::Now,
        ),
        file("/m/c", Content::CopyOf(source(Target::Controller, "/c/source")), None, &[], "copy", Timing::StepEnd),
        ensure(
            "/m/dir",
            FileWant::Directory { attributes: attributes(Some(0o700)) },
            "mkdir",
            Timing::StepEndIfChanged,
        ),
        ensure("/m/link", FileWant::Link { target: "../a".to_owned() }, "link", Timing::BlockEnd),
        ensure("/m/gone", FileWant::Absent, "write", Timing::Now),
        observe(vec![command("uname")]),
        observe(vec![command("one"), full()]),
        run(
            &["do"],
            Some("done"),
            Undo::Inverse { command: Box::new(command("back")), only_if: Some(Box::new(command("if"))) },
        ),
        run(&["planned"], None, Undo::Harmless),
        run(&["already"], None, Undo::ByHand("put it back".to_owned())),
        run(&["deferred", "gzip"], None, Undo::Irreversible("gone".to_owned())),
        ssh_act(SshAct::Reboot { timeout_ms: day }, "reboot"),
        ssh_look(SshLook::Http { request: http("GET") }),
        ssh_act(SshAct::Http { request: http("POST"), undo: Undo::Harmless }, "write"),
        ssh_look(SshLook::Tcp { address: "10.0.0.1".to_owned(), port: 22, timeout_ms: 500 }),
        ssh_look(SshLook::Resolve {
            name: "n1.lan".to_owned(),
            record_type: "A".to_owned(),
            server: Some("10.0.0.53".to_owned()),
        }),
    ];
    all.extend(expected_in_the_cluster());
    all
}

fn expected_in_the_cluster() -> Vec<Request> {
    let main = || Some("main".to_owned());
    let ls = || vec!["ls".to_owned(), "/".to_owned()];
    let deployment = || object("apps", "Deployment", Some("ns"), "d");
    let mut all = vec![
        kube_look(KubeLook::Uid),
        kube_look(KubeLook::Get { object: deployment() }),
        kube_look(KubeLook::Get { object: object("", "Node", None, "missing") }),
        kube_look(KubeLook::List { selector: selector() }),
        kube_look(KubeLook::Logs { pod: pod(), container: main(), lines: 100_000 }),
        kube_act(KubeAct::Apply { manifest: json!({ "kind": "ConfigMap" }), force: true }),
    ];
    for patch_type in [PatchType::Merge, PatchType::Strategic, PatchType::JsonPatch] {
        let subresource = Some("status".to_owned());
        all.push(kube_act(KubeAct::Patch { object: pod(), patch_type, patch: json!([]), subresource }));
    }
    for propagation in [Propagation::Background, Propagation::Foreground, Propagation::Orphan] {
        let options = DeleteOptions { grace_seconds: Some(7), propagation, uid: Some("u-1".to_owned()) };
        all.push(kube_act(KubeAct::Delete { object: pod(), options }));
    }
    all.push(kube_act(KubeAct::Scale { object: deployment(), replicas: 0 }));
    all.push(kube_act(KubeAct::Evict { pod: pod(), timeout_ms: 9000 }));
    for condition in [
        Condition::Exists,
        Condition::Absent,
        Condition::Status("Ready".to_owned(), "True".to_owned()),
        Condition::Equals("/status/n".to_owned(), json!(3)),
        Condition::RolledOut,
    ] {
        all.push(kube_look(KubeLook::Wait { object: pod(), condition, timeout_ms: 1000 }));
    }
    all.extend([
        kube_look(KubeLook::WaitNone { selector: selector(), timeout_ms: 2000 }),
        kube_look(KubeLook::Exec { pod: pod(), container: None, argv: ls() }),
        pod_exec(main(), &["ls", "/"], b"in", Some(&["test", "-e", "/x"]), PodUndo::Irreversible("lost".to_owned())),
        pod_exec(None, &["planned"], b"", None, PodUndo::Inverse(vec!["thaw".to_owned(), "/".to_owned()])),
        pod_exec(None, &["already"], b"", None, PodUndo::Harmless),
        pod_exec(None, &["deferred"], b"", None, PodUndo::ByHand("thaw it".to_owned())),
        kube_act(KubeAct::CopyIn {
            pod: pod(),
            container: None,
            source: source(Target::Controller, "/c/source"),
            path: "/p/in".to_owned(),
        }),
        kube_look(KubeLook::CopyOut { pod: pod(), container: main(), path: "/p/out".to_owned() }),
    ]);
    all
}
