//! Commands, looks over the network, reboots.

use runbook_engine::backend::{CallContext, Secrets};
use runbook_model::bytes::Bytes;
use runbook_model::call::{
    Answer, CallError, Command, Exit, Facts, Finding, HttpRequest, HttpResponse, Input, Outcome, Output, Prior,
    Response, SshAct, SshLook, Target,
};

use crate::machine::{Invocation, fill, output};
use crate::state::State;

impl State {
    pub(crate) fn ssh_look(&mut self, target: &Target, look: &SshLook, secrets: &Secrets) -> Response {
        match look {
            SshLook::Facts => {
                let machine = self.known(target)?;
                Ok(Answer::Facts(Facts { boot_id: machine.boot_id(), ..machine.facts.clone() }))
            }
            SshLook::Observe { commands } => {
                let run = |command| self.observe(target, command, secrets);
                commands.iter().map(run).collect::<Result<_, _>>().map(Answer::Outputs)
            }
            SshLook::Http { request } => self.http(target, request, secrets).map(Answer::Http),
            SshLook::Tcp { address, port, .. } => {
                let call = Invocation::pseudo(["(tcp)", &format!("{address}:{port}")]);
                self.execute(target, &call, false).map(|output| Answer::Flag(output.exit.success()))
            }
            SshLook::Resolve { name, record_type, .. } => {
                let call = Invocation::pseudo(["(dns)", record_type, name]);
                let output = self.execute(target, &call, false)?;
                Ok(Answer::Names(output.stdout.lossy().lines().map(str::to_owned).collect()))
            }
        }
    }

    fn observe(&mut self, target: &Target, command: &Command, secrets: &Secrets) -> Result<Output, CallError> {
        let call = self.invocation(command, secrets)?;
        self.execute(target, &call, false)
    }

    fn invocation(&self, command: &Command, secrets: &Secrets) -> Result<Invocation, CallError> {
        let copy = match &command.stdin {
            Input::CopyOf(source) => Some(self.source(source)?),
            Input::None | Input::Text(_) | Input::Bytes(_) => None,
        };
        Invocation::of(command, secrets, copy)
    }

    fn http(&mut self, target: &Target, request: &HttpRequest, secrets: &Secrets) -> Result<HttpResponse, CallError> {
        let mut call = Invocation::pseudo(["(http)", &request.method, &request.url]);
        call.stdin = fill(&request.body, secrets)?.into_bytes();
        let output = self.execute(target, &call, false)?;
        let Exit::Code(status @ 100..=599) = output.exit else {
            return Err(CallError::Unreachable(format!("{}: nobody answers at {}", target, request.url)));
        };
        Ok(HttpResponse { status: status as u16, headers: Vec::new(), body: output.stdout })
    }

    /// Whether a command that only looks ends well.
    fn holds(&mut self, target: &Target, command: &Command, secrets: &Secrets) -> Result<bool, CallError> {
        self.observe(target, command, secrets).map(|output| output.exit.success())
    }

    pub(crate) fn ssh_prior(&mut self, target: &Target, act: &SshAct, secrets: &Secrets) -> Result<Prior, CallError> {
        let done = match act {
            SshAct::Run { done_when: Some(command), .. } => Some(self.holds(target, command, secrets)?),
            SshAct::Run { done_when: None, .. }
            | SshAct::Reboot { .. }
            | SshAct::Confirm { .. }
            | SshAct::Http { .. } => None,
        };
        Ok(Prior::Process { done, boot_id: self.known(target)?.boot_id() })
    }

    /// `half`: what is run is killed before its end, and nobody notes how it ended.
    pub(crate) fn ssh_act(&mut self, target: &Target, act: &SshAct, half: bool, ctx: &CallContext) -> Response {
        let secrets = &*ctx.secrets;
        let key = ctx.mark.as_ref().map(|mark| (target.to_string(), mark.run.clone(), mark.record));
        if let Some(key) = &key {
            self.marks.insert(key.clone(), None);
        }
        let output = match act {
            SshAct::Run { pipeline, .. } => self.pipeline(target, pipeline, half, secrets)?,
            SshAct::Confirm { commit, revert, .. } => {
                let output = self.pipeline(target, std::slice::from_ref(commit.as_ref()), half, secrets)?;
                if !output.exit.success() {
                    self.pipeline(target, std::slice::from_ref(revert.as_ref()), false, secrets)?;
                }
                output
            }
            SshAct::Reboot { .. } => {
                let machine = self.change_machine(target)?;
                machine.boots += 1;
                // Programs that describe what a boot does.
                machine.run(&Invocation::pseudo(["(boot)"]), false);
                output(0, "")
            }
            SshAct::Http { request, .. } => {
                let response = self.http(target, request, secrets)?;
                Output {
                    exit: Exit::Code(i32::from(response.status >= 400)),
                    stdout: response.body,
                    stderr: Bytes::default(),
                }
            }
        };
        if let Some(key) = key.filter(|_| !half) {
            self.marks.insert(key, Some(output.clone()));
        }
        Ok(Answer::Outcome(Outcome::Done(output)))
    }

    fn pipeline(
        &mut self,
        target: &Target,
        pipeline: &[Command],
        half: bool,
        secrets: &Secrets,
    ) -> Result<Output, CallError> {
        let mut last: Option<Output> = None;
        for command in pipeline {
            let mut call = self.invocation(command, secrets)?;
            if let Some(before) = last.take() {
                call.stdin = before.stdout.0;
            }
            last = Some(self.execute(target, &call, half)?);
        }
        last.ok_or_else(|| CallError::Invalid("a pipeline without commands".to_owned()))
    }

    /// What became of a process, by the notes of the machine.
    pub(crate) fn ssh_settled(
        &mut self,
        target: &Target,
        act: &SshAct,
        prior: &Prior,
        ctx: &CallContext,
    ) -> Result<Finding, CallError> {
        if let (SshAct::Reboot { .. }, Prior::Process { boot_id, .. }) = (act, prior) {
            let machine = self.known(target)?;
            return Ok(match machine.boot_id() == *boot_id {
                true => Finding::NotDone,
                false => Finding::Done(Answer::Outcome(Outcome::Done(output(0, "")))),
            });
        }
        let Some(mark) = &ctx.mark else { return Ok(Finding::Unclear("it has no mark".to_owned())) };
        let noted = self.marks.get(&(target.to_string(), mark.run.clone(), mark.record)).cloned();
        let done_when = match act {
            SshAct::Run { done_when, .. } => done_when.as_deref(),
            SshAct::Reboot { .. } | SshAct::Confirm { .. } | SshAct::Http { .. } => None,
        };
        Ok(match (noted, done_when) {
            (Some(Some(output)), _) => Finding::Done(Answer::Outcome(Outcome::Done(output))),
            (None, _) => Finding::NotDone,
            (Some(None), Some(command)) if self.holds(target, command, &ctx.secrets)? => {
                Finding::Done(Answer::Outcome(Outcome::Already))
            }
            (Some(None), _) => Finding::Unclear("it was begun, and has not ended".to_owned()),
        })
    }
}
