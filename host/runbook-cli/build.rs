//! Compiles the standard plugins, which are a workspace of their own, and writes the list that `src/standard.rs` includes.
//!
//! Every member of `plugins/` with a `plugin.toml` is a standard plugin; its folder has its name.
#![allow(clippy::print_stdout, reason = "build scripts talk to cargo on stdout")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, io};

use sha2::{Digest as _, Sha256};

const TARGET: &str = "wasm32-wasip2";

/// What the SDK reads of the host.
const VENDOR_FILES: [&str; 3] =
    ["host/runbook-model/src/duration.rs", "host/runbook-model/src/manifest.rs", "host/runbook-model/src/size.rs"];

/// What cargo, clippy and users set for the host. The guests have their own profile and target.
const FOR_THE_HOST: [&str; 12] = [
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_FEATURE_",
    "CARGO_INCREMENTAL",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let root = path("CARGO_MANIFEST_DIR")?.join("../..");
    let plugins = root.join("plugins");
    let out = path("OUT_DIR")?;
    watch(&root, &plugins)?;
    embed_projects(&root, &out)?;
    target_installed()?;

    let built = build(&plugins, &target_dir(&out)?)?;
    let mut list = "&[\n".to_owned();
    for (name, component) in &built {
        let copy = out.join(format!("{name}.wasm"));
        // Another build may replace the component while this crate is compiled; the copy stays.
        fs::copy(component, &copy).map_err(|error| format!("{} cannot be copied: {error}", component.display()))?;
        let bytes = fs::read(&copy).map_err(|error| format!("{} cannot be read: {error}", copy.display()))?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        // Writing to a string cannot fail.
        let _ = writeln!(list, "    Plugin {{ name: {name:?}, sha256: {sha256:?}, bytes: include_bytes!({copy:?}) }},");
    }
    list.push_str("]\n");
    let list_file = out.join("standard.rs");
    fs::write(&list_file, list).map_err(|error| format!("{} cannot be written: {error}", list_file.display()))
}

/// The lists that `src/commands/plugin/new.rs` includes: what a project begins with, and what it brings of this repository.
fn embed_projects(root: &Path, out: &Path) -> Result<(), String> {
    let templates = root.join("host/runbook-cli/templates");
    println!("cargo::rerun-if-changed={}", templates.display());
    let rust = templates.join("rust");
    let mut files = files_below(&rust, &rust)?;
    // The versions that the standard plugins are tested with. cargo drops from it what the project does not use.
    files.push(("Cargo.lock".to_owned(), root.join("plugins/Cargo.lock")));
    embed(out, "template-rust", &files)?;

    let mut vendor = Vec::new();
    for folder in ["plugins/sdk", "plugins/sdk-macros", "wit"] {
        vendor.extend(files_below(root, &root.join(folder))?);
    }
    for file in VENDOR_FILES {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
        vendor.push((file.to_owned(), root.join(file)));
    }
    // The same workspace with no other members than these.
    let workspace = out.join("workspace.toml");
    let text = fs::read_to_string(root.join("plugins/Cargo.toml")).map_err(|e| format!("plugins/Cargo.toml: {e}"))?;
    let members =
        text.lines().find(|line| line.starts_with("members = ")).ok_or("plugins/Cargo.toml has no members")?;
    let text = text.replace(members, r#"members = ["sdk", "sdk-macros"]"#);
    fs::write(&workspace, text).map_err(|error| format!("{} cannot be written: {error}", workspace.display()))?;
    vendor.push(("plugins/Cargo.toml".to_owned(), workspace));
    embed(out, "vendor-rust", &vendor)?;

    for language in ["python", "js"] {
        let folder = templates.join(language);
        let mut files = files_below(&folder, &folder)?;
        // The same action in another language: what it is shown with and tried in is the same, too.
        for same in ["examples/settings.toml", "cases/settings.toml", "cases/settings.world.toml"] {
            files.push((same.to_owned(), rust.join(same)));
        }
        embed(out, &format!("template-{language}"), &files)?;
        let mut vendor = files_below(root, &root.join("plugins").join(language).join("sdk"))?;
        // A developer's tests and builds leave things there that change all the time: each file is watched, not the folder.
        vendor.iter().for_each(|(_, path)| println!("cargo::rerun-if-changed={}", path.display()));
        vendor.extend(files_below(root, &root.join("wit"))?);
        embed(out, &format!("vendor-{language}"), &vendor)?;
    }
    Ok(())
}

/// Writes the list of some files with their contents.
fn embed(out: &Path, name: &str, files: &[(String, PathBuf)]) -> Result<(), String> {
    let mut list = "&[\n".to_owned();
    for (name, path) in files {
        // Writing to a string cannot fail.
        let _ = writeln!(list, "    ({name:?}, include_bytes!({path:?})),");
    }
    list.push_str("]\n");
    let file = out.join(format!("{name}.rs"));
    fs::write(&file, list).map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

/// What developers have in the folders of an SDK, and projects do not.
const LEFT_OUT: [&str; 3] = ["__pycache__", "build", "tests"];

/// All files below a folder, sorted, with their paths from `top`.
fn files_below(top: &Path, folder: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let mut found = Vec::new();
    let mut paths = entries(folder)?;
    paths.retain(|path| !LEFT_OUT.iter().any(|name| path.file_name() == Some(OsStr::new(name))));
    paths.sort();
    for path in paths {
        if path.is_dir() {
            found.extend(files_below(top, &path)?);
        } else {
            let name = path.strip_prefix(top).unwrap_or(&path);
            found.push((name.to_string_lossy().into_owned(), fs::canonicalize(&path).unwrap_or(path.clone())));
        }
    }
    Ok(found)
}

fn path(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("cargo did not set {variable}"))
}

/// Everything in `plugins/` but what is built there, and the interfaces that the plugins are built against.
fn watch(root: &Path, plugins: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", root.join("wit").display());
    for entry in entries(plugins)? {
        // The plugins in other languages are no part of the program, and their builds leave things in their folders.
        if !["target", "python", "js"].iter().any(|name| entry.file_name() == Some(OsStr::new(name))) {
            println!("cargo::rerun-if-changed={}", entry.display());
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let paths = fs::read_dir(dir).and_then(|dir| dir.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    paths.map_err(|error| format!("{} cannot be read: {error}", dir.display()))
}

fn target_installed() -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let printed = printed.map_err(|error| format!("rustc does not run: {error}"))?;
    let libraries = String::from_utf8_lossy(&printed.stdout);
    if printed.status.success() && Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    Err(format!(
        "the standard plugins are compiled for {TARGET}, which is not installed: run `rustup target add {TARGET}`"
    ))
}

/// `plugins` in cargo's target folder; the output folder is `TARGET/PROFILE/build/PACKAGE/out`.
fn target_dir(out: &Path) -> Result<PathBuf, String> {
    let target = out.ancestors().nth(4).ok_or_else(|| format!("{} is not in a target folder", out.display()))?;
    Ok(target.join("plugins"))
}

/// Compiles the workspace. Gives the components of the standard plugins, by name.
fn build(plugins: &Path, target_dir: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    cargo.arg("--target-dir").arg(target_dir);
    if plugins.join("Cargo.lock").exists() {
        cargo.arg("--locked");
    }
    for (name, _) in env::vars_os() {
        if FOR_THE_HOST.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let output = cargo.current_dir(plugins).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cargo does not run: {error}"))?;
    if !output.status.success() {
        return Err(format!("the standard plugins in {} do not compile: see the messages of cargo", plugins.display()));
    }

    let built: BTreeMap<_, _> = String::from_utf8_lossy(&output.stdout).lines().filter_map(component).collect();
    for folder in entries(plugins)?.iter().filter(|folder| folder.join("plugin.toml").exists()) {
        let name = folder.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
        if !built.contains_key(name.as_ref()) {
            println!("cargo::warning=plugins/{name} is no member of the workspace plugins/ with a cdylib: left out");
        }
    }
    Ok(built)
}

/// Name and file of a standard plugin, if this line of cargo's output tells of one.
fn component(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let folder = Path::new(message.get("manifest_path")?.as_str()?).parent()?;
    if !folder.join("plugin.toml").exists() {
        return None;
    }
    let files = message.get("filenames")?.as_array()?;
    let file = files.iter().filter_map(|file| file.as_str()).find(|file| file.ends_with(".wasm"))?;
    Some((folder.file_name()?.to_str()?.to_owned(), PathBuf::from(file)))
}
