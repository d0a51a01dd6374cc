//! Plugins whose waits take no time: their clock goes on instead.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_engine::plugin::{PluginCall, PluginError, Plugins, Road};
use runbook_model::call::{Call, CallError, Note, Request, Response};
use serde_json::Value;

/// How long a call into a plugin may really take: a plugin that does not end is found out within this time.
const REAL: Duration = Duration::from_secs(20);
/// Calls of one attempt; whoever needs more in a case does not end.
const CALLS: u32 = 5_000;

/// Plugins in a hurry.
pub(crate) struct Hasty {
    plugins: Arc<dyn Plugins>,
    /// Crashes, and limits that were passed.
    pub(crate) broke: Mutex<Vec<String>>,
}

impl Hasty {
    pub(crate) fn new(plugins: &Arc<dyn Plugins>) -> Arc<Self> {
        Arc::new(Self { plugins: Arc::clone(plugins), broke: Mutex::default() })
    }

    fn hurried(&self, call: PluginCall) -> (PluginCall, Arc<Clock>) {
        let most = call.deadline.saturating_duration_since(Instant::now());
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        let clock = Arc::new(Clock { road: call.road, slept: AtomicU64::new(0), most, calls: AtomicU32::new(0) });
        let deadline = call.deadline.min(Instant::now() + REAL);
        (PluginCall { road: Arc::clone(&clock) as Arc<dyn Road>, deadline, ..call }, clock)
    }

    fn note<T>(&self, result: Result<T, PluginError>, clock: &Clock) -> Result<T, PluginError> {
        let many = clock.calls.load(Ordering::Relaxed) > CALLS;
        let broke = match &result {
            _ if many => Some(format!("it made more than {CALLS} calls")),
            Err(error @ (PluginError::Crashed { .. } | PluginError::Limit { .. } | PluginError::Unfit { .. })) => {
                Some(error.to_string())
            }
            Err(PluginError::Call(_) | PluginError::BadAnswer { .. }) | Ok(_) => None,
        };
        if let Some(broke) = broke {
            self.broke.lock().unwrap_or_else(PoisonError::into_inner).push(broke);
        }
        result
    }
}

#[async_trait]
impl Plugins for Hasty {
    async fn converge(&self, call: PluginCall) -> Result<Value, PluginError> {
        let (call, clock) = self.hurried(call);
        self.note(self.plugins.converge(call).await, &clock)
    }

    async fn verify(&self, call: PluginCall) -> Result<Vec<String>, PluginError> {
        let (call, clock) = self.hurried(call);
        self.note(self.plugins.verify(call).await, &clock)
    }
}

/// A road on which nobody waits.
struct Clock {
    road: Arc<dyn Road>,
    /// Milliseconds.
    slept: AtomicU64,
    /// Milliseconds that may be slept: the time of the step.
    most: u64,
    calls: AtomicU32,
}

#[async_trait]
impl Road for Clock {
    async fn call(&self, mut request: Request) -> Response {
        if self.calls.fetch_add(1, Ordering::Relaxed) > CALLS {
            return Err(CallError::TimedOut("the step's time is over".to_owned()));
        }
        if let Call::Note(Note::Pause { milliseconds }) = &mut request.call {
            let time = u64::from(std::mem::take(milliseconds));
            if self.slept.fetch_add(time, Ordering::Relaxed) + time > self.most {
                return Err(CallError::TimedOut("the step's time is over".to_owned()));
            }
        }
        self.road.call(request).await
    }

    fn targets(&self, role: &str) -> Vec<String> {
        self.road.targets(role)
    }

    fn cluster(&self) -> Option<String> {
        self.road.cluster()
    }

    fn now_ms(&self) -> u64 {
        self.road.now_ms() + self.slept.load(Ordering::Relaxed)
    }

    fn seed(&self) -> u64 {
        self.road.seed()
    }
}
