//! Which ask of a plugin let a recorded call pass: found again from the journal, by the code that let it pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runbook_engine::compare;
use runbook_engine::run::Actions as _;
use runbook_model::call::{
    Act, Call, Change, Command, Effect, FileWant, FilesAct, KubeAct, KubeLook, Look, ObjectRef, Request, SshAct,
    SshLook, Undo,
};
use runbook_model::consent::Granted;
use runbook_model::event::{Event, Instance, Record};
use runbook_model::manifest::Ask;
use runbook_model::plan::Runbook;
use serde_json::Value;

use crate::catalog::Catalog;
use crate::display::hint;
use crate::elsewhere;
use crate::runs_dir;
use crate::session::Session;

/// What an attempt was given.
struct Given {
    inputs: Value,
    roles: Vec<(String, Vec<String>)>,
}

/// Finds asks.
pub(crate) struct Asks<'a> {
    runbook: &'a Runbook,
    catalog: &'a Catalog,
    /// How the attempts began that are going on.
    started: BTreeMap<Instance, Given>,
}

impl<'a> Asks<'a> {
    pub(crate) fn new(runbook: &'a Runbook, catalog: &'a Catalog) -> Self {
        Self { runbook, catalog, started: BTreeMap::new() }
    }

    /// Takes notice of an attempt that begins.
    pub(crate) fn read(&mut self, event: &Event) {
        if let Event::StepStarted { instance, inputs, roles, .. } = event {
            self.started.insert(instance.clone(), Given { inputs: inputs.clone(), roles: roles.clone() });
        }
    }

    /// The plugin that made a call, and its ask that lets it pass.
    pub(crate) fn of(&self, instance: &Instance, request: &Request) -> Option<(Used<'a>, &'a Ask)> {
        let Given { inputs, roles } = self.started.get(instance)?;
        let step = *self.runbook.trail(&instance.step)?.last()?;
        let used = compare::Use::of(step)?;
        let (plugin, name) = (used.plugin, used.action);
        let (action, consent) = self.catalog.action(plugin, name)?;
        let passed = compare::grants(used, action, consent, inputs, roles).check(request).ok()?;
        Some((Used { plugin, action: name }, action.asks.get(passed.ask?)?))
    }
}

/// The action that a step used.
pub(crate) struct Used<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) action: &'a str,
}

/// What was granted to a plugin and not used.
pub(crate) struct Unused {
    pub(crate) plugin: String,
    /// How many powers were granted.
    pub(crate) granted: usize,
    pub(crate) unused: Vec<Granted>,
}

/// What was granted to plugins from elsewhere and let no call pass in these records. A call counts also where it found nothing to do, with
/// all the commands that it names: guards, and what would take it back.
pub(crate) fn unused(runbook: &Runbook, catalog: &Catalog, records: &[Record]) -> Vec<Unused> {
    let Ok(uses) = elsewhere::uses(runbook, catalog, |_, _| Ok(String::new())) else { return Vec::new() };
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    let mut asks = Asks::new(runbook, catalog);
    for record in records {
        let (instance, request) = match &record.event {
            Event::Looked { instance, request, .. }
            | Event::Intended { instance, request, .. }
            | Event::Unchanged { instance, request, .. }
            | Event::Deferred { instance, request, .. } => (instance, request),
            event => {
                asks.read(event);
                continue;
            }
        };
        for call in parts(&request.call).into_iter().chain([request.call.clone()]) {
            let request = Request { target: request.target.clone(), call };
            if let Some((by, ask)) = asks.of(instance, &request) {
                used.insert((by.plugin.to_owned(), Granted::of(by.action, ask).to_string()));
            }
        }
    }
    let of_plugin = |plugin: runbook_packs::lock::LockedPlugin| {
        let granted = plugin.granted.len();
        let is_unused = |power: &Granted| !used.contains(&(plugin.name.clone(), power.to_string()));
        let unused = plugin.granted.into_iter().filter(is_unused).collect();
        Unused { plugin: plugin.name.clone(), granted, unused }
    };
    uses.into_iter().map(|wanted| of_plugin(wanted.plugin)).collect()
}

/// The commands of a call that need a grant each, as calls of their own.
fn parts(call: &Call) -> Vec<Call> {
    let look = |command: &Command| Call::Look(Look::Ssh(SshLook::Observe { commands: vec![command.clone()] }));
    let act = |command: &Command, undo: &Undo| {
        // Only what is irreversible is granted apart.
        let undo = match undo {
            Undo::Irreversible(_) => undo.clone(),
            Undo::Inverse { .. } | Undo::Harmless | Undo::ByHand(_) => Undo::Harmless,
        };
        let act = Act::Ssh(SshAct::Run { pipeline: vec![command.clone()], done_when: None, undo });
        Call::Change(Change { act, effect: Effect::default() })
    };
    let inverse = |undo: &Undo| match undo {
        Undo::Inverse { command, only_if } => {
            let back = act(command, &Undo::Harmless);
            std::iter::once(back).chain(only_if.iter().map(|command| look(command))).collect()
        }
        Undo::Harmless | Undo::Irreversible(_) | Undo::ByHand(_) => Vec::new(),
    };
    let pod = |pod: &ObjectRef, container: &Option<String>, argv: &Vec<String>| {
        Call::Look(Look::Kube(KubeLook::Exec { pod: pod.clone(), container: container.clone(), argv: argv.clone() }))
    };
    match call {
        Call::Look(Look::Ssh(SshLook::Observe { commands })) => commands.iter().map(look).collect(),
        Call::Change(Change { act: Act::Ssh(SshAct::Run { pipeline, done_when, undo }), .. }) => {
            let commands = pipeline.iter().map(|command| act(command, undo));
            commands.chain(done_when.iter().map(|command| look(command))).chain(inverse(undo)).collect()
        }
        Call::Change(Change { act: Act::Ssh(SshAct::Confirm { commit, revert, .. }), .. }) => {
            vec![act(commit, &Undo::Harmless), act(revert, &Undo::Harmless)]
        }
        Call::Change(Change { act: Act::Ssh(SshAct::Http { undo, .. }), .. }) => inverse(undo),
        Call::Change(Change { act: Act::Files(FilesAct { want: FileWant::File { validate, .. }, .. }), .. })
            if !validate.is_empty() =>
        {
            vec![look(&Command { argv: validate.clone(), ..Command::default() })]
        }
        Call::Change(Change { act: Act::Kube(KubeAct::Exec { pod: at, container, done_when, .. }), .. }) => {
            done_when.iter().map(|argv| pod(at, container, argv)).collect()
        }
        Call::Look(_) | Call::Change(_) | Call::Note(_) => Vec::new(),
    }
}

/// Points out after a run what was granted and not used.
pub(crate) struct Afterwards(Option<(Runbook, Arc<Catalog>)>);

impl Afterwards {
    /// Keeps what it needs of a session that is about to run.
    pub(crate) fn of(session: &Session) -> Self {
        let is_concerned = session.catalog.beside().is_some();
        Self(is_concerned.then(|| (session.runbook.clone(), Arc::clone(&session.catalog))))
    }

    /// Says it in one line, of plugins that came to work at all.
    pub(crate) fn point_out(&self, run: &str) {
        let Some((runbook, catalog)) = &self.0 else { return };
        let Ok(records) = runs_dir::read(run) else { return };
        let words: Vec<String> = unused(runbook, catalog, &records)
            .iter()
            .filter(|plugin| !plugin.unused.is_empty() && plugin.unused.len() < plugin.granted)
            .map(|plugin| format!("{} of {} of `{}`", plugin.unused.len(), plugin.granted, plugin.plugin))
            .collect();
        if !words.is_empty() {
            hint(&format!(
                "grants that this run did not use: {}; runbook grant --unused {run} lists them",
                words.join(", ")
            ));
        }
    }
}
