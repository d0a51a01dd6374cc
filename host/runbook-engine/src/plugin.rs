//! What the engine asks of plugins, and what plugins may ask of the engine.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use runbook_model::call::{CallError, Request, Response};
use serde_json::Value;

/// The road that every capability call of one step instance takes. There is no other way out of a plugin.
#[async_trait]
pub trait Road: Send + Sync {
    /// Answers a call: grant, mode, journal, backend, redaction. The answer holds no secret.
    async fn call(&self, request: Request) -> Response;

    /// Names of the machines that the step gave to this role of the action, in the runbook's order.
    fn targets(&self, role: &str) -> Vec<String>;

    /// Name of the cluster that the step gave, if it gave one.
    fn cluster(&self) -> Option<String>;

    /// The guest's wall clock: milliseconds since 1970 of the last answer that was journalled, so that a replay sees the same.
    fn now_ms(&self) -> u64;

    /// Seed of the guest's random numbers: from run, step and host.
    fn seed(&self) -> u64;
}

/// The plugins of a run, ready to be called.
#[async_trait]
pub trait Plugins: Send + Sync {
    /// Runs an action's `converge`; gives its outputs.
    async fn converge(&self, call: PluginCall) -> Result<Value, PluginError>;

    /// Runs an action's `verify`; gives what is wrong, in words.
    async fn verify(&self, call: PluginCall) -> Result<Vec<String>, PluginError>;
}

/// One call into a plugin.
#[derive(Clone)]
pub struct PluginCall {
    /// Name of the plugin.
    pub plugin: String,
    /// Name of the action.
    pub action: String,
    /// Its inputs, rendered; secrets are `{"$secret": "name"}` or `{"$text": ["plain", {"$secret": "name"}]}`.
    pub inputs: Value,
    /// The way out.
    pub road: Arc<dyn Road>,
    /// When it must be over, time inside of capability calls included.
    pub deadline: Instant,
}

/// Why a plugin gave no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PluginError {
    /// The plugin says so: the step failed in a way that it expected.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The plugin broke: a trap, a panic. A defect of the plugin, not of the target.
    #[error("the plugin crashed: {message}")]
    Crashed {
        /// The trap, the last lines that it wrote, and where it was.
        message: String,
    },
    /// It used more than it is given: memory, time, calls, log.
    #[error("the plugin was stopped: {limit}")]
    Limit {
        /// Which limit, and how much it is.
        limit: String,
    },
    /// It does not fit this program: an import that is not offered, a missing export, not a component.
    #[error("the plugin does not fit this version of runbook: {message}")]
    Unfit {
        /// What is wanted and what is offered.
        message: String,
    },
    /// It answered something that its manifest rules out.
    #[error("the plugin gave a bad answer: {message}")]
    BadAnswer {
        /// What is wrong with it.
        message: String,
    },
}
