//! Everything that takes foreign bytes, as plain functions: each takes any bytes and must neither panic, nor hang, nor break what it
//! promises. `libfuzzer/` looks for bytes that make one do so; `tests/corpus.rs` repeats all that were ever worth keeping.

#![expect(clippy::panic, reason = "a broken promise is a finding")]

mod kube;
mod model;
mod packs;
mod redaction;
mod ssh;
mod trust;

/// A function under test.
pub type Target = fn(&[u8]);

/// All targets, by name. Their corpora lie under these names, and `libfuzzer/` has a program for each.
pub const TARGETS: [(&str, Target); 20] = [
    ("allowed_signers", trust::allowed_signers),
    ("component", packs::component),
    ("expression", model::expression),
    ("file_answers", ssh::file_answers),
    ("helper_shell", ssh::helper_shell),
    ("journal", model::journal),
    ("known_hosts", ssh::known_hosts),
    ("kube_answers", kube::answers),
    ("kubeconfig", kube::kubeconfig),
    ("lock", trust::lock),
    ("machine_answers", ssh::machine_answers),
    ("manifest", packs::manifest),
    ("pack_archive", trust::pack_archive),
    ("pack_manifest", trust::pack_manifest),
    ("pack_source", trust::pack_source),
    ("redaction", redaction::redaction),
    ("runbook", model::runbook),
    ("schema", packs::schema),
    ("signature", trust::signature),
    ("ssh_config", ssh::ssh_config),
];

/// The target of this name.
///
/// # Panics
///
/// When there is none.
pub fn target(name: &str) -> Target {
    match TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => *target,
        None => panic!("no target {name}"),
    }
}

/// Two parts: what stands before the first line that is only `---`, and what follows it.
fn halves(text: &str) -> (&str, &str) {
    text.split_once("\n---\n").unwrap_or((text, ""))
}
