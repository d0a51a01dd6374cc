//! A large file from the controller to a machine: the calls that a step of `core/file` makes, one after the other, beside sftp.
//! Against a real sshd on loopback; needs root.
//!
//! `cargo bench -p runbook-ssh --bench push [-- MEBIBYTES]`

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a benchmark")]

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_engine::backend::{Backend as _, CallContext, NoRuns, Progress};
use runbook_model::call::{Act, Answer, Attributes, CallError, Content, FileWant, FilesAct, FilesLook, Look, Target};
use runbook_ssh::backend::SshBackend;
use runbook_ssh::r#become::Become;
use runbook_ssh::connect::{ConnectOptions, Endpoint, connect};
use runbook_ssh::local::LocalTransport;
use runbook_ssh::machine::Connector;
use runbook_ssh::transport::Transport;

#[path = "../tests/sshd/mod.rs"]
mod sshd;

use sshd::{Lab, Server};

struct Ssh(Endpoint, ConnectOptions);

#[async_trait]
impl Connector for Ssh {
    async fn connect(&self, _: &str, _: Instant) -> Result<Arc<dyn Transport>, CallError> {
        Ok(Arc::new(connect(&self.0, &self.1).await?))
    }

    fn become_of(&self, _: &str) -> Become {
        Become::None
    }
}

struct Quiet;

impl Progress for Quiet {
    fn progress(&self, _: &str, _: u64, _: Option<u64>, _: &str) {}

    fn line(&self, _: &str) {}
    fn took_over(&self, _: &str, _: &str, _: u32) {}
}

fn main() {
    let size: u64 = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(256);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lab = Lab::new();
    let server = lab.server();
    lab.trust(&server);
    let (from, to) = (lab.path("from"), lab.path("to"));
    println!("{:14}{:>9}{:>12}{:>10}", format!("{size} MiB"), "wall s", "client CPU", "sshd CPU");
    for _ in 0..3 {
        // A new file each time: what was read before is remembered.
        let mut random = std::fs::File::open("/dev/urandom").unwrap().take(size << 20);
        let _ = std::fs::remove_file(&from);
        std::io::copy(&mut random, &mut std::fs::File::create(&from).unwrap()).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        row("sftp put", &server, &to, || sftp(&lab, &server, &from, &to));
        let mut parts = String::new();
        row("core/file", &server, &to, || parts = runtime.block_on(push(&lab, &server, &from, &to)));
        println!("    {parts}");
        assert!(Command::new("cmp").arg(&from).arg(&to).status().unwrap().success());
    }
}

fn row(what: &str, server: &Server, to: &Path, run: impl FnOnce()) {
    let _ = std::fs::remove_file(to);
    assert!(Command::new("sync").status().unwrap().success());
    let (client, host, began) = (cpu("self"), cpu(&server.pid()), Instant::now());
    run();
    let wall = began.elapsed().as_secs_f64();
    // What a session took is counted when its server has waited for it.
    std::thread::sleep(Duration::from_millis(500));
    let (client, host) = (cpu("self") - client, cpu(&server.pid()) - host);
    println!("{what:14}{wall:9.2}{:12.2}{:10.2}", client.as_secs_f64(), host.as_secs_f64());
}

fn sftp(lab: &Lab, server: &Server, from: &Path, to: &Path) {
    let mut sftp = Command::new("sftp");
    sftp.args(["-q", "-b", "-", "-F", "/dev/null", "-o"]);
    sftp.arg(format!("UserKnownHostsFile={}", lab.path("known_hosts").display()));
    sftp.arg("-i").arg(lab.path("id_ed25519")).args(["-P", &server.port.to_string(), &server.address]);
    let mut child = sftp.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "put {} {}", from.display(), to.display()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Looks at the source, at what is there, writes it, and looks again as the check of convergence does.
async fn push(lab: &Lab, server: &Server, from: &Path, to: &Path) -> String {
    let ssh = Ssh(lab.stranger(server), lab.options());
    let backend = SshBackend::new(Arc::new(ssh), Arc::new(LocalTransport::new(None)));
    let ctx = CallContext {
        deadline: Instant::now() + Duration::from_secs(120),
        cancel: tokio_util::sync::CancellationToken::new(),
        read_only: false,
        secrets: Arc::default(),
        passwords: Arc::default(),
        progress: Arc::new(Quiet),
        artifacts: PathBuf::new(),
        jail: None,
        field_manager: String::new(),
        mark: None,
        origin: None,
        runs: Arc::new(NoRuns),
    };
    let node = Target::Machine("node".to_owned());
    let mut parts = Vec::new();
    let mut since = Instant::now();
    let mut part = |name: &str| {
        parts.push(format!("{name} {:.2}", since.elapsed().as_secs_f64()));
        since = Instant::now();
    };
    let source = Look::Files(FilesLook::Source { path: from.display().to_string() });
    for pass in ["apply", "check"] {
        let Answer::Source(source) = backend.look(&Target::Controller, &source, &ctx).await.unwrap() else { panic!() };
        part("source");
        let want = FileWant::File {
            content: Content::CopyOf(source),
            attributes: Attributes { mode: Some(0o644), ..Attributes::default() },
            validate: vec![],
        };
        let act = Act::Files(FilesAct { path: to.display().to_string(), want });
        let prior = backend.prior(&node, &act, &ctx).await.unwrap();
        part("look");
        if pass == "apply" {
            backend.act(&node, &act, &prior, &ctx).await.unwrap();
            part("write");
        }
    }
    backend.close().await;
    parts.join(", ")
}

/// Processor time of a process and of those that it has waited for.
fn cpu(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let stat: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    Duration::from_millis((11..=14).map(|f| stat[f].parse::<u64>().unwrap()).sum::<u64>() * 10)
}
