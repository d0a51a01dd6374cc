//! `runbook plugin verify`: a plugin that breaks a law is found out, and the shipped ones break none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use runbook_tests::{Outcome, TestEnv, component, tests_dir};

/// The secret that the harness makes up for the input `token`, letter by letter.
const SPELLED: &str = "M-x-q-3-c-4-6-9-e-9-d-6-c-5-8-7-5-d-3-7-a-4-3-f";

fn world() -> String {
    format!(
        r#"
[machine.n1]
values = {{ counted = "0" }}
files = {{ "/srv/conf" = "old\n", "/etc/shadow" = "root:x\n" }}
[[program]]
argv = ["count-me"]
set = {{ counted = "1" }}
[[program]]
argv = ["rewrite"]
write = {{ "/srv/conf" = "new\n", "/srv/rewritten" = "" }}
[[program]]
argv = ["unwrite"]
write = {{ "/srv/conf" = "old\n" }}
remove = ["/srv/rewritten"]
[[program]]
argv = ["append"]
append = {{ "/srv/log" = "line\n" }}
[[program]]
argv = ["say", "{{word}}"]
stdout = "{{word}}"
[[program]]
argv = ["spell"]
stdout = "{SPELLED}"
"#
    )
}

/// A case for each action, and what comes of it.
struct Lawless {
    env: TestEnv,
    plugin: PathBuf,
}

impl Lawless {
    fn new(actions: &[&str]) -> Self {
        let env = TestEnv::new();
        for action in actions {
            let runbook = format!(
                "schema = 1\nname = \"x\"\n[inputs.token]\ntype = \"secret\"\nfrom = {{ env = \"TOKEN\" }}\n\
                 [hosts.n1]\naddress = \"192.0.2.1\"\n\
                 [[step]]\nid = \"it\"\nuses = \"lawless/{action}\"\non = \"n1\"\nwith = {{ token = \"{{{{ inputs.token }}}}\" }}\n"
            );
            env.write(&format!("cases/{action}.toml"), runbook);
            env.write(&format!("cases/{action}.world.toml"), world());
        }
        Self { env, plugin: component("lawless") }
    }

    fn verify(&self, more: &[&str]) -> Outcome {
        let plugin = self.plugin.display().to_string();
        self.env.run(&[&["plugin", "verify", &plugin, "--cases", "cases"], more].concat())
    }
}

#[test]
fn each_law_that_is_broken_is_found_out() {
    let broken = [
        ("peeks", 1, "after the plan, `counted` of n1 is another"),
        ("understates", 2, "the plan says: write /srv/copy on n1; apply does: write /srv/copy on n1"),
        ("grows", 3, "the second apply changes something: write /srv/count on n1"),
        (
            "repeats",
            4,
            r#"it comes to another end: /srv/log on n1 is another: "line\nline\n" (0644 root:root) instead of "line\n""#,
        ),
        ("forgets", 5, "after the undo, /srv/log on n1 is not as it was before"),
        ("blind", 6, "somebody undid /srv/data on n1, and neither converge nor verify notices"),
        ("reaches", 7, "asks for what it is not granted: read /etc/shadow on n1"),
        ("strays", 7, "where somebody harmed /srv/data on n1, it on n1 asks for what it is not granted"),
        ("panics", 7, "the plugin crashed"),
        ("spins", 7, "it made more than 5000 calls"),
        ("tells", 7, "the secret `token` stands in the journal"),
    ];
    let actions: Vec<&str> = broken.iter().map(|(action, ..)| *action).chain(["honest"]).collect();
    let lawless = Lawless::new(&actions);
    for (action, law, told) in broken {
        let out = lawless.verify(&["--case", action, "--law", &law.to_string()]).code(1);
        out.stdout_has(&format!("{action} breaks law {law}, ")).stdout_has(told);
    }
    lawless.verify(&["--case", "honest"]).ok().last_line("kept: 7 hold, 0 not judged, 0 broken");
}

#[test]
fn a_breach_is_repeated_by_the_command_that_it_names() {
    let lawless = Lawless::new(&["repeats", "blind"]);
    for action in ["repeats", "blind"] {
        let out = lawless.verify(&["--case", action]).code(1);
        let once_more = out.stdout.lines().find_map(|line| line.trim().strip_prefix("once more: runbook "));
        let words: Vec<&str> = once_more.expect("it is named").split(' ').collect();
        assert!(words.contains(&"--at"), "{words:?}");
        lawless.env.run(&words).code(1).stdout_has(&format!("{action} breaks law")).stdout_has("0 hold");
    }
}

#[test]
fn what_cannot_be_judged_is_no_pass() {
    let lawless = Lawless::new(&["honest"]);
    lawless.env.write("cases/honest.world.toml", "[machine.n1.files]\n\"/srv\" = \"no directory\"\n");
    let out = lawless.verify(&[]).ok();
    out.stdout_has("the case does not end well").last_line("incomplete: 0 hold, 7 not judged, 0 broken");
    lawless.env.write("cases/honest.world.toml", "[machine.n1]\nfile = 1\n");
    lawless.verify(&[]).code(3).stderr_has("unknown field");
    lawless.verify(&["--case", "none"]).code(2).stderr_has("no case `none`");
    lawless.verify(&["--law", "8"]).code(2).stderr_has("there is no law 8");
}

/// Actions that no case uses, and why. Whoever adds an action adds a case for it, or has a reason that stands here.
const WITHOUT: &[(&str, &str)] = &[];

/// The folders of the plugins in this repository.
fn plugins() -> Vec<PathBuf> {
    let top = tests_dir().join("../plugins");
    let folders = [top.clone(), top.join("python"), top.join("js")];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("our own folder"));
    let mut plugins: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.join("plugin.toml").is_file()))
        .collect();
    plugins.sort();
    plugins
}

/// Is told without anything being built: so it holds for those in Python and JavaScript, too.
#[test]
fn every_action_has_a_case() {
    let toml = |path: &Path| -> toml::Table {
        let text = std::fs::read_to_string(path).expect("our own file");
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let list =
        |table: &toml::Table, key: &str| table.get(key).and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let word =
        |value: &toml::Value, key: &str| value.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    fn uses(steps: &[toml::Value], found: &mut BTreeSet<String>) {
        for step in steps {
            found.extend(step.get("uses").and_then(toml::Value::as_str).map(str::to_owned));
            uses(step.get("do").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default(), found);
        }
    }
    let (mut actions, mut used) = (BTreeSet::new(), BTreeSet::new());
    for plugin in plugins() {
        let manifest = toml(&plugin.join("plugin.toml"));
        let name = word(&toml::Value::Table(manifest.clone()), "name");
        actions.extend(list(&manifest, "action").iter().map(|action| format!("{name}/{}", word(action, "name"))));
        let Ok(cases) = std::fs::read_dir(plugin.join("cases")) else { continue };
        for case in cases.filter_map(|case| Some(case.ok()?.path())) {
            if !case.to_string_lossy().ends_with(".world.toml") {
                uses(&list(&toml(&case), "step"), &mut used);
            }
        }
    }
    assert!(actions.len() >= 27 && actions.contains("smart/tested") && actions.contains("homeassistant/switched"));
    let without: BTreeSet<String> = WITHOUT.iter().map(|(action, _)| (*action).to_owned()).collect();
    assert_eq!(actions.difference(&used).cloned().collect::<BTreeSet<_>>(), without);
}

/// Tries the laws in the cases of a plugin of the program. Each has a test of its own: they take a while.
fn keeps_the_laws(plugin: &str) {
    let cases = tests_dir().join("../plugins").join(plugin).join("cases").display().to_string();
    let out = TestEnv::new().run(&["plugin", "verify", plugin, "--cases", &cases]).ok();
    let last = out.stdout.lines().last().unwrap_or_default();
    assert!(last.ends_with(" hold, 0 not judged, 0 broken"), "{plugin}: {out}");
}

#[test]
fn core_keeps_the_laws() {
    keeps_the_laws("core");
}

#[test]
fn microk8s_keeps_the_laws() {
    keeps_the_laws("microk8s");
}

#[test]
fn net_keeps_the_laws() {
    keeps_the_laws("net");
}

#[test]
fn openebs_keeps_the_laws() {
    keeps_the_laws("openebs");
}

#[test]
fn pulumi_keeps_the_laws() {
    keeps_the_laws("pulumi");
}

#[test]
fn volume_keeps_the_laws() {
    keeps_the_laws("volume");
}

/// Those in Python and JavaScript have theirs in `tests/e2e_guests`.
#[test]
fn each_shipped_plugin_is_tried() {
    let shipped = plugins().into_iter().filter(|plugin| plugin.join("Cargo.toml").is_file());
    let names: Vec<String> =
        shipped.map(|plugin| plugin.file_name().unwrap_or_default().display().to_string()).collect();
    assert_eq!(names, ["core", "microk8s", "net", "openebs", "pulumi", "volume"]);
}

/// A project that is built already, and a run of its plugin on this machine.
fn recorded() -> (TestEnv, PathBuf) {
    let env = TestEnv::new().var("TOKEN", "sesame-open-yourself");
    let manifest = std::fs::read_to_string(tests_dir().join("components/lawless/plugin.toml")).expect("it is our own");
    for (name, text) in [
        ("plugin.toml", manifest),
        ("test.sh", "true\n".to_owned()),
        ("build.sh", format!("mkdir -p build && cp {} build/lawless.wasm\n", component("lawless").display())),
    ] {
        env.write(&format!("lawless/{name}"), text);
    }
    let path = env.home().join("written");
    let runbook = format!(
        "schema = 1\nname = \"x\"\n[plugins]\nlawless = \"./lawless/build/lawless.wasm\"\n\
         [inputs.token]\ntype = \"secret\"\nfrom = {{ env = \"TOKEN\" }}\n[hosts.here]\ntransport = \"local\"\n\
         [[step]]\nid = \"it\"\nuses = \"lawless/honest\"\non = \"here\"\nallow = \"asked\"\n\
         with = {{ path = \"{}\", token = \"{{{{ inputs.token }}}}\" }}\n",
        path.display()
    );
    env.write("x.toml", runbook);
    env.run(&["plugin", "build", "lawless"]).ok();
    env.grant("x.toml");
    env.run(&["exec", "x.toml"]).ok();
    (env, path)
}

#[test]
fn a_cassette_is_replayed_without_the_host() {
    let (env, path) = recorded();
    std::fs::write(&path, "before, and kept under seal").expect("our own file");
    env.run(&["exec", "x.toml"]).ok();
    std::fs::create_dir(env.work().join("lawless/cassettes")).expect("our own folder");
    env.run(&["plugin", "record", "--step", "it", "-o", "lawless/cassettes/it.json"]).ok();
    env.run(&["plugin", "record", "-o", "lawless/cassettes/it.json"]).code(2).stderr_has("-o FILE says where it goes");
    env.run(&["plugin", "record", "--step", "other"]).code(2).stderr_has("it has it");

    let file = env.work().join("lawless/cassettes/it.json");
    let text = std::fs::read_to_string(&file).expect("it was written");
    for told in ["sesame", "under seal", "x.toml", "\"kept\""] {
        assert!(!text.contains(told), "{told} stands in {text}");
    }
    let home = env.home().display().to_string();
    assert!(!text.contains(&home) && text.contains("/home/user/written"), "{text}");
    assert!(text.contains("secret:token") || text.contains("\"secret\": \"token\""), "{text}");

    // The world is gone; what it answered is not.
    std::fs::remove_file(&path).expect("our own file");
    env.run(&["plugin", "test", "lawless"]).ok().stderr_has("it.json: the same, 1 calls").stderr_has("1 cassettes");
    assert!(!path.exists(), "a replay touches nothing");

    // As if the plugin had done something else when it was recorded.
    std::fs::write(&file, text.replace("\"mode\": 384", "\"mode\": 420")).expect("our own file");
    let out = env.run(&["plugin", "test", "lawless"]).code(1);
    out.stdout_has("differs after 0 calls").stderr_has("1 of 1 cassettes: the plugin acts differently now");
    std::fs::write(&file, "{\"cassette\": 2}").expect("our own file");
    env.run(&["plugin", "test", "lawless"]).code(3).stderr_has("a cassette of version 2");
}
