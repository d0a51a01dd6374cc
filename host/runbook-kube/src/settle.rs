//! A change whose answer was lost: what became of it, by what is found in the cluster.
//!
//! What an object says of a write is [`runbook_model::evidence`]'s to judge. What is in between is asked by a dry run: nothing left to
//! do means done. Where issuing it again is safe, "not done" is no guess that could hurt.

use runbook_model::call::{Answer, CallError, Finding, KubeAct, ObjectRef, Outcome, PatchType, Prior};
use runbook_model::delta::{comparable, pod_file_wanted};
use runbook_model::evidence::{Word, done, gone, word};

use crate::backend::KubeBackend;
use crate::exec::Container;
use crate::session::Api;

impl KubeBackend {
    /// What became of a change.
    pub(crate) async fn judged(&self, api: &Api, act: &KubeAct, prior: &Prior) -> Result<Finding, CallError> {
        match act {
            KubeAct::Apply { manifest, .. } => {
                let object = ObjectRef::of(manifest).map_err(CallError::Invalid)?;
                let word = word(prior, api.part(&object, None).await?.as_ref(), &api.ctx.field_manager);
                self.written(api, act, word, true).await
            }
            KubeAct::Patch { object, patch_type, subresource, .. } => {
                let now = api.part(object, subresource.as_deref()).await?;
                let repeats = match patch_type {
                    PatchType::Merge | PatchType::Strategic => true,
                    // It would add a second item to a list.
                    PatchType::JsonPatch => false,
                };
                self.written(api, act, word(prior, now.as_ref(), &api.ctx.field_manager), repeats).await
            }
            KubeAct::Scale { object, .. } => {
                let now = api.part(object, None).await?;
                self.written(api, act, word(prior, now.as_ref(), &api.ctx.field_manager), true).await
            }
            KubeAct::Delete { object, .. } | KubeAct::Evict { pod: object, .. } => {
                Ok(gone(object, prior, api.get(object).await?.as_ref()))
            }
            KubeAct::Exec { pod, container, argv, done_when, .. } => {
                if let Some(done_when) = done_when {
                    let container = Container { pod, name: container.as_deref() };
                    if api.observe(container, done_when).await?.exit_code == 0 {
                        return Ok(Finding::Done(Answer::Outcome(Outcome::Already)));
                    }
                }
                let program = argv.first().map_or("", String::as_str);
                Ok(Finding::Unclear(format!(
                    "a process in a pod leaves no mark: whether {program} was run in {pod}, and how it ended, nobody kept"
                )))
            }
            KubeAct::CopyIn { pod, container, path, .. } | KubeAct::PutBack { pod, container, path, .. } => {
                let sum = api.sha256(Container { pod, name: container.as_deref() }, path).await?;
                Ok(if pod_file_wanted(act).is_some_and(|wanted| wanted == sum) { done() } else { Finding::NotDone })
            }
        }
    }

    async fn written(&self, api: &Api, act: &KubeAct, word: Word, repeats: bool) -> Result<Finding, CallError> {
        match word {
            Word::Made => Ok(done()),
            Word::NotMade => Ok(Finding::NotDone),
            Word::Between if !repeats => Ok(Finding::Unclear(
                "the object was changed since, and a JSON patch that is issued twice may act twice".to_owned(),
            )),
            Word::Between => match self.met(api, act).await {
                Ok(Prior::Object { live, would })
                    if live.as_ref().map(comparable) == would.as_ref().map(comparable) =>
                {
                    Ok(done())
                }
                // What keeps it from being made says so again when it is issued.
                Ok(_) | Err(CallError::Conflict(_) | CallError::NotFound(_) | CallError::Invalid(_)) => {
                    Ok(Finding::NotDone)
                }
                Err(error) => Err(error),
            },
        }
    }
}
