//! Commands that change something.

use crate::bindings::runbook::ssh::machines as raw;
use crate::command::{Cmd, Output};
use crate::effect::{Effect, effect_methods};
use crate::{Error, Period, Result};

/// A change that a command makes, made by [`Cmd::change`].
///
/// By default, as long as nothing else is said:
///
/// - it is carried out at once;
/// - it has no guard: every run carries it out, and the check of convergence then finds it again. Say [`Change::done_when`], look
///   before, or say [`Change::repeats`];
/// - it alters anything on that machine;
/// - only a person can take it back: an undo ends as stuck here.
///
/// ```no_run
/// # use runbook_sdk::prelude::*;
/// # fn f(machine: &Machine) -> Result<()> {
/// machine
///     .cmd(["systemctl", "enable", "--now", "zed"])
///     .privileged()
///     .change("enable zed")
///     .done_when(machine.cmd(["systemctl", "is-enabled", "--quiet", "zed"]).reads(["service:zed"]))
///     .undo(machine.cmd(["systemctl", "disable", "--now", "zed"]).privileged())
///     .alters(["service:zed"])
///     .run()?;
/// # Ok(()) }
/// ```
#[must_use = "a change does nothing until `run`"]
pub struct Change<'a> {
    cmd: Cmd<'a>,
    common: Common<'a>,
    effect: Effect,
}

/// Programs joined by pipes, made by [`Change::pipe`]. Fails when any of them fails.
#[must_use = "a change does nothing until `run`"]
pub struct Pipeline<'a> {
    cmds: Vec<Cmd<'a>>,
    common: Common<'a>,
    effect: Effect,
}

/// A change that may cut its own connection, made by [`Change::confirmed`].
#[must_use = "a change does nothing until `run`"]
pub struct Confirmed<'a> {
    commit: Cmd<'a>,
    revert: Cmd<'a>,
    window: Period,
    addresses: Vec<String>,
    effect: Effect,
}

struct Common<'a> {
    done_when: Option<Cmd<'a>>,
    undo: Undo<'a>,
}

enum Undo<'a> {
    Inverse { command: Box<Cmd<'a>>, only_if: Option<Box<Cmd<'a>>> },
    Harmless,
    Irreversible(String),
    ByHand(Option<String>),
}

impl<'a> Change<'a> {
    pub(crate) fn new(cmd: Cmd<'a>, summary: String) -> Self {
        Self { cmd, common: Common { done_when: None, undo: Undo::ByHand(None) }, effect: Effect::new(summary) }
    }

    /// Sends its standard output to another command.
    pub fn pipe(self, next: Cmd<'a>) -> Pipeline<'a> {
        Pipeline { cmds: vec![self.cmd, next], common: self.common, effect: self.effect }
    }

    /// It may cut its own connection. The machine itself takes it back with `revert` when `window` is over, unless a new connection is
    /// opened before: to one of `addresses`, or to where the inventory says. An undo does the same with both commands exchanged.
    ///
    /// ```no_run
    /// # use runbook_sdk::prelude::*;
    /// # fn f(machine: &Machine) -> Result<()> {
    /// let cmd = |program: &str| machine.cmd([program]).privileged();
    /// cmd("/usr/local/sbin/to-the-new-network")
    ///     .change("move to the new network")
    ///     .confirmed(cmd("/usr/local/sbin/to-the-old-network"), Period::minutes(2), ["192.168.7.5"])
    ///     .run()?;
    /// # Ok(()) }
    /// ```
    pub fn confirmed(
        self,
        revert: Cmd<'a>,
        window: Period,
        addresses: impl IntoIterator<Item = impl Into<String>>,
    ) -> Confirmed<'a> {
        let addresses = addresses.into_iter().map(Into::into).collect();
        Confirmed { commit: self.cmd, revert, window, addresses, effect: self.effect }
    }

    /// Runs it, or plans it.
    ///
    /// # Errors
    ///
    /// An exit code other than 0, with the end of its standard error; or what kept it from running.
    pub fn run(self) -> Result<Outcome> {
        self.run_unjudged()?.judged()
    }

    /// The same, and any exit code is for the caller to judge.
    ///
    /// # Errors
    ///
    /// What kept it from running, or from ending in time.
    pub fn run_unjudged(self) -> Result<Outcome> {
        let (done_when, undo) = self.common.to_wit(&self.effect);
        let outcome =
            self.cmd.machine.raw().change(&self.cmd.to_wit(), done_when.as_ref(), &undo, self.effect.to_wit())?;
        Ok(Outcome::of(outcome, |output| Output::of_machine(&self.cmd, output)))
    }
}

impl<'a> Pipeline<'a> {
    /// One more command at the end.
    pub fn pipe(mut self, next: Cmd<'a>) -> Self {
        self.cmds.push(next);
        self
    }

    /// Runs it, or plans it.
    ///
    /// # Errors
    ///
    /// An exit code other than 0 of any of the commands; or what kept them from running.
    pub fn run(self) -> Result<Outcome> {
        let (done_when, undo) = self.common.to_wit(&self.effect);
        let commands: Vec<_> = self.cmds.iter().map(Cmd::to_wit).collect();
        let first = &self.cmds[0];
        let outcome =
            first.machine.raw().change_pipeline(&commands, done_when.as_ref(), &undo, self.effect.to_wit())?;
        Outcome::of(outcome, |output| Output::of_machine(first, output)).judged()
    }
}

impl Confirmed<'_> {
    /// Runs it and confirms it, or plans it.
    ///
    /// # Errors
    ///
    /// Why it was taken back; or that nobody knows what became of it.
    pub fn run(self) -> Result<Outcome> {
        let (commit, revert) = (self.commit.to_wit(), self.revert.to_wit());
        let machine = self.commit.machine.raw();
        let outcome =
            machine.change_confirmed(&commit, &revert, self.window.millis(), &self.addresses, self.effect.to_wit())?;
        Outcome::of(outcome, |output| Output::of_machine(&self.commit, output)).judged()
    }

    effect_methods!();
}

/// What both kinds of changes can be told.
macro_rules! common_methods {
    ($($type:ident),*) => { $(
        impl<'a> $type<'a> {
            /// How to see that it is done: exit code 0 of this command, which only looks. It is the guard before, the check of
            /// convergence after, and the answer to "did it happen?" when the connection breaks in between.
            pub fn done_when(mut self, look: Cmd<'a>) -> Self {
                self.common.done_when = Some(look);
                self
            }

            /// The command that takes it back.
            pub fn undo(mut self, inverse: Cmd<'a>) -> Self {
                self.common.undo = Undo::Inverse { command: Box::new(inverse), only_if: None };
                self
            }

            /// The command that takes it back, where exit code 0 of `only_if` says that there is something to take back.
            pub fn undo_if(mut self, only_if: Cmd<'a>, inverse: Cmd<'a>) -> Self {
                self.common.undo =
                    Undo::Inverse { command: Box::new(inverse), only_if: Some(Box::new(only_if)) };
                self
            }

            /// Leaving it as it is does no harm, and neither does doing it again.
            pub fn harmless(mut self) -> Self {
                self.common.undo = Undo::Harmless;
                self
            }

            /// It cannot be taken back; the consequence in words. The manifest's ask must say `irreversible` too.
            pub fn irreversible(mut self, consequence: impl Into<String>) -> Self {
                self.common.undo = Undo::Irreversible(consequence.into());
                self
            }

            /// Only a person can take it back; what to do, in words. An undo ends as stuck here, and shows them.
            pub fn undo_by_hand(mut self, what_to_do: impl Into<String>) -> Self {
                self.common.undo = Undo::ByHand(Some(what_to_do.into()));
                self
            }

            effect_methods!();
        }
    )* };
}

common_methods!(Change, Pipeline);

impl Common<'_> {
    fn to_wit(&self, effect: &Effect) -> (Option<raw::Command<'_>>, raw::Undo<'_>) {
        let undo = match &self.undo {
            Undo::Inverse { command, only_if } => raw::Undo::Inverse(raw::Inverse {
                command: command.to_wit(),
                only_if: only_if.as_deref().map(Cmd::to_wit),
            }),
            Undo::Harmless => raw::Undo::Harmless,
            Undo::Irreversible(consequence) => raw::Undo::Irreversible(consequence.clone()),
            Undo::ByHand(Some(what)) => raw::Undo::ByHand(what.clone()),
            Undo::ByHand(None) => raw::Undo::ByHand(format!("take back by hand: {}", effect.summary())),
        };
        (self.done_when.as_ref().map(Cmd::to_wit), undo)
    }
}

/// What became of a process that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran, and ended so.
    Done(Output),
    /// `done_when` held: nothing was run.
    Already,
    /// In a plan: it would run. What its output would be is not known.
    Planned,
    /// It will run at its timing.
    Deferred,
}

impl Outcome {
    pub(crate) fn of(outcome: raw::Outcome, output: impl FnOnce(raw::Output) -> Output) -> Self {
        match outcome {
            raw::Outcome::Done(raw) => Self::Done(output(raw)),
            raw::Outcome::Already => Self::Already,
            raw::Outcome::Planned => Self::Planned,
            raw::Outcome::Deferred => Self::Deferred,
        }
    }

    pub(crate) fn judged(self) -> Result<Self> {
        match self {
            Self::Done(output) => Ok(Self::Done(output.ok()?)),
            other => Ok(other),
        }
    }

    /// Whether it ran, or will.
    pub fn changed(&self) -> bool {
        !matches!(self, Self::Already)
    }

    /// What it gave, where it ran; none where `done_when` held.
    ///
    /// # Errors
    ///
    /// [`Kind::Unknown`](crate::Kind::Unknown) where it has not run yet: in a plan there is no output to go on with.
    pub fn output(self) -> Result<Option<Output>> {
        match self {
            Self::Done(output) => Ok(Some(output)),
            Self::Already => Ok(None),
            Self::Planned => Err(Error::unknown("what the command gives is not known before it has run")),
            Self::Deferred => Err(Error::unknown("what the command gives is not known: it runs later, at its time")),
        }
    }
}
