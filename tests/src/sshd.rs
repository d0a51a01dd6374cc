//! OpenSSH servers on loopback, each on a [`Machine`] of its own.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;

use crate::lan::{Lan, Renderer};
use crate::machine::{Machine, MachineSpec};
use crate::tools::{free_port, must, must_feed, open_temp_dir, put, read, serial, text, wait_until};
use crate::tree::Tree;
use crate::wire::Wire;

/// A user of every machine that may use sudo after its [`PASSWORD`]. Not root, home `/home/rbtest`.
pub const LOGIN_PASSWORD: &str = "rbtest";
/// A user of every machine that may use sudo without a password.
pub const LOGIN_FREE: &str = "rbfree";
/// A user of every machine that may not use sudo.
pub const LOGIN_PLAIN: &str = "rbplain";
/// The password of all three, and the passphrase of [`SshLab::locked_identity`].
pub const PASSWORD: &str = "it's a \"$5\" horse; staple";

/// How the line of a login begins in the log.
const LOGIN: &str = "Accepted publickey for ";

/// A group of SSH servers that one client key may log in to, as root and as the three users.
///
/// Each host is a [`Machine`]: what is changed on it is in its own layer. On every host the environment of a session has `HOSTROOT`,
/// a directory of the host's own on disk with the same path outside, and root's `HOME` is `$HOSTROOT/home`.
#[derive(Debug)]
pub struct SshLab {
    hosts: Vec<SshHost>,
    // After the hosts: they use them.
    net: Option<JumpNet>,
    lan: Option<Lan>,
    dir: tempfile::TempDir,
}

/// One of the servers.
#[derive(Debug)]
pub struct SshHost {
    name: String,
    address: Ipv4Addr,
    port: u16,
    /// On a LAN addresses come and go: it listens on all of them, and its network comes up before.
    on_lan: bool,
    dir: PathBuf,
    machine: Machine,
}

impl SshLab {
    /// Starts `n` servers, `h1` to `hN`.
    ///
    /// # Panics
    ///
    /// When one does not start.
    pub fn start(n: usize) -> Self {
        Self::start_with(n, MachineSpec::default())
    }

    /// Starts `n` servers on machines that are made of this.
    ///
    /// # Panics
    ///
    /// When one does not start.
    pub fn start_with(n: usize, spec: MachineSpec) -> Self {
        let mut lab = Self::empty();
        let [_, _, low, high] = std::process::id().to_be_bytes();
        // Nobody else binds addresses there, and two test processes that run at one time differ in their process id.
        let block = (64 + (low & 0x3f), high);
        let port = free_port(Ipv4Addr::new(127, block.0, block.1, 1));
        for i in 1..=u8::try_from(n).expect("a lab has at most 250 hosts") {
            lab.add(&format!("h{i}"), Ipv4Addr::new(127, block.0, block.1, i), port, spec.clone());
        }
        lab.write_client_files();
        lab
    }

    /// Starts a jump host, `jump`, and `n` servers `h1` to `hN` that can be reached through it alone: they listen on the loopback
    /// of a network namespace, and only the jump host has a foot in it.
    ///
    /// # Panics
    ///
    /// When one does not start.
    pub fn start_behind_jump(n: usize) -> Self {
        let mut lab = Self::empty();
        let net = JumpNet::create();
        let spec = MachineSpec { netns: Some(net.name.clone()), ..MachineSpec::default() };
        lab.add("jump", net.inside, 2222, spec.clone());
        for i in 1..=u8::try_from(n).expect("a lab has at most 250 hosts") {
            lab.add(&format!("h{i}"), Ipv4Addr::new(127, 64, 0, i), 2222, spec.clone());
        }
        lab.net = Some(net);
        lab.write_client_files();
        lab
    }

    /// Starts `n` servers, `h1` to `hN`, on a LAN of their own: `h1` has the address that ends in 1. They listen on port 22 of whatever
    /// addresses they have.
    ///
    /// # Panics
    ///
    /// When one does not start.
    pub fn start_on_lan(n: usize, renderer: Renderer) -> Self {
        Self::on_lan(n, renderer, false)
    }

    /// The same with machines whose first process is systemd, and which end everything that a session leaves behind when it ends
    /// (`KillUserProcesses`), whoever's it is.
    ///
    /// # Panics
    ///
    /// When one does not start.
    pub fn start_on_lan_with_systemd(n: usize, renderer: Renderer) -> Self {
        Self::on_lan(n, renderer, true)
    }

    fn on_lan(n: usize, renderer: Renderer, systemd: bool) -> Self {
        let mut lab = Self::empty();
        let mut lan = Lan::create();
        for i in 1..=u8::try_from(n).expect("a lab has at most 250 hosts") {
            let spec = MachineSpec { netns: Some(lan.plug()), systemd, ..MachineSpec::default() };
            let mut host = lab.prepare(&format!("h{i}"), lan.at(i), 22, spec);
            lan.furnish(&host.machine, renderer, lan.at(i), systemd);
            host.on_lan = true;
            if systemd {
                let strict = "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=\n";
                host.machine.put("/etc/systemd/logind.conf.d/lab.conf", strict, 0o644);
                let network = match renderer {
                    Renderer::Netplan | Renderer::Dhcp => "systemd-networkd.service",
                    Renderer::NetworkManager => "NetworkManager.service",
                };
                let wants = format!("[Unit]\nWants={network}\n");
                host.machine.put("/etc/systemd/system/lab.service.d/network.conf", wants, 0o644);
                // Sessions are logind's to know.
                host.configure("UsePAM yes");
            } else {
                host.configure("");
            }
            host.start();
            let limit = Duration::from_secs(if systemd { 120 } else { 30 });
            wait_until("the host has its address", limit, || host.answers());
            lab.hosts.push(host);
        }
        lab.lan = Some(lan);
        lab.write_client_files();
        lab
    }

    fn empty() -> Self {
        let dir = open_temp_dir("runbook-ssh-", &std::env::temp_dir());
        let key = |name: &str, passphrase: &str| {
            must(&[
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                passphrase,
                "-C",
                name,
                "-f",
                text(&dir.path().join(name)),
            ]);
            read(&dir.path().join(format!("{name}.pub")))
        };
        let authorized = key("id_ed25519", "") + &key("id_locked", PASSWORD);
        put(&dir.path().join("authorized_keys"), authorized, 0o644);
        Self { hosts: Vec::new(), net: None, lan: None, dir }
    }

    fn add(&mut self, name: &str, address: Ipv4Addr, port: u16, spec: MachineSpec) {
        let mut host = self.prepare(name, address, port, spec);
        host.configure("");
        host.start();
        self.hosts.push(host);
    }

    fn prepare(&self, name: &str, address: Ipv4Addr, port: u16, spec: MachineSpec) -> SshHost {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(dir.join("root/home")).expect("a fresh directory can be written to");
        std::fs::copy(self.dir.path().join("authorized_keys"), dir.join("authorized_keys"))
            .expect("a fresh directory can be written to");
        let machine = Machine::new(&dir, spec);
        add_users(&machine);
        let host = SshHost { name: name.to_owned(), address, port, on_lan: false, dir, machine };
        host.new_host_key();
        host
    }

    fn write_client_files(&self) {
        put(&self.known_hosts(), self.hosts.iter().map(SshHost::known_hosts_line).collect::<String>(), 0o644);
        let host = |h: &SshHost| {
            let jump = if self.net.is_some() && h.name != "jump" { "  ProxyJump jump\n" } else { "" };
            format!("Host {}\n  HostName {}\n  Port {}\n{jump}", h.name, h.address, h.port)
        };
        let config = format!(
            "{}Host *\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  \
             StrictHostKeyChecking yes\n  BatchMode yes\n",
            self.hosts.iter().map(host).collect::<String>(),
            self.identity().display(),
            self.known_hosts().display()
        );
        put(&self.ssh_config(), config, 0o644);
    }

    /// The LAN that the servers are on.
    ///
    /// # Panics
    ///
    /// When they are on none.
    pub fn lan(&self) -> &Lan {
        self.lan.as_ref().expect("the lab was started on a LAN")
    }

    /// The servers, the jump host first where there is one.
    pub fn hosts(&self) -> &[SshHost] {
        &self.hosts
    }

    /// The server with this name.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn host(&self, name: &str) -> &SshHost {
        self.hosts.iter().find(|h| h.name == name).unwrap_or_else(|| panic!("no host {name} in this lab"))
    }

    /// The server with this name, to stop it or to give it another key.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn host_mut(&mut self, name: &str) -> &mut SshHost {
        self.hosts.iter_mut().find(|h| h.name == name).unwrap_or_else(|| panic!("no host {name} in this lab"))
    }

    /// The client key, without a passphrase.
    pub fn identity(&self) -> PathBuf {
        self.dir.path().join("id_ed25519")
    }

    /// A second client key, with [`PASSWORD`] as its passphrase.
    pub fn locked_identity(&self) -> PathBuf {
        self.dir.path().join("id_locked")
    }

    /// A `known_hosts` file with the key that each host had at first, as `[ADDRESS]:PORT TYPE KEY`.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.path().join("known_hosts")
    }

    /// An `ssh_config` with all hosts by name, jump included.
    pub fn ssh_config(&self) -> PathBuf {
        self.dir.path().join("ssh_config")
    }

    /// The hosts as `[hosts.NAME]` tables of a runbook, for this user; `jump` is named where there is one. Keys to add to every
    /// table, such as `become = "sudo"`, go into `more`.
    pub fn inventory(&self, user: &str, more: &str) -> String {
        let table = |h: &SshHost| {
            let jump = if self.net.is_some() && h.name != "jump" { "jump = \"jump\"\n" } else { "" };
            format!(
                "[hosts.{}]\naddress = \"{}\"\nport = {}\nuser = \"{user}\"\nidentity_file = \"{}\"\nknown_hosts = \"{}\"\n{jump}{more}\n",
                h.name,
                h.address,
                h.port,
                self.identity().display(),
                self.known_hosts().display(),
            )
        };
        self.hosts.iter().map(table).collect::<Vec<_>>().join("\n")
    }
}

impl SshHost {
    /// Its name in the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that it listens on.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `HOSTROOT`: a directory of the host's own, with this same path on it.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The machine that it runs on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A file of the host as this process can open it, by its absolute path there. The host must be on.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.machine.path(path)
    }

    /// Runs a command on the host, as root, without SSH.
    pub fn run(&self, argv: &[&str]) -> Output {
        self.machine.run(argv)
    }

    /// What was changed on the host since it was made: its own layer. Its `HOSTROOT` is not in there; read [`root`](Self::root).
    pub fn changes(&self) -> Tree {
        self.machine.changes()
    }

    /// The log of its sshd, at level VERBOSE.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn logged(&self, start: &str) -> usize {
        logged(&self.dir.join("log"), start)
    }

    /// A wire to it that makes it this far away, and counts. Not for hosts behind a jump host, which this process does not reach.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn wire(&self, round_trip: Duration) -> Wire {
        let log = self.dir.join("log");
        Wire::to(SocketAddrV4::new(self.address, self.port), round_trip, move || logged(&log, LOGIN))
    }

    /// TCP connections so far.
    pub fn connections(&self) -> usize {
        self.logged("Connection from ")
    }

    /// Logins with a key so far: what a client that keeps its connection has one of.
    pub fn logins(&self) -> usize {
        self.logged(LOGIN)
    }

    /// Sessions so far: commands, shells and subsystems.
    pub fn sessions(&self) -> usize {
        self.logged("Starting session: ")
    }

    /// Its key, as a line of `known_hosts`.
    pub fn known_hosts_line(&self) -> String {
        let key = read(&self.dir.join("host_key.pub"));
        let mut words = key.split_whitespace();
        format!(
            "[{}]:{} {} {}\n",
            self.address,
            self.port,
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default()
        )
    }

    /// Fingerprint of its key: `SHA256:...`.
    pub fn fingerprint(&self) -> String {
        must(&["ssh-keygen", "-l", "-f", text(&self.dir.join("host_key.pub"))])
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    }

    /// Gives it another host key, as a reinstalled machine has. The lab's `known_hosts` keeps the old one. Counts from the next
    /// start.
    pub fn new_host_key(&self) {
        let file = self.dir.join("host_key");
        drop(std::fs::remove_file(&file));
        must(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", &self.name, "-f", text(&file)]);
    }

    /// Writes its `sshd_config`, with lines of your own before all others (the first one of a keyword counts): `MaxSessions 2`.
    /// Counts from the next start.
    pub fn configure(&self, more: &str) {
        let dir = self.dir.display();
        let root = self.root();
        let root = root.display();
        let config = format!(
            "{more}\nListenAddress {}\nPort {}\nHostKey {dir}/host_key\nPidFile none\nAuthorizedKeysFile {dir}/authorized_keys\nPermitRootLogin prohibit-password\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\nUsePAM no\nUseDNS no\nX11Forwarding no\nPrintMotd no\nPrintLastLog no\n\
             MaxStartups 2000:30:4000\nLogLevel VERBOSE\nSubsystem sftp internal-sftp\nSetEnv HOSTROOT={root} HOME={root}/home\n\
             Match User *,!root\n  SetEnv HOSTROOT={root}\n",
            if self.on_lan { Ipv4Addr::UNSPECIFIED } else { self.address },
            self.port
        );
        put(&self.dir.join("sshd_config"), config, 0o644);
    }

    /// Switches it on and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not within 30 seconds, or is on already.
    pub fn start(&mut self) {
        let (config, log) = (self.dir.join("sshd_config"), self.dir.join("log"));
        let boot: &[&str] =
            if self.on_lan && !self.machine.has_systemd() { &["sh", "-c", Lan::BOOT, "sh"] } else { &[] };
        self.machine.power_on(&[boot, &["/usr/sbin/sshd", "-D", "-f", text(&config), "-E", text(&log)]].concat());
        let before = self.logged("Server listening on ");
        let limit = Duration::from_secs(if self.machine.has_systemd() { 120 } else { 30 });
        wait_until(&format!("sshd of {} listens", self.name), limit, || {
            assert!(
                !self.machine.processes().is_empty(),
                "sshd of {} ended: {}{}",
                self.name,
                self.machine.console(),
                self.log()
            );
            // Not by connecting: that would count as a connection, and cannot be done behind a jump host.
            self.logged("Server listening on ") > before || self.listens()
        });
    }

    /// Whether a socket listens on its address, by the kernel's own table of its network namespace.
    fn listens(&self) -> bool {
        let [a, b, c, d] = self.address.octets();
        let wanted = format!("{d:02X}{c:02X}{b:02X}{a:02X}:{:04X} 00000000:0000 0A", self.port);
        std::fs::read_to_string(format!("/proc/{}/net/tcp", self.machine.pid()))
            .is_ok_and(|table| table.contains(&wanted))
    }

    /// Pulls the plug: the server, all sessions and whatever they started are gone; its disk stays.
    pub fn stop(&mut self) {
        self.machine.power_off();
        // A killed process keeps its socket until the kernel is done with it.
        wait_until("the host is off", Duration::from_secs(60), || !self.answers());
    }

    /// Off and on again, with another boot id.
    pub fn reboot(&mut self) {
        self.stop();
        self.machine.new_boot_id();
        self.start();
    }

    /// Stops the clock of all its processes: connections stay open and nothing answers, as with a machine that hangs.
    pub fn freeze(&self) {
        self.machine.signal_all(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.machine.signal_all(Signal::CONT);
    }

    /// Whether this process can connect to it.
    pub fn answers(&self) -> bool {
        TcpStream::connect_timeout(&SocketAddrV4::new(self.address, self.port).into(), Duration::from_secs(2)).is_ok()
    }
}

/// How many lines of an sshd's log begin so.
fn logged(log: &Path, start: &str) -> usize {
    std::fs::read_to_string(log).unwrap_or_default().lines().filter(|line| line.starts_with(start)).count()
}

/// The three users exist on the machine alone: its own `/etc` has them, this computer's has not.
fn add_users(machine: &Machine) {
    let hash = must_feed(&["openssl", "passwd", "-6", "-stdin"], format!("{PASSWORD}\n").as_bytes());
    let users: Vec<(u32, &str)> = (60_001..).zip([LOGIN_PASSWORD, LOGIN_FREE, LOGIN_PLAIN]).collect();
    let add = |file: &str, mode, line: &dyn Fn(u32, &str) -> String| {
        let lines = users.iter().map(|(id, name)| line(*id, name)).collect::<String>();
        machine.put(file, read(Path::new(file)) + &lines, mode);
    };
    add("/etc/passwd", 0o644, &|id, name| format!("{name}:x:{id}:{id}::/home/{name}:/bin/bash\n"));
    add("/etc/shadow", 0o600, &|_, name| format!("{name}:{}:19000:0:99999:7:::\n", hash.trim()));
    add("/etc/group", 0o644, &|id, name| format!("{name}:x:{id}:\n"));
    for (id, name) in &users {
        machine.put(format!("/home/{name}/.hushlogin"), "", 0o644);
        must(&["chown", "-R", &format!("{id}:{id}"), text(&machine.layer().join("home").join(name))]);
    }
    // A name that cannot be resolved makes sudo wait for a name server.
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    machine.put("/etc/hosts", format!("{hosts}\n127.0.0.1 localhost {}\n", must(&["uname", "-n"]).trim()), 0o644);
    machine.put(
        "/etc/sudoers.d/runbook-lab",
        format!("Defaults:{LOGIN_PASSWORD},{LOGIN_FREE} env_keep += \"HOSTROOT\"\n{LOGIN_PASSWORD} ALL=(ALL:ALL) ALL\n{LOGIN_FREE} ALL=(ALL:ALL) NOPASSWD: ALL\n"),
        0o440,
    );
}

/// A network namespace with a cable to this computer.
#[derive(Debug)]
struct JumpNet {
    name: String,
    inside: Ipv4Addr,
}

impl JumpNet {
    fn create() -> Self {
        let id = format!("{}x{}", std::process::id(), serial());
        let name = format!("rbjump-{id}");
        must(&["ip", "netns", "add", &name]);
        // A /30 out of the second half of the benchmarking range, which is nobody's LAN.
        let n = (std::process::id().wrapping_mul(17).wrapping_add(serial())) & 0x3fff;
        let [_, _, c, d] = (n << 2).to_be_bytes();
        let (outside, inside) = (Ipv4Addr::new(198, 19, c, d | 1), Ipv4Addr::new(198, 19, c, d | 2));
        let (here, there) = (format!("rbh{id}"), format!("rbn{id}"));
        must(&["ip", "link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &name]);
        must(&["ip", "addr", "add", &format!("{outside}/30"), "dev", &here]);
        must(&["ip", "link", "set", &here, "up"]);
        must(&["ip", "-n", &name, "addr", "add", &format!("{inside}/30"), "dev", &there]);
        must(&["ip", "-n", &name, "link", "set", &there, "up"]);
        must(&["ip", "-n", &name, "link", "set", "lo", "up"]);
        Self { name, inside }
    }
}

impl Drop for JumpNet {
    fn drop(&mut self) {
        // The cable goes with it.
        drop(std::process::Command::new("ip").args(["netns", "del", &self.name]).output());
    }
}
