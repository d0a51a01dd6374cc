//! An API server that follows a script. Reached through [`Dial`], so that all of the client's stack is in use.

use std::convert::Infallible;
use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use runbook_kube::{ClusterAccess, Dial, Origin, Stream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
    pub(crate) media_type: String,
}

impl Seen {
    /// "PATCH /api/v1/...".
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn has(&self, pair: &str) -> bool {
        self.query.split('&').any(|part| part == pair)
    }

    fn changes(&self) -> bool {
        self.method != "GET" && !self.has("dryRun=All")
    }
}

/// What the script answers.
pub(crate) enum Reply {
    Json(u16, Value),
    Text(u16, &'static str),
    RetryAfter(u16, u64, Value),
    /// Never.
    Hang,
    /// The command of the exec is run here, with this protocol.
    Run(&'static str),
    /// An exec that says nothing of its end.
    Vanish,
    /// An exec that says this on the status channel.
    Status(Value),
}

/// A 404 of an API server for an object.
pub(crate) fn absent(plural: &str, name: &str) -> Reply {
    Reply::Json(
        404,
        status(404, "NotFound", &format!("{plural} {name:?} not found"), &json!({"name": name, "kind": plural})),
    )
}

pub(crate) fn status(code: u16, reason: &str, message: &str, details: &Value) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message,
        "details": details, "code": code})
}

type Script = dyn Fn(&Seen, usize) -> Option<Reply> + Send + Sync;

/// The server.
pub(crate) struct Server {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    refuse: bool,
}

impl Server {
    /// The script gets the request and how many of the same method and path there were before it. None: what every server
    /// answers, else 404 as for an unknown path.
    pub(crate) fn new(script: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { script: Box::new(script), seen: Mutex::default(), refuse: false })
    }

    /// Nobody listens.
    pub(crate) fn down() -> Arc<Self> {
        Arc::new(Self { script: Box::new(|_, _| None), seen: Mutex::default(), refuse: true })
    }

    pub(crate) fn access(self: &Arc<Self>) -> ClusterAccess {
        let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{name: k, cluster: {server: 'http://10.0.0.1:6443'}}]\n\
             users: [{name: u, user: {token: t}}]\n\
             contexts: [{name: c, context: {cluster: k, user: u}}]\n"
            .to_owned();
        let via: Arc<dyn Dial> = Arc::new(Wire(Arc::clone(self)));
        let origin = Origin::File("/home/me/.kube/config".into());
        ClusterAccess { kubeconfig, origin, context: None, server: None, uid: None, via: Some(via) }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// Requests that would change something.
    pub(crate) fn changes(&self) -> Vec<String> {
        self.seen().iter().filter(|seen| seen.changes()).map(Seen::line).collect()
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        assert_eq!(parts.headers.get("authorization").map(|h| h.as_bytes()), Some(&b"Bearer t"[..]));
        let header = |name: &str| parts.headers.get(name).and_then(|h| h.to_str().ok()).unwrap_or_default().to_owned();
        let seen = Seen {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            media_type: header("content-type"),
        };
        let (key, asked) = (header("sec-websocket-key"), header("sec-websocket-protocol"));
        let before = {
            let mut all = self.seen.lock().expect("not poisoned");
            let before = all.iter().filter(|other| other.line() == seen.line()).count();
            all.push(seen.clone());
            before
        };
        let reply =
            (self.script)(&seen, before).or_else(|| usual(&seen)).unwrap_or(Reply::Text(404, "404 page not found\n"));
        let plain =
            |code: u16, body: String| Response::builder().status(code).body(Full::from(body)).expect("is a response");
        let end = match reply {
            Reply::Json(code, body) => return Ok(plain(code, body.to_string())),
            Reply::Text(code, body) => return Ok(plain(code, body.to_owned())),
            Reply::RetryAfter(code, seconds, body) => {
                let mut response = plain(code, body.to_string());
                response.headers_mut().insert("retry-after", seconds.into());
                return Ok(response);
            }
            Reply::Hang => std::future::pending().await,
            Reply::Run(protocol) => End::Run(protocol),
            Reply::Vanish => End::Vanish,
            Reply::Status(status) => End::Say(status),
        };
        let protocol = if let End::Run(protocol) = end { protocol } else { "v4.channel.k8s.io" };
        assert!(asked.contains(protocol), "{asked}");
        let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>().expect("can be upgraded");
        let argv: Vec<String> = seen.query.split('&').filter_map(|p| p.strip_prefix("command=")).map(decode).collect();
        let stdin = seen.has("stdin=true");
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            serve(socket, end, &argv, stdin).await;
        });
        let mut response = plain(101, String::new());
        for (name, value) in [
            ("connection", "Upgrade".to_owned()),
            ("upgrade", "websocket".to_owned()),
            ("sec-websocket-accept", derive_accept_key(key.as_bytes())),
            ("sec-websocket-protocol", protocol.to_owned()),
        ] {
            response.headers_mut().insert(name, value.parse().expect("is a header"));
        }
        Ok(response)
    }
}

enum End {
    Run(&'static str),
    Vanish,
    Say(Value),
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// What a kubelet does: frames to a process and back, and how it ended.
async fn serve(mut socket: Socket, end: End, argv: &[String], stdin: bool) {
    let frame = |channel: u8, data: &[u8]| Message::binary([&[channel], data].concat());
    for channel in 0..3 {
        let _ = socket.send(frame(channel, b"")).await;
    }
    let protocol = match end {
        End::Vanish => {
            let _ = socket.send(frame(1, b"half of")).await;
            let _ = socket.close(None).await;
            return;
        }
        End::Say(status) => {
            let _ = socket.send(frame(3, status.to_string().as_bytes())).await;
            return;
        }
        End::Run(protocol) => protocol,
    };
    let input = if stdin { Stdio::piped() } else { Stdio::null() };
    let spawned = tokio::process::Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = spawned else {
        let text = format!("OCI runtime exec failed: exec: {:?}: executable file not found in $PATH: unknown", argv[0]);
        let status = status(500, "InternalError", &text, &Value::Null);
        let _ = socket.send(frame(3, status.to_string().as_bytes())).await;
        return;
    };
    let mut stdin = child.stdin.take();
    let (mut stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (sink, mut frames) = socket.split();
    let sink = Arc::new(tokio::sync::Mutex::new(sink));
    let input = async {
        while let Some(Ok(message)) = frames.next().await {
            let Message::Binary(data) = message else { continue };
            match data.split_first() {
                Some((0, data)) => {
                    if let Some(pipe) = &mut stdin
                        && pipe.write_all(data).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Some((255, [0])) if protocol.starts_with("v5") => stdin = None,
                _ => {}
            }
        }
        // The client is gone: so is the input, and the process goes on. Here it is killed with the connection.
    };
    let pass = async |channel: u8, pipe: &mut (dyn tokio::io::AsyncRead + Unpin + Send)| {
        let mut buffer = vec![0; 8192];
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            let _ = sink.lock().await.send(frame(channel, &buffer[..read])).await;
        }
    };
    let output = async {
        tokio::join!(pass(1, &mut stdout), pass(2, &mut stderr));
        let code = child.wait().await.ok().and_then(|status| status.code()).unwrap_or(137);
        let last = if code == 0 {
            json!({"metadata": {}, "status": "Success"})
        } else {
            let causes = json!([{"reason": "ExitCode", "message": code.to_string()}]);
            status(0, "NonZeroExitCode", "command terminated with non-zero exit code", &json!({"causes": causes}))
        };
        let _ = sink.lock().await.send(frame(3, last.to_string().as_bytes())).await;
    };
    tokio::select! { () = input => {}, () = output => {} }
    let _ = tokio::time::timeout(Duration::from_secs(1), async { sink.lock().await.close().await }).await;
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex: Vec<u8> = rest.by_ref().take(2).collect();
            bytes.extend(hex::decode(hex).expect("is hex"));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).expect("is text")
}

/// What every server answers: discovery, in the old way.
fn usual(seen: &Seen) -> Option<Reply> {
    let entry =
        |name: &str, kind: &str, namespaced: bool| json!({"name": name, "kind": kind, "namespaced": namespaced});
    let list = |entries: Vec<Value>| Some(Reply::Json(200, json!({"kind": "APIResourceList", "resources": entries})));
    match seen.path.as_str() {
        "/api/v1" => {
            let mut eviction = entry("pods/eviction", "Eviction", true);
            eviction["group"] = json!("policy");
            eviction["version"] = json!("v1beta1");
            list(vec![
                entry("pods", "Pod", true),
                eviction,
                entry("configmaps", "ConfigMap", true),
                entry("namespaces", "Namespace", false),
                entry("nodes", "Node", false),
                entry("events", "Event", true),
            ])
        }
        "/apis/apps" => Some(Reply::Json(200, json!({"kind": "APIGroup", "versions": [{"version": "v1"}]}))),
        "/apis/apps/v1" => {
            list(vec![entry("deployments/scale", "Scale", true), entry("deployments", "Deployment", true)])
        }
        "/apis/batch" => {
            let versions = json!([{"version": "v1beta1"}, {"version": "v1"}]);
            Some(Reply::Json(200, json!({"kind": "APIGroup", "versions": versions})))
        }
        "/apis/batch/v1" => list(vec![entry("jobs", "Job", true)]),
        "/apis/batch/v1beta1" => list(vec![entry("cronjobs", "CronJob", true)]),
        "/api/v1/namespaces/kube-system" if seen.method == "GET" => Some(Reply::Json(
            200,
            json!({"kind": "Namespace", "metadata": {"name": "kube-system", "uid": "uid-of-home"}}),
        )),
        _ => None,
    }
}

struct Wire(Arc<Server>);

#[async_trait]
impl Dial for Wire {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        assert_eq!((host, port), ("10.0.0.1", 6443));
        if self.0.refuse {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused"));
        }
        let (near, far) = tokio::io::duplex(1 << 16);
        let server = Arc::clone(&self.0);
        tokio::spawn(async move {
            let service = service_fn(move |request| Arc::clone(&server).answer(request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
            let _ = connection.with_upgrades().await;
        });
        Ok(Box::new(near))
    }
}
