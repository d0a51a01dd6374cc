use super::*;
use crate::call::{Command, Effect, ResourceKind, SshAct, SshLook, Text, Undo};

fn machine() -> Target {
    Target::Machine("n1".into())
}

fn file(path: &str, want: FileWant) -> Change {
    Change { act: Act::Files(FilesAct { path: path.into(), want }), effect: Effect::default() }
}

fn text_file(path: &str, text: &str) -> Change {
    let content = Content::Text(Text::plain(text));
    file(path, FileWant::File { content, attributes: Attributes::default(), validate: Vec::new() })
}

fn plan(overlay: &mut Overlay, step: &str, change: &Change) {
    let prior = match overlay.prior(&machine(), &change.act, plain_sha256) {
        Some(prior) => prior.expect("known"),
        None => Prior::File(FilePrior {
            wanted_sha256: match &change.act {
                Act::Files(FilesAct { want: FileWant::File { content, .. }, .. }) => Some(plain_sha256(content)),
                _ => None,
            },
            ..FilePrior::default()
        }),
    };
    overlay.record(step, &machine(), change, &prior);
}

fn command(alters: &[&str]) -> Change {
    Change {
        act: Act::Ssh(SshAct::Run {
            pipeline: vec![Command { argv: vec!["make".into()], ..Command::default() }],
            done_when: None,
            undo: Undo::Harmless,
        }),
        effect: Effect { alters: alters.iter().map(|&a| a.to_owned()).collect(), ..Effect::default() },
    }
}

fn stat(path: &str) -> Look {
    Look::Files(FilesLook::Stat { path: path.into() })
}

fn observe(reads: &[&str]) -> Look {
    let reads = reads.iter().map(|&r| r.to_owned()).collect();
    Look::Ssh(SshLook::Observe { commands: vec![Command { argv: vec!["ls".into()], reads, ..Command::default() }] })
}

fn is_unknown(seen: &Seen) -> bool {
    matches!(seen, Seen::Answer(Err(CallError::Unknown(_))))
}

#[test]
fn a_planned_file_is_seen_by_later_looks() {
    let mut overlay = Overlay::default();
    plan(&mut overlay, "conf", &text_file("/etc/x", "a\n"));
    let read = Look::Files(FilesLook::Read { path: "/etc/x".into(), limit: 100 });
    assert_eq!(overlay.look(&machine(), &read), Seen::Answer(Ok(Answer::Bytes(Bytes::from("a\n")))));
    assert_eq!(overlay.look(&machine(), &stat("/etc/y")), Seen::Through);
    assert_eq!(overlay.look(&Target::Controller, &stat("/etc/x")), Seen::Through);

    let again = text_file("/etc/x", "a\n");
    let prior = overlay.prior(&machine(), &again.act, plain_sha256).expect("decided").expect("known");
    assert_eq!(crate::delta::delta(&again, &prior), None, "planning the same again finds nothing to do");
}

#[test]
fn below_a_planned_directory_is_only_what_was_planned() {
    let mut overlay = Overlay::default();
    plan(&mut overlay, "dir", &file("/srv/a", FileWant::Directory { attributes: Attributes::default() }));
    plan(&mut overlay, "conf", &text_file("/srv/a/x", "1"));
    assert_eq!(overlay.look(&machine(), &stat("/srv/a/other")), Seen::Answer(Ok(Answer::Stat(None))));
    let list = Look::Files(FilesLook::List { path: "/srv/a".into() });
    match overlay.look(&machine(), &list) {
        Seen::Answer(Ok(Answer::Entries(entries))) => assert_eq!(entries[0].name, "x"),
        other => panic!("{other:?}"),
    }
    plan(&mut overlay, "gone", &file("/srv/a", FileWant::Absent));
    assert_eq!(overlay.look(&machine(), &stat("/srv/a/x")), Seen::Answer(Ok(Answer::Stat(None))));
}

#[test]
fn a_planned_command_makes_unknown_what_it_alters() {
    let mut overlay = Overlay::default();
    overlay.record("build", &machine(), &command(&["path:/opt/app", "service:app"]), &Prior::None);
    assert!(is_unknown(&overlay.look(&machine(), &stat("/opt/app/bin"))));
    assert!(is_unknown(&overlay.look(&machine(), &observe(&["service:app"]))));
    assert!(is_unknown(&overlay.look(&machine(), &observe(&[]))), "a command that may read anything");
    assert_eq!(overlay.look(&machine(), &observe(&["version"])), Seen::Through);
    assert_eq!(overlay.look(&machine(), &stat("/etc/x")), Seen::Through);

    overlay.record("all", &machine(), &command(&[]), &Prior::None);
    assert!(is_unknown(&overlay.look(&machine(), &stat("/etc/x"))));
    assert!(overlay.is_untouched(&Target::Controller));
}

#[test]
fn a_file_that_is_written_after_a_command_is_known_again() {
    let mut overlay = Overlay::default();
    overlay.record("install", &machine(), &command(&[]), &Prior::None);
    let write = text_file("/etc/x", "a");
    assert!(matches!(overlay.prior(&machine(), &write.act, plain_sha256), Some(Err(CallError::Unknown(_)))));
    overlay.record("conf", &machine(), &write, &Prior::None);
    assert!(matches!(overlay.look(&machine(), &stat("/etc/x")), Seen::Answer(Ok(Answer::Stat(Some(_))))));
}

#[test]
fn commands_that_read_planned_files_are_unknown() {
    let mut overlay = Overlay::default();
    plan(&mut overlay, "conf", &text_file("/etc/x", "a"));
    assert!(is_unknown(&overlay.look(&machine(), &observe(&["path:/etc"]))));
    assert_eq!(overlay.look(&machine(), &observe(&["path:/var"])), Seen::Through);
}

#[test]
fn objects_in_a_planned_namespace_need_no_api_server() {
    let cluster = Target::Cluster("home".into());
    let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web"}});
    let apply = |manifest: Value| Change {
        act: Act::Kube(KubeAct::Apply { manifest, force: false }),
        effect: Effect::default(),
    };
    let mut overlay = Overlay::default();
    let change = apply(namespace.clone());
    assert_eq!(overlay.prior(&cluster, &change.act, plain_sha256), None);
    overlay.record("ns", &cluster, &change, &Prior::Object { live: None, would: Some(namespace) });

    let map = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "web"}, "data": {"a": "1"}});
    let change = apply(map);
    let prior = overlay.prior(&cluster, &change.act, plain_sha256).expect("decided").expect("known");
    assert!(matches!(prior, Prior::Object { live: None, would: Some(_) }));
    overlay.record("map", &cluster, &change, &prior);

    let get = Look::Kube(KubeLook::Get {
        object: ObjectRef {
            kind: ResourceKind { group: String::new(), version: "v1".into(), kind: "ConfigMap".into() },
            namespace: Some("web".into()),
            name: "c".into(),
        },
    });
    match overlay.look(&cluster, &get) {
        Seen::Answer(Ok(Answer::Object(Some(object)))) => assert_eq!(object["data"]["a"], "1"),
        other => panic!("{other:?}"),
    }
}
