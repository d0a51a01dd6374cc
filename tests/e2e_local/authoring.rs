//! A plugin from nothing: `runbook plugin new`, `test`, `build`, `doc`, and a run of its example.

use std::fs;
use std::path::{Path, PathBuf};

use runbook_tests::{TestEnv, tests_dir};

/// A world with cargo. What it compiles goes where the program's own plugins were compiled: so the SDK's dependencies are there.
fn env() -> TestEnv {
    let test = std::env::current_exe().expect("a process knows its own executable");
    let target = test.ancestors().nth(3).expect("cargo puts tests three levels down").join("plugins");
    let cargo = Path::new(env!("CARGO"));
    let bin = cargo.parent().expect("cargo lies in a folder");
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo"))).expect("there is a home");
    TestEnv::new()
        .var("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()))
        .var("CARGO", &cargo.display().to_string())
        .var("CARGO_HOME", &home.display().to_string())
        .var("CARGO_TARGET_DIR", &target.display().to_string())
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("reads");
    assert!(text.contains(from), "{}: {from}", file.display());
    fs::write(file, text.replace(from, to)).expect("writes");
}

#[test]
fn a_new_plugin_is_tested_built_and_run() {
    let env = env();
    env.run(&["plugin", "new", "envs"]).ok().stderr_has("runbook plugin test envs");
    let project = env.work().join("envs");

    let tested = env.run(&["plugin", "test", "envs"]).ok();
    tested
        .stderr_has("unit tests passed")
        .stderr_has("the component loads")
        .last_line("kept: 7 hold, 0 not judged, 0 broken");
    let out = env.run(&["plugin", "build", "envs"]).ok();
    for line in ["envs/build/envs.wasm", "sha256:", "asks files.write as root ${input.path}", "The settings are there."]
    {
        assert!(out.stdout.contains(line), "{line}: {}", out.stdout);
    }

    let file = env.work().join("demo.env");
    fs::write(&file, "# mine\nPORT=80\n").expect("writes");
    let (example, var) = ("envs/examples/settings.toml", format!("file={}", file.display()));
    env.run(&["plan", example, "--var", &var]).code(4).stderr_has("runbook grant");
    env.run(&["plugin", "doc", "envs"]).code(4).stderr_has("runbook grant");
    env.run(&["grant", example, "--yes"]).ok();
    env.run(&["plan", example, "--var", &var]).ok().stdout_has("+PORT=8080");
    env.run(&["exec", example, "--var", &var])
        .ok()
        .last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(fs::read_to_string(&file).expect("reads"), "# mine\nPORT=8080\nTZ=Europe/Berlin\n");
    env.run(&["exec", example, "--var", &var])
        .ok()
        .last_line("succeeded: 1 steps, 0 changed, 1 unchanged, 0 skipped, 0 failed");

    let page = env.run(&["plugin", "doc", "envs"]).ok();
    for line in [
        "# envs",
        "| `path` | path on the host | The file. It is made where it is missing. Required. |",
        "plan: 1 steps",
    ] {
        assert!(page.stdout.contains(line), "{line}: {}", page.stdout);
    }
    // A pack of it: its example takes the plugin from where the project has it, which nobody else has.
    let pack = "schema = 1\nname = \"ann/envs\"\nversion = \"1.0.0\"\nsummary = \"Settings\"\nplugins = [\".\"]\nrunbooks = [\"examples\"]\n";
    fs::write(project.join("pack.toml"), pack).expect("writes");
    env.run(&["pack", "build", "envs"])
        .ok()
        .stdout_has("plugin envs 0.1.0")
        .stdout_has("runbook examples/settings.toml")
        .stderr_has("examples/settings.toml takes `envs` from ../build/envs.wasm, which nobody else has")
        .stderr_has("[packs], as envs = \"ann/envs:1.0.0\"");
    let own = "[plugins]\n\"envs\" = \"../build/envs.wasm\"";
    replace(&project.join("examples/settings.toml"), own, "[packs]\nenvs = \"ann/envs:1.0.0\"");
    let again =
        env.run(&["pack", "build", "envs", "-o", "again.pack"]).ok().stdout_has("runbook examples/settings.toml");
    assert!(!again.stderr.contains("nobody else has"), "{again}");
    replace(&project.join("examples/settings.toml"), "[packs]\nenvs = \"ann/envs:1.0.0\"", own);

    replace(&project.join("examples/settings.toml"), "envs/settings", "envs/setings");
    env.run(&["plugin", "doc", "envs"]).code(3).stderr_has("did you mean");

    // What the manifest asks for is held against what the function takes, while it is compiled.
    replace(&project.join("plugin.toml"), "${input.path}", "${input.file}");
    env.run(&["plugin", "build", "envs"]).code(1).stderr_has(r#"there is no input "file""#);
    replace(&project.join("plugin.toml"), "${input.file}", "${input.path}");
    replace(&project.join("src/settings.rs"), "last == value", "last != value");
    env.run(&["plugin", "test", "envs"]).code(1).stderr_has("the unit tests failed");
}

#[test]
fn nothing_is_overwritten_but_what_it_brings() {
    let env = env();
    env.write("taken/notes.txt", "mine");
    let before = env.snapshot();
    env.run(&["plugin", "new", "taken"]).code(2).stderr_has("taken is there already").stderr_has("--dir");
    env.run(&["plugin", "new", "core"]).code(2).stderr_has("a plugin of the program is called `core`");
    env.run(&["plugin", "new", "../up"]).code(2).stderr_has("is not a plugin's name");
    env.run(&["plugin", "new", "--update", "--dir", "taken"]).code(2).stderr_has("is no project");
    env.run(&["plugin", "build", "taken"]).code(2).stderr_has("runbook plugin new NAME");
    before.assert_untouched();

    env.run(&["plugin", "new", "mine", "--dir", "deep/folder"]).ok();
    let (own, brought) = ("deep/folder/src/lib.rs", "deep/folder/vendor/runbook/plugins/sdk/src/lib.rs");
    let sdk = fs::read_to_string(env.work().join(brought)).expect("it was brought");
    for file in [own, brought] {
        fs::write(env.work().join(file), "// changed\n").expect("writes");
    }
    env.run(&["plugin", "new", "--update", "--dir", "deep/folder"]).ok();
    assert_eq!(fs::read_to_string(env.work().join(brought)).expect("reads"), sdk);
    assert_eq!(fs::read_to_string(env.work().join(own)).expect("reads"), "// changed\n");
}

/// BLESS=1 writes the pages anew.
#[test]
fn the_pages_of_the_shipped_plugins_are_of_these_plugins() {
    let env = TestEnv::new();
    let plugins = tests_dir().join("../plugins");
    let folders = fs::read_dir(&plugins).expect("lists").map(|entry| entry.expect("is there").path());
    let shipped: Vec<PathBuf> =
        folders.filter(|f| f.join("plugin.toml").is_file() && f.join("Cargo.toml").is_file()).collect();
    assert!(shipped.len() >= 6, "{shipped:?}");
    for folder in shipped {
        let name = folder.file_name().expect("it has a name").to_string_lossy().into_owned();
        let examples = folder.join("examples").display().to_string();
        let page = env.run(&["plugin", "doc", &name, "--examples", &examples]).ok().stdout;
        let file = folder.join("ACTIONS.md");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &page).expect("writes");
        }
        let known = fs::read_to_string(&file).unwrap_or_default();
        assert!(known == page, "{} is of another {name}: BLESS=1 writes it anew", file.display());
    }
}

/// The program has no Rust to offer: what is missing is said in words that help.
#[test]
fn without_cargo_it_says_what_is_missing() {
    let env = TestEnv::new().var("PATH", "/nowhere");
    env.run(&["plugin", "new", "envs"]).ok();
    env.run(&["plugin", "build", "envs"]).code(2).stderr_has("rustup target add wasm32-wasip2");
}
