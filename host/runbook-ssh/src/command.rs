//! From a command as data to what a helper shell is given: checked, with secrets and temporary files put in.
//!
//! By the shells' convention, exit codes 129 to 159 say that it was killed by signal 1 to 31; a program that exits with such a code
//! by itself cannot be told apart.

use std::sync::Arc;
use std::time::Duration;

use runbook_engine::backend::{CallContext, Progress, Secrets};
use runbook_model::call::{CallError, Command, Content, Exit, Input, Text, TextPart};
use runbook_model::redact;

use crate::marks::{self, Marked};
use crate::quote::describe;

/// Bytes of standard input and of file content that go into the text of a command; more goes on a channel of its own.
pub(crate) const INLINE: usize = 32 << 10;
/// Bytes of each output stream of a command; it is stopped at more.
pub(crate) const OUTPUT_LIMIT: u64 = 64 << 20;

const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// What a shell's `$?` says of how a command ended.
pub(crate) fn exit(status: i32) -> Exit {
    let signal = usize::try_from(status - 129).ok().and_then(|n| SIGNALS.get(n));
    signal.map_or(Exit::Code(status), |name| Exit::Signal((*name).to_owned()))
}

/// The wanted content with its secrets put in. None for content that lies elsewhere.
///
/// Where a guest wrote a token of a redacted read back, the value takes its place.
///
/// # Errors
///
/// `invalid` where a secret has no value.
pub fn materialise(content: &Content, secrets: &Secrets) -> Result<Option<Vec<u8>>, CallError> {
    match content {
        Content::Bytes(bytes) => Ok(Some(materialise_bytes(&bytes.0, secrets))),
        Content::Text(text) => materialise_text(text, secrets).map(Some),
        Content::CopyOf(_) => Ok(None),
    }
}

/// A text with its secrets put in. See [`materialise`].
///
/// # Errors
///
/// `invalid` where a secret has no value.
pub fn materialise_text(text: &Text, secrets: &Secrets) -> Result<Vec<u8>, CallError> {
    let mut out = Vec::new();
    for part in &text.0 {
        match part {
            TextPart::Plain(plain) => out.extend_from_slice(&materialise_bytes(plain.as_bytes(), secrets)),
            TextPart::Secret(name) => out.extend_from_slice(secret(name, secrets)?.as_bytes()),
        }
    }
    Ok(out)
}

/// Bytes with the values of secrets where their tokens stand. See [`materialise`].
pub fn materialise_bytes(bytes: &[u8], secrets: &Secrets) -> Vec<u8> {
    redact::put_back(bytes, |name| secrets.0.get(name).map(String::as_str))
}

fn secret<'a>(name: &str, secrets: &'a Secrets) -> Result<&'a str, CallError> {
    let value = secrets.0.get(name).map(String::as_str);
    value.ok_or_else(|| CallError::Invalid(format!("the secret `{name}` has no value in this run")))
}

/// Something that a helper shell runs.
pub(crate) struct Item {
    /// For messages.
    pub(crate) what: String,
    pub(crate) body: Body,
    pub(crate) timeout: Option<Duration>,
    /// Told its lines.
    pub(crate) follow: Option<Arc<dyn Progress>>,
    /// Bytes of each output stream.
    pub(crate) limit: u64,
    /// What it leaves at the machine, where it changes something.
    pub(crate) marked: Option<Marked>,
}

pub(crate) enum Body {
    /// One command, or several joined by pipes.
    Commands(Vec<Prepared>),
    /// Shell text of our own; the arguments are `$1`, `$2` and so on.
    Script {
        text: &'static str,
        arguments: Vec<Vec<u8>>,
        stdin: Stdin,
        needs: &'static [Library],
        /// The worker's name for the same.
        operation: Option<&'static str>,
    },
}

/// Functions of ours that scripts share. A shell defines them when they are first needed, so that their text travels once.
pub(crate) type Library = &'static str;

pub(crate) enum Stdin {
    Null,
    Inline(Vec<u8>),
    /// The shell's own standard input, after the start mark, to its end.
    Feed,
    /// So many bytes of it. A script that has not read all of them ends with another status than 0.
    Part(u64),
}

/// A command with everything put in.
pub(crate) struct Prepared {
    pub(crate) argv: Vec<Word>,
    pub(crate) cwd: Option<String>,
    pub(crate) env: Vec<(String, Word)>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) stdin: Stdin,
}

/// A word made of literal bytes and paths of temporary files.
pub(crate) type Word = Vec<Piece>;

pub(crate) enum Piece {
    Literal(Vec<u8>),
    File(String),
}

impl Item {
    /// Shell text of our own.
    pub(crate) fn script(what: impl Into<String>, text: &'static str, arguments: Vec<Vec<u8>>) -> Self {
        let body = Body::Script { text, arguments, stdin: Stdin::Null, needs: &[], operation: None };
        Self { what: what.into(), body, timeout: None, follow: None, limit: OUTPUT_LIMIT, marked: None }
    }

    /// The same for a script that uses libraries.
    pub(crate) fn with(mut self, libraries: &'static [Library]) -> Self {
        if let Body::Script { needs, .. } = &mut self.body {
            *needs = libraries;
        }
        self
    }

    /// The same for a script that the worker knows under this name, with the same arguments and answers.
    pub(crate) fn or(mut self, name: &'static str) -> Self {
        if let Body::Script { operation, .. } = &mut self.body {
            *operation = Some(name);
        }
        self
    }

    /// What to tell the worker, where it can do it by itself.
    pub(crate) fn operation(&self, nonce: &str) -> Option<Vec<u8>> {
        let Body::Script { operation: Some(operation), arguments, .. } = &self.body else { return None };
        let mut fields = Vec::new();
        for field in [nonce.as_bytes(), operation.as_bytes()].into_iter().chain(arguments.iter().map(Vec::as_slice)) {
            fields.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            fields.extend_from_slice(field);
        }
        Some(block('F', &fields))
    }

    /// The same for a script that reads so many bytes of the shell's own standard input.
    pub(crate) fn fed(mut self, bytes: u64) -> Self {
        if let Body::Script { stdin, .. } = &mut self.body {
            *stdin = Stdin::Part(bytes);
        }
        self
    }

    /// What its first command reads.
    pub(crate) fn stdin(&self) -> Option<&Stdin> {
        match &self.body {
            Body::Commands(commands) => commands.first().map(|command| &command.stdin),
            Body::Script { stdin, .. } => Some(stdin),
        }
    }

    /// What must be defined in the shell before it runs.
    pub(crate) fn needs(&self) -> &'static [Library] {
        match &self.body {
            Body::Commands(_) if self.marked.is_some() => marks::LIBRARIES,
            Body::Commands(_) => &[],
            Body::Script { needs, .. } => needs,
        }
    }

    /// Commands joined by pipes, or a single one. Where `fed`, the first one's standard input comes on the shell's own.
    pub(crate) fn commands(commands: &[Command], ctx: &CallContext, fed: bool) -> Result<Self, CallError> {
        let secrets: &Secrets = &ctx.secrets;
        let what = commands.iter().map(|c| describe(&c.argv)).collect::<Vec<_>>().join(" | ");
        if commands.is_empty() {
            return Err(CallError::Invalid("a pipeline of no commands".to_owned()));
        }
        let mut prepared = Vec::new();
        for (place, command) in commands.iter().enumerate() {
            if place > 0 && command.stdin != Input::None {
                return Err(CallError::Invalid(format!("{what}: only the first command of a pipeline has a stdin")));
            }
            let mut one = prepare(command, secrets).map_err(|why| prefix(&what, why))?;
            if fed && place == 0 {
                one.stdin = Stdin::Feed;
            }
            prepared.push(one);
        }
        let timeout = commands.iter().filter_map(|c| c.timeout_ms).min();
        Ok(Self {
            what,
            body: Body::Commands(prepared),
            timeout: timeout.map(|ms| Duration::from_millis(ms.into())),
            follow: commands.iter().any(|c| c.follow).then(|| ctx.progress.clone()),
            limit: OUTPUT_LIMIT,
            marked: None,
        })
    }
}

fn prefix(what: &str, error: CallError) -> CallError {
    match error {
        CallError::Invalid(text) => CallError::Invalid(format!("{what}: {text}")),
        CallError::Denied(text) => CallError::Denied(format!("{what}: {text}")),
        other => other,
    }
}

pub(crate) fn prepare(command: &Command, secrets: &Secrets) -> Result<Prepared, CallError> {
    let invalid = |text: &str| CallError::Invalid(text.to_owned());
    let program = command.argv.first().ok_or_else(|| invalid("no program is named"))?;
    if program.is_empty() || program.starts_with('-') {
        return Err(invalid("the name of the program is empty or starts with a hyphen"));
    }
    let no_nul = |bytes: &[u8], where_: &str| {
        if bytes.contains(&0) { Err(CallError::Invalid(format!("a NUL byte in {where_}"))) } else { Ok(()) }
    };
    for word in &command.argv {
        no_nul(word.as_bytes(), "argv")?;
        if secrets.0.keys().any(|name| word.contains(&redact::token(name))) {
            return Err(CallError::Denied(
                "a secret in argv: arguments are visible to every user of the machine; use env, stdin or a file"
                    .to_owned(),
            ));
        }
    }
    let mut files = Vec::new();
    for (name, content) in &command.files {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(plain) {
            return Err(CallError::Invalid(format!(
                "`{name}` is no name for a temporary file: use letters, digits, _ . -"
            )));
        }
        let content = materialise_text(content, secrets)?;
        no_nul(&content, "a temporary file")?;
        files.push((name.clone(), content));
    }
    let mut env = Vec::new();
    for (name, value) in &command.env {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(word) {
            return Err(CallError::Invalid(format!("`{name}` is no name for an environment variable")));
        }
        if name.starts_with("RB_") {
            return Err(CallError::Invalid(format!(
                "{name}: variables that begin with RB_ are the helper shell's own"
            )));
        }
        let mut pieces = Vec::new();
        for part in &value.0 {
            match part {
                TextPart::Plain(plain) => pieces.extend(split(&materialise_bytes(plain.as_bytes(), secrets), &files)),
                // Not searched for placeholders: a secret's value is taken as it is.
                TextPart::Secret(name) => pieces.push(Piece::Literal(secret(name, secrets)?.as_bytes().to_vec())),
            }
        }
        for piece in &pieces {
            if let Piece::Literal(bytes) = piece {
                no_nul(bytes, "env")?;
            }
        }
        env.push((name.clone(), pieces));
    }
    if let Some(cwd) = &command.cwd {
        no_nul(cwd.as_bytes(), "cwd")?;
    }
    let stdin = match &command.stdin {
        Input::None => Stdin::Null,
        Input::Text(text) => {
            let text = materialise_text(text, secrets)?;
            if inline(&text) { Stdin::Inline(text) } else { Stdin::Feed }
        }
        Input::Bytes(_) | Input::CopyOf(_) => Stdin::Feed,
    };
    let argv = command.argv.iter().map(|word| split(word.as_bytes(), &files)).collect();
    Ok(Prepared { argv, cwd: command.cwd.clone(), env, files, stdin })
}

/// Whether content may go into the text of a command.
pub(crate) fn inline(content: &[u8]) -> bool {
    content.len() <= INLINE && !content.contains(&0)
}

/// Cuts a word at the placeholders of temporary files.
fn split(word: &[u8], files: &[(String, Vec<u8>)]) -> Word {
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < word.len() {
        let file = files.iter().find(|(name, _)| {
            word[at..]
                .strip_prefix(b"{")
                .and_then(|rest| rest.strip_prefix(name.as_bytes()))
                .is_some_and(|r| r.starts_with(b"}"))
        });
        let Some((name, _)) = file else {
            at += 1;
            continue;
        };
        pieces.push(Piece::Literal(word[start..at].to_vec()));
        pieces.push(Piece::File(name.clone()));
        at += name.len() + 2;
        start = at;
    }
    pieces.push(Piece::Literal(word[start..].to_vec()));
    pieces
}

/// Bytes as the worker reads them: `S` is text for the shell behind it, `F` an operation on files, `D` data for one, `B` process groups that
/// must be gone before the operation that follows.
pub(crate) fn block(letter: char, bytes: &[u8]) -> Vec<u8> {
    let mut block = format!("{letter} {}\n", bytes.len()).into_bytes();
    block.extend_from_slice(bytes);
    block
}
