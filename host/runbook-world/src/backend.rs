//! The world as the engine asks it.

use async_trait::async_trait;
use runbook_engine::backend::{Backend, CallContext, Mark};
use runbook_model::call::{Act, CallError, Finding, Look, Prior, Response, Target};

use crate::World;
use crate::files::{self, Place};
use crate::state::{Done, State, differences};
use crate::weather::Fate;

fn no_answer() -> CallError {
    CallError::Unreachable("no answer came".to_owned())
}

impl State {
    /// Lets a session change a target, where no other run and no newer session is in charge of it.
    fn lease(&mut self, target: &Target, mark: &Mark) -> Result<(), CallError> {
        match self.leases.get(&target.to_string()) {
            Some((run, _)) if *run != mark.run => {
                return Err(CallError::Conflict(format!("{target} is leased to the run {run}")));
            }
            Some((_, session)) if *session > mark.session => {
                return Err(CallError::Conflict(format!("a newer session is in charge of {target}")));
            }
            Some(_) | None => {}
        }
        self.leases.insert(target.to_string(), (mark.run.clone(), mark.session));
        Ok(())
    }

    fn carry_out(&mut self, target: &Target, act: &Act, prior: &Prior, half: bool, ctx: &CallContext) -> Response {
        match act {
            Act::Files(act) => self.change_file(&Place { target, secrets: &ctx.secrets }, act, prior),
            Act::Ssh(act) => self.ssh_act(target, act, half, ctx),
            Act::Kube(act) => self.kube_act(target, act, prior, half, ctx),
        }
    }
}

impl World {
    fn loses_look(&self) -> bool {
        self.power().weather.loses_look()
    }
}

#[async_trait]
impl Backend for World {
    async fn look(&self, target: &Target, look: &Look, ctx: &CallContext) -> Response {
        if self.loses_look() {
            return Err(no_answer());
        }
        let mut state = self.state();
        match look {
            Look::Files(look) => files::look(state.tree(target)?, target, look),
            Look::Ssh(look) => state.ssh_look(target, look, &ctx.secrets),
            Look::Kube(look) => state.kube_look(target, look, ctx),
        }
    }

    async fn prior(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<Prior, CallError> {
        if self.loses_look() {
            return Err(no_answer());
        }
        let mut state = self.state();
        match act {
            Act::Files(act) => state.file_prior(&Place { target, secrets: &ctx.secrets }, act).map(Prior::File),
            Act::Ssh(act) => state.ssh_prior(target, act, &ctx.secrets),
            Act::Kube(act) => state.kube_prior(target, act, ctx),
        }
    }

    async fn act(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Response {
        let (mut power, mut state) = (self.power(), self.state());
        let Some(mark) = ctx.mark.as_ref().filter(|_| !ctx.read_only) else {
            state.violations += 1;
            return Err(CallError::Denied("nothing may be changed".to_owned()));
        };
        if power.off {
            return Err(CallError::Unreachable("the power is off".to_owned()));
        }
        state.lease(target, mark)?;
        let fate = power.weather.fate();
        if fate == Fate::Lost {
            return Err(no_answer());
        }
        let before = state.clone();
        let response = state.carry_out(target, act, prior, power.cut, ctx);
        let done = Done {
            target: target.clone(),
            act: act.clone(),
            call: ctx.origin.as_ref().map(|origin| (origin.instance.clone(), origin.call)),
            is_undo: ctx.origin.as_ref().is_some_and(|origin| origin.is_undo),
            touched: differences(&before, &state),
        };
        state.done.push(done);
        let undescribed: Vec<String> =
            state.clusters.values_mut().flat_map(|it| std::mem::take(&mut it.gaps)).collect();
        state.gaps.extend(undescribed);
        if fate == Fate::Unheard { Err(no_answer()) } else { response }
    }

    async fn settle(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Result<Finding, CallError> {
        let (mut power, mut state) = (self.power(), self.state());
        if power.weather.fate() != Fate::Arrives {
            return Err(no_answer());
        }
        if let Some(mark) = &ctx.mark {
            state.lease(target, mark)?;
        }
        match act {
            Act::Files(act) => state.file_settled(&Place { target, secrets: &ctx.secrets }, act, prior),
            Act::Ssh(act) => state.ssh_settled(target, act, prior, ctx),
            Act::Kube(act) => state.kube_settled(target, act, prior, ctx),
        }
    }

    async fn take_charge(&self, target: &Target, _: &Act, ctx: &CallContext) -> Result<(), CallError> {
        match &ctx.mark {
            Some(mark) => self.state().lease(target, mark),
            None => Ok(()),
        }
    }

    async fn close(&self) {
        let mut state = self.state();
        state.leases.clear();
        state.marks.clear();
    }
}
