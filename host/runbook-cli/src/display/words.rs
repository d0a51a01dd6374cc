//! Events in a person's words.

use runbook_model::call::{Act, Call, KubeLook, Look, Request, SshAct, SshLook};
pub(crate) use runbook_model::words::{elapsed, outcome, safe};

/// How long ago something was, coarsely.
pub(crate) fn ago(ms: u64) -> String {
    let minutes = ms / 60_000;
    match minutes {
        0 => "just now".to_owned(),
        1..60 => format!("{minutes} min ago"),
        60..2880 => format!("{} h ago", minutes / 60),
        _ => format!("{} days ago", minutes / 1440),
    }
}

/// What a call does, short.
pub(crate) fn request(request: &Request) -> String {
    let argv = |argv: &[String]| argv.join(" ");
    match &request.call {
        Call::Change(change) if !change.effect.summary.is_empty() => change.effect.summary.clone(),
        Call::Change(change) => match &change.act {
            Act::Ssh(SshAct::Run { pipeline, .. }) => {
                pipeline.iter().map(|command| argv(&command.argv)).collect::<Vec<_>>().join(" | ")
            }
            Act::Ssh(SshAct::Confirm { commit, .. }) => commit.argv.join(" "),
            Act::Ssh(SshAct::Reboot { .. }) => "reboot".to_owned(),
            Act::Ssh(SshAct::Http { request, .. }) => format!("{} {}", request.method, request.url),
            Act::Files(act) => act.path.clone(),
            Act::Kube(_) => "a change in the cluster".to_owned(),
        },
        Call::Look(Look::Ssh(SshLook::Observe { commands })) => {
            commands.first().map(|command| argv(&command.argv)).unwrap_or_default()
        }
        Call::Look(Look::Ssh(SshLook::Facts)) => "facts".to_owned(),
        Call::Look(Look::Ssh(SshLook::Http { request })) => request.url.clone(),
        Call::Look(Look::Ssh(SshLook::Tcp { address, port, .. })) => format!("{address}:{port}"),
        Call::Look(Look::Ssh(SshLook::Resolve { name, .. })) => name.clone(),
        Call::Look(Look::Files(look)) => look.path().to_owned(),
        Call::Look(Look::Kube(KubeLook::Get { object } | KubeLook::Wait { object, .. })) => object.to_string(),
        Call::Look(Look::Kube(_)) => "a look into the cluster".to_owned(),
        Call::Note(_) => String::new(),
    }
}
