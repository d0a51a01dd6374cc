//! A plugin's project: a folder with `plugin.toml`.
//!
//! What it is written in is told by its files: `Cargo.toml` is Rust. Every other language brings two scripts: `build.sh` leaves the
//! component at `build/NAME.wasm` without a manifest, and `test.sh` runs the unit tests. Both find what `plugin.toml` says as
//! [`MANIFEST_JSON`]: `describe` has to answer it, and it is put into the component afterwards, as it then is.
//! Wherever the compiler puts it, the component lies at `build/NAME.wasm` in the end: that is what runbooks refer to.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use runbook_model::exit_code;
use runbook_packs::ReadError;
use serde::Deserialize;

use crate::error::CliError;

/// What plugins in Rust are compiled for.
const TARGET: &str = "wasm32-wasip2";

/// Bytes of a `plugin.toml`: as many as a manifest may have in a component.
const MAX_MANIFEST: u64 = runbook_packs::MAX_MANIFEST as u64;

/// The manifest as JSON, for the scripts of a project.
const MANIFEST_JSON: &str = "build/manifest.json";

/// A plugin's project.
pub(super) struct Project {
    /// Its folder.
    pub(super) dir: PathBuf,
    /// The plugin's name.
    pub(super) name: String,
    /// Its `plugin.toml`.
    manifest: String,
    tool: Tool,
}

/// What builds it and tests it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Cargo,
    Scripts,
}

/// What is needed here of `plugin.toml`; the rest is read by whoever builds it.
#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Project {
    /// Opens the project in a folder.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub(super) fn open(dir: &Path) -> Result<Self, CliError> {
        let manifest = dir.join("plugin.toml");
        let size = fs::metadata(&manifest).map(|file| file.len());
        let text = size.and_then(|size| {
            if size > MAX_MANIFEST {
                Err(std::io::Error::other("it is too large"))
            } else {
                fs::read_to_string(&manifest)
            }
        });
        let text = text.map_err(|error| {
            CliError::usage(format!("{}: {error}", manifest.display()))
                .hint("give the folder of a plugin's project, or make one with `runbook plugin new NAME`")
        })?;
        let Named { name } =
            toml::from_str(&text).map_err(|error| CliError::invalid(format!("{}: {error}", manifest.display())))?;
        // It becomes a file's name before the whole manifest is checked.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
            return Err(CliError::invalid(format!("{}: `name` is not a plugin's name", manifest.display()))
                .hint("use lower-case letters, digits and hyphens, a letter first"));
        }
        let tool = if dir.join("Cargo.toml").is_file() {
            Tool::Cargo
        } else if dir.join("build.sh").is_file() {
            Tool::Scripts
        } else {
            return Err(CliError::usage(format!("{} has neither Cargo.toml nor build.sh", dir.display()))
                .hint("`runbook plugin build` runs cargo, or the project's own build.sh"));
        };
        // Commands run in this folder.
        let dir = fs::canonicalize(dir).map_err(|error| CliError::usage(format!("{}: {error}", dir.display())))?;
        Ok(Self { dir, name, manifest: text, tool })
    }

    /// Where its component lies once it is built.
    pub(super) fn component(&self) -> PathBuf {
        self.dir.join("build").join(format!("{}.wasm", self.name))
    }

    /// Compiles it; the compiler's messages go to stderr. Gives the component.
    ///
    /// # Errors
    ///
    /// Where it does not compile, or something is missing that it takes.
    pub(super) fn build(&self) -> Result<PathBuf, CliError> {
        let component = self.component();
        match self.tool {
            Tool::Cargo => {
                let built = self.cargo_build()?;
                let folder = self.dir.join("build");
                let copied = fs::create_dir_all(&folder).and_then(|()| fs::copy(&built, &component));
                copied.map_err(|error| CliError::internal(format!("{}: {error}", component.display())))?;
            }
            Tool::Scripts => {
                // An older one must not be taken for what the script was to leave.
                let _ = fs::remove_file(&component);
                self.script("build.sh")?;
                self.embed(&component)?;
            }
        }
        Ok(component)
    }

    /// Runs its unit tests; what they print goes to stderr.
    ///
    /// # Errors
    ///
    /// Where one fails.
    pub(super) fn unit_tests(&self) -> Result<(), CliError> {
        match self.tool {
            // In the profile of `build`: the macros, most of what there is to compile, then serve both.
            Tool::Cargo => {
                self.run(Command::new(cargo()).args(["test", "--release", "--quiet"]), "the unit tests failed")
            }
            Tool::Scripts => self.script("test.sh"),
        }
    }

    fn cargo_build(&self) -> Result<PathBuf, CliError> {
        target_installed()?;
        let mut command = Command::new(cargo());
        command.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
        let output = command.current_dir(&self.dir).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(no_cargo)?;
        if !output.status.success() {
            return Err(failed(format!("{} does not compile: see the messages of cargo", self.dir.display())));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let manifest = self.dir.join("Cargo.toml");
        text.lines().filter_map(|line| artifact(line, &manifest)).next_back().ok_or_else(|| {
            failed(format!("cargo built no component in {}", self.dir.display()))
                .hint("Cargo.toml needs `[lib] crate-type = [\"cdylib\"]`")
        })
    }

    /// Runs a script of the project, which finds the manifest at [`MANIFEST_JSON`].
    fn script(&self, name: &str) -> Result<(), CliError> {
        let manifest = runbook_packs::from_toml(&self.manifest)
            .map_err(|error| CliError::invalid(format!("{}: {error}", self.dir.join("plugin.toml").display())))?;
        let json = serde_json::to_string(&manifest).map_err(CliError::internal)?;
        let written = fs::create_dir_all(self.dir.join("build"));
        let written = written.and_then(|()| fs::write(self.dir.join(MANIFEST_JSON), json));
        written.map_err(|error| CliError::usage(format!("{MANIFEST_JSON}: {error}")))?;
        self.run(Command::new("sh").arg(name), &format!("{name} failed"))
    }

    /// Puts the manifest into what `build.sh` left. What has one by its compiler, as Rust's SDK does it, keeps that.
    fn embed(&self, component: &Path) -> Result<(), CliError> {
        let cannot = |error| failed(format!("build.sh left no {}: {error}", component.display()));
        let bytes = fs::read(component).map_err(cannot)?;
        let json = fs::read_to_string(self.dir.join(MANIFEST_JSON)).map_err(cannot)?;
        match runbook_packs::embed(&bytes, &json) {
            Ok(whole) => fs::write(component, whole).map_err(cannot),
            Err(ReadError::SeveralManifests) => Ok(()),
            Err(error) => Err(CliError::refused(format!("{}: {error}", component.display()))),
        }
    }

    /// Runs a command in the project's folder. What it prints goes to stderr: stdout is for results.
    fn run(&self, command: &mut Command, otherwise: &str) -> Result<(), CliError> {
        let output = std::io::stderr();
        let status = command.current_dir(&self.dir).stdin(Stdio::null()).stdout(output).status().map_err(no_cargo)?;
        if status.success() { Ok(()) } else { Err(failed(format!("{otherwise}: see its messages"))) }
    }
}

/// cargo, as rustup's own environment names it, else from PATH.
fn cargo() -> std::ffi::OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn failed(what: String) -> CliError {
    CliError { code: exit_code::STEP_FAILED, ..CliError::usage(what) }
}

fn no_cargo(error: std::io::Error) -> CliError {
    CliError::usage(format!("it could not be started: {error}"))
        .hint("plugins in Rust need cargo: install Rust with rustup, and then `rustup target add wasm32-wasip2`")
}

/// Said before cargo does: its own message does not name the command that helps.
fn target_installed() -> Result<(), CliError> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed =
        Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output().map_err(no_cargo)?;
    let libraries = String::from_utf8_lossy(&printed.stdout);
    if printed.status.success() && Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    Err(CliError::usage(format!("Rust on this machine cannot compile for {TARGET} yet"))
        .hint(format!("run `rustup target add {TARGET}`")))
}

/// The component, if this line of cargo's output tells of the one that `manifest` makes.
fn artifact(line: &str, manifest: &Path) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let of = Path::new(message.get("manifest_path")?.as_str()?);
    (of == manifest).then_some(())?;
    let files = message.get("filenames")?.as_array()?;
    files.iter().filter_map(|file| file.as_str()).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        let dir = std::env::temp_dir().join(format!("runbook-project-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("makes a folder");
        fs::write(dir.join("build.sh"), "exit 1").expect("writes");
        for (name, code) in [("journal", None), ("../x", Some(exit_code::INVALID)), ("", Some(exit_code::INVALID))] {
            fs::write(dir.join("plugin.toml"), format!("name = {name:?}")).expect("writes");
            assert_eq!(Project::open(&dir).err().map(|error| error.code), code, "{name}");
        }
        fs::remove_dir_all(&dir).expect("removes it");
    }

    #[test]
    fn the_component_is_found_among_the_messages_of_cargo() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","filenames":["/t/a.wasm"]}"#;
        assert_eq!(artifact(line, Path::new("/p/Cargo.toml")), Some(PathBuf::from("/t/a.wasm")));
        assert_eq!(artifact(line, Path::new("/q/Cargo.toml")), None);
        assert_eq!(artifact("   Compiling a", Path::new("/p/Cargo.toml")), None);
    }
}
