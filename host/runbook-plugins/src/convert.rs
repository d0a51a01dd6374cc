//! Words that all capabilities share, from and to the types of the guest; and the bounds of what a guest may say.

use runbook_model::call::{Answer, CallError, Effect, Text, TextPart, Timing, Verdict};
use serde_json::Value;

use crate::bindings::runbook::base::types as guest;
use crate::state::{Fault, State};

/// Bytes of a path: what Linux allows.
const MAX_PATH: usize = 4096;

/// Bytes of names, kinds, selectors, addresses: 253 is the most that Kubernetes and DNS allow for one name.
const MAX_NAME: usize = 4096;

/// Characters of a summary, a reason, a consequence: one line for a person.
const MAX_LINE: usize = 500;

/// Bytes of the message of an error, or of what `verify` found wrong.
const MAX_MESSAGE: usize = 16 << 10;

/// Bytes of JSON in one call. Kubernetes takes objects of 3 MiB at most; JSON takes many times its length once it is read.
const MAX_JSON: usize = 4 << 20;

/// Longest wait of one call, in milliseconds: a day. The step's deadline holds besides.
const MAX_WAIT_MS: u32 = 24 * 60 * 60 * 1000;

/// What a variant of [`Answer`] holds; returns [`wrong_answer`] for another one.
macro_rules! take {
    ($answer:expr, $variant:path) => {
        match $answer {
            $variant(inner) => inner,
            _ => return Err($crate::convert::wrong_answer()),
        }
    };
}
pub(crate) use take;

impl guest::Host for State {
    fn convert_call_error(&mut self, fault: Fault) -> wasmtime::Result<guest::CallError> {
        match fault {
            Fault::Call(error) => Ok(error_to_guest(error)),
            Fault::Trap(error) => Err(error),
        }
    }
}

pub(crate) fn error_to_guest(error: CallError) -> guest::CallError {
    match error {
        CallError::Denied(text) => guest::CallError::Denied(text),
        CallError::Unknown(text) => guest::CallError::Unknown(text),
        CallError::NotFound(text) => guest::CallError::NotFound(text),
        CallError::Unreachable(text) => guest::CallError::Unreachable(text),
        CallError::TimedOut(text) => guest::CallError::TimedOut(text),
        CallError::Conflict(text) => guest::CallError::Conflict(text),
        CallError::Invalid(text) => guest::CallError::Invalid(text),
        CallError::Failed(text) => guest::CallError::Failed(text),
    }
}

pub(crate) fn error_from_guest(error: guest::CallError) -> CallError {
    let text = |text| capped(text, MAX_MESSAGE);
    match error {
        guest::CallError::Denied(said) => CallError::Denied(text(said)),
        guest::CallError::Unknown(said) => CallError::Unknown(text(said)),
        guest::CallError::NotFound(said) => CallError::NotFound(text(said)),
        guest::CallError::Unreachable(said) => CallError::Unreachable(text(said)),
        guest::CallError::TimedOut(said) => CallError::TimedOut(text(said)),
        guest::CallError::Conflict(said) => CallError::Conflict(text(said)),
        guest::CallError::Invalid(said) => CallError::Invalid(text(said)),
        guest::CallError::Failed(said) => CallError::Failed(text(said)),
    }
}

pub(crate) fn effect(effect: guest::Effect) -> Effect {
    Effect {
        summary: line(&effect.summary),
        timing: match effect.timing {
            guest::Timing::Now => Timing::Now,
            guest::Timing::StepEnd => Timing::StepEnd,
            guest::Timing::StepEndIfChanged => Timing::StepEndIfChanged,
            guest::Timing::BlockEnd => Timing::BlockEnd,
        },
        alters: effect.alters,
        repeats: effect.repeats,
    }
}

pub(crate) fn text(text: guest::Text) -> Text {
    let part = |part| match part {
        guest::TextPart::Plain(characters) => TextPart::Plain(characters),
        guest::TextPart::Secret(name) => TextPart::Secret(name),
    };
    Text(text.into_iter().map(part).collect())
}

pub(crate) fn verdict(answer: Answer) -> Result<guest::Verdict, Fault> {
    Ok(match take!(answer, Answer::Verdict) {
        Verdict::Unchanged => guest::Verdict::Unchanged,
        Verdict::Changed => guest::Verdict::Changed,
        Verdict::Deferred => guest::Verdict::Deferred,
    })
}

/// The answer is of another kind than the question. Only a defect of the host leads here; the plugin is not to blame, and the
/// run goes on to say so.
pub(crate) fn wrong_answer() -> Fault {
    Fault::Call(CallError::Failed("internal error: the answer is of another kind than the question".to_owned()))
}

fn invalid(message: String) -> Fault {
    Fault::Call(CallError::Invalid(message))
}

/// A path of bounded length.
pub(crate) fn path(path: String) -> Result<String, Fault> {
    if path.len() > MAX_PATH {
        return Err(invalid(format!("a path of {} bytes is longer than {MAX_PATH}", path.len())));
    }
    if path.contains('\0') {
        return Err(invalid("a path cannot hold the character NUL".to_owned()));
    }
    Ok(path)
}

/// A name, selector or address of bounded length; `what` says which.
pub(crate) fn name(what: &str, name: String) -> Result<String, Fault> {
    if name.len() > MAX_NAME {
        return Err(invalid(format!("{what} of {} bytes is longer than {MAX_NAME}", name.len())));
    }
    Ok(name)
}

/// [`name`] where it may be left out.
pub(crate) fn optional_name(what: &str, value: Option<String>) -> Result<Option<String>, Fault> {
    value.map(|value| name(what, value)).transpose()
}

/// One line for a person.
pub(crate) fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_LINE).collect()
}

/// A wait within a day.
pub(crate) fn wait_ms(milliseconds: u32) -> u32 {
    milliseconds.min(MAX_WAIT_MS)
}

/// The beginning of a text, at most `most` bytes and the mark that something was left out.
pub(crate) fn capped(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}

/// What `verify` found wrong, of bounded length.
pub(crate) fn wrong(text: String) -> String {
    capped(text, MAX_MESSAGE)
}

/// JSON text of a guest; `what` says which.
pub(crate) fn json(what: &str, text: &str) -> Result<Value, Fault> {
    if text.len() > MAX_JSON {
        return Err(invalid(format!("{what} is larger than {} MiB", MAX_JSON >> 20)));
    }
    serde_json::from_str(text).map_err(|error| invalid(format!("{what} is not JSON: {error}")))
}
