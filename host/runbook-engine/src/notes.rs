//! What a plugin says to the run itself: messages, waits, first values, receipts.

use std::time::Duration;

use runbook_model::call::{Answer, CallError, FilesLook, Look, Note, Response, SourceRef, Target};
use runbook_model::event::{Event, Receipt};
use runbook_model::plan::NeedsReceipt;

use crate::broker::{Broker, Mode};
use crate::shared::lock;

/// A clock may be ahead of another one by so much, in milliseconds.
const SKEW: u64 = 10 * 60 * 1000;

impl Broker {
    pub(crate) async fn word(&self, note: Note) -> Response {
        match note {
            Note::Log { level, message } => {
                self.note(Event::Log { instance: self.instance.clone(), level, message }, false).await?;
                Ok(Answer::Unit)
            }
            Note::Progress { message, done, total, unit } => {
                let event = Event::Progress { instance: self.instance.clone(), message, done, total, unit };
                self.note(event, false).await?;
                Ok(Answer::Unit)
            }
            Note::Pause { milliseconds } => self.pause(Duration::from_millis(milliseconds.into())).await,
            Note::Baseline { key, value } => self.baseline(key, value).await.map(Answer::Value),
            Note::Receipt { kind, subject, place, made_at } => {
                self.issue(Receipt { kind, subject, place, made_at }).await
            }
        }
    }

    async fn pause(&self, time: Duration) -> Response {
        match &self.mode {
            Mode::Plan(_) | Mode::Check(_) => {
                lock(&self.tally).perhaps = true;
                Err(CallError::Unknown("what the step waits for has not come yet".to_owned()))
            }
            Mode::Apply => {
                self.shared.foresight.disturb();
                let deadline = tokio::time::Instant::from_std(self.deadline);
                tokio::select! {
                    () = tokio::time::sleep(time) => Ok(Answer::Unit),
                    () = tokio::time::sleep_until(deadline) => Err(CallError::TimedOut("the step's time is over".to_owned())),
                    () = self.cancel.cancelled() => Err(CallError::Failed("the run was cancelled".to_owned())),
                }
            }
        }
    }

    async fn baseline(&self, key: String, value: serde_json::Value) -> Result<serde_json::Value, CallError> {
        let id = (self.instance.to_string(), key.clone());
        {
            let mut baselines = lock(&self.shared.baselines);
            if let Some(first) = baselines.get(&id) {
                return Ok(first.clone());
            }
            if !matches!(self.mode, Mode::Apply) {
                return Ok(value);
            }
            baselines.insert(id, value.clone());
        }
        let event = Event::Baseline { instance: self.instance.clone(), key, value: value.clone() };
        // Durable with the next intent. Before that nothing has been changed since, and another look gives the same.
        self.note(event, false).await?;
        Ok(value)
    }

    async fn issue(&self, receipt: Receipt) -> Response {
        if !matches!(self.mode, Mode::Apply) {
            return Ok(Answer::Unit);
        }
        let known = self.shared.receipts.of(&receipt.kind, Some(&receipt.subject));
        if !known.is_ok_and(|known| known.contains(&receipt)) {
            self.shared
                .receipts
                .add(&receipt)
                .map_err(|error| CallError::Failed(format!("the receipt cannot be kept: {error}")))?;
        }
        self.note(Event::Receipt { instance: self.instance.clone(), receipt }, false).await?;
        Ok(Answer::Unit)
    }

    /// How old something is that was made then, in milliseconds. None: it was made in the future, so a clock was wrong then or is now.
    fn age(&self, made_at: u64) -> Option<u64> {
        let wall = self.shared.journal.clock().now_ms();
        if made_at <= wall.saturating_add(SKEW) {
            return Some(wall.saturating_sub(made_at));
        }
        // Made in this run, before the clock was set back.
        self.shared.now_ms().checked_sub(made_at)
    }

    /// Whether the receipt is there without which nothing may be changed, and is still true. `may_be_old`: however old it is.
    pub(crate) async fn receipt(&self, needs: &NeedsReceipt, may_be_old: bool) -> Result<(), CallError> {
        let wanted = match &needs.subject {
            Some(subject) => format!("a receipt of kind `{}` for {subject}", needs.kind),
            None => format!("a receipt of kind `{}`", needs.kind),
        };
        let receipts = self.shared.receipts.of(&needs.kind, needs.subject.as_deref());
        let receipts = receipts.map_err(|error| CallError::Failed(format!("the receipts cannot be read: {error}")))?;
        let newest = receipts.into_iter().min_by_key(|receipt| self.age(receipt.made_at).unwrap_or(u64::MAX));
        let Some(Receipt { place, made_at, subject, .. }) = newest else {
            return Err(CallError::Denied(format!("it needs {wanted}, and there is none: make that first")));
        };
        let SourceRef { target, path, sha256, .. } = &place;
        let most = needs.max_age_ms.filter(|_| !may_be_old);
        let minutes = |ms: u64| ms / 60_000;
        if let (Some(most), None) = (most, self.age(made_at)) {
            return Err(CallError::Denied(format!(
                "it needs {wanted} that is at most {} minutes old; the only one, of {subject}, was made in the future: a clock was wrong, so \
                 make it again",
                minutes(most)
            )));
        }
        if let (Some(most), Some(age)) = (most, self.age(made_at))
            && age > most
        {
            return Err(CallError::Denied(format!(
                "it needs {wanted} that is at most {} minutes old; the newest, of {subject}, is {} minutes old",
                minutes(most),
                minutes(age)
            )));
        }
        if needs.off_host
            && self.roles.iter().flat_map(|(_, hosts)| hosts).any(|host| *target == Target::Machine(host.clone()))
        {
            return Err(CallError::Denied(format!(
                "it needs {wanted} off the host that it changes; {path} lies on {target} itself"
            )));
        }
        let look = Look::Files(FilesLook::Sha256 { path: path.clone() });
        match self.world.look(target, &look, &self.context(None, 0, None)).await {
            Ok(Answer::Text(found)) if found == *sha256 => Ok(()),
            Ok(Answer::Text(_)) => Err(CallError::Denied(format!(
                "it needs {wanted}, and {path} on {target} is not any more what the receipt says: its SHA-256 is another one"
            ))),
            Ok(_) => Err(CallError::Failed(format!("{path} on {target}: an answer of another kind"))),
            Err(error) => {
                Err(CallError::Denied(format!("it needs {wanted}, and {path} on {target} cannot be read: {error}")))
            }
        }
    }

    pub(crate) fn required_receipt(&self) -> Option<&NeedsReceipt> {
        self.needs_receipt.as_ref().filter(|_| matches!(self.mode, Mode::Apply))
    }
}
