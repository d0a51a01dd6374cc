//! The time, by two clocks.
//!
//! What is waited for goes by [`now`], the clock that tokio's timers go by; what is written down, and how old something is, by the wall
//! clock of the controller, a [`Clock`]. In a simulation both are virtual: tokio's clock stands still while anybody is at work and goes on
//! at once when everybody waits, and the wall clock goes on with it, unless somebody sets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The clock that waits and deadlines go by.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long something took that began then.
pub(crate) fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// The wall clock of the controller. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<Simulated>>);

#[derive(Debug)]
struct Simulated {
    origin_ms: u64,
    began: Instant,
    /// How far it was set forward, all in all.
    set_by_ms: AtomicI64,
}

impl Clock {
    /// A clock that shows `origin_ms` (milliseconds since 1970) now, and then goes on with [`now`]. With it, nothing that happens depends
    /// on how fast this computer is.
    pub fn simulated(origin_ms: u64) -> Self {
        Self(Some(Arc::new(Simulated { origin_ms, began: now(), set_by_ms: AtomicI64::new(0) })))
    }

    /// Sets a simulated clock forward by so many milliseconds, or back. The computer's own is not set.
    pub fn set_by(&self, ms: i64) {
        if let Some(simulated) = &self.0 {
            simulated.set_by_ms.fetch_add(ms, Ordering::Relaxed);
        }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, whole_ms),
            Some(simulated) => {
                let unset = simulated.origin_ms.saturating_add(whole_ms(since(simulated.began)));
                unset.saturating_add_signed(simulated.set_by_ms.load(Ordering::Relaxed))
            }
        }
    }
}

/// In whole milliseconds.
pub(crate) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
