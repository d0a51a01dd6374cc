//! What all steps of a run share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runbook_model::history::History;
use runbook_model::redact::Redactor;
use tokio_util::sync::CancellationToken;

use crate::ahead::Foresight;
use crate::backend::{Backend, Runs, Secrets};
use crate::journal::{Journal, JournalError};
use crate::receipts::Receipts;
use crate::vault::Vault;

/// What all steps of a run share.
pub struct Shared {
    /// The world.
    pub backend: Arc<dyn Backend>,
    /// Where events go.
    pub journal: Journal,
    /// Keeps secrets out of answers.
    pub redactor: Redactor,
    /// Puts secrets in.
    pub secrets: Arc<Secrets>,
    /// Keeps what was there before a change.
    pub vault: Arc<Vault>,
    /// Proofs that steps can ask for.
    pub receipts: Arc<Receipts>,
    /// Folder of artifacts.
    pub artifacts: PathBuf,
    /// Cancelled when the run is.
    pub cancel: CancellationToken,
    /// Name of the run.
    pub run: String,
    /// Who runs it, for people who find its marks.
    pub owner: String,
    /// The other runs of this controller.
    pub runs: Arc<dyn Runs>,
    /// What earlier sessions of the run did; empty in the first one.
    pub past: History,
    /// The first value under each key, by instance.
    pub baselines: Mutex<BTreeMap<(String, String), serde_json::Value>>,
    /// What is known of the next steps.
    pub foresight: Arc<Foresight>,
}

impl Shared {
    /// Counts the sessions of the run, from 1.
    pub fn session(&self) -> u32 {
        self.past.state.sessions() + 1
    }

    /// The time as the journal tells it: milliseconds since 1970, and never before that of an event.
    pub(crate) fn now_ms(&self) -> u64 {
        self.journal.now_ms()
    }

    /// What the run did so far, this session included, as its journal tells.
    ///
    /// # Errors
    ///
    /// The journal is not kept, or cannot be read.
    pub async fn history(&self) -> Result<History, JournalError> {
        self.journal.settle().await;
        self.journal.read()
    }
}

/// A lock whose holder panicked holds plain data that is still good to read.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
