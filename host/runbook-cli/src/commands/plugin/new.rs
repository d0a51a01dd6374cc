//! `runbook plugin new`.
//!
//! The SDK is published nowhere. A project brings it in `vendor/runbook`, which lies there as in the repository of runbook, so that
//! its parts find each other: `build.rs` puts their sources into the program.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use runbook_model::exit_code;

use crate::args::{self, Language};
use crate::error::CliError;
use crate::standard::{self, STANDARD};

/// A file, by its path from the top of the project.
type Source = (&'static str, &'static [u8]);

/// What a project in one language begins with.
struct Template {
    /// Its own files, in which [`NAME`] stands for the plugin's name.
    files: &'static [Source],
    /// What it brings of runbook, without changes.
    vendor: &'static [Source],
    /// The file that tells a project in this language.
    mark: &'static str,
    /// What fetches its tools, once and again after an update of what it brings, in the project's folder; none: cargo does so by itself.
    fetch: Option<&'static str>,
}

static RUST: Template = Template {
    files: include!(concat!(env!("OUT_DIR"), "/template-rust.rs")),
    vendor: include!(concat!(env!("OUT_DIR"), "/vendor-rust.rs")),
    mark: "Cargo.toml",
    fetch: None,
};

static PYTHON: Template = Template {
    files: include!(concat!(env!("OUT_DIR"), "/template-python.rs")),
    vendor: include!(concat!(env!("OUT_DIR"), "/vendor-python.rs")),
    mark: "plugin.py",
    fetch: Some("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"),
};

static JS: Template = Template {
    files: include!(concat!(env!("OUT_DIR"), "/template-js.rs")),
    vendor: include!(concat!(env!("OUT_DIR"), "/vendor-js.rs")),
    mark: "plugin.js",
    fetch: Some("npm ci"),
};

/// Stands for the plugin's name in the files of a template.
const NAME: &str = "{{name}}";

/// Where a project keeps what it brings of runbook.
const VENDOR: &str = "vendor/runbook";

/// Characters of a name: as many as a manifest may have.
const LONGEST_NAME: usize = 64;

/// Makes a project, or brings what it has of runbook up to this version.
pub(crate) fn run(args: &args::New) -> Result<u8, CliError> {
    let Some(name) = &args.name else {
        return update(args.dir.as_deref().unwrap_or(Path::new(".")));
    };
    let template = match args.lang {
        Language::Rust => &RUST,
        Language::Python => &PYTHON,
        Language::Js => &JS,
    };
    check_name(name)?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    make_folder(&dir)?;
    for (path, content) in template.files {
        let content = String::from_utf8_lossy(content).replace(NAME, name);
        write(&dir.join(path), content.as_bytes())?;
    }
    bring(&dir, template)?;
    next_steps(&dir, template);
    Ok(exit_code::SUCCESS)
}

/// Writes what a project brings of runbook anew.
fn update(dir: &Path) -> Result<u8, CliError> {
    let vendor = dir.join(VENDOR);
    let template = [&RUST, &PYTHON, &JS].into_iter().find(|template| dir.join(template.mark).is_file());
    let (Some(template), true) = (template, dir.join("plugin.toml").is_file() && vendor.is_dir()) else {
        return Err(CliError::usage(format!("{} is no project that `runbook plugin new` made", dir.display()))
            .hint(format!("it has plugin.toml and {VENDOR}/; give its folder as `--dir DIR`")));
    };
    fs::remove_dir_all(&vendor).map_err(|error| cannot_write(&vendor, &error))?;
    bring(dir, template)?;
    super::say(&format!("{} is that of runbook {} now", vendor.display(), env!("CARGO_PKG_VERSION")));
    if let Some(fetch) = template.fetch {
        super::say(&format!("Next, there: {fetch}"));
    }
    Ok(exit_code::SUCCESS)
}

fn bring(dir: &Path, template: &Template) -> Result<(), CliError> {
    let vendor = dir.join(VENDOR);
    for (path, content) in template.vendor {
        write(&vendor.join(path), content)?;
    }
    let note = format!(
        "# What this plugin brings of runbook {}\n\nWritten by `runbook plugin new`, not to be edited. After an update of runbook: \
         `runbook plugin new --update`.\n",
        env!("CARGO_PKG_VERSION")
    );
    write(&vendor.join("README.md"), note.as_bytes())
}

/// A name that can be written in a runbook, and that means no other plugin there.
fn check_name(name: &str) -> Result<(), CliError> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.len() <= LONGEST_NAME
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !good {
        return Err(CliError::usage(format!("`{}` is not a plugin's name", name.escape_debug())).hint(format!(
            "use lower-case letters, digits and hyphens, at most {LONGEST_NAME}, a letter first and no hyphen last"
        )));
    }
    if standard::find(name).is_some() {
        let taken = STANDARD.iter().map(|plugin| plugin.name).collect::<Vec<_>>().join(", ");
        return Err(CliError::usage(format!("a plugin of the program is called `{name}`, too"))
            .hint(format!("these names are taken: {taken}")));
    }
    Ok(())
}

/// The project's folder. What is there already is not ours.
fn make_folder(dir: &Path) -> Result<(), CliError> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(|error| cannot_write(parent, &error))?;
    }
    fs::create_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::usage(format!("{} is there already", dir.display()))
            .hint("nothing is overwritten: give another folder with `--dir DIR`"),
        _ => cannot_write(dir, &error),
    })
}

/// Writes a new file, its folders included.
fn write(path: &Path, content: &[u8]) -> Result<(), CliError> {
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        OpenOptions::new().write(true).create_new(true).open(path)?.write_all(content)
    };
    write().map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> CliError {
    CliError::usage(format!("{}: {error}", path.display()))
}

fn next_steps(dir: &Path, template: &Template) {
    let dir = dir.display();
    let fetch = template.fetch.map(|fetch| format!("(cd {dir} && {fetch})\n  ")).unwrap_or_default();
    super::say(&format!(
        "{dir} is a plugin that works. Next:\n  \
         {fetch}runbook plugin test {dir}\n  \
         runbook plugin build {dir}\n  \
         runbook grant {dir}/examples/settings.toml\n  \
         runbook exec {dir}/examples/settings.toml\n\
         {dir}/README.md says what is where."
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["journal", "a", "zfs-send2"] {
            check_name(name).unwrap_or_else(|error| panic!("{name}: {}", error.what));
        }
        for name in ["", "Journal", "2fast", "a_b", "a-", "../x", "a b", "core", "\u{1b}[2J", &"a".repeat(65)] {
            assert_eq!(check_name(name).expect_err(name).code, exit_code::USAGE, "{name}");
        }
    }

    #[test]
    fn a_project_brings_all_that_its_sdk_reads() {
        let has = |path: &str| RUST.vendor.iter().any(|(known, _)| *known == path);
        for path in [
            "plugins/Cargo.toml",
            "plugins/sdk/src/lib.rs",
            "plugins/sdk-macros/src/lib.rs",
            "host/runbook-model/src/duration.rs",
            "host/runbook-model/src/manifest.rs",
            "host/runbook-model/src/size.rs",
            "wit/world.wit",
        ] {
            assert!(has(path), "{path}");
        }
        for template in [&RUST, &PYTHON, &JS] {
            let cases = ["cases/settings.toml", "cases/settings.world.toml"];
            for file in ["plugin.toml", "README.md", "examples/settings.toml", template.mark].into_iter().chain(cases) {
                assert!(template.files.iter().any(|(path, _)| *path == file), "{file} beside {}", template.mark);
            }
            assert!(template.vendor.iter().any(|(path, _)| *path == "wit/world.wit"), "{}", template.mark);
            // What a build left there is no part of a project.
            let left =
                template.vendor.iter().find(|(path, _)| path.contains("__pycache__") || path.contains("/build/"));
            assert_eq!(left.map(|(path, _)| path), None);
        }
    }
}
