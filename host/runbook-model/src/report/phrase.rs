//! A report's parts in a person's words: the same ones in Markdown and in HTML.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::event::{BlockEnd, Instance, RunOutcome, StepOutcome, Verb};
use crate::words;

use super::{Fate, Open, Report, Sitting, Standing, Verdict, Work};

/// What a part is to be coloured by. Words say the same, for those who see no colours.
pub(super) type Shade = &'static str;

/// It is as it is to be.
pub(super) const GOOD: Shade = "good";
/// Something was changed.
pub(super) const CHANGE: Shade = "change";
/// It did not work.
pub(super) const BAD: Shade = "bad";
/// It was taken back.
pub(super) const UNDO: Shade = "undo";
/// Nobody was at it.
pub(super) const QUIET: Shade = "quiet";

/// Tells times of day in one time zone.
#[derive(Clone, Copy)]
pub(super) struct Clock<'a> {
    zone: &'a TimeZone,
    /// Of this day the date is known.
    day: u64,
}

impl<'a> Clock<'a> {
    /// A clock for a run that began then.
    pub(super) fn new(zone: &'a TimeZone, began_at: u64) -> Self {
        Self { zone, day: began_at }
    }

    /// The same for what began then.
    pub(super) fn from(self, began_at: u64) -> Self {
        Self { day: began_at, ..self }
    }

    fn format(&self, at: u64, how: &str) -> String {
        let stamp = i64::try_from(at).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        stamp.map_or_else(|| at.to_string(), |stamp| stamp.to_zoned(self.zone.clone()).strftime(how).to_string())
    }

    /// "14:02:11", with the date where it is of another day.
    pub(super) fn moment(&self, at: u64) -> String {
        let day = |at| self.format(at, "%Y-%m-%d");
        if day(at) == day(self.day) { self.second(at) } else { self.date(at) }
    }

    /// "2026-11-21 14:02:11".
    pub(super) fn date(&self, at: u64) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S")
    }

    /// "14:02:11".
    pub(super) fn second(&self, at: u64) -> String {
        self.format(at, "%H:%M:%S")
    }

    /// "14:02".
    pub(super) fn minute(&self, at: u64) -> String {
        self.format(at, "%H:%M")
    }

    /// "+01:00".
    pub(super) fn zone(&self, at: u64) -> String {
        self.format(at, "UTC%:z")
    }
}

/// A time span, also a short one: "12 ms", "3m 20s".
pub(super) fn span(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { words::elapsed(ms) }
}

/// A round time span: "30m", "1h 30m", "10s", "200 ms".
pub(super) fn round(ms: u64) -> String {
    let parts = [(ms / 3_600_000, "h"), (ms / 60_000 % 60, "m"), (ms / 1000 % 60, "s")];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if parts.is_empty() || !ms.is_multiple_of(1000) { span(ms) } else { parts.join(" ") }
}

/// "1 change", "3 changes".
pub(super) fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// "1 change is", "3 changes are".
fn count_are(number: usize, one: &str) -> String {
    format!("{} {}", count(number, one), if number == 1 { "is" } else { "are" })
}

/// An instance without its step, as a row of it is called: its item and its host.
pub(super) fn within_step(instance: &Instance) -> String {
    match (&instance.item, &instance.host) {
        (Some(item), Some(host)) => format!("{item} on {host}"),
        (Some(only), None) | (None, Some(only)) => only.clone(),
        (None, None) => String::new(),
    }
}

/// What a run came to, in a word or two.
pub(super) fn standing(standing: &Standing, verb: Option<Verb>) -> (&'static str, Shade) {
    match standing {
        Standing::Unfinished => ("unfinished", BAD),
        Standing::Succeeded if verb == Some(Verb::Plan) => ("planned", GOOD),
        Standing::Succeeded => ("succeeded", GOOD),
        Standing::Failed => ("failed", BAD),
        Standing::FailedUndone { .. } => ("failed, undone", UNDO),
        Standing::Cancelled => ("cancelled", BAD),
        Standing::CancelledUndone { .. } => ("cancelled, undone", UNDO),
        Standing::Stuck => ("stuck", BAD),
        Standing::Undone { .. } => ("undone", UNDO),
        Standing::PartlyUndone { .. } => ("undone in part", UNDO),
        Standing::Redone => ("redone", CHANGE),
        Standing::Abandoned { .. } => ("abandoned", QUIET),
    }
}

/// The same in a sentence.
pub(super) fn explained(report: &Report) -> String {
    let (begun, back) = report.changes();
    let stays = match (begun, back) {
        (0, _) => "nothing was changed".to_owned(),
        (_, 0) => "what was done stays".to_owned(),
        (begun, back) => format!("{back} of {} were taken back, the others stay", count(begun, "change")),
    };
    let was_undone = |left: usize| match left {
        0 => "what was done was taken back, and nothing of it is in effect".to_owned(),
        1 => "what was done was taken back; 1 change was left as it is".to_owned(),
        left => format!("what was done was taken back; {left} changes were left as they are"),
    };
    match &report.standing {
        Standing::Unfinished => "The run did not come to its end: it was cut off, or is still at work.".to_owned(),
        Standing::Succeeded => "All steps ended well.".to_owned(),
        Standing::Failed => format!("A step failed; {stays}."),
        Standing::FailedUndone { left } => format!("A step failed; {}.", was_undone(*left)),
        Standing::Cancelled => format!("It was cancelled; {stays}."),
        Standing::CancelledUndone { left } => format!("It was cancelled; {}.", was_undone(*left)),
        Standing::Stuck => "It cannot go on without a person.".to_owned(),
        Standing::Undone { left } => format!("It was undone: {}.", was_undone(*left)),
        Standing::PartlyUndone { stay } => {
            format!("A part of what it did was taken back; {} still in effect.", count_are(*stay, "change"))
        }
        Standing::Redone => "It was taken back, and that undo was taken back in turn.".to_owned(),
        Standing::Abandoned { because } if because.is_empty() => "A person gave it up.".to_owned(),
        Standing::Abandoned { because } => format!("A person gave it up: {because}"),
    }
}

/// The commands that go on with a run, each with what it does.
pub(super) fn commands(standing: &Standing, run: &str) -> Vec<(String, &'static str)> {
    let next = (format!("runbook next {run}"), "tells what to do by hand");
    let resume = (format!("runbook resume {run}"), "goes on where it was");
    let undo = (format!("runbook undo {run}"), "takes back what it did");
    match standing {
        Standing::Unfinished | Standing::Failed | Standing::Cancelled => vec![resume, undo],
        Standing::FailedUndone { .. } | Standing::CancelledUndone { .. } => vec![resume],
        Standing::Stuck => vec![next],
        Standing::Succeeded
        | Standing::Undone { .. }
        | Standing::PartlyUndone { .. }
        | Standing::Redone
        | Standing::Abandoned { .. } => Vec::new(),
    }
}

/// The recovery time in a headline, what is to be said beside it, and its shade.
pub(super) fn recovery(report: &Report) -> (String, String, Shade) {
    let recovery = &report.recovery;
    let target = recovery.target_ms.map(round).unwrap_or_default();
    let took = recovery.took_ms.map(span).unwrap_or_default();
    let elapsed = span(recovery.elapsed_ms);
    let (headline, detail, shade) = match recovery.verdict() {
        Verdict::Met(spare) => {
            (format!("Recovered in {took}"), format!("Target {target} met, with {} to spare.", span(spare)), GOOD)
        }
        Verdict::Missed(over) => {
            (format!("Recovered in {took}"), format!("Target {target} missed by {}.", span(over)), BAD)
        }
        Verdict::Untargeted => (format!("Recovered in {took}"), "The runbook states no target.".to_owned(), GOOD),
        Verdict::Overdue(over) => (
            "Not recovered".to_owned(),
            format!(
                "Target {target} missed: {elapsed} from the start until the last attempt ended, {} over it.",
                span(over)
            ),
            BAD,
        ),
        Verdict::NotRecovered => {
            let target = if target.is_empty() { "no target is stated".to_owned() } else { format!("target {target}") };
            (
                "Not recovered".to_owned(),
                format!("{elapsed} from the start until the last attempt ended; {target}."),
                BAD,
            )
        }
    };
    let mut detail = detail;
    if recovery.paused_ms > 0 {
        let _ = write!(detail, " Nobody was at it for {} of that.", span(recovery.paused_ms));
    }
    // Not all of the house is back where a run left steps out.
    if recovery.took_ms.is_some() && report.summary.skipped > 0 {
        let were = if report.summary.skipped == 1 { "was" } else { "were" };
        let _ = write!(detail, " {} {were} skipped.", count(report.summary.skipped, "step"));
    }
    if recovery.took_ms.is_some() && matches!(report.standing, Standing::Undone { .. } | Standing::PartlyUndone { .. })
    {
        detail.push_str(" It was taken back later.");
    }
    (headline, detail, shade)
}

/// What a sitting was for.
pub(super) fn sitting(sitting: &Sitting) -> &'static str {
    match sitting.verb {
        _ if sitting.is_note => "a person's word",
        Verb::Plan => "plan",
        Verb::Exec => "exec",
        Verb::Resume => "resume",
        Verb::Undo => "undo",
        Verb::Redo => "redo",
        Verb::Done => "done by hand",
    }
}

/// How a sitting ended. `is_last`: nothing came after it.
pub(super) fn end(end: Option<RunOutcome>, is_last: bool) -> (&'static str, Shade) {
    match end {
        Some(RunOutcome::Succeeded) => ("succeeded", GOOD),
        Some(RunOutcome::Failed) => ("failed", BAD),
        Some(RunOutcome::Stuck) => ("stuck", BAD),
        Some(RunOutcome::Cancelled) => ("cancelled", BAD),
        None if is_last => ("cut off, or still at work", BAD),
        None => ("cut off", BAD),
    }
}

/// The sign, the word and the shade of an outcome.
pub(super) fn outcome(outcome: Option<StepOutcome>, verb: Verb) -> (&'static str, &'static str, Shade) {
    let Some(outcome) = outcome else { return ("·", "not ended", QUIET) };
    let word = words::outcome(outcome, verb);
    match outcome {
        StepOutcome::Unchanged => ("=", word, GOOD),
        StepOutcome::Changed => ("~", word, CHANGE),
        StepOutcome::MayChange => ("?", word, CHANGE),
        StepOutcome::Skipped => ("–", word, QUIET),
        StepOutcome::Cancelled
        | StepOutcome::Unreachable
        | StepOutcome::Denied
        | StepOutcome::Failed
        | StepOutcome::Stuck => ("×", word, BAD),
    }
}

/// A piece of work in words, and its shade.
pub(super) fn work(work: Work, verb: Verb) -> (&'static str, Shade) {
    match work {
        Work::Ended(ended) => {
            let (_, word, shade) = outcome(Some(ended), verb);
            (word, shade)
        }
        Work::CutOff => ("cut off", "cut"),
        Work::Undoing => ("taken back", UNDO),
    }
}

/// What became of a change, and its shade.
pub(super) fn fate(fate: &Fate) -> (String, Shade) {
    match fate {
        Fate::Made => ("done".to_owned(), CHANGE),
        Fate::Already => ("was so already".to_owned(), GOOD),
        Fate::Failed(why) => (format!("failed: {why}"), BAD),
        Fate::InDoubt => ("in doubt: nobody has heard what became of it".to_owned(), BAD),
        Fate::NeverMade(why) => (format!("not made: {why}"), QUIET),
        Fate::Waiting => ("still waits for its time".to_owned(), BAD),
        Fate::Lapsed => ("waited, and was not needed".to_owned(), QUIET),
        Fate::TakenBack { how, .. } if how.is_empty() => ("taken back".to_owned(), UNDO),
        Fate::TakenBack { how, .. } => (format!("taken back: {how}"), UNDO),
        Fate::Left(why) => (format!("left as it is: {why}"), CHANGE),
        Fate::Planned { perhaps: false } => ("would be made".to_owned(), CHANGE),
        Fate::Planned { perhaps: true } => ("would perhaps be made".to_owned(), CHANGE),
    }
}

/// What is still open.
pub(super) fn open(open: &Open) -> String {
    match open {
        Open::Doubt(instance, what) => {
            format!("{instance}: {what}: it left this machine, and nobody has heard what became of it")
        }
        Open::Waits(instance, what) => format!("{instance}: {what}: it waits for its time"),
        Open::Block(block) => format!("the block {block} was entered and has not ended"),
    }
}

/// How a block ended.
pub(super) fn block(how: Option<BlockEnd>) -> &'static str {
    match how {
        Some(BlockEnd::Well) => "ended well",
        Some(BlockEnd::Undone) => "undone",
        Some(BlockEnd::Released) => "released",
        None => "still open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_words() {
        let zone = TimeZone::UTC;
        let clock = Clock::new(&zone, 1_700_000_000_000);
        assert_eq!(clock.moment(1_700_000_001_000), "22:13:21");
        assert_eq!(clock.moment(1_700_100_000_000), "2023-11-16 02:00:00");
        assert_eq!(clock.date(1_700_000_000_000), "2023-11-14 22:13:20");
        assert_eq!(clock.zone(1_700_000_000_000), "UTC+00:00");
        assert_eq!(clock.date(u64::MAX), u64::MAX.to_string());
        for (ms, text) in [(0, "0 ms"), (200, "200 ms"), (90_000, "1m 30s"), (1_800_000, "30m"), (3_600_000, "1h")] {
            assert_eq!(round(ms), text);
        }
    }
}
