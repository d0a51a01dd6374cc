//! A secret arrives where it is used and nowhere else.

use std::path::Path;

use runbook_tests::{Outcome, TestEnv};

use crate::support::{folder, local, runs};

const VALUE: &str = "corr3ct-horse \"battery\" $staple's %2F+/é";

const RUNBOOK: &str = r#"
[inputs.token]
type = "secret"
from = { env = "THE_TOKEN" }

[[step]]
id = "file"
uses = "core/file"
on = "here"
with = { path = "SCRATCH/config", content = "user = me\ntoken = {{ inputs.token }}\n", mode = "0600" }

[[step]]
id = "line"
uses = "core/line"
on = "here"
with = { path = "SCRATCH/config", match = "^user", line = "user = you" }

[[step]]
id = "block"
uses = "core/block"
on = "here"
with = { path = "SCRATCH/config", marker = "more", content = "again = {{ inputs.token }}" }

[[step]]
id = "program"
uses = "core/script"
on = "here"
with.env = { TOKEN = "{{ inputs.token }}" }
with.stdin = "{{ inputs.token }}\n"
with.script = """
printf %s "$TOKEN" > 'SCRATCH/env'
cat > 'SCRATCH/stdin'
for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < "$f" 2> /dev/null || :; echo; done > 'SCRATCH/cmdlines'
ps -ef > 'SCRATCH/ps' 2> /dev/null || :
echo "the token is $TOKEN"
printf %s "$TOKEN" | base64 -w0 >&2
"""

[[step]]
id = "fails"
uses = "core/script"
on = "here"
on_failure = "continue"
with = { env = { TOKEN = "{{ inputs.token }}" }, script = "echo \"cannot log in with $TOKEN\" >&2; exit 3" }
"#;

fn leaks(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory of our own can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(leaks(&path));
        } else {
            let bytes = std::fs::read(&path).expect("a file of our own can be read");
            found.extend(in_text(&String::from_utf8_lossy(&bytes)).map(|form| format!("{form} in {}", path.display())));
        }
    }
    found
}

/// The form in which the secret is in a text.
fn in_text(text: &str) -> Option<&'static str> {
    let json = serde_json::to_string(VALUE).expect("a text can be written as JSON");
    let inner = json.trim_matches('"');
    let forms = [
        ("plain", VALUE.to_owned()),
        ("JSON", inner.to_owned()),
        ("JSON twice", serde_json::to_string(inner).expect("a text").trim_matches('"').to_owned()),
        ("base64", "Y29ycjNjdC1ob3JzZSAiYmF0dGVyeSIgJHN0YXBsZSdzICUyRisv".to_owned()),
        ("hex", hex::encode(VALUE)),
        // Its beginning alone is nothing that should be anywhere.
        ("a part", "corr3ct-horse".to_owned()),
    ];
    forms.into_iter().find(|(_, form)| text.contains(form.as_str())).map(|(name, _)| name)
}

fn check(env: &TestEnv, scratch: &Path, out: &Outcome) {
    let read =
        |name: &str| std::fs::read_to_string(scratch.join(name)).unwrap_or_else(|e| panic!("{name}: {e}; {out}"));
    let config = format!("user = you\ntoken = {VALUE}\n# BEGIN more\nagain = {VALUE}\n# END more\n");
    assert_eq!(read("config"), config, "{out}");
    assert_eq!((read("env"), read("stdin")), (VALUE.to_owned(), format!("{VALUE}\n")), "{out}");
    assert!(read("cmdlines").contains("sh"), "{out}");
    assert_eq!(in_text(&read("cmdlines")), None, "arguments are seen by all users");
    assert_eq!((in_text(&out.stdout), in_text(&out.stderr)), (None, None), "{out}");
    assert_eq!(leaks(&env.xdg()), Vec::<String>::new());
    assert!(!runs(env).is_empty());
}

#[test]
fn a_secret_from_the_environment_stays_a_secret() {
    let env = TestEnv::new().var("THE_TOKEN", VALUE);
    let scratch = folder(&env, "scratch");
    env.write("secret.toml", local(&RUNBOOK.replace("SCRATCH", &scratch.display().to_string())));
    let planned = env.run(&["plan", "secret.toml"]).ok();
    assert_eq!((in_text(&planned.stdout), in_text(&planned.stderr)), (None, None), "{planned}");
    let planned = env.run(&["plan", "--json", "secret.toml"]).ok();
    assert_eq!((in_text(&planned.stdout), in_text(&planned.stderr)), (None, None), "{planned}");

    let out = env.run(&["exec", "secret.toml"]).code(1);
    check(&env, &scratch, &out);
    // It was to be seen that something was said, without what.
    out.stderr_has("cannot log in with");
    let out = env.run(&["exec", "--json", "secret.toml", "--only", "file,line,block,program"]).ok();
    check(&env, &scratch, &out);
    let name = runs(&env)[0].file_name().and_then(|n| n.to_str()).expect("text").to_owned();
    for args in [
        vec!["show", &name],
        vec!["show", "--json", &name],
        vec!["runs", "--json"],
        vec!["report", &name],
        vec!["report", "--format", "html", &name],
    ] {
        let shown = env.run(&args).ok();
        assert_eq!((in_text(&shown.stdout), in_text(&shown.stderr)), (None, None), "{shown}");
    }
}

#[test]
fn a_secret_from_a_file_or_a_program_stays_one_and_none_is_taken_from_the_command_line() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    let text = local(&RUNBOOK.replace("SCRATCH", &scratch.display().to_string()));
    env.write("home/token", format!("{VALUE}\n"));
    for (name, from) in [("file", "file = \"home/token\""), ("command", "command = [\"cat\", \"home/token\"]")] {
        env.write(&format!("{name}.toml"), text.replace("env = \"THE_TOKEN\"", from));
        let out = env.run(&["exec", &format!("{name}.toml")]).code(1);
        check(&env, &scratch, &out);
    }
    // On the command line everybody could read it.
    let out = env.run(&["exec", "file.toml", "--var", "token=sesame"]).code(3).stderr_has("--var").nowhere("sesame");
    assert_eq!(out.stdout, "");
}

#[test]
fn a_file_that_holds_a_secret_is_compared_and_not_shown() {
    let env = TestEnv::new().var("THE_TOKEN", VALUE);
    let scratch = folder(&env, "scratch");
    env.write("secret.toml", local(&RUNBOOK.replace("SCRATCH", &scratch.display().to_string())));
    env.run(&["exec", "secret.toml", "--only", "file"])
        .ok()
        .last_line("succeeded: 5 steps, 1 changed, 0 unchanged, 4 skipped, 0 failed");
    env.run(&["exec", "secret.toml", "--only", "file"])
        .ok()
        .last_line("succeeded: 5 steps, 0 changed, 1 unchanged, 4 skipped, 0 failed");
    // Another value is a change, and neither of the two is shown.
    std::fs::write(scratch.join("config"), format!("user = me\ntoken = {VALUE}x\n")).expect("our own file");
    let out = env
        .run(&["plan", "secret.toml", "--only", "file"])
        .ok()
        .last_line("plan: 5 steps, 1 would change, 0 may change, 0 unchanged, 4 skipped, 0 failed");
    assert_eq!(in_text(&out.stdout), None, "{out}");
}
