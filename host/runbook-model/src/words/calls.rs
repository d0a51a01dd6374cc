//! Calls in a few words, for people.

use crate::call::{Act, Call, FileWant, FilesLook, KubeAct, KubeLook, Look, Note, Request, Selector, SshAct, SshLook};

/// What is asked, and of which target, in one line.
pub fn request(request: &Request) -> String {
    let Request { target, call } = request;
    match call {
        Call::Look(_) | Call::Change(_) => format!("{} on {target}", self::call(call)),
        Call::Note(_) => self::call(call),
    }
}

/// What is asked, in one line.
pub fn call(call: &Call) -> String {
    match call {
        Call::Look(Look::Ssh(look)) => ssh_look(look),
        Call::Look(Look::Files(look)) => files_look(look),
        Call::Look(Look::Kube(look)) => kube_look(look),
        Call::Change(change) => act(&change.act),
        Call::Note(note) => self::note(note),
    }
}

fn argv(argv: &[String]) -> String {
    argv.join(" ")
}

fn ssh_look(look: &SshLook) -> String {
    match look {
        SshLook::Facts => "facts".to_owned(),
        SshLook::Observe { commands } => {
            let all: Vec<String> = commands.iter().map(|command| argv(&command.argv)).collect();
            all.join("; ")
        }
        SshLook::Http { request } => format!("{} {}", request.method, request.url),
        SshLook::Tcp { address, port, .. } => format!("connect to {address}:{port}"),
        SshLook::Resolve { name, .. } => format!("resolve {name}"),
    }
}

fn files_look(look: &FilesLook) -> String {
    let verb = match look {
        FilesLook::Stat { .. } => "stat",
        FilesLook::Read { .. } => "read",
        FilesLook::List { .. } => "list",
        FilesLook::Sha256 { .. } => "digest of",
        FilesLook::Source { .. } => "open",
    };
    format!("{verb} {}", look.path())
}

fn kube_look(look: &KubeLook) -> String {
    let selected = |selector: &Selector| {
        let namespace = selector.namespace.as_deref().unwrap_or("all namespaces");
        let labels = selector.labels.as_deref().map(|labels| format!(" with {labels}")).unwrap_or_default();
        format!("{} of {namespace}{labels}", selector.kind.kind)
    };
    match look {
        KubeLook::Uid => "its uid".to_owned(),
        KubeLook::Get { object } => format!("get {object}"),
        KubeLook::List { selector } => format!("list {}", selected(selector)),
        KubeLook::Logs { pod, .. } => format!("logs of {pod}"),
        KubeLook::Wait { object, .. } => format!("wait for {object}"),
        KubeLook::WaitNone { selector, .. } => format!("wait until there is no {}", selected(selector)),
        KubeLook::Exec { pod, argv: command, .. } => format!("look in {pod}: {}", argv(command)),
        KubeLook::CopyOut { pod, path, .. } => format!("copy {path} out of {pod}"),
    }
}

fn act(act: &Act) -> String {
    match act {
        Act::Ssh(SshAct::Run { pipeline, .. }) => {
            let all: Vec<String> = pipeline.iter().map(|command| argv(&command.argv)).collect();
            format!("run: {}", all.join(" | "))
        }
        Act::Ssh(SshAct::Reboot { .. }) => "reboot".to_owned(),
        Act::Ssh(SshAct::Confirm { commit, .. }) => format!("run, and confirm anew: {}", argv(&commit.argv)),
        Act::Ssh(SshAct::Http { request, .. }) => format!("{} {}", request.method, request.url),
        Act::Files(act) => {
            let verb = match &act.want {
                FileWant::File { .. } => "write",
                FileWant::Directory { .. } => "make the directory",
                FileWant::Link { .. } => "link",
                FileWant::Absent | FileWant::AbsentIfEmpty => "remove",
                FileWant::Tree { .. } => "put back",
            };
            format!("{verb} {}", act.path)
        }
        Act::Kube(act) => kube_act(act),
    }
}

fn kube_act(act: &KubeAct) -> String {
    match act {
        KubeAct::Apply { manifest, .. } => match crate::call::ObjectRef::of(manifest) {
            Ok(object) => format!("apply {object}"),
            Err(_) => "apply an object".to_owned(),
        },
        KubeAct::Patch { object, .. } => format!("patch {object}"),
        KubeAct::Delete { object, .. } => format!("delete {object}"),
        KubeAct::Scale { object, replicas } => format!("scale {object} to {replicas}"),
        KubeAct::Evict { pod, .. } => format!("evict {pod}"),
        KubeAct::Exec { pod, argv: command, .. } => format!("run in {pod}: {}", argv(command)),
        KubeAct::CopyIn { pod, path, .. } => format!("copy {path} into {pod}"),
        KubeAct::PutBack { pod, path, .. } => format!("put back {path} in {pod}"),
    }
}

fn note(note: &Note) -> String {
    match note {
        Note::Log { .. } => "a message".to_owned(),
        Note::Progress { .. } => "progress".to_owned(),
        Note::Pause { milliseconds } => format!("wait {milliseconds} ms"),
        Note::Baseline { key, .. } => format!("the first value of {key}"),
        Note::Receipt { kind, subject, .. } => format!("a receipt: {kind} of {subject}"),
    }
}
