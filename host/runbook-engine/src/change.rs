//! The part of the road that changes take: what is there before, intent, the act, its answer; what waits for its time; what is in
//! doubt.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use runbook_model::call::{
    Act, Answer, Call, CallError, Change, Content, Exit, FileWant, FilesAct, Finding, KubeAct, Outcome, Output,
    PodOutput, PodUndo, Prior, Request, Response, SshAct, Target, Timing, Undo, Verdict,
};
use runbook_model::delta::{self, delta};
use runbook_model::event::{Diff, Event, Settlement};
use runbook_model::redact;

use crate::broker::{Broker, Deferred, Mode, Planned, already, is_process, micros};
use crate::clock;
use crate::replay::Doubt;
use crate::shared::lock;

/// How long a change that is being ended may take to say how it ended.
const SETTLING: Duration = Duration::from_secs(60);

/// A change on its way.
pub(crate) struct Passage {
    pub(crate) call: u32,
    pub(crate) target: Target,
    pub(crate) change: Change,
    /// The granted path that let it pass.
    pub(crate) jail: Option<String>,
    /// The call of the instance that it takes back.
    pub(crate) undoes: Option<u32>,
}

impl Passage {
    fn request(&self) -> Request {
        Request { target: self.target.clone(), call: Call::Change(self.change.clone()) }
    }
}

impl Broker {
    /// A change that a guest asks for.
    pub(crate) async fn change(&self, call: u32, target: Target, change: Change, jail: Option<String>) -> Response {
        self.pass(Passage { call, target, change, jail, undoes: None }).await
    }

    /// Carries a change out, or plans it, unless it is so already.
    pub(crate) async fn pass(&self, passage: Passage) -> Response {
        let started = clock::now();
        let Passage { call, target, change, .. } = &passage;
        let context = self.context(passage.jail.clone(), *call, None).of_undo(passage.undoes.is_some());
        let prior = match &self.mode {
            Mode::Apply => self.world.prior(target, &change.act, &context).await,
            Mode::Plan(overlay) | Mode::Check(overlay) => {
                let planned = lock(overlay).prior(target, &change.act, |content| self.wanted_sha256(content));
                match planned {
                    Some(prior) => prior,
                    None => self.world.prior(target, &change.act, &context).await,
                }
            }
        };
        let prior = match prior {
            Ok(prior) => prior,
            Err(error) => {
                let error = self.shared.redactor.error(error);
                self.looked(*call, passage.request(), &Err(error.clone()), started).await?;
                return self.before_its_time(target, error);
            }
        };
        let visible = self.shared.redactor.prior(prior.clone());
        let Some(diff) = delta(change, &visible) else {
            let event = Event::Unchanged { instance: self.instance.clone(), call: *call, request: passage.request() };
            self.note(event, false).await?;
            return Ok(already(&change.act));
        };
        match &self.mode {
            Mode::Plan(overlay) | Mode::Check(overlay) => {
                lock(overlay).record(&self.instance.step, target, change, &visible);
                self.planned(passage, diff).await
            }
            Mode::Apply => self.apply(passage, diff, prior, visible).await,
        }
    }

    async fn planned(&self, passage: Passage, diff: Diff) -> Response {
        let process = is_process(&passage.change.act);
        let perhaps = {
            let mut tally = lock(&self.tally);
            let repeats = passage.change.effect.repeats;
            tally.planned.push(Planned { summary: diff.summary.clone(), repeats, process });
            tally.perhaps
        };
        let (instance, call, request) = (self.instance.clone(), passage.call, passage.request());
        self.note(Event::Planned { instance, call, request, diff, perhaps }, false).await?;
        Ok(if process { Answer::Outcome(Outcome::Planned) } else { Answer::Verdict(Verdict::Changed) })
    }

    async fn apply(&self, passage: Passage, diff: Diff, prior: Prior, visible: Prior) -> Response {
        let of_ask = self.passes(&passage.request())?.needs_receipt;
        // What a step was proven to have before it changed something may grow old while it is at work, and while nobody goes on with it.
        let may_be_old = self.acts();
        let of_step = self.required_receipt().map(|needs| (needs, may_be_old));
        for (needs, may_be_old) in of_step.into_iter().chain(of_ask.as_ref().map(|needs| (needs, false))) {
            if let Err(error) = self.receipt(needs, may_be_old).await {
                return self.deny(passage.call, passage.request(), error).await;
            }
        }
        let started = clock::now();
        let kept = match &prior {
            Prior::None | Prior::DoneWhen(_) | Prior::Process { .. } => None,
            Prior::File(_) | Prior::Object { .. } | Prior::PodFile { .. } => {
                Some(self.shared.vault.keep(&prior).map_err(|error| {
                    CallError::Failed(format!("what is there before the change cannot be kept: {error}"))
                })?)
            }
        };
        let intent = Event::Intended {
            instance: self.instance.clone(),
            call: passage.call,
            request: passage.request(),
            prior: without_contents(&passage.change.act, &prior, visible),
            diff,
            jail: passage.jail.clone(),
            undoes: passage.undoes,
            kept,
        };
        let place = self.note(intent, true).await?;
        let context = self.context(passage.jail.clone(), passage.call, Some(place.seq));
        let context = context.of_undo(passage.undoes.is_some());
        // A task of its own: the call's result is recorded even if the guest that asked for it is gone by then.
        let this = self.this.upgrade().ok_or_else(|| CallError::Failed("the step has ended".to_owned()))?;
        let leaving = Arc::clone(&self.in_flight).read_owned().await;
        let task = tokio::spawn(async move {
            let _leaving = leaving;
            let Passage { call, target, change, .. } = passage;
            this.shared.foresight.disturb();
            let response = this.world.act(&target, &change.act, &prior, &context).await;
            this.shared.foresight.disturb();
            let response = this.redact(response);
            this.came_back(call, &change, &response, started).await?;
            response
        });
        task.await.unwrap_or_else(|error| Err(CallError::Unreachable(format!("the call broke off: {error}"))))
    }

    /// Writes down what a change came back with. Where nobody answered, it is in doubt from now on.
    async fn came_back(
        &self,
        call: u32,
        change: &Change,
        response: &Response,
        started: Instant,
    ) -> Result<(), CallError> {
        let instance = self.instance.clone();
        let event = match response {
            Err(error @ CallError::Unreachable(_)) => {
                lock(&self.tally).lost = true;
                Event::Lost { instance, call, error: error.clone() }
            }
            response => Event::Changed { instance, call, response: response.clone(), elapsed_us: micros(started) },
        };
        self.count(change, response);
        self.note(event, false).await.map(drop)
    }

    /// Finds out what became of a change whose answer was lost, and brings it to its end.
    pub(crate) async fn settle(&self, call: u32, target: Target, change: Change) -> Response {
        let Some(doubt) = self.replay().and_then(|replay| replay.doubt(call)) else {
            return Err(CallError::Failed("internal error: nothing is known of a change in doubt".to_owned()));
        };
        let jail = self.passes(&Request { target: target.clone(), call: Call::Change(change.clone()) })?.jail;
        self.bring_to_end(Passage { call, target, change, jail, undoes: None }, doubt).await
    }

    async fn bring_to_end(&self, passage: Passage, doubt: Doubt) -> Response {
        match self.find_out(&passage, doubt).await? {
            Some(answer) => Ok(answer),
            None => self.pass(passage).await,
        }
    }

    /// Finds out what became of a change whose answer was lost: its answer; none, where it is as if it had never left.
    pub(crate) async fn find_out(&self, passage: &Passage, doubt: Doubt) -> Result<Option<Answer>, CallError> {
        let started = clock::now();
        let Passage { call, change, .. } = passage;
        let finding = if doubt.is_done {
            // A person's word: there is no output.
            Ok(Finding::Done(done_by_word(&change.act)))
        } else {
            let context = self.context(passage.jail.clone(), *call, Some(doubt.record));
            let context = context.of_undo(passage.undoes.is_some());
            self.world.settle(&passage.target, &change.act, &doubt.prior, &context).await
        };
        self.shared.foresight.disturb();
        let why = |text: &str| text.to_owned();
        match finding {
            Ok(Finding::Done(answer)) => {
                // The intent says that it was not so before: so it is ours, and an undo takes it back.
                let answer = match answer {
                    Answer::Outcome(Outcome::Already) => {
                        done_unheard(&change.act, "it was carried out; what it gave is not known\n")
                    }
                    answer => answer,
                };
                let response = self.redact(Ok(answer));
                if !doubt.is_done {
                    self.settled_as(*call, Settlement::Done, why("it was carried out")).await?;
                }
                self.came_back(*call, change, &response, started).await?;
                response.map(Some)
            }
            Ok(Finding::NotDone) => {
                self.settled_as(*call, Settlement::NotDone, why("it was not carried out")).await?;
                Ok(None)
            }
            Ok(Finding::Unclear(text)) if does_no_harm_twice(change) => {
                let text = format!("{text}; doing it again does no harm");
                self.settled_as(*call, Settlement::Again, text).await?;
                Ok(None)
            }
            Ok(Finding::Unclear(text)) => {
                let text = self.shared.redactor.text(&text);
                self.settled_as(*call, Settlement::Unclear, text.clone()).await?;
                self.stuck(Some(*call), text.clone(), Vec::new()).await?;
                Err(CallError::Failed(format!("nobody can tell whether this was done: {text}")))
            }
            Err(error) => {
                lock(&self.tally).lost = true;
                Err(self.shared.redactor.error(error))
            }
        }
    }

    async fn settled_as(&self, call: u32, finding: Settlement, why: String) -> Result<(), CallError> {
        let event = Event::Settled { instance: self.instance.clone(), call, finding, why };
        self.note(event, true).await.map(drop)
    }

    /// A person is needed.
    pub(crate) async fn stuck(&self, call: Option<u32>, why: String, manual: Vec<String>) -> Result<(), CallError> {
        lock(&self.tally).stuck.get_or_insert_with(|| why.clone());
        let event = Event::Stuck { instance: self.instance.clone(), call, why, manual };
        self.note(event, true).await.map(drop)
    }

    /// Waits for the changes that a guest left behind when its time was over: what ends them, and says how, comes a little later.
    pub async fn settled(&self) {
        // Whatever does not come back in this time is in doubt.
        let _ = tokio::time::timeout(SETTLING, self.in_flight.write()).await;
    }

    /// Carries out what was deferred to the end of the step, last in, first out. Gives what waits for the end of the block, and the
    /// first change that failed; the others are tried all the same.
    pub async fn finish(&self) -> (Vec<Deferred>, Result<(), CallError>) {
        let deferred = std::mem::take(&mut lock(&self.tally).deferred);
        if deferred.is_empty() {
            return (Vec::new(), Ok(()));
        }
        let road = self.afterwards();
        // Where only a person can tell what became of a change, the step is not at its end: it is gone on with in the middle, and what
        // it needs there must not go before.
        let is_stuck = lock(&self.tally).stuck.is_some();
        let (mut later, mut finished) = (Vec::new(), Ok(()));
        for change in deferred.into_iter().rev() {
            if let Some(has_changed) = self.replay().and_then(|replay| replay.carried(change.call)) {
                lock(&self.tally).changed += usize::from(has_changed && !change.change.effect.repeats);
                continue;
            }
            let in_doubt = self.replay().is_some_and(|replay| replay.doubt(change.call).is_some());
            match change.change.effect.timing {
                Timing::BlockEnd => later.push(change),
                Timing::StepEnd | Timing::StepEndIfChanged if is_stuck => {}
                Timing::StepEndIfChanged if !self.has_changed() && !in_doubt => {
                    finished = finished.and(self.lapses(change.call).await);
                }
                Timing::StepEndIfChanged | Timing::StepEnd | Timing::Now => {
                    finished = finished.and(road.carry_out(change).await);
                }
            }
        }
        let afterwards = road.tally();
        let mut tally = lock(&self.tally);
        tally.changed += afterwards.changed;
        tally.repeated += afterwards.repeated;
        tally.planned.extend(afterwards.planned);
        tally.perhaps |= afterwards.perhaps;
        tally.lost |= afterwards.lost;
        tally.stuck = tally.stuck.take().or(afterwards.stuck);
        drop(tally);
        later.reverse();
        (later, finished)
    }

    async fn lapses(&self, call: u32) -> Result<(), CallError> {
        if !matches!(self.mode, Mode::Apply) {
            return Ok(());
        }
        self.note(Event::Lapsed { instance: self.instance.clone(), call }, false).await.map(drop)
    }

    /// Whether something was changed, or planned.
    pub(crate) fn has_changed(&self) -> bool {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.changed + tally.repeated + tally.planned.len() > 0
    }

    /// Carries out a change whose time has come.
    ///
    /// # Errors
    ///
    /// It failed; a command that ended with another code than 0 did.
    pub async fn carry_out(&self, deferred: Deferred) -> Result<(), CallError> {
        let Deferred { call, target, change } = deferred;
        let summary = change.effect.summary.clone();
        let jail = self.passes(&Request { target: target.clone(), call: Call::Change(change.clone()) })?.jail;
        let passage = Passage { call, target, change, jail, undoes: None };
        let response = match self.replay().and_then(|replay| replay.doubt(call)) {
            Some(doubt) => self.bring_to_end(passage, doubt).await,
            None => self.pass(passage).await,
        };
        judged(&summary, response)
    }

    /// In a plan, what cannot be looked at because something before it is only planned, is unknown and no error.
    pub(crate) fn before_its_time(&self, target: &Target, error: CallError) -> Response {
        let overlay = match &self.mode {
            Mode::Apply => return Err(error),
            Mode::Plan(overlay) | Mode::Check(overlay) => overlay,
        };
        let pending = lock(overlay).pending(target).map(str::to_owned);
        match (pending, error) {
            (_, error @ (CallError::Denied(_) | CallError::Unknown(_))) | (None, error) => {
                if matches!(error, CallError::Unknown(_)) {
                    lock(&self.tally).perhaps = true;
                }
                Err(error)
            }
            (Some(step), error) => {
                lock(&self.tally).perhaps = true;
                Err(CallError::Unknown(format!("cannot be looked at before {step} ({error})")))
            }
        }
    }

    fn wanted_sha256(&self, content: &Content) -> String {
        match delta::visible(content) {
            Some(bytes) => {
                let held = self.held();
                let value = |name: &str| held.0.get(name).map(String::as_str);
                delta::sha256(&redact::put_back(&bytes, value))
            }
            None => runbook_model::overlay::plain_sha256(content),
        }
    }
}

/// A change that nobody but the program asked for: a command must end with exit code 0.
pub(crate) fn judged(summary: &str, response: Response) -> Result<(), CallError> {
    match response? {
        Answer::Outcome(Outcome::Done(output)) if !output.exit.success() => {
            let tail = output.stderr.lossy();
            let tail = tail.trim().lines().last().unwrap_or_default();
            Err(CallError::Failed(format!("{summary}: {}: {tail}", output.exit)))
        }
        Answer::Outcome(Outcome::PodDone(output)) if output.exit_code != 0 => {
            Err(CallError::Failed(format!("{summary}: exit code {}", output.exit_code)))
        }
        _ => Ok(()),
    }
}

/// What a change answers that a person says is done.
fn done_by_word(act: &Act) -> Answer {
    done_unheard(act, "a person said that it is done; what it gave is not known\n")
}

/// What a change answers of which only is known that it was done; `stderr` says so where it is a process.
fn done_unheard(act: &Act, stderr: &str) -> Answer {
    match act {
        Act::Ssh(_) => Answer::Outcome(Outcome::Done(Output {
            exit: Exit::Code(0),
            stdout: Default::default(),
            stderr: stderr.into(),
        })),
        Act::Kube(KubeAct::Exec { .. }) => Answer::Outcome(Outcome::PodDone(PodOutput {
            exit_code: 0,
            stdout: Default::default(),
            stderr: stderr.into(),
        })),
        Act::Files(_) | Act::Kube(_) => Answer::Verdict(Verdict::Changed),
    }
}

fn does_no_harm_twice(change: &Change) -> bool {
    match &change.act {
        Act::Ssh(SshAct::Run { undo, .. } | SshAct::Http { undo, .. }) => *undo == Undo::Harmless,
        Act::Kube(KubeAct::Exec { undo, .. }) => *undo == PodUndo::Harmless,
        Act::Ssh(SshAct::Reboot { .. } | SshAct::Confirm { .. }) | Act::Files(_) | Act::Kube(_) => false,
    }
}

/// What was there before, as it may stand in the journal in plain: the contents are sealed beside it. The hash of a content tells a
/// short secret in it to whoever can guess: such hashes are not written either.
fn without_contents(act: &Act, prior: &Prior, visible: Prior) -> Prior {
    match (visible, prior) {
        (Prior::File(mut visible), Prior::File(raw)) => {
            let secret = matches!(act, Act::Files(FilesAct { want: FileWant::File { content: Content::Text(text), .. }, .. })
                if text.has_secret());
            if secret {
                visible.wanted_sha256 = None;
            }
            if secret || raw.content != visible.content {
                visible.sha256 = None;
            }
            visible.content = None;
            Prior::File(visible)
        }
        (Prior::Object { .. } | Prior::PodFile { .. }, _) => Prior::None,
        (visible, _) => visible,
    }
}
