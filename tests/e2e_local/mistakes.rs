//! Bad input of every kind: a clear word, the right exit code, and nothing touched.

use runbook_tests::{TestEnv, Tree};

use crate::support::{folder, local, runs};

/// A first step that would leave a trace if anything ran before the mistake was found.
const FIRST: &str = r#"
[[step]]
id = "first"
uses = "core/command"
on = "here"
with = { argv = ["touch", "SCRATCH/trace"] }
"#;

struct Case {
    what: &'static str,
    runbook: String,
    args: &'static [&'static str],
    code: i32,
    says: &'static [&'static str],
}

fn cases() -> Vec<Case> {
    let steps = |more: &str| local(&format!("{FIRST}\n{more}"));
    let file = |with: &str| {
        steps(&format!("[[step]]\nid = \"x\"\nuses = \"core/file\"\non = \"here\"\nwith = {{ {with} }}\n"))
    };
    let case = |what, runbook, code, says| Case { what, runbook, args: &[], code, says };
    let with = |what, args, code, says| Case { what, runbook: steps(""), args, code, says };
    vec![
        case("broken TOML", steps("[[step]\nid = "), 3, &["bad.toml:", "^"]),
        case("a file that is not UTF-8 text", "\0\0".to_owned(), 3, &["bad.toml:1:1"]),
        case(
            "unknown key",
            file("path = \"/x\", content = \"\", mod = \"0644\""),
            3,
            &["unknown", "mod", "did you mean", "bad.toml:"],
        ),
        case("unknown key of a step", steps("").replace("on = ", "hosts = "), 3, &["`hosts`", "bad.toml:"]),
        case("wrong type", file("path = 7, content = \"\""), 3, &["path", "string", "bad.toml:"]),
        case("missing input of an action", file("content = \"\""), 3, &["path"]),
        case(
            "undefined name",
            file("path = \"/x\", content = \"{{ inputs.nothing }}\""),
            3,
            &["inputs.nothing", "bad.toml:"],
        ),
        case("undefined host", steps("").replace("on = \"here\"", "on = \"there\""), 3, &["there", "here"]),
        case("no host", steps("").replace("on = \"here\"\n", ""), 3, &["on"]),
        case(
            "cycle",
            steps(
                "[[step]]\nid = \"a\"\nuses = \"core/command\"\non = \"here\"\nneeds = [\"b\"]\nwith = { argv = [\"true\"] }\n\
                   [[step]]\nid = \"b\"\nuses = \"core/command\"\non = \"here\"\nneeds = [\"a\"]\nwith = { argv = [\"true\"] }\n",
            ),
            3,
            &["a -> b -> a", "bad.toml:"],
        ),
        case(
            "missing plugin",
            steps("[[step]]\nid = \"x\"\nuses = \"cor/file\"\non = \"here\"\n"),
            3,
            &["cor", "core"],
        ),
        case(
            "missing action",
            steps("[[step]]\nid = \"x\"\nuses = \"core/fiel\"\non = \"here\"\n"),
            3,
            &["did you mean", "file"],
        ),
        case("two steps of one name", steps(FIRST), 3, &["first"]),
        case("a schema from the future", steps("").replace("schema = 1", "schema = 99"), 3, &["99"]),
        case(
            "a plugin's file that is missing",
            format!("{}\n[plugins]\nmine = \"./gone.wasm\"\n", steps("")),
            4,
            &["gone.wasm"],
        ),
        case(
            "a plugin's file that is none",
            format!("{}\n[plugins]\nmine = \"./bad.toml\"\n", steps("")),
            4,
            &["bad.toml"],
        ),
        case(
            "a plugin under the name of one of the program's",
            format!("{}\n[plugins]\ncore = \"./x.wasm\"\n", steps("")),
            4,
            &["core"],
        ),
        case("missing input", format!("{}\n[inputs.ip]\ntype = \"string\"\n", steps("")), 3, &["ip", "--var ip="]),
        case(
            "a secret that is nowhere",
            format!("{}\n[inputs.pass]\ntype = \"secret\"\nfrom = {{ env = \"NOT_SET_ANYWHERE\" }}\n", steps("")),
            3,
            &["pass", "NOT_SET_ANYWHERE"],
        ),
        case(
            "a secret in argv",
            format!(
                "{}\n[inputs.pass]\ntype = \"secret\"\nfrom = {{ env = \"HOME\" }}\n",
                steps("").replace("argv = [\"touch\"", "argv = [\"{{ inputs.pass }}\"")
            ),
            3,
            &["pass"],
        ),
        case(
            "a secret in the file",
            format!("{}\n[inputs.pass]\ntype = \"secret\"\ndefault = \"sesame-open\"\n", steps("")),
            3,
            &["pass", "never stands in a file"],
        ),
        case(
            "a prompt without a terminal",
            format!("{}\n[inputs.pass]\ntype = \"secret\"\nfrom = {{ prompt = \"Password\" }}\n", steps("")),
            3,
            &["pass", "terminal"],
        ),
        Case {
            what: "an input of another type",
            runbook: format!("{}\n[inputs.count]\ntype = \"integer\"\n", steps("")),
            args: &["--var", "count=many"],
            code: 3,
            says: &["count", "many"],
        },
        with("an input that is not there", &["--var", "nothing=1"], 3, &["nothing"]),
        with("--var without a value", &["--var", "nothing"], 2, &["NAME=VALUE"]),
        with("--only a step that is not there", &["--only", "frist"], 2, &["frist", "first"]),
        with("--from a step that is not there", &["--from", "later"], 2, &["later"]),
        with("--approve a step that is not there", &["--approve", "later"], 2, &["later"]),
        with("an option that is not there", &["--force"], 2, &["--force"]),
    ]
}

#[test]
fn every_mistake_is_found_before_anything_is_touched() {
    for case in cases() {
        let env = TestEnv::new();
        let scratch = folder(&env, "scratch");
        env.write("bad.toml", case.runbook.replace("SCRATCH", &scratch.display().to_string()));
        let before = Tree::of(&scratch);
        let out = env.run(&[&["exec", "bad.toml"], case.args].concat());
        assert_eq!(out.code, Some(case.code), "{}: {out}", case.what);
        assert_eq!(out.stdout, "", "{}: {out}", case.what);
        for part in case.says {
            assert!(out.stderr.contains(part), "{}: no `{part}` in {out}", case.what);
        }
        before.assert_untouched();
        assert_eq!(runs(&env), Vec::<std::path::PathBuf>::new(), "{}: a run was begun", case.what);
        if case.args.is_empty() {
            for verb in ["plan", "validate"] {
                let found = env.run(&[verb, "bad.toml"]);
                // What a run is given from outside is no mistake of the file.
                let inputs = ["missing input", "a secret that is nowhere", "a prompt without a terminal"];
                let fine = verb == "validate" && inputs.contains(&case.what);
                assert_eq!(found.code, Some(if fine { 0 } else { case.code }), "{}: {found}", case.what);
                before.assert_untouched();
            }
        }
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let env = TestEnv::new();
    let runbook = local(
        "[[step]]\nid = \"a\"\nuses = \"core/fiel\"\non = \"here\"\n\n[[step]]\nid = \"b\"\nuses = \"core/file\"\non = \"threre\"\n\
         with = { path = 7 }\n\n[[step]]\nid = \"c\"\nuses = \"core/command\"\non = \"here\"\nwith = { argv = [\"{{ vars.gone }}\"] }\nwhy_not = 1\n",
    );
    env.write("bad.toml", runbook);
    let out = env.run(&["validate", "bad.toml"]).code(3);
    for part in ["core/fiel", "threre", "path", "vars.gone", "why_not", "nothing was touched"] {
        assert!(out.stderr.contains(part), "no `{part}` in {out}");
    }
    let lines = env.run(&["validate", "--json", "bad.toml"]).code(3).stdout;
    for line in lines.lines() {
        let found: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(found["message"].is_string(), "{line}");
    }
    assert!(lines.lines().count() >= 5, "{lines}");
}

#[test]
fn what_is_no_runbook_at_all() {
    let env = TestEnv::new();
    env.run(&[]).code(2).stderr_has("Usage");
    env.run(&["exce"]).code(2).stderr_has("exec");
    env.run(&["exec"]).code(2).stderr_has("FILE");
    env.run(&["exec", "missing.toml"]).code(2).stderr_has("missing.toml");
    env.run(&["exec", "."]).code(2).stderr_has("directory");
    env.run(&["--help"]).ok().stdout_has("runbook plan dr.toml");
    env.run(&["--version"]).ok().stdout_has("runbook 0.");
}
