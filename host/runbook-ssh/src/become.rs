//! Opens helper shells: as the login user, or as root by sudo.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use runbook_model::call::CallError;

use crate::quote::{nonce, tail};
use crate::shell::Shell;
use crate::transport::{Output, Process, Transport};

/// How commands that need root get it on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Become {
    /// Not at all: they run as the login user.
    #[default]
    None,
    /// By sudo.
    Sudo {
        /// Name of the secret that holds the password; none where sudo asks for none.
        password: Option<String>,
    },
}

/// A shell that does not answer by then never will.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of login noise that are looked through.
const NOISE: usize = 64 << 10;

/// Sets a helper shell up, before its first commands and in the same text: no files are read into it, messages are in English,
/// the tools of administration are found.
///
/// `rb_exec` becomes a program in a session of its own, whatever the command's own PATH says. `rb_pid` finds the number of the
/// process that it is called in: as the name that /proc/self has there, since a shell reads files byte by byte.
pub(crate) const SET_UP: &str = r#"unset ENV BASH_ENV CDPATH RB_P RB_X RB_D RB_S
LC_ALL=C; export LC_ALL
for RB_X in /usr/local/sbin /usr/sbin /sbin /snap/bin; do
case ":$PATH:" in *":$RB_X:"*) ;; *) PATH="$PATH:$RB_X" ;; esac
done; export PATH
cd 2>/dev/null || cd /
RB_SETSID=$(command -v setsid); RB_PERL=
[ -n "$RB_SETSID" ] || RB_PERL=$(command -v perl)
readonly RB_SETSID RB_PERL
rb_exec() {
[ -z "$RB_SETSID" ] || exec "$RB_SETSID" "$@"
[ -z "$RB_PERL" ] || exec "$RB_PERL" -e 'use POSIX (); POSIX::setsid(); exec { $ARGV[0] } @ARGV or print STDERR "$ARGV[0]: $!\n"; exit 127' -- "$@"
exec "$@"
}
rb_pid() {
RB_P=0
if cd -P /proc/self 2>/dev/null; then RB_P=${PWD##*/}; cd "$OLDPWD" 2>/dev/null || cd /; fi
}
"#;

/// What a shell says of itself after its set-up: its process, the boot id in the file `$1`, and whether it can give commands a session.
pub(crate) const WHO: &str = r#"RB_X=
{ read -r RB_X RB_S <"$1"; } 2>/dev/null
printf '%s %s %s\n' "$$" "${RB_X:--}" "$RB_SETSID$RB_PERL""#;

/// What is needed to open a helper shell on one connection.
#[derive(Clone)]
pub(crate) struct Opener {
    /// Where.
    pub(crate) transport: Arc<dyn Transport>,
    /// Its name, for messages.
    pub(crate) machine: String,
    /// As root, by sudo; else as the login user.
    pub(crate) root: bool,
    /// For sudo.
    pub(crate) password: Option<String>,
    /// Whether perl may serve, where it is there.
    pub(crate) perl: bool,
    /// Where the machine shows its boot id.
    pub(crate) boot_id_file: String,
    /// The boot id, once a shell has said it; empty where there is none.
    pub(crate) boot_id: Arc<OnceLock<String>>,
}

/// What a helper is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A shell alone.
    Sh,
    /// The worker of `worker.pl`, with a shell behind it.
    Perl,
}

/// What the worker reads first: itself, without what is for people.
static WORKER: LazyLock<String> = LazyLock::new(|| {
    let lines = include_str!("worker.pl").lines().map(str::trim_start);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
});

/// The greetings by which a helper says what it is.
struct Hello {
    perl: String,
    sh: String,
}

impl Hello {
    fn new() -> Self {
        Self { perl: nonce(), sh: nonce() }
    }

    /// Becomes a helper. In every shell's words, and without a quote.
    fn command(&self, perl: bool) -> String {
        let Self { perl: greeting, sh } = self;
        let worker = format!("if command -v perl >/dev/null 2>&1; then echo {greeting}; exec perl -; fi; ");
        format!("{}echo {sh}; exec env -u ENV sh", if perl { &worker } else { "" })
    }

    fn heard(&self, heard: &Heard) -> Option<Kind> {
        [(Kind::Perl, &self.perl), (Kind::Sh, &self.sh)]
            .into_iter()
            .find_map(|(kind, greeting)| heard.has(0, greeting).then_some(kind))
    }
}

impl Opener {
    /// Opens a shell. It is set up together with its first commands.
    pub(crate) async fn open(&self, deadline: Instant) -> Result<Shell, CallError> {
        let deadline = deadline.min(Instant::now() + OPEN_LIMIT);
        let opening = async {
            let (process, kind) = if self.root { self.start_root().await? } else { self.start_login().await? };
            if kind == Kind::Perl {
                process.stdin.send(WORKER.clone().into_bytes()).await.map_err(|_| self.lost())?;
            }
            Ok(Shell::new(self.clone(), process, kind))
        };
        tokio::time::timeout_at(deadline.into(), opening).await.unwrap_or_else(|_| {
            Err(CallError::TimedOut(format!(
                "{} gave no {}shell in time",
                self.machine,
                if self.root { "root " } else { "" }
            )))
        })
    }

    async fn start_login(&self) -> Result<(Process, Kind), CallError> {
        let hello = Hello::new();
        let mut process = self.transport.start(&format!("exec sh -c \"{}\"", hello.command(self.perl))).await?;
        let mut heard = Heard::default();
        loop {
            if let Some(kind) = hello.heard(&heard) {
                return Ok((process, kind));
            }
            if let Some(ended) = heard.listen(&mut process).await {
                return Err(CallError::Unreachable(format!("no shell on {}: {ended}", self.machine)));
            }
        }
    }

    /// The password is asked for with a text that only sudo can have said, and is consumed before the root shell starts.
    async fn start_root(&self) -> Result<(Process, Kind), CallError> {
        let (hello, prompt) = (Hello::new(), nonce());
        let shell = hello.command(self.perl);
        let line = format!(
            "exec sh -c 'if [ \"$(id -u)\" = 0 ]; then {shell}; fi; exec sudo -H -S -p {prompt} -- sh -c \"{shell}\"'"
        );
        let mut process = self.transport.start(&line).await?;
        let mut heard = Heard::default();
        let mut answered = false;
        loop {
            if let Some(kind) = hello.heard(&heard) {
                return Ok((process, kind));
            }
            if heard.has(1, &prompt) {
                heard.forget_errors();
                process.stdin.send(self.answer(answered)?).await.map_err(|_| self.lost())?;
                answered = true;
            }
            if let Some(ended) = heard.listen(&mut process).await {
                return Err(CallError::Failed(format!(
                    "sudo on {} did not give root: {ended}; the login user needs the right to run `sh` by sudo",
                    self.machine
                )));
            }
        }
    }

    fn answer(&self, answered: bool) -> Result<Vec<u8>, CallError> {
        let machine = &self.machine;
        match &self.password {
            Some(password) if !answered && !password.contains(['\n', '\0']) => Ok(format!("{password}\n").into_bytes()),
            Some(_) => Err(CallError::Failed(format!(
                "sudo on {machine} refused the password; check the secret that hosts.{machine}.become names"
            ))),
            None => Err(CallError::Failed(format!(
                "sudo on {machine} asks for a password; give it in hosts.{machine}: become = {{ method = \"sudo\", password = \
                 \"{{{{ inputs.X }}}}\" }} with a secret input X, or allow the login user NOPASSWD in sudoers"
            ))),
        }
    }

    fn lost(&self) -> CallError {
        CallError::Unreachable(format!("the connection to {} was lost while a shell was opened", self.machine))
    }
}

/// What was heard of a process that is being started.
#[derive(Default)]
struct Heard {
    streams: [Vec<u8>; 2],
}

impl Heard {
    fn has(&self, which: usize, text: &str) -> bool {
        memchr::memmem::find(&self.streams[which], text.as_bytes()).is_some()
    }

    fn forget_errors(&mut self) {
        self.streams[1].clear();
    }

    /// Waits for more. Where the process ended: how, in words.
    async fn listen(&mut self, process: &mut Process) -> Option<String> {
        let (which, bytes) = match process.output.recv().await {
            Some(Output::Stdout(bytes)) => (0, bytes),
            Some(Output::Stderr(bytes)) => (1, bytes),
            Some(Output::Exit(exit)) => {
                let said = tail(&self.streams[1]);
                let said = if said.is_empty() { tail(&self.streams[0]) } else { said };
                return Some(if said.is_empty() { exit.to_string() } else { said });
            }
            None => return Some("the connection was lost".to_owned()),
        };
        let stream = &mut self.streams[which];
        stream.extend_from_slice(&bytes);
        let surplus = stream.len().saturating_sub(NOISE);
        stream.drain(..surplus);
        None
    }
}
