//! `up`: a stack is as its program says.

mod events;
mod input;
mod lock;
mod preview;
mod protect;
mod stack;
mod trouble;

use std::collections::BTreeMap;

use runbook_sdk::Change;
use runbook_sdk::prelude::*;

use events::Events;
use input::Input;
use preview::Preview;
use stack::Stack;
use trouble::{Trouble, Version};

/// What stands under `outputs`.
#[derive(Serialize)]
pub(crate) struct Outputs {
    changed: bool,
    outputs: serde_json::Map<String, Value>,
    changes: BTreeMap<String, u64>,
}

pub(crate) fn converge(input: Input) -> Result<Outputs> {
    let machine = Machine::target("host")?;
    let stack = Stack::new(&machine, &input);
    let version = stack.check()?;

    let mut preview = look(&stack, version)?;
    judge(&stack, &preview, &input)?;
    let settles = !preview.pending.is_empty();
    if settles {
        if !input.refresh {
            return Err(Trouble::Pending(preview.pending).error(&stack.said()));
        }
        let settled = change(&stack, version, &input, stack.settle(&preview.pending))?;
        if !matches!(settled, Outcome::Planned) {
            preview = look(&stack, version)?;
            judge(&stack, &preview, &input)?;
        }
    }

    if preview.changes().is_empty() {
        // Where the settling is only planned, what the outputs will be is not known: that is for the host to see.
        return Ok(Outputs { changed: settles, outputs: stack.outputs()?, changes: BTreeMap::new() });
    }
    for warning in preview.warnings() {
        warn!("pulumi says: {warning}");
    }
    let events = match change(&stack, version, &input, stack.up(&preview))?.output()? {
        Some(output) => Events::read(&output.stdout),
        // Somebody else has brought it up in the meantime.
        None => Events::default(),
    };
    for done in &events.done {
        info!("{done}");
    }
    Ok(Outputs { changed: true, outputs: stack.outputs()?, changes: events.changed() })
}

pub(crate) fn verify(input: Input) -> Result<Vec<String>> {
    let machine = Machine::target("host")?;
    let stack = Stack::new(&machine, &input);
    let row = stack.row(Version::NEWEST)?;
    let mut wrong = Vec::new();
    if row.update_in_progress == Some(true) {
        wrong.push(format!("{} is locked: another update is in progress, or its lock was left behind", stack.said()));
    }
    if row.resource_count == Some(0) {
        wrong.push(format!("the state of {} has no resources: is `backend_url` that of another place?", stack.said()));
    }
    Ok(wrong)
}

/// What `up` would do.
fn look(stack: &Stack<'_>, version: Version) -> Result<Preview> {
    let output = stack.preview().observe()?;
    let read = Preview::read(&output.stdout, &output.stderr_text());
    match read {
        Ok(preview) if output.success() => Ok(preview),
        Ok(preview) => {
            let errors = preview.errors();
            let said = format!("{}\n{}", errors.join("\n"), output.stderr_text());
            Err(stack.error(Trouble::of(&said, output.code(), version).or_failed(Vec::new(), errors), &output))
        }
        Err(why) if output.success() => Err(Error::failed(format!("{}: {why}", stack.said()))),
        Err(_) => Err(stack.error(Trouble::of(&output.stderr_text(), output.code(), version), &output)),
    }
}

/// What must not be done is refused before anything is.
fn judge(stack: &Stack<'_>, preview: &Preview, input: &Input) -> Result<()> {
    protect::judge(preview, input).map_err(|why| Error::conflict(format!("{}: {why}", stack.said())))
}

/// Carries out what changes the stack. A lock is removed where the step says so, and whoever took it is dead.
fn change<'a>(stack: &Stack<'_>, version: Version, input: &Input, change: impl Fn() -> Change<'a>) -> Result<Outcome> {
    let outcome = change().run_unjudged().map_err(|error| overdue(error, stack, input))?;
    let Some(trouble) = failure(&outcome, version) else { return Ok(outcome) };
    let Outcome::Done(output) = &outcome else { return Ok(outcome) };
    match trouble {
        Trouble::Locked(locks) if input.cancel_stale_lock && !locks.is_empty() => {
            lock::refuse_if_alive(stack, &locks)?;
            stack.cancel(&locks).run()?;
            let outcome = change().run_unjudged().map_err(|error| overdue(error, stack, input))?;
            match (failure(&outcome, version), &outcome) {
                (Some(trouble), Outcome::Done(output)) => Err(stack.error(trouble, output)),
                _ => Ok(outcome),
            }
        }
        // What it wrote may have been lost with the machine, while it did its work: then the stack itself says whether all is done.
        Trouble::Incomplete if is_up(stack, version)? => Ok(outcome),
        trouble => Err(stack.error(trouble, output)),
    }
}

/// Whether nothing is left to do, and nothing was interrupted.
fn is_up(stack: &Stack<'_>, version: Version) -> Result<bool> {
    let preview = look(stack, version)?;
    Ok(preview.changes().is_empty() && preview.pending.is_empty())
}

/// The error of a run that took too long, without the raw events at its end.
fn overdue(error: Error, stack: &Stack<'_>, input: &Input) -> Error {
    if error.kind() != Kind::TimedOut {
        return error;
    }
    let last = Events::read(error.message().as_bytes()).begun;
    let last = last.map(|last| format!("; the last that it began: {last}")).unwrap_or_default();
    Error::timed_out(format!(
        "{}: pulumi was not done in time (`timeout` is {}, and the step has one of its own), and was stopped{last}. Look why that \
         does not become ready. Its lock and the interrupted operation stay: for the next run set `cancel_stale_lock = true` and \
         `refresh = true`",
        stack.said(),
        input.timeout
    ))
}

/// What went wrong. An exit code alone does not say that all is well: a summary must have come, and no failed operation.
fn failure(outcome: &Outcome, version: Version) -> Option<Trouble> {
    let Outcome::Done(output) = outcome else { return None };
    let events = Events::read(&output.stdout);
    if output.success() && events.failed.is_empty() && events.summary.is_some() {
        return None;
    }
    let said = format!("{}\n{}", events.errors.join("\n"), output.stderr_text());
    let trouble = Trouble::of(&said, output.code(), version).or_failed(events.failed, events.errors);
    Some(if trouble == Trouble::Other && output.success() { Trouble::Incomplete } else { trouble })
}
