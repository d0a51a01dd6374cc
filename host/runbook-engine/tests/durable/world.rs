//! A deterministic world: machines with file trees, and programs that are not idempotent, with notes of what was begun and ended there,
//! as a real helper keeps them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use runbook_engine::backend::{Backend, CallContext};
use runbook_model::bytes::Bytes;
use runbook_model::call::*;
use runbook_model::delta::{self, sha256};
use runbook_model::facet::at_or_below;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    File(String, u32),
    Directory(u32),
    Link(String),
}

/// The trees of all machines.
pub(crate) type Trees = BTreeMap<(String, String), Node>;

#[derive(Default)]
pub(crate) struct World(Mutex<State>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) trees: Trees,
    /// What was begun under the number of its intent, and its result where it has ended.
    marks: BTreeMap<(String, u64), Option<Output>>,
    /// The session that is in charge of each machine.
    sessions: BTreeMap<String, u32>,
    /// Programs that were run, in their order.
    pub(crate) ran: Vec<String>,
    /// The power is off: nothing that arrives is done.
    pub(crate) off: bool,
    /// A program that arrives now does its work, and nobody notes its end.
    pub(crate) cut: bool,
    /// Changes that were made although nothing may be changed.
    pub(crate) violations: usize,
    /// How the network is.
    pub(crate) weather: Weather,
}

/// A network that loses calls, the same ones for the same seed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weather {
    seed: u64,
    /// Of a hundred calls so many are lost.
    losses: u64,
    /// Looks are lost, too.
    looks: bool,
}

/// What becomes of a call on its way.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    /// Nothing arrives.
    Lost,
    /// It arrives, and its answer does not.
    Unheard,
}

impl Weather {
    pub(crate) fn new(seed: u64, losses: u64, looks: bool) -> Self {
        Self { seed, losses, looks }
    }

    /// The next number below `end` (SplitMix64).
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn fate(&mut self) -> Fate {
        match self.below(200) {
            n if n < self.losses => Fate::Lost,
            n if n < 2 * self.losses => Fate::Unheard,
            _ => Fate::Arrives,
        }
    }
}

fn no_answer() -> CallError {
    CallError::Unreachable("no answer came".into())
}

impl World {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics in it")
    }

    /// Everything that is to be the same after a crash: the trees, but for what repeats by nature.
    pub(crate) fn end(&self) -> Trees {
        let mut trees = self.state().trees.clone();
        trees.retain(|(_, path), _| path != "/var/restarts");
        trees
    }

    pub(crate) fn has(&self, machine: &str, path: &str, node: Node) {
        self.state().trees.insert((machine.to_owned(), path.to_owned()), node);
    }
}

fn stat(node: &Node) -> Stat {
    let (kind, size, mode, link_target) = match node {
        Node::File(content, mode) => (FileKind::File, content.len() as u64, *mode, None),
        Node::Directory(mode) => (FileKind::Directory, 0, *mode, None),
        Node::Link(target) => (FileKind::Link, 0, 0o777, Some(target.clone())),
    };
    Stat { kind, size, mode, owner: "root".into(), group: "root".into(), link_target }
}

fn output(code: i32, stdout: &str) -> Output {
    Output { exit: Exit::Code(code), stdout: Bytes::from(stdout), stderr: Bytes::default() }
}

impl State {
    fn node(&self, machine: &str, path: &str) -> Option<&Node> {
        self.trees.get(&(machine.to_owned(), path.to_owned()))
    }

    fn text(&mut self, machine: &str, path: &str) -> &mut String {
        let node = self.trees.entry((machine.to_owned(), path.to_owned())).or_insert(Node::File(String::new(), 0o644));
        match node {
            Node::File(text, _) => text,
            other => panic!("{path} is {other:?}"),
        }
    }

    /// Runs a program that looks.
    fn look(&self, machine: &str, argv: &[String]) -> Output {
        match argv[0].as_str() {
            "test" => output(if self.node(machine, &argv[2]).is_some() { 0 } else { 1 }, ""),
            "holds" => {
                let has = matches!(self.node(machine, &argv[1]), Some(Node::File(text, _)) if text.contains(&argv[2]));
                output(if has { 0 } else { 1 }, "")
            }
            other => panic!("no program {other} that looks"),
        }
    }

    /// Runs a program that changes something.
    fn program(&mut self, machine: &str, argv: &[String]) -> Output {
        self.ran.push(format!("{machine}: {}", argv.join(" ")));
        match argv[0].as_str() {
            // Each time one line more; says how many there are.
            "append" | "burn" => {
                let text = self.text(machine, &argv[1]);
                *text += &argv[2];
                text.push('\n');
                let lines = text.lines().count();
                output(0, &lines.to_string())
            }
            // What was appended goes, if it is there: it may be run twice.
            "resume" => {
                self.unappend(machine, &argv[1], &argv[2]);
                output(0, "")
            }
            "unappend" => {
                if self.unappend(machine, &argv[1], &argv[2]) {
                    output(0, "")
                } else {
                    output(1, "")
                }
            }
            "restart" => {
                self.text(machine, "/var/restarts").push('x');
                output(0, "")
            }
            other => panic!("no program {other}"),
        }
    }

    fn unappend(&mut self, machine: &str, path: &str, line: &str) -> bool {
        let text = self.text(machine, path);
        let line = format!("{line}\n");
        let place = text.rfind(&line);
        if let Some(place) = place {
            text.replace_range(place..place + line.len(), "");
        }
        if text.is_empty() {
            self.trees.remove(&(machine.to_owned(), path.to_owned()));
        }
        place.is_some()
    }

    fn file(&mut self, machine: &str, act: &FilesAct) -> Response {
        let key = (machine.to_owned(), act.path.clone());
        let below = self.trees.keys().any(|(m, p)| *m == key.0 && *p != key.1 && at_or_below(p, &key.1));
        match &act.want {
            FileWant::File { content, attributes, .. } => {
                let old = match self.trees.get(&key) {
                    Some(Node::File(text, mode)) => Some((text.clone(), *mode)),
                    _ => None,
                };
                let text = match content {
                    Content::CopyOf(_) => old.as_ref().map(|(text, _)| text.clone()).unwrap_or_default(),
                    content => String::from_utf8(delta::visible(content).unwrap_or_default()).expect("text"),
                };
                let mode = attributes.mode.or(old.map(|(_, mode)| mode)).unwrap_or(0o644);
                self.trees.insert(key, Node::File(text, mode));
            }
            FileWant::Directory { attributes } => {
                let mut path = act.path.as_str();
                while let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
                    self.trees.entry((machine.to_owned(), parent.to_owned())).or_insert(Node::Directory(0o755));
                    path = parent;
                }
                self.trees.insert(key, Node::Directory(attributes.mode.unwrap_or(0o755)));
            }
            FileWant::Link { target } => drop(self.trees.insert(key, Node::Link(target.clone()))),
            FileWant::AbsentIfEmpty if below => {
                return Err(CallError::Conflict(format!("{} is not empty", act.path)));
            }
            FileWant::Absent | FileWant::AbsentIfEmpty => {
                self.trees.retain(|(m, p), _| !(*m == key.0 && at_or_below(p, &key.1)));
            }
            FileWant::Tree { archive } => {
                let tree: Vec<(String, String, u32)> = serde_json::from_slice(&archive.0).expect("our own");
                for (path, text, mode) in tree {
                    let node = if text == "/" { Node::Directory(mode) } else { Node::File(text, mode) };
                    self.trees.insert((machine.to_owned(), path), node);
                }
            }
        }
        Ok(Answer::Verdict(Verdict::Changed))
    }

    fn file_prior(&self, machine: &str, act: &FilesAct) -> FilePrior {
        let wanted_sha256 = match &act.want {
            FileWant::File { content, .. } => Some(runbook_model::overlay::plain_sha256(content)),
            _ => None,
        };
        let node = self.node(machine, &act.path);
        let mut prior = FilePrior { stat: node.map(stat), wanted_sha256, ..FilePrior::default() };
        match node {
            Some(Node::File(text, _)) => {
                prior.sha256 = Some(sha256(text.as_bytes()));
                prior.content = (prior.sha256 != prior.wanted_sha256).then(|| Bytes::from(text.as_str()));
            }
            Some(Node::Directory(_)) if matches!(act.want, FileWant::Absent) => {
                let tree: Vec<_> = self
                    .trees
                    .iter()
                    .filter(|((m, p), _)| m == machine && at_or_below(p, &act.path))
                    .map(|((_, p), node)| match node {
                        Node::File(text, mode) => (p, text.clone(), *mode),
                        Node::Directory(mode) => (p, "/".to_owned(), *mode),
                        Node::Link(_) => panic!("no links in trees here"),
                    })
                    .collect();
                prior.content = Some(Bytes(serde_json::to_vec(&tree).expect("plain data")));
            }
            Some(_) => {}
            None => {
                let mut path = act.path.as_str();
                while let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
                    prior.missing_parents += u32::from(self.node(machine, parent).is_none());
                    path = parent;
                }
            }
        }
        prior
    }
}

const BOOT: &str = "boot-1";

#[async_trait]
impl Backend for World {
    async fn look(&self, target: &Target, look: &Look, _: &CallContext) -> Response {
        let (mut state, machine) = (self.state(), target.to_string());
        if state.weather.looks && state.weather.fate() != Fate::Arrives {
            return Err(no_answer());
        }
        match look {
            Look::Files(FilesLook::Read { path, .. }) => match state.node(&machine, path) {
                Some(Node::File(text, _)) => Ok(Answer::Bytes(Bytes::from(text.as_str()))),
                _ => Err(CallError::NotFound(path.clone())),
            },
            Look::Files(FilesLook::Sha256 { path }) => match state.node(&machine, path) {
                Some(Node::File(text, _)) => Ok(Answer::Text(sha256(text.as_bytes()))),
                _ => Err(CallError::NotFound(path.clone())),
            },
            Look::Ssh(SshLook::Observe { commands }) => {
                Ok(Answer::Outputs(commands.iter().map(|command| state.look(&machine, &command.argv)).collect()))
            }
            other => Err(CallError::Invalid(format!("{other:?}"))),
        }
    }

    async fn prior(&self, target: &Target, act: &Act, _: &CallContext) -> Result<Prior, CallError> {
        let (mut state, machine) = (self.state(), target.to_string());
        if state.weather.looks && state.weather.fate() != Fate::Arrives {
            return Err(no_answer());
        }
        Ok(match act {
            Act::Files(act) => Prior::File(state.file_prior(&machine, act)),
            Act::Ssh(SshAct::Run { done_when, .. }) => {
                let done = done_when.as_ref().map(|command| state.look(&machine, &command.argv).exit.success());
                Prior::Process { done, boot_id: BOOT.into() }
            }
            other => return Err(CallError::Invalid(format!("{other:?}"))),
        })
    }

    async fn act(&self, target: &Target, act: &Act, _: &Prior, ctx: &CallContext) -> Response {
        let (mut state, machine) = (self.state(), target.to_string());
        state.violations += usize::from(ctx.read_only || ctx.mark.is_none());
        if state.off {
            return Err(CallError::Unreachable("the power is off".into()));
        }
        let mark = ctx.mark.clone().expect("counted as a violation");
        let session = state.sessions.entry(machine.clone()).or_default();
        if *session > mark.session {
            return Err(CallError::Conflict("a newer session is in charge".into()));
        }
        *session = mark.session;
        let fate = state.weather.fate();
        if fate == Fate::Lost {
            return Err(no_answer());
        }
        let response = match act {
            Act::Files(act) => state.file(&machine, act),
            Act::Ssh(SshAct::Run { pipeline, .. }) => {
                let output = state.program(&machine, &pipeline[0].argv);
                let end = (!state.cut).then(|| output.clone());
                state.marks.insert((machine, mark.record), end);
                Ok(Answer::Outcome(Outcome::Done(output)))
            }
            other => Err(CallError::Invalid(format!("{other:?}"))),
        };
        if fate == Fate::Unheard { Err(no_answer()) } else { response }
    }

    async fn settle(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Result<Finding, CallError> {
        let (mut state, machine) = (self.state(), target.to_string());
        let mark = ctx.mark.clone().expect("a change has one");
        if state.weather.fate() != Fate::Arrives {
            return Err(no_answer());
        }
        state.sessions.insert(machine.clone(), mark.session);
        match act {
            Act::Files(act) => {
                let now = Prior::File(state.file_prior(&machine, act));
                let change = Change { act: Act::Files(act.clone()), effect: Effect::default() };
                Ok(match delta::delta(&change, &now) {
                    None => Finding::Done(Answer::Verdict(Verdict::Changed)),
                    Some(_) if now == *prior => Finding::NotDone,
                    Some(_) => Finding::Unclear(format!("{} is something else", act.path)),
                })
            }
            Act::Ssh(SshAct::Run { done_when, .. }) => {
                Ok(match (state.marks.get(&(machine.clone(), mark.record)), done_when) {
                    (Some(Some(output)), _) => Finding::Done(Answer::Outcome(Outcome::Done(output.clone()))),
                    (None, _) => Finding::NotDone,
                    (Some(None), Some(command)) if state.look(&machine, &command.argv).exit.success() => {
                        Finding::Done(Answer::Outcome(Outcome::Already))
                    }
                    (Some(None), _) => Finding::Unclear("it was begun, and has not ended".into()),
                })
            }
            other => Err(CallError::Invalid(format!("{other:?}"))),
        }
    }
}
