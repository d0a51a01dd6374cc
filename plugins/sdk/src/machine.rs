//! The machines that a step acts on.

use crate::bindings::runbook::ssh::machines as raw;
use crate::command::{Cmd, Output};
use crate::effect::Effect;
use crate::http::Http;
use crate::{Error, Outcome, Period, Result, Tree, world};

pub use raw::Facts;

/// A machine that the step acts on, over SSH or the controller itself.
#[derive(Debug)]
pub struct Machine(world::Machine);

impl Machine {
    /// The machine that the step named for this role of the action: of arity `each` or `one`.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`](crate::Kind::Invalid) where the step named none, or several.
    pub fn target(role: &str) -> Result<Self> {
        Self::optional(role)?.ok_or_else(|| Error::invalid(format!("the step names no machine for the role {role:?}")))
    }

    /// The same for a role that a step may leave out.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`](crate::Kind::Invalid) where the step named several.
    pub fn optional(role: &str) -> Result<Option<Self>> {
        let mut machines = Self::targets(role);
        let first = machines.pop();
        if machines.is_empty() {
            Ok(first)
        } else {
            Err(Error::invalid(format!("the step names several machines for the role {role:?}, which takes one")))
        }
    }

    /// The machines that the step named for a role of arity `all`, in the runbook's order.
    pub fn targets(role: &str) -> Vec<Self> {
        world::targets(role).into_iter().map(Self).collect()
    }

    /// Its name in the inventory.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// What it says of itself: host name, system, architecture, boot id.
    ///
    /// # Errors
    ///
    /// Where it cannot be reached.
    pub fn facts(&self) -> Result<Facts> {
        Ok(self.0.facts()?)
    }

    /// Its files, with the rights that the inventory's `become` gives.
    pub fn files(&self) -> Tree {
        Tree::new(self.0.files(), self.name())
    }

    /// A command: program and arguments. Nothing runs yet.
    pub fn cmd(&self, argv: impl IntoIterator<Item = impl Into<String>>) -> Cmd<'_> {
        Cmd::new(self, argv)
    }

    /// Runs several commands that only look, in one round trip. Their outputs come in the same order.
    ///
    /// # Errors
    ///
    /// What kept any of them from running.
    pub fn observe_all<'a>(&self, commands: impl IntoIterator<Item = Cmd<'a>>) -> Result<Vec<Output>> {
        let commands: Vec<Cmd<'a>> = commands.into_iter().collect();
        let raw: Vec<_> = commands.iter().map(Cmd::to_wit).collect();
        let outputs = self.0.observe_all(&raw)?;
        Ok(commands.iter().zip(outputs).map(|(command, output)| Output::of_machine(command, output)).collect())
    }

    /// Reboots it, and waits until it answers with another boot id. Repeats by nature: look before whether it is due.
    ///
    /// # Errors
    ///
    /// [`Kind::TimedOut`](crate::Kind::TimedOut) where it does not come back in time.
    pub fn reboot(&self, summary: impl Into<String>, timeout: Period) -> Result<Outcome> {
        let mut effect = Effect::new(summary);
        effect.set_repeats();
        let outcome = self.0.reboot(timeout.millis(), effect.to_wit())?;
        let said = || format!("reboot of {}", self.name());
        Outcome::of(outcome, |raw| Output::new(said(), crate::Exit::Code(0), raw.stdout, raw.stderr)).judged()
    }

    /// An HTTP request from this machine. Nothing is sent yet.
    pub fn http(&self, method: impl Into<String>, url: impl Into<String>) -> Http<'_> {
        Http::new(self, method, url)
    }

    /// Whether a TCP connection from this machine is accepted.
    ///
    /// # Errors
    ///
    /// Where this machine itself cannot be asked. A refused connection, or none in time, is `false`.
    pub fn tcp(&self, address: &str, port: u16, timeout: Period) -> Result<bool> {
        Ok(self.0.tcp(address, port, timeout.millis())?)
    }

    /// DNS answers ("A", "AAAA", ...) that this machine gets, from `server` where one is named.
    ///
    /// # Errors
    ///
    /// Where nobody answers the question.
    pub fn resolve(&self, name: &str, record_type: &str, server: Option<&str>) -> Result<Vec<String>> {
        Ok(self.0.resolve(name, record_type, server)?)
    }

    pub(crate) fn raw(&self) -> &world::Machine {
        &self.0
    }
}
