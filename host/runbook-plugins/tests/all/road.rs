//! A road that records what arrives and answers from a table.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use runbook_engine::plugin::Road;
use runbook_model::call::{
    Act, Answer, Call, CallError, Change, Entry, Exit, Facts, FileKind, FilesLook, HttpResponse, KubeAct, KubeLook,
    Level, Look, Note, Outcome, Output, PodOutput, Request, Response, SourceRef, SshAct, SshLook, Stat, Target,
    Verdict,
};
use serde_json::json;

type Table = dyn Fn(&Request) -> Option<Response> + Send + Sync;

pub(crate) struct FakeRoad {
    requests: Mutex<Vec<Request>>,
    table: Box<Table>,
    seed: u64,
}

impl FakeRoad {
    /// Answers what fits the question.
    pub(crate) fn new() -> Self {
        Self::with(|request| Some(answer(request)))
    }

    /// Answers from this table; none: never.
    pub(crate) fn with(table: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static) -> Self {
        Self { requests: Mutex::default(), table: Box::new(table), seed: 7 }
    }

    pub(crate) fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    pub(crate) fn into_arc(self) -> Arc<Self> {
        Arc::new(self)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The messages that were logged.
    pub(crate) fn logged(&self, wanted: Level) -> Vec<String> {
        let log = |request: Request| match request.call {
            Call::Note(Note::Log { level, message }) if level == wanted => Some(message),
            _ => None,
        };
        self.requests().into_iter().filter_map(log).collect()
    }
}

#[async_trait]
impl Road for FakeRoad {
    async fn call(&self, request: Request) -> Response {
        let response = (self.table)(&request);
        self.requests.lock().unwrap().push(request);
        match response {
            Some(response) => response,
            None => std::future::pending().await,
        }
    }

    fn targets(&self, role: &str) -> Vec<String> {
        if role == "on" { vec!["n1".to_owned(), "n2".to_owned()] } else { Vec::new() }
    }

    fn cluster(&self) -> Option<String> {
        Some("home".to_owned())
    }

    fn now_ms(&self) -> u64 {
        1_700_000_000_123
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}

/// An answer of the right kind, with something of the question in it.
fn answer(request: &Request) -> Response {
    Ok(match &request.call {
        Call::Look(Look::Ssh(look)) => ssh_look(look),
        Call::Look(Look::Files(look)) => files_look(&request.target, look),
        Call::Look(Look::Kube(look)) => kube_look(look),
        Call::Change(Change { act: Act::Ssh(act), .. }) => Answer::Outcome(ssh_act(act)),
        Call::Change(Change { act: Act::Files(act), .. }) => Answer::Verdict(match act.path.as_str() {
            "/m/a" => Verdict::Unchanged,
            "/m/b" => Verdict::Changed,
            "/m/c" => Verdict::Deferred,
            "/m/gone" => return Err(CallError::Conflict("not empty".to_owned())),
            _ => Verdict::Changed,
        }),
        Call::Change(Change { act: Act::Kube(KubeAct::Exec { argv, .. }), .. }) => {
            Answer::Outcome(match argv[0].as_str() {
                "planned" => Outcome::Planned,
                "already" => Outcome::Already,
                "deferred" => Outcome::Deferred,
                _ => Outcome::PodDone(pod_output()),
            })
        }
        Call::Change(Change { act: Act::Kube(_), .. }) => Answer::Verdict(Verdict::Changed),
        Call::Note(Note::Baseline { .. }) => Answer::Value(json!({ "n": 5 })),
        Call::Note(_) => Answer::Unit,
    })
}

fn ssh_look(look: &SshLook) -> Answer {
    match look {
        SshLook::Facts => Answer::Facts(Facts {
            hostname: "h".to_owned(),
            os_id: "debian".to_owned(),
            os_version: "12".to_owned(),
            arch: "x86_64".to_owned(),
            boot_id: "b-1".to_owned(),
        }),
        SshLook::Observe { commands } => {
            Answer::Outputs(commands.iter().map(|command| output(&command.argv[0])).collect())
        }
        SshLook::Http { .. } => Answer::Http(HttpResponse {
            status: 204,
            headers: vec![("server".to_owned(), "x".to_owned())],
            body: vec![1, 2].into(),
        }),
        SshLook::Tcp { .. } => Answer::Flag(true),
        SshLook::Resolve { .. } => Answer::Names(vec!["10.0.0.1".to_owned()]),
    }
}

fn ssh_act(act: &SshAct) -> Outcome {
    match act {
        SshAct::Run { pipeline, .. } => match pipeline[0].argv[0].as_str() {
            "planned" => Outcome::Planned,
            "already" => Outcome::Already,
            "deferred" => Outcome::Deferred,
            program => Outcome::Done(output(program)),
        },
        SshAct::Confirm { .. } => Outcome::Done(output("confirm")),
        SshAct::Reboot { .. } => Outcome::Done(output("reboot")),
        SshAct::Http { .. } => Outcome::Done(output("http")),
    }
}

fn output(program: &str) -> Output {
    let exit = if program == "two" { Exit::Signal("KILL".to_owned()) } else { Exit::Code(4) };
    Output { exit, stdout: program.as_bytes()[..1].to_vec().into(), stderr: vec![255].into() }
}

fn files_look(target: &Target, look: &FilesLook) -> Answer {
    match look {
        FilesLook::Stat { path } if path.ends_with("missing") => Answer::Stat(None),
        FilesLook::Stat { .. } => Answer::Stat(Some(stat(FileKind::Link))),
        FilesLook::Read { .. } => Answer::Bytes(vec![0, 255].into()),
        FilesLook::List { .. } => Answer::Entries(
            [FileKind::File, FileKind::Directory, FileKind::Other]
                .map(|kind| Entry { name: "e".to_owned(), stat: stat(kind) })
                .to_vec(),
        ),
        FilesLook::Sha256 { .. } => Answer::Text("abc".to_owned()),
        FilesLook::Source { path } => Answer::Source(source(target.clone(), path)),
    }
}

pub(crate) fn source(target: Target, path: &str) -> SourceRef {
    SourceRef { target, path: path.to_owned(), size: 1 << 40, sha256: "def".to_owned() }
}

fn stat(kind: FileKind) -> Stat {
    let link_target = (kind == FileKind::Link).then(|| "../t".to_owned());
    Stat { kind, size: 12, mode: 0o640, owner: "root".to_owned(), group: "adm".to_owned(), link_target }
}

fn kube_look(look: &KubeLook) -> Answer {
    match look {
        KubeLook::Uid => Answer::Text("uid-1".to_owned()),
        KubeLook::Get { object } if object.name == "missing" => Answer::Object(None),
        KubeLook::Get { .. } => Answer::Object(Some(json!({ "kind": "Deployment" }))),
        KubeLook::List { .. } => Answer::Objects(vec![json!(1), json!({})]),
        KubeLook::Logs { .. } => Answer::Text("log".to_owned()),
        KubeLook::Wait { .. } | KubeLook::WaitNone { .. } => Answer::Unit,
        KubeLook::Exec { .. } => Answer::Pod(pod_output()),
        KubeLook::CopyOut { path, .. } => Answer::Source(source(Target::Controller, path)),
    }
}

fn pod_output() -> PodOutput {
    PodOutput { exit_code: -1, stdout: vec![1].into(), stderr: vec![2].into() }
}
