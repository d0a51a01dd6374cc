//! What the engine asks of the world: one trait for all capabilities.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use runbook_model::call::{Act, CallError, Finding, Look, Prior, Response, Target};
use runbook_model::event::Instance;
use tokio_util::sync::CancellationToken;

/// The world behind the broker. Implementations hold the connections; they know nothing of grants, modes or journals.
///
/// A backend must end every call by `ctx.deadline`, or soon after `ctx.cancel` is cancelled, with an error that says what it
/// was waiting for. It never guesses: `not_found` and `absent` are only said where somebody with authority said so.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Answers an observation. Changes nothing.
    async fn look(&self, target: &Target, look: &Look, ctx: &CallContext) -> Response;

    /// What a change would meet. Changes nothing.
    async fn prior(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<Prior, CallError>;

    /// Carries a change out. Refused where `ctx.read_only`.
    async fn act(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Response;

    /// What became of a change that left an earlier session of this run, whose answer was lost. First it makes sure that the earlier
    /// session does nothing more there; else it only looks, and waits for what is still at work.
    ///
    /// By default nobody can tell.
    async fn settle(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Result<Finding, CallError> {
        let _ = (act, prior, ctx);
        Ok(Finding::Unclear(format!("{target} keeps no notes of what was carried out")))
    }

    /// Takes charge of a target that an earlier session of this run changed so, for [`Backend::close`] to clear what that session left
    /// there.
    async fn take_charge(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<(), CallError> {
        let _ = (target, act, ctx);
        Ok(())
    }

    /// Ends connections, kindly, and clears what the run left on targets that nobody needs any more.
    async fn close(&self) {}
}

/// The circumstances of one call.
#[derive(Clone)]
pub struct CallContext {
    /// When the call must be over.
    pub deadline: Instant,
    /// Cancelled when the run is.
    pub cancel: CancellationToken,
    /// Nothing may be changed: a plan or a check of convergence. Proven at the transport where there is one.
    pub read_only: bool,
    /// The values of the secrets that the step was given, by name: what its calls may refer to.
    pub secrets: Arc<Secrets>,
    /// The values of all secrets: for logins and passwords, which no call can name.
    pub passwords: Arc<Secrets>,
    /// Told what the call is waiting for, and how far it is.
    pub progress: Arc<dyn Progress>,
    /// The folder of the run's artifacts on the controller, for `copy-out`.
    pub artifacts: PathBuf,
    /// The granted path that lets this call pass, where it names one: the path that the call resolves to at the target
    /// must lie at or below what this resolves to.
    pub jail: Option<String>,
    /// Name under which fields of Kubernetes objects are managed.
    pub field_manager: String,
    /// What marks a change at its target; none for what only looks.
    pub mark: Option<Mark>,
    /// Whose call it is; none where it is the program's own.
    pub origin: Option<Origin>,
    /// What this controller knows of runs whose leases are met at targets.
    pub runs: Arc<dyn Runs>,
}

impl CallContext {
    /// The same for a change that takes another one back, where it is one. Fields that an undo sets are managed under another name: the
    /// step would else take those away, when it runs again, that its own manifest does not have.
    pub(crate) fn of_undo(mut self, is_undo: bool) -> Self {
        if is_undo {
            self.field_manager.push_str("-undo");
        }
        self.origin.iter_mut().for_each(|origin| origin.is_undo = is_undo);
        self
    }
}

/// Whose call it is: for drills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The instance of a step.
    pub instance: Instance,
    /// The number of its call.
    pub call: u32,
    /// Whether it takes another one back.
    pub is_undo: bool,
}

/// What marks a change at its target, so that its fate can be found out after a crash, and so that two runs do not change the same
/// target at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Name of the run.
    pub run: String,
    /// Counts the sessions of the run, from 1: of two sessions, the one with the higher number is in charge.
    pub session: u32,
    /// Number of the change's intent in the journal.
    pub record: u64,
    /// Who runs it, for people: "ann@laptop, pid 4711".
    pub owner: String,
}

/// What this controller knows of runs: by what lies on its own disk, never by what a target says.
pub trait Runs: Send + Sync {
    /// How a run stands whose lease was met at a target. Both come from there and may be any text, any number.
    fn standing(&self, run: &str, session: u32) -> Standing;
}

/// How a run stands, whose lease was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is none of this controller's, or one of which another controller knows more: nothing is known of it.
    Foreign,
    /// A process of this controller is at work on it.
    AtWork,
    /// Nobody is at work on it, and something of it is open.
    Unfinished,
    /// Nobody is at work on it, and nothing of it is open: what it holds, it holds for nobody, and may be taken over.
    Over,
}

/// Knows of no run.
pub struct NoRuns;

impl Runs for NoRuns {
    fn standing(&self, _: &str, _: u32) -> Standing {
        Standing::Foreign
    }
}

/// Values of secrets, by name.
#[derive(Default)]
pub struct Secrets(pub BTreeMap<String, String>);

/// Told what a call is waiting for.
pub trait Progress: Send + Sync {
    /// How far the call is; `total` where it is known.
    fn progress(&self, message: &str, done: u64, total: Option<u64>, unit: &str);
    /// A line of output of a command that is followed.
    fn line(&self, line: &str);
    /// The lease of a target was taken over from a run that is over.
    fn took_over(&self, target: &str, run: &str, session: u32);
}

/// Nobody is told.
pub struct Silent;

impl Progress for Silent {
    fn progress(&self, _: &str, _: u64, _: Option<u64>, _: &str) {}
    fn line(&self, _: &str) {}
    fn took_over(&self, _: &str, _: &str, _: u32) {}
}
