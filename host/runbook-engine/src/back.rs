//! One change on its way back: a look whether the target still is as it was left, then what takes the change back, through the same road.

use std::path::Path;
use std::sync::Arc;

use runbook_model::call::{
    Act, Answer, CallError, Change, Command, Effect, FileWant, FilesAct, KubeAct, KubeLook, Look, ObjectRef, Prior,
    SshLook, Target,
};
use runbook_model::event::Event;
use runbook_model::history::Entry;
use runbook_model::undo::{self, Left, Now};
use runbook_model::undo_kube::{self, Conflict};
use serde_json::Value;

use crate::backend::CallContext;
use crate::broker::Broker;
use crate::change::{Passage, judged};
use crate::journal::JournalError;
use crate::unwind::Unwinding;

/// Why one change could not be taken back.
pub(crate) struct Obstacle {
    pub(crate) why: String,
    /// What to do by hand.
    pub(crate) manual: Vec<String>,
    /// It stands in the journal already.
    pub(crate) told: bool,
}

impl Obstacle {
    pub(crate) fn new(why: impl Into<String>, manual: Vec<String>) -> Self {
        Self { why: why.into(), manual, told: false }
    }
}

/// What became of one change.
pub(crate) enum Fate {
    TakenBack(String),
    Left(String),
}

/// One change on its way back.
pub(crate) struct Back<'a> {
    pub(crate) unwinding: &'a Unwinding<'a>,
    pub(crate) entry: &'a Entry,
    pub(crate) road: &'a Arc<Broker>,
    pub(crate) summary: &'a str,
}

impl Back<'_> {
    fn passage(&self, act: Act, summary: String) -> Passage {
        Passage {
            call: self.road.next_call(),
            target: self.entry.request.target.clone(),
            jail: self.jail(&act),
            change: Change { act, effect: Effect { summary, repeats: true, ..Effect::default() } },
            undoes: Some(self.entry.call),
        }
    }

    /// What the change was kept within. Directories that were made on the way there lie above it: each of them is its own bound.
    fn jail(&self, act: &Act) -> Option<String> {
        let granted = self.entry.jail.as_deref()?;
        let above = match act {
            Act::Files(act) if Path::new(granted).starts_with(&act.path) => act.path.as_str(),
            _ => granted,
        };
        Some(above.to_owned())
    }

    pub(crate) async fn files(
        &self,
        acts: Vec<FilesAct>,
        left: &Left,
    ) -> Result<Result<Option<Fate>, Obstacle>, JournalError> {
        let target = &self.entry.request.target;
        for (place, act) in acts.into_iter().enumerate() {
            let by_hand = match act.want {
                FileWant::Absent | FileWant::AbsentIfEmpty => format!("on {target} remove {}", act.path),
                _ => format!(
                    "put {} on {target} back as it was: `runbook show {} --kept {}` prints it",
                    act.path, self.unwinding.history.run, self.entry.record
                ),
            };
            let by_hand = vec![by_hand];
            if place == 0 {
                let context = self.road.context(self.entry.jail.clone(), self.entry.call, None);
                let now = self.road.world.prior(target, &Act::Files(act.clone()), &context).await;
                let now = match now {
                    Ok(Prior::File(now)) => now,
                    Ok(_) => return Ok(Err(Obstacle::new("a look at a file gave something else", by_hand))),
                    Err(error) => return Ok(Err(Obstacle::new(error.to_string(), by_hand))),
                };
                match undo::compare(left, &act, &now) {
                    Now::AsLeft => {}
                    Now::Back => return Ok(Ok(Some(Fate::TakenBack("it was so already".to_owned())))),
                    Now::Other(conflict) if self.unwinding.scope.force => self.overridden(conflict).await?,
                    Now::Other(conflict) => return Ok(Err(Obstacle::new(conflict, by_hand))),
                }
            }
            let passage = self.passage(Act::Files(act), String::new());
            match self.road.pass(passage).await {
                Ok(_) => {}
                // A directory above, in which something else lies by now: it is that one's now.
                Err(CallError::Conflict(_)) if place > 0 => break,
                Err(error) => return Ok(Err(Obstacle::new(error.to_string(), by_hand))),
            }
        }
        Ok(Ok(Some(Fate::TakenBack("what was there before is there again".to_owned()))))
    }

    pub(crate) async fn command(
        &self,
        act: Act,
        only_if: Option<Command>,
        unless_undone: Option<Command>,
    ) -> Result<Option<Fate>, Obstacle> {
        let by_hand = vec![by_hand(&self.entry.request.target, &act)];
        if let Some(command) = unless_undone {
            match self.holds(command).await {
                Ok(true) => {}
                Ok(false) => {
                    return Ok(Some(Fate::TakenBack("it had failed, and there is nothing to take back".to_owned())));
                }
                Err(error) => return Err(Obstacle::new(error.to_string(), by_hand)),
            }
        }
        if let Some(command) = only_if {
            let words = command.argv.join(" ");
            match self.holds(command).await {
                Ok(true) => {}
                Ok(false) => {
                    let why = format!("`{words}` does not say that there is something to take back");
                    return Err(Obstacle::new(why, by_hand));
                }
                Err(error) => return Err(Obstacle::new(error.to_string(), by_hand)),
            }
        }
        let passage = self.passage(act, format!("take back: {}", self.summary));
        let result = judged("the inverse", self.road.pass(passage).await);
        match result {
            Ok(()) => Ok(Some(Fate::TakenBack("its inverse was carried out".to_owned()))),
            Err(error) => Err(Obstacle::new(error.to_string(), by_hand)),
        }
    }

    /// Whether a command that looks ends with exit code 0.
    async fn holds(&self, command: Command) -> Result<bool, CallError> {
        let look = Look::Ssh(SshLook::Observe { commands: vec![command] });
        let context = self.road.context(None, self.entry.call, None);
        match self.road.world.look(&self.entry.request.target, &look, &context).await? {
            Answer::Outputs(outputs) => Ok(outputs.first().is_some_and(|output| output.exit.success())),
            _ => Err(CallError::Failed("a command that looks gave something else".to_owned())),
        }
    }

    /// What takes a change of a cluster back depends on the object as it is now.
    pub(crate) async fn kube(&self, change: &Change, prior: &Prior) -> Result<Option<Fate>, Obstacle> {
        let (target, summary) = (&self.entry.request.target, self.summary);
        let by_hand = || vec![format!("on the cluster {target}, take back by hand: {summary}")];
        let Act::Kube(act) = &change.act else { return Ok(None) };
        let context = self.road.context(None, self.entry.call, None);
        let current = match self.current(act, &context).await {
            Ok(current) => current,
            Err(CallError::NotFound(_)) => None,
            Err(error) => return Err(Obstacle::new(error.to_string(), by_hand())),
        };
        let acts = match undo_kube::take_back(act, prior, current.as_ref()) {
            Ok(acts) => acts,
            Err(Conflict::Irreversible(consequence)) => {
                return Ok(Some(Fate::Left(format!("it cannot be taken back: {consequence}"))));
            }
            Err(conflict) => return Err(Obstacle::new(conflict.to_string(), by_hand())),
        };
        let nothing = acts.is_empty();
        for act in acts {
            let passage = self.passage(Act::Kube(act), format!("take back: {summary}"));
            let result = judged("the inverse", self.road.pass(passage).await);
            result.map_err(|error| Obstacle::new(error.to_string(), by_hand()))?;
        }
        // Also where an earlier undo made it, and broke off.
        if let Some(look) = undo_kube::awaited(act, prior) {
            let seen = self.road.world.look(target, &Look::Kube(look), &context).await;
            seen.map_err(|error| Obstacle::new(error.to_string(), by_hand()))?;
        }
        let how = if nothing { "there was nothing left to take back" } else { "what was there before is there again" };
        Ok(Some(Fate::TakenBack(how.to_owned())))
    }

    /// The object of a change as it is now, in the form that a prior of the change has it in.
    async fn current(&self, act: &KubeAct, context: &CallContext) -> Result<Option<Value>, CallError> {
        let (world, target) = (&self.road.world, &self.entry.request.target);
        // Not by a prior: the dry run in it may be refused for what became of the object since.
        let object = match act {
            KubeAct::Apply { manifest, .. } => Some(ObjectRef::of(manifest).map_err(CallError::Invalid)?),
            KubeAct::Patch { object, subresource: None, .. } => Some(object.clone()),
            _ => None,
        };
        if let Some(object) = object {
            return match world.look(target, &Look::Kube(KubeLook::Get { object }), context).await? {
                Answer::Object(object) => Ok(object),
                _ => Err(CallError::Failed("a look at an object gave something else".to_owned())),
            };
        }
        match world.prior(target, &Act::Kube(act.clone()), context).await? {
            Prior::Object { live, .. } => Ok(live),
            _ => Ok(None),
        }
    }

    async fn overridden(&self, conflict: String) -> Result<(), JournalError> {
        let (instance, call) = (self.entry.instance.clone(), self.entry.call);
        self.unwinding.append(Event::Overridden { instance, call, conflict }).await
    }
}

/// A command as a person would type it.
fn by_hand(target: &Target, act: &Act) -> String {
    let Act::Ssh(runbook_model::call::SshAct::Run { pipeline, .. }) = act else { return format!("look at {target}") };
    let words: Vec<String> = pipeline.iter().map(|command| command.argv.join(" ")).collect();
    let root = if pipeline.iter().any(|command| command.privileged) { "as root " } else { "" };
    format!("on {target} {root}run: {}", words.join(" | "))
}
