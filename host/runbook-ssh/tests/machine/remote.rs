//! The same over real SSH: login, sudo, noise, lost connections, reboots.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_engine::backend::{Backend as _, Secrets};
use runbook_model::bytes::Bytes;
use runbook_model::call::{
    Act, Answer, Attributes, CallError, Command, Content, FileWant, FilesAct, FilesLook, Input, Outcome, Prior, SshAct,
    Target, Text, TextPart, Verdict,
};
use runbook_ssh::backend::SshBackend;
use runbook_ssh::r#become::Become;
use runbook_ssh::connect::{ConnectOptions, Endpoint, connect};
use runbook_ssh::local::LocalTransport;
use runbook_ssh::machine::Connector;
use runbook_ssh::transport::Transport;

use crate::sshd::Lab;
use crate::world::{World, argv, node, running, sh, unique_seconds};

pub(crate) struct Ssh {
    endpoint: Endpoint,
    options: ConnectOptions,
    by: Become,
    connections: AtomicU32,
}

#[async_trait]
impl Connector for Ssh {
    async fn connect(&self, machine: &str, _: Instant) -> Result<Arc<dyn Transport>, CallError> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        match connect(&self.endpoint, &self.options).await {
            Ok(transport) => Ok(Arc::new(transport)),
            Err(error) => Err(CallError::Unreachable(format!("{machine}: {error}"))),
        }
    }

    fn become_of(&self, _: &str) -> Become {
        self.by.clone()
    }
}

pub(crate) fn world(lab: &Lab, endpoint: Endpoint, by: Become) -> (World, Arc<Ssh>) {
    let ssh = Arc::new(Ssh { endpoint, options: lab.options(), by, connections: AtomicU32::new(0) });
    let connector = ssh.clone();
    let backend = move || SshBackend::new(connector.clone(), Arc::new(LocalTransport::new(None)));
    (World::of(tempfile::tempdir().unwrap(), backend), ssh)
}

/// A user of this machine with the password `pa'ss wörd`, and what sudoers says of it. Gone at the end.
struct User(String);

impl User {
    fn new(name: &str, sudoers: &str) -> Self {
        let name = format!("{name}{}", std::process::id());
        // The folder of the tests' servers has to be reachable for the user's sshd.
        run("useradd", &["-M", "-s", "/bin/bash", &name]);
        let user = Self(name);
        let mut chpasswd = Process::new("chpasswd").stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(chpasswd.stdin.as_mut().unwrap(), format!("{}:pa'ss wörd\n", user.0).as_bytes())
            .unwrap();
        assert!(chpasswd.wait().unwrap().success());
        fs::write(user.sudoers(), format!("{} {sudoers}\n", user.0)).unwrap();
        fs::set_permissions(user.sudoers(), fs::Permissions::from_mode(0o440)).unwrap();
        user
    }

    fn sudoers(&self) -> String {
        format!("/etc/sudoers.d/{}", self.0)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.sudoers());
        let _ = Process::new("userdel").arg("-f").arg(&self.0).stderr(Stdio::null()).status();
    }
}

fn run(program: &str, args: &[&str]) {
    assert!(Process::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
}

/// A lab that other users can reach too.
fn open_lab() -> Lab {
    let lab = Lab::new();
    for path in ["", "home", "home/.ssh"] {
        fs::set_permissions(lab.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    lab
}

fn privileged(command: Command) -> Command {
    Command { privileged: true, ..command }
}

fn password(name: &str) -> Become {
    Become::Sudo { password: Some(name.into()) }
}

#[tokio::test]
async fn one_connection_serves_all_calls_in_spite_of_noise() {
    let lab = Lab::new();
    let server = lab.server();
    // bash reads this for every command of an SSH session.
    lab.write("home/.bashrc", "echo noise; echo more noise >&2; printf 'without end'; cat /dev/null\n");
    let (world, ssh) = world(&lab, lab.endpoint(&server), Become::None);
    let calls = (0..20).map(|n| {
        let world = &world;
        async move {
            let text = format!("{n}\n");
            let output = if n % 3 == 0 {
                world.change(vec![argv(&["echo", &n.to_string()])]).await
            } else {
                world.observe(argv(&["echo", &n.to_string()])).await
            };
            assert_eq!(output.unwrap().stdout.lossy(), text);
        }
    });
    futures::future::join_all(calls).await;
    assert_eq!(ssh.connections.load(Ordering::Relaxed), 1);
    assert!(server.log().matches("Starting session").count() <= 3, "more sessions than helper shells");
    let seconds = unique_seconds();
    let slow = Command { timeout_ms: Some(500), ..argv(&["sleep", &seconds]) };
    assert!(matches!(world.observe(slow).await, Err(CallError::TimedOut(_))));
    assert_eq!(running(&seconds), Vec::<String>::new());
    // Much data, both ways, and files.
    let big = vec![7; 4_000_000];
    let echo = Command { stdin: Input::Bytes(Bytes(big.clone())), ..argv(&["cat"]) };
    assert!(world.change(vec![echo]).await.unwrap().stdout.0 == big);
    let want = FileWant::File {
        content: Content::Bytes(Bytes(big.clone())),
        attributes: Attributes::default(),
        validate: vec![],
    };
    let act = FilesAct { path: world.path("big"), want };
    assert_eq!(world.apply(&act).await.unwrap(), Verdict::Changed);
    let Answer::Source(source) = world.files(FilesLook::Source { path: world.path("big") }).await.unwrap() else {
        panic!()
    };
    let want = FileWant::File { content: Content::CopyOf(source), attributes: Attributes::default(), validate: vec![] };
    assert_eq!(world.apply(&FilesAct { path: world.path("copy"), want }).await.unwrap(), Verdict::Changed);
    assert!(fs::read(world.path("copy")).unwrap() == big);
    world.backend.close().await;
}

#[tokio::test]
async fn sudo_with_a_password() {
    let user = User::new("rbpass", "ALL=(ALL:ALL) ALL");
    let lab = open_lab();
    let server = lab.server();
    let endpoint = Endpoint { user: Some(user.0.clone()), ..lab.endpoint(&server) };
    let (mut world, _) = world(&lab, endpoint.clone(), password("sudo"));
    let secret = |value: &str| Arc::new(Secrets([("sudo".to_owned(), value.to_owned())].into()));
    let error = world.observe(privileged(argv(&["id", "-u"]))).await.unwrap_err();
    assert!(error.to_string().contains("`sudo`, which has no value"), "{error}");
    world.ctx.passwords = secret("wrong");
    let error = world.observe(privileged(argv(&["id", "-u"]))).await.unwrap_err();
    assert!(error.to_string().contains("refused the password"), "{error}");
    world.ctx.passwords = secret("pa'ss wörd");
    assert_eq!(world.text(privileged(argv(&["id", "-u"]))).await, "0\n");
    assert_eq!(world.text(argv(&["id", "-un"])).await, format!("{}\n", user.0));
    // Nothing of the password is left for the commands to read.
    assert_eq!(world.text(privileged(sh("cat; echo end"))).await, "end\n");
    assert_eq!(running("pa'ss"), Vec::<String>::new());
    // Several at once, and files with root's rights.
    let both =
        world.observe_all(vec![privileged(argv(&["id", "-u"])), argv(&["id", "-un"]), privileged(argv(&["id", "-u"]))]);
    let texts: Vec<String> = both.await.unwrap().iter().map(|output| output.stdout.lossy().trim().to_owned()).collect();
    assert_eq!(texts, ["0", &user.0, "0"]);
    let path = world.path("root-file");
    let attributes = Attributes { mode: Some(0o600), ..Attributes::default() };
    let want = FileWant::File { content: Content::Text(Text::plain("x")), attributes, validate: vec![] };
    assert_eq!(world.apply(&FilesAct { path: path.clone(), want }).await.unwrap(), Verdict::Changed);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path).unwrap()), 0);
    // What runs as root can be stopped.
    let seconds = unique_seconds();
    let slow = Command { timeout_ms: Some(700), ..privileged(sh(&format!("sleep {seconds} & sleep {seconds}"))) };
    let error = world.change(vec![slow]).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut(_)), "{error}");
    assert_eq!(running(&seconds), Vec::<String>::new());
    world.backend.close().await;

    let (world, _) = self::world(&lab, endpoint, Become::Sudo { password: None });
    let error = world.observe(privileged(argv(&["id"]))).await.unwrap_err();
    assert!(error.to_string().contains("become = { method = \"sudo\", password"), "{error}");
}

#[tokio::test]
async fn sudo_without_a_password_and_no_right_to_it() {
    let user = User::new("rbfree", "ALL=(ALL:ALL) NOPASSWD: ALL");
    let lab = open_lab();
    let server = lab.server();
    let endpoint = Endpoint { user: Some(user.0.clone()), ..lab.endpoint(&server) };
    let (free, _) = world(&lab, endpoint.clone(), Become::Sudo { password: None });
    assert_eq!(free.text(privileged(argv(&["id", "-u"]))).await, "0\n");

    fs::remove_file(user.sudoers()).unwrap();
    let (mut barred, _) = world(&lab, endpoint.clone(), password("sudo"));
    barred.ctx.passwords = Arc::new(Secrets([("sudo".to_owned(), "pa'ss wörd".to_owned())].into()));
    let error = barred.observe(privileged(argv(&["id"]))).await.unwrap_err();
    assert!(error.to_string().contains("sudoers"), "{error}");

    // Without become: the login user's rights, and "no permission" is not "not there".
    let (plain, _) = world(&lab, endpoint, Become::None);
    assert_eq!(plain.text(privileged(argv(&["id", "-un"]))).await, format!("{}\n", user.0));
    let dir = plain.path("");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    let path = plain.path("private");
    let error = plain.files(FilesLook::Stat { path: path.clone() }).await.unwrap_err();
    assert!(matches!(&error, CallError::Failed(text) if text.contains("no permission")), "{error}");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(plain.files(FilesLook::Stat { path: path.clone() }).await, Ok(Answer::Stat(None)));
    let content = Content::Text(Text(vec![TextPart::Plain("x".into())]));
    let want = FileWant::File { content, attributes: Attributes::default(), validate: vec![] };
    let error = plain.apply(&FilesAct { path, want }).await.unwrap_err();
    assert!(matches!(&error, CallError::Failed(text) if text.contains("no permission")), "{error}");
    // Login as root: sudo is not asked at all.
    let (root, _) = world(&lab, lab.endpoint(&server), Become::Sudo { password: None });
    assert_eq!(root.text(privileged(argv(&["id", "-u"]))).await, "0\n");
}

#[tokio::test]
async fn a_lost_connection_is_in_doubt_and_the_next_call_connects_again() {
    let lab = Lab::new();
    let mut server = lab.server();
    let (world, ssh) = world(&lab, lab.endpoint(&server), Become::None);
    assert_eq!(world.text(argv(&["echo", "one"])).await, "one\n");
    let seconds = unique_seconds();
    let (result, ()) = tokio::join!(world.change(vec![argv(&["sleep", &seconds])]), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.kill();
    });
    let error = result.unwrap_err();
    assert!(matches!(&error, CallError::Unreachable(text) if text.contains("in doubt")), "{error}");
    let error = world.observe(argv(&["true"])).await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable(_)), "{error}");
    server.start();
    assert_eq!(world.text(argv(&["echo", "two"])).await, "two\n");
    assert!(ssh.connections.load(Ordering::Relaxed) >= 3);
    let _ = Process::new("pkill").args(["-f", &format!("^sleep {seconds}")]).status();
}

#[tokio::test]
async fn a_reboot_is_over_when_the_boot_id_is_another() {
    let lab = Lab::new();
    let boot_id = lab.write("boot_id", "first-boot\n");
    // "Rebooting" changes the boot id some seconds later.
    let systemctl = format!(
        "#!/bin/sh\n[ \"$1\" = reboot ] || exit 1\n(sleep 3; echo second-boot >{}) >/dev/null 2>&1 &\n",
        boot_id.display()
    );
    let stand_in = lab.write("bin/systemctl", &systemctl);
    fs::set_permissions(stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    let server = lab.server_with(&format!(
        "SetEnv PATH={}:/usr/bin:/bin HOME={}",
        lab.path("bin").display(),
        lab.path("home").display()
    ));
    lab.write("home/.bashrc", &format!("PATH={}:/usr/bin:/bin\n", lab.path("bin").display()));
    let ssh = Ssh {
        endpoint: lab.endpoint(&server),
        options: lab.options(),
        by: Become::None,
        connections: AtomicU32::new(0),
    };
    let (ssh, file) = (Arc::new(ssh), boot_id.display().to_string());
    let backend = move || SshBackend::new(ssh.clone(), Arc::new(LocalTransport::new(None))).with_boot_id(&file);
    let world = World::of(tempfile::tempdir().unwrap(), backend);
    let act = |timeout_ms| Act::Ssh(SshAct::Reboot { timeout_ms });
    let answer = world.backend.act(&node(), &act(60_000), &Prior::None, &world.ctx).await.unwrap();
    let Answer::Outcome(Outcome::Done(output)) = answer else { panic!("{answer:?}") };
    assert_eq!(output.stdout.0, b"second-boot\n");
    fs::write(lab.path("bin/systemctl"), "#!/bin/sh\nexit 0\n").unwrap();
    let error = world.backend.act(&node(), &act(3_000), &Prior::None, &world.ctx).await.unwrap_err();
    assert!(matches!(&error, CallError::TimedOut(text) if text.contains("still runs as before")), "{error}");
    let error = world.backend.act(&Target::Controller, &act(3_000), &Prior::None, &world.ctx).await.unwrap_err();
    assert!(matches!(error, CallError::Invalid(_)));
}
