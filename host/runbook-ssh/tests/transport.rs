//! The transports against real sshd servers, and against this machine.
#![expect(clippy::unwrap_used, reason = "tests")]

mod sshd;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_model::call::{CallError, Exit};
use runbook_ssh::auth::Prompts;
use runbook_ssh::client::RusshTransport;
use runbook_ssh::connect::{ConnectError, ConnectOptions, Endpoint, Reason, connect};
use runbook_ssh::host_key::{Changed, HostKeyError};
use runbook_ssh::local::LocalTransport;
use runbook_ssh::transport::{Output, Process, Transport};
use sha2::{Digest as _, Sha256};
use sshd::{Agent, Lab, Server, run};
use tokio::time::timeout;

/// Nothing here takes longer, even on a busy machine; a hang is a failure and not a hung test.
const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Ended {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exit: Option<Exit>,
}

impl Ended {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

async fn finish(mut process: Process) -> Ended {
    drop(process.stdin);
    let mut ended = Ended::default();
    let collect = async {
        while let Some(output) = process.output.recv().await {
            assert!(ended.exit.is_none(), "something came after the exit");
            match output {
                Output::Stdout(data) => ended.stdout.extend(data),
                Output::Stderr(data) => ended.stderr.extend(data),
                Output::Exit(exit) => ended.exit = Some(exit),
            }
        }
    };
    timeout(LONG, collect).await.expect("the process did not end");
    ended
}

async fn exec(transport: &dyn Transport, line: &str) -> Ended {
    finish(transport.start(line).await.unwrap()).await
}

async fn up(endpoint: &Endpoint, options: &ConnectOptions) -> RusshTransport {
    match timeout(LONG, connect(endpoint, options)).await.expect("connecting hangs") {
        Ok(transport) => transport,
        Err(error) => panic!("{error}"),
    }
}

async fn refused(endpoint: &Endpoint, options: &ConnectOptions) -> ConnectError {
    match timeout(LONG, connect(endpoint, options)).await.expect("connecting hangs") {
        Ok(_) => panic!("it connected"),
        Err(error) => error,
    }
}

fn host_key(error: &ConnectError) -> &HostKeyError {
    match &error.attempts[0].1 {
        Reason::HostKey(error) => error,
        other => panic!("{other}"),
    }
}

async fn simple() -> (Lab, Server, RusshTransport) {
    let lab = Lab::new();
    let server = lab.server();
    let transport = up(&lab.endpoint(&server), &lab.options()).await;
    (lab, server, transport)
}

/// What both transports do the same way.
async fn basics(transport: &dyn Transport) {
    let ended = exec(transport, "echo out; echo err >&2; exit 7").await;
    assert_eq!((ended.text().as_str(), ended.stderr.as_slice()), ("out", &b"err\n"[..]));
    assert_eq!(ended.exit, Some(Exit::Code(7)));
    assert_eq!(exec(transport, "kill -KILL $$").await.exit, Some(Exit::Signal("KILL".to_owned())));
    assert_eq!(exec(transport, "kill -TERM $$").await.exit, Some(Exit::Signal("TERM".to_owned())));
    assert_eq!(exec(transport, "no-such-command-here").await.exit, Some(Exit::Code(127)));
    assert_eq!(exec(transport, "test -t 0 || test -t 1 || echo none").await.text(), "none", "there is no terminal");

    let process = transport.start("cat; echo end").await.unwrap();
    for piece in ["some ", "input\n"] {
        process.stdin.send(piece.into()).await.unwrap();
    }
    assert_eq!(finish(process).await.stdout, b"some input\nend\n");

    // Nobody reads the input: the process ends all the same, and so does sending.
    let process = transport.start("exit 3").await.unwrap();
    let stdin = process.stdin.clone();
    let flood = async move { while stdin.send(vec![0; 1 << 16]).await.is_ok() {} };
    let (ended, flooded) = tokio::join!(finish(process), timeout(LONG, flood));
    flooded.expect("sending to an ended process hangs");
    assert_eq!(ended.exit, Some(Exit::Code(3)));

    // Several at once.
    let lines: Vec<String> = (0..6).map(|n| format!("sleep 0.2; echo {n}")).collect();
    let all = futures::future::join_all(lines.iter().map(|l| exec(transport, l))).await;
    for (n, ended) in all.iter().enumerate() {
        assert_eq!((ended.text(), &ended.exit), (n.to_string(), &Some(Exit::Code(0))));
    }
}

/// 64 MiB in each direction, with their checksums.
async fn bulk(transport: &dyn Transport) {
    const SIZE: usize = 64 << 20;
    let ended = exec(transport, "head -c 67108864 /dev/zero | tr '\\0' 'x'").await;
    assert_eq!((ended.stdout.len(), ended.exit), (SIZE, Some(Exit::Code(0))));
    assert!(ended.stdout.iter().all(|b| *b == b'x'));

    let data: Vec<u8> =
        (0..SIZE as u64 / 8).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let expected = format!("{}  -", hex::encode(Sha256::digest(&data)));
    let process = transport.start("sha256sum").await.unwrap();
    let stdin = process.stdin.clone();
    let send = async move {
        for piece in data.chunks(100_000) {
            stdin.send(piece.to_vec()).await.unwrap();
        }
    };
    let (ended, sent) = tokio::join!(finish(process), timeout(LONG, send));
    sent.expect("sending hangs");
    assert_eq!(ended.text(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_basics() {
    let (_lab, server, transport) = simple().await;
    basics(&transport).await;
    assert_eq!(transport.address(), server.address);
    assert!(!transport.is_closed());
    assert_eq!(server.log().matches("Accepted publickey").count(), 1, "one connection for all of it");
    transport.close().await;
    let deadline = Instant::now() + LONG;
    while !transport.is_closed() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let Err(CallError::Unreachable(_)) = transport.start("true").await else { panic!("it is closed") };
}

#[tokio::test(flavor = "multi_thread")]
async fn local_basics() {
    basics(&LocalTransport::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_bulk() {
    let (_lab, _server, transport) = simple().await;
    bulk(&transport).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_bulk_on_a_connection_of_its_own() {
    let lab = Lab::new();
    let server = lab.server();
    let mut options = lab.options();
    options.bulk = true;
    let transport = up(&lab.endpoint(&server), &options).await;
    bulk(&transport).await;

    // The sender waits for the reader: all of it comes, however late.
    let mut process = transport.start("head -c 100000000 /dev/zero; echo >&2 done").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut size = 0;
    while let Some(output) = timeout(LONG, process.output.recv()).await.unwrap() {
        if let Output::Stdout(data) = output {
            size += data.len();
        }
    }
    assert_eq!(size, 100_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_bulk() {
    bulk(&LocalTransport::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_nobody_takes_holds_nobody_up() {
    let (_lab, _server, transport) = simple().await;
    // 40 MB: far more than a window and russh's queue hold, less than what is parked.
    let slow = transport.start("head -c 40000000 /dev/zero; echo >&2 done").await.unwrap();
    let endless = transport.start("cat /dev/zero").await.unwrap();
    for _ in 0..10 {
        assert_eq!(exec(&transport, "echo here").await.text(), "here");
    }
    let ended = finish(slow).await;
    assert_eq!((ended.stdout.len(), ended.exit), (40_000_000, Some(Exit::Code(0))));
    // The endless one fills what may be parked, is cut off, and ends without an exit; the others go on.
    let fills_and_stalls = Instant::now() + Duration::from_secs(20);
    while Instant::now() < fills_and_stalls {
        assert_eq!(exec(&transport, "sleep 0.2; echo still here").await.text(), "still here");
    }
    let ended = finish(endless).await;
    assert_eq!(ended.exit, None);
    assert!(ended.stdout.len() < 2 << 20, "what was parked is given up: {}", ended.stdout.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_processes_free_their_channels() {
    let (_lab, _server, transport) = simple().await;
    for _ in 0..20 {
        drop(transport.start("cat").await.unwrap());
    }
    assert_eq!(exec(&transport, "echo ok").await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_while_starting_leaves_nothing_behind() {
    let (_lab, _server, transport) = simple().await;
    for micros in 0..30 {
        let _ = timeout(Duration::from_micros(micros * 100), transport.start("cat")).await;
    }
    let all = futures::future::join_all((0..8).map(|_| exec(&transport, "echo ok"))).await;
    assert!(all.iter().all(|e| e.text() == "ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn few_sessions_are_enough() {
    let lab = Lab::new();
    let server = lab.server_with("MaxSessions 2");
    let transport = up(&lab.endpoint(&server), &lab.options()).await;
    let all = futures::future::join_all((0..12).map(|_| exec(&transport, "sleep 0.1; echo ok"))).await;
    assert!(all.iter().all(|e| e.text() == "ok" && e.exit == Some(Exit::Code(0))));

    // Two that do not end: a third cannot start, and says why.
    let held = [transport.start("cat").await.unwrap(), transport.start("cat").await.unwrap()];
    let Err(CallError::Unreachable(text)) = transport.start("true").await else { panic!("it started") };
    assert!(text.contains("MaxSessions"), "{text}");
    drop(held);
    assert_eq!(exec(&transport, "echo ok").await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_ends_without_an_exit() {
    let (_lab, mut server, transport) = simple().await;
    let mut process = transport.start("echo started; sleep 5; echo never").await.unwrap();
    assert_eq!(process.output.recv().await, Some(Output::Stdout(b"started\n".to_vec())));
    server.kill();
    let ended = finish(process).await;
    assert_eq!((ended.text().as_str(), ended.exit), ("", None));
    assert!(transport.is_closed());
    let Err(CallError::Unreachable(text)) = transport.start("true").await else { panic!("it is gone") };
    assert!(text.contains("the connection is lost"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_command_runs_instead() {
    let lab = Lab::new();
    let server = lab.server_with("PermitTTY no\nForceCommand echo forced; exit 4");
    let transport = up(&lab.endpoint(&server), &lab.options()).await;
    let ended = exec(&transport, "echo wanted").await;
    assert_eq!((ended.text().as_str(), ended.exit), ("forced", Some(Exit::Code(4))));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_host_keys_are_refused_with_the_line_to_add() {
    let lab = Lab::new();
    let server = lab.server();
    let endpoint = lab.stranger(&server);
    let error = refused(&endpoint, &lab.options()).await;
    let HostKeyError::Unknown { shown, line, file, .. } = host_key(&error) else { panic!("{error}") };
    assert_eq!(*shown, format!("ssh-ed25519 {}", lab.fingerprint(&server.key)));
    assert_eq!(*line, format!("{} {}", server.entry(), lab.public(&server.key)));
    assert_eq!(*file, lab.path("known_hosts"));
    assert!(error.is_final());
    assert!(!server.log().contains("Accepted"), "nothing of ours was shown to it");
    // The line is what it says it is.
    lab.known(&line.clone());
    up(&endpoint, &lab.options()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_host_keys_are_refused() {
    let lab = Lab::new();
    let server = lab.server();
    lab.keygen("old", &["-t", "ed25519", "-N", ""]);
    lab.known("# a comment");
    lab.known(&format!("{} {}", server.entry(), lab.public("old")));
    let endpoint = lab.stranger(&server);
    let error = refused(&endpoint, &lab.options()).await;
    let HostKeyError::Changed(changed) = host_key(&error) else { panic!("{error}") };
    let Changed { shown, expected, line, name, .. } = &**changed;
    assert_eq!((shown.ends_with(&lab.fingerprint(&server.key)), *line), (true, 2));
    assert!(expected.ends_with(&lab.fingerprint("old")), "{error}");
    let text = error.to_string();
    assert!(text.contains("ssh-keygen -f") && text.contains("known_hosts:2"), "{text}");
    // The advice works.
    run(Command::new("ssh-keygen").arg("-f").arg(lab.path("known_hosts")).arg("-R").arg(name));
    assert!(matches!(host_key(&refused(&endpoint, &lab.options()).await), HostKeyError::Unknown { .. }));

    // The inventory's name speaks first, so another key under it counts as changed even where the address is known.
    lab.trust(&server);
    up(&endpoint, &lab.options()).await;
    lab.known(&format!("node1 {}", lab.public("old")));
    assert!(matches!(host_key(&refused(&endpoint, &lab.options()).await), HostKeyError::Changed(_)));
    lab.known(&format!("node1 {}", lab.public(&server.key)));
    up(&endpoint, &lab.options()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn known_in_every_form() {
    let lab = Lab::new();
    let server = lab.server();
    let key = lab.public(&server.key);
    let file = lab.path("known_hosts");
    let port = server.port;
    for names in [
        "node1".to_owned(),
        "node*,!node2".to_owned(),
        server.entry(),
        format!("[127.0.*]:{port}"),
        server.address.clone(),
    ] {
        std::fs::write(&file, format!("{names} {key}\n")).unwrap();
        up(&lab.stranger(&server), &lab.options()).await;
    }
    std::fs::write(&file, format!("{} {key}\n", server.entry())).unwrap();
    run(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file));
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("|1|"));
    up(&lab.stranger(&server), &lab.options()).await;

    lab.known(&format!("@revoked * {key}"));
    let error = refused(&lab.stranger(&server), &lab.options()).await;
    assert!(
        matches!(host_key(&error), HostKeyError::Revoked { place, .. } if place.ends_with("known_hosts:2")),
        "{error}"
    );

    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let error = refused(&lab.stranger(&server), &lab.options()).await;
    assert!(
        matches!(error.attempts[0].1, Reason::File { .. }),
        "a file that cannot be read is not an empty one: {error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_known_type_of_key_is_asked_for() {
    let lab = Lab::new();
    let keys = [("ed25519", "k1"), ("ecdsa", "k2"), ("rsa", "k3")];
    let paths = keys.map(|(kind, name)| lab.keygen(name, &["-t", kind, "-N", ""]));
    let server = lab.server_with(&paths.map(|p| format!("HostKey {}\n", p.display())).concat());
    for (_, name) in keys {
        std::fs::write(lab.path("known_hosts"), format!("{} {}\n", server.entry(), lab.public(name))).unwrap();
        up(&lab.stranger(&server), &lab.options()).await;
        std::fs::remove_file(lab.path("known_hosts")).unwrap();

        let mut pinned = lab.stranger(&server);
        pinned.host_key = Some(lab.fingerprint(name));
        up(&pinned, &lab.options()).await;
    }
    let mut pinned = lab.stranger(&server);
    pinned.host_key = Some(lab.fingerprint("id_ed25519"));
    let error = refused(&pinned, &lab.options()).await;
    let HostKeyError::Pinned { shown, .. } = host_key(&error) else { panic!("{error}") };
    assert_eq!(shown.len(), 3, "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn host_certificates() {
    let lab = Lab::new();
    let ca = lab.keygen("ca", &["-t", "ed25519", "-N", ""]);
    let host = lab.keygen("host", &["-t", "ed25519", "-N", ""]);
    let sign = |args: &[&str]| {
        let mut command = Command::new("ssh-keygen");
        run(command.arg("-q").arg("-s").arg(&ca).args(["-I", "the host"]).args(args).arg(lab.path("host.pub")));
    };
    let certificate = lab.path("host-cert.pub");
    sign(&["-h", "-n", "node1"]);
    let mut server = lab.server_with(&format!("HostKey {}\nHostCertificate {}", host.display(), certificate.display()));
    let mut attempt = async |args: &[&str]| {
        sign(args);
        server.kill();
        server.start();
        timeout(LONG, connect(&lab.stranger(&server), &lab.options())).await.unwrap().err()
    };

    let error = attempt(&["-h", "-n", "node1"]).await.unwrap();
    assert!(matches!(host_key(&error), HostKeyError::Unknown { .. }), "no authority is trusted: {error}");

    lab.known(&format!("@cert-authority node*,[127.0.*] {}", lab.public("ca")));
    for good in
        [&["-h", "-n", "node1"][..], &["-h", "-n", "other,node?"], &["-h"], &["-h", "-n", "node1", "-V", "-1h:+1h"]]
    {
        if let Some(error) = attempt(good).await {
            panic!("{good:?}: {error}");
        }
    }
    for (bad, reason) in [
        (&["-h", "-n", "node2"][..], "it is for node2"),
        (&["-h", "-n", "node1", "-V", "-2h:-1h"], "expired"),
        (&["-h", "-n", "node1", "-V", "+1h:+2h"], "not valid yet"),
        (&["-h", "-n", "node1", "-O", "critical:strange=yes"], "critical option \"strange\""),
    ] {
        let error = attempt(bad).await.expect("refused");
        let HostKeyError::Certificate { reason: found, .. } = host_key(&error) else { panic!("{error}") };
        assert!(found.contains(reason), "{bad:?}: {found}");
    }

    // A known key stays known when its certificate has expired.
    lab.known(&format!("node1 {}", lab.public("host")));
    assert!(attempt(&["-h", "-n", "node1", "-V", "-2h:-1h"]).await.is_none());

    lab.known(&format!("@revoked * {}", lab.public("ca")));
    let error = attempt(&["-h", "-n", "node1"]).await.unwrap();
    assert!(matches!(host_key(&error), HostKeyError::Revoked { .. }), "{error}");
}

/// Knows a passphrase, and counts how often it was asked.
struct Knows(&'static str, AtomicUsize);

#[async_trait]
impl Prompts for Knows {
    async fn passphrase(&self, _: &str) -> Option<String> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Some(self.0.to_owned())
    }
}

fn auth_text(error: &ConnectError) -> String {
    assert!(matches!(error.attempts[0].1, Reason::Auth(_)), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_files() {
    let lab = Lab::new();
    lab.keygen("rsa", &["-t", "rsa", "-b", "2048", "-N", ""]);
    lab.keygen("pem", &["-t", "ecdsa", "-m", "PEM", "-N", ""]);
    lab.keygen("secret", &["-t", "ed25519", "-N", "open sesame"]);
    lab.keygen("secret-pem", &["-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "open sesame"]);
    let server = lab.server();
    let mut endpoint = lab.endpoint(&server);
    for name in ["rsa", "pem"] {
        lab.authorize(&[name]);
        endpoint.identity_file = Some(lab.path(name));
        up(&endpoint, &lab.options()).await;
    }
    for name in ["secret", "secret-pem"] {
        lab.authorize(&[name]);
        endpoint.identity_file = Some(lab.path(name));
        let text = auth_text(&refused(&endpoint, &lab.options()).await);
        assert!(text.contains(&format!("ssh-add {}", lab.path(name).display())), "{text}");

        let right = Arc::new(Knows("open sesame", AtomicUsize::new(0)));
        let mut options = lab.options();
        options.prompts = Arc::clone(&right) as Arc<dyn Prompts>;
        up(&endpoint, &options).await;
        up(&endpoint, &options).await;
        assert_eq!(right.1.load(Ordering::Relaxed), 1, "{name}: asked once for both connections");

        let wrong = Arc::new(Knows("close sesame", AtomicUsize::new(0)));
        let mut options = lab.options();
        options.prompts = Arc::clone(&wrong) as Arc<dyn Prompts>;
        let text = auth_text(&refused(&endpoint, &options).await);
        assert!(text.contains("the passphrase was wrong 3 times"), "{text}");

        lab.authorize(&["rsa"]);
        let unasked = Arc::new(Knows("open sesame", AtomicUsize::new(0)));
        let mut options = lab.options();
        options.prompts = Arc::clone(&unasked) as Arc<dyn Prompts>;
        let text = auth_text(&refused(&endpoint, &options).await);
        assert_eq!(unasked.1.load(Ordering::Relaxed), 0, "a key that the server does not take is not asked for");
        assert!(text.contains(&format!("tried {}", lab.path(name).display())), "{text}");
        assert!(text.contains("the server accepts publickey") && text.contains("login as root failed"), "{text}");
    }

    // Where none is named: the usual files.
    endpoint.identity_file = None;
    lab.authorize(&["id_ed25519"]);
    assert!(auth_text(&refused(&endpoint, &lab.options()).await).contains("tried nothing"));
    std::fs::copy(lab.path("id_ed25519"), lab.path("home/.ssh/id_ed25519")).unwrap();
    up(&endpoint, &lab.options()).await;

    endpoint.identity_file = Some(lab.path("missing"));
    let text = auth_text(&refused(&endpoint, &lab.options()).await);
    assert!(text.contains("missing (no such file)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_agent() {
    let lab = Lab::new();
    let rsa = lab.keygen("rsa", &["-t", "rsa", "-b", "2048", "-N", ""]);
    let other = lab.keygen("other", &["-t", "ed25519", "-N", ""]);
    let server = lab.server();
    let mut endpoint = lab.endpoint(&server);
    endpoint.identity_file = None;
    let agent = Agent::with(&lab, &[&other, &rsa]);
    let mut options = lab.options();
    options.agent = Some(agent.socket.clone());
    lab.authorize(&["rsa"]);
    up(&endpoint, &options).await;

    lab.authorize(&["id_ed25519"]);
    let text = auth_text(&refused(&endpoint, &options).await);
    assert!(text.contains(&format!("agent key {} (other)", lab.fingerprint("other"))), "{text}");

    // The agent signs for a file that names its key, also where only the public half is there.
    lab.authorize(&["other"]);
    endpoint.identity_file = Some(lab.path("other.pub"));
    lab.write("ssh_config", "Host node1\nIdentitiesOnly yes");
    up(&endpoint, &options).await;
    endpoint.identity_file = Some(lab.path("id_ed25519"));
    let text = auth_text(&refused(&endpoint, &options).await);
    assert!(!text.contains("agent key"), "IdentitiesOnly: {text}");

    drop(agent);
    let text = auth_text(&refused(&endpoint, &options).await);
    assert!(text.contains("agent.sock ("), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_keys() {
    let lab = Lab::new();
    let keys: Vec<_> = (0..8).map(|n| lab.keygen(&format!("k{n}"), &["-t", "ed25519", "-N", ""])).collect();
    let agent = Agent::with(&lab, &keys.iter().map(|k| k.as_path()).collect::<Vec<&Path>>());
    let server = lab.server();
    let mut endpoint = lab.endpoint(&server);
    endpoint.identity_file = None;
    let mut options = lab.options();
    options.agent = Some(agent.socket.clone());
    let text = auth_text(&refused(&endpoint, &options).await);
    assert!(text.contains("MaxAuthTries"), "{text}");
    // The one that is named goes first, so it gets through.
    endpoint.identity_file = Some(lab.path("id_ed25519"));
    up(&endpoint, &options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jump_hosts() {
    let lab = Lab::new();
    let (gate, inner, target) = (lab.server(), lab.server(), lab.server());
    for server in [&gate, &inner, &target] {
        lab.trust(server);
    }
    let at = |server: &Server, name: &str| Endpoint { name: name.to_owned(), ..lab.stranger(server) };
    let mut endpoint = at(&target, "target");
    endpoint.jump = Some(Box::new(Endpoint { jump: Some(Box::new(at(&gate, "gate"))), ..at(&inner, "inner") }));
    let transport = up(&endpoint, &lab.options()).await;
    basics(&transport).await;
    assert!(target.log().contains(&format!("from {} ", "127.0.0.1")) || target.log().contains("Accepted publickey"));
    assert_eq!(gate.log().matches("Accepted publickey").count(), 1);
    assert_eq!(inner.log().matches("Accepted publickey").count(), 1);
    bulk(&transport).await;

    // The same by ssh_config, with aliases.
    let id = lab.path("id_ed25519");
    let config = format!(
        "Host gate\nHostName {}\nPort {}\nHost inner\nHostName {}\nPort {}\nHost target\nProxyJump gate,root@inner\nHost *\nIdentityFile {}\n",
        gate.address,
        gate.port,
        inner.address,
        inner.port,
        id.display()
    );
    lab.write("ssh_config", &config);
    let plain = Endpoint { identity_file: None, ..at(&target, "target") };
    assert_eq!(exec(&up(&plain, &lab.options()).await, "echo through").await.text(), "through");
    assert_eq!(inner.log().matches("Accepted publickey").count(), 2);

    // What goes wrong on the way is said of the host where it went wrong.
    let mut lost = at(&target, "target");
    lost.port = Some(1);
    lost.jump = Some(Box::new(at(&gate, "gate")));
    let error = refused(&lost, &lab.options()).await;
    assert!(error.to_string().contains("the jump host gate") && !error.is_final(), "{error}");
    let mut unknown = endpoint.clone();
    let strange = Endpoint { host_key: Some("SHA256:nothing".to_owned()), ..at(&gate, "gate") };
    unknown.jump = Some(Box::new(strange));
    let error = refused(&unknown, &lab.options()).await;
    assert!(error.to_string().contains("its jump host: cannot connect to gate") && error.is_final(), "{error}");
    lab.write("ssh_config", "Host a\nProxyJump b\nHost b\nProxyJump a\n");
    let circle = Endpoint { name: "a".to_owned(), addresses: vec!["a".to_owned()], ..Endpoint::default() };
    let error = refused(&circle, &lab.options()).await;
    assert!(error.to_string().contains("circle"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_in_turn() {
    let lab = Lab::new();
    let (impostor, server) = (lab.server(), lab.server());
    let port = server.port;
    lab.known(&format!("node1 {}", lab.public(&server.key)));
    let mut endpoint = lab.stranger(&server);
    // Nobody listens at the first one; the second one is the host.
    endpoint.addresses.insert(0, "127.0.9.9".to_owned());
    let transport = up(&endpoint, &lab.options()).await;
    assert_eq!(transport.address(), server.address);

    // Another machine took the first address: its key gives it away, and the host is found at the second.
    let config = format!("Host {}\nPort {}\nHost *\nPort {port}\n", impostor.address, impostor.port);
    lab.write("ssh_config", &config);
    endpoint.port = None;
    endpoint.addresses[0] = impostor.address.clone();
    assert_eq!(up(&endpoint, &lab.options()).await.address(), server.address);
    endpoint.addresses.pop();
    assert!(matches!(host_key(&refused(&endpoint, &lab.options()).await), HostKeyError::Changed(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_down() {
    let lab = Lab::new();
    let mut options = lab.options();
    options.connect_timeout = Duration::from_secs(1);
    let at = |address: &str, port| Endpoint {
        name: "node1".to_owned(),
        addresses: vec![address.to_owned()],
        port: Some(port),
        ..Endpoint::default()
    };
    let error = refused(&at("127.0.9.9", 1), &options).await;
    assert!(matches!(error.attempts[0].1, Reason::Tcp(_)) && !error.is_final(), "{error}");
    assert!(error.to_string().contains("root@127.0.9.9:1: Connection refused"), "{error}");

    let error = refused(&at("no-such-host.invalid", 22), &options).await;
    assert!(matches!(error.attempts[0].1, Reason::Resolve(_) | Reason::Silent { .. }), "{error}");

    // A full queue of connections that nobody accepts: packets get no answer, as behind a firewall that drops them.
    let hole = socket_that_accepts_nothing();
    let fill: Vec<_> =
        (0..8).map(|_| tokio::spawn(tokio::net::TcpStream::connect(hole.local_addr().unwrap()))).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let started = Instant::now();
    let error = refused(&at("127.0.0.1", hole.local_addr().unwrap().port()), &options).await;
    assert!(matches!(error.attempts[0].1, Reason::Silent { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    fill.iter().for_each(|task| task.abort());

    // It listens, and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = refused(&at("127.0.0.1", mute.local_addr().unwrap().port()), &options).await;
    assert!(error.to_string().contains("no answer to the SSH greeting within 1 s"), "{error}");

    // It hangs up at once.
    let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closing.local_addr().unwrap().port();
    let server = tokio::spawn(async move { while closing.accept().await.is_ok() {} });
    let error = refused(&at("127.0.0.1", port), &options).await;
    assert!(error.to_string().contains("hung up before the login, 4 times"), "{error}");
    server.abort();
}

fn socket_that_accepts_nothing() -> std::net::TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(1).unwrap().into_std().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn local_processes_have_their_own_group_and_die_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let asked = LocalTransport::new(Some(dir.path().to_owned())).kill_on_close();
    let mut process = asked.start("pwd; sleep 1000 & wait").await.unwrap();
    assert_eq!(process.output.recv().await, Some(Output::Stdout(format!("{}\n", dir.path().display()).into_bytes())));
    asked.close().await;
    assert!(asked.is_closed());
    assert_eq!(finish(process).await.exit, Some(Exit::Signal("KILL".to_owned())));

    let unasked = LocalTransport::default();
    let process = unasked.start("sleep 0.5; echo lives").await.unwrap();
    unasked.close().await;
    assert_eq!(finish(process).await.text(), "lives");

    let nowhere = LocalTransport::new(Some("/nonexistent".into()));
    let Err(CallError::Unreachable(text)) = nowhere.start("true").await else { panic!("it started") };
    assert!(text.contains("cannot start sh"), "{text}");
}
