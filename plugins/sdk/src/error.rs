//! Why an action ends without a result.

use std::cell::RefCell;
use std::fmt;

use crate::bindings::runbook::base::types::CallError;

/// What every function of a plugin gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an action ends without a result.
///
/// Calls to the world give it, `?` passes it up, and [`fail!`](crate::fail), [`invalid!`](crate::invalid),
/// [`conflict!`](crate::conflict) and [`ensure!`](crate::ensure) make one of words.
///
/// # Unknown
///
/// In a plan, an observation that depends on a change which has only been planned answers [`Kind::Unknown`]. Passed up by `?`, it
/// ends the action, and the plan says "may change: cannot be looked at before ...". An `unknown` that was not passed up ends
/// the action all the same, so that nothing is concluded from an answer that nobody gave; [`Context::if_known`] is the way
/// to go on without it, on purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
}

/// What kind of error it is: what a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Not granted.
    Denied,
    /// Only in plans: the answer depends on a change that has only been planned.
    Unknown,
    /// Looked, with authority, and it is not there.
    NotFound,
    /// Nobody answered, or the answer cannot be trusted. Never the same as [`Kind::NotFound`].
    Unreachable,
    /// The time is over.
    TimedOut,
    /// The world is not as the call assumed.
    Conflict,
    /// What was asked makes no sense there.
    Invalid,
    /// It was tried and did not work.
    Failed,
}

impl Error {
    /// An error of that kind, with words for a person: what did not work, where, and how to put it right.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// It was tried and did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The inputs make no sense, together or there.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// The world is in a state that must not be touched without a person.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// What was waited for did not come in time.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::new(Kind::TimedOut, message)
    }

    /// Only in plans: cannot be known before a planned change has been made.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Kind::Unknown, message)
    }

    /// What a call says, for somebody outside of the action: an unknown is not noted as one that has to be passed up.
    pub(crate) fn of_call(error: CallError) -> Self {
        let (kind, message) = match error {
            CallError::Denied(message) => (Kind::Denied, message),
            CallError::Unknown(message) => (Kind::Unknown, message),
            CallError::NotFound(message) => (Kind::NotFound, message),
            CallError::Unreachable(message) => (Kind::Unreachable, message),
            CallError::TimedOut(message) => (Kind::TimedOut, message),
            CallError::Conflict(message) => (Kind::Conflict, message),
            CallError::Invalid(message) => (Kind::Invalid, message),
            CallError::Failed(message) => (Kind::Failed, message),
        };
        Self { kind, message }
    }

    /// What kind it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The words, without the kind.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same kind, with what was being done in front: "reading the old configuration: ...".
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Error {}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::failed(format!("this is not the JSON that was expected: {error}"))
    }
}

impl From<std::string::FromUtf8Error> for Error {
    fn from(error: std::string::FromUtf8Error) -> Self {
        Self::failed(format!("this is not UTF-8: {error}"))
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let error = Self::of_call(error);
        if error.kind == Kind::Unknown {
            UNKNOWNS.with_borrow_mut(|pending| pending.push(error.message.clone()));
        }
        error
    }
}

impl From<Error> for CallError {
    fn from(Error { kind, message }: Error) -> Self {
        match kind {
            Kind::Denied => Self::Denied(message),
            Kind::Unknown => Self::Unknown(message),
            Kind::NotFound => Self::NotFound(message),
            Kind::Unreachable => Self::Unreachable(message),
            Kind::TimedOut => Self::TimedOut(message),
            Kind::Conflict => Self::Conflict(message),
            Kind::Invalid => Self::Invalid(message),
            Kind::Failed => Self::Failed(message),
        }
    }
}

thread_local! {
    /// The `unknown` answers of this call that nobody has taken note of. A component has one thread, and each call an instance.
    static UNKNOWNS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// An `unknown` that was neither passed up nor taken note of ends the action as if it had been passed up.
pub(crate) fn settle<T>(result: Result<T>) -> Result<T> {
    let first = UNKNOWNS.with_borrow_mut(|pending| pending.drain(..).next());
    match (result, first) {
        (Err(error), _) if error.kind == Kind::Unknown => Err(error),
        (_, Some(message)) => Err(Error { kind: Kind::Unknown, message }),
        (result, None) => result,
    }
}

/// What can be said of a result before `?`.
pub trait Context<T> {
    /// Says what was being done: "reading the old configuration: no such file". Of an [`Option`]: what is missing.
    ///
    /// # Errors
    ///
    /// The same, with words in front; for an [`Option`] a [`Kind::Failed`] with these words.
    fn context(self, doing: impl fmt::Display) -> Result<T>;

    /// None where it is [`Kind::NotFound`].
    ///
    /// # Errors
    ///
    /// Any other error.
    fn if_found(self) -> Result<Option<T>>;

    /// None where it is [`Kind::Unknown`]: goes on without the answer, on purpose. What is changed from then on is planned as
    /// "perhaps".
    ///
    /// # Errors
    ///
    /// Any other error.
    fn if_known(self) -> Result<Option<T>>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().context(doing))
    }

    fn if_found(self) -> Result<Option<T>> {
        unless(self, Kind::NotFound)
    }

    fn if_known(self) -> Result<Option<T>> {
        let known = unless(self, Kind::Unknown)?;
        if known.is_none() {
            UNKNOWNS.with_borrow_mut(|pending| pending.pop());
        }
        Ok(known)
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, missing: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Error::failed(missing.to_string()))
    }

    fn if_found(self) -> Result<Option<T>> {
        Ok(self)
    }

    fn if_known(self) -> Result<Option<T>> {
        Ok(self)
    }
}

fn unless<T>(result: Result<T, impl Into<Error>>, kind: Kind) -> Result<Option<T>> {
    match result.map_err(Into::into) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind == kind => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends the function with an [`Error`] of [`Kind::Failed`]: `fail!("{name} did not start")`.
#[macro_export]
macro_rules! fail {
    ($($message:tt)*) => { return ::core::result::Result::Err($crate::Error::failed(::std::format!($($message)*)).into()) };
}

/// Ends the function with an [`Error`] of [`Kind::Invalid`]: the inputs make no sense.
#[macro_export]
macro_rules! invalid {
    ($($message:tt)*) => { return ::core::result::Result::Err($crate::Error::invalid(::std::format!($($message)*)).into()) };
}

/// Ends the function with an [`Error`] of [`Kind::Conflict`]: the world is in a state that must not be touched.
#[macro_export]
macro_rules! conflict {
    ($($message:tt)*) => { return ::core::result::Result::Err($crate::Error::conflict(::std::format!($($message)*)).into()) };
}

/// Ends the function with an [`Error`] of [`Kind::Failed`] unless the condition holds: `ensure!(free > need, "...")`.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => { if !$condition { $crate::fail!($($message)*) } };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown() -> Result<String> {
        Err(CallError::Unknown("step 1 writes it".into()).into())
    }

    #[test]
    fn a_swallowed_unknown_ends_the_action() {
        let swallowed = unknown().unwrap_or_default();
        assert_eq!(settle(Ok(swallowed)).map_err(|e| e.kind()), Err(Kind::Unknown));

        let misled: Result<()> = unknown().map(drop).map_err(|_| Error::failed("there is no such file"));
        assert_eq!(settle(misled), Err(Error::unknown("step 1 writes it")));

        assert_eq!(settle(Ok(1)), Ok(1), "the next call begins afresh");
    }

    #[test]
    fn an_unknown_can_be_set_aside_on_purpose() {
        assert_eq!(settle(unknown().if_known()), Ok(None));
    }

    #[test]
    fn context_keeps_the_kind() {
        let error: Error = CallError::NotFound("/a: no such file".into()).into();
        let error = Err::<(), _>(error).context("reading the old file").unwrap_err();
        assert_eq!(error, Error::new(Kind::NotFound, "reading the old file: /a: no such file"));
    }
}
