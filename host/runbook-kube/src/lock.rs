//! Keeps other controllers away from a cluster while a run changes it, by a lease of Kubernetes that is renewed in the background.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use http::Method;
use runbook_engine::backend::{CallContext, Silent, Standing};
use runbook_model::call::CallError;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::lease::{self, Claim, FREE, Holder, NAME, SECONDS};
use crate::refusal::Trouble;
use crate::session::{Api, Ask, Session};

const COLLECTION: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
/// Between two renewals: two may fail before it is over.
const RENEWAL: Duration = Duration::from_secs(SECONDS as u64 / 3);
/// A change is not made on a lease that is older than this without a look at it: the background did not get through, or slept.
const STALE: Duration = Duration::from_secs(SECONDS as u64 / 2);
/// Time for one renewal or release.
const LIMIT: Duration = Duration::from_secs(15);
/// How often it is tried where others write to it.
const RACES: u32 = 5;

/// The leases of a backend, by cluster.
#[derive(Default)]
pub(crate) struct Locks(Mutex<HashMap<String, Arc<Mutex<State>>>>);

#[derive(Default)]
enum State {
    #[default]
    Free,
    Held(Box<Held>),
    /// The cluster gives us none: said once.
    Without,
}

struct Held {
    session: Arc<Session>,
    /// Of the change that took it, without its secrets.
    ctx: CallContext,
    /// None: it may be lost, so the next change looks.
    renewed: Option<Moment>,
    task: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A moment by both clocks: one of them stands still while a laptop sleeps, the other may be set.
struct Moment(Instant, SystemTime);

impl Moment {
    fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed().max(self.1.elapsed().unwrap_or_default())
    }
}

impl Locks {
    /// Makes sure that the run holds the cluster. Calls that only look need not.
    pub(crate) async fn hold(&self, api: &Api) -> Result<(), CallError> {
        if api.ctx.mark.is_none() {
            return Ok(());
        }
        let cell = Arc::clone(self.0.lock().await.entry(api.session.cluster.clone()).or_default());
        let mut state = api.bounded("wait for the lease of this run to be renewed", cell.lock()).await?;
        match &mut *state {
            State::Without => return Ok(()),
            State::Held(held) if held.renewed.as_ref().is_some_and(|at| at.elapsed() < STALE) => {
                held.session = Arc::clone(&api.session);
                return Ok(());
            }
            State::Held(_) | State::Free => {}
        }
        *state = match take(api).await? {
            true => State::Held(Box::new(Held {
                session: Arc::clone(&api.session),
                ctx: CallContext {
                    cancel: CancellationToken::new(),
                    secrets: Arc::default(),
                    passwords: Arc::default(),
                    progress: Arc::new(Silent),
                    ..api.ctx.clone()
                },
                renewed: Some(Moment::now()),
                task: tokio::spawn(renew(Arc::downgrade(&cell))),
            })),
            false => State::Without,
        };
        Ok(())
    }

    /// Lets all clusters go, where they are still ours.
    pub(crate) async fn release(&self) {
        for (cluster, cell) in self.0.lock().await.drain() {
            let state = std::mem::take(&mut *cell.lock().await);
            let State::Held(held) = state else { continue };
            if let Err(error) = give_back(&held.api()).await {
                tracing::warn!(
                    "cluster {cluster}: the lease of this run stays for up to {} minutes: {error}; to free it: {FREE}",
                    SECONDS / 60
                );
            }
        }
    }
}

impl Held {
    /// For calls of our own.
    fn api(&self) -> Api {
        let ctx = CallContext { deadline: Instant::now() + LIMIT, ..self.ctx.clone() };
        Api { session: Arc::clone(&self.session), ctx }
    }
}

/// Renews until the lease is given back or lost.
async fn renew(cell: Weak<Mutex<State>>) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        let Some(cell) = cell.upgrade() else { return };
        let mut state = cell.lock().await;
        let State::Held(held) = &mut *state else { return };
        held.renewed = match take(&held.api()).await {
            Ok(true) => Some(Moment::now()),
            Ok(false) => None,
            Err(error) => {
                tracing::warn!("the lease of this run could not be renewed: {error}");
                None
            }
        };
    }
}

/// Takes or renews the lease; false where the cluster gives us none.
async fn take(api: &Api) -> Result<bool, CallError> {
    const WHAT: &str = "take the lease of this cluster";
    let Some(mark) = &api.ctx.mark else { return Ok(false) };
    for _ in 0..RACES {
        let there = match look(api, WHAT).await? {
            Found::Lease(lease) => Some(lease),
            Found::Nothing => None,
            Found::NoLeases(why) => return Ok(without(api, &why)),
        };
        let mut over = None;
        if let Some(lease) = &there {
            match lease::claim(lease, mark, api.session.now()) {
                Claim::Ours | Claim::Free => {}
                // Whose it is, the cluster says. Whether that is one of ours and over, it does not.
                Claim::Held(Holder { run, session, words }) => {
                    let standing = |session| (api.ctx.runs.standing(&run, session), session);
                    match session.map(standing) {
                        Some((Standing::Over, session)) => over = Some((run, session)),
                        standing => return Err(taken(api, WHAT, &words, &run, standing.map(|(standing, _)| standing))),
                    }
                }
                Claim::Superseded(session) => {
                    return Err(CallError::Conflict(format!(
                        "{}: session {session} of this run is in charge by now, and this is session {}: end this one",
                        api.at(WHAT),
                        mark.session
                    )));
                }
            }
        }
        let lease = lease::wanted(there.as_ref(), mark, api.session.now());
        let write = Ask {
            method: if there.is_some() { Method::PUT } else { Method::POST },
            uri: if there.is_some() { format!("{COLLECTION}/{NAME}") } else { COLLECTION.to_owned() },
            body: Some(("application/json", lease.to_string().into_bytes())),
            acting: true,
            what: WHAT.to_owned(),
        };
        match api.json(&write).await {
            Ok(_) => {
                if let Some((run, session)) = over {
                    api.ctx.progress.took_over(&api.session.cluster, &run, session);
                }
                return Ok(true);
            }
            // Somebody else was faster, or it was deleted in between.
            Err(Trouble::Refused(refusal))
                if matches!(refusal.code, 409) || (refusal.code == 404 && there.is_some()) => {}
            Err(Trouble::Refused(refusal)) if matches!(refusal.code, 403 | 404) => {
                return Ok(without(api, &refusal.status.message));
            }
            Err(trouble) => return Err(api.error(trouble, &write)),
        }
    }
    Err(CallError::Conflict(format!("{}: others write to it all the time", api.at(WHAT))))
}

fn taken(api: &Api, what: &str, words: &str, run: &str, standing: Option<Standing>) -> CallError {
    let run = lease::shown(run);
    let help = match standing {
        Some(Standing::AtWork) => {
            "it is at work on this controller: wait for its end, or end it with Ctrl-C".to_owned()
        }
        Some(Standing::Unfinished) => format!(
            "it did not come to its end: `runbook next {run}` tells what is open, `runbook resume {run}` goes on with it, and `runbook undo \
             {run}` takes back what it did"
        ),
        Some(Standing::Foreign | Standing::Over) | None => {
            format!("wait for it, or, where it runs nowhere any more, free the cluster: {FREE}")
        }
    };
    CallError::Conflict(format!("{}: {words}; {help}", api.at(what)))
}

/// What there is.
enum Found {
    Lease(Value),
    Nothing,
    /// The cluster has no leases, or none for us; why.
    NoLeases(String),
}

async fn look(api: &Api, what: &str) -> Result<Found, CallError> {
    let ask = Ask::get(format!("{COLLECTION}/{NAME}"), what);
    match api.json(&ask).await {
        Ok(lease) => Ok(Found::Lease(lease)),
        Err(Trouble::Refused(refusal)) if refusal.absent("leases", "Lease", NAME) => Ok(Found::Nothing),
        Err(Trouble::Refused(refusal)) if matches!(refusal.code, 403 | 404) => {
            Ok(Found::NoLeases(refusal.status.message.clone()))
        }
        Err(trouble) => Err(api.error(trouble, &ask)),
    }
}

fn without(api: &Api, why: &str) -> bool {
    let cluster = &api.session.cluster;
    tracing::warn!("cluster {cluster}: other runs are not kept away from it, as it gives this user no lease: {why}");
    false
}

/// Deletes the lease where it is still ours.
async fn give_back(api: &Api) -> Result<(), CallError> {
    const WHAT: &str = "give the lease of this cluster back";
    let Some(mark) = &api.ctx.mark else { return Ok(()) };
    for _ in 0..RACES {
        let Found::Lease(lease) = look(api, WHAT).await? else { return Ok(()) };
        if lease["spec"]["holderIdentity"] != lease::holder(mark).as_str() {
            return Ok(());
        }
        let metadata = &lease["metadata"];
        let preconditions = json!({"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]});
        let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions});
        let delete = Ask {
            method: Method::DELETE,
            uri: format!("{COLLECTION}/{NAME}"),
            body: Some(("application/json", body.to_string().into_bytes())),
            acting: true,
            what: WHAT.to_owned(),
        };
        match api.json(&delete).await {
            Ok(_) => return Ok(()),
            // It is another one by now: another look.
            Err(Trouble::Refused(refusal)) if matches!(refusal.code, 404 | 409) => {}
            Err(trouble) => return Err(api.error(trouble, &delete)),
        }
    }
    Ok(())
}
