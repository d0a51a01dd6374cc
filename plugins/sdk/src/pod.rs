//! Programs in pods.

use crate::bindings::runbook::kube::clusters as raw;
use crate::change::Outcome;
use crate::command::{Exit, Output, said};
use crate::effect::{Effect, effect_methods};
use crate::{ObjectRef, Result, world};

/// A program in a pod, made by [`Cluster::exec`](crate::Cluster::exec).
#[must_use = "nothing runs until it is observed, or its change is run"]
pub struct Exec<'a> {
    pub(crate) cluster: &'a world::Cluster,
    pub(crate) pod: ObjectRef,
    pub(crate) container: Option<String>,
    pub(crate) argv: Vec<String>,
    pub(crate) stdin: Vec<u8>,
}

impl<'a> Exec<'a> {
    /// In this container; left out: the only one.
    pub fn container(mut self, name: impl Into<String>) -> Self {
        self.container = Some(name.into());
        self
    }

    /// For a change: sent to its standard input.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Runs it: it only looks. Also run in plans.
    ///
    /// # Errors
    ///
    /// What kept it from running.
    pub fn observe(self) -> Result<Output> {
        let pod = self.cluster.observe_exec(&self.pod.to_wit(), self.container.as_deref(), &self.argv)?;
        Ok(self.output(pod))
    }

    /// It changes something; what, short and imperative. Nothing runs until [`PodChange::run`].
    pub fn change(self, summary: impl Into<String>) -> PodChange<'a> {
        PodChange { exec: self, done_when: None, undo: None, effect: Effect::new(summary) }
    }

    fn output(&self, pod: raw::PodOutput) -> Output {
        Output::new(said(&self.argv, &self.pod.to_string()), Exit::Code(pod.exit_code), pod.stdout, pod.stderr)
    }
}

/// A change that a program in a pod makes, made by [`Exec::change`].
///
/// A process in a pod leaves no mark of itself. So when the connection breaks while it is at work, what became of it is told by
/// [`PodChange::done_when`], or does not matter ([`PodChange::harmless`]), or is left to a person. By default, as long as nothing
/// else is said:
///
/// - it is carried out at once;
/// - it has no guard: every run carries it out, and the check of convergence then finds it again. Say [`PodChange::done_when`], look
///   before, or say [`PodChange::repeats`];
/// - only a person can take it back: an undo ends as stuck here.
///
/// ```no_run
/// # use runbook_sdk::prelude::*;
/// # fn f(cluster: &Cluster, database: &ObjectRef) -> Result<()> {
/// cluster
///     .exec(database, ["dbctl", "freeze"])
///     .change("freeze the database")
///     .done_when(["dbctl", "is-frozen"])
///     .undo(["dbctl", "thaw"])
///     .run()?;
/// # Ok(()) }
/// ```
#[must_use = "a change does nothing until `run`"]
pub struct PodChange<'a> {
    exec: Exec<'a>,
    done_when: Option<Vec<String>>,
    /// None: by hand, in words that the summary makes.
    undo: Option<raw::PodUndo>,
    effect: Effect,
}

impl PodChange<'_> {
    /// How to see that it is done: exit code 0 of this program, which only looks, in the same container. It is the guard before, the
    /// check of convergence after, and the answer to "did it happen?" when the connection breaks in between.
    pub fn done_when(mut self, argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.done_when = Some(words(argv));
        self
    }

    /// The program that takes it back, in the same container.
    pub fn undo(mut self, argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.undo = Some(raw::PodUndo::Inverse(words(argv)));
        self
    }

    /// Leaving it as it is does no harm, and neither does doing it again.
    pub fn harmless(mut self) -> Self {
        self.undo = Some(raw::PodUndo::Harmless);
        self
    }

    /// It cannot be taken back; the consequence in words. The manifest's ask must say `irreversible` too.
    pub fn irreversible(mut self, consequence: impl Into<String>) -> Self {
        self.undo = Some(raw::PodUndo::Irreversible(consequence.into()));
        self
    }

    /// Only a person can take it back; what to do, in words. An undo ends as stuck here, and shows them.
    pub fn undo_by_hand(mut self, what_to_do: impl Into<String>) -> Self {
        self.undo = Some(raw::PodUndo::ByHand(what_to_do.into()));
        self
    }

    effect_methods!();

    /// Runs it, or plans it.
    ///
    /// # Errors
    ///
    /// An exit code other than 0, with the end of its standard error; or what kept it from running.
    pub fn run(self) -> Result<Outcome> {
        let Self { exec, done_when, undo, effect } = self;
        let undo = undo.unwrap_or_else(|| raw::PodUndo::ByHand(format!("take back by hand: {}", effect.summary())));
        let outcome = exec.cluster.change_exec(
            &exec.pod.to_wit(),
            exec.container.as_deref(),
            &exec.argv,
            &exec.stdin,
            done_when.as_deref(),
            &undo,
            effect.to_wit(),
        )?;
        let outcome = match outcome {
            raw::PodOutcome::Done(pod) => Outcome::Done(exec.output(pod)),
            raw::PodOutcome::Already => Outcome::Already,
            raw::PodOutcome::Planned => Outcome::Planned,
            raw::PodOutcome::Deferred => Outcome::Deferred,
        };
        outcome.judged()
    }
}

fn words(argv: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    argv.into_iter().map(Into::into).collect()
}
