//! Looks that wait for a helper shell: all that wait when one is there go along in one text, so that they share a round trip.
//!
//! Questions about files come first, and cost as many processes as one. Where a command among the others has to be stopped, what
//! came after it is asked again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use runbook_engine::backend::CallContext;
use runbook_model::call::CallError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::command::Item;
use crate::files::ask::{self, Asked, Found};
use crate::frame::Frame;
use crate::machine::{Machine, Who, start};
use crate::shell::{Halt, Job};
use crate::shells::Lane;

/// Looks in one text.
const TOGETHER: usize = 64;

/// What a look came back with: a frame for each of its items.
type Reply = Result<Vec<Frame>, CallError>;

/// The looks of one user of a machine that wait.
#[derive(Default)]
pub(crate) struct Looks(Mutex<VecDeque<Waiting>>);

/// A look, and who waits for it.
enum Waiting {
    Question(Asked, oneshot::Sender<Result<Found, CallError>>),
    Items(Vec<Arc<Item>>, oneshot::Sender<Reply>),
}

impl Waiting {
    fn is_gone(&self) -> bool {
        match self {
            Self::Question(_, answer) => answer.is_closed(),
            Self::Items(_, answer) => answer.is_closed(),
        }
    }

    async fn gone(&mut self) {
        match self {
            Self::Question(_, answer) => answer.closed().await,
            Self::Items(_, answer) => answer.closed().await,
        }
    }

    /// Nobody may wait for it any more, which is no error.
    fn fail(self, error: CallError) {
        match self {
            Self::Question(_, answer) => drop(answer.send(Err(error))),
            Self::Items(_, answer) => drop(answer.send(Err(error))),
        }
    }
}

impl Looks {
    fn all(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes along now, in parts that have their items in common.
    fn take(&self) -> Vec<Part> {
        let mut all = self.all();
        let count = all.len().min(TOGETHER);
        let (mut questions, mut parts) = (Vec::new(), Vec::new());
        for one in all.drain(..count).filter(|one| !one.is_gone()) {
            match one {
                Waiting::Question(ref asked, _) if !asked.alone => questions.push(one),
                Waiting::Question(..) => parts.push(Part(vec![one])),
                Waiting::Items(..) => parts.push(Part(vec![one])),
            }
        }
        if !questions.is_empty() {
            parts.insert(0, Part(questions));
        }
        parts
    }
}

/// Questions that are asked as one, or another look.
struct Part(Vec<Waiting>);

impl Part {
    fn items(&self) -> Vec<Arc<Item>> {
        match self.0.as_slice() {
            [Waiting::Items(items, _)] => items.clone(),
            waiting => {
                let asked = waiting.iter().filter_map(|one| match one {
                    Waiting::Question(asked, _) => Some(asked),
                    Waiting::Items(..) => None,
                });
                vec![Arc::new(ask::item(asked))]
            }
        }
    }

    /// Hands the answers out. Gives back who must be answered in another way.
    fn answer(self, machine: &Machine, frames: Vec<Frame>) -> Vec<Waiting> {
        let mut whom = self.0;
        if let [Waiting::Items(..)] = whom.as_slice()
            && let Some(Waiting::Items(_, answer)) = whom.pop()
        {
            drop(answer.send(Ok(frames)));
            return Vec::new();
        }
        let mut answers = match frames.into_iter().next().map(|frame| ask::Answers::of(machine, frame)) {
            Some(Ok(answers)) => answers,
            Some(Err(error)) => {
                whom.into_iter().for_each(|one| one.fail(error.clone()));
                return Vec::new();
            }
            None => return whom,
        };
        let mut again = Vec::new();
        let shared = whom.len() > 1;
        for one in whom {
            let Waiting::Question(mut asked, answer) = one else { continue };
            match answers.next(machine, &asked) {
                Ok(found) => drop(answer.send(found)),
                // From here on they cannot be told apart: each alone.
                Err(_) if shared => {
                    asked.alone = true;
                    again.push(Waiting::Question(asked, answer));
                }
                Err(error) => drop(answer.send(Err(error))),
            }
        }
        again
    }
}

/// Runs the items of a look one after the other, together with whatever else waits.
pub(crate) async fn run(machine: &Arc<Machine>, who: Who, mut items: Vec<Item>, ctx: &CallContext) -> Reply {
    let left = ctx.deadline.saturating_duration_since(Instant::now());
    for item in &mut items {
        item.timeout = Some(item.timeout.map_or(left, |timeout| timeout.min(left)));
    }
    let what = items.first().map(|item| item.what.clone()).unwrap_or_default();
    let (answer, answered) = oneshot::channel();
    wait(machine, who, Waiting::Items(items.into_iter().map(Arc::new).collect(), answer), ctx).await;
    machine.wait(answered, ctx, &what).await?.map_err(ended)?
}

/// Asks a question about files.
pub(crate) async fn question(machine: &Arc<Machine>, asked: Asked, ctx: &CallContext) -> Result<Found, CallError> {
    let what = format!("a look at {}", asked.path());
    let (answer, answered) = oneshot::channel();
    wait(machine, machine.privileged(), Waiting::Question(asked, answer), ctx).await;
    machine.wait(answered, ctx, &what).await?.map_err(ended)?
}

fn ended(_: oneshot::error::RecvError) -> CallError {
    CallError::Unreachable("the program is ending".to_owned())
}

async fn wait(machine: &Arc<Machine>, who: Who, one: Waiting, ctx: &CallContext) {
    let first = {
        let mut all = machine.looks(who).all();
        all.push_back(one);
        all.len() == 1
    };
    if first {
        let first = First { machine: machine.clone(), who, ctx: ctx.clone() };
        // Whoever is polled by the same task puts a look here before this one goes on.
        tokio::task::yield_now().await;
        drop(first);
    }
}

/// The first who waits sees to it that all are sent, also where it is dropped before.
struct First {
    machine: Arc<Machine>,
    who: Who,
    ctx: CallContext,
}

impl Drop for First {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Each one waits for its own deadline and cancellation.
            let ctx = CallContext { cancel: CancellationToken::new(), ..self.ctx.clone() };
            let (machine, who) = (self.machine.clone(), self.who);
            runtime.spawn(async move { while together(&machine, who, &ctx).await {} });
        }
    }
}

/// Sends what waits as soon as a shell is there. Gives whether something is left that nobody else sends.
async fn together(machine: &Arc<Machine>, who: Who, ctx: &CallContext) -> bool {
    let looks = machine.looks(who);
    let (shell, seat, permit) = match machine.turn(who, Lane::Look, ctx).await {
        Ok(turn) => turn,
        Err(error) => {
            let all = std::mem::take(&mut *looks.all());
            all.into_iter().for_each(|one| one.fail(error.clone()));
            return false;
        }
    };
    let mut parts = looks.take();
    if parts.is_empty() {
        seat.give_back(shell);
        return false;
    }
    let items: Vec<Vec<Arc<Item>>> = parts.iter().map(Part::items).collect();
    let job = Job::new(items.iter().flatten().cloned().collect(), ctx);
    let (frames, halt) = tokio::select! {
        ended = start(shell, job, Some(seat), vec![permit]) => ended,
        () = nobody_waits(&mut parts) => return !looks.all().is_empty(),
    };
    let (mut frames, mut halt) = (frames.into_iter(), halt.err());
    let mut again = Vec::new();
    for (part, items) in parts.into_iter().zip(items) {
        if frames.len() >= items.len() {
            again.extend(part.answer(machine, frames.by_ref().take(items.len()).collect()));
            continue;
        }
        frames = Vec::new().into_iter();
        match halt.take() {
            Some(Halt::Error(error)) => part.0.into_iter().for_each(|one| one.fail(error.clone())),
            // It was never started.
            Some(Halt::Stale) | None => again.extend(part.0),
        }
    }
    let mut all = looks.all();
    let nobody_sends = all.is_empty();
    all.extend(again);
    nobody_sends && !all.is_empty()
}

async fn nobody_waits(parts: &mut [Part]) {
    for one in parts.iter_mut().flat_map(|part| &mut part.0) {
        one.gone().await;
    }
}
