//! One call of an action's function in a fake world.

use std::cell::RefCell;

use super::World;
use super::tree::{Node, What};
use crate::bindings::runbook::base::types::{CallError, Effect, Timing, Verdict};
use crate::bindings::runbook::ssh::machines::{Command, Exit, Outcome, Output};

/// A change that an action made, or would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is for.
    pub summary: String,
    /// Machine or cluster, and what is called there.
    pub call: String,
    /// It repeats by nature.
    pub repeats: bool,
}

/// Where something is: a machine by its place in the world, the cluster, the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Machine(usize),
    Cluster,
    Controller,
}

/// What was altered; none: all of the place.
type Facet = (Place, Option<String>);

/// The state of a call.
pub(crate) struct Play {
    /// As it is, or would be.
    pub(crate) world: World,
    pub(crate) planning: bool,
    pub(crate) changes: Vec<Change>,
    pub(crate) messages: Vec<String>,
    /// Calls about what was not said.
    pub(crate) unsaid: Vec<String>,
    /// What planned commands alter: nobody knows it.
    unclear: Vec<Facet>,
    /// What planned files and objects alter: commands that read it cannot know.
    dirty: Vec<Facet>,
    later: Vec<Later>,
    pub(crate) sources: Vec<Vec<u8>>,
}

/// A change that waits for the end of the step.
struct Later {
    change: Change,
    only_if_changed: bool,
    place: Place,
    act: Act,
}

/// What is done when its time comes.
pub(crate) enum Act {
    /// Runs a command.
    Run(Vec<String>),
    /// Something else that was done in full when it was said: only its place in the order is another.
    Nothing,
}

thread_local! {
    /// The call that is at work on this thread.
    static PLAY: RefCell<Option<Play>> = const { RefCell::new(None) };
}

/// Calls a function in a world; gives what became of the world, step-end changes included.
pub(crate) fn during<T>(play: Play, call: impl FnOnce() -> T) -> (T, Play) {
    /// A panic in the function leaves no world behind for the next test on this thread.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            PLAY.take();
        }
    }
    let before = PLAY.replace(Some(play));
    assert!(before.is_none(), "a function of an action called the fake world within the fake world");
    let end = End;
    let given = call();
    let mut play = PLAY.take().unwrap_or_else(|| unreachable!("it was put there"));
    drop(end);
    play.end();
    (given, play)
}

/// The call that is at work.
///
/// # Panics
///
/// Where there is none: the function was not called by a [`World`].
pub(crate) fn with<T>(f: impl FnOnce(&mut Play) -> T) -> T {
    PLAY.with_borrow_mut(|play| {
        let play = play.as_mut();
        f(play.expect("there is no world here: call the function by a runbook_sdk::fake::World"))
    })
}

impl Play {
    pub(crate) fn new(world: World, planning: bool) -> Self {
        Self {
            world,
            planning,
            changes: Vec::new(),
            messages: Vec::new(),
            unsaid: Vec::new(),
            unclear: Vec::new(),
            dirty: Vec::new(),
            later: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// Notes a call about what nobody said.
    pub(crate) fn unsaid(&mut self, call: impl Into<String>) -> CallError {
        let call = call.into();
        self.unsaid.push(call.clone());
        CallError::Failed(format!("the fake world was not told of this: {call}"))
    }

    pub(crate) fn name_of(&self, place: Place) -> String {
        match place {
            Place::Machine(index) => self.world.machines[index].name.clone(),
            Place::Cluster => self.world.cluster.as_ref().map(|cluster| cluster.name.clone()).unwrap_or_default(),
            Place::Controller => "the controller".to_owned(),
        }
    }

    /// In a plan: whether a look that reads these parts can be answered.
    pub(crate) fn can_look(&self, place: Place, reads: &[String], is_process: bool) -> Result<(), CallError> {
        let touched =
            |altered: &[Facet]| altered.iter().any(|(other, part)| *other == place && overlaps(part.as_deref(), reads));
        if touched(&self.unclear) || is_process && touched(&self.dirty) {
            let place = self.name_of(place);
            return Err(CallError::Unknown(format!("it depends on a change of {place} that has only been planned")));
        }
        Ok(())
    }

    /// A command that looks.
    pub(crate) fn observe(&mut self, index: usize, command: &Command<'_>) -> Result<Output, CallError> {
        self.can_look(Place::Machine(index), &command.reads, true)?;
        let machine = &self.world.machines[index];
        match machine.find(&command.argv) {
            Some(rule) => Ok(rule.output.clone()),
            None => Err(self.unsaid_command(index, &command.argv)),
        }
    }

    fn unsaid_command(&mut self, index: usize, argv: &[String]) -> CallError {
        let name = self.world.machines[index].name.clone();
        self.unsaid(format!("{name}: the command {argv:?} (say `answers`, `fails` or `changes`)"))
    }

    /// A command that changes something.
    pub(crate) fn change(
        &mut self,
        index: usize,
        argv: &[String],
        done_when: Option<&Command<'_>>,
        effect: &Effect,
    ) -> Result<Outcome, CallError> {
        if let Some(look) = done_when {
            match self.observe(index, look) {
                Ok(output) if matches!(output.exit, Exit::Code(0)) => return Ok(Outcome::Already),
                Ok(_) | Err(CallError::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let place = Place::Machine(index);
        let call = format!("{}: {argv:?}", self.name_of(place));
        if !self.is_due(place, call, effect, Act::Run(argv.to_vec())) {
            return Ok(Outcome::Deferred);
        }
        if self.planning {
            self.alter(place, effect, true, None);
            return Ok(Outcome::Planned);
        }
        self.run(index, argv).map(Outcome::Done)
    }

    fn run(&mut self, index: usize, argv: &[String]) -> Result<Output, CallError> {
        let machine = &self.world.machines[index];
        let Some(rule) = machine.find(argv).cloned() else { return Err(self.unsaid_command(index, argv)) };
        if let Some(effect) = &rule.effect {
            self.world.machines[index] = effect(machine.clone());
        }
        Ok(rule.output)
    }

    /// Notes a change; whether it is carried out now.
    pub(crate) fn is_due(&mut self, place: Place, call: String, effect: &Effect, act: Act) -> bool {
        let change = Change { summary: effect.summary.clone(), call, repeats: effect.repeats };
        if effect.timing == Timing::Now {
            self.changes.push(change);
            return true;
        }
        let only_if_changed = effect.timing == Timing::StepEndIfChanged;
        self.later.push(Later { change, only_if_changed, place, act });
        false
    }

    /// In a plan: what a change alters cannot be known (a process), or is seen by later looks alone (files, objects).
    pub(crate) fn alter(&mut self, place: Place, effect: &Effect, is_process: bool, own: Option<String>) {
        if !self.planning {
            return;
        }
        let said = effect.alters.iter().map(|part| (place, Some(part.clone())));
        if is_process {
            self.unclear.extend(said);
            self.unclear.extend(effect.alters.is_empty().then_some((place, None)));
        } else {
            self.unclear.extend(said);
            self.dirty.extend(own.map(|own| (place, Some(own))));
        }
    }

    /// What lies at a path.
    pub(crate) fn node(&mut self, place: Place, path: &str) -> Result<Node, CallError> {
        self.can_look(place, &[format!("path:{path}")], false)?;
        let files = match place {
            Place::Machine(index) => &self.world.machines[index].files,
            Place::Cluster | Place::Controller => &self.world.controller,
        };
        match files.get(path) {
            Some(node) => Ok(node),
            None => {
                let name = self.name_of(place);
                Err(self.unsaid(format!("{name}: what lies at {path} (say `file`, `directory`, `link` or `absent`)")))
            }
        }
    }

    /// Makes a path so, unless it is.
    pub(crate) fn ensure(
        &mut self,
        place: Place,
        path: &str,
        effect: &Effect,
        wanted: impl FnOnce(Node) -> Node,
    ) -> Result<Verdict, CallError> {
        let before = self.node(place, path)?;
        let after = wanted(before.clone());
        if before == after {
            return Ok(Verdict::Unchanged);
        }
        let call = format!("{}: {path}", self.name_of(place));
        let is_due = self.is_due(place, call, effect, Act::Nothing);
        self.alter(place, effect, false, Some(format!("path:{path}")));
        self.files(place).set(path, after);
        Ok(if is_due { Verdict::Changed } else { Verdict::Deferred })
    }

    pub(crate) fn files(&mut self, place: Place) -> &mut super::Files {
        match place {
            Place::Machine(index) => &mut self.world.machines[index].files,
            Place::Cluster | Place::Controller => &mut self.world.controller,
        }
    }

    /// The end of the step: what waited for it.
    fn end(&mut self) {
        let changed = !self.changes.is_empty();
        for Later { change, only_if_changed, place, act } in std::mem::take(&mut self.later) {
            if only_if_changed && !changed {
                continue;
            }
            if let (false, Act::Run(argv), Place::Machine(index)) = (self.planning, &act, place) {
                // What nobody said of it is noted.
                let _ = self.run(index, argv);
            }
            self.changes.push(change);
        }
    }
}

/// A directory, or what a file is to be in its place.
pub(crate) fn made(before: Node, what: What) -> Node {
    if before.what == What::Absent || std::mem::discriminant(&before.what) != std::mem::discriminant(&what) {
        Node::new(what)
    } else {
        Node { what, ..before }
    }
}

/// Whether what was altered and what is read have something in common, as the host sees it.
fn overlaps(altered: Option<&str>, reads: &[String]) -> bool {
    let Some(altered) = altered else { return true };
    reads.is_empty() || reads.iter().any(|read| have_in_common(altered, read))
}

fn have_in_common(a: &str, b: &str) -> bool {
    let below = |path: &str, top: &str, between: char| {
        path == top || path.strip_prefix(top.trim_end_matches('/')).is_some_and(|rest| rest.starts_with(between))
    };
    match (a.strip_prefix("path:"), b.strip_prefix("path:")) {
        (Some(a), Some(b)) => below(a, b, '/') || below(b, a, '/'),
        (None, None) => below(a, b, ':') || below(b, a, ':'),
        _ => false,
    }
}
