//! The world as the engine asks it.

use std::time::Duration;

use async_trait::async_trait;
use runbook_engine::backend::{Backend, CallContext, Mark, Standing};
use runbook_engine::clock;
use runbook_model::call::{Act, CallError, Finding, Look, Prior, Response, Target};

use crate::World;
use crate::files::{self, Place};
use crate::state::{Done, Lease, State, Work, differences};
use crate::weather::{Fate, Journey};

/// A connection on which nothing is heard for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// How often an API server is asked that refuses, and how long one waits before it is asked again.
const TRIES: u32 = 4;
const BETWEEN: Duration = Duration::from_secs(2);

fn no_answer() -> CallError {
    CallError::Unreachable("no answer came".to_owned())
}

impl State {
    /// Lets a session change a target, where no other run and no newer session is in charge of it.
    fn lease(&mut self, target: &Target, mark: &Mark, ctx: &CallContext) -> Result<(), CallError> {
        match self.leases.get(&target.to_string()).filter(|lease| !lease.is_over(clock::now())) {
            Some(Lease { run, session, .. }) if *run != mark.run => {
                if ctx.runs.standing(run, *session) != Standing::Over {
                    return Err(CallError::Conflict(format!("{target} is leased to the run {run}")));
                }
                ctx.progress.took_over(&target.to_string(), run, *session);
            }
            Some(Lease { session, .. }) if *session > mark.session => {
                return Err(CallError::Conflict(format!("a newer session is in charge of {target}")));
            }
            Some(_) | None => {}
        }
        let lease = Lease { run: mark.run.clone(), session: mark.session, until: None };
        self.leases.insert(target.to_string(), lease);
        Ok(())
    }

    /// The connection to a target is lost: nobody renews its lease.
    fn disconnect(&mut self, target: &Target) {
        if let Some(lease) = self.leases.get_mut(&target.to_string()) {
            lease.until.get_or_insert(clock::now() + crate::state::LEASE);
        }
    }

    /// A change that has arrived.
    pub(crate) fn change(
        &mut self,
        target: &Target,
        act: &Act,
        prior: &Prior,
        half: bool,
        ctx: &CallContext,
    ) -> Response {
        let before = self.clone();
        let response = self.carry_out(target, act, prior, half, ctx);
        let done = Done {
            target: target.clone(),
            act: act.clone(),
            call: ctx.origin.as_ref().map(|origin| (origin.instance.clone(), origin.call)),
            is_undo: ctx.origin.as_ref().is_some_and(|origin| origin.is_undo),
            touched: differences(&before, self),
        };
        self.done.push(done);
        let undescribed: Vec<String> = self.clusters.values_mut().flat_map(|it| std::mem::take(&mut it.gaps)).collect();
        self.gaps.extend(undescribed);
        response
    }

    fn carry_out(&mut self, target: &Target, act: &Act, prior: &Prior, half: bool, ctx: &CallContext) -> Response {
        match act {
            Act::Files(act) => self.change_file(&Place { target, secrets: &ctx.secrets }, act, prior),
            Act::Ssh(act) => self.ssh_act(target, act, half, ctx),
            Act::Kube(act) => self.kube_act(target, act, prior, half, ctx),
        }
    }
}

/// Waits within a call.
async fn wait(time: Duration, target: &Target, ctx: &CallContext) -> Result<(), CallError> {
    if time.is_zero() {
        return Ok(());
    }
    tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => Err(CallError::Failed("the run was cancelled".to_owned())),
        () = tokio::time::sleep_until(ctx.deadline.into()) => {
            Err(CallError::TimedOut(format!("{target} gave no answer in the time of the step")))
        }
        () = tokio::time::sleep(time) => Ok(()),
    }
}

impl Journey {
    /// Nothing is heard any more, until whoever asked gives up.
    async fn is_lost(self, target: &Target, ctx: &CallContext) -> CallError {
        let silence = if self.silent { SILENCE } else { Duration::ZERO };
        // Whatever it was that made it end: nobody can tell what became of the call.
        let _ = wait(silence, target, ctx).await;
        no_answer()
    }
}

impl World {
    /// Asks what refuses everything until it does so no more, or for long enough. `acting`: only where the server says that it did not
    /// begin.
    async fn served(&self, target: &Target, acting: bool, ctx: &CallContext) -> Result<(), CallError> {
        let mut tries = 1;
        loop {
            let code = {
                let mut power = self.power();
                if let (Target::Cluster(_), Some((code, time))) = (target, power.weather.outage()) {
                    power.outages.entry(target.to_string()).or_insert((code, clock::now() + time));
                }
                power.outages.retain(|_, (_, until)| *until > clock::now());
                power.outages.get(&target.to_string()).map(|(code, _)| *code)
            };
            let Some(code) = code else { return Ok(()) };
            if tries == TRIES || (acting && code != 429) {
                let text = format!("{target} refuses everything ({code})");
                return Err(if code == 503 { CallError::Unreachable(text) } else { CallError::Failed(text) });
            }
            tries += 1;
            wait(BETWEEN, target, ctx).await?;
        }
    }

    /// What a look takes until it is answered.
    async fn reach(&self, target: &Target, ctx: &CallContext) -> Result<(), CallError> {
        let journey = self.power().weather.of_look();
        wait(journey.takes, target, ctx).await?;
        if journey.fate != Fate::Arrives {
            return Err(journey.is_lost(target, ctx).await);
        }
        self.served(target, false, ctx).await
    }

    /// A change that is on its way arrives. `goes_on`: it is at work for so long then.
    fn arrives(
        &self,
        target: &Target,
        act: &Act,
        prior: &Prior,
        goes_on: Option<Duration>,
        ctx: &CallContext,
    ) -> Response {
        let (power, mut state) = (self.power(), self.state());
        if power.off {
            return Err(CallError::Unreachable("the power is off".to_owned()));
        }
        if let Some(mark) = &ctx.mark {
            state.lease(target, mark, ctx)?;
        }
        let Some(time) = goes_on else { return state.change(target, act, prior, power.cut, ctx) };
        let ends = clock::now() + time;
        state.at_work.push(Work {
            ends,
            target: target.clone(),
            act: act.clone(),
            prior: prior.clone(),
            ctx: ctx.clone(),
        });
        Err(no_answer())
    }
}

#[async_trait]
impl Backend for World {
    async fn look(&self, target: &Target, look: &Look, ctx: &CallContext) -> Response {
        self.reach(target, ctx).await?;
        let mut state = self.state();
        match look {
            Look::Files(look) => files::look(state.tree(target)?, target, look),
            Look::Ssh(look) => state.ssh_look(target, look, &ctx.secrets),
            Look::Kube(look) => state.kube_look(target, look, ctx),
        }
    }

    async fn prior(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<Prior, CallError> {
        self.reach(target, ctx).await?;
        let mut state = self.state();
        match act {
            Act::Files(act) => state.file_prior(&Place { target, secrets: &ctx.secrets }, act).map(Prior::File),
            Act::Ssh(act) => state.ssh_prior(target, act, &ctx.secrets),
            Act::Kube(act) => state.kube_prior(target, act, ctx),
        }
    }

    async fn act(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Response {
        if ctx.mark.is_none() || ctx.read_only {
            self.state().violations += 1;
            return Err(CallError::Denied("nothing may be changed".to_owned()));
        }
        let (journey, ends) = {
            let mut power = self.power();
            if power.off {
                return Err(CallError::Unreachable("the power is off".to_owned()));
            }
            (power.weather.of_change(), power.ends)
        };
        // What is ended before it did anything, is known to be ended.
        wait(journey.takes, target, ctx).await?;
        self.served(target, true, ctx).await?;
        if self.power().ends != ends {
            return Err(no_answer());
        }
        let response = match journey.fate {
            Fate::Arrives => return self.arrives(target, act, prior, None, ctx),
            Fate::Lost => Err(no_answer()),
            Fate::Unheard => self.arrives(target, act, prior, None, ctx),
            Fate::GoesOn(time) => self.arrives(target, act, prior, Some(time), ctx),
        };
        self.state().disconnect(target);
        match response {
            // It was refused, and that is heard.
            Err(error @ CallError::Conflict(_)) => Err(error),
            Ok(_) | Err(_) => Err(journey.is_lost(target, ctx).await),
        }
    }

    async fn settle(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Result<Finding, CallError> {
        let journey = self.power().weather.of_change();
        wait(journey.takes, target, ctx).await?;
        if journey.fate != Fate::Arrives {
            return Err(journey.is_lost(target, ctx).await);
        }
        self.served(target, false, ctx).await?;
        if let Some(mark) = &ctx.mark {
            self.state().lease(target, mark, ctx)?;
        }
        // What is still at work is waited for.
        let ends = |work: &Work| {
            let of = |ctx: &CallContext| ctx.mark.as_ref().map(|mark| (mark.run.clone(), mark.record));
            (work.target == *target && of(&work.ctx) == of(ctx)).then_some(work.ends)
        };
        loop {
            let Some(ends) = self.state().at_work.iter().find_map(ends) else { break };
            wait(ends.saturating_duration_since(clock::now()), target, ctx).await?;
        }
        let mut state = self.state();
        match act {
            Act::Files(act) => state.file_settled(&Place { target, secrets: &ctx.secrets }, act, prior),
            Act::Ssh(act) => state.ssh_settled(target, act, prior, ctx),
            Act::Kube(act) => state.kube_settled(target, act, prior, ctx),
        }
    }

    async fn take_charge(&self, target: &Target, _: &Act, ctx: &CallContext) -> Result<(), CallError> {
        match &ctx.mark {
            Some(mark) => self.state().lease(target, mark, ctx),
            None => Ok(()),
        }
    }

    async fn close(&self) {
        let mut state = self.state();
        // Those that end at some time are others', or of a connection that is gone.
        state.leases.retain(|_, lease| lease.until.is_some());
        state.marks.clear();
    }
}
