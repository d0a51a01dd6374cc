//! The built `runbook` in a world of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::outcome::{Outcome, Running};
use crate::tools::{open_temp_dir, put, tests_dir};
use crate::tree::Tree;

/// Runs the built `runbook` with a home, state and environment of its own; everything goes when this is dropped.
#[derive(Debug)]
pub struct TestEnv {
    dir: tempfile::TempDir,
    vars: Vec<(String, String)>,
    path: Vec<PathBuf>,
}

impl Default for TestEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl TestEnv {
    /// A fresh world.
    ///
    /// # Panics
    ///
    /// When its directories cannot be made.
    pub fn new() -> Self {
        let dir = open_temp_dir("runbook-test-", &std::env::temp_dir());
        for name in ["home", "work"] {
            std::fs::create_dir(dir.path().join(name)).expect("a fresh directory can be written to");
        }
        Self { dir, vars: Vec::new(), path: Vec::new() }
    }

    /// Sets a variable of the environment of all commands that follow.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts the stand-ins for `microk8s`, `snap` and `pulumi` first on the path of what runs on this machine.
    #[must_use]
    pub fn with_standins(mut self) -> Self {
        self.path.insert(0, tests_dir().join("standins"));
        self
    }

    /// The world's directory: `home` and `work` are in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The home directory.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The working directory of the commands.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Where `runbook` keeps its journals and settings: three of the XDG directories lie below it. The fourth, the cache, is shared by
    /// all worlds, as compiling the plugins in a debug build takes seconds each time.
    pub fn xdg(&self) -> PathBuf {
        self.dir.path().join("xdg")
    }

    /// The folder of the latest run.
    ///
    /// # Panics
    ///
    /// When no run was begun.
    pub fn last_run(&self) -> PathBuf {
        let runs = std::fs::read_dir(self.xdg().join("state/runbook/runs")).expect("a run was begun");
        runs.map(|entry| entry.expect("a directory of our own can be read").path()).max().expect("a run was begun")
    }

    /// Writes a file below the working directory.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        put(&path, content, 0o644);
        path
    }

    /// The working directory as it is now.
    pub fn snapshot(&self) -> Tree {
        Tree::of(self.work())
    }

    /// `runbook ARGS`, ready to run. Nothing of this process' environment comes along.
    ///
    /// # Panics
    ///
    /// When `runbook` was not built.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        let path = self
            .path
            .iter()
            .map(|p| p.display().to_string())
            .chain(["/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()]);
        command.args(args).env_clear().current_dir(self.work());
        command
            .env("PATH", path.collect::<Vec<_>>().join(":"))
            .env("HOME", self.home())
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .env("USER", "tester");
        for (name, folder) in [("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "state")] {
            command.env(name, self.xdg().join(folder));
        }
        command.env("XDG_CACHE_HOME", shared_cache());
        command.envs(self.vars.iter().map(|(n, v)| (n, v)));
        command
    }

    /// Runs `runbook ARGS` to its end.
    #[must_use = "say how it is to end"]
    pub fn run(&self, args: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(args))
    }

    /// Grants the plugins from elsewhere in a runbook what they ask for.
    pub fn grant(&self, file: &str) {
        drop(self.run(&["grant", file, "--yes"]).ok());
    }

    /// Starts `runbook ARGS`.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args))
    }

    /// Runs a command that is not ours in the same world: an `ssh`, a shell.
    #[must_use = "say how it is to end"]
    pub fn other(&self, argv: &[&str]) -> Outcome {
        Outcome::of(Command::new(argv[0]).args(&argv[1..]).env("HOME", self.home()).current_dir(self.work()))
    }
}

/// The cache that all worlds share: beside the tests in the target directory.
fn shared_cache() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its own executable");
    test.ancestors().nth(3).expect("cargo puts tests three levels down").join("tmp/cache-of-tests")
}

/// The built `runbook`: what `RUNBOOK_TEST_BIN` names, else the one beside this test in the target directory. Cargo tells the path
/// of a binary only to tests of its own package.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("RUNBOOK_TEST_BIN") {
        return named.into();
    }
    let test = std::env::current_exe().expect("a process knows its own executable");
    let built = test.parent().and_then(Path::parent).map(|profile| profile.join("runbook")).unwrap_or_default();
    assert!(
        built.is_file(),
        "{} is missing: build it first with `cargo build -p runbook-cli`, or run `tests/run`",
        built.display()
    );
    built
}
