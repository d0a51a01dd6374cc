//! Real sshd servers for tests: Debian's openssh-server on loopback, each with its own folder, keys and configuration.
//!
//! Used by several test programs, each of which uses only a part of it.
#![allow(
    dead_code,
    unfulfilled_lint_expectations,
    reason = "shared by several test programs, which use different parts"
)]
#![expect(unreachable_pub, reason = "a module of several test programs")]
#![expect(clippy::unwrap_used, reason = "a test fixture: what fails here fails the test")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use runbook_ssh::config::Local;
use runbook_ssh::connect::{ConnectOptions, Endpoint};

/// A folder with keys, and the servers that use them. The client's key is `id_ed25519`, without passphrase.
pub struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// A fresh one. Needs root, as sshd does.
    pub fn new() -> Self {
        fs::create_dir_all("/run/sshd").unwrap();
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(lab.path("home/.ssh")).unwrap();
        lab.keygen("id_ed25519", &["-t", "ed25519", "-N", ""]);
        lab
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Makes a key pair called `name` and gives the path of the private one.
    pub fn keygen(&self, name: &str, args: &[&str]) -> PathBuf {
        let path = self.path(name);
        run(Command::new("ssh-keygen").args(["-q", "-C", name, "-f"]).arg(&path).args(args));
        path
    }

    /// The public key of a pair: type and base64.
    pub fn public(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        text.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// The fingerprint as ssh-keygen shows it.
    pub fn fingerprint(&self, name: &str) -> String {
        let out = Command::new("ssh-keygen").arg("-lf").arg(self.path(&format!("{name}.pub"))).output().unwrap();
        String::from_utf8(out.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    /// A server with an ed25519 host key that lets in every key of [`Lab::authorize`] (at first: `id_ed25519`).
    pub fn server(&self) -> Server {
        self.server_with("")
    }

    /// The same with further lines of sshd_config, which win over the usual ones. Another `HostKey` replaces the usual one.
    pub fn server_with(&self, config: &str) -> Server {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        // An address for each: one port for all would make tests on the same address collide.
        let address = format!("127.0.{}.{}", 10 + std::process::id() % 200, NEXT.fetch_add(1, Ordering::Relaxed));
        let port = TcpListener::bind((address.as_str(), 0)).unwrap().local_addr().unwrap().port();
        let name = format!("sshd-{address}");
        let host_key = if config.contains("HostKey ") {
            String::new()
        } else {
            format!("HostKey {}\n", self.keygen(&format!("{name}-key"), &["-t", "ed25519", "-N", ""]).display())
        };
        if !self.path("authorized_keys").exists() {
            self.authorize(&["id_ed25519"]);
        }
        let dir = self.dir.path().display();
        let text = format!(
            "{config}\n{host_key}ListenAddress {address}\nPort {port}\nPidFile none\nAuthorizedKeysFile {dir}/authorized_keys\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\n\
             UsePAM no\nUseDNS no\nPrintMotd no\nMaxStartups 200:30:400\nSetEnv HOME={dir}/home\nLogLevel VERBOSE\n\
             Subsystem sftp internal-sftp\n"
        );
        let config = self.write(&format!("{name}.conf"), &text);
        let mut server = Server {
            address,
            port,
            key: format!("{name}-key"),
            log: self.path(&format!("{name}.log")),
            config,
            child: None,
        };
        server.start();
        server
    }

    /// These keys and no others may log in, at all servers.
    pub fn authorize(&self, names: &[&str]) {
        let keys: Vec<_> = names.iter().map(|n| self.public(n)).collect();
        self.write("authorized_keys", &(keys.join("\n") + "\n"));
    }

    /// Options that see nothing of the machine that the test runs on; known hosts in `known_hosts`, ssh_config in `ssh_config`.
    pub fn options(&self) -> ConnectOptions {
        let local = Local { home: self.path("home"), user: "root".to_owned() };
        let mut options = ConnectOptions::bare(local);
        options.ssh_config = vec![self.path("ssh_config")];
        options.known_hosts = vec![self.path("known_hosts")];
        options.connect_timeout = Duration::from_secs(20);
        options
    }

    /// The server as an inventory would name it, with the client's key; and its host key made known.
    pub fn endpoint(&self, server: &Server) -> Endpoint {
        self.trust(server);
        self.stranger(server)
    }

    /// The server as an inventory would name it, with the client's key.
    pub fn stranger(&self, server: &Server) -> Endpoint {
        Endpoint {
            name: "node1".to_owned(),
            addresses: vec![server.address.clone()],
            port: Some(server.port),
            identity_file: Some(self.path("id_ed25519")),
            ..Endpoint::default()
        }
    }

    /// Adds the server's line to `known_hosts`.
    pub fn trust(&self, server: &Server) {
        self.known(&format!("{} {}", server.entry(), self.public(&server.key)));
    }

    /// Adds a line to `known_hosts`.
    pub fn known(&self, line: &str) {
        let path = self.path("known_hosts");
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, text + line + "\n").unwrap();
    }
}

/// A running sshd, in the foreground under us. Killed with its sessions when dropped.
pub struct Server {
    /// Loopback address of its own.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// Name of its host key in the lab.
    pub key: String,
    /// What it logs.
    pub log: PathBuf,
    config: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// As known_hosts names it.
    pub fn entry(&self) -> String {
        format!("[{}]:{}", self.address, self.port)
    }

    /// The listening process.
    pub fn pid(&self) -> String {
        self.child.as_ref().map(|child| child.id().to_string()).unwrap_or_default()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Starts it (again) and waits until it listens.
    pub fn start(&mut self) {
        let mut command = Command::new("/usr/sbin/sshd");
        command.arg("-D").arg("-f").arg(&self.config).arg("-E").arg(&self.log);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("needs Debian's openssh-server"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect((self.address.as_str(), self.port)).is_err() {
            assert!(Instant::now() < deadline, "sshd does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The listening process and all of its sessions die at once, as a machine that loses power.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        for pid in descendants(child.id()) {
            // Only sshd's own: what a session started outlives its server, as in the world.
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim() == "sshd" {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn descendants(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().filter_map(|c| c.parse().ok()).collect();
    let deeper: Vec<u32> = children.iter().flat_map(|c| descendants(*c)).collect();
    [children, deeper].concat()
}

/// An ssh-agent with some keys of a lab.
pub struct Agent {
    child: Child,
    /// Its socket.
    pub socket: PathBuf,
}

impl Agent {
    /// Starts one that holds these private keys.
    pub fn with(lab: &Lab, keys: &[&Path]) -> Self {
        let socket = lab.path("agent.sock");
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "ssh-agent does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        for key in keys {
            run(Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket));
        }
        Self { child, socket }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that has to succeed.
pub fn run(command: &mut Command) {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}
