//! Faults on purpose: to practise with, and to make tests of.
//!
//! A [`Drill`] stands before the world and does harm where it is told to; everything else on the road is as always, so that what is
//! practised is what will happen. Each fault is written into the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use runbook_model::call::{Act, CallError, Finding, Look, Prior, Response, Target};
use runbook_model::event::{Event, Record};

use crate::backend::{Backend, CallContext, Origin};
use crate::journal::{Journal, Watcher};

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Changes that fail before they reach their target.
    pub fail: Vec<Point>,
    /// No change that takes another one back succeeds.
    pub undo_fails: bool,
    /// Machines and clusters that do not answer.
    pub unreachable: Vec<String>,
    /// Where this process ends, as if it were killed.
    pub kill: Vec<Kill>,
}

/// A change of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The step, as the journal names it.
    pub step: String,
    /// The number of the call; none: its first change.
    pub call: Option<u32>,
}

/// Where the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kill {
    /// After this record of the journal was written.
    Record(u64),
    /// After the last record of the session: all is done, but for the goodbye to its targets.
    Last,
    /// After the intent of this change is on the disk, before it leaves.
    Before(Point),
    /// After this change came back, before that is written.
    After(Point),
}

impl Faults {
    /// Whether nothing goes wrong.
    pub fn is_empty(&self) -> bool {
        self.fail.is_empty() && !self.undo_fails && self.unreachable.is_empty() && self.kill.is_empty()
    }

    /// What kills the process at a record.
    pub fn watcher(&self) -> Option<Arc<dyn Watcher>> {
        let at_a_record = |kill: &Kill| matches!(kill, Kill::Record(_) | Kill::Last);
        self.kill.iter().any(at_a_record).then(|| Arc::new(Killer(self.kill.clone())) as _)
    }
}

struct Killer(Vec<Kill>);

impl Watcher for Killer {
    fn record(&self, record: &Record) {
        let is_here = |at: &Kill| match at {
            Kill::Record(number) => record.seq == *number,
            Kill::Last => matches!(record.event, Event::RunFinished { .. }),
            Kill::Before(_) | Kill::After(_) => false,
        };
        if self.0.iter().any(is_here) {
            kill();
        }
    }
}

/// Ends this process as a loss of power would, but for the disk: nothing is tidied up.
fn kill() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal is on its way.
    std::thread::sleep(std::time::Duration::from_secs(60));
}

/// A world in which something goes wrong.
pub struct Drill {
    world: Arc<dyn Backend>,
    journal: Journal,
    faults: Faults,
    /// For each failure, whether it came already: a step that is tried again may succeed.
    failed: Vec<AtomicBool>,
}

impl Drill {
    /// Puts faults before a world.
    pub fn new(world: Arc<dyn Backend>, journal: Journal, faults: Faults) -> Self {
        let failed = faults.fail.iter().map(|_| AtomicBool::new(false)).collect();
        Self { world, journal, faults, failed }
    }

    fn answers(&self, target: &Target) -> Result<(), CallError> {
        if self.faults.unreachable.iter().any(|name| *name == target.to_string()) {
            return Err(CallError::Unreachable(format!("{target} does not answer (a drill)")));
        }
        Ok(())
    }

    async fn drilled(&self, origin: &Origin, fault: &str) {
        let event = Event::Drilled { instance: origin.instance.clone(), call: origin.call, fault: fault.to_owned() };
        // Where the journal is broken, the change that follows says so.
        let _ = self.journal.append(event, true).await;
    }

    async fn fails(&self, origin: &Origin) -> Result<(), CallError> {
        if origin.is_undo {
            if self.faults.undo_fails {
                self.drilled(origin, "the change that takes it back fails").await;
                return Err(CallError::Conflict("a drill: this undo fails".to_owned()));
            }
            return Ok(());
        }
        for (point, done) in self.faults.fail.iter().zip(&self.failed) {
            if point.is(origin) && !done.swap(true, Ordering::Relaxed) {
                self.drilled(origin, "the change fails").await;
                // Said in a way that nothing was done, and that another attempt may succeed.
                return Err(CallError::Conflict("a drill: this change fails".to_owned()));
            }
        }
        Ok(())
    }
}

impl Point {
    fn is(&self, origin: &Origin) -> bool {
        self.step == origin.instance.step && self.call.is_none_or(|call| call == origin.call)
    }
}

#[async_trait]
impl Backend for Drill {
    async fn look(&self, target: &Target, look: &Look, ctx: &CallContext) -> Response {
        self.answers(target)?;
        self.world.look(target, look, ctx).await
    }

    async fn prior(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<Prior, CallError> {
        self.answers(target)?;
        self.world.prior(target, act, ctx).await
    }

    async fn act(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Response {
        self.answers(target)?;
        if let Some(origin) = &ctx.origin {
            self.fails(origin).await?;
            if self.faults.kill.iter().any(|kill| matches!(kill, Kill::Before(point) if point.is(origin))) {
                kill();
            }
        }
        let response = self.world.act(target, act, prior, ctx).await;
        if let Some(origin) = &ctx.origin
            && self.faults.kill.iter().any(|kill| matches!(kill, Kill::After(point) if point.is(origin)))
        {
            kill();
        }
        response
    }

    async fn settle(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Result<Finding, CallError> {
        self.answers(target)?;
        self.world.settle(target, act, prior, ctx).await
    }

    async fn take_charge(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<(), CallError> {
        self.answers(target)?;
        self.world.take_charge(target, act, ctx).await
    }

    async fn close(&self) {
        self.world.close().await;
    }
}
