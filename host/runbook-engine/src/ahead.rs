//! Looking ahead: while a step is at work, what the next ones will look at is looked at already.
//!
//! Observations are pure, so they may be made early. The next steps are called in plan mode, and what they asked and were
//! answered is kept. When such a step's time comes, it runs as it always does; where it asks the same again, the kept answer is
//! adopted in place of another round trip. An answer is adopted only where nothing that this run did since it was
//! asked could have altered it: no change has left or come back anywhere, no step has waited for something, and it is not old.
//! What is not adopted leaves no trace.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use runbook_model::call::{
    Act, Answer, CallError, Content, FileWant, FilesAct, FilesLook, Finding, KubeLook, Look, Prior, Response, SshLook,
    Target, TextPart,
};
use runbook_model::event::{Instance, StepOutcome};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backend::{Backend, CallContext, Silent};
use crate::clock;
use crate::shared::lock;

/// Steps that are looked at ahead in the beginning, and at most.
const FIRST: usize = 4;
pub(crate) const MOST: usize = 32;

/// Looks ahead at once: each is an instance of a plugin, of some 100 KiB.
const AT_ONCE: usize = 512;

/// What was seen longer ago is looked at again.
const OLD: Duration = Duration::from_secs(30);

/// Bytes that are kept for one instance, and for all of them, about.
const KEPT: usize = 256 << 10;
const KEPT_IN_ALL: usize = 64 << 20;

/// What is known ahead, in one run.
pub struct Foresight {
    /// Counts what may have altered what was seen.
    disturbances: watch::Sender<u64>,
    /// How many steps to look ahead: none after a change, twice as many after each step that changed nothing.
    window: AtomicUsize,
    /// Instances that may still change something before they end.
    acting: AtomicUsize,
    slots: Mutex<HashMap<Instance, Arc<Slot>>>,
    /// Bytes that all slots hold.
    kept: Arc<AtomicUsize>,
}

impl Default for Foresight {
    fn default() -> Self {
        Self {
            disturbances: watch::Sender::new(0),
            window: AtomicUsize::new(FIRST),
            acting: AtomicUsize::new(0),
            slots: Mutex::default(),
            kept: Arc::default(),
        }
    }
}

impl Foresight {
    /// Something may have altered what was seen.
    pub(crate) fn disturb(&self) {
        self.disturbances.send_modify(|count| *count += 1);
        lock(&self.slots).clear();
    }

    fn now(&self) -> u64 {
        *self.disturbances.borrow()
    }

    pub(crate) fn window(&self) -> usize {
        self.window.load(Ordering::Relaxed)
    }

    /// An instance that may change something begins.
    pub(crate) fn acts(self: &Arc<Self>) -> Acting {
        self.acting.fetch_add(1, Ordering::Relaxed);
        Acting(Arc::clone(self))
    }

    /// Whether nobody is left who may change something before the next step.
    pub(crate) fn is_quiet(&self) -> bool {
        self.acting.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn ended(&self, outcome: StepOutcome) {
        let window = self.window();
        match outcome {
            StepOutcome::Unchanged => self.window.store((window * 2).clamp(1, MOST), Ordering::Relaxed),
            StepOutcome::Changed => self.window.store(0, Ordering::Relaxed),
            _ => {}
        }
    }

    /// A place for what an instance will see. None where there is one, or too much is kept already.
    pub(crate) fn slot(&self, instance: &Instance) -> Option<(Arc<Slot>, DropGuard)> {
        let mut slots = lock(&self.slots);
        if slots.contains_key(instance) || self.kept.load(Ordering::Relaxed) > KEPT_IN_ALL {
            return None;
        }
        let slot = Arc::new(Slot {
            asked_at: self.now(),
            since: clock::now(),
            seen: Mutex::default(),
            kept: AtomicUsize::new(0),
            kept_in_all: Arc::clone(&self.kept),
            done: CancellationToken::new(),
        });
        slots.insert(instance.clone(), Arc::clone(&slot));
        let guard = slot.done.clone().drop_guard();
        Some((slot, guard))
    }

    /// What was seen for an instance, once all of it is there. None where it would not be adopted.
    pub(crate) async fn take(&self, instance: &Instance) -> Option<Arc<Slot>> {
        let slot = lock(&self.slots).remove(instance)?;
        let mut disturbances = self.disturbances.subscribe();
        tokio::select! {
            biased;
            _ = disturbances.wait_for(|now| *now != slot.asked_at) => None,
            () = slot.done.cancelled() => Some(slot),
        }
    }
}

/// While it lives, an instance may change something.
pub(crate) struct Acting(Arc<Foresight>);

impl Drop for Acting {
    fn drop(&mut self) {
        self.0.acting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one instance will see.
pub(crate) struct Slot {
    /// The disturbances before it.
    asked_at: u64,
    since: Instant,
    seen: Mutex<VecDeque<(Question, Reply)>>,
    /// Bytes that it holds.
    kept: AtomicUsize,
    kept_in_all: Arc<AtomicUsize>,
    /// Cancelled when nothing more comes.
    done: CancellationToken,
}

/// What was asked: where, what, and within which granted path.
#[derive(Debug, PartialEq)]
struct Question {
    target: Target,
    jail: Option<String>,
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    Look(Look),
    Prior(Act),
}

#[derive(Debug, Clone)]
enum Reply {
    Look(Response),
    Prior(Box<Result<Prior, CallError>>),
}

impl Slot {
    fn keep(&self, question: Question, reply: Reply) {
        let size = question.size() + reply.size();
        if reply.is_answer() && self.kept.load(Ordering::Relaxed) + size <= KEPT {
            self.kept.fetch_add(size, Ordering::Relaxed);
            self.kept_in_all.fetch_add(size, Ordering::Relaxed);
            lock(&self.seen).push_back((question, reply));
        }
    }

    /// Gives the answer away. Questions before it were not asked this time: those answers go.
    fn adopt(&self, question: &Question) -> Option<Reply> {
        let mut seen = lock(&self.seen);
        let place = seen.iter().position(|(asked, _)| asked == question)?;
        seen.drain(..=place).next_back().map(|(_, reply)| reply)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.kept_in_all.fetch_sub(self.kept.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Question {
    /// Bytes of what may be large.
    fn size(&self) -> usize {
        const SMALL: usize = 512;
        SMALL
            + match &self.what {
                What::Prior(Act::Files(FilesAct { want: FileWant::File { content, .. }, .. })) => match content {
                    Content::Bytes(bytes) => bytes.0.len(),
                    Content::Text(text) => text
                        .0
                        .iter()
                        .map(|part| match part {
                            TextPart::Plain(text) | TextPart::Secret(text) => text.len(),
                        })
                        .sum(),
                    Content::CopyOf(_) => 0,
                },
                What::Prior(Act::Kube(_)) => 16 * SMALL,
                What::Prior(_) | What::Look(_) => 0,
            }
    }
}

impl Reply {
    /// Whether somebody with authority said so: all else is asked again.
    fn is_answer(&self) -> bool {
        match self {
            Self::Look(response) => matches!(response, Ok(_) | Err(CallError::NotFound(_))),
            Self::Prior(prior) => prior.is_ok(),
        }
    }

    /// Bytes of what may be large.
    fn size(&self) -> usize {
        const SMALL: usize = 256;
        SMALL
            + match self {
                Self::Look(Ok(Answer::Bytes(bytes))) => bytes.0.len(),
                Self::Look(Ok(Answer::Outputs(outputs))) => {
                    outputs.iter().map(|output| output.stdout.0.len() + output.stderr.0.len()).sum()
                }
                Self::Look(Ok(Answer::Entries(entries))) => entries.len() * SMALL,
                Self::Look(Ok(Answer::Object(_))) => 16 * SMALL,
                Self::Look(Ok(Answer::Objects(objects))) => objects.len() * 16 * SMALL,
                Self::Look(_) => 0,
                Self::Prior(prior) => match prior.as_ref() {
                    Ok(Prior::File(file)) => file.content.as_ref().map_or(0, |content| content.0.len()),
                    Ok(Prior::Object { .. }) => 32 * SMALL,
                    Ok(Prior::PodFile { content, .. }) => content.as_ref().map_or(0, |content| content.0.len()),
                    Ok(Prior::None | Prior::DoneWhen(_) | Prior::Process { .. }) | Err(_) => 0,
                },
            }
    }
}

/// Whether a look gives the same now and a little later, as long as nothing is changed.
fn keeps(look: &Look) -> bool {
    match look {
        Look::Ssh(SshLook::Facts | SshLook::Observe { .. }) => true,
        // What answers on a network comes and goes by itself.
        Look::Ssh(SshLook::Http { .. } | SshLook::Tcp { .. } | SshLook::Resolve { .. }) => false,
        Look::Files(
            FilesLook::Stat { .. }
            | FilesLook::Read { .. }
            | FilesLook::List { .. }
            | FilesLook::Sha256 { .. }
            | FilesLook::Source { .. },
        ) => true,
        Look::Kube(KubeLook::Uid | KubeLook::Get { .. } | KubeLook::List { .. }) => true,
        // In a plan these look once, where they would wait; the last one leaves a file.
        Look::Kube(
            KubeLook::Wait { .. }
            | KubeLook::WaitNone { .. }
            | KubeLook::Logs { .. }
            | KubeLook::Exec { .. }
            | KubeLook::CopyOut { .. },
        ) => false,
    }
}

/// The world for a step that is called ahead of its time: what is seen is kept.
pub(crate) struct Lookout {
    pub(crate) world: Arc<dyn Backend>,
    pub(crate) foresight: Arc<Foresight>,
    pub(crate) slot: Arc<Slot>,
}

impl Lookout {
    /// Nobody is told what a step waits for that has not begun.
    fn quietly(ctx: &CallContext) -> CallContext {
        CallContext { progress: Arc::new(Silent), ..ctx.clone() }
    }

    fn is_over(&self) -> Result<(), CallError> {
        if self.foresight.now() == self.slot.asked_at {
            return Ok(());
        }
        Err(CallError::Unknown("something was changed meanwhile".to_owned()))
    }
}

#[async_trait]
impl Backend for Lookout {
    async fn look(&self, target: &Target, look: &Look, ctx: &CallContext) -> Response {
        self.is_over()?;
        if !keeps(look) {
            return Err(CallError::Unknown("is not looked at ahead of its time".to_owned()));
        }
        let response = self.world.look(target, look, &Self::quietly(ctx)).await;
        let question = Question { target: target.clone(), jail: ctx.jail.clone(), what: What::Look(look.clone()) };
        self.slot.keep(question, Reply::Look(response.clone()));
        response
    }

    async fn prior(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<Prior, CallError> {
        self.is_over()?;
        let prior = self.world.prior(target, act, &Self::quietly(ctx)).await;
        let question = Question { target: target.clone(), jail: ctx.jail.clone(), what: What::Prior(act.clone()) };
        self.slot.keep(question, Reply::Prior(Box::new(prior.clone())));
        prior
    }

    async fn act(&self, _: &Target, _: &Act, _: &Prior, _: &CallContext) -> Response {
        Err(CallError::Denied("nothing is changed ahead of its time".to_owned()))
    }
}

/// The world for a step whose time has come: what is known already is not asked again.
pub(crate) struct Foreseen {
    pub(crate) world: Arc<dyn Backend>,
    pub(crate) foresight: Arc<Foresight>,
    pub(crate) slot: Arc<Slot>,
}

impl Foreseen {
    fn adopt(&self, target: &Target, ctx: &CallContext, what: What) -> Option<Reply> {
        if self.foresight.now() != self.slot.asked_at || clock::since(self.slot.since) > OLD {
            return None;
        }
        self.slot.adopt(&Question { target: target.clone(), jail: ctx.jail.clone(), what })
    }
}

#[async_trait]
impl Backend for Foreseen {
    async fn look(&self, target: &Target, look: &Look, ctx: &CallContext) -> Response {
        match self.adopt(target, ctx, What::Look(look.clone())) {
            Some(Reply::Look(response)) => response,
            _ => self.world.look(target, look, ctx).await,
        }
    }

    async fn prior(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<Prior, CallError> {
        match self.adopt(target, ctx, What::Prior(act.clone())) {
            Some(Reply::Prior(prior)) => *prior,
            _ => self.world.prior(target, act, ctx).await,
        }
    }

    async fn act(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Response {
        self.world.act(target, act, prior, ctx).await
    }

    async fn settle(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Result<Finding, CallError> {
        self.world.settle(target, act, prior, ctx).await
    }
}

/// The looks ahead of one level, which run beside its steps.
#[derive(Default)]
pub(crate) struct Lookouts<'run> {
    /// Those that have not ended.
    count: Arc<AtomicUsize>,
    begun: Mutex<Vec<BoxFuture<'run, ()>>>,
    /// For each host, the first step that was not looked at, and the disturbances when that was so.
    reached: Mutex<HashMap<Option<String>, (u64, usize)>>,
}

impl<'run> Lookouts<'run> {
    pub(crate) fn add(&self, look: impl Future<Output = ()> + Send + 'run) {
        let count = Arc::clone(&self.count);
        count.fetch_add(1, Ordering::Relaxed);
        lock(&self.begun).push(Box::pin(async move {
            look.await;
            count.fetch_sub(1, Ordering::Relaxed);
        }));
    }

    /// Whether as many are at work as there may be.
    pub(crate) fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= AT_ONCE
    }

    /// The first step from `from` on that was not looked at for this host since the last disturbance.
    pub(crate) fn first(&self, foresight: &Foresight, host: Option<&str>, from: usize) -> usize {
        let reached = lock(&self.reached);
        let known = reached.get(&host.map(str::to_owned)).filter(|(at, _)| *at == foresight.now());
        known.map_or(from, |(_, next)| from.max(*next))
    }

    /// All steps before `next` were looked at for this host.
    pub(crate) fn reach(&self, foresight: &Foresight, host: Option<&str>, next: usize) {
        lock(&self.reached).insert(host.map(str::to_owned), (foresight.now(), next));
    }

    /// Runs what was begun. Never ends.
    pub(crate) async fn run(&self, looking: &mut FuturesUnordered<BoxFuture<'run, ()>>) {
        poll_fn(|context| {
            loop {
                looking.extend(lock(&self.begun).drain(..));
                match looking.poll_next_unpin(context) {
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}
