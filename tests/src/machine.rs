//! A machine: processes with a file system of their own, which is this computer's, copied on write.
//!
//! The file system is an overlay over `/`, in a mount namespace: what the machine's processes write anywhere (`/etc`, `/var/snap`)
//! lands in the machine's own layer, [`Machine::layer`], and is gone with it. So any number of machines lives side by side, absolute
//! paths are the real ones, and the layer shows all that was changed. Devices, `/proc`, processes and the network are shared with
//! this computer; the boot id is the machine's own.
//!
//! A machine whose first process is systemd has processes, devices, a hostname and control groups of its own, too, as a container has:
//! `/sys` and all of `/proc/sys` but the network's are read-only, and nothing asks udev.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::tools::{open_temp_dir, put, quoted, text, wait_until};
use crate::tree::Tree;

/// What a machine is made of.
#[derive(Debug, Clone, Default)]
pub struct MachineSpec {
    /// Directories of this computer, and where the machine sees them. Written through.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// The network namespace that it lives in (a name of `ip netns`); none: that of this computer.
    pub netns: Option<String>,
    /// systemd is its first process, and what it is switched on with is a unit of that.
    pub systemd: bool,
}

/// What a machine has of its own whose first process is systemd, mounted into the current directory.
const SYSTEMD_MOUNTS: &str = "\
    mount -t proc proc proc\n\
    for d in sys sysrq-trigger irq bus; do [ ! -e proc/$d ] || mount --bind proc/$d proc/$d; done\n\
    mount --bind proc/sys/net proc/sys/net\n\
    for d in sys sysrq-trigger irq bus; do [ ! -e proc/$d ] || mount -o remount,bind,ro proc/$d; done\n\
    mount -t sysfs -o ro sysfs sys\n\
    mount -t cgroup2 cgroup2 sys/fs/cgroup\n\
    mount -t tmpfs -o mode=755 tmpfs dev\n\
    for n in null zero full random urandom tty; do : > dev/$n; mount --bind /dev/$n dev/$n; done\n\
    mkdir dev/pts dev/shm\n\
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts\n\
    mount -t tmpfs -o mode=1777 tmpfs dev/shm\n\
    ln -s pts/ptmx dev/ptmx\n\
    ln -s /proc/self/fd dev/fd\n\
    ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr\n\
    mount -t tmpfs -o mode=755 tmpfs run";

/// It is told that this is a container, so that it leaves alone what belongs to the kernel.
const SYSTEMD: &str = "exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot . \
                       /lib/systemd/systemd --unit=multi-user.target";

/// A machine; see the module. It is switched off when this is dropped.
#[derive(Debug)]
pub struct Machine {
    spec: MachineSpec,
    dir: PathBuf,
    /// In memory: an overlay's own layers may not lie in the file system that it covers.
    layers: tempfile::TempDir,
    running: Option<Powered>,
}

#[derive(Debug)]
struct Powered {
    main: Child,
    /// The machine's first process, by the number that this computer knows it by.
    init: u32,
    /// Which namespace tells who belongs to the machine: `mnt`, or where services have their own of those `pid`.
    kind: &'static str,
    /// Identity of that namespace: whoever lives in it belongs to the machine.
    namespace: PathBuf,
    /// Keeps the namespace, and with it its number: else another machine could get it while this one's processes are being
    /// killed, and be killed in its place.
    _pin: std::fs::File,
}

impl Machine {
    /// A machine that is off. `dir` is seen by the machine under the same path, and written through.
    ///
    /// # Panics
    ///
    /// When the directories cannot be made.
    pub fn new(dir: &Path, spec: MachineSpec) -> Self {
        let layers = open_temp_dir("runbook-machine-", Path::new("/dev/shm"));
        for part in ["upper", "work", "merged"] {
            std::fs::create_dir(layers.path().join(part)).expect("a fresh directory can be written to");
        }
        let machine = Self { spec, dir: dir.to_owned(), layers, running: None };
        std::fs::create_dir_all(dir).unwrap_or_else(|e| panic!("creating {}: {e}", dir.display()));
        // sshd wants it, and nothing else makes it on a computer without systemd.
        std::fs::create_dir_all(machine.layer().join("run/sshd")).expect("our own layer can be written to");
        // Each may be a file system of its own on this computer, and then the overlay sees what lies below it.
        std::fs::create_dir_all(machine.layer().join("tmp")).expect("our own layer can be written to");
        crate::tools::must(&["chmod", "1777", text(&machine.layer().join("tmp"))]);
        machine.new_boot_id();
        machine
    }

    /// Where the machine's own changes are: only what it wrote, by absolute path.
    pub fn layer(&self) -> PathBuf {
        self.layers.path().join("upper")
    }

    /// What the machine has changed so far; marks and leases of runs that left nothing of them are no change.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    pub fn changes(&self) -> Tree {
        Tree::of(self.layer()).without_traces_of("var/lib/runbook")
    }

    /// A path of the machine as this process can open it, for reading and writing. The machine must be on.
    ///
    /// # Panics
    ///
    /// When the machine is off.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        PathBuf::from(format!("/proc/{}/root", self.pid())).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Writes a file of the machine, and the directories above it; on or off.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn put(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) {
        let path = path.as_ref();
        let real = match self.running {
            Some(_) => self.path(path),
            None => self.layer().join(path.strip_prefix("/").unwrap_or(path)),
        };
        put(&real, content, mode);
    }

    /// Switches the machine on: `argv` becomes its main process, or with systemd the service `lab`, with its output going to
    /// `DIR/console`. Returns once the machine's file system stands.
    ///
    /// # Panics
    ///
    /// When it does not start within 30 seconds, or is on already.
    pub fn power_on(&mut self, argv: &[&str]) {
        assert!(self.running.is_none(), "the machine is on already");
        let merged = self.layers.path().join("merged");
        let at = |path: &Path| quoted(&format!("{}{}", text(&merged), text(path)));
        let own = (self.dir.clone(), self.dir.clone());
        let binds = std::iter::once(&own).chain(&self.spec.binds);
        let systemd = self.spec.systemd;
        if systemd {
            self.install(argv);
        }
        let script = format!(
            "mount -t overlay overlay -o lowerdir=/,upperdir={},workdir={} {m}\n\
             cd {m}\n\
             {devices}\n\
             mount --bind {boot} proc/sys/kernel/random/boot_id\n\
             {binds}\n\
             echo up > {stands}\n\
             {exec}",
            quoted(text(&self.layer())),
            quoted(text(&self.layers.path().join("work"))),
            devices = if systemd { SYSTEMD_MOUNTS } else { "for d in proc sys dev; do mount --rbind /$d $d; done" },
            exec = if systemd { SYSTEMD } else { "exec chroot . \"$@\"" },
            boot = quoted(text(&self.dir.join("boot_id"))),
            m = quoted(text(&merged)),
            binds = binds
                .map(|(from, to)| format!(
                    "mkdir -p {to}\nmount --bind {from} {to}\n",
                    from = quoted(text(from)),
                    to = at(to)
                ))
                .collect::<String>(),
            stands = quoted(text(&self.dir.join("stands"))),
        );

        let console =
            std::fs::File::create(self.dir.join("console")).expect("the machine's directory can be written to");
        let mut command = match &self.spec.netns {
            Some(name) => {
                let mut c = Command::new("nsenter");
                c.arg(format!("--net=/run/netns/{name}")).arg("unshare");
                c
            }
            None => Command::new("unshare"),
        };
        if systemd {
            // Control groups are seen from where a process was when it got a view of its own.
            let cgroup = self.layers.path().join("cgroup");
            let into = format!(
                "mkdir -p {c}\nmount -t cgroup2 cgroup2 {c}\nmkdir -p {c}/{name}\necho $$ > {c}/{name}/cgroup.procs\numount {c}\n\
                 exec unshare --pid --fork --uts --ipc --cgroup --mount --propagation private sh -euc \"$@\"",
                c = quoted(text(&cgroup)),
                name = self.cgroup(),
            );
            command.args(["--mount", "--propagation", "private", "sh", "-euc", &into, "sh", &script, "sh"]);
        } else {
            command.args(["--mount", "--propagation", "private", "sh", "-euc", &script, "sh"]).args(argv);
        }
        command.stdin(Stdio::null()).stderr(console.try_clone().expect("a file can be shared")).stdout(console);
        let stands = self.dir.join("stands");
        drop(std::fs::remove_file(&stands));
        let mut main = command.spawn().expect("unshare is part of util-linux");
        wait_until("the machine's file system stands", Duration::from_secs(30), || {
            let ended = main.try_wait().expect("a child can be waited for");
            assert!(
                ended.is_none() || stands.exists(),
                "the machine did not start: {}\n(the labs need root, and a kernel with overlayfs)",
                self.console()
            );
            stands.exists()
        });
        let mut init = main.id();
        if systemd {
            let children = format!("/proc/{init}/task/{init}/children");
            let child = std::fs::read_to_string(&children).expect("the main process is alive");
            init = child.trim().parse().unwrap_or_else(|_| panic!("no first process: {}", self.console()));
        }
        let kind = if systemd { "pid" } else { "mnt" };
        let place = format!("/proc/{init}/ns/{kind}");
        let pin = std::fs::File::open(&place).expect("the main process is alive, or a zombie of ours");
        let namespace = std::fs::read_link(&place).expect("the main process is alive, or a zombie of ours");
        self.running = Some(Powered { main, init, kind, namespace, _pin: pin });
    }

    /// Of the machine, in the unified hierarchy.
    fn cgroup(&self) -> String {
        self.layers.path().file_name().expect("it has a name").to_string_lossy().into_owned()
    }

    /// The unit of a systemd that has nothing but what a server with SSH needs, and this.
    fn install(&self, argv: &[&str]) {
        let start = argv.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" ");
        let service = format!(
            "[Unit]\nAfter=dbus.service systemd-logind.service\n[Service]\nExecStart={start}\nKillMode=process\nRuntimeDirectory=sshd\n\
             StandardOutput=append:{console}\nStandardError=append:{console}\n",
            console = text(&self.dir.join("console"))
        );
        self.put("/etc/systemd/system/lab.service", service, 0o644);
        // Nothing of what is enabled on this computer.
        let units = self.layer().join("etc/systemd/system");
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&units, "trusted.overlay.opaque", b"y", flags).expect("root may mark its own directory");
        // What is to come with a boot is wanted by it.
        let multi_user = "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\nWants=dbus.service \
                          systemd-logind.service lab.service\n";
        self.put("/etc/systemd/system/multi-user.target", multi_user, 0o644);
        // They would alter the kernel, which is this computer's.
        for unit in ["systemd-sysctl.service", "systemd-modules-load.service", "systemd-udevd.service"] {
            let link = units.join(unit);
            if link.symlink_metadata().is_err() {
                std::os::unix::fs::symlink("/dev/null", link).expect("our own layer can be written to");
            }
        }
        // It would sweep `/tmp`, into which this computer's folders are bound.
        self.put("/etc/tmpfiles.d/tmp.conf", "", 0o644);
        self.put("/etc/fstab", "", 0o644);
        self.put("/etc/machine-id", "", 0o444);
    }

    /// Whether its first process is systemd.
    pub fn has_systemd(&self) -> bool {
        self.spec.systemd
    }

    /// What the main process wrote.
    pub fn console(&self) -> String {
        std::fs::read_to_string(self.dir.join("console")).unwrap_or_default()
    }

    /// Process id of the main process.
    ///
    /// # Panics
    ///
    /// When the machine is off.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the machine is on").init
    }

    /// All processes of the machine.
    pub fn processes(&self) -> Vec<u32> {
        let Some(on) = &self.running else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let ids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        ids.filter(|id| std::fs::read_link(format!("/proc/{id}/ns/{}", on.kind)).is_ok_and(|ns| ns == on.namespace))
            .collect()
    }

    /// Sends a signal to all processes of the machine.
    pub fn signal_all(&self, signal: Signal) {
        for id in self.processes() {
            if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                // A process that has just ended needs no signal any more.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Pulls the plug: all processes are gone at once, what they wrote stays.
    ///
    /// # Panics
    ///
    /// When a process survives for ten seconds.
    pub fn power_off(&mut self) {
        if self.running.is_none() {
            return;
        }
        wait_until("the machine's processes are gone", Duration::from_secs(10), || {
            self.signal_all(Signal::KILL);
            if let Some(on) = &mut self.running {
                drop(on.main.try_wait());
            }
            self.processes().is_empty()
        });
        self.running = None;
        if self.spec.systemd {
            let script =
                "mount -t cgroup2 cgroup2 \"$1\"; find \"$1/$2\" -depth -type d -exec rmdir {} \\; ; umount \"$1\"";
            let place = self.layers.path().join("cgroup");
            // What is left is empty.
            drop(
                Command::new("unshare")
                    .args(["--mount", "sh", "-c", script, "sh", text(&place), &self.cgroup()])
                    .output(),
            );
        }
    }

    /// Gives the machine another boot id, as a reboot does. While it is on, its processes see the old one.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn new_boot_id(&self) {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux has random ids");
        // A new file: the old one may be mounted.
        drop(std::fs::remove_file(self.dir.join("boot_id")));
        put(&self.dir.join("boot_id"), id, 0o444);
    }

    /// Runs a command on the machine, as root, without SSH.
    ///
    /// # Panics
    ///
    /// When it cannot be started, or the machine is off.
    pub fn run(&self, argv: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        // `--wd` alone: the main process' own directory, which is `/` as the machine sees it.
        command.args(["-t", &self.pid().to_string(), "--mount", "--net", "--root", "--wd"]);
        if self.spec.systemd {
            command.args(["--pid", "--uts", "--ipc", "--cgroup"]);
        }
        command.arg("--").args(argv);
        command.env_clear().envs([
            ("LC_ALL", "C"),
            ("HOME", "/root"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ]);
        command.stdin(Stdio::null()).output().expect("nsenter is part of util-linux")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Never a second panic while a test is failing: what is left then is a mount namespace that ends with its processes.
        if !std::thread::panicking() {
            self.power_off();
            return;
        }
        for _ in 0..50 {
            self.signal_all(Signal::KILL);
            if self.processes().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(on) = &mut self.running {
            drop(on.main.try_wait());
        }
    }
}
