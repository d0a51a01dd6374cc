//! What a run came to, for those who read of it later: who was at work when, what was changed and taken back, and how long the
//! recovery took. Made of the journal alone; [`markdown`] and [`html`] write it down.
//!
//! Contents that a change replaced are sealed in the journal, and are no part of a report; secrets were never in the journal.

mod gather;
pub mod html;
pub mod markdown;
mod phrase;
mod template;
mod timeline;
mod view;

use serde_json::Value;

use crate::event::{Instance, PluginPin, Receipt, Record, RunOutcome, StepOutcome, Summary, Verb};
use crate::journal::ReadError;

/// A run, as a person reads of it. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Its name.
    pub run: String,
    /// Name of the runbook.
    pub runbook: String,
    /// Its file.
    pub file: String,
    /// SHA-256 of the file in the last sitting.
    pub sha256: String,
    /// What the run was begun for.
    pub verb: Option<Verb>,
    /// The plugins of the last sitting.
    pub plugins: Vec<PluginPin>,
    /// The inputs; secrets by name.
    pub inputs: Value,
    /// When it began.
    pub began_at: u64,
    /// When the journal last says something.
    pub ended_at: u64,
    /// What it came to.
    pub standing: Standing,
    /// The counts, of steps.
    pub summary: Summary,
    /// How long it took, and how long it was to take.
    pub recovery: Recovery,
    /// When somebody was at it, the first sitting first.
    pub sittings: Vec<Sitting>,
    /// The steps in the order of the file; included ones after those that include them.
    pub steps: Vec<Step>,
    /// Where a person is needed.
    pub needs: Vec<Need>,
    /// What is still open because of it.
    pub open: Vec<Open>,
    /// The blocks of steps that were entered.
    pub blocks: Vec<Block>,
    /// What a person was asked.
    pub confirmed: Vec<Confirmed>,
    /// Proofs that were issued.
    pub receipts: Vec<(Instance, Receipt)>,
    /// Faults that were injected: it was a drill.
    pub drilled: usize,
    /// Records of a newer program that this one cannot tell of.
    pub unknown: usize,
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// It has no end: it was cut off, or is still at work.
    #[default]
    Unfinished,
    /// All steps went well.
    Succeeded,
    /// A step failed; what was done stays.
    Failed,
    /// A step failed, and what was done was taken back.
    FailedUndone {
        /// How many changes were left as they are, each for a reason.
        left: usize,
    },
    /// It was cancelled.
    Cancelled,
    /// It was cancelled, and what was done was taken back.
    CancelledUndone {
        /// How many changes were left as they are, each for a reason.
        left: usize,
    },
    /// A person is needed.
    Stuck,
    /// It was taken back.
    Undone {
        /// How many changes were left as they are, each for a reason.
        left: usize,
    },
    /// A part of it was taken back.
    PartlyUndone {
        /// How many changes are still in effect.
        stay: usize,
    },
    /// An undo of it was taken back.
    Redone,
    /// A person said that it will not be gone on with.
    Abandoned {
        /// Why.
        because: String,
    },
}

/// How long the recovery took. The clock runs from the first start on, in pauses, too: so does the clock of who waits for the house.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// How long it may take, as the runbook says: milliseconds.
    pub target_ms: Option<u64>,
    /// From the first start to the end of the sitting after which all steps were well: milliseconds. None: it did not come to that.
    pub took_ms: Option<u64>,
    /// From the first start to the end of the sitting that recovered, else of the last one that was to: milliseconds.
    pub elapsed_ms: u64,
    /// How much of that nobody was at it.
    pub paused_ms: u64,
}

/// The recovery time held against the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Recovered with so many milliseconds to spare.
    Met(u64),
    /// Recovered so many milliseconds too late.
    Missed(u64),
    /// Recovered; no target was set.
    Untargeted,
    /// Not recovered, and the time is over by so many milliseconds.
    Overdue(u64),
    /// Not recovered; the time was not over, or no target was set.
    NotRecovered,
}

impl Recovery {
    /// The recovery time held against the target.
    pub fn verdict(&self) -> Verdict {
        match (self.took_ms, self.target_ms) {
            (Some(_), None) => Verdict::Untargeted,
            (Some(took), Some(target)) if took <= target => Verdict::Met(target - took),
            (Some(took), Some(target)) => Verdict::Missed(took - target),
            (None, Some(target)) if self.elapsed_ms > target => Verdict::Overdue(self.elapsed_ms - target),
            (None, _) => Verdict::NotRecovered,
        }
    }
}

/// One session of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sitting {
    /// Counts from 1.
    pub session: u32,
    /// What it was for.
    pub verb: Verb,
    /// It noted what a person knew, and did nothing itself.
    pub is_note: bool,
    /// Version of the program.
    pub program: String,
    /// When it began.
    pub began_at: u64,
    /// When it was last heard of.
    pub ended_at: u64,
    /// How it ended. None: it was cut off, or is still at work.
    pub end: Option<RunOutcome>,
    /// Its counts.
    pub summary: Summary,
    /// What had become different in the runbook, in words.
    pub edits: Vec<String>,
    /// Conflicts did not keep its undo from going on.
    pub force: bool,
}

/// A step, with all that it was for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Its id.
    pub id: String,
    /// `plugin/action`, or the file that it includes; empty where the step stands in such a file.
    pub uses: String,
    /// Why it is there, in the runbook's words.
    pub why: Option<String>,
    /// The cluster that it is for.
    pub cluster: Option<String>,
    /// The hosts that it is for.
    pub hosts: Vec<String>,
    /// The worst of its instances. None: it never began.
    pub outcome: Option<StepOutcome>,
    /// Its instances, as they came.
    pub rows: Vec<Row>,
}

/// One instance of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which.
    pub instance: Instance,
    /// How it ended last. None: it did not.
    pub outcome: Option<StepOutcome>,
    /// Why, where it did not end well.
    pub reason: Option<String>,
    /// A person did what it is for; in their words.
    pub by_hand: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was at work.
    pub spans: Vec<Span>,
    /// What it changed, and what took that back.
    pub changes: Vec<Change>,
    /// What else is to be said.
    pub notes: Vec<Note>,
}

impl Row {
    fn new(instance: Instance) -> Self {
        Self {
            instance,
            outcome: None,
            reason: None,
            by_hand: None,
            attempts: 0,
            spans: Vec::new(),
            changes: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Milliseconds of work, undoing left out.
    pub fn worked_ms(&self) -> u64 {
        let work = self.spans.iter().filter(|span| span.what != Work::Undoing);
        work.map(|span| span.ended_at.saturating_sub(span.began_at)).sum()
    }

    /// Whether all that it did was taken back.
    pub fn is_undone(&self) -> bool {
        let mut counted = self.changes.iter().filter(|change| change.takes_back.is_none() && change.fate.was_begun());
        let is_back = |change: &Change| matches!(change.fate, Fate::TakenBack { .. });
        counted.next().is_some_and(is_back) && counted.all(is_back)
    }
}

/// A time in which an instance was at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub began_at: u64,
    /// When it ended.
    pub ended_at: u64,
    /// What it was.
    pub what: Work,
}

/// What an instance was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Its work, which came to this.
    Ended(StepOutcome),
    /// Its work, until the run was cut off; or it is still at it.
    CutOff,
    /// What it had done was taken back.
    Undoing,
}

/// A change that was made, was to be made, or waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The number of its call.
    pub call: u32,
    /// When it was begun.
    pub at: u64,
    /// In one line.
    pub summary: String,
    /// A unified diff, where there is text to compare.
    pub diff: Option<String>,
    /// The call of the instance that it takes back.
    pub takes_back: Option<u32>,
    /// What became of it.
    pub fate: Fate,
    /// What happened on the way.
    pub notes: Vec<String>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is in effect.
    Made,
    /// It was so already.
    Already,
    /// It did not work, why; something of it may be there all the same.
    Failed(String),
    /// It left this machine, and nobody has heard what became of it.
    InDoubt,
    /// It turned out never to have been made.
    NeverMade(String),
    /// It waits for the end of its step, block or run.
    Waiting,
    /// It waited, and was not needed.
    Lapsed,
    /// It was taken back.
    TakenBack {
        /// When.
        at: u64,
        /// How, in words.
        how: String,
    },
    /// An undo left it as it is, why.
    Left(String),
    /// In a plan: it would be made.
    Planned {
        /// An answer before it was unknown, so it may come out otherwise.
        perhaps: bool,
    },
}

impl Fate {
    /// Whether something was altered, or may have been; taken back or not.
    pub fn was_begun(&self) -> bool {
        match self {
            Self::Made | Self::TakenBack { .. } | Self::Left(_) | Self::InDoubt | Self::Failed(_) => true,
            Self::Already | Self::NeverMade(_) | Self::Waiting | Self::Lapsed | Self::Planned { .. } => false,
        }
    }
}

/// Something else that is to be said of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When it was noted.
    pub at: u64,
    /// How much it matters.
    pub tone: Tone,
    /// In words.
    pub text: String,
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// For those who want to know all.
    Quiet,
    /// A person should see it.
    Warning,
    /// It is why the run did not end well.
    Bad,
}

/// Where a person is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// For which instance.
    pub instance: Instance,
    /// Why.
    pub why: String,
    /// What to do by hand.
    pub manual: Vec<String>,
}

/// What is still open because of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open {
    /// A change in doubt.
    Doubt(Instance, String),
    /// A change that waits for its time.
    Waits(Instance, String),
    /// A block that was entered and has not ended.
    Block(String),
}

/// A block of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its id.
    pub id: String,
    /// When it was entered.
    pub entered_at: u64,
    /// When it ended, and how.
    pub exited: Option<(u64, crate::event::BlockEnd)>,
}

/// What a person was asked, and said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// When.
    pub at: u64,
    /// Which step.
    pub step: String,
    /// How: "typed", "--approve", "--yes".
    pub by: String,
    /// Whether to go on.
    pub approved: bool,
}

impl Report {
    /// Reads the records of a run.
    ///
    /// # Errors
    ///
    /// Events in an order that cannot be.
    pub fn of(records: impl IntoIterator<Item = Record>) -> Result<Self, ReadError> {
        gather::gather(records)
    }

    /// The times between sittings, as (end of one, start of the next).
    pub fn pauses(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.sittings.windows(2).map(|pair| (pair[0].ended_at, pair[1].began_at)).filter(|(from, to)| to > from)
    }

    /// The recovery time in a line: "Recovered in 12m 41s. Target 30m met, with 17m 19s to spare."
    pub fn recovery_line(&self) -> String {
        let (headline, detail, _) = phrase::recovery(self);
        format!("{headline}. {detail}")
    }

    /// All instances.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.steps.iter().flat_map(|step| &step.rows)
    }

    /// How many changes steps began, and how many of those were taken back.
    pub fn changes(&self) -> (usize, usize) {
        let begun = self.rows().flat_map(|row| &row.changes);
        let begun = begun.filter(|change| change.takes_back.is_none() && change.fate.was_begun());
        begun.fold((0, 0), |(begun, back), change| {
            (begun + 1, back + usize::from(matches!(change.fate, Fate::TakenBack { .. })))
        })
    }
}
