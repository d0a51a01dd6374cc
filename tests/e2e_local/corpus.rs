//! The corpus of hostile plugins, `tests/hostile`: each file of it is one failed step or a refusal, and everything else goes on.

mod made;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use runbook_model::event::StepOutcome;
use runbook_tests::{Outcome, TestEnv, tests_dir};

use crate::support::{folder, journal, outcomes, reason, runs};

/// Plugins that are run at once.
const AT_ONCE: usize = 2;

/// KiB that `runbook` may have at a time, whatever a plugin does: what one may use, what one call may carry on its way through the host,
/// and what a debug build takes to compile and run at all.
const MOST_MEMORY: u64 = 400 << 10;

/// Bytes of a journal, whatever a plugin does.
const MOST_JOURNAL: u64 = 64 << 20;

/// A plugin that misbehaves, and how it must end.
struct Case {
    name: String,
    bytes: Vec<u8>,
    ends: Ends,
    /// Of its step; none: it has none.
    timeout: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Ends {
    /// Before anything runs, with this in the message.
    Refused(String),
    /// As one failed step, with this in the reason.
    Failed(String),
    /// It may do that.
    Well,
}

impl Case {
    /// A case that is no file.
    fn made(name: &str, bytes: Vec<u8>, ends: Ends) -> Self {
        Self { name: name.to_owned(), bytes, ends, timeout: Some("5m".to_owned()) }
    }

    /// A file of the corpus: what it says of itself, and the component that it becomes.
    fn of(path: &Path) -> Self {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(path).expect("a file of ours can be read");
        let said =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(";; ")?.strip_prefix(key)).map(str::to_owned);
        let ends = match (said("refused: "), said("step: "), said("well")) {
            (Some(text), None, None) => Ends::Refused(text),
            (None, Some(text), None) => Ends::Failed(text),
            (None, None, Some(_)) => Ends::Well,
            _ => panic!("{name} does not say how it must end"),
        };
        let timeout = said("timeout: ").unwrap_or_else(|| "5m".to_owned());
        let limits = said("limits: ").unwrap_or_else(|| "{}".to_owned());
        Self {
            bytes: component(&name, &text, &limits, ""),
            name,
            ends,
            timeout: Some(timeout).filter(|time| time != "none"),
        }
    }
}

/// The component of a file's text, with these limits in its manifest, and more definitions behind its plugin.
fn component(name: &str, text: &str, limits: &str, more: &str) -> Vec<u8> {
    let action = format!(r#"{{"name":"do","summary":"Misbehaves","limits":{limits}}}"#);
    let manifest = format!(r#"{{"name":"bad","version":"1.0.0","summary":"Misbehaves","action":[{action}]}}"#);
    let length = u32::try_from(manifest.len()).expect("it is short").to_le_bytes();
    let length: String = length.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let manifest = manifest.replace('"', "\\22");
    let is_whole = text.lines().any(|line| line.starts_with("(component") || line.starts_with("(module"));
    let whole = if is_whole {
        text.to_owned()
    } else {
        let (memory, guest) = text.split_once(";; guest\n").unwrap_or((
            "(memory (export \"memory\") 2) (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 8192))",
            text,
        ));
        let mut guest = guest.to_owned();
        for (export, otherwise) in [
            ("describe", "(result i32) (i32.const 16)"),
            ("converge", "(param i32 i32 i32 i32) (result i32) (i32.const 32)"),
            ("verify", "(param i32 i32 i32 i32) (result i32) (i32.const 64)"),
            ("post", "(param i32)"),
        ] {
            if !guest.contains(&format!("(export \"{export}\")")) {
                guest.extend([format!("\n(func (export \"{export}\") {otherwise})")]);
            }
        }
        let table = if memory.contains("(table") { "(import \"memory\" \"table\" (table 1 funcref))" } else { "" };
        fs::read_to_string(tests_dir().join("hostile/template.wat"))
            .expect("a file of ours can be read")
            .replace("{MEMORY}", memory)
            .replace("{TABLE}", table)
            .replace("{GUEST}", &guest)
            .replace("{MORE}", more)
            .replace("{LENGTH}", &length)
            .replace("{MANIFEST}", &manifest)
    };
    wat::parse_str(whole.replace("{SECTION}", &manifest)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs a plugin beside a step for another host, and before another step.
fn exec(case: &Case) -> (TestEnv, Outcome) {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    env.write("bad.wasm", &case.bytes);
    let text = format!(
        r#"schema = 1
name = "corpus"

[plugins]
bad = "./bad.wasm"

[hosts.here]
transport = "local"

[[step]]
id = "bad"
uses = "bad/do"
needs = []
on_failure = "continue"
{timeout}

[[step]]
id = "beside"
uses = "core/file"
on = "here"
needs = []
with = {{ path = "{dir}/beside", content = "fine" }}

[[step]]
id = "after"
uses = "core/file"
on = "here"
with = {{ path = "{dir}/after", content = "fine" }}
"#,
        timeout = case.timeout.as_ref().map(|time| format!("timeout = \"{time}\"")).unwrap_or_default(),
        dir = scratch.display(),
    );
    env.write("x.toml", text);
    // What cannot be read is refused here, too.
    let _ = env.run(&["grant", "x.toml", "--yes"]);
    let out = env.run(&["exec", "x.toml"]);
    (env, out)
}

/// What is wrong with how it ended.
fn judge(case: &Case) -> Result<(), String> {
    let (env, out) = exec(case);
    // A flood is no message either.
    let is = |holds: bool, what: &str| match holds {
        true => Ok(()),
        false => Err(format!("{}: {what}: {}", case.name, out.to_string().chars().take(4000).collect::<String>())),
    };
    let done = ["beside", "after"].map(|name| env.dir().join("scratch").join(name).exists());
    match &case.ends {
        Ends::Refused(text) => {
            is(out.code == Some(4), "it is refused with exit code 4")?;
            is(out.stderr.contains(text), &format!("the message has {text:?}"))?;
            is(done == [false, false] && runs(&env).is_empty(), "nothing was begun")?;
        }
        Ends::Failed(text) => {
            is(out.code == Some(1), "one step failed")?;
            is(done == [true, true], "the other steps go on")?;
            let last = "failed: 3 steps, 2 changed, 0 unchanged, 0 skipped, 1 failed";
            is(out.stdout.lines().last() == Some(last), "the last line says so")?;
            let records = journal(&env);
            is(outcomes(&records).contains(&("bad".to_owned(), StepOutcome::Failed)), "the step failed")?;
            let reason = reason(&records, "bad");
            is(
                reason.contains(text),
                &format!("the reason has {text:?}: {:?}", &reason[..reason.floor_char_boundary(500)]),
            )?;
            is(reason.len() < 32 << 10, &format!("a reason is for reading, not {} bytes", reason.len()))?;
        }
        Ends::Well => is(out.code == Some(0) && done == [true, true], "it ends well")?,
    }
    let is_plain = |text: &str| !text.contains(|c: char| c.is_control() && !"\n\t".contains(c));
    is(is_plain(&out.stdout) && is_plain(&out.stderr), "no control characters reach the terminal")?;
    is(out.stderr.len() < 64 << 10, "what is shown is for reading")?;
    is(out.peak < MOST_MEMORY, &format!("{} MiB of memory are too much", out.peak >> 10))?;
    let journal = runs(&env).iter().map(|run| run.join("journal.jsonl")).find_map(|file| fs::metadata(file).ok());
    is(journal.is_none_or(|journal| journal.len() < MOST_JOURNAL), "the journal does not fill the disk")?;
    if std::env::var_os("RUNBOOK_CORPUS_FIGURES").is_some() {
        #[expect(clippy::print_stdout, reason = "figures that were asked for")]
        let () = println!("{:32} {:>6} ms {:>4} MiB", case.name, out.elapsed.as_millis(), out.peak >> 10);
    }
    Ok(())
}

/// All cases: every file of the folder, and those that are made. Only those with RUNBOOK_CORPUS in their name, where it is set.
fn cases() -> Vec<Case> {
    let mut files: Vec<_> = fs::read_dir(tests_dir().join("hostile"))
        .expect("a folder of ours can be read")
        .map(|entry| entry.expect("a folder of ours can be read").path())
        .collect();
    files.sort();
    let is_case = |path: &&std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        assert!(name == "README.md" || name.ends_with(".wat"), "{name} has no test");
        name != "README.md" && name != "template.wat"
    };
    let mut cases: Vec<Case> = files.iter().filter(is_case).map(|path| Case::of(path)).collect();
    assert!(cases.len() > 60, "files of the corpus are missing");
    cases.extend(made::cases());
    if let Ok(only) = std::env::var("RUNBOOK_CORPUS") {
        cases.retain(|case| case.name.contains(&only));
    }
    cases
}

#[test]
fn each_hostile_plugin_is_one_failed_step_or_a_refusal_within_its_limits() {
    let cases = cases();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(what) = judge(case) {
                        wrong.lock().expect("nothing panics while it is held").push(what);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("nothing panics while it is held");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}

#[test]
fn all_plugins_that_do_not_fit_are_named_at_once() {
    let env = TestEnv::new();
    let file = |name: &str| Case::of(&tests_dir().join("hostile").join(name).with_extension("wat")).bytes;
    let steps = |names: &[&str]| {
        let mut text = "schema = 1\nname = \"misfits\"\n\n[plugins]\n".to_owned();
        for name in names {
            text.extend([format!("{name} = \"./{name}.wasm\"\n")]);
        }
        for name in names {
            text.extend([format!("\n[[step]]\nid = \"{name}\"\nuses = \"{name}/do\"\n")]);
        }
        text
    };
    // By their names, which is known before anything is compiled. They call themselves `bad`, and that is what is said of the second.
    env.write("bad.wasm", file("wit-newer"));
    env.write("other.wasm", file("exports-nothing"));
    env.write("x.toml", steps(&["bad", "other"]));
    for verb in ["exec", "plan", "validate"] {
        env.run(&[verb, "x.toml"])
            .code(4)
            .stderr_has("plugins are refused:")
            .stderr_has("bad.wasm: `bad` does not fit this version of runbook")
            .stderr_has("`runbook:ssh/machines@0.2.0`, and this version of runbook offers `runbook:ssh/machines@0.1.0`")
            .stderr_has("`runbook:files/trees@1.0.0`, and this version of runbook offers `runbook:files/trees@0.1.0`")
            .stderr_has("other.wasm: `other` calls itself `bad` in its manifest");
    }
    assert!(runs(&env).is_empty());

    // By the types of their functions, which needs their code: also where the misfit is in a step that comes late, or in none that runs.
    let renamed = |name: &str| {
        let mut bytes = file("wit-newer-function");
        let at = bytes.windows(5).position(|w| w == b"\"bad\"").expect("it has a name");
        bytes[at + 1..at + 4].copy_from_slice(name.as_bytes());
        bytes
    };
    env.write("one.wasm", renamed("one"));
    env.write("two.wasm", renamed("two"));
    env.write("x.toml", steps(&["one", "two"]));
    env.grant("x.toml");
    for arguments in [&["exec", "x.toml"][..], &["plan", "x.toml"], &["exec", "x.toml", "--only", "one"]] {
        env.run(arguments)
            .code(4)
            .stderr_has(
                "`one`: the plugin does not fit this version of runbook: it imports `runbook:ssh/machines@0.1.7`",
            )
            .stderr_has(
                "`two`: the plugin does not fit this version of runbook: it imports `runbook:ssh/machines@0.1.7`",
            )
            .stderr_has("and this version of runbook offers `runbook:ssh/machines@0.1.0`");
    }
    assert!(runs(&env).is_empty());
}

#[test]
fn what_an_action_may_use_is_shown() {
    let env = TestEnv::new();
    let file = |name: &str| Case::of(&tests_dir().join("hostile").join(name).with_extension("wat")).bytes;
    env.write("more.wasm", file("wants-more-memory"));
    env.write("greedy.wasm", file("manifest-greedy"));
    env.run(&["plugin", "inspect", "more.wasm"]).ok().stdout_has("may use: memory 320MiB");
    env.run(&["plugin", "inspect", "greedy.wasm"])
        .ok()
        .stdout_has("may use: memory 64GiB, calls 4000000000, time 9d")
        .stdout_has("too much: `memory = \"64GiB\"`, and 1 GiB is the most");
}
