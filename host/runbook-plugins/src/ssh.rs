//! `runbook:ssh/machines`.

use runbook_model::call::{
    Act, Answer, Call, CallError, Change, Command, Exit, HttpRequest, Input, Look, Outcome, Output, SshAct, SshLook,
    Target, Undo,
};
use wasmtime::component::Resource;

use crate::bindings::runbook::base::types::Effect;
use crate::bindings::runbook::ssh::machines as guest;
use crate::convert::{self, take};
use crate::state::{Fault, Machine, State, Tree};

/// Machines that a role may hand over at once.
const MAX_MACHINES: usize = 5000;

impl State {
    fn machine(&self, machine: &Resource<Machine>) -> Result<Target, Fault> {
        Ok(Target::Machine(self.table.get(machine)?.name.clone()))
    }

    async fn ssh_look(&mut self, machine: &Resource<Machine>, look: SshLook) -> Result<Answer, Fault> {
        let target = self.machine(machine)?;
        self.look(target, Look::Ssh(look)).await
    }

    async fn ssh_act(
        &mut self,
        machine: &Resource<Machine>,
        act: SshAct,
        effect: Effect,
    ) -> Result<guest::Outcome, Fault> {
        let target = self.machine(machine)?;
        let change = Change { act: Act::Ssh(act), effect: convert::effect(effect) };
        let answer = self.answer(target, Call::Change(change)).await?;
        match take!(answer, Answer::Outcome) {
            Outcome::Done(done) => Ok(guest::Outcome::Done(output(done))),
            Outcome::Already => Ok(guest::Outcome::Already),
            Outcome::Planned => Ok(guest::Outcome::Planned),
            Outcome::Deferred => Ok(guest::Outcome::Deferred),
            Outcome::PodDone(_) => Err(convert::wrong_answer()),
        }
    }

    async fn observe_some(
        &mut self,
        machine: &Resource<Machine>,
        commands: Vec<Command>,
    ) -> Result<Vec<guest::Output>, Fault> {
        let count = commands.len();
        let answer = self.ssh_look(machine, SshLook::Observe { commands }).await?;
        let outputs = take!(answer, Answer::Outputs);
        if outputs.len() != count {
            return Err(convert::wrong_answer());
        }
        Ok(outputs.into_iter().map(output).collect())
    }

    fn command(&self, command: guest::Command) -> Result<Command, Fault> {
        let stdin = match command.stdin {
            guest::Input::None => Input::None,
            guest::Input::Text(text) => Input::Text(convert::text(text)),
            guest::Input::Bytes(bytes) => Input::Bytes(bytes.into()),
            guest::Input::CopyOf(source) => Input::CopyOf(self.table.get(&source)?.clone()),
        };
        Ok(Command {
            argv: command.argv,
            cwd: command.cwd.map(convert::path).transpose()?,
            env: command.env.into_iter().map(|(name, text)| (name, convert::text(text))).collect(),
            stdin,
            files: command.files.into_iter().map(|file| (file.name, convert::text(file.content))).collect(),
            reads: command.reads,
            timeout_ms: command.timeout_ms.map(convert::wait_ms),
            privileged: command.privileged,
            follow: command.follow,
        })
    }

    fn commands(&self, commands: Vec<guest::Command>) -> Result<Vec<Command>, Fault> {
        commands.into_iter().map(|command| self.command(command)).collect()
    }

    fn boxed(&self, command: Option<guest::Command>) -> Result<Option<Box<Command>>, Fault> {
        command.map(|command| self.command(command).map(Box::new)).transpose()
    }

    fn undo(&self, undo: guest::Undo) -> Result<Undo, Fault> {
        Ok(match undo {
            guest::Undo::Inverse(inverse) => Undo::Inverse {
                command: Box::new(self.command(inverse.command)?),
                only_if: self.boxed(inverse.only_if)?,
            },
            guest::Undo::Harmless => Undo::Harmless,
            guest::Undo::Irreversible(consequence) => Undo::Irreversible(convert::line(&consequence)),
            guest::Undo::ByHand(instructions) => Undo::ByHand(instructions),
        })
    }
}

impl guest::Host for State {
    async fn targets(&mut self, role: String) -> wasmtime::Result<Vec<Resource<Machine>>> {
        let names = self.road.targets(&role);
        names.into_iter().take(MAX_MACHINES).map(|name| self.push(Machine { name })).collect()
    }
}

impl guest::HostMachine for State {
    async fn name(&mut self, machine: Resource<Machine>) -> wasmtime::Result<String> {
        Ok(self.table.get(&machine)?.name.clone())
    }

    async fn facts(&mut self, machine: Resource<Machine>) -> Result<guest::Facts, Fault> {
        let answer = self.ssh_look(&machine, SshLook::Facts).await?;
        let facts = take!(answer, Answer::Facts);
        Ok(guest::Facts {
            hostname: facts.hostname,
            os_id: facts.os_id,
            os_version: facts.os_version,
            arch: facts.arch,
            boot_id: facts.boot_id,
        })
    }

    async fn files(&mut self, machine: Resource<Machine>) -> wasmtime::Result<Resource<Tree>> {
        let name = self.table.get(&machine)?.name.clone();
        self.push(Tree { target: Target::Machine(name) })
    }

    async fn observe(&mut self, machine: Resource<Machine>, command: guest::Command) -> Result<guest::Output, Fault> {
        let commands = vec![self.command(command)?];
        self.observe_some(&machine, commands).await?.pop().ok_or_else(convert::wrong_answer)
    }

    async fn observe_all(
        &mut self,
        machine: Resource<Machine>,
        commands: Vec<guest::Command>,
    ) -> Result<Vec<guest::Output>, Fault> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let commands = self.commands(commands)?;
        self.observe_some(&machine, commands).await
    }

    async fn change(
        &mut self,
        machine: Resource<Machine>,
        command: guest::Command,
        done_when: Option<guest::Command>,
        undo: guest::Undo,
        effect: Effect,
    ) -> Result<guest::Outcome, Fault> {
        self.change_pipeline(machine, vec![command], done_when, undo, effect).await
    }

    async fn change_pipeline(
        &mut self,
        machine: Resource<Machine>,
        commands: Vec<guest::Command>,
        done_when: Option<guest::Command>,
        undo: guest::Undo,
        effect: Effect,
    ) -> Result<guest::Outcome, Fault> {
        if commands.is_empty() {
            return Err(Fault::Call(CallError::Invalid("a pipeline needs at least one command".to_owned())));
        }
        let act = SshAct::Run {
            pipeline: self.commands(commands)?,
            done_when: self.boxed(done_when)?,
            undo: self.undo(undo)?,
        };
        self.ssh_act(&machine, act, effect).await
    }

    async fn change_confirmed(
        &mut self,
        machine: Resource<Machine>,
        commit: guest::Command,
        revert: guest::Command,
        window_ms: u32,
        addresses: Vec<String>,
        effect: Effect,
    ) -> Result<guest::Outcome, Fault> {
        let addresses = addresses.into_iter().map(|address| convert::name("an address", address));
        let act = SshAct::Confirm {
            commit: Box::new(self.command(commit)?),
            revert: Box::new(self.command(revert)?),
            window_ms: convert::wait_ms(window_ms),
            addresses: addresses.collect::<Result<_, _>>()?,
        };
        self.ssh_act(&machine, act, effect).await
    }

    async fn reboot(
        &mut self,
        machine: Resource<Machine>,
        timeout_ms: u32,
        effect: Effect,
    ) -> Result<guest::Outcome, Fault> {
        self.ssh_act(&machine, SshAct::Reboot { timeout_ms: convert::wait_ms(timeout_ms) }, effect).await
    }

    async fn http(&mut self, machine: Resource<Machine>, request: guest::Request) -> Result<guest::Response, Fault> {
        let answer = self.ssh_look(&machine, SshLook::Http { request: http_request(request)? }).await?;
        let response = take!(answer, Answer::Http);
        Ok(guest::Response { status: response.status, headers: response.headers, body: response.body.0 })
    }

    async fn http_change(
        &mut self,
        machine: Resource<Machine>,
        request: guest::Request,
        undo: guest::Undo,
        effect: Effect,
    ) -> Result<guest::Outcome, Fault> {
        let act = SshAct::Http { request: http_request(request)?, undo: self.undo(undo)? };
        self.ssh_act(&machine, act, effect).await
    }

    async fn tcp(
        &mut self,
        machine: Resource<Machine>,
        address: String,
        port: u16,
        timeout_ms: u32,
    ) -> Result<bool, Fault> {
        let look = SshLook::Tcp {
            address: convert::name("an address", address)?,
            port,
            timeout_ms: convert::wait_ms(timeout_ms),
        };
        let answer = self.ssh_look(&machine, look).await?;
        Ok(take!(answer, Answer::Flag))
    }

    async fn resolve(
        &mut self,
        machine: Resource<Machine>,
        name: String,
        record_type: String,
        server: Option<String>,
    ) -> Result<Vec<String>, Fault> {
        let look = SshLook::Resolve {
            name: convert::name("a name", name)?,
            record_type: convert::name("a record type", record_type)?,
            server: convert::optional_name("a server", server)?,
        };
        let answer = self.ssh_look(&machine, look).await?;
        Ok(take!(answer, Answer::Names))
    }

    async fn drop(&mut self, machine: Resource<Machine>) -> wasmtime::Result<()> {
        self.table.delete(machine)?;
        Ok(())
    }
}

fn http_request(request: guest::Request) -> Result<HttpRequest, Fault> {
    Ok(HttpRequest {
        method: convert::name("a method", request.method)?,
        url: convert::name("a URL", request.url)?,
        headers: request.headers.into_iter().map(|(name, text)| (name, convert::text(text))).collect(),
        body: convert::text(request.body),
        ca: request.ca,
    })
}

fn output(output: Output) -> guest::Output {
    guest::Output {
        exit: match output.exit {
            Exit::Code(code) => guest::Exit::Code(code),
            Exit::Signal(name) => guest::Exit::Signal(name),
        },
        stdout: output.stdout.0,
        stderr: output.stderr.0,
    }
}
