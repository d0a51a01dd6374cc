//! `smart`, in Python: commands that look and change, files, deferred changes, undo and resume.

use std::path::PathBuf;

use runbook_tests::TestEnv;

use crate::support::{assert_keeps_the_laws, changes, ended, lines, program, runbook, world};

const PROJECT: &str = "plugins/python/smart";

/// A disk whose self-test goes on for ever once it was started, and a systemctl; both note what changes something.
struct Nas {
    env: TestEnv,
    done: PathBuf,
    config: PathBuf,
}

impl Nas {
    fn new() -> Self {
        let env = world();
        let (done, testing) = (env.dir().join("done"), env.dir().join("testing"));
        let script = format!(
            r#"#!/bin/sh
case "$1" in
  --json) status=0; [ -e {testing} ] && status=249
    echo '{{"model_name":"STAND-IN","serial_number":"S1","smart_status":{{"passed":true}},"power_on_time":{{"hours":900}},
      "ata_smart_data":{{"self_test":{{"status":{{"value":'$status'}}}}}},"ata_smart_self_test_log":{{"extended":{{"table":[]}}}}}}'
    exit 64;;
  --test=long) touch {testing};;
  --abort) rm {testing};;
esac
echo "$*" >> {done}
"#,
            testing = testing.display(),
            done = done.display()
        );
        program(&env, "smartctl", &script);
        let script = format!("#!/bin/sh\n[ $1 = is-active ] && echo active || echo \"$*\" >> {}\n", done.display());
        program(&env, "systemctl", &script);
        let config = env.dir().join("smartd.conf");
        std::fs::write(&config, "# mine\nDEVICESCAN\n").expect("our own folder");
        let steps = format!(
            r#"[[step]]
id = "tested"
uses = "smart/tested"
on = "here"
allow = "asked"
with = {{ device = "/dev/sda" }}

[[step]]
id = "watched"
uses = "smart/watched"
on = "here"
allow = "asked"
with = {{ device = "/dev/sda", config = "{}" }}
"#,
            config.display()
        );
        env.write("nas.toml", runbook(PROJECT, &steps));
        env.grant("nas.toml");
        Self { env, done, config }
    }

    fn config(&self) -> String {
        std::fs::read_to_string(&self.config).expect("it is there")
    }
}

const WATCHED: &str = "# mine\n/dev/sda -a -s L/../../7/03 -m root\nDEVICESCAN\n";

#[test]
fn plans_does_finds_nothing_left_and_takes_back() {
    let nas = Nas::new();
    let plan = nas.env.run(&["plan", "nas.toml"]).ok();
    for shown in ["start a long self-test of /dev/sda", "+/dev/sda -a -s L/../../7/03 -m root", "restart smartd"] {
        assert!(plan.stdout.contains(shown), "{plan}");
    }
    assert!(nas.config().starts_with("# mine\nDEVICESCAN") && lines(&nas.done).is_empty(), "a plan changes nothing");

    let line = |what: &str| format!("succeeded: 2 steps, {what}, 0 skipped, 0 failed");
    nas.env.run(&["exec", "nas.toml"]).ok().last_line(&line("2 changed, 0 unchanged"));
    assert_eq!(nas.config(), WATCHED);
    assert_eq!(lines(&nas.done), ["--test=long /dev/sda", "restart smartd"]);
    nas.env.run(&["undo"]).ok();
    assert_eq!(nas.config(), "# mine\nDEVICESCAN\n");
    assert!(lines(&nas.done).contains(&"--abort /dev/sda".to_owned()), "{:?}", lines(&nas.done));

    nas.env.run(&["exec", "nas.toml"]).ok().last_line(&line("2 changed, 0 unchanged"));
    nas.env.run(&["exec", "nas.toml"]).ok().last_line(&line("0 changed, 2 unchanged"));
}

#[test]
fn a_run_that_was_killed_goes_on_and_nothing_is_done_twice() {
    let nas = Nas::new();
    nas.env.run(&["exec", "nas.toml"]).ok();
    let changes = changes(&nas.env);
    assert_eq!(changes.len(), 3, "{changes:?}");
    for cut in changes.iter().flat_map(|change| [change.clone(), format!("{change}:after")]) {
        let nas = Nas::new();
        assert_eq!(nas.env.run(&["exec", "nas.toml", "--drill-kill", &cut]).signal, Some(9), "{cut}");
        nas.env.run(&["resume"]).ok();
        assert_eq!(nas.config(), WATCHED, "{cut}");
        let mut done = lines(&nas.done);
        // To restart smartd once more is harmless, and that is what the plugin says of it.
        done.dedup();
        assert_eq!(done, ["--test=long /dev/sda", "restart smartd"], "{cut}");
    }
}

#[test]
fn what_it_says_arrives_as_the_reason() {
    let nas = Nas::new();
    let dying = r#"#!/bin/sh
echo '{"smart_status":{"passed":false},"serial_number":"S1"}'; exit 8
"#;
    program(&nas.env, "smartctl", dying);
    let out = nas.env.run(&["exec", "nas.toml"]).code(1).stderr_has("/dev/sda (S1) says that it is failing");
    assert!(!out.stderr.contains("Traceback"), "{out}");
    program(&nas.env, "smartctl", "#!/bin/sh\necho '/dev/sda: Permission denied' >&2; exit 2\n");
    nas.env.run(&["exec", "nas.toml", "--abandon"]).code(1);
    assert_eq!(ended(&nas.env, "tested").2, "/dev/sda on here cannot be asked: /dev/sda: Permission denied");
}

#[test]
fn it_is_compiled_once_and_a_person_is_told() {
    let nas = Nas::new();
    let cache = nas.env.dir().join("cache");
    let plan = || {
        let mut command = nas.env.command(&["plan", "nas.toml"]);
        runbook_tests::Outcome::of(command.env("XDG_CACHE_HOME", &cache)).ok()
    };
    let told = "compiling plugin smart for this machine, once";
    let (first, second) = (plan(), plan());
    assert!(first.stderr.contains(told), "{first}");
    assert!(!second.stderr.contains(told), "{second}");
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn it_keeps_the_laws() {
    assert_keeps_the_laws(PROJECT);
}
