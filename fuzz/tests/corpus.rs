//! Everything that fuzzing ever found worth keeping, once more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use runbook_fuzz::TARGETS;

/// Bytes of all corpora together: a repository is not where millions of inputs are kept.
const MOST: u64 = 1 << 20;

fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Names in a folder, without an ending.
fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let name = |path: PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    entries.map(|entry| name(entry.expect("a folder of ours can be read").path())).collect()
}

#[test]
fn nothing_in_the_corpora_breaks_a_promise() {
    let mut size = 0;
    for (name, target) in TARGETS {
        let mut inputs: Vec<PathBuf> = fs::read_dir(dir("corpus").join(name))
            .unwrap_or_else(|error| panic!("the corpus of {name}: {error}"))
            .map(|entry| entry.expect("a folder of ours can be read").path())
            .collect();
        inputs.sort();
        assert!(inputs.len() >= 5, "{name} has hardly any corpus");
        for input in inputs {
            let data = fs::read(&input).expect("a file of ours can be read");
            size += data.len() as u64;
            // Named first: a stack overflow tells nothing.
            #[expect(clippy::print_stdout, reason = "for whoever looks for the input that failed")]
            {
                println!("{}", input.display());
            }
            target(&data);
        }
    }
    assert!(size < MOST, "the corpora have {size} bytes: minimise them");
}

#[test]
fn each_target_has_a_corpus_and_a_program() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&dir("corpus")), targets, "corpora");
    assert_eq!(names(&dir("libfuzzer/fuzz_targets")), targets, "programs");
    let manifest = fs::read_to_string(dir("libfuzzer/Cargo.toml")).expect("it is there");
    for name in &targets {
        let text =
            fs::read_to_string(dir("libfuzzer/fuzz_targets").join(name).with_extension("rs")).expect("it is there");
        assert!(text.contains(&format!("target({name:?})")), "the program {name} runs another target");
        assert!(manifest.contains(&format!("name = {name:?}")), "{name} is not in the manifest of the programs");
    }
}
