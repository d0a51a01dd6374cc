//! A process in a pod, over a WebSocket: its input, its output, and how it ended.
//!
//! API servers before 1.30 speak `v4.channel.k8s.io`, in which nobody can say that the input is over. There a process that
//! reads up to its end gets the input through `head -c LENGTH`, which ends by itself. Newer ones speak `v5` and are told.
//! How a process ended is said by the server in a frame of its own; a connection that ends without that frame says nothing.

use std::time::Duration;

use async_trait::async_trait;
use futures::{SinkExt as _, StreamExt as _};
use http::Request;
use kube::client::Connection;
use kube::core::Status;
use runbook_model::bytes::Bytes;
use runbook_model::call::{CallError, ObjectRef, PodOutput};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::gate::Observed;
use crate::refusal::{Refusal, Trouble};
use crate::resource::encode;
use crate::session::{Api, Ask, root};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
/// In v5: the channel named by the next byte is at its end.
const CLOSE: u8 = 255;

/// Bytes of one frame of input; kubelets read frame by frame.
const CHUNK: usize = 32 << 10;
/// Bytes of output that are kept.
pub(crate) const OUTPUT_LIMIT: usize = 4 << 20;
/// A ping now and then finds out whether the other end is still there, and keeps what lies between awake.
const PING: Duration = Duration::from_secs(20);
/// No frame for three pings: nobody is there.
const SILENCE: Duration = Duration::from_secs(65);

/// Nobody ends a process in a pod when its connection goes.
const RUNNING: &str = "; the process in the pod may still be running";

/// A container of a pod.
#[derive(Clone, Copy)]
pub(crate) struct Container<'a> {
    pub(crate) pod: &'a ObjectRef,
    pub(crate) name: Option<&'a str>,
}

/// What a process reads.
pub(crate) struct Feed<'a> {
    /// Where it comes from.
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin + 'a>,
    /// Tell the process that it is over.
    pub(crate) close: bool,
}

/// Takes what a process writes.
#[async_trait]
pub(crate) trait Take: Send {
    async fn take(&mut self, data: &[u8]) -> Result<(), CallError>;
}

/// Output in memory.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) bytes: Vec<u8>,
    left_out: u64,
    /// More than fits is an error, not shortened.
    pub(crate) strict: bool,
}

#[async_trait]
impl Take for Kept {
    async fn take(&mut self, data: &[u8]) -> Result<(), CallError> {
        let room = OUTPUT_LIMIT - self.bytes.len();
        let (fits, rest) = data.split_at(data.len().min(room));
        self.bytes.extend_from_slice(fits);
        self.left_out += rest.len() as u64;
        if self.strict && self.left_out > 0 {
            let limit = OUTPUT_LIMIT >> 20;
            return Err(CallError::Failed(format!("it writes more than {limit} MiB; copy a file out instead")));
        }
        Ok(())
    }
}

impl Kept {
    fn into_bytes(mut self) -> Bytes {
        if self.left_out > 0 {
            self.bytes.extend_from_slice(format!("\n[{} bytes left out by runbook]\n", self.left_out).as_bytes());
        }
        Bytes(self.bytes)
    }
}

impl Api {
    /// Runs a program in a pod that only looks.
    pub(crate) async fn observe(&self, container: Container<'_>, argv: &[String]) -> Result<PodOutput, CallError> {
        let mut stdout = Kept { strict: true, ..Kept::default() };
        let (exit_code, stderr) = self.process(container, argv, false, None, &mut stdout).await?;
        Ok(PodOutput { exit_code, stdout: stdout.into_bytes(), stderr })
    }

    /// Runs a program in a pod that changes something. No shell reads `argv`.
    pub(crate) async fn change(
        &self,
        container: Container<'_>,
        argv: &[String],
        stdin: &[u8],
    ) -> Result<PodOutput, CallError> {
        let mut stdout = Kept::default();
        let (exit_code, stderr) = if stdin.is_empty() {
            self.process(container, argv, true, None, &mut stdout).await?
        } else if self.can_half_close(container).await? {
            let feed = Feed { reader: Box::new(stdin), close: true };
            self.process(container, argv, true, Some(feed), &mut stdout).await?
        } else {
            let mut wrapped: Vec<String> =
                ["sh", "-c", r#"head -c "$0" | "$@""#, &stdin.len().to_string()].map(str::to_owned).into();
            wrapped.extend_from_slice(argv);
            let feed = Feed { reader: Box::new(stdin), close: false };
            self.process(container, &wrapped, true, Some(feed), &mut stdout).await.map_err(|error| match error {
                CallError::Failed(text) if text.contains("executable file not found") => CallError::Failed(format!(
                    "{text} (before Kubernetes 1.30 a program in a pod gets its input through sh and head, which the \
                     container must have)"
                )),
                other => other,
            })?
        };
        Ok(PodOutput { exit_code, stdout: stdout.into_bytes(), stderr })
    }

    /// Whether the server speaks v5, found out by running `true`: whether the container has that does not matter.
    async fn can_half_close(&self, container: Container<'_>) -> Result<bool, CallError> {
        let probe = || async {
            let connection = self.connect(container, &["true".to_owned()], true, false).await?;
            Ok::<_, CallError>(connection.supports_stream_close())
        };
        self.session.half_close.get_or_try_init(probe).await.copied()
    }

    /// Runs a process to its end; gives its exit code and what it wrote to stderr.
    pub(crate) async fn process(
        &self,
        container: Container<'_>,
        argv: &[String],
        acting: bool,
        feed: Option<Feed<'_>>,
        stdout: &mut dyn Take,
    ) -> Result<(i32, Bytes), CallError> {
        let what = told(container, argv);
        let connection = self.connect(container, argv, acting, feed.is_some()).await?;
        let mut stderr = Kept::default();
        let pumped = self.bounded(&what, self.pump(connection, &what, feed, stdout, &mut stderr)).await;
        let status = match pumped {
            Ok(done) => done.map_err(|error| self.in_doubt(error, acting))?,
            Err(CallError::TimedOut(text)) => return Err(CallError::TimedOut(text + RUNNING)),
            Err(CallError::Failed(text)) => return Err(CallError::Failed(text + RUNNING)),
            Err(error) => return Err(error),
        };
        Ok((self.exit_code(&status, &what)?, stderr.into_bytes()))
    }

    async fn connect(
        &self,
        container: Container<'_>,
        argv: &[String],
        acting: bool,
        stdin: bool,
    ) -> Result<Connection, CallError> {
        if argv.first().is_none_or(String::is_empty) {
            return Err(CallError::Invalid(format!("a command for {} needs a program", container.pod)));
        }
        let place = self.pod(container.pod).await?;
        let command: Vec<String> = argv.iter().map(|arg| format!("command={}", encode(arg))).collect();
        let mut uri = format!("{}/exec?{}&stdin={stdin}&stdout=true&stderr=true", place.path, command.join("&"));
        if let Some(name) = container.name {
            uri = format!("{uri}&container={}", encode(name));
        }
        let ask = Ask { acting, ..Ask::get(uri, told(container, argv)) };
        let mut request = Request::get(&ask.uri)
            .body(Vec::new())
            .map_err(|e| CallError::Invalid(format!("{}: no request can be made of it: {e}", self.at(&ask.what))))?;
        let client = if acting { &self.session.clients.act } else { &self.session.clients.look };
        request.extensions_mut().insert(Observed);
        let trouble = match self.bounded(&ask.what, client.connect(request)).await? {
            Ok(connection) => return Ok(connection),
            Err(kube::Error::Api(status)) => {
                let genuine = !status.reason.is_empty() && status.details.is_some();
                let mut refusal = Refusal { code: status.code, genuine, status: *status, retry_after: None };
                if refusal.absent(&place.resource.plural, &place.resource.kind, &container.pod.name) {
                    return Err(self.error(Trouble::Refused(Box::new(refusal)), &ask));
                }
                if refusal.code == 404 {
                    // The kubelet's own words, such as for a container that does not run.
                    refusal.code = 500;
                }
                Trouble::Refused(Box::new(refusal))
            }
            Err(kube::Error::UpgradeConnection(why)) => {
                Trouble::Lost { unsent: true, text: format!("opens no channel to the pod: {}", root(&why)) }
            }
            Err(error) => self.lost(&error, &ask.what),
        };
        Err(self.error(trouble, &ask))
    }

    /// Moves frames until the server says how the process ended.
    async fn pump(
        &self,
        connection: Connection,
        what: &str,
        feed: Option<Feed<'_>>,
        stdout: &mut dyn Take,
        stderr: &mut Kept,
    ) -> Result<Status, CallError> {
        let half_close = connection.supports_stream_close();
        // Where input is on its way, a kubelet answers no ping while the process does not read: silence means nothing then.
        let patience = if feed.is_some() { None } else { Some(SILENCE) };
        let (mut sink, mut frames) = connection.into_stream().split();
        let lost = |why: &str| {
            CallError::Unreachable(format!("{}: {why}: it cannot be said how the process ended", self.at(what)))
        };
        let write = async {
            let mut pings = tokio::time::interval(PING);
            pings.tick().await;
            let (mut reader, close) = match feed {
                Some(feed) => (Some(feed.reader), feed.close && half_close),
                None => (None, false),
            };
            let mut chunk = vec![0; CHUNK + 1];
            loop {
                let sent = tokio::select! {
                    _ = pings.tick() => sink.send(Message::Ping(bytes::Bytes::new())).await,
                    read = async {
                        match &mut reader {
                            Some(reader) => reader.read(&mut chunk[1..]).await,
                            None => std::future::pending().await,
                        }
                    } => match read {
                        Ok(0) => {
                            reader = None;
                            if close { sink.send(Message::binary(vec![CLOSE, STDIN])).await } else { Ok(()) }
                        }
                        Ok(read) => {
                            chunk[0] = STDIN;
                            sink.send(Message::binary(chunk[..=read].to_vec())).await
                        }
                        Err(error) => return CallError::Failed(format!("{}: its input: {error}", self.at(what))),
                    },
                };
                if sent.is_err() {
                    // The process may have ended without reading all: how, is among the frames still to come.
                    std::future::pending::<()>().await;
                }
            }
        };
        let read = async {
            loop {
                let frame = match patience {
                    Some(limit) => tokio::time::timeout(limit, frames.next())
                        .await
                        .map_err(|_| lost("the connection is silent, not even pings are answered"))?,
                    None => frames.next().await,
                };
                let frame = match frame {
                    Some(Ok(Message::Binary(frame))) => frame,
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Err(lost(&format!("the connection broke ({error})"))),
                    None => return Err(lost("the connection was closed too early")),
                };
                // Each channel opens with an empty frame.
                let Some((channel, data)) = frame.split_first().filter(|(_, data)| !data.is_empty()) else { continue };
                match *channel {
                    STDOUT => stdout.take(data).await.map_err(|error| located(error, &self.at(what)))?,
                    STDERR => stderr.take(data).await?,
                    STATUS => {
                        return serde_json::from_slice(data).map_err(|_| {
                            lost(&format!("its last word is garbled ({})", String::from_utf8_lossy(data)))
                        });
                    }
                    _ => {}
                }
            }
        };
        tokio::select! {
            status = read => status,
            error = write => Err(error),
        }
    }

    fn exit_code(&self, status: &Status, what: &str) -> Result<i32, CallError> {
        exit_code(status).ok_or_else(|| CallError::Failed(format!("{}: {}", self.at(what), status.message.trim())))
    }
}

/// How a process ended; none: something else came to an end.
pub(crate) fn exit_code(status: &Status) -> Option<i32> {
    if status.is_success() {
        return Some(0);
    }
    let mut causes = status.details.iter().flat_map(|d| &d.causes).filter(|c| c.reason == "ExitCode");
    let code = causes.find_map(|c| c.message.trim().parse().ok());
    code.filter(|_| status.reason == "NonZeroExitCode")
}

/// For messages: the program, not its arguments, which may be long.
fn told(container: Container<'_>, argv: &[String]) -> String {
    let program = argv.first().map_or("", String::as_str);
    match container.name {
        Some(name) => format!("run {program} in {} ({name})", container.pod),
        None => format!("run {program} in {}", container.pod),
    }
}

fn located(error: CallError, at: &str) -> CallError {
    match error {
        CallError::Failed(text) => CallError::Failed(format!("{at}: {text}")),
        other => other,
    }
}
