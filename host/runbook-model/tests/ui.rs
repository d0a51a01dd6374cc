//! What a person reads: every runbook in tests/ui gives exactly the `.err` or `.ok` beside it. `BLESS=1` rewrites those.

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use common::catalog;
use runbook_model::diagnostic::{has_errors, render_all};
use runbook_model::parse::{Files, load};
use runbook_model::plan::{Runbook, Uses};

/// Files below the folder of the cases.
struct Folder(PathBuf);

impl Files for Folder {
    fn read(&self, path: &str) -> Result<String, String> {
        // The wording of the operating system is not ours to pin.
        std::fs::read_to_string(self.0.join(path)).map_err(|_| "no such file".to_owned())
    }
}

fn sketch(runbook: &Runbook, indent: &str, out: &mut String) {
    for (index, step) in runbook.steps.iter().enumerate() {
        let after: Vec<&str> = runbook.predecessors(index).into_iter().map(|i| runbook.steps[i].id.as_str()).collect();
        let on: Vec<String> = step.on.iter().map(|r| format!("{}={:?}", r.role, r.on.candidates())).collect();
        let _ = writeln!(out, "{indent}{} uses {} on {on:?} after {after:?} with {}", step.id, step.uses, step.with);
        if let Uses::Include { runbook, .. } = &step.uses {
            sketch(runbook, &format!("{indent}  "), out);
        }
    }
}

fn outcome(folder: &Path, name: &str) -> (&'static str, String) {
    let text = std::fs::read_to_string(folder.join(name)).expect("the case is readable");
    let (runbook, diagnostics) = load(name, &text, &Folder(folder.to_owned()), &catalog());
    assert_eq!(runbook.is_none(), has_errors(&diagnostics), "{name}: a runbook if and only if there is no error");
    let mut out = render_all(&diagnostics, false);
    if !out.is_empty() {
        out.push('\n');
    }
    match runbook {
        Some(runbook) => {
            sketch(&runbook, "", &mut out);
            ("ok", out)
        }
        None => ("err", out),
    }
}

#[test]
fn every_case_reads_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/ui");
    let bless = std::env::var_os("BLESS").is_some();
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("tests/ui is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    assert!(names.len() >= 40, "only {} cases", names.len());
    let mut wrong = Vec::new();
    for name in names {
        let (kind, got) = outcome(&folder, &name);
        let expected = folder.join(&name).with_extension(kind);
        let other = folder.join(&name).with_extension(if kind == "ok" { "err" } else { "ok" });
        if bless {
            std::fs::write(&expected, &got).expect("the expectation is writable");
            let _ = std::fs::remove_file(&other);
        } else if other.exists() {
            wrong.push(format!("{name}: {} is there, but the runbook gives {kind}:\n{got}", other.display()));
        } else {
            let want = std::fs::read_to_string(&expected).unwrap_or_default();
            if want != got {
                wrong.push(format!("{name}: expected\n{want}\ngot\n{got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nBLESS=1 rewrites the expectations", wrong.join("\n\n"));
}
