//! Waiting, by looking again: it survives restarts of the API server and works with every version of it.

use std::time::{Duration, Instant};

use runbook_model::call::{Answer, CallError, Condition, ObjectRef, Response, Selector};
use runbook_model::condition::{self, Standing};
use serde_json::Value;

use crate::backend::KubeBackend;
use crate::session::Api;
use runbook_engine::backend::CallContext;

/// Pauses between looks grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// Time for finding out why nothing came.
const DIAGNOSIS: Duration = Duration::from_secs(5);

/// What one look found.
enum Look {
    Met,
    NotYet(Pending),
    /// The condition will not come.
    Never(String),
}

/// What there is to say while a condition does not hold.
struct Pending {
    now: String,
    progress: Option<(u64, u64)>,
}

/// What is waited for, in both of its forms.
pub(crate) enum Goal<'a> {
    Object(&'a ObjectRef, &'a Condition),
    None(&'a Selector),
}

impl Goal<'_> {
    fn described(&self) -> String {
        match self {
            Self::Object(object, condition) => condition::described(object, condition),
            Self::None(selector) => {
                let mut text = format!("no {}", selector.kind.kind);
                for (word, part) in
                    [("in", &selector.namespace), ("with labels", &selector.labels), ("with", &selector.fields)]
                {
                    if let Some(part) = part {
                        text = format!("{text} {word} {part}");
                    }
                }
                format!("{text} to be left")
            }
        }
    }

    async fn look(&self, api: &Api) -> Result<Look, CallError> {
        match self {
            Self::Object(object, condition) => {
                let live = api.get(object).await?;
                Ok(match condition::standing(object, condition, live.as_ref())? {
                    Standing::Met => Look::Met,
                    Standing::NotYet { now, progress } => Look::NotYet(Pending { now, progress }),
                    Standing::Never(why) => Look::Never(why),
                })
            }
            Self::None(selector) => {
                let left = api.list(selector).await?;
                let Some(first) = left.first() else { return Ok(Look::Met) };
                let now = format!("{} left: {}; of the first: {}", left.len(), names(&left), condition::leaving(first));
                Ok(Look::NotYet(Pending { now, progress: None }))
            }
        }
    }

    async fn reasons(&self, api: &Api) -> Vec<String> {
        match self {
            Self::Object(object, _) => api.diagnose(object).await,
            Self::None(_) => Vec::new(),
        }
    }

    /// A kind that is not served yet may come; one that must be gone may be misspelt.
    fn may_come(&self) -> bool {
        !matches!(self, Self::None(_) | Self::Object(_, Condition::Absent))
    }
}

fn names(objects: &[Value]) -> String {
    const SHOWN: usize = 8;
    let name = |object: &Value| {
        let text = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
        let name = text("name").unwrap_or_default();
        text("namespace").map_or(name.clone(), |namespace| format!("{namespace}/{name}"))
    };
    let mut shown: Vec<String> = objects.iter().take(SHOWN).map(name).collect();
    if objects.len() > SHOWN {
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

impl KubeBackend {
    /// Waits; in a plan looks once.
    pub(crate) async fn wait(&self, cluster: &str, goal: Goal<'_>, timeout: Duration, ctx: &CallContext) -> Response {
        let what = goal.described();
        if ctx.read_only {
            return match self.look_once(cluster, &goal, ctx).await? {
                Look::Met => Ok(Answer::Unit),
                Look::NotYet(Pending { now, .. }) | Look::Never(now) => {
                    Err(CallError::Unknown(format!("cluster {cluster}: waits for {what}; now: {now}")))
                }
            };
        }
        // Some of the call's own time is kept for saying why.
        let kept = DIAGNOSIS.min(ctx.deadline.saturating_duration_since(Instant::now()) / 5);
        let end = (Instant::now() + timeout).min(ctx.deadline - kept);
        let mut hurried = ctx.clone();
        hurried.deadline = end;
        let mut pause = PAUSES.0;
        let mut last = Pending { now: "nobody could be asked".to_owned(), progress: None };
        let mut silent = None;
        loop {
            let looked = self.look_once(cluster, &goal, &hurried).await;
            match looked {
                Ok(Look::Met) => return Ok(Answer::Unit),
                Ok(Look::Never(why)) => {
                    return Err(CallError::Failed(self.explained(cluster, &goal, &what, &why, ctx).await));
                }
                Ok(Look::NotYet(pending)) => (last, silent) = (pending, None),
                Err(error @ CallError::Unreachable(_)) => silent = Some(error),
                Err(CallError::NotFound(text)) if goal.may_come() => {
                    (last, silent) = (Pending { now: text, progress: None }, None);
                }
                Err(CallError::TimedOut(_)) if Instant::now() >= end => {}
                Err(error) => return Err(error),
            }
            if ctx.cancel.is_cancelled() {
                return Err(CallError::Failed(format!("cluster {cluster}: cancelled while waiting for {what}")));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let now = silent.as_ref().map_or(last.now.clone(), ToString::to_string);
            let (done, total) = last.progress.map_or((0, None), |(done, total)| (done, Some(total)));
            ctx.progress.progress(&format!("waiting for {what}: {now}"), done, total, "replicas");
            tokio::select! {
                () = tokio::time::sleep(pause.min(left)) => {}
                () = ctx.cancel.cancelled() => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
        match silent {
            Some(error) => Err(CallError::TimedOut(format!("cluster {cluster}: waited for {what}; at last {error}"))),
            None => Err(CallError::TimedOut(self.explained(cluster, &goal, &what, &last.now, ctx).await)),
        }
    }

    /// Looks; asks for the connection anew, which may have been lost, and the kubeconfig renewed.
    async fn look_once(&self, cluster: &str, goal: &Goal<'_>, ctx: &CallContext) -> Result<Look, CallError> {
        let api = self.api(cluster, ctx).await?;
        let found = goal.look(&api).await;
        self.release(&api).await;
        found
    }

    /// The message for a wait that ended without what it waited for, with all reasons that can be found.
    async fn explained(&self, cluster: &str, goal: &Goal<'_>, what: &str, now: &str, ctx: &CallContext) -> String {
        let mut hurried = ctx.clone();
        hurried.deadline = ctx.deadline.min(Instant::now() + DIAGNOSIS);
        let reasons = match self.api(cluster, &hurried).await {
            Ok(api) => goal.reasons(&api).await,
            Err(_) => Vec::new(),
        };
        let mut text = format!("cluster {cluster}: waited for {what}: {now}");
        for reason in reasons {
            text = format!("{text}\n  {reason}");
        }
        text
    }
}
