//! The one road that every capability call takes: grant, mode, journal, backend, redaction.
//!
//! A [`Broker`] stands for one attempt of one instance of a step. In apply, observations and changes go to the world, a change
//! only after its intent is durable. In a plan or a check of convergence, observations go to the world through the overlay,
//! and changes go into the overlay. What the journal already knows of an attempt is answered from there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_model::call::{
    Act, Answer, Call, CallError, Change, FilesAct, KubeLook, Look, Outcome, Request, Response, Target, Timing, Verdict,
};
use runbook_model::delta;
use runbook_model::event::{Event, Instance};
use runbook_model::grant::{Grants, Passed, Refused};
use runbook_model::history::{Heard, Past, Taped};
use runbook_model::journal;
use runbook_model::overlay::{Overlay, Seen};
use runbook_model::plan::NeedsReceipt;
use runbook_model::redact;
use runbook_model::state::may_have_changed;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, CallContext, Mark, Origin, Progress, Secrets};
use crate::clock;
use crate::journal::{Journal, JournalError, Place};
use crate::plugin::Road;
use crate::replay::{Replay, Replayed};
use crate::shared::{Shared, lock};

/// How long the changes may take that are carried out after their step: to start a workload again, to resume GitOps.
const AFTERWARDS: Duration = Duration::from_secs(15 * 60);

/// What a road does with changes.
#[derive(Clone)]
pub enum Mode {
    /// Carries them out.
    Apply,
    /// Puts them into the overlay of the plan.
    Plan(Arc<Mutex<Overlay>>),
    /// The same, for a check of convergence: nothing of it is shown or kept.
    Check(Arc<Mutex<Overlay>>),
}

/// The count of calls of an instance, and its clock: both go on through its attempts.
#[derive(Debug, Default)]
pub struct Pulse {
    calls: AtomicU32,
    now_ms: AtomicU64,
    /// The attempt has changed something.
    acts: AtomicBool,
}

impl Pulse {
    /// For an instance with this past. A guest that reads the clock before its first call must not find 1970 there: its waits would be
    /// over at once.
    pub fn after(past: Option<&Past>, now_ms: u64) -> Arc<Self> {
        let calls = past.map_or(0, |past| past.calls);
        Arc::new(Self { calls: AtomicU32::new(calls), now_ms: AtomicU64::new(now_ms), acts: AtomicBool::new(false) })
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self, calls: u32, now_ms: u64) {
        self.calls.store(calls, Ordering::Relaxed);
        self.now_ms.store(now_ms, Ordering::Relaxed);
        self.acts.store(false, Ordering::Relaxed);
    }

    pub(crate) fn next(&self) -> u32 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// One attempt of one instance of a step.
pub struct Broker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) world: Arc<dyn Backend>,
    pub(crate) instance: Instance,
    grants: Arc<Grants>,
    secrets: Mutex<Held>,
    pub(crate) roles: Vec<(String, Vec<String>)>,
    cluster: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) deadline: Instant,
    pub(crate) cancel: CancellationToken,
    pulse: Arc<Pulse>,
    replay: Option<Arc<Replay>>,
    pub(crate) tally: Mutex<Tally>,
    /// The receipt without which nothing is changed.
    pub(crate) needs_receipt: Option<NeedsReceipt>,
    /// Read by each change that has left the process and not come back.
    pub(crate) in_flight: Arc<RwLock<()>>,
    pub(crate) this: std::sync::Weak<Self>,
}

/// The secrets that a step holds.
#[derive(Clone)]
struct Held {
    names: BTreeSet<String>,
    values: Arc<Secrets>,
}

impl Held {
    fn new(names: BTreeSet<String>, all: &Secrets) -> Self {
        let values = names.iter().filter_map(|name| Some((name.clone(), all.0.get(name)?.clone()))).collect();
        Self { names, values: Arc::new(Secrets(values)) }
    }
}

/// What an attempt came to, as far as calls tell.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Changes that were carried out, those that repeat by nature left out.
    pub changed: usize,
    /// Changes that were carried out and repeat by nature.
    pub repeated: usize,
    /// Changes that were planned.
    pub planned: Vec<Planned>,
    /// An answer was unknown.
    pub perhaps: bool,
    /// A call that was not granted.
    pub denied: Option<String>,
    /// The answer to a change was lost.
    pub lost: bool,
    /// A person is needed; why.
    pub stuck: Option<String>,
    pub(crate) deferred: Vec<Deferred>,
}

/// A change that a plan found.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What it would do.
    pub summary: String,
    /// It repeats by nature.
    pub repeats: bool,
    /// It is a process, whose output cannot be known.
    pub process: bool,
}

/// A change that waits for its timing.
#[derive(Debug, Clone)]
pub struct Deferred {
    pub(crate) call: u32,
    pub(crate) target: Target,
    pub(crate) change: Change,
}

impl Deferred {
    /// What it will do.
    pub fn summary(&self) -> &str {
        &self.change.effect.summary
    }
}

/// Everything that a broker is made of.
pub struct Setup {
    /// What the run shares.
    pub shared: Arc<Shared>,
    /// Who answers: the run's backend, or what stands before it.
    pub world: Arc<dyn Backend>,
    /// Whose calls these are.
    pub instance: Instance,
    /// What they may do.
    pub grants: Arc<Grants>,
    /// Names of the secrets in its inputs.
    pub secrets: BTreeSet<String>,
    /// The machines, by role.
    pub roles: Vec<(String, Vec<String>)>,
    /// The cluster.
    pub cluster: Option<String>,
    /// What becomes of changes.
    pub mode: Mode,
    /// When the attempt must be over.
    pub deadline: Instant,
    /// The count of the instance's calls.
    pub pulse: Arc<Pulse>,
    /// The receipt without which nothing is changed.
    pub needs_receipt: Option<NeedsReceipt>,
}

impl Broker {
    /// A road for one attempt.
    pub fn new(setup: Setup) -> Arc<Self> {
        Self::going_on(setup, None)
    }

    /// A road for an attempt of which the journal knows a part.
    pub(crate) fn going_on(setup: Setup, replay: Option<Arc<Replay>>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            instance: setup.instance,
            grants: setup.grants,
            secrets: Mutex::new(Held::new(setup.secrets, &setup.shared.secrets)),
            roles: setup.roles,
            cluster: setup.cluster,
            mode: setup.mode,
            deadline: setup.deadline,
            cancel: setup.shared.cancel.clone(),
            shared: setup.shared,
            world: setup.world,
            pulse: setup.pulse,
            replay,
            tally: Mutex::new(Tally::default()),
            needs_receipt: setup.needs_receipt,
            in_flight: Arc::default(),
            this: this.clone(),
        })
    }

    /// A road for requests that stand in the journal. It goes on although the run was cancelled.
    pub(crate) fn of_journal(
        shared: &Arc<Shared>,
        instance: &Instance,
        target: &Target,
        jail: Option<String>,
        pulse: Arc<Pulse>,
    ) -> Arc<Self> {
        Self::new(Setup {
            shared: Arc::clone(shared),
            world: Arc::clone(&shared.backend),
            instance: instance.clone(),
            grants: Arc::new(Grants::of_journal(target, jail)),
            secrets: shared.secrets.0.keys().cloned().collect(),
            roles: Vec::new(),
            cluster: None,
            mode: Mode::Apply,
            deadline: clock::now() + AFTERWARDS,
            pulse,
            needs_receipt: None,
        })
        .afterwards()
    }

    /// Whose calls these are.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// What the attempt came to so far.
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// The number of a call that nobody has made yet.
    pub(crate) fn next_call(&self) -> u32 {
        self.pulse.next()
    }

    /// What the journal knows of the attempt.
    pub(crate) fn replay(&self) -> Option<&Replay> {
        self.replay.as_deref()
    }

    /// The same road for what must be carried out although the step failed, was cancelled or used up its time.
    pub fn afterwards(&self) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            shared: Arc::clone(&self.shared),
            world: Arc::clone(&self.world),
            instance: self.instance.clone(),
            grants: Arc::clone(&self.grants),
            secrets: Mutex::new(lock(&self.secrets).clone()),
            roles: self.roles.clone(),
            cluster: self.cluster.clone(),
            mode: self.mode.clone(),
            deadline: clock::now() + AFTERWARDS,
            cancel: CancellationToken::new(),
            pulse: Arc::clone(&self.pulse),
            replay: self.replay.clone(),
            tally: Mutex::new(Tally::default()),
            needs_receipt: None,
            in_flight: Arc::default(),
            this: this.clone(),
        })
    }

    pub(crate) fn passes(&self, request: &Request) -> Result<Passed, CallError> {
        let strange = request.secrets().into_iter().find(|name| !lock(&self.secrets).names.contains(name));
        let checked = match strange {
            Some(name) => Err(Refused(format!("the step was not given the secret `{name}`"))),
            None => self.grants.check(request),
        };
        checked.map_err(|refused| CallError::Denied(refused.0))
    }

    /// Whether the attempt has changed something.
    pub(crate) fn acts(&self) -> bool {
        self.pulse.acts.load(Ordering::Relaxed)
    }

    /// The secrets that the step holds.
    pub(crate) fn held(&self) -> Arc<Secrets> {
        Arc::clone(&lock(&self.secrets).values)
    }

    /// Takes the secrets out of an answer. Those that stood in it, the step may write back to where it may write.
    pub(crate) fn redact(&self, response: Response) -> Response {
        let (redacted, found) = self.shared.redactor.response(response);
        self.hold(found);
        redacted
    }

    fn hold(&self, found: BTreeSet<String>) {
        let mut held = lock(&self.secrets);
        if !found.is_subset(&held.names) {
            let names = &held.names | &found;
            *held = Held::new(names, &self.shared.secrets);
        }
    }

    /// The circumstances of a call. `change`: it is a change whose intent is this record.
    pub(crate) fn context(&self, jail: Option<String>, call: u32, change: Option<u64>) -> CallContext {
        CallContext {
            deadline: self.deadline,
            cancel: self.cancel.clone(),
            read_only: !matches!(self.mode, Mode::Apply),
            secrets: self.held(),
            passwords: Arc::clone(&self.shared.secrets),
            progress: Arc::new(Reporter { journal: self.shared.journal.clone(), instance: self.instance.clone() }),
            artifacts: self.shared.artifacts.clone(),
            jail,
            field_manager: format!("runbook-{}", self.instance.step.replace('/', "-")),
            mark: change.map(|record| Mark {
                run: self.shared.run.clone(),
                session: self.shared.session(),
                record,
                owner: self.shared.owner.clone(),
            }),
            origin: Some(Origin { instance: self.instance.clone(), call, is_undo: false }),
            runs: Arc::clone(&self.shared.runs),
        }
    }

    /// Writes an event. In a check, calls leave no trace.
    pub(crate) async fn note(&self, event: Event, durable: bool) -> Result<Place, CallError> {
        if matches!(self.mode, Mode::Check(_)) {
            return Ok(Place { seq: 0, at: self.now_ms() });
        }
        let is_answer = !matches!(event, Event::Log { .. } | Event::Progress { .. });
        let place = self.shared.journal.append(event, durable).await.map_err(broken)?;
        // A replay knows the times of answers alone.
        if is_answer {
            self.pulse.now_ms.store(place.at, Ordering::Relaxed);
        }
        Ok(place)
    }

    async fn look(&self, call: u32, target: Target, look: Look, jail: Option<String>) -> Response {
        let started = clock::now();
        let seen = match &self.mode {
            Mode::Apply => Seen::Through,
            Mode::Plan(overlay) | Mode::Check(overlay) => lock(overlay).look(&target, &look),
        };
        let response = match seen {
            Seen::Answer(response) => response,
            seen @ (Seen::Through | Seen::Merge) => {
                let response = self.world.look(&target, &look, &self.context(jail, call, None)).await;
                let response = self.redact(response);
                if matches!(
                    (&self.mode, &look),
                    (Mode::Apply, Look::Kube(KubeLook::Wait { .. } | KubeLook::WaitNone { .. }))
                ) {
                    self.shared.foresight.disturb();
                }
                match (&self.mode, seen) {
                    (Mode::Plan(overlay) | Mode::Check(overlay), Seen::Merge) => {
                        lock(overlay).merge(&target, &look, response)
                    }
                    _ => response,
                }
            }
        };
        if matches!(response, Err(CallError::Unknown(_))) {
            lock(&self.tally).perhaps = true;
        }
        self.looked(call, Request { target, call: Call::Look(look) }, &response, started).await?;
        response
    }

    /// Writes down what was seen. Some things only the world can deny: where a link really leads.
    pub(crate) async fn looked(
        &self,
        call: u32,
        request: Request,
        response: &Response,
        started: Instant,
    ) -> Result<(), CallError> {
        let instance = self.instance.clone();
        let event = match response {
            Err(error @ CallError::Denied(text)) => {
                lock(&self.tally).denied.get_or_insert_with(|| text.clone());
                Event::Denied { instance, call, request, reason: error.to_string() }
            }
            _ => {
                let kept = self.sealed_answer(response)?;
                let response = response.clone();
                Event::Looked { instance, call, request, response, elapsed_us: micros(started), kept }
            }
        };
        self.note(event, false).await.map(drop)
    }

    /// The journal hides values that the guest has seen; in a replay it must see them again.
    fn sealed_answer(&self, response: &Response) -> Result<Option<String>, CallError> {
        let hidden = match response {
            Ok(Answer::Object(Some(object))) => redact::holds_kubernetes_secret(object),
            Ok(Answer::Objects(objects)) => objects.iter().any(redact::holds_kubernetes_secret),
            _ => false,
        };
        let kept = (hidden && matches!(self.mode, Mode::Apply)).then(|| self.shared.vault.keep(response));
        kept.transpose().map_err(|error| CallError::Failed(format!("an answer cannot be kept: {error}")))
    }

    /// Writes down that a call is not let through.
    pub(crate) async fn deny(&self, call: u32, request: Request, error: CallError) -> Response {
        if let CallError::Denied(text) = &error {
            lock(&self.tally).denied.get_or_insert_with(|| text.clone());
        }
        let reason = error.to_string();
        self.note(Event::Denied { instance: self.instance.clone(), call, request, reason }, false).await?;
        Err(error)
    }

    /// Answers a call as it was answered before.
    async fn again(&self, call: u32, request: Request, taped: Taped) -> Response {
        self.pulse.now_ms.store(taped.at, Ordering::Relaxed);
        match (taped.what, request.call) {
            (Heard::Looked { response, .. }, _) => {
                let text = serde_json::to_string(&response).unwrap_or_default();
                self.hold(redact::names(&text));
                response
            }
            (Heard::Denied(reason), _) => {
                lock(&self.tally).denied.get_or_insert_with(|| reason.clone());
                Err(CallError::Denied(reason))
            }
            (Heard::Changed(response), Call::Change(change)) => {
                self.count(&change, &response);
                response
            }
            (Heard::Unchanged, Call::Change(change)) => Ok(already(&change.act)),
            (Heard::Deferred, Call::Change(change)) => {
                let answer = deferred(&change.act);
                lock(&self.tally).deferred.push(Deferred { call, target: request.target, change });
                Ok(answer)
            }
            (Heard::InDoubt, Call::Change(change)) => self.settle(call, request.target, change).await,
            (
                Heard::Changed(_) | Heard::Unchanged | Heard::Deferred | Heard::InDoubt,
                Call::Look(_) | Call::Note(_),
            ) => Err(CallError::Failed("internal error: a look was recorded as a change".to_owned())),
        }
    }

    /// Counts what a change came to.
    pub(crate) fn count(&self, change: &Change, response: &Response) {
        if may_have_changed(response) {
            self.pulse.acts.store(true, Ordering::Relaxed);
            let mut tally = lock(&self.tally);
            *(if change.effect.repeats { &mut tally.repeated } else { &mut tally.changed }) += 1;
        }
    }

    async fn defer(&self, call: u32, target: Target, change: Change, jail: Option<String>) -> Response {
        let answer = deferred(&change.act);
        if matches!(self.mode, Mode::Apply) {
            // Durable before the next change: also a crash must not forget it. That change's intent does it where
            // there is nothing to be carried out without one.
            let moot = change.effect.timing == Timing::StepEndIfChanged && !self.has_changed();
            let request = Request { target: target.clone(), call: Call::Change(change.clone()) };
            // It must be carried out as it is, also where the journal hides a part of it.
            let hidden = journal::cleaned(&request, &self.shared.redactor).as_ref() != Some(&request);
            let kept = hidden.then(|| self.shared.vault.keep(&request)).transpose();
            let kept = kept.map_err(|error| CallError::Failed(format!("a change cannot be kept: {error}")))?;
            let event = Event::Deferred { instance: self.instance.clone(), call, request, jail, kept };
            self.note(event, !moot).await?;
        }
        lock(&self.tally).deferred.push(Deferred { call, target, change });
        Ok(answer)
    }
}

#[async_trait]
impl Road for Broker {
    async fn call(&self, request: Request) -> Response {
        let call = self.pulse.next();
        if let Some(replay) = &self.replay {
            match replay.answer(call, &request, &self.shared.redactor) {
                Replayed::Live => {}
                Replayed::Said => return Ok(Answer::Unit),
                Replayed::Heard(taped) => return self.again(call, request, *taped).await,
                Replayed::Diverged(why) => return Err(CallError::Failed(format!("the replay broke off: {why}"))),
            }
        }
        if self.cancel.is_cancelled() {
            return Err(CallError::Failed("the run was cancelled".to_owned()));
        }
        let jail = match self.passes(&request) {
            Ok(passed) => passed.jail,
            Err(error) => return self.deny(call, request, error).await,
        };
        let Request { target, call: what } = request;
        match what {
            Call::Look(look) => {
                let asked = target.clone();
                match self.look(call, target, look, jail).await {
                    Ok(answer) => Ok(answer),
                    // Absence is an answer; everything else may only be so because an earlier step has not run yet.
                    Err(error @ CallError::NotFound(_)) => Err(error),
                    Err(error) => self.before_its_time(&asked, error),
                }
            }
            Call::Change(change) => match change.effect.timing {
                Timing::Now => self.change(call, target, change, jail).await,
                Timing::StepEnd | Timing::StepEndIfChanged | Timing::BlockEnd => {
                    self.defer(call, target, change, jail).await
                }
            },
            Call::Note(note) => self.word(note).await,
        }
    }

    fn targets(&self, role: &str) -> Vec<String> {
        self.roles.iter().find(|(name, _)| name == role).map(|(_, hosts)| hosts.clone()).unwrap_or_default()
    }

    fn cluster(&self) -> Option<String> {
        self.cluster.clone()
    }

    fn now_ms(&self) -> u64 {
        self.pulse.now_ms.load(Ordering::Relaxed)
    }

    fn seed(&self) -> u64 {
        let digest = delta::sha256(format!("{} {}", self.shared.run, self.instance).as_bytes());
        u64::from_str_radix(&digest[..16], 16).unwrap_or_default()
    }
}

/// The targets of an instance: its machines, its cluster, and the controller's files.
pub fn targets(roles: &[(String, Vec<String>)], cluster: Option<&str>) -> BTreeSet<Target> {
    let machines = roles.iter().flat_map(|(_, hosts)| hosts).map(|host| Target::Machine(host.clone()));
    // What of the controller may be read is for the path patterns to say.
    machines.chain(cluster.map(|name| Target::Cluster(name.to_owned()))).chain([Target::Controller]).collect()
}

/// Shows what a call is waiting for.
struct Reporter {
    journal: Journal,
    instance: Instance,
}

impl Progress for Reporter {
    fn progress(&self, message: &str, done: u64, total: Option<u64>, unit: &str) {
        let event = Event::Progress {
            instance: self.instance.clone(),
            message: message.to_owned(),
            done,
            total,
            unit: unit.to_owned(),
        };
        self.journal.tell(event);
    }

    fn line(&self, line: &str) {
        self.progress(line, 0, None, "");
    }

    fn took_over(&self, target: &str, run: &str, session: u32) {
        let (target, run) = (target.to_owned(), run.to_owned());
        self.journal.tell(Event::TookOver { instance: self.instance.clone(), target, run, session });
    }
}

/// Whether a change is a process, whose output nobody knows before.
pub(crate) fn is_process(act: &Act) -> bool {
    match act {
        Act::Ssh(_) => true,
        Act::Kube(act) => matches!(act, runbook_model::call::KubeAct::Exec { .. }),
        Act::Files(FilesAct { .. }) => false,
    }
}

/// What a change that is so already answers.
pub(crate) fn already(act: &Act) -> Answer {
    if is_process(act) { Answer::Outcome(Outcome::Already) } else { Answer::Verdict(Verdict::Unchanged) }
}

fn deferred(act: &Act) -> Answer {
    if is_process(act) { Answer::Outcome(Outcome::Deferred) } else { Answer::Verdict(Verdict::Deferred) }
}

pub(crate) fn broken(error: JournalError) -> CallError {
    CallError::Failed(error.to_string())
}

pub(crate) fn micros(since: Instant) -> u64 {
    u64::try_from(clock::since(since).as_micros()).unwrap_or(u64::MAX)
}
