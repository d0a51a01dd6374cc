//! Changes that cut their own connection, on machines in network namespaces: the addresses really go, and a real sshd answers at the new
//! ones or does not.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_engine::backend::{Backend as _, CallContext, Mark};
use runbook_model::call::{Act, Answer, CallError, Command, Exit, Finding, Outcome, Output, Prior, SshAct};
use runbook_ssh::backend::SshBackend;
use runbook_ssh::r#become::Become;
use runbook_ssh::connect::{ConnectOptions, Endpoint, connect};
use runbook_ssh::local::LocalTransport;
use runbook_ssh::machine::Connector;
use runbook_ssh::transport::Transport;

use crate::sshd::{Lab, run};
use crate::world::{Told, World, argv, context, node, sh};

/// Long enough for all that has to happen within it, also on a busy computer.
const WINDOW: Duration = Duration::from_secs(60);
/// For tests that wait for its end.
const SHORT: Duration = Duration::from_secs(8);

/// A switch, and machines on it that have nothing but their file system in common with this computer, without /var/lib/runbook.
struct House {
    lab: Lab,
    number: u8,
    machines: Vec<(String, Child)>,
    /// Held, nobody else has the number.
    _claim: File,
}

/// The number of a network, unless another test has it: they may be processes of their own.
fn claimed(number: u8) -> Option<File> {
    let file = File::create(std::env::temp_dir().join(format!("runbook-test-house-{number}.lock"))).unwrap();
    file.try_lock().ok().map(|()| file)
}

impl House {
    fn new() -> Self {
        let (number, claim) = (0..250).find_map(|number| Some((number, claimed(number)?))).unwrap();
        let house = Self { lab: Lab::new(), number, machines: Vec::new(), _claim: claim };
        fs::create_dir_all("/var/lib/runbook").unwrap();
        let bridge = house.bridge();
        let _ = Process::new("ip").args(["link", "del", &bridge]).stderr(Stdio::null()).status();
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("addr add {}/24 dev {bridge}", house.at(254)));
        ip(&format!("link set {bridge} up"));
        house.lab.authorize(&["id_ed25519"]);
        house
    }

    fn bridge(&self) -> String {
        format!("rb{}n{}", std::process::id() % 100_000, self.number)
    }

    fn at(&self, last: u8) -> String {
        format!("10.213.{}.{last}", self.number)
    }

    /// A machine with this address and a host key of its own. More lines of sshd_config go into `config`.
    fn machine(&mut self, last: u8, config: &str) -> String {
        let name = format!("{}m{last}", self.bridge());
        let (inside, outside) = (format!("{name}i"), format!("{name}o"));
        let _ = Process::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
        ip(&format!("netns add {name}"));
        ip(&format!("link add {outside} type veth peer name {inside} netns {name}"));
        ip(&format!("link set {outside} master {} up", self.bridge()));
        ip(&format!("-n {name} link set {inside} name eth0"));
        ip(&format!("-n {name} addr add {}/24 dev eth0", self.at(last)));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} link set lo up"));
        let key = self.lab.keygen(&name, &["-t", "ed25519", "-N", ""]);
        let dir = self.lab.path("").display().to_string();
        let text = format!(
            "{config}\nHostKey {}\nListenAddress 0.0.0.0\nPort 22\nPidFile none\nAuthorizedKeysFile {dir}/authorized_keys\n\
             PermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nUseDNS no\nSetEnv HOME={dir}/home\n",
            key.display()
        );
        let config = self.lab.write(&format!("{name}.conf"), &text);
        let log = self.lab.path(&format!("{name}.log"));
        let started = format!(
            "mount -t tmpfs tmpfs /var/lib/runbook && exec /usr/sbin/sshd -D -f {} -E {}",
            config.display(),
            log.display()
        );
        let child = Process::new("ip")
            .args(["netns", "exec", &name, "unshare", "-m", "--propagation", "private", "sh", "-c", &started])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.machines.push((name.clone(), child));
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect((self.at(last).as_str(), 22)).is_err() {
            assert!(Instant::now() < deadline, "sshd does not listen: {:?}", fs::read_to_string(&log));
            std::thread::sleep(Duration::from_millis(50));
        }
        name
    }

    /// The machine's addresses, without SSH.
    fn addresses(&self, name: &str) -> Vec<String> {
        let output = Process::new("ip").args(["-n", name, "-4", "-o", "addr", "show", "dev", "eth0"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect()
    }

    fn until_it_has(&self, name: &str, last: u8) {
        let wanted = [format!("{}/24", self.at(last))];
        let deadline = Instant::now() + Duration::from_secs(90);
        while self.addresses(name) != wanted {
            assert!(Instant::now() < deadline, "{name} has {:?}, not {wanted:?}", self.addresses(name));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the changes of a machine left in /var/lib/runbook/confirm.
    fn left(&self, name: &str) -> Vec<String> {
        let child = &self.machines.iter().find(|(known, _)| known == name).unwrap().1;
        let root = PathBuf::from(format!("/proc/{}/root/var/lib/runbook/confirm", child.id()));
        let mut left = Vec::new();
        for change in fs::read_dir(root).into_iter().flatten().flatten() {
            left.extend(fs::read_dir(change.path()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap()));
        }
        left.sort();
        left
    }

    /// The machine as a new session of the run sees it, whose inventory has the address `last` and the host key of the machine.
    fn session(&self, name: &str, last: u8) -> World {
        let options = ConnectOptions { connect_timeout: Duration::from_secs(3), ..self.lab.options() };
        let endpoint = Endpoint {
            name: "node".to_owned(),
            addresses: vec![self.at(last)],
            identity_file: Some(self.lab.path("id_ed25519")),
            host_key: Some(self.lab.fingerprint(name)),
            ..Endpoint::default()
        };
        let connector = Arc::new(Moving { endpoint: Mutex::new(endpoint), options });
        let make = move || SshBackend::new(connector.clone(), Arc::new(LocalTransport::new(None)));
        World::of(tempfile::tempdir().unwrap(), make)
    }

    /// A change of the address.
    fn moves(&self, from: u8, to: u8, window: Duration) -> Act {
        let set = |gone: &str, here: &str| {
            privileged(sh(&format!(
                "echo moving; ip addr del {gone}/24 dev eth0; ip addr add {here}/24 dev eth0; ip addr show dev eth0 | grep -q {here}"
            )))
        };
        let (from, to) = (self.at(from), self.at(to));
        confirmed(set(&from, &to), set(&to, &from), window, &[&to])
    }

    /// A change after which nothing leads to the machine.
    fn loses(&self, from: u8, window: Duration, addresses: &[&str]) -> Act {
        let back = format!("ip addr flush dev eth0; ip addr add {}/24 dev eth0", self.at(from));
        confirmed(privileged(sh("ip addr flush dev eth0")), privileged(sh(&back)), window, addresses)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for (name, child) in &mut self.machines {
            let inside = Process::new("ip").args(["netns", "pids", name]).output();
            for pid in inside
                .iter()
                .flat_map(|out| String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect::<Vec<_>>())
            {
                let _ = Process::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status();
            }
            let _ = child.wait();
            let _ = Process::new("ip").args(["netns", "del", name]).status();
        }
        let _ = Process::new("ip").args(["link", "del", &self.bridge()]).status();
    }
}

fn ip(arguments: &str) {
    run(Process::new("ip").args(arguments.split(' ')));
}

fn privileged(command: Command) -> Command {
    Command { privileged: true, ..command }
}

fn confirmed(commit: Command, revert: Command, window: Duration, addresses: &[&str]) -> Act {
    Act::Ssh(SshAct::Confirm {
        commit: Box::new(commit),
        revert: Box::new(revert),
        window_ms: u32::try_from(window.as_millis()).unwrap(),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
    })
}

/// The inventory's machine, which may move.
struct Moving {
    endpoint: Mutex<Endpoint>,
    options: ConnectOptions,
}

impl Moving {
    fn endpoint(&self) -> Endpoint {
        self.endpoint.lock().unwrap().clone()
    }

    async fn open(&self, endpoint: Endpoint, deadline: Instant) -> Result<Arc<dyn Transport>, CallError> {
        match tokio::time::timeout_at(deadline.into(), connect(&endpoint, &self.options)).await {
            Ok(Ok(transport)) => Ok(Arc::new(transport)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(CallError::TimedOut("connecting".to_owned())),
        }
    }
}

#[async_trait]
impl Connector for Moving {
    async fn connect(&self, _: &str, deadline: Instant) -> Result<Arc<dyn Transport>, CallError> {
        self.open(self.endpoint(), deadline).await
    }

    async fn connect_again(
        &self,
        _: &str,
        address: Option<&str>,
        host_key: Option<&str>,
        deadline: Instant,
    ) -> Result<Arc<dyn Transport>, CallError> {
        let mut endpoint = self.endpoint();
        endpoint.same_key = host_key.map(str::to_owned);
        if let Some(address) = address {
            endpoint.addresses = vec![address.to_owned()];
        }
        self.open(endpoint, deadline).await
    }

    fn moved(&self, _: &str, address: &str, host_key: Option<&str>) {
        let mut endpoint = self.endpoint.lock().unwrap();
        endpoint.addresses.insert(0, address.to_owned());
        endpoint.same_key = host_key.map(str::to_owned);
    }

    fn become_of(&self, _: &str) -> Become {
        Become::None
    }
}

fn marked(session: u32) -> CallContext {
    let told = Arc::new(Told::default());
    let mark = Mark { run: "20261126-move".to_owned(), session, record: 7, owner: "a test".to_owned() };
    CallContext { mark: Some(mark), deadline: Instant::now() + Duration::from_secs(300), ..context(&told) }
}

async fn make(world: &World, act: &Act, session: u32) -> Result<Output, CallError> {
    match world.backend.act(&node(), act, &Prior::None, &marked(session)).await? {
        Answer::Outcome(Outcome::Done(output)) => Ok(output),
        other => panic!("{other:?}"),
    }
}

async fn settle(world: &World, act: &Act, session: u32) -> Finding {
    world.backend.settle(&node(), act, &Prior::None, &marked(session)).await.unwrap()
}

fn failed(result: Result<Output, CallError>) -> String {
    match result {
        Err(CallError::Failed(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The change is begun, and this end dies once the machine has done it.
async fn die_after(house: &House, name: &str, act: &Act, to: u8) {
    let world = house.session(name, 10);
    let (ctx, node) = (marked(1), node());
    tokio::select! {
        answer = world.backend.act(&node, act, &Prior::None, &ctx) => panic!("{answer:?}"),
        () = async {
            let wanted = format!("{}/24", house.at(to));
            while !house.addresses(name).contains(&wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_confirmed_at_the_new_address_and_the_machine_is_found_there_from_then_on() {
    let mut house = House::new();
    let busybox = house.lab.path("busybox");
    fs::create_dir(&busybox).unwrap();
    run(Process::new("busybox").args(["--install", "-s"]).arg(&busybox));
    for (last, config) in [(10, String::new()), (30, format!("SetEnv PATH={}", busybox.display()))] {
        // sshd takes the first SetEnv alone.
        let config =
            if config.is_empty() { config } else { format!("{config} HOME={}", house.lab.path("home").display()) };
        let name = house.machine(last, &config);
        let world = house.session(&name, last);
        let output = make(&world, &house.moves(last, last + 1, WINDOW), 1).await.unwrap();
        assert_eq!(output.stdout.lossy(), "moving\n");
        house.until_it_has(&name, last + 1);
        // A connection that is lost is opened again there.
        world.backend.close().await;
        assert_eq!(world.text(argv(&["echo", "here"])).await, "here\n");
        // Nothing will happen any more, and what may hold secrets is gone.
        let left = house.left(&name);
        assert!(left.contains(&"confirmed".to_owned()), "{left:?}");
        assert!(
            !left.iter().any(|file| ["token", "commit", "revert", "commit.in"].contains(&file.as_str())),
            "{left:?}"
        );
        let finding = settle(&house.session(&name, last + 1), &house.moves(last, last + 1, WINDOW), 2).await;
        assert_eq!(done(finding), "moving\n");
    }
}

/// What the commit wrote, where it was made and stays.
fn done(finding: Finding) -> String {
    match finding {
        Finding::Done(Answer::Outcome(Outcome::Done(output))) => output.stdout.lossy().into_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_nobody_can_reach_takes_it_back_by_itself() {
    let mut house = House::new();
    let name = house.machine(10, "");
    let world = house.session(&name, 10);
    let act = house.loses(10, SHORT, &[&house.at(11)]);
    let text = failed(make(&world, &act, 1).await);
    assert!(text.contains("nobody could reach node in time") && text.contains("took it back"), "{text}");
    house.until_it_has(&name, 10);
    assert_eq!(world.text(argv(&["echo", "back"])).await, "back\n");
    assert_eq!(settle(&world, &act, 2).await, Finding::NotDone);
    // What was taken back can be made again.
    make(&world, &house.moves(10, 11, WINDOW), 2).await.unwrap();
    house.until_it_has(&name, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_is_taken_back_at_once() {
    let mut house = House::new();
    let name = house.machine(10, "");
    let world = house.session(&name, 10);
    let file = world.path("state");
    let write = |text: &str| format!("echo {text} >{file}");
    let commit = sh(&format!("{}; echo no such thing >&2; exit 78", write("new")));
    // The window is so long that nobody waits for its end.
    let act = confirmed(privileged(commit), privileged(sh(&write("old"))), Duration::from_secs(150), &[]);
    let text = failed(make(&world, &act, 1).await);
    assert!(text.contains("exit code 78: no such thing; the machine took it back"), "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "old\n");
    // The same where even that fails.
    let act =
        confirmed(privileged(sh("exit 1")), privileged(sh("echo hopeless >&2; exit 9")), Duration::from_secs(150), &[]);
    let text = failed(make(&world, &act, 1).await);
    assert!(text.contains("taking it back ended with exit code 9: hopeless; look at node"), "{text}");
    assert!(matches!(settle(&world, &act, 2).await, Finding::Unclear(text) if text.contains("hopeless")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_another_host_key_confirms_nothing() {
    let mut house = House::new();
    let name = house.machine(10, "");
    let other = house.machine(20, "");
    let world = house.session(&name, 10);
    let (mine, theirs) = (house.lab.fingerprint(&name), house.lab.fingerprint(&other));
    let act = house.loses(10, SHORT, &[&house.at(20)]);
    let text = failed(make(&world, &act, 1).await);
    assert!(text.contains("took it back"), "{text}");
    assert!(text.contains(&mine) && text.contains(&theirs), "{text}");
    house.until_it_has(&name, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_this_end_dies_the_machine_takes_it_back_by_itself() {
    let mut house = House::new();
    let name = house.machine(10, "");
    let act = house.moves(10, 11, SHORT);
    die_after(&house, &name, &act, 11).await;
    house.until_it_has(&name, 10);
    assert_eq!(settle(&house.session(&name, 10), &act, 2).await, Finding::NotDone);
    // The same when the run is cancelled; it says so.
    let world = house.session(&name, 10);
    let (ctx, node, act) = (marked(2), node(), house.loses(10, SHORT, &[]));
    let (answer, ()) = tokio::join!(world.backend.act(&node, &act, &Prior::None, &ctx), async {
        while !house.addresses(&name).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ctx.cancel.cancel();
    });
    let text = failed(answer.map(|_| Output { exit: Exit::Code(0), stdout: "".into(), stderr: "".into() }));
    assert!(text.contains("cancelled") && text.contains("by itself in "), "{text}");
    house.until_it_has(&name, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_session_confirms_what_ended_well() {
    let mut house = House::new();
    let name = house.machine(10, "");
    let act = house.moves(10, 11, WINDOW);
    die_after(&house, &name, &act, 11).await;
    // Meanwhile nobody else begins such a thing.
    let world = house.session(&name, 11);
    let text = failed(make(&world, &house.moves(11, 12, WINDOW), 1).await);
    assert!(text.contains("begun before"), "{text}");
    let other = CallContext { mark: None, ..marked(1) };
    let answer = world.backend.act(&node(), &house.moves(11, 12, WINDOW), &Prior::None, &other).await;
    assert!(
        matches!(&answer, Err(CallError::Failed(text)) if text.contains("waits for its confirmation")),
        "{answer:?}"
    );
    assert_eq!(done(settle(&house.session(&name, 10), &act, 2).await), "moving\n");
    assert_eq!(house.addresses(&name), [format!("{}/24", house.at(11))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_begun_is_never_begun_by_an_earlier_session() {
    let mut house = House::new();
    let name = house.machine(10, "");
    let world = house.session(&name, 10);
    let act = house.moves(10, 11, WINDOW);
    assert_eq!(settle(&world, &act, 2).await, Finding::NotDone);
    let text = failed(make(&world, &act, 1).await);
    assert!(text.contains("begun before"), "{text}");
    assert_eq!(house.addresses(&name), [format!("{}/24", house.at(10))]);
    make(&world, &act, 2).await.unwrap();
    house.until_it_has(&name, 11);
}

#[tokio::test]
async fn what_cannot_be_watched_over_is_refused() {
    let house = World::new(crate::world::Flavour::Dash);
    let refused = async |act: Act, ctx: CallContext| match house.backend.act(&node(), &act, &Prior::None, &ctx).await {
        Err(CallError::Invalid(text)) => text,
        other => panic!("{other:?}"),
    };
    let yes = || privileged(argv(&["true"]));
    let text = refused(confirmed(argv(&["true"]), yes(), WINDOW, &[]), marked(1)).await;
    assert!(text.contains("privileged"), "{text}");
    let text = refused(confirmed(yes(), yes(), Duration::from_secs(1), &[]), marked(1)).await;
    assert!(text.contains("window"), "{text}");
    let hurried = CallContext { deadline: Instant::now() + WINDOW, ..marked(1) };
    let text = refused(confirmed(yes(), yes(), WINDOW, &[]), hurried).await;
    assert!(text.contains("timeout"), "{text}");
}
