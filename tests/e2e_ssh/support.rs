//! What these tests share.

use runbook_model::event::{Event, Record, StepOutcome};
use runbook_tests::{SshLab, Tree};

/// A runbook with these steps for the hosts of the lab.
pub(crate) fn runbook(lab: &SshLab, user: &str, more: &str, steps: &str) -> String {
    format!("schema = 1\nname = \"remote\"\n\n{}\n{steps}", lab.inventory(user, more))
}

/// What each host has changed so far.
pub(crate) fn changes(lab: &SshLab) -> Vec<Tree> {
    lab.hosts().iter().map(|host| host.changes()).collect()
}

/// The same hosts have changed nothing since.
pub(crate) fn assert_as_before(lab: &SshLab, before: &[Tree]) {
    for (host, was) in lab.hosts().iter().zip(before) {
        assert_eq!(was.differences(&host.changes()), Vec::<String>::new(), "{} was to stay as it was", host.name());
    }
}

/// How a step ended on a host, and why.
pub(crate) fn ended(records: &[Record], step: &str, host: &str) -> (StepOutcome, String) {
    let found = records.iter().find_map(|record| match &record.event {
        Event::StepFinished { instance, outcome, reason, .. }
            if instance.step == step && instance.host.as_deref().is_none_or(|h| h == host) =>
        {
            Some((*outcome, reason.clone().unwrap_or_default()))
        }
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{step} did not end on {host}"))
}

/// A file of a host, as text.
pub(crate) fn text(lab: &SshLab, host: &str, path: &str) -> String {
    std::fs::read_to_string(lab.host(host).path(path)).unwrap_or_else(|e| panic!("{path} of {host}: {e}"))
}

/// `stat -c FORMAT PATH` on a host, where its users are known.
pub(crate) fn stat(lab: &SshLab, host: &str, format: &str, path: &str) -> String {
    let out = lab.host(host).machine().run(&["stat", "-c", format, path]);
    assert!(out.status.success(), "{path} of {host}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}
