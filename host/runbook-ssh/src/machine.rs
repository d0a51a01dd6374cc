//! One machine of a run: its connection, its helper shells, and who uses which.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_engine::backend::CallContext;
use runbook_model::call::{CallError, Command, Facts, Input, Output, SourceRef, Target};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::r#become::{Become, Opener};
use crate::command::{Item, Stdin, exit, inline, materialise_bytes, materialise_text};
use crate::frame::Frame;
use crate::lease::{self, Leases};
use crate::looks::{self, Looks};
use crate::marks::Marked;
use crate::net::Tools;
use crate::quote::tail;
use crate::shell::{Ended, Feed, Halt, Job, Shell};
use crate::shells::{Lane, Seat, Shells};
use crate::system;
use crate::transport::Transport;

/// Commands that hold data on a channel of their own, at once for each machine.
const FEEDS: usize = 2;
/// Bytes of a piece that is streamed.
const PIECE: usize = 64 << 10;
/// Bytes: a stream that is larger has a connection of its own, so that its reader's pace is nobody else's.
const BULK: u64 = 16 << 20;

/// Connects to machines of the inventory.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Opens a new connection.
    ///
    /// # Errors
    ///
    /// `unreachable` where nobody answered, `denied` where login was refused, `timed_out` at the deadline.
    async fn connect(&self, machine: &str, deadline: Instant) -> Result<Arc<dyn Transport>, CallError>;

    /// Opens a new connection for one stream of any size, whose reader may be slow.
    ///
    /// # Errors
    ///
    /// As [`Connector::connect`], which it is unless there is a better one.
    async fn connect_bulk(&self, machine: &str, deadline: Instant) -> Result<Arc<dyn Transport>, CallError> {
        self.connect(machine, deadline).await
    }

    /// Opens a new connection to a machine whose address may have changed: at this address, or where none is named as
    /// [`Connector::connect`] does. Where a host key is named, whoever shows another one is somebody else.
    ///
    /// # Errors
    ///
    /// As [`Connector::connect`], which it is where a machine has no address.
    async fn connect_again(
        &self,
        machine: &str,
        address: Option<&str>,
        host_key: Option<&str>,
        deadline: Instant,
    ) -> Result<Arc<dyn Transport>, CallError> {
        let _ = (address, host_key);
        self.connect(machine, deadline).await
    }

    /// From now on, this address of the machine is tried first, and whoever shows another host key is somebody else.
    fn moved(&self, machine: &str, address: &str, host_key: Option<&str>) {
        let _ = (machine, address, host_key);
    }

    /// How commands that need root get it there.
    fn become_of(&self, machine: &str) -> Become;
}

/// Opens sources, wherever they lie.
#[async_trait]
pub(crate) trait Sources: Send + Sync {
    /// The content of a source, checked against what it was when it was pinned.
    async fn feed(&self, source: &SourceRef, ctx: &CallContext) -> Result<Feed, CallError>;
}

/// Who runs something on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Login,
    Root,
}

pub(crate) struct Machine {
    pub(crate) target: Target,
    /// For messages.
    pub(crate) name: String,
    road: Road,
    by: Become,
    pub(crate) ways: Ways,
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
    login_looks: Looks,
    root_looks: Looks,
    pub(crate) leases: Leases,
}

/// How machines are dealt with. Tests have other ways.
#[derive(Debug, Clone)]
pub(crate) struct Ways {
    /// Where a machine shows its boot id.
    pub(crate) boot_id_file: String,
    /// Whether perl may serve, where it is there.
    pub(crate) perl: bool,
    /// How long a machine is ours without another word.
    pub(crate) lease: Duration,
}

impl Default for Ways {
    fn default() -> Self {
        Self { boot_id_file: system::BOOT_ID.to_owned(), perl: true, lease: lease::TTL }
    }
}

enum Road {
    Connector(Arc<dyn Connector>),
    /// Always there.
    Local(Arc<dyn Transport>),
}

/// What is known of one connection, and what is kept open on it.
pub(crate) struct Connection {
    transport: Arc<dyn Transport>,
    login: Arc<Shells>,
    root: Arc<Shells>,
    feeds: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    boot_id: Arc<OnceLock<String>>,
    pub(crate) facts: OnceCell<Facts>,
    pub(crate) tools: OnceCell<Tools>,
}

impl Connection {
    fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            login: Shells::new(),
            root: Shells::new(),
            feeds: Arc::new(Semaphore::new(FEEDS)),
            streams: Arc::new(Semaphore::new(FEEDS)),
            boot_id: Arc::default(),
            facts: OnceCell::new(),
            tools: OnceCell::new(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.transport.is_closed()
    }

    fn shells(&self, who: Who) -> &Arc<Shells> {
        match who {
            Who::Login => &self.login,
            Who::Root => &self.root,
        }
    }

    async fn close(&self) {
        for shells in [&self.login, &self.root] {
            shells.clear();
        }
        self.transport.close().await;
    }
}

impl Machine {
    pub(crate) fn new(name: &str, connector: Arc<dyn Connector>, ways: Ways) -> Self {
        let by = connector.become_of(name);
        Self::by(Target::Machine(name.to_owned()), name, Road::Connector(connector), by, ways)
    }

    pub(crate) fn controller(transport: Arc<dyn Transport>, ways: Ways) -> Self {
        Self::by(Target::Controller, "the controller", Road::Local(transport), Become::None, ways)
    }

    fn by(target: Target, name: &str, road: Road, by: Become, ways: Ways) -> Self {
        Self {
            target,
            name: name.to_owned(),
            road,
            by,
            ways,
            connection: tokio::sync::Mutex::default(),
            login_looks: Looks::default(),
            root_looks: Looks::default(),
            leases: Leases::default(),
        }
    }

    /// Who runs commands that ask for the rights of `become`, and file operations.
    pub(crate) fn privileged(&self) -> Who {
        match self.by {
            Become::None => Who::Login,
            Become::Sudo { .. } => Who::Root,
        }
    }

    pub(crate) fn who(&self, command: &Command) -> Who {
        if command.privileged { self.privileged() } else { Who::Login }
    }

    /// The connection, opened where there is none that lives.
    pub(crate) async fn connection(&self, ctx: &CallContext) -> Result<Arc<Connection>, CallError> {
        let connecting = async {
            let mut slot = self.connection.lock().await;
            if let Some(connection) = slot.as_ref().filter(|connection| !connection.transport.is_closed()) {
                return Ok(connection.clone());
            }
            ctx.progress.progress(&format!("connecting to {}", self.name), 0, None, "");
            let transport = match &self.road {
                Road::Connector(connector) => connector.connect(&self.name, ctx.deadline).await?,
                Road::Local(transport) => transport.clone(),
            };
            let connection = Arc::new(Connection::new(transport));
            *slot = Some(connection.clone());
            Ok(connection)
        };
        self.wait(connecting, ctx, "a connection").await?
    }

    /// The host key that the machine showed on its connection.
    pub(crate) async fn host_key(&self, ctx: &CallContext) -> Result<Option<String>, CallError> {
        Ok(self.connection(ctx).await?.transport.host_key())
    }

    /// Ends the connection and opens a new one, at an address that the machine may have by now. Gives the address that answered.
    pub(crate) async fn reconnect(
        &self,
        address: Option<&str>,
        host_key: Option<&str>,
        ctx: &CallContext,
    ) -> Result<Option<String>, CallError> {
        self.disconnect().await;
        let transport = match &self.road {
            Road::Connector(connector) => {
                let connecting = connector.connect_again(&self.name, address, host_key, ctx.deadline);
                self.wait(connecting, ctx, "a new connection").await??
            }
            Road::Local(transport) => transport.clone(),
        };
        let answered = transport.address().map(str::to_owned);
        *self.connection.lock().await = Some(Arc::new(Connection::new(transport)));
        Ok(answered)
    }

    /// From now on, this address of the machine is tried first.
    pub(crate) fn moved(&self, address: &str, host_key: Option<&str>) {
        match &self.road {
            Road::Connector(connector) => connector.moved(&self.name, address, host_key),
            Road::Local(_) => {}
        }
    }

    /// The connection, where there is one that lives.
    pub(crate) async fn live_connection(&self) -> Option<Arc<Connection>> {
        self.connection.lock().await.clone().filter(|connection| !connection.is_closed())
    }

    /// What tells this boot of the machine from others, as its helper shells said when they were opened. Empty where it has no such thing.
    pub(crate) async fn boot_id(self: &Arc<Self>, who: Who, ctx: &CallContext) -> Result<String, CallError> {
        let connection = self.connection(ctx).await?;
        if let Some(boot_id) = connection.boot_id.get() {
            return Ok(boot_id.clone());
        }
        self.script(who, Lane::Look, || Item::script("asking for the boot id", ":", Vec::new()), ctx, &[]).await?;
        // Another connection may have taken the place of this one.
        Ok(self.connection(ctx).await?.boot_id.get().cloned().unwrap_or_default())
    }

    /// Forgets the connection and ends it.
    pub(crate) async fn disconnect(&self) {
        let connection = self.connection.lock().await.take();
        if let Some(connection) = connection {
            connection.close().await;
        }
    }

    /// Waits for something within the limits of the call.
    pub(crate) async fn wait<T>(
        &self,
        what: impl Future<Output = T> + Send,
        ctx: &CallContext,
        name: &str,
    ) -> Result<T, CallError> {
        tokio::select! {
            biased;
            () = ctx.cancel.cancelled() => {
                Err(CallError::Failed(format!("cancelled while waiting for {name} on {}", self.name)))
            }
            () = tokio::time::sleep_until(ctx.deadline.into()) => {
                Err(CallError::TimedOut(format!("waited for {name} on {} until the time was over", self.name)))
            }
            result = what => Ok(result),
        }
    }

    fn opener(&self, connection: &Connection, who: Who, ctx: &CallContext) -> Result<Opener, CallError> {
        let password = match (&self.by, who) {
            (Become::Sudo { password: Some(name) }, Who::Root) => {
                Some(ctx.passwords.0.get(name).cloned().ok_or_else(|| {
                    CallError::Invalid(format!(
                        "hosts.{}.become names the secret `{name}`, which has no value in this run",
                        self.name
                    ))
                })?)
            }
            _ => None,
        };
        Ok(Opener {
            transport: connection.transport.clone(),
            machine: self.name.clone(),
            root: who == Who::Root,
            password,
            perl: self.ways.perl,
            boot_id_file: self.ways.boot_id_file.clone(),
            boot_id: connection.boot_id.clone(),
        })
    }

    /// Where looks of this user wait for a shell.
    pub(crate) fn looks(&self, who: Who) -> &Looks {
        match who {
            Who::Login => &self.login_looks,
            Who::Root => &self.root_looks,
        }
    }

    /// Runs items one after the other on one helper shell, in one round trip.
    pub(crate) async fn run(
        self: &Arc<Self>,
        who: Who,
        lane: Lane,
        make: impl Fn() -> Result<Vec<Item>, CallError>,
        ctx: &CallContext,
        leftovers: &[String],
    ) -> Result<Vec<Frame>, CallError> {
        /// A shell that something was left behind on was found out before anything was run: the next one is a new one.
        const TRIES: usize = 4;
        if lane == Lane::Look {
            return looks::run(self, who, make()?, ctx).await;
        }
        for _ in 0..TRIES {
            let (shell, seat, permit) = self.turn(who, lane, ctx).await?;
            let items = make()?.into_iter().map(Arc::new).collect();
            let job = Job { leftovers: leftovers.to_vec(), ..Job::new(items, ctx) };
            match start(shell, job, Some(seat), vec![permit]).await {
                (frames, Ok(())) => return Ok(frames),
                (_, Err(Halt::Stale)) => {}
                (_, Err(Halt::Error(error))) => return Err(error),
            }
        }
        Err(CallError::Unreachable(format!("no usable helper shell on {}", self.name)))
    }

    /// Waits for a turn and a shell.
    pub(crate) async fn turn(
        &self,
        who: Who,
        lane: Lane,
        ctx: &CallContext,
    ) -> Result<(Shell, Seat, OwnedSemaphorePermit), CallError> {
        let connection = self.connection(ctx).await?;
        let shells = connection.shells(who);
        let waiting_for = if lane == Lane::Change { "another change" } else { "other looks" };
        let permit = self.wait(shells.permits(lane).acquire_owned(), ctx, waiting_for).await?;
        let permit = permit.map_err(|_| self.lost())?;
        let mut seat = self.wait(shells.seat(), ctx, "a shell").await?;
        let shell = match seat.shell.take() {
            Some(shell) => shell,
            None => self.open(&connection, who, ctx).await?,
        };
        Ok((shell, seat, permit))
    }

    /// Runs one item with data on the shell's standard input. Where it reads all of it, the shell need not be one of its own.
    pub(crate) async fn run_fed(
        &self,
        who: Who,
        item: Item,
        feed: Feed,
        ctx: &CallContext,
        leftovers: &[String],
        lane: Lane,
    ) -> Result<Frame, CallError> {
        let connection = self.connection(ctx).await?;
        let mut permits = Vec::new();
        // Changes of a machine are made one at a time, also those that have a channel of their own.
        if lane == Lane::Change {
            let permit = connection.shells(who).permits(lane).acquire_owned();
            permits.push(self.wait(permit, ctx, "another change").await?.map_err(|_| self.lost())?);
        }
        let slot = self.wait(connection.feeds.clone().acquire_owned(), ctx, "other transfers").await?;
        permits.push(slot.map_err(|_| self.lost())?);
        let size = match item.stdin() {
            Some(Stdin::Part(bytes)) => Some(*bytes),
            _ => None,
        };
        let mut seat = match size {
            Some(..BULK) => Some(self.wait(connection.shells(who).seat(), ctx, "a shell").await?),
            _ => None,
        };
        // The data can be sent once only: not to a shell that may turn out to be unfit.
        let shell = match seat.as_mut().and_then(|seat| seat.shell.take()).filter(Shell::is_clean) {
            Some(shell) => shell,
            None if seat.is_some() => self.open(&connection, who, ctx).await?,
            // Much goes faster through tools than through the worker.
            None => {
                let opener = Opener { perl: false, ..self.opener(&connection, who, ctx)? };
                self.wait(opener.open(ctx.deadline), ctx, "a shell").await??
            }
        };
        let job = Job { feed: Some(feed), leftovers: leftovers.to_vec(), ..Job::new(vec![Arc::new(item)], ctx) };
        self.only(start(shell, job, seat, permits).await)
    }

    /// Runs one item on a shell of its own; its standard output, of about `size` bytes, goes to `sink`.
    pub(crate) async fn run_out(
        &self,
        who: Who,
        item: Item,
        sink: mpsc::Sender<Vec<u8>>,
        size: u64,
        ctx: &CallContext,
    ) -> Result<Frame, CallError> {
        let connection = self.connection(ctx).await?;
        let slot = self.wait(connection.streams.clone().acquire_owned(), ctx, "other transfers").await?;
        let slot = slot.map_err(|_| self.lost())?;
        let mut opener = self.opener(&connection, who, ctx)?;
        let mut own = None;
        if let Road::Connector(connector) = &self.road
            && size > BULK
        {
            let connecting = connector.connect_bulk(&self.name, ctx.deadline);
            opener.transport = self.wait(connecting, ctx, "a connection").await??;
            own = Some(opener.transport.clone());
        }
        let shell = self.wait(opener.open(ctx.deadline), ctx, "a shell").await??;
        let job = Job { sink: Some(sink), ..Job::new(vec![Arc::new(item)], ctx) };
        let frames = start(shell, job, None, vec![slot]).await;
        if let Some(own) = own {
            own.close().await;
        }
        self.only(frames)
    }

    fn only(&self, ended: Ended) -> Result<Frame, CallError> {
        match ended {
            (mut frames, Ok(())) => frames.pop().ok_or_else(|| self.lost()),
            (_, Err(Halt::Error(error))) => Err(error),
            (_, Err(Halt::Stale)) => Err(self.lost()),
        }
    }

    fn lost(&self) -> CallError {
        CallError::Unreachable(format!("the connection to {} was closed", self.name))
    }

    async fn open(&self, connection: &Connection, who: Who, ctx: &CallContext) -> Result<Shell, CallError> {
        let opener = self.opener(connection, who, ctx)?;
        self.wait(opener.open(ctx.deadline), ctx, "a shell").await?
    }

    /// Runs one script of ours; gives its output, where it ended well.
    pub(crate) async fn script(
        self: &Arc<Self>,
        who: Who,
        lane: Lane,
        item: impl Fn() -> Item,
        ctx: &CallContext,
        leftovers: &[String],
    ) -> Result<Vec<u8>, CallError> {
        let what = item().what;
        let frames = self.run(who, lane, || Ok(vec![item()]), ctx, leftovers).await?;
        let frame = frames.into_iter().next().ok_or_else(|| self.lost())?;
        self.script_output(&what, frame)
    }

    /// The output of a script of ours, where it ended well.
    pub(crate) fn script_output(&self, what: &str, frame: Frame) -> Result<Vec<u8>, CallError> {
        self.ended_well(what, self.output(what, frame)?)
    }

    /// What a script of ours wrote, where it ended well.
    pub(crate) fn ended_well(&self, what: &str, output: Output) -> Result<Vec<u8>, CallError> {
        if output.exit.success() {
            return Ok(output.stdout.0);
        }
        // The worker has one stream for all that it says.
        let said = [tail(&output.stderr.0), tail(&output.stdout.0)].into_iter().find(|said| !said.is_empty());
        let said = said.unwrap_or_else(|| output.exit.to_string());
        Err(CallError::Failed(format!("{what} on {}: {said}", self.name)))
    }

    /// How a command ended, where it was started.
    pub(crate) fn output(&self, what: &str, frame: Frame) -> Result<Output, CallError> {
        let failed = |why: &str| Err(CallError::Failed(format!("{what} was not started on {}: {why}", self.name)));
        match frame.refused.as_deref() {
            Some("cwd") => return failed("its working directory cannot be entered (not there, or no permission)"),
            Some("marks") => {
                return failed("its start could not be noted in the state folder there (disk full, or read-only?)");
            }
            Some("session") => {
                return Err(CallError::Conflict(format!(
                    "{what} was not started on {}: a newer session of this run is in charge",
                    self.name
                )));
            }
            Some(_) => return failed("no temporary file could be written (disk full, or read-only?)"),
            None if !frame.started => return failed(&tail(&frame.noise)),
            None => {}
        }
        let status = frame.failed_parts.iter().max().map_or(frame.status, |(_, status)| *status);
        let kept = |error: std::io::Error| CallError::Failed(format!("cannot read back the output of {what}: {error}"));
        Ok(Output {
            exit: exit(status),
            stdout: frame.stdout.into_bytes().map_err(kept)?.into(),
            stderr: frame.stderr.into_bytes().map_err(kept)?.into(),
        })
    }

    /// Runs commands that only look, in as few round trips as their users and inputs allow: mostly one.
    pub(crate) async fn observe(
        self: &Arc<Self>,
        commands: &[Command],
        sources: &dyn Sources,
        ctx: &CallContext,
    ) -> Result<Vec<Output>, CallError> {
        let mut outputs = Vec::new();
        let mut rest = commands;
        while let Some(first) = rest.first() {
            if needs_channel(first, ctx)? {
                outputs.push(self.one(std::slice::from_ref(first), Lane::Look, None, sources, ctx).await?);
                rest = &rest[1..];
                continue;
            }
            let who = self.who(first);
            let mut count = 1;
            while let Some(next) = rest.get(count) {
                if self.who(next) != who || needs_channel(next, ctx)? {
                    break;
                }
                count += 1;
            }
            let (batch, later) = rest.split_at(count);
            rest = later;
            let items = || batch.iter().map(|c| Item::commands(std::slice::from_ref(c), ctx, false)).collect();
            let frames = self.run(who, Lane::Look, items, ctx, &[]).await?;
            for (command, frame) in batch.iter().zip(frames) {
                outputs.push(self.output(&crate::quote::describe(&command.argv), frame)?);
            }
        }
        Ok(outputs)
    }

    /// Runs a command, or several joined by pipes.
    pub(crate) async fn one(
        self: &Arc<Self>,
        pipeline: &[Command],
        lane: Lane,
        marked: Option<&Marked>,
        sources: &dyn Sources,
        ctx: &CallContext,
    ) -> Result<Output, CallError> {
        let first = pipeline.first().ok_or_else(|| CallError::Invalid("a pipeline of no commands".to_owned()))?;
        if pipeline.iter().any(|command| command.privileged != first.privileged) {
            return Err(CallError::Invalid(
                "the commands of a pipeline run as one user: all privileged, or none".to_owned(),
            ));
        }
        let fed = needs_channel(first, ctx)?;
        let make = || Ok::<_, CallError>(Item { marked: marked.cloned(), ..Item::commands(pipeline, ctx, fed)? });
        let what = make()?.what;
        let frame = if fed {
            let feed = match &first.stdin {
                Input::CopyOf(source) => sources.feed(source, ctx).await?,
                Input::Text(text) => feed_of(materialise_text(text, &ctx.secrets)?),
                Input::Bytes(bytes) => feed_of(materialise_bytes(&bytes.0, &ctx.secrets)),
                Input::None => feed_of(Vec::new()),
            };
            self.run_fed(self.who(first), make()?, feed, ctx, &[], lane).await?
        } else {
            let frames = self.run(self.who(first), lane, || Ok(vec![make()?]), ctx, &[]).await?;
            frames.into_iter().next().ok_or_else(|| self.lost())?
        };
        self.output(&what, frame)
    }
}

/// Runs a job as a task of its own: where the caller goes away, what runs is stopped in good order all the same.
pub(crate) async fn start(shell: Shell, job: Job, seat: Option<Seat>, permits: Vec<OwnedSemaphorePermit>) -> Ended {
    let (answer, answered) = oneshot::channel();
    let abandoned = CancellationToken::new();
    let guard = abandoned.clone().drop_guard();
    tokio::spawn(async move {
        let (shell, result) = shell.run(job, abandoned).await;
        if let Some(mut seat) = seat {
            seat.shell = shell;
        }
        drop(permits);
        if answer.send(result).is_err() {
            tracing::debug!("a command was stopped that nobody waited for");
        }
    });
    let result = answered.await;
    guard.disarm();
    let ending = || Halt::Error(CallError::Unreachable("the program is ending".to_owned()));
    result.unwrap_or_else(|_| (Vec::new(), Err(ending())))
}

/// Whether a command's standard input is too much, or not the kind, to go into the text of the command.
fn needs_channel(command: &Command, ctx: &CallContext) -> Result<bool, CallError> {
    Ok(match &command.stdin {
        Input::None => false,
        Input::Text(text) => !inline(&materialise_text(text, &ctx.secrets)?),
        Input::Bytes(_) | Input::CopyOf(_) => true,
    })
}

/// Bytes as a feed.
pub(crate) fn feed_of(bytes: Vec<u8>) -> Feed {
    let (send, feed) = mpsc::channel(4);
    tokio::spawn(async move {
        for piece in bytes.chunks(PIECE) {
            if send.send(Ok(piece.to_vec())).await.is_err() {
                return;
            }
        }
    });
    feed
}
