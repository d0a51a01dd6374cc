//! Machines for tests: this one, seen through the shell and the tools of several systems.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command as Process;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_engine::backend::{Backend, CallContext, Mark, NoRuns, Progress, Secrets};
use runbook_model::call::{
    Act, Answer, CallError, Command, FilePrior, FilesAct, FilesLook, Look, Outcome, Output, Prior, Response, SshAct,
    SshLook, Target, Undo, Verdict,
};
use runbook_ssh::backend::SshBackend;
use runbook_ssh::r#become::Become;
use runbook_ssh::local::LocalTransport;
use runbook_ssh::machine::Connector;
use runbook_ssh::transport::{Process as Started, Transport};

/// Which system the machine looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Debian: dash, coreutils and perl.
    Perl,
    /// The same without perl.
    Dash,
    /// Alpine and appliances: everything is busybox.
    Busybox,
    /// Fedora and others: bash as sh.
    Bash,
}

pub(crate) const FLAVOURS: [Flavour; 4] = [Flavour::Perl, Flavour::Dash, Flavour::Busybox, Flavour::Bash];

/// This machine with another PATH, and with text before each command line.
struct Dressed {
    local: LocalTransport,
    before: String,
    contained: bool,
}

#[async_trait]
impl Transport for Dressed {
    async fn start(&self, command_line: &str) -> Result<Started, CallError> {
        let line = format!("{}{command_line}", self.before);
        if !self.contained {
            return self.local.start(&line).await;
        }
        let line = line.replace('\'', "'\\''");
        self.local.start(&format!("exec unshare -p -f --mount-proc /bin/sh -c '{line}'")).await
    }

    fn is_closed(&self) -> bool {
        self.local.is_closed()
    }

    async fn close(&self) {
        self.local.close().await;
    }
}

/// Gives the same kind of connection for every name.
pub(crate) struct Always<F>(pub(crate) F, pub(crate) Become);

#[async_trait]
impl<F: Fn() -> Arc<dyn Transport> + Send + Sync> Connector for Always<F> {
    async fn connect(&self, _: &str, _: Instant) -> Result<Arc<dyn Transport>, CallError> {
        Ok(self.0())
    }

    fn become_of(&self, _: &str) -> Become {
        self.1.clone()
    }
}

/// Remembers what it was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) lines: Mutex<Vec<(Instant, String)>>,
    /// Target, run and session.
    pub(crate) taken_over: Mutex<Vec<(String, String, u32)>>,
}

impl Progress for Told {
    fn progress(&self, _: &str, _: u64, _: Option<u64>, _: &str) {}

    fn line(&self, line: &str) {
        self.lines.lock().unwrap().push((Instant::now(), line.to_owned()));
    }

    fn took_over(&self, target: &str, run: &str, session: u32) {
        self.taken_over.lock().unwrap().push((target.to_owned(), run.to_owned(), session));
    }
}

/// A machine and a scratch directory on it.
pub(crate) struct World {
    pub(crate) backend: Arc<SshBackend>,
    pub(crate) ctx: CallContext,
    pub(crate) told: Arc<Told>,
    dir: Arc<tempfile::TempDir>,
    make: Arc<dyn Fn() -> SshBackend + Send + Sync>,
}

pub(crate) fn node() -> Target {
    Target::Machine("node".to_owned())
}

pub(crate) fn argv<S: AsRef<str>>(words: &[S]) -> Command {
    Command { argv: words.iter().map(|word| word.as_ref().to_owned()).collect(), ..Command::default() }
}

/// A script that is run by sh, as one argument.
pub(crate) fn sh(script: &str) -> Command {
    argv(&["sh", "-c", script])
}

/// A mark of the run `run`, made by `ann`.
pub(crate) fn mark(run: &str, session: u32, record: u64) -> Option<Mark> {
    Some(Mark { run: run.to_owned(), session, record, owner: "ann@laptop, pid 4711".to_owned() })
}

pub(crate) fn context(told: &Arc<Told>) -> CallContext {
    CallContext {
        deadline: Instant::now() + Duration::from_secs(120),
        cancel: tokio_util::sync::CancellationToken::new(),
        read_only: false,
        secrets: Arc::new(Secrets(BTreeMap::from([("token".to_owned(), "s3cr3t-VALUE-77".to_owned())]))),
        passwords: Arc::default(),
        progress: told.clone(),
        artifacts: PathBuf::new(),
        jail: None,
        field_manager: String::new(),
        mark: None,
        origin: None,
        runs: Arc::new(NoRuns),
    }
}

impl World {
    pub(crate) fn new(flavour: Flavour) -> Self {
        Self::flavoured(flavour, false)
    }

    /// Each process that the transport starts has a PID namespace of its own.
    pub(crate) fn contained(flavour: Flavour) -> Self {
        Self::flavoured(flavour, true)
    }

    fn flavoured(flavour: Flavour, contained: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        match flavour {
            Flavour::Dash | Flavour::Perl => symlink("/usr/bin/dash", bin.join("sh")).unwrap(),
            Flavour::Bash => symlink("/usr/bin/bash", bin.join("sh")).unwrap(),
            Flavour::Busybox => {
                let installed = Process::new("busybox").args(["--install", "-s"]).arg(&bin).status();
                assert!(installed.expect("needs Debian's busybox-static").success());
            }
        }
        let path = format!("{}:/usr/bin:/bin", bin.display());
        Self::with(dir, &path, contained, flavour == Flavour::Perl)
    }

    /// With these programs and no others.
    pub(crate) fn with_tools(tools: &[&str]) -> Self {
        Self::with_only(&[&["setsid"], tools].concat())
    }

    /// The same, without the means to give a command a session of its own.
    pub(crate) fn with_only(tools: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let basic = ["env", "echo", "cat", "id", "dd", "head", "mktemp", "rm", "uname", "sleep"];
        for tool in basic.iter().chain(tools) {
            let (name, program) = tool.split_once('=').unwrap_or((tool, tool));
            let program = ["/usr/bin", "/bin"].iter().map(|dir| PathBuf::from(dir).join(program)).find(|p| p.exists());
            symlink(program.unwrap_or_else(|| panic!("needs {tool}")), bin.join(name)).unwrap();
        }
        symlink("/usr/bin/dash", bin.join("sh")).unwrap();
        let path = bin.display().to_string();
        Self::with(dir, &path, false, true)
    }

    fn with(dir: tempfile::TempDir, path: &str, contained: bool, perl: bool) -> Self {
        // Each test has a state folder of its own.
        let state = dir.path().canonicalize().unwrap().join("state");
        let before = format!("PATH={path} XDG_STATE_HOME={}; export PATH XDG_STATE_HOME; ", state.display());
        let backend = move || {
            let before = before.clone();
            let make = move || -> Arc<dyn Transport> {
                Arc::new(Dressed { local: LocalTransport::new(None), before: before.clone(), contained })
            };
            let controller = Arc::new(LocalTransport::new(None));
            let backend = SshBackend::new(Arc::new(Always(make, Become::None)), controller);
            if perl { backend } else { backend.without_perl() }
        };
        Self::of(dir, backend)
    }

    pub(crate) fn of(dir: tempfile::TempDir, make: impl Fn() -> SshBackend + Send + Sync + 'static) -> Self {
        let told = Arc::new(Told::default());
        Self { backend: Arc::new(make()), ctx: context(&told), told, dir: Arc::new(dir), make: Arc::new(make) }
    }

    /// The same machine, seen by another backend.
    pub(crate) fn again(&self) -> Self {
        self.again_with(|backend| backend)
    }

    pub(crate) fn again_with(&self, way: impl FnOnce(SshBackend) -> SshBackend) -> Self {
        let told = Arc::new(Told::default());
        let backend = Arc::new(way((self.make)()));
        Self { backend, ctx: context(&told), told, dir: self.dir.clone(), make: self.make.clone() }
    }

    /// A path in the scratch directory.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir.path().canonicalize().unwrap().display())
    }

    pub(crate) async fn observe_all(&self, commands: Vec<Command>) -> Result<Vec<Output>, CallError> {
        let look = Look::Ssh(SshLook::Observe { commands });
        match self.backend.look(&node(), &look, &self.ctx).await? {
            Answer::Outputs(outputs) => Ok(outputs),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn observe(&self, command: Command) -> Result<Output, CallError> {
        self.observe_all(vec![command]).await.map(|mut outputs| outputs.pop().unwrap())
    }

    /// Standard output of a command that ends well.
    pub(crate) async fn text(&self, command: Command) -> String {
        let output = self.observe(command).await.unwrap();
        assert!(output.exit.success(), "{output:?}");
        output.stdout.lossy().into_owned()
    }

    pub(crate) async fn change(&self, pipeline: Vec<Command>) -> Result<Output, CallError> {
        let act = Act::Ssh(SshAct::Run { pipeline, done_when: None, undo: Undo::Harmless });
        let prior = self.backend.prior(&node(), &act, &self.ctx).await?;
        match self.backend.act(&node(), &act, &prior, &self.ctx).await? {
            Answer::Outcome(Outcome::Done(output)) => Ok(output),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn files(&self, look: FilesLook) -> Response {
        self.backend.look(&node(), &Look::Files(look), &self.ctx).await
    }

    pub(crate) async fn prior(&self, act: &FilesAct) -> Result<FilePrior, CallError> {
        match self.backend.prior(&node(), &Act::Files(act.clone()), &self.ctx).await? {
            Prior::File(prior) => Ok(prior),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn apply(&self, act: &FilesAct) -> Result<Verdict, CallError> {
        let prior = self.prior(act).await?;
        self.apply_with(act, prior).await
    }

    pub(crate) async fn apply_with(&self, act: &FilesAct, prior: FilePrior) -> Result<Verdict, CallError> {
        match self.backend.act(&node(), &Act::Files(act.clone()), &Prior::File(prior), &self.ctx).await? {
            Answer::Verdict(verdict) => Ok(verdict),
            other => panic!("{other:?}"),
        }
    }
}

/// Processes of this machine in whose arguments a text stands.
pub(crate) fn running(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        if memchr::memmem::find(&line, text.as_bytes()).is_some() {
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found
}

/// A number of seconds to sleep that no other test sleeps, to find the process by.
pub(crate) fn unique_seconds() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("3{}.{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
