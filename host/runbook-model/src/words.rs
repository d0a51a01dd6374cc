//! Events and calls in a person's words, for displays and reports alike.

mod calls;

use crate::event::{StepOutcome, Verb};

pub use calls::{call, request};

/// An outcome in a word.
pub fn outcome(outcome: StepOutcome, verb: Verb) -> &'static str {
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

/// A time span of so many milliseconds: "0.4s", "12s", "3m 20s", "1h 02m".
pub fn elapsed(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A text of a host or a plugin as a person may see it: nothing in it moves the cursor, changes colours or the direction.
pub fn safe(text: &str) -> String {
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
