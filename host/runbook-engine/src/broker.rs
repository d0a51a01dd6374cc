//! The one road that every capability call takes: grant, mode, journal, backend, redaction.
//!
//! A [`Broker`] stands for one attempt of one instance of a step. In apply, observations and changes go to the world, a change
//! only after its intent is durable. In a plan or a check of convergence, observations go to the world through the overlay,
//! and changes go into the overlay.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_model::call::{
    Act, Answer, Call, CallError, Change, Content, FileWant, FilesAct, KubeLook, Look, Note, Outcome, Prior, Request,
    Response, Target, Timing, Verdict,
};
use runbook_model::delta::{self, delta};
use runbook_model::event::{Diff, Event, Instance};
use runbook_model::grant::{Grants, Refused};
use runbook_model::overlay::{Overlay, Seen};
use runbook_model::redact::{self, Redactor};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use crate::ahead::Foresight;
use crate::backend::{Backend, CallContext, Progress, Secrets};
use crate::journal::{self, Journal, JournalError};
use crate::plugin::Road;

/// How long the changes may take that are carried out after their step: to start a workload again, to resume GitOps.
const AFTERWARDS: Duration = Duration::from_secs(15 * 60);

/// How long a change that is being ended may take to say how it ended.
const SETTLING: Duration = Duration::from_secs(60);

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
    /// Folder of artifacts.
    pub artifacts: PathBuf,
    /// Cancelled when the run is.
    pub cancel: CancellationToken,
    /// Name of the run.
    pub run: String,
    /// The first value under each key, by step.
    pub baselines: Mutex<BTreeMap<(String, String), serde_json::Value>>,
    /// What is known of the next steps.
    pub foresight: Arc<Foresight>,
}

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

/// One attempt of one instance of a step.
pub struct Broker {
    shared: Arc<Shared>,
    world: Arc<dyn Backend>,
    instance: Instance,
    grants: Arc<Grants>,
    secrets: Mutex<Held>,
    roles: Vec<(String, Vec<String>)>,
    cluster: Option<String>,
    mode: Mode,
    deadline: Instant,
    cancel: CancellationToken,
    calls: AtomicU32,
    now_ms: AtomicU64,
    tally: Mutex<Tally>,
    /// Read by each change that has left the process and not come back.
    in_flight: Arc<RwLock<()>>,
    this: std::sync::Weak<Self>,
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
    deferred: Vec<Deferred>,
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
    call: u32,
    target: Target,
    change: Change,
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
}

impl Broker {
    /// A road for one attempt.
    pub fn new(setup: Setup) -> Arc<Self> {
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
            calls: AtomicU32::new(0),
            // A guest that reads the clock before its first call must not find 1970 there: its waits would be over at once.
            now_ms: AtomicU64::new(journal::now_ms()),
            tally: Mutex::new(Tally::default()),
            in_flight: Arc::default(),
            this: this.clone(),
        })
    }

    /// Whose calls these are.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// What the attempt came to so far.
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
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
            deadline: Instant::now() + AFTERWARDS,
            cancel: CancellationToken::new(),
            calls: AtomicU32::new(self.calls.load(Ordering::Relaxed)),
            now_ms: AtomicU64::new(self.now_ms()),
            tally: Mutex::new(Tally::default()),
            in_flight: Arc::default(),
            this: this.clone(),
        })
    }

    /// Waits for the changes that a guest left behind when its time was over: what ends them, and says how, comes a little later.
    pub async fn settled(&self) {
        // Whatever does not come back in this time is in doubt.
        let _ = tokio::time::timeout(SETTLING, self.in_flight.write()).await;
    }

    /// Carries out what was deferred to the end of the step, last in, first out. The rest is given back, for the end of the block.
    ///
    /// # Errors
    ///
    /// The first change that failed; the others are tried all the same.
    pub async fn finish(&self) -> Result<Vec<Deferred>, CallError> {
        let deferred = std::mem::take(&mut lock(&self.tally).deferred);
        if deferred.is_empty() {
            return Ok(Vec::new());
        }
        let changed = self.has_changed();
        let road = self.afterwards();
        let (mut later, mut failed) = (Vec::new(), None);
        for change in deferred.into_iter().rev() {
            match change.change.effect.timing {
                Timing::BlockEnd => later.push(change),
                Timing::StepEndIfChanged if !changed => {}
                Timing::StepEndIfChanged | Timing::StepEnd | Timing::Now => {
                    if let Err(error) = road.carry_out(change).await {
                        failed.get_or_insert(error);
                    }
                }
            }
        }
        let afterwards = road.tally();
        let mut tally = lock(&self.tally);
        tally.changed += afterwards.changed;
        tally.repeated += afterwards.repeated;
        tally.planned.extend(afterwards.planned);
        tally.perhaps |= afterwards.perhaps;
        drop(tally);
        later.reverse();
        failed.map_or(Ok(later), Err)
    }

    /// Whether something was changed, or planned.
    fn has_changed(&self) -> bool {
        let tally = lock(&self.tally);
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
        let jail = self.passes(&Request { target: target.clone(), call: Call::Change(change.clone()) })?;
        match self.change(call, target, change, jail).await? {
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

    fn passes(&self, request: &Request) -> Result<Option<String>, CallError> {
        let strange = request.secrets().into_iter().find(|name| !lock(&self.secrets).names.contains(name));
        let checked = match strange {
            Some(name) => Err(Refused(format!("the step was not given the secret `{name}`"))),
            None => self.grants.check(request),
        };
        match checked {
            Ok(passed) => Ok(passed.jail),
            Err(refused) => {
                lock(&self.tally).denied.get_or_insert_with(|| refused.0.clone());
                Err(CallError::Denied(refused.0))
            }
        }
    }

    /// The secrets that the step holds.
    fn held(&self) -> Arc<Secrets> {
        Arc::clone(&lock(&self.secrets).values)
    }

    /// Takes the secrets out of an answer. Those that stood in it, the step may write back to where it may write.
    fn redact(&self, response: Response) -> Response {
        let (redacted, found) = self.shared.redactor.response(response);
        let mut held = lock(&self.secrets);
        if !found.is_subset(&held.names) {
            let names = &held.names | &found;
            *held = Held::new(names, &self.shared.secrets);
        }
        redacted
    }

    fn context(&self, jail: Option<String>) -> CallContext {
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
            mark: None,
        }
    }

    /// Writes an event. In a check, calls leave no trace.
    async fn note(&self, event: Event, durable: bool) -> Result<(), CallError> {
        if matches!(self.mode, Mode::Check(_)) {
            return Ok(());
        }
        let at = self.shared.journal.append(event, durable).await.map_err(broken)?;
        self.now_ms.store(at, Ordering::Relaxed);
        Ok(())
    }

    async fn look(&self, call: u32, target: Target, look: Look, jail: Option<String>) -> Response {
        let started = Instant::now();
        let seen = match &self.mode {
            Mode::Apply => Seen::Through,
            Mode::Plan(overlay) | Mode::Check(overlay) => lock(overlay).look(&target, &look),
        };
        let response = match seen {
            Seen::Answer(response) => response,
            seen @ (Seen::Through | Seen::Merge) => {
                let response = self.world.look(&target, &look, &self.context(jail)).await;
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
    async fn looked(
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
            _ => Event::Looked { instance, call, request, response: response.clone(), elapsed_us: micros(started) },
        };
        self.note(event, false).await
    }

    async fn change(&self, call: u32, target: Target, change: Change, jail: Option<String>) -> Response {
        let started = Instant::now();
        let context = self.context(jail);
        let prior = match &self.mode {
            Mode::Apply => self.world.prior(&target, &change.act, &context).await,
            Mode::Plan(overlay) | Mode::Check(overlay) => {
                let planned = lock(overlay).prior(&target, &change.act, |content| self.wanted_sha256(content));
                match planned {
                    Some(prior) => prior,
                    None => self.world.prior(&target, &change.act, &context).await,
                }
            }
        };
        let prior = match prior {
            Ok(prior) => prior,
            Err(error) => {
                let error = self.shared.redactor.error(error);
                let request = Request { target: target.clone(), call: Call::Change(change.clone()) };
                self.looked(call, request, &Err(error.clone()), started).await?;
                return self.before_its_time(&target, error);
            }
        };
        let visible = self.shared.redactor.prior(prior.clone());
        let request = Request { target: target.clone(), call: Call::Change(change.clone()) };
        let Some(diff) = delta(&change, &visible) else {
            let event = Event::Unchanged { instance: self.instance.clone(), call, request };
            self.note(event, false).await?;
            return Ok(already(&change.act));
        };
        match &self.mode {
            Mode::Plan(overlay) | Mode::Check(overlay) => {
                lock(overlay).record(&self.instance.step, &target, &change, &visible);
                self.planned(call, request, diff, change).await
            }
            Mode::Apply => self.apply(call, request, diff, change, prior, visible, &context).await,
        }
    }

    async fn planned(&self, call: u32, request: Request, diff: Diff, change: Change) -> Response {
        let perhaps = {
            let mut tally = lock(&self.tally);
            let process = match &change.act {
                Act::Ssh(_) => true,
                Act::Kube(act) => is_process(act),
                Act::Files(_) => false,
            };
            tally.planned.push(Planned { summary: diff.summary.clone(), repeats: change.effect.repeats, process });
            tally.perhaps
        };
        self.note(Event::Planned { instance: self.instance.clone(), call, request, diff, perhaps }, false).await?;
        Ok(match change.act {
            Act::Files(_) => Answer::Verdict(Verdict::Changed),
            Act::Kube(act) if !is_process(&act) => Answer::Verdict(Verdict::Changed),
            Act::Ssh(_) | Act::Kube(_) => Answer::Outcome(Outcome::Planned),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "they are one change, taken apart")]
    async fn apply(
        &self,
        call: u32,
        request: Request,
        diff: Diff,
        change: Change,
        prior: Prior,
        visible: Prior,
        context: &CallContext,
    ) -> Response {
        let started = Instant::now();
        let target = request.target.clone();
        let prior_of_journal = without_hashes_of_secrets(&change.act, &prior, visible);
        let intent = Event::Intended { instance: self.instance.clone(), call, request, prior: prior_of_journal, diff };
        self.note(intent, true).await?;
        // A task of its own: the call's result is recorded even if the guest that asked for it is gone by then.
        let this = self.this.upgrade().ok_or_else(|| CallError::Failed("the step has ended".to_owned()))?;
        let (context, act, repeats) = (context.clone(), change.act, change.effect.repeats);
        let leaving = Arc::clone(&self.in_flight).read_owned().await;
        let task = tokio::spawn(async move {
            let _leaving = leaving;
            this.shared.foresight.disturb();
            let response = this.world.act(&target, &act, &prior, &context).await;
            this.shared.foresight.disturb();
            let response = this.redact(response);
            if has_changed(&response) {
                let mut tally = lock(&this.tally);
                *(if repeats { &mut tally.repeated } else { &mut tally.changed }) += 1;
            }
            let event = Event::Changed {
                instance: this.instance.clone(),
                call,
                response: response.clone(),
                elapsed_us: micros(started),
            };
            this.note(event, false).await?;
            response
        });
        task.await.unwrap_or_else(|error| Err(CallError::Unreachable(format!("the call broke off: {error}"))))
    }

    /// In a plan, what cannot be looked at because something before it is only planned, is unknown and no error.
    fn before_its_time(&self, target: &Target, error: CallError) -> Response {
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

    async fn word(&self, note: Note) -> Response {
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
}

#[async_trait]
impl Road for Broker {
    async fn call(&self, request: Request) -> Response {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if self.cancel.is_cancelled() {
            return Err(CallError::Failed("the run was cancelled".to_owned()));
        }
        let jail = match self.passes(&request) {
            Ok(jail) => jail,
            Err(error) => {
                let reason = error.to_string();
                self.note(Event::Denied { instance: self.instance.clone(), call, request, reason }, false).await?;
                return Err(error);
            }
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
                    let request = Request { target: target.clone(), call: Call::Change(change.clone()) };
                    let answer = match change.act {
                        Act::Files(_) => Answer::Verdict(Verdict::Deferred),
                        Act::Kube(ref act) if !is_process(act) => Answer::Verdict(Verdict::Deferred),
                        Act::Ssh(_) | Act::Kube(_) => Answer::Outcome(Outcome::Deferred),
                    };
                    if matches!(self.mode, Mode::Apply) {
                        // Durable before the next change: also a crash must not forget it. That change's intent does it where
                        // there is nothing to be carried out without one.
                        let moot = change.effect.timing == Timing::StepEndIfChanged && !self.has_changed();
                        self.note(Event::Deferred { instance: self.instance.clone(), call, request }, !moot).await?;
                    }
                    lock(&self.tally).deferred.push(Deferred { call, target, change });
                    Ok(answer)
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
        self.now_ms.load(Ordering::Relaxed)
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
}

/// The hash of a content tells a short secret in it to whoever can guess: such hashes are not written.
fn without_hashes_of_secrets(act: &Act, prior: &Prior, mut visible: Prior) -> Prior {
    if let (Act::Files(FilesAct { want: FileWant::File { content, .. }, .. }), Prior::File(raw), Prior::File(visible)) =
        (act, prior, &mut visible)
    {
        if matches!(content, Content::Text(text) if text.has_secret()) {
            visible.wanted_sha256 = None;
            visible.sha256 = None;
        }
        if raw.content != visible.content {
            visible.sha256 = None;
        }
    }
    visible
}

fn is_process(act: &runbook_model::call::KubeAct) -> bool {
    matches!(act, runbook_model::call::KubeAct::Exec { .. })
}

fn already(act: &Act) -> Answer {
    match act {
        Act::Files(_) => Answer::Verdict(Verdict::Unchanged),
        Act::Kube(act) if !is_process(act) => Answer::Verdict(Verdict::Unchanged),
        Act::Ssh(_) | Act::Kube(_) => Answer::Outcome(Outcome::Already),
    }
}

fn has_changed(response: &Response) -> bool {
    !matches!(response, Ok(Answer::Verdict(Verdict::Unchanged) | Answer::Outcome(Outcome::Already)))
}

fn broken(error: JournalError) -> CallError {
    CallError::Failed(error.to_string())
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// A lock whose holder panicked holds plain data that is still good to read.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
