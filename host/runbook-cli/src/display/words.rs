//! Events in a person's words.

pub(crate) use runbook_model::words::{elapsed, outcome, safe};

/// How long ago something was, coarsely.
pub(crate) fn ago(ms: u64) -> String {
    let minutes = ms / 60_000;
    match minutes {
        0 => "just now".to_owned(),
        1..60 => format!("{minutes} min ago"),
        60..2880 => format!("{} h ago", minutes / 60),
        _ => format!("{} days ago", minutes / 1440),
    }
}
