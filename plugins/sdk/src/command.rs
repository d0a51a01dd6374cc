//! Commands on a machine, and what they give.

use std::borrow::Cow;
use std::fmt;

use serde::de::DeserializeOwned;

use crate::bindings::runbook::ssh::machines as raw;
use crate::change::Change;
use crate::{Error, Machine, Period, Result, Source, Text};

/// A command on a machine: program and arguments as they arrive there. No shell reads them.
///
/// It is made by [`Machine::cmd`], and either looks ([`Cmd::observe`]) or changes something ([`Cmd::change`]).
///
/// ```no_run
/// # use runbook_sdk::prelude::*;
/// # fn f(machine: &Machine) -> Result<()> {
/// let channel = machine
///     .cmd(["snap", "info", "microk8s"])
///     .reads(["snap:microk8s"])
///     .timeout(Period::seconds(30))
///     .observe()?
///     .ok()?
///     .text();
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a command does nothing until it is observed, or used for a change"]
pub struct Cmd<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) argv: Vec<String>,
    cwd: Option<String>,
    env: Vec<(String, Text)>,
    stdin: Stdin<'a>,
    files: Vec<(String, Text)>,
    reads: Vec<String>,
    timeout: Option<Period>,
    privileged: bool,
    follow: bool,
}

#[derive(Clone)]
enum Stdin<'a> {
    None,
    Text(Text),
    Bytes(Vec<u8>),
    CopyOf(&'a Source),
}

impl<'a> Cmd<'a> {
    pub(crate) fn new(machine: &'a Machine, argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            machine,
            argv: argv.into_iter().map(Into::into).collect(),
            cwd: None,
            env: Vec::new(),
            stdin: Stdin::None,
            files: Vec::new(),
            reads: Vec::new(),
            timeout: None,
            privileged: false,
            follow: false,
        }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// Working directory; left out: the user's home.
    pub fn cwd(mut self, path: impl Into<String>) -> Self {
        self.cwd = Some(path.into());
        self
    }

    /// One more variable in its environment. `LC_ALL=C` is set unless named.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<Text>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// More variables in its environment.
    pub fn envs<N: Into<String>, V: Into<Text>>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self {
        self.env.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// What it reads on its standard input; left out: nothing.
    pub fn stdin(mut self, text: impl Into<Text>) -> Self {
        self.stdin = Stdin::Text(text.into());
        self
    }

    /// Bytes that it reads on its standard input.
    pub fn stdin_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes(bytes.into());
        self
    }

    /// A file, streamed to its standard input from where it lies.
    pub fn stdin_from(mut self, source: &'a Source) -> Self {
        self.stdin = Stdin::CopyOf(source);
        self
    }

    /// A file with mode 0600 that exists only while the command runs. Its path replaces `{NAME}` in arguments and environment:
    /// the way to hand over a secret that a program takes from a file.
    pub fn temporary_file(mut self, name: impl Into<String>, content: impl Into<Text>) -> Self {
        self.files.push((name.into(), content.into()));
        self
    }

    /// What it reads, as facets: `path:/etc/x`, `service:NAME`. Left out: anything on that machine, so that a plan cannot look
    /// once anything there has only been planned.
    pub fn reads(mut self, facets: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.reads.extend(facets.into_iter().map(Into::into));
        self
    }

    /// The longest that it may take; the step's own deadline holds besides.
    pub fn timeout(mut self, timeout: Period) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// With the rights that the inventory's `become` gives.
    pub fn privileged(mut self) -> Self {
        self.privileged = true;
        self
    }

    /// The same where `yes`.
    pub fn privileged_if(mut self, yes: bool) -> Self {
        self.privileged = yes;
        self
    }

    /// Its output is shown, line by line, as what the step is doing.
    pub fn follow(mut self) -> Self {
        self.follow = true;
        self
    }

    /// Runs it: it only looks. Also run in plans.
    ///
    /// An exit code other than 0 is an answer, not an error: see [`Output::ok`].
    ///
    /// # Errors
    ///
    /// What kept it from running, or from ending in time.
    pub fn observe(self) -> Result<Output> {
        let output = self.machine.raw().observe(&self.to_wit())?;
        Ok(Output::of_machine(&self, output))
    }

    /// A change that this command makes; `summary` says it to a person, short and imperative: "restart containerd".
    pub fn change(self, summary: impl Into<String>) -> Change<'a> {
        Change::new(self, summary.into())
    }

    pub(crate) fn to_wit(&self) -> raw::Command<'_> {
        raw::Command {
            argv: self.argv.clone(),
            cwd: self.cwd.clone(),
            env: self.env.iter().map(|(name, value)| (name.clone(), value.to_wit())).collect(),
            stdin: match &self.stdin {
                Stdin::None => raw::Input::None,
                Stdin::Text(text) => raw::Input::Text(text.to_wit()),
                Stdin::Bytes(bytes) => raw::Input::Bytes(bytes.clone()),
                Stdin::CopyOf(source) => raw::Input::CopyOf(source.raw()),
            },
            files: self
                .files
                .iter()
                .map(|(name, content)| raw::Temporary { name: name.clone(), content: content.to_wit() })
                .collect(),
            reads: self.reads.clone(),
            timeout_ms: self.timeout.map(Period::millis),
            privileged: self.privileged,
            follow: self.follow,
        }
    }

    pub(crate) fn said(&self) -> String {
        said(&self.argv, &self.machine.name())
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal ("KILL").
    Signal(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(name) => write!(f, "killed by SIG{name}"),
        }
    }
}

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the exit code has not been looked at: see `ok`"]
pub struct Output {
    said: String,
    /// How it ended.
    pub exit: Exit,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// What a command would give, for tests of what judges it. `said` is what errors call the command.
    pub fn new(said: impl Into<String>, exit: Exit, stdout: impl Into<Vec<u8>>, stderr: impl Into<Vec<u8>>) -> Self {
        Self { said: said.into(), exit, stdout: stdout.into(), stderr: stderr.into() }
    }

    pub(crate) fn of_machine(cmd: &Cmd<'_>, raw: raw::Output) -> Self {
        let exit = match raw.exit {
            raw::Exit::Code(code) => Exit::Code(code),
            raw::Exit::Signal(name) => Exit::Signal(name),
        };
        Self::new(cmd.said(), exit, raw.stdout, raw.stderr)
    }

    /// Whether it ended with exit code 0.
    pub fn success(&self) -> bool {
        self.code() == Some(0)
    }

    /// Its exit code; none where a signal ended it.
    pub fn code(&self) -> Option<i32> {
        match self.exit {
            Exit::Code(code) => Some(code),
            Exit::Signal(_) => None,
        }
    }

    /// Itself, where the exit code is 0.
    ///
    /// # Errors
    ///
    /// Else [`Kind::Failed`](crate::Kind::Failed), with the command, its exit code and the end of what it wrote to standard error.
    pub fn ok(self) -> Result<Self> {
        self.ok_if(&[0])
    }

    /// Itself, where the exit code is among these.
    ///
    /// # Errors
    ///
    /// Like [`Output::ok`].
    pub fn ok_if(self, codes: &[i32]) -> Result<Self> {
        if self.code().is_some_and(|code| codes.contains(&code)) { Ok(self) } else { Err(self.error()) }
    }

    /// The error that it is when it should have succeeded.
    pub fn error(&self) -> Error {
        let said = if self.stderr.iter().all(u8::is_ascii_whitespace) { &self.stdout } else { &self.stderr };
        let tail = tail(&String::from_utf8_lossy(said));
        let colon = if tail.is_empty() { "" } else { ": " };
        Error::failed(format!("{}: {}{colon}{tail}", self.said, self.exit))
    }

    /// Standard output as text, without white space at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Standard error as text, without white space at its end.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end().to_owned()
    }

    /// The lines of standard output.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// Standard output as JSON.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and the command that wrote it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.stdout).map_err(|error| {
            Error::failed(format!("{}: its output is not the JSON that was expected: {error}", self.said))
        })
    }
}

/// A command for people: quoted where it has to be, long arguments cut, and where it runs.
pub(crate) fn said(argv: &[String], place: &str) -> String {
    const LONGEST: usize = 60;
    let mut text = String::from("`");
    for (index, arg) in argv.iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        let line = arg.trim().lines().next().unwrap_or_default();
        let cut = line.char_indices().nth(LONGEST).map_or(line.len(), |(at, _)| at);
        let shown: Cow<'_, str> =
            if arg.len() > cut { format!("{}…", &line[..cut]).into() } else { arg.as_str().into() };
        let is_plain = |c: char| c.is_alphanumeric() || "_-./:=@%+,…{}".contains(c);
        if !shown.is_empty() && shown.chars().all(is_plain) {
            text.push_str(&shown);
        } else {
            text.push('\'');
            text.push_str(&shown.replace('\'', r"'\''"));
            text.push('\'');
        }
    }
    text + "` on " + place
}

/// The last lines, for an error message.
fn tail(text: &str) -> String {
    const LINES: usize = 12;
    const CHARS: usize = 2000;
    let lines: Vec<&str> = text.trim().lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
    let skip = tail.chars().count().saturating_sub(CHARS);
    tail.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output::new("`a b` on n1", Exit::Code(code), stdout, stderr)
    }

    #[test]
    fn a_failure_says_what_where_and_why() {
        let error = output(1, "", "warning: x\nerror: no such thing\n\n").ok().unwrap_err();
        assert_eq!(error.message(), "`a b` on n1: exit code 1: warning: x\nerror: no such thing");
        assert_eq!(output(2, "out", " \n").ok().unwrap_err().message(), "`a b` on n1: exit code 2: out");
        assert_eq!(output(2, "", "").ok().unwrap_err().message(), "`a b` on n1: exit code 2");
        assert!(output(2, "", "").ok_if(&[0, 2]).is_ok());
        let killed = Output { exit: Exit::Signal("KILL".into()), ..output(0, "", "") };
        assert!(killed.ok().unwrap_err().message().contains("killed by SIGKILL"));
    }

    #[test]
    fn only_the_end_of_a_long_output_is_shown() {
        let long: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let tail = tail(&long);
        assert!(tail.starts_with("line 88") && tail.ends_with("line 99"), "{tail}");
    }

    #[test]
    fn commands_are_quoted_for_people() {
        let argv = ["sh", "-c", "echo 'a'\nmore", "", "--x=1"].map(String::from);
        assert_eq!(said(&argv, "n1"), r"`sh -c 'echo '\''a'\''…' '' --x=1` on n1");
    }

    #[test]
    fn standard_output_is_read() {
        assert_eq!(output(0, "a\nb\n", "").lines(), ["a", "b"]);
        assert_eq!(output(0, "[1]", "").json::<Vec<u8>>().unwrap(), [1]);
        let error = output(0, "{", "").json::<Vec<u8>>().unwrap_err();
        assert!(error.message().starts_with("`a b` on n1: its output is not the JSON"), "{error}");
    }
}
