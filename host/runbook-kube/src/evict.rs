//! Eviction of a pod, which waits where a disruption budget does not allow it yet.

use std::time::{Duration, Instant};

use http::Method;
use runbook_model::call::{CallError, ObjectRef, Verdict};
use serde_json::{Value, json};

use crate::refusal::Trouble;
use crate::session::{Api, Ask};

/// Pause where the server names none.
const PAUSE: Duration = Duration::from_secs(5);

impl Api {
    /// Evicts the pod, the one with that UID where there is one; waits out disruption budgets.
    pub(crate) async fn evict(
        &self,
        pod: &ObjectRef,
        uid: Option<&str>,
        timeout: Duration,
    ) -> Result<Verdict, CallError> {
        let place = self.pod(pod).await?;
        let end = (Instant::now() + timeout).min(self.ctx.deadline);
        let mut body = json!({
            "apiVersion": self.eviction_version().await?, "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
        });
        if let Some(uid) = uid {
            body["deleteOptions"] = json!({"preconditions": {"uid": uid}});
        }
        let ask = Ask {
            method: Method::POST,
            uri: format!("{}/eviction", place.path),
            body: Some(("application/json", body.to_string().into_bytes())),
            acting: true,
            what: format!("evict {pod}"),
        };
        loop {
            let refusal = match self.once(&ask).await {
                Ok(_) => return Ok(Verdict::Changed),
                Err(Trouble::Refused(refusal)) => refusal,
                Err(trouble) => return Err(self.error(trouble, &ask)),
            };
            if refusal.absent(&place.resource.plural, &place.resource.kind, &pod.name) {
                return Ok(Verdict::Unchanged);
            }
            if refusal.code != 429 {
                return Err(self.error(Trouble::Refused(refusal), &ask));
            }
            let causes = refusal.status.details.iter().flat_map(|d| &d.causes).map(|c| c.message.as_str());
            let why: Vec<&str> = std::iter::once(refusal.status.message.trim()).chain(causes).collect();
            let why = why.join(" ");
            let pause = refusal.retry_after.filter(|pause| !pause.is_zero()).unwrap_or(PAUSE);
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CallError::TimedOut(format!(
                    "{}: a disruption budget did not allow it in time: {why}",
                    self.at(&ask.what)
                )));
            }
            self.ctx.progress.progress(&format!("waiting to evict {pod}: {why}"), 0, None, "pods");
            self.sleep(pause.min(left), &ask.what).await?;
        }
    }

    /// The version that the server takes evictions in (policy/v1, before 1.22 policy/v1beta1): it says so itself.
    async fn eviction_version(&self) -> Result<String, CallError> {
        let list = self.expect(&Ask::get("/api/v1", "look the kind Eviction up")).await?;
        let entry = list["resources"].as_array().into_iter().flatten().find(|r| r["name"] == "pods/eviction");
        let text = |key: &str| entry.and_then(|entry| entry[key].as_str());
        match (text("group"), text("version")) {
            (Some(group), Some(version)) => Ok(format!("{group}/{version}")),
            _ if entry.is_some_and(Value::is_object) => Ok("policy/v1beta1".to_owned()),
            _ => Err(CallError::NotFound(format!(
                "cluster {} does not serve the eviction of pods",
                self.session.cluster
            ))),
        }
    }
}
