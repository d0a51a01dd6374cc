//! The SSH connection itself: russh's callbacks, and [`RusshTransport`] on top of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt as _;
use runbook_model::call::CallError;
use russh::client::{self, ChannelOpenHandle, DisconnectReason, Handle, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelStream, Disconnect};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::channel::{self, Ends};
use crate::host_key::{Expected, HostKeyError, fingerprint};
use crate::transport::{Process, Transport};

/// Channels open at once: below sshd's default `MaxSessions` of 10, since a session that has just ended still counts there.
const CHANNELS: usize = 8;
/// How long a start waits while all channels are in use.
const CHANNEL_WAIT: Duration = Duration::from_secs(60);
/// How long opening is tried again while the server has too many sessions. A refused opening started nothing.
const OPEN_WAIT: Duration = Duration::from_secs(10);
/// A server that answers no opening in this time does not answer at all.
const ANSWER: Duration = Duration::from_secs(30);
/// A goodbye that does not get through is not waited for.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the callbacks tell the rest.
#[derive(Default)]
pub(crate) struct Told {
    host_key: Mutex<Option<String>>,
    refusal: Mutex<Option<HostKeyError>>,
    lost: Mutex<Option<String>>,
}

impl Told {
    /// Fingerprint of the host key that was accepted.
    fn host_key(&self) -> Option<String> {
        self.host_key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the host key was refused, where it was.
    pub(crate) fn refusal(&self) -> Option<HostKeyError> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn lost(&self) -> String {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_else(|| "it was closed".to_owned())
    }
}

/// russh's callbacks. Whatever a server wants to open towards us is refused: russh would accept it.
pub(crate) struct Client {
    pub(crate) expected: Arc<Expected>,
    pub(crate) told: Arc<Told>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        match self.expected.check(shown) {
            Ok(()) => {
                let fingerprint = fingerprint(shown);
                *self.told.host_key.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
                Ok(true)
            }
            Err(refusal) => {
                *self.told.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
                Ok(false)
            }
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        let (words, result) = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                let message: String = info.message.chars().filter(|c| !c.is_control()).take(200).collect();
                (format!("the server ended it: {message}"), Ok(()))
            }
            DisconnectReason::Error(e) => (e.to_string(), Err(e)),
        };
        *self.told.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
        result
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }
}

async fn refuse(reply: ChannelOpenHandle) -> Result<(), russh::Error> {
    reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    Ok(())
}

/// A logged-in connection, and the one that it goes through.
pub(crate) struct Link {
    pub(crate) handle: Handle<Client>,
    pub(crate) told: Arc<Told>,
    /// "node1 (ubuntu@10.0.0.1:22)", for messages.
    pub(crate) label: String,
    /// The address that answered.
    pub(crate) address: String,
    /// Kept open as long as this one.
    pub(crate) via: Option<Arc<Link>>,
}

impl Link {
    async fn close(&self) {
        let mut link = Some(self);
        while let Some(l) = link {
            let goodbye = l.handle.disconnect(Disconnect::ByApplication, "", "");
            let _ = timeout(GOODBYE, goodbye).await;
            link = l.via.as_deref();
        }
    }
}

/// One SSH connection on which up to eight processes run at once; further ones wait for a free channel.
///
/// A process that was started ends for the caller with the end of its output: as with ssh, that is when everything that holds
/// its standard output or error has ended, and not before. A connection that is lost ends it without an exit.
pub struct RusshTransport {
    link: Arc<Link>,
    channels: Arc<Semaphore>,
    freed: Arc<Notify>,
    bulk: bool,
}

/// A place among the channels; giving it back wakes those who wait for the server to forget a session.
struct Slot {
    _permit: OwnedSemaphorePermit,
    freed: Arc<Notify>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.freed.notify_waiters();
    }
}

impl RusshTransport {
    pub(crate) fn new(link: Arc<Link>, bulk: bool) -> Self {
        Self { link, channels: Arc::new(Semaphore::new(CHANNELS)), freed: Arc::new(Notify::new()), bulk }
    }

    /// The address of the inventory that answered, as it stands there.
    pub fn address(&self) -> &str {
        &self.link.address
    }

    /// For messages: name, login name, address and port.
    pub fn label(&self) -> &str {
        &self.link.label
    }

    /// Opens a TCP connection from the machine to somewhere; the name is resolved there. It lives as long as this transport.
    ///
    /// # Errors
    ///
    /// The machine does not get through, or its sshd forbids forwarding.
    pub async fn dial(&self, host: &str, port: u16) -> std::io::Result<ChannelStream<Msg>> {
        let opened = self.link.handle.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0).await;
        let channel = opened.map_err(|error| {
            std::io::Error::other(format!("{}: no connection to {host}:{port} from there: {error}", self.link.label))
        })?;
        Ok(channel.into_stream())
    }
}

#[async_trait]
impl Transport for RusshTransport {
    async fn start(&self, command_line: &str) -> Result<Process, CallError> {
        if self.is_closed() {
            return Err(lost(&self.link));
        }
        let waiting = timeout(CHANNEL_WAIT, Arc::clone(&self.channels).acquire_owned()).await;
        let Ok(Ok(permit)) = waiting else {
            let text = format!("{}: all {CHANNELS} channels stayed in use for {CHANNEL_WAIT:?}", self.link.label);
            return Err(CallError::Unreachable(text));
        };
        let slot = Slot { _permit: permit, freed: Arc::clone(&self.freed) };
        let (tell, told) = oneshot::channel();
        // A task of its own: where the caller gives up while the channel is being opened, it is closed and not forgotten.
        tokio::spawn(run(Arc::clone(&self.link), command_line.to_owned(), slot, self.bulk, tell));
        told.await.unwrap_or_else(|_| Err(lost(&self.link)))
    }

    fn is_closed(&self) -> bool {
        self.link.handle.is_closed()
    }

    fn host_key(&self) -> Option<String> {
        self.link.told.host_key()
    }

    fn address(&self) -> Option<&str> {
        Some(&self.link.address)
    }

    async fn close(&self) {
        self.link.close().await;
    }
}

fn lost(link: &Link) -> CallError {
    CallError::Unreachable(format!("{}: the connection is lost: {}", link.label, link.told.lost()))
}

/// Opens a channel, starts the process on it, tells the caller, and carries input and output.
async fn run(
    link: Arc<Link>,
    command_line: String,
    slot: Slot,
    bulk: bool,
    tell: oneshot::Sender<Result<Process, CallError>>,
) {
    let mut channel = match open(&link, &slot.freed).await {
        Ok(channel) => channel,
        Err(e) => {
            let _ = tell.send(Err(e));
            return;
        }
    };
    if tell.is_closed() {
        let _ = channel.close().await;
        return;
    }
    if channel.exec(true, command_line).await.is_err() {
        let _ = tell.send(Err(lost(&link)));
        return;
    }
    // From here on the process may run. So only a clear refusal is an error; anything else is a process that ends without
    // an exit.
    let refused = loop {
        match timeout(ANSWER, channel.wait()).await {
            Ok(Some(ChannelMsg::Failure)) => break true,
            // Sizes of the window come before the answer.
            Ok(Some(ChannelMsg::WindowAdjusted { .. })) => {}
            _ => break false,
        }
    };
    if refused {
        let _ = channel.close().await;
        let text = format!("{}: the server does not run commands for this user", link.label);
        let _ = tell.send(Err(CallError::Unreachable(text)));
        return;
    }
    let (process, ends): (Process, Ends) = channel::process();
    let (read, write) = channel.split();
    // Where the caller is gone, its ends are dropped here, and carrying ends at once by closing the channel.
    let _ = tell.send(Ok(process));
    channel::carry(read, write, ends, bulk, &link.label, slot).await;
}

/// Opens a session channel, again and again while the server says that it has too many.
async fn open(link: &Link, freed: &Notify) -> Result<Channel<Msg>, CallError> {
    let deadline = Instant::now() + OPEN_WAIT;
    let mut pause = Duration::from_millis(10);
    loop {
        let error = match timeout(ANSWER, link.handle.channel_open_session()).await {
            Ok(Ok(channel)) => return Ok(channel),
            Ok(Err(e)) => e,
            Err(_) => {
                let text = format!("{}: no answer to the opening of a channel for {ANSWER:?}", link.label);
                return Err(CallError::Unreachable(text));
            }
        };
        let retry = matches!(
            error,
            russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::ResourceShortage)
        );
        if !retry {
            if link.handle.is_closed() {
                return Err(lost(link));
            }
            return Err(CallError::Unreachable(format!("{}: the server opens no channel: {error}", link.label)));
        }
        if Instant::now() + pause > deadline {
            let text = format!(
                "{}: the server opened no further session for {OPEN_WAIT:?}: raise MaxSessions in its sshd_config",
                link.label
            );
            return Err(CallError::Unreachable(text));
        }
        // The server forgets a session a little after its end, so even a freed slot is met with a short pause.
        let jitter = rand::rng().random_range(0..=pause.as_millis() as u64 / 2);
        sleep(Duration::from_millis(5 + jitter)).await;
        let _ = timeout_at(Instant::now() + pause, freed.notified()).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}
