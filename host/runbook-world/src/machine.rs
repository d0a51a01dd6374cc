//! Machines: a tree, values that programs remember, and the programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_engine::backend::Secrets;
use runbook_model::bytes::Bytes;
use runbook_model::call::{CallError, Command, Exit, Facts, Input, Output, Text, TextPart};
use runbook_model::delta::sha256;

use crate::tree::Tree;

/// A machine, or a pod.
#[derive(Clone)]
pub struct Machine {
    /// Its files.
    pub tree: Tree,
    /// What its programs remember, by name.
    pub values: BTreeMap<String, String>,
    /// What it says of itself; the boot id comes from [`Machine::boots`].
    pub facts: Facts,
    /// How often it was started.
    pub boots: u32,
    /// The first one that takes a command runs it.
    pub programs: Vec<Arc<dyn Program>>,
}

impl Default for Machine {
    fn default() -> Self {
        let facts = Facts {
            hostname: String::new(),
            os_id: "debian".to_owned(),
            os_version: "12".to_owned(),
            arch: "x86_64".to_owned(),
            boot_id: String::new(),
        };
        Self { tree: Tree::default(), values: BTreeMap::new(), facts, boots: 1, programs: Vec::new() }
    }
}

/// A program: what a command does, and what it gives.
pub trait Program: Send + Sync {
    /// Runs a command, where it is this program's. `half`: it is killed before it comes to its end.
    fn run(&self, machine: &mut Machine, call: &Invocation, half: bool) -> Option<Output>;
}

impl<F> Program for F
where
    F: Fn(&mut Machine, &Invocation) -> Option<Output> + Send + Sync,
{
    fn run(&self, machine: &mut Machine, call: &Invocation, _: bool) -> Option<Output> {
        self(machine, call)
    }
}

/// A command as it arrives: with the values of secrets in it.
#[derive(Debug, Clone, Default)]
pub struct Invocation {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// What was added to the environment.
    pub env: BTreeMap<String, String>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Files for the time that it runs, by name.
    pub files: BTreeMap<String, String>,
}

impl Invocation {
    /// Its words as a list, each of scripts shortened.
    pub(crate) fn said(&self) -> String {
        const SHOWN: usize = 60;
        let short = |word: &String| match word.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{:?}...", &word[..end]),
            None => format!("{word:?}"),
        };
        format!("[{}]", self.argv.iter().map(short).collect::<Vec<_>>().join(", "))
    }

    /// What is asked of a machine that is no command, under the name of a program that nobody else has: `(http)`, `(tcp)`.
    pub(crate) fn pseudo<const N: usize>(argv: [&str; N]) -> Self {
        Self { argv: argv.map(str::to_owned).to_vec(), ..Self::default() }
    }

    pub(crate) fn of(command: &Command, secrets: &Secrets, copy: Option<Vec<u8>>) -> Result<Self, CallError> {
        let filled = |pairs: &[(String, Text)]| {
            pairs.iter().map(|(name, text)| Ok((name.clone(), fill(text, secrets)?))).collect::<Result<_, CallError>>()
        };
        let stdin = match &command.stdin {
            Input::None => Vec::new(),
            Input::Text(text) => fill(text, secrets)?.into_bytes(),
            Input::Bytes(bytes) => bytes.0.clone(),
            Input::CopyOf(_) => copy.unwrap_or_default(),
        };
        Ok(Self { argv: command.argv.clone(), env: filled(&command.env)?, stdin, files: filled(&command.files)? })
    }
}

/// A text with the values of its secrets.
pub(crate) fn fill(text: &Text, secrets: &Secrets) -> Result<String, CallError> {
    text.0.iter().try_fold(String::new(), |mut out, part| {
        match part {
            TextPart::Plain(plain) => out.push_str(plain),
            TextPart::Secret(name) => match secrets.0.get(name) {
                Some(value) => out.push_str(value),
                None => return Err(CallError::Denied(format!("there is no secret `{name}`"))),
            },
        }
        Ok(out)
    })
}

/// What a program gives that ended with this code.
pub fn output(code: i32, stdout: impl Into<Vec<u8>>) -> Output {
    Output { exit: Exit::Code(code), stdout: Bytes(stdout.into()), stderr: Bytes::default() }
}

impl Machine {
    /// Its boot id.
    pub(crate) fn boot_id(&self) -> String {
        format!("boot-{}", self.boots)
    }

    /// Runs a command; none: it has no such program.
    pub(crate) fn run(&mut self, call: &Invocation, half: bool) -> Option<Output> {
        let programs = self.programs.clone();
        let own = programs.iter().find_map(|program| program.run(self, call, half));
        own.or_else(|| self.built_in(call))
    }

    /// What a program says of some paths. One that is not there is an error, and the others are told all the same.
    fn for_each(&self, paths: &[&str], say: impl Fn(&Tree, &str) -> Option<String>) -> Output {
        let (mut said, mut errors) = (Vec::new(), Vec::new());
        for path in paths {
            match say(&self.tree, path) {
                Some(text) => said.push(text),
                None => errors.push(format!("can't open '{path}': No such file or directory\n")),
            }
        }
        Output { stderr: Bytes::from(errors.concat().as_str()), ..output(i32::from(!errors.is_empty()), said.concat()) }
    }

    /// The few programs that every machine has.
    fn built_in(&mut self, call: &Invocation) -> Option<Output> {
        let words: Vec<&str> = call.argv.iter().map(String::as_str).collect();
        let holds = |holds: bool| Some(output(i32::from(!holds), ""));
        match words[..] {
            ["true", ..] => holds(true),
            ["false", ..] => holds(false),
            ["cat"] => Some(output(0, call.stdin.clone())),
            ["cat", path] => Some(match self.tree.read(path) {
                Ok(content) => output(0, content),
                Err(error) => Output { stderr: Bytes::from(error.to_string().as_str()), ..output(1, "") },
            }),
            // No file here has an age of its own.
            ["stat", "-L", "-c", "%Y", path] if self.tree.read(path).is_ok() => Some(output(0, "1767225600\n")),
            ["sha256sum", ref paths @ ..] => Some(self.for_each(paths, |tree, path| {
                tree.read(path).ok().map(|content| format!("{}  {path}\n", sha256(content)))
            })),
            ["stat", "-c", "%a %u %g %n", ref paths @ ..] => Some(self.for_each(paths, |tree, path| {
                let node = tree.get(path)?;
                let id = |name: &str| if name == "root" { "0".to_owned() } else { name.to_owned() };
                Some(format!("{:o} {} {} {path}\n", node.mode, id(&node.owner), id(&node.group)))
            })),
            ["test", "!", "-e", path] => holds(!self.tree.has(&self.tree.resolve(path).unwrap_or_default())),
            ["rm", "-f", ref paths @ ..] => {
                paths.iter().for_each(|path| self.tree.remove(path));
                holds(true)
            }
            ["test", flag, path] => {
                let end = self.tree.resolve(path).unwrap_or_default();
                match flag {
                    "-e" => holds(self.tree.has(&end)),
                    "-d" => holds(self.tree.is_directory(&end)),
                    "-f" => holds(self.tree.read(path).is_ok()),
                    "-s" => holds(self.tree.read(path).is_ok_and(|content| !content.is_empty())),
                    "-L" | "-h" => holds(self.tree.get(path).is_some_and(|node| node.stat().link_target.is_some())),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}
