//! Events in a person's words.

use runbook_model::event::{StepOutcome, Verb};

/// An outcome in a word.
pub(crate) fn outcome(outcome: StepOutcome, verb: Verb) -> &'static str {
    match (outcome, verb) {
        (StepOutcome::Skipped, _) => "skipped",
        (StepOutcome::Unchanged, _) => "unchanged",
        (StepOutcome::Changed, Verb::Exec | Verb::Resume | Verb::Undo | Verb::Redo | Verb::Done) => "changed",
        (StepOutcome::Changed, Verb::Plan) => "would change",
        (StepOutcome::MayChange, _) => "may change",
        (StepOutcome::Cancelled, _) => "cancelled",
        (StepOutcome::Unreachable, _) => "unreachable",
        (StepOutcome::Denied, _) => "denied",
        (StepOutcome::Failed, _) => "failed",
        (StepOutcome::Stuck, _) => "stuck",
    }
}

/// A time span: "0.4s", "12s", "3m 20s", "1h 02m".
pub(crate) fn elapsed(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

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

/// A text of a host or a plugin as a terminal may see it: nothing in it moves the cursor, changes colours or the direction.
pub(crate) fn safe(text: &str) -> String {
    let harmful = |c: char| {
        (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(safe("a\x1b[2Jb\r\tc\u{202e}\n"), "a\u{fffd}[2Jb\u{fffd}\tc\u{fffd}\n");
    }

    #[test]
    fn time_spans() {
        for (ms, text) in
            [(0, "0.0s"), (450, "0.4s"), (9_990, "9.9s"), (12_000, "12s"), (200_000, "3m 20s"), (3_720_000, "1h 02m")]
        {
            assert_eq!(elapsed(ms), text);
        }
    }
}
