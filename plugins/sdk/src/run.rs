//! The run, as a plugin sees it: messages, progress, waiting, and what was there first.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Kind, Period, Result, Source, world};

pub use crate::bindings::runbook::plugin::run::Level;

/// Writes a message to the journal and the display. See [`info!`](crate::info) and [`warn!`](crate::warn).
pub fn log(level: Level, message: &str) {
    world::log(level, message);
}

/// A message for whoever reads the journal: `info!("{name} was there already")`.
#[macro_export]
macro_rules! info {
    ($($message:tt)*) => { $crate::run::log($crate::run::Level::Info, &::std::format!($($message)*)) };
}

/// A message for the person who watches: `warn!("{name} is older than a week")`.
#[macro_export]
macro_rules! warn {
    ($($message:tt)*) => { $crate::run::log($crate::run::Level::Warn, &::std::format!($($message)*)) };
}

/// What the step is doing now.
pub fn doing(message: &str) {
    world::progress(message, 0, None, "");
}

/// What the step is doing now, and how far it is: `done` of `total`, in `unit`.
pub fn progress(message: &str, done: u64, total: Option<u64>, unit: &str) {
    world::progress(message, done, total, unit);
}

/// The run's time: that of the last answer, and the same when the run is resumed.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(world::now_ms())
}

/// Waits.
///
/// # Errors
///
/// [`Kind::Unknown`] in a plan: what is waited for has not been started.
pub fn pause(time: Period) -> Result<()> {
    Ok(world::pause(time.millis())?)
}

/// The first value recorded under this key for this step of this run, through retries, resumes and edits of the runbook: how many
/// replicas there were before they were scaled to 0.
///
/// # Errors
///
/// Where the value has no JSON form, or the recorded one is of another type.
pub fn baseline<T: Serialize + DeserializeOwned>(key: &str, value: &T) -> Result<T> {
    Ok(serde_json::from_str(&world::baseline(key, &serde_json::to_string(value)?)?)?)
}

/// Issues a receipt: proof that something of this `kind` ("backup"), of this `subject` ("pvc/home/chime"), lies at `place` since
/// `made_at`. Steps that say `needs_receipt` are let through by it, after the host looked at its digest again.
///
/// # Errors
///
/// Where it cannot be kept.
pub fn receipt(kind: &str, subject: &str, place: &Source, made_at: SystemTime) -> Result<()> {
    let since = made_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(world::receipt(kind, subject, place.raw(), u64::try_from(since.as_millis()).unwrap_or(u64::MAX))?)
}

/// What a probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe<T> {
    /// It is there.
    Ready(T),
    /// Not yet, and what was seen instead: shown while waiting, and in the error when the time is over.
    NotYet(String),
}

/// Asks a probe again and again until it is ready: at once, and then after each `interval`. Where the probe ends as
/// [`Kind::Unreachable`] or [`Kind::TimedOut`], that counts as not yet; any other error ends the wait.
///
/// ```no_run
/// # use runbook_sdk::prelude::*;
/// use runbook_sdk::run::{Probe, wait_until};
/// # fn f(machine: &Machine) -> Result<()> {
/// wait_until("microk8s to be ready", Period::minutes(5), Period::seconds(5), || {
///     let status = machine.cmd(["microk8s", "status"]).observe()?.text();
///     Ok(if status.starts_with("microk8s is running") { Probe::Ready(()) } else { Probe::NotYet(status) })
/// })?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`Kind::TimedOut`] after `timeout`, with what was seen last; [`Kind::Unknown`] in a plan, where it is not ready at once.
pub fn wait_until<T>(
    what: &str,
    timeout: Period,
    interval: Period,
    mut probe: impl FnMut() -> Result<Probe<T>>,
) -> Result<T> {
    let start = now();
    let interval = interval.max(Period::from(std::time::Duration::from_millis(100)));
    // Ends the wait even where the clock stands still.
    let attempts = timeout.duration().as_millis() / interval.duration().as_millis() + 1;
    let mut attempt = 0;
    loop {
        let seen = match probe() {
            Ok(Probe::Ready(value)) => return Ok(value),
            Ok(Probe::NotYet(seen)) => seen,
            Err(error) if matches!(error.kind(), Kind::Unreachable | Kind::TimedOut) => error.message().to_owned(),
            Err(error) => return Err(error),
        };
        attempt += 1;
        let left = timeout.duration().saturating_sub(now().duration_since(start).unwrap_or_default());
        if left.is_zero() || attempt > attempts {
            return Err(Error::timed_out(format!("waited {timeout} for {what}; last seen: {seen}")));
        }
        doing(&format!("waiting for {what}: {}", seen.lines().next().unwrap_or_default()));
        pause(interval.min(Period::from(left)))?;
    }
}
