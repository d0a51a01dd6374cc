//! Executes plugins once more against what a run recorded, without any world, and finds where they would have acted differently.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::call::{Act, CallError, Look, Prior, Response, Target};
use runbook_model::consent::Consent;
use runbook_model::event::StepOutcome;
use runbook_model::grant::{Grants, Terms};
use runbook_model::history::Attempt;
use runbook_model::manifest::Action;
use runbook_model::plan::{Allow, Runbook, Step, Uses};
use runbook_model::words;
use serde_json::Value;

use crate::backend::{Backend, CallContext};
use crate::broker::{self, Broker, Mode, Pulse, Setup};
use crate::clock;
use crate::plugin::{PluginCall, Plugins, Road};
use crate::replay::Replay;
use crate::run::Actions;
use crate::shared::Shared;

/// A plugin answers from what it is told; whatever takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// No world: a replay has every answer, or none.
pub struct Nowhere;

#[async_trait]
impl Backend for Nowhere {
    async fn look(&self, target: &Target, _: &Look, _: &CallContext) -> Response {
        Err(out_of_reach(target))
    }

    async fn prior(&self, target: &Target, _: &Act, _: &CallContext) -> Result<Prior, CallError> {
        Err(out_of_reach(target))
    }

    async fn act(&self, target: &Target, _: &Act, _: &Prior, _: &CallContext) -> Response {
        Err(out_of_reach(target))
    }
}

fn out_of_reach(target: &Target) -> CallError {
    CallError::Unreachable(format!("{target}: a replay reaches nothing"))
}

/// What came of one recorded attempt.
pub struct Compared {
    /// How many calls were the same, from the first one on.
    pub same: usize,
    /// Where the plugin acts differently now, if it does.
    pub difference: Option<String>,
}

impl Compared {
    fn differs(difference: String) -> Self {
        Self { same: 0, difference: Some(difference) }
    }
}

/// What a step says of the use of an action, as far as a replay needs it.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    /// Name of the plugin.
    pub plugin: &'a str,
    /// Name of the action.
    pub action: &'a str,
    /// The cluster.
    pub cluster: Option<&'a str>,
    /// What its owner gives.
    pub allow: &'a Allow,
}

impl<'a> Use<'a> {
    /// What a step says; none: it includes a runbook.
    pub fn of(step: &'a Step) -> Option<Self> {
        match &step.uses {
            Uses::Action { plugin, action } => {
                Some(Self { plugin, action, cluster: step.cluster.as_deref(), allow: &step.allow })
            }
            Uses::Include { .. } => None,
        }
    }
}

/// Executes the plugin of a recorded attempt once more, as the step of the runbook says now.
///
/// `shared` has [`Nowhere`] as its backend. `plugins` and `actions` are those of today.
pub async fn compare(
    shared: &Arc<Shared>,
    plugins: &Arc<dyn Plugins>,
    actions: &dyn Actions,
    runbook: &Runbook,
    attempt: &Attempt,
) -> Compared {
    let Some(step) = runbook.trail(&attempt.instance.step).and_then(|trail| trail.last().copied()) else {
        return Compared::differs("the runbook has no such step any more".to_owned());
    };
    match Use::of(step) {
        Some(used) => compare_use(shared, plugins, actions, used, attempt).await,
        None => Compared::differs("the step includes a runbook now".to_owned()),
    }
}

/// The same, where it is known what the step says.
pub async fn compare_use(
    shared: &Arc<Shared>,
    plugins: &Arc<dyn Plugins>,
    actions: &dyn Actions,
    used: Use<'_>,
    attempt: &Attempt,
) -> Compared {
    let Use { plugin, action: name, .. } = used;
    let Some((action, consent)) = actions.action(plugin, name) else {
        return Compared::differs(format!("there is no action {plugin}/{name} any more"));
    };
    let Some(started) = &attempt.past.started else { return Compared::differs("it did not begin".to_owned()) };
    let replay = Arc::new(Replay::compared(&attempt.past, &shared.vault));
    let pulse = Pulse::after(None, shared.now_ms());
    pulse.begin(started.calls, started.at);
    let deadline = clock::now() + LONGEST;
    let setup = Setup {
        shared: Arc::clone(shared),
        world: Arc::clone(&shared.backend),
        instance: attempt.instance.clone(),
        grants: Arc::new(grants(used, action, consent, &started.inputs, &started.roles)),
        secrets: runbook_model::call::secrets_of_inputs(&started.inputs),
        roles: started.roles.clone(),
        cluster: used.cluster.map(str::to_owned),
        // Nothing of it is kept.
        mode: Mode::Check(Arc::default()),
        deadline,
        pulse,
        needs_receipt: None,
    };
    let road = Broker::going_on(setup, Some(Arc::clone(&replay)));
    let call = || PluginCall {
        plugin: plugin.to_owned(),
        action: name.to_owned(),
        inputs: started.inputs.clone(),
        road: Arc::clone(&road) as Arc<dyn Road>,
        deadline,
    };
    let result = plugins.converge(call()).await;
    // The post-conditions stand in the journal where something was changed.
    if result.is_ok() && replay.next().is_some() && action.verifies {
        let _ = plugins.verify(call()).await;
    }
    let ended = attempt.past.ended.as_ref();
    let ended_well = ended.filter(|ended| matches!(ended.outcome, StepOutcome::Unchanged | StepOutcome::Changed));
    let difference = match (replay.diverged(), replay.next(), result) {
        // What was recorded ends where the run broke off.
        (Some(_), None, _) if ended.is_none() => None,
        (Some((_, why)), ..) => Some(why),
        (None, Some(taped), _) => Some(format!("it does not ask any more: {}", words::request(&taped.request))),
        (None, None, Err(error)) if ended_well.is_some() => Some(format!("it had ended well, and fails now: {error}")),
        (None, None, Ok(outputs)) if ended_well.is_some_and(|ended| ended.outputs != outputs) => {
            let before = ended_well.map_or(&Value::Null, |ended| &ended.outputs);
            Some(format!("its outputs are {outputs}, and were {before}"))
        }
        (None, None, _) => None,
    };
    Compared { same: replay.asked(), difference }
}

/// What a step that uses an action so may do with these inputs, on these machines.
pub fn grants(
    used: Use<'_>,
    action: &Action,
    consent: Consent,
    inputs: &Value,
    roles: &[(String, Vec<String>)],
) -> Grants {
    Grants::new(Terms {
        targets: &broker::targets(roles, used.cluster),
        action,
        inputs,
        computed: &Default::default(),
        allow: used.allow,
        consent,
    })
}
