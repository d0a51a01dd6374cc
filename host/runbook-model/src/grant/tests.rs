use serde_json::json;

use super::*;
use crate::call::{Attributes, Content, Effect, FilesLook, Propagation, Text};
use crate::manifest::Pattern;

fn action(asks: Value) -> Action {
    serde_json::from_value(json!({"name": "a", "summary": "", "ask": asks})).expect("a valid action")
}

struct Case {
    asks: Value,
    inputs: Value,
    computed: &'static [&'static str],
    allow: Allow,
    consent: Consent,
}

impl Default for Case {
    fn default() -> Self {
        Self { asks: json!([]), inputs: json!({}), computed: &[], allow: Allow::Unsaid, consent: Consent::Implied }
    }
}

fn machine() -> Target {
    Target::Machine("n1".into())
}

impl Case {
    fn check(&self, target: Target, call: Call) -> Result<Passed, Refused> {
        let action = action(self.asks.clone());
        let targets = [machine(), Target::Controller, Target::Cluster("home".into())].into();
        let computed = self.computed.iter().map(|&name| name.to_owned()).collect();
        let grants = Grants::new(Terms {
            targets: &targets,
            action: &action,
            inputs: &self.inputs,
            computed: &computed,
            allow: &self.allow,
            consent: self.consent,
        });
        grants.check(&Request { target, call })
    }

    fn observes(&self, argv: &[&str]) -> bool {
        self.check(machine(), Call::Look(Look::Ssh(SshLook::Observe { commands: vec![command(argv)] }))).is_ok()
    }

    fn writes(&self, path: &str) -> bool {
        self.check(machine(), write(path)).is_ok()
    }

    fn deletes(&self, kind: &str, namespace: Option<&str>, name: &str) -> bool {
        let object = ObjectRef {
            kind: ResourceKind { group: String::new(), version: "v1".into(), kind: kind.into() },
            namespace: namespace.map(str::to_owned),
            name: name.into(),
        };
        let options = crate::call::DeleteOptions { propagation: Propagation::Background, ..Default::default() };
        let act = Act::Kube(KubeAct::Delete { object, options });
        self.check(Target::Cluster("home".into()), Call::Change(Change { act, effect: Effect::default() })).is_ok()
    }
}

fn command(argv: &[&str]) -> Command {
    Command { argv: argv.iter().map(|&a| a.to_owned()).collect(), ..Command::default() }
}

fn write(path: &str) -> Call {
    let want = FileWant::File {
        content: Content::Text(Text::plain("x")),
        attributes: Attributes::default(),
        validate: Vec::new(),
    };
    Call::Change(Change { act: Act::Files(FilesAct { path: path.into(), want }), effect: Effect::default() })
}

fn ask(call: &str, on: Value) -> Value {
    json!([{"call": call, "on": on, "reason": "r"}])
}

#[test]
fn nothing_is_granted_by_default() {
    let case = Case::default();
    assert!(!case.observes(&["true"]));
    assert!(!case.writes("/tmp/x"));
    assert!(!case.deletes("ConfigMap", Some("a"), "b"));
}

#[test]
fn another_target_is_denied_whatever_was_asked() {
    let case = Case { asks: ask("ssh.observe", json!({"argv": ["**"]})), ..Case::default() };
    assert!(case.observes(&["true"]));
    let look = Call::Look(Look::Ssh(SshLook::Observe { commands: vec![command(&["true"])] }));
    assert!(case.check(Target::Machine("n2".into()), look.clone()).is_err());
    assert!(case.check(Target::Controller, look).is_err(), "commands on the controller need a host");
}

#[test]
fn argv_patterns() {
    let case = Case {
        asks: ask("ssh.observe", json!({"argv": ["ls", "-l", "${input.path}"]})),
        inputs: json!({"path": "/a*"}),
        ..Case::default()
    };
    assert!(case.observes(&["ls", "-l", "/a*"]));
    assert!(!case.observes(&["ls", "-l", "/abc"]), "a star in an input matches itself");
    assert!(!case.observes(&["ls", "-l", "/a*; id"]));
    assert!(!case.observes(&["ls", "-l"]));
    assert!(!case.observes(&["ls", "-l", "/a*", "/b"]));

    let each = Case {
        asks: ask("ssh.observe", json!({"argv": ["dpkg-query", "-W", "${input.names...}"]})),
        inputs: json!({"names": ["a", "b"]}),
        ..Case::default()
    };
    assert!(each.observes(&["dpkg-query", "-W", "a", "b"]));
    assert!(!each.observes(&["dpkg-query", "-W", "a"]));

    let open = Case { asks: ask("ssh.observe", json!({"argv": ["cat", "*", "--x=*"]})), ..Case::default() };
    assert!(open.observes(&["cat", "f", "--x=1"]));
    assert!(!open.observes(&["cat", "-f", "--x=1"]), "an option is not any argument");

    let below = Case {
        asks: ask("ssh.observe", json!({"argv": ["cat", "${input.path}/*"]})),
        inputs: json!({"path": "/srv/app"}),
        ..Case::default()
    };
    assert!(below.observes(&["cat", "/srv/app/a..b"]));
    for path in ["/srv/app/../x", "/srv/app/a/../../x", "/srv/app/.."] {
        assert!(!below.observes(&["cat", path]), "{path}");
    }
}

#[test]
fn privileges_and_variables_are_asked_for() {
    let mut sudo = command(&["id"]);
    sudo.privileged = true;
    let look = |command: Command| Call::Look(Look::Ssh(SshLook::Observe { commands: vec![command] }));
    let plain = Case { asks: ask("ssh.observe", json!({"argv": ["id"]})), ..Case::default() };
    assert!(plain.check(machine(), look(sudo)).is_err());

    let mut with_env = command(&["id"]);
    with_env.env = vec![("LD_PRELOAD".into(), Text::plain("/tmp/x.so"))];
    assert!(plain.check(machine(), look(with_env.clone())).is_err());
    let granted = Case {
        asks: ask("ssh.observe", json!({"argv": ["id"], "env": ["${input.env...}"]})),
        inputs: json!({"env": {"LD_PRELOAD": "/tmp/x.so"}}),
        ..Case::default()
    };
    assert!(granted.check(machine(), look(with_env)).is_ok());
}

#[test]
fn paths_stay_below_their_prefix() {
    let case = Case {
        asks: ask("files.write", json!({"path": "${input.dir}/**"})),
        inputs: json!({"dir": "/srv/app"}),
        ..Case::default()
    };
    assert!(case.writes("/srv/app/x"));
    assert!(case.writes("/srv//app/./x"));
    for path in ["/srv/app2", "/srv/app/../x", "/etc/passwd", "srv/app/x", "/srv/app/x\0y"] {
        assert!(!case.writes(path), "{path}");
    }
    let passed = case.check(machine(), write("/srv/app/x")).expect("granted");
    assert_eq!(passed.jail.as_deref(), Some("/srv/app"));
    let read = Call::Look(Look::Files(FilesLook::Stat { path: "/srv/app/x".into() }));
    assert!(case.check(machine(), read.clone()).is_ok(), "who may write may look");
    assert!(case.check(Target::Controller, read).is_err());
}

#[test]
fn a_granted_folder_cannot_become_a_link() {
    let link = |path: &str| {
        let want = FileWant::Link { target: "/etc".into() };
        Call::Change(Change { act: Act::Files(FilesAct { path: path.into(), want }), effect: Effect::default() })
    };
    let below = Case { asks: ask("files.write", json!({"path": "/srv/app/**"})), ..Case::default() };
    assert!(below.check(machine(), link("/srv/app/current")).is_ok());
    assert!(below.check(machine(), link("/srv/app")).is_err());
    assert!(below.check(machine(), link("/srv/./app/")).is_err());
    let exact = Case { asks: ask("files.write", json!({"path": "/srv/app"})), ..Case::default() };
    assert!(exact.check(machine(), link("/srv/app")).is_ok());
}

#[test]
fn objects_by_kind_namespace_and_name() {
    let case = Case {
        asks: ask("kube.delete", json!({"kind": "ConfigMap", "namespace": "${input.ns}", "name": "x-*"})),
        inputs: json!({"ns": "web"}),
        ..Case::default()
    };
    assert!(case.deletes("ConfigMap", Some("web"), "x-1"));
    assert!(!case.deletes("ConfigMap", Some("kube-system"), "x-1"));
    assert!(!case.deletes("ConfigMap", Some("web"), "y"));
    assert!(!case.deletes("Secret", Some("web"), "x-1"));
}

#[test]
fn deleting_data_must_be_declared_irreversible() {
    let on = json!({"kind": "PersistentVolumeClaim", "namespace": "web"});
    let silent = Case { asks: ask("kube.delete", on.clone()), ..Case::default() };
    assert!(!silent.deletes("PersistentVolumeClaim", Some("web"), "a"));
    let declared = Case {
        asks: json!([{"call": "kube.delete", "on": on, "irreversible": "the data is gone", "reason": "r"}]),
        ..Case::default()
    };
    assert!(declared.deletes("PersistentVolumeClaim", Some("web"), "a"));
}

#[test]
fn a_plugin_from_elsewhere_needs_the_owner() {
    let permit = Permit {
        call: Power::SshObserve,
        on: Pattern { argv: Some(vec!["zfs".into(), "list".into()]), ..Pattern::default() },
        privileged: false,
    };
    let only = || Allow::Only(vec![permit.clone()]);
    // Whether it may list, and whether it may destroy.
    for (consent, allow, list, destroy) in [
        (Consent::Missing, Allow::Unsaid, false, false),
        (Consent::Missing, Allow::Asked, false, false),
        (Consent::Missing, only(), false, false),
        (Consent::Granted, Allow::Unsaid, true, true),
        (Consent::Granted, Allow::Asked, true, true),
        (Consent::Granted, only(), true, false),
    ] {
        let what = format!("{consent:?}, {allow:?}");
        let asks = ask("ssh.observe", json!({"argv": ["zfs", "**"]}));
        let case = Case { asks, consent, allow, ..Case::default() };
        assert_eq!((case.observes(&["zfs", "list"]), case.observes(&["zfs", "destroy"])), (list, destroy), "{what}");
    }
}

#[test]
fn computed_inputs_grant_only_inside_of_allow() {
    let case = |allow: Allow| Case {
        asks: ask("files.write", json!({"path": "${input.path}"})),
        inputs: json!({"path": "/etc/shadow"}),
        computed: &["path"],
        allow,
        ..Case::default()
    };
    assert!(!case(Allow::Unsaid).writes("/etc/shadow"));
    let permit = |path: &str| {
        Allow::Only(vec![Permit {
            call: Power::FilesWrite,
            on: Pattern { path: Some(path.into()), ..Pattern::default() },
            privileged: false,
        }])
    };
    assert!(!case(permit("/srv/**")).writes("/etc/shadow"));
    assert!(case(permit("/etc/**")).writes("/etc/shadow"));
}

#[test]
fn validators_are_commands_too() {
    let asks = json!([
        {"call": "files.write", "on": {"path": "/etc/sudoers"}, "reason": "r"},
        {"call": "ssh.observe", "on": {"argv": ["${input.validate...}"]}, "reason": "r"},
    ]);
    let case = Case { asks, inputs: json!({"validate": ["visudo", "-cf", "{}"]}), ..Case::default() };
    let write = |validate: &[&str]| {
        let want = FileWant::File {
            content: Content::Text(Text::plain("x")),
            attributes: Attributes::default(),
            validate: validate.iter().map(|&a| a.to_owned()).collect(),
        };
        let act = Act::Files(FilesAct { path: "/etc/sudoers".into(), want });
        Call::Change(Change { act, effect: Effect::default() })
    };
    assert!(case.check(machine(), write(&["visudo", "-cf", "{}"])).is_ok());
    assert!(case.check(machine(), write(&["rm", "{}"])).is_err());
}

#[test]
fn an_ask_may_need_a_receipt() {
    let needs = json!({"kind": "backup", "subject": "db/${input.name}", "max_age": "24h", "off_host": true});
    let ask = json!({"call": "files.write", "on": {"path": "/a"}, "irreversible": "gone", "needs_receipt": needs, "reason": "r"});
    let other = json!({"call": "files.write", "on": {"path": "/b"}, "reason": "r"});
    let case = Case { asks: json!([other, ask]), inputs: json!({"name": "home"}), ..Case::default() };
    let passed = case.check(machine(), write("/a")).expect("it was asked for");
    let wanted = NeedsReceipt {
        kind: "backup".into(),
        subject: Some("db/home".into()),
        max_age_ms: Some(86_400_000),
        off_host: true,
    };
    assert_eq!((passed.ask, passed.needs_receipt), (Some(1), Some(wanted)));
    assert_eq!(case.check(machine(), write("/b")).expect("asked for").needs_receipt, None);
    // What it is needed for is not known: nothing passes.
    let case = Case { inputs: json!({}), ..case };
    assert!(!case.writes("/a"));
}
