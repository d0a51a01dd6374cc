//! A world without any host, for unit tests of actions. There is none in a component.
//!
//! ```
//! use runbook_sdk::fake::{Machine, World};
//! use runbook_sdk::prelude::*;
//!
//! #[derive(Input)]
//! struct Limit {
//!     /// Such as "200M".
//!     size: String,
//! }
//!
//! fn converge(input: Limit) -> Result<()> {
//!     let machine = runbook_sdk::Machine::target("host")?;
//!     let path = "/etc/systemd/journald.conf.d/50-size.conf";
//!     machine.files().file(path).text(format!("[Journal]\nSystemMaxUse={}\n", input.size)).ensure()?;
//!     let restart = machine.cmd(["systemctl", "restart", "systemd-journald"]).privileged();
//!     restart.change("restart journald").harmless().at_step_end_if_changed().run()?;
//!     Ok(())
//! }
//!
//! let mut world = World::new().machine(
//!     Machine::new("node1")
//!         .directory("/etc/systemd/journald.conf.d")
//!         .changes(["systemctl", "restart", "systemd-journald"], |machine| machine),
//! );
//! let run = world.converges(converge, json!({ "size": "200M" }));
//! assert_eq!(run.summaries(), ["write /etc/systemd/journald.conf.d/50-size.conf", "restart journald"]);
//! ```
//!
//! It knows what it was told, and no more: a call about anything else fails the action with words that name the call, whatever the
//! action makes of the error. It does not check grants: that a plugin asks for all that it needs shows when its example runs.

mod cluster;
pub(crate) mod handles;
mod machine;
mod play;
mod tree;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use cluster::Cluster;
pub use machine::Machine;
pub use play::Change;
use play::Play;
use tree::Files;

use crate::bindings::runbook::base::types::CallError;
use crate::{Error, Kind, Result};

/// What an action is given: machines, a cluster, the controller's files. Empty at first.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub(crate) machines: Vec<Machine>,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) controller: Files,
    pub(crate) baselines: Vec<(String, String)>,
    pub(crate) now_ms: u64,
}

/// What became of one call of an action's function.
#[derive(Debug, Clone)]
#[must_use = "whether it ended well has not been looked at"]
pub struct Run {
    /// The outputs as JSON, or why there are none.
    pub outputs: Result<Value>,
    /// What it changed, or would, in order.
    pub changes: Vec<Change>,
    /// What it told people.
    pub messages: Vec<String>,
}

impl Run {
    /// What each change is for.
    pub fn summaries(&self) -> Vec<&str> {
        self.changes.iter().map(|change| change.summary.as_str()).collect()
    }

    /// Whether nothing was left to do, but for what repeats by nature.
    pub fn is_converged(&self) -> bool {
        self.outputs.is_ok() && self.changes.iter().all(|change| change.repeats)
    }
}

impl World {
    /// Without anything in it.
    pub fn new() -> Self {
        // 2026-01-01, in milliseconds: a time like any other.
        Self { now_ms: 1_767_225_600_000, ..Self::default() }
    }

    /// One more machine.
    #[must_use]
    pub fn machine(mut self, machine: Machine) -> Self {
        self.machines.push(machine);
        self
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// A file on the controller.
    #[must_use]
    pub fn controller_file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.controller.put(path, content.into());
        self
    }

    /// The machine of this name, to look at what became of it.
    ///
    /// # Panics
    ///
    /// Where there is none.
    pub fn at(&self, name: &str) -> &Machine {
        let found = self.machines.iter().find(|machine| machine.name == name);
        found.unwrap_or_else(|| panic!("the world has no machine {name:?}"))
    }

    /// What the function would change. The world stays as it is.
    pub fn plan<I: DeserializeOwned, O: Serialize>(&self, converge: impl FnOnce(I) -> Result<O>, inputs: Value) -> Run {
        self.play(true, || crate::plugin::converge(converge, &inputs.to_string())).0
    }

    /// Lets the function change the world.
    pub fn apply<I: DeserializeOwned, O: Serialize>(
        &mut self,
        converge: impl FnOnce(I) -> Result<O>,
        inputs: Value,
    ) -> Run {
        let (run, after) = self.play(false, || crate::plugin::converge(converge, &inputs.to_string()));
        *self = after;
        run
    }

    /// What a verify function finds wrong.
    ///
    /// # Errors
    ///
    /// What keeps it from looking; also where it changes something.
    pub fn verify<I: DeserializeOwned>(
        &self,
        verify: impl FnOnce(I) -> Result<Vec<String>>,
        inputs: Value,
    ) -> Result<Vec<String>> {
        let found = || crate::plugin::verify(verify, &inputs.to_string()).map(|wrong| Value::from(wrong).to_string());
        // Not as a plan: it may wait. What becomes of the world is thrown away.
        let run = self.play(false, found).0;
        match run.changes.first() {
            Some(change) => Err(Error::failed(format!("verify changes something: {}", change.summary))),
            None => Ok(serde_json::from_value(run.outputs?)?),
        }
    }

    /// Plans, applies and looks once more, as a run does. Gives what the apply did.
    ///
    /// # Panics
    ///
    /// Where the apply fails, the plan said otherwise (unless it could not know), or the second look finds something to do.
    pub fn converges<I: DeserializeOwned, O: Serialize>(
        &mut self,
        converge: impl Fn(I) -> Result<O>,
        inputs: Value,
    ) -> Run {
        let planned = self.plan(&converge, inputs.clone());
        let run = self.apply(&converge, inputs.clone());
        assert!(run.outputs.is_ok(), "the apply fails: {:?}", run.outputs);
        match &planned.outputs {
            Ok(_) => assert_eq!(planned.summaries(), run.summaries(), "the plan does not say what the apply does"),
            Err(error) => assert!(error.kind() == Kind::Unknown, "the plan fails: {error:?}"),
        }
        let second = self.plan(&converge, inputs);
        let repeats = run.changes.iter().any(|change| change.repeats);
        let unclear = second.outputs.as_ref().is_err_and(|error| error.kind() == Kind::Unknown && repeats);
        assert!(second.is_converged() || unclear, "the second look is not at rest: {second:?}");
        run
    }

    fn play(&self, planning: bool, call: impl FnOnce() -> std::result::Result<String, CallError>) -> (Run, Self) {
        let (result, play) = play::during(Play::new(self.clone(), planning), call);
        let outputs = result.map_err(Error::of_call).and_then(|text| Ok(serde_json::from_str(&text)?));
        let outputs = match play.unsaid.first() {
            Some(unsaid) => Err(Error::failed(format!("the fake world was not told of this: {unsaid}"))),
            None => outputs,
        };
        (Run { outputs, changes: play.changes, messages: play.messages }, play.world)
    }
}

#[cfg(test)]
mod tests;
