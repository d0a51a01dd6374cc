//! Exit codes of the program. They are a contract: scripts branch on them, so a number never changes its meaning.

/// All went well.
pub const SUCCESS: u8 = 0;
/// A step failed. What was done stays or was undone, as the summary says.
pub const STEP_FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The runbook or one of its inputs is wrong. No target was touched.
pub const INVALID: u8 = 3;
/// A plugin or a grant was refused before anything ran.
pub const REFUSED: u8 = 4;
/// The run is stuck: a person is needed.
pub const STUCK: u8 = 5;
/// The run was cancelled.
pub const CANCELLED: u8 = 6;
/// The program itself is at fault.
pub const INTERNAL: u8 = 7;
/// `plan --detailed-exitcode` and `drift`: there are changes.
pub const CHANGES: u8 = 10;

/// The exit code that stands for how a run ended.
pub fn of(outcome: crate::event::RunOutcome) -> u8 {
    use crate::event::RunOutcome;
    match outcome {
        RunOutcome::Succeeded => SUCCESS,
        RunOutcome::Failed => STEP_FAILED,
        RunOutcome::Stuck => STUCK,
        RunOutcome::Cancelled => CANCELLED,
    }
}
