//! What the host knows of one call into a plugin: the data of its store.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use runbook_engine::plugin::Road;
use runbook_model::call::{Answer, Call, CallError, Look, Note, Request, Response, Target};
use tokio::runtime::Handle;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::limits::{Breach, HANDLES, Meter};

/// A machine that the step named.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Machine {
    pub(crate) name: String,
}

/// The files of a machine or of the controller.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Tree {
    pub(crate) target: Target,
}

/// The cluster that the step named.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Cluster {
    pub(crate) name: String,
}

/// Why a host function gives no result: an error for the guest, or the end of the call.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub enum Fault {
    Call(CallError),
    Trap(wasmtime::Error),
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<wasmtime::component::ResourceTableError> for Fault {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<wasmtime::Error> for Fault {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

/// The capability call that is under way, as words for a person.
#[derive(Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<Option<String>>>);

impl Waiting {
    /// What the guest waits for just now, if it does not compute.
    pub(crate) fn now(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, what: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

/// The data of a store.
pub(crate) struct State {
    pub(crate) road: Arc<dyn Road>,
    pub(crate) table: ResourceTable,
    pub(crate) meter: Meter,
    wasi: WasiCtx,
    home: Handle,
    deadline: Instant,
    waiting: Waiting,
}

impl State {
    /// `home` is the runtime of whoever calls the plugin: capability calls run there.
    pub(crate) fn new(
        road: Arc<dyn Road>,
        wasi: WasiCtx,
        meter: Meter,
        home: Handle,
        deadline: Instant,
        waiting: Waiting,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Self { road, table, meter, wasi, home, deadline, waiting }
    }

    /// Sends a call down the road and waits for its answer.
    ///
    /// A call that has to wait does so as a task of the caller's runtime. So it is not starved by guests, and it comes to its end,
    /// and into the journal, even when the guest is gone by then. What can be answered at once is: two changes of thread would
    /// cost more than the answer.
    pub(crate) async fn ask(&mut self, target: Target, call: Call) -> wasmtime::Result<Response> {
        let request = Request { target, call };
        self.meter.call(&request)?;
        if Instant::now() >= self.deadline {
            return Ok(Err(CallError::TimedOut("the step's time is over".to_owned())));
        }
        let what = words(&request);
        let road = Arc::clone(&self.road);
        let mut call: BoxFuture<Response> = Box::pin(async move { road.call(request).await });
        let broke_off = |why: &dyn std::fmt::Display| {
            Ok(Err(CallError::Failed(format!("internal error: the call broke off ({why})"))))
        };
        match poll_fn(|context| Poll::Ready(poll_at_home(&self.home, call.as_mut(), context))).await {
            Ok(Poll::Ready(answer)) => return Ok(answer),
            Ok(Poll::Pending) => {}
            Err(_) => return broke_off(&"it panicked"),
        }
        self.waiting.set(Some(what));
        let answer = self.home.spawn(call).await;
        self.waiting.set(None);
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => broke_off(&error),
        }
    }

    /// [`State::ask`] for calls whose errors the guest sees.
    pub(crate) async fn answer(&mut self, target: Target, call: Call) -> Result<Answer, Fault> {
        Ok(self.ask(target, call).await??)
    }

    /// Asks for an observation.
    pub(crate) async fn look(&mut self, target: Target, look: Look) -> Result<Answer, Fault> {
        self.answer(target, Call::Look(look)).await
    }

    /// Keeps a resource for the guest.
    pub(crate) fn push<T: Send + 'static>(&mut self, resource: T) -> wasmtime::Result<Resource<T>> {
        self.table.push(resource).map_err(|error| match error {
            wasmtime::component::ResourceTableError::Full => Breach::Handles { most: HANDLES }.into(),
            other => other.into(),
        })
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Polls a future as a task of that runtime would, whose connections and clocks it uses; gives what it panicked with.
fn poll_at_home<T>(
    home: &Handle,
    future: Pin<&mut (dyn Future<Output = T> + Send)>,
    context: &mut Context<'_>,
) -> thread::Result<Poll<T>> {
    let _here = home.enter();
    // A future that panicked is dropped.
    catch_unwind(AssertUnwindSafe(|| future.poll(context)))
}

/// A call in words: "files on n1".
fn words(request: &Request) -> String {
    let what = match &request.call {
        Call::Look(Look::Ssh(_)) => "an observation",
        Call::Look(Look::Files(_)) => "a look at files",
        Call::Look(Look::Kube(_)) => "a look at Kubernetes objects",
        Call::Change(change) => return format!("{:?} on {}", change.effect.summary, request.target),
        Call::Note(Note::Pause { .. }) => return "a pause".to_owned(),
        Call::Note(_) => return "the journal".to_owned(),
    };
    format!("{what} on {}", request.target)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
