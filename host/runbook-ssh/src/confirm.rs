//! Changes that may cut their own connection: the machine takes them back by itself, unless a new connection confirms them in time.
//!
//! In one round trip the change is laid into a folder of the machine, what takes it back is started, and then the change itself, both
//! outside of the session. Who wins is decided there, by the name of one file (`confirm.sh`). Then this end lets its connection go and
//! proves from outside that the machine can be reached; where nobody can, nobody has to: the time of the window is counted there.
//!
//! Assumptions: root there may write to /var/lib/runbook, and systemd or setsid is there. Where systemd is the init, a reboot within
//! the window takes the change back too; elsewhere a reboot ends what keeps watch, and the next look at the change takes it back.

pub(crate) mod state;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runbook_engine::backend::{CallContext, Mark};
use runbook_model::call::{Answer, CallError, Command, Finding, Outcome, Output};

use self::state::{Next, Proof, State, Token};
use crate::command::Item;
use crate::machine::Machine;
use crate::quote::{describe, nonce, tail};
use crate::shells::Lane;

const PROGRAM: &str = include_str!("confirm/confirm.sh");
/// The change's folder, without its id.
const FOLDER: &str = "/var/lib/runbook/confirm";

/// Shorter, and a machine could hardly come back.
const SHORTEST: Duration = Duration::from_secs(5);
/// For one attempt to reach the machine, at most, and for one answer.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Beginning it starts a few programs there and waits for none of them.
const BEGIN: Duration = Duration::from_secs(30);
/// How long it may take the machine to be back as it was, once the window is over.
const GRACE: Duration = Duration::from_secs(60);
/// Between two looks.
const BETWEEN: Duration = Duration::from_millis(500);
/// How long the addresses that were named are waited for before any other is good enough; never more than a third of the window.
const PREFERENCE: Duration = Duration::from_secs(15);

/// A change at its machine.
struct Confirming<'a> {
    machine: &'a Arc<Machine>,
    id: String,
    session: u32,
    what: String,
    addresses: &'a [String],
    /// Who the machine is; none: as the inventory says.
    host_key: Option<String>,
    window: Duration,
    /// What happened at each address, last.
    failed: BTreeMap<String, String>,
    ctx: &'a CallContext,
}

/// Carries the change out and confirms it.
pub(crate) async fn act(
    machine: &Arc<Machine>,
    commit: &Command,
    revert: &Command,
    window: Duration,
    addresses: &[String],
    ctx: &CallContext,
) -> Result<Output, CallError> {
    let what = describe(&commit.argv);
    if window < SHORTEST {
        return Err(CallError::Invalid(format!("{what}: a window of less than {} s is none", SHORTEST.as_secs())));
    }
    if ctx.deadline.saturating_duration_since(Instant::now()) < BEGIN + window + GRACE {
        return Err(CallError::Invalid(format!(
            "{what}: the step's time ends before it would be clear what became of it: a window of {} s needs a timeout of {} s more",
            window.as_secs(),
            (BEGIN + GRACE).as_secs()
        )));
    }
    let (id, session) = name(ctx.mark.as_ref()).unwrap_or_else(|| (nonce(), 1));
    let folder = format!("{FOLDER}/{id}");
    let mut files = text::files("commit", &folder, commit, ctx)?;
    files.extend(text::files("revert", &folder, revert, ctx)?);
    files.push(("program".to_owned(), PROGRAM.as_bytes().to_vec()));
    let host_key = machine.host_key(ctx).await?;
    let mut change =
        Confirming { machine, id, session, what, addresses, host_key, window, failed: BTreeMap::new(), ctx };

    // Counted from before it begins there: this end gives up first.
    let until = Instant::now() + window;
    let begun = change.begin(files).await;
    match &begun {
        // The change may have taken the answer with it: what is found there decides.
        Ok(_) | Err(CallError::Unreachable(_) | CallError::TimedOut(_)) => {}
        Err(error) => {
            let error = error.clone();
            change.forget().await;
            return Err(error);
        }
    }
    let mut state = change.follow(until).await?;
    if state.token == Token::Absent {
        state = change.ask("void").await?;
    }
    change.result(&state, begun.err())
}

/// What became of a change whose answer was lost with this end. What has ended well there can still be confirmed.
pub(crate) async fn settle(
    machine: &Arc<Machine>,
    commit: &Command,
    window: Duration,
    addresses: &[String],
    ctx: &CallContext,
) -> Result<Finding, CallError> {
    let Some((id, session)) = name(ctx.mark.as_ref()) else {
        return Ok(Finding::Unclear("the change has no mark to be found by".to_owned()));
    };
    let what = describe(&commit.argv);
    let mut change =
        Confirming { machine, id, session, what, addresses, host_key: None, window, failed: BTreeMap::new(), ctx };
    let mut state = change.follow(Instant::now() + window).await?;
    if state.token == Token::Absent {
        // What tells how one ended is kept: none was begun, and now none will be.
        state = change.ask("void").await?;
    }
    Ok(match (state.token, state.revert) {
        (Token::Confirmed, _) => Finding::Done(Answer::Outcome(Outcome::Done(state.output()))),
        (Token::Void, _) | (Token::Reverted, Some(0)) => Finding::NotDone,
        (Token::Reverted, _) | (Token::Absent | Token::Armed, _) => Finding::Unclear(
            change.result(&state, None).map_or_else(|error| error.to_string(), |_| change.what.clone()),
        ),
    })
}

/// How the change is found again, and by whom it is made.
fn name(mark: Option<&Mark>) -> Option<(String, u32)> {
    let mark = mark?;
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let run: String = mark.run.chars().take(80).map(plain).collect();
    Some((format!("{run}-{}", mark.record), mark.session))
}

impl Confirming<'_> {
    async fn begin(&self, files: Vec<(String, Vec<u8>)>) -> Result<State, CallError> {
        let mut arguments = vec![
            self.id.clone().into_bytes(),
            b"arm".to_vec(),
            self.session.to_string().into_bytes(),
            // Rounded up: the machine never gives up before this end does.
            self.window.as_millis().div_ceil(1000).to_string().into_bytes(),
        ];
        for (name, content) in files {
            arguments.extend([name.into_bytes(), content]);
        }
        self.run(&format!("beginning {}", self.what), arguments, BEGIN).await
    }

    /// Asks for the state, after doing something about it.
    async fn ask(&self, verb: &str) -> Result<State, CallError> {
        let arguments = [self.id.as_str(), verb, &self.session.to_string()];
        let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        self.run(&format!("looking what became of {}", self.what), arguments, ATTEMPT).await
    }

    async fn run(&self, what: &str, arguments: Vec<Vec<u8>>, limit: Duration) -> Result<State, CallError> {
        let ctx = self.within(limit);
        let item = || Item::script(what, PROGRAM, arguments.clone());
        let answer = self.machine.script(self.machine.privileged(), Lane::Change, item, &ctx, &[]).await?;
        State::parse(&answer)
    }

    fn within(&self, limit: Duration) -> CallContext {
        CallContext { deadline: self.ctx.deadline.min(Instant::now() + limit), ..self.ctx.clone() }
    }

    /// Where it was not begun, what was laid down for it goes: it may hold secrets.
    async fn forget(&self) {
        if let Err(error) = self.ask("void").await {
            tracing::debug!("{} on {}: what was laid down for it stays: {error}", self.what, self.machine.name);
        }
    }

    /// Goes on until it is over: confirmed, taken back, or never begun.
    async fn follow(&mut self, until: Instant) -> Result<State, CallError> {
        let mut ended: Option<Instant> = None;
        let end = until + GRACE;
        loop {
            let addresses = self.addresses;
            for place in addresses.iter().map(Some).chain([None]) {
                if self.ctx.cancel.is_cancelled() || Instant::now() >= end.min(self.ctx.deadline) {
                    return Err(self.lost(until));
                }
                let before = ended;
                let mut reached = self.reach(place, &mut ended, end).await;
                if before.is_none() && ended.is_some() && matches!(reached, Ok(None)) {
                    // It has just been seen there that the change has ended: nowhere is the machine more likely to be found anew.
                    reached = self.reach(place, &mut ended, end).await;
                }
                match reached {
                    Ok(Some(state)) => return Ok(state),
                    Ok(None) => {}
                    Err(error) => {
                        let place = place.map_or("as the inventory says", String::as_str);
                        self.failed.insert(place.to_owned(), error.to_string());
                    }
                }
            }
            let since = until.saturating_duration_since(Instant::now()).as_secs();
            let text = format!("waiting for {} to be reached again after {}", self.machine.name, self.what);
            self.ctx.progress.progress(
                &text,
                self.window.as_secs().saturating_sub(since),
                Some(self.window.as_secs()),
                "seconds",
            );
            tokio::time::sleep(BETWEEN).await;
        }
    }

    /// Goes on over one new connection. None: another one is needed.
    async fn reach(
        &self,
        place: Option<&String>,
        ended: &mut Option<Instant>,
        end: Instant,
    ) -> Result<Option<State>, CallError> {
        let fresh = ended.is_some();
        let address = place.map(String::as_str);
        // Of a short window no single attempt takes all.
        let ctx = self.within(ATTEMPT.min(self.window / 4));
        let answered = self.machine.reconnect(address, self.host_key.as_deref(), &ctx).await?;
        let named = self.addresses.is_empty() || answered.as_ref().is_some_and(|at| self.addresses.contains(at));
        loop {
            let mut state = self.ask("state").await?;
            let waited = ended.is_some_and(|at| at.elapsed() >= PREFERENCE.min(self.window / 3));
            match state.next(Proof { fresh, counts: named || waited }) {
                Next::Wait => {}
                Next::Anew => {
                    ended.get_or_insert_with(Instant::now);
                    return Ok(None);
                }
                Next::Confirm => state = self.ask("confirm").await?,
                Next::TakeBack => state = self.ask("take-back").await?,
                Next::Over => {}
            }
            if state.next(Proof { fresh, counts: true }) == Next::Over {
                if let (Token::Confirmed, Some(address)) = (state.token, address) {
                    self.machine.moved(address, self.host_key.as_deref());
                }
                return Ok(Some(state));
            }
            if self.ctx.cancel.is_cancelled() || Instant::now() >= end {
                return Ok(None);
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }

    /// What the call says of it.
    fn result(&self, state: &State, begun: Option<CallError>) -> Result<Output, CallError> {
        let (what, name) = (&self.what, &self.machine.name);
        let said = |bytes: &[u8]| {
            let text = tail(bytes);
            if text.is_empty() { String::new() } else { format!(": {text}") }
        };
        let why = match state.commit {
            Some(0) => format!("nobody could reach {name} in time after {what} ({})", self.failures()),
            Some(_) => format!("{what} on {name} ended with {}{}", state.output().exit, said(&state.stderr)),
            None => {
                format!("{what} on {name} had not ended in time, as far as it could be reached ({})", self.failures())
            }
        };
        match (state.token, state.revert) {
            (Token::Confirmed, _) => Ok(state.output()),
            (Token::Absent | Token::Void, _) => {
                let why = begun.map(|error| format!(": {error}")).unwrap_or_default();
                Err(CallError::Failed(format!("{what} was not begun on {name}{why}")))
            }
            (Token::Reverted, Some(0)) => Err(CallError::Failed(format!("{why}; the machine took it back"))),
            (Token::Reverted, Some(status)) => Err(CallError::Failed(format!(
                "{why}; taking it back ended with exit code {status}{}; look at {name} before anything else is done",
                said(&state.taken_back)
            ))),
            (Token::Armed | Token::Reverted, None) | (Token::Armed, Some(_)) => {
                Err(CallError::Failed(format!("{why}; taking it back has not ended yet")))
            }
        }
    }

    /// What happened at each address.
    fn failures(&self) -> String {
        let places: Vec<String> = self.failed.iter().map(|(place, error)| format!("{place}: {error}")).collect();
        places.join("; ")
    }

    /// Nobody knows how it ended, but the machine does what it was told.
    fn lost(&self, until: Instant) -> CallError {
        let (what, name) = (&self.what, &self.machine.name);
        let left = until.saturating_duration_since(Instant::now()).as_secs();
        let when = match left {
            0 => format!(
                "the machine takes it back by itself {} s after it began, so it should be as it was by now",
                self.window.as_secs()
            ),
            left => format!("the machine takes it back by itself in {left} s"),
        };
        if self.ctx.cancel.is_cancelled() {
            return CallError::Failed(format!("cancelled before {what} on {name} was confirmed; {when}"));
        }
        CallError::Unreachable(format!(
            "{name} was not reached again after {what} ({}); {when}; what it did is kept in {FOLDER}/{} there: look at its console",
            self.failures(),
            self.id
        ))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_found_by_its_run_and_record() {
        let mark = |run: &str| Mark { run: run.to_owned(), session: 3, record: 41, owner: String::new() };
        assert_eq!(name(Some(&mark("20261126-dr"))), Some(("20261126-dr-41".to_owned(), 3)));
        let (id, _) = name(Some(&mark("../a b\n"))).unwrap();
        assert_eq!(id, "___a_b_-41");
        assert!(name(Some(&mark(&"x".repeat(300)))).unwrap().0.len() < 100);
        assert_eq!(name(None), None);
    }
}
