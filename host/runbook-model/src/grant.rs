//! What a step may do: what its plugin asks for, within what the owner gives. Everything else is denied.
//!
//! There is one door, [`Grants::check`], and one match in it, without a catch-all: a new call does not compile before it was
//! decided here.

mod rule;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::call::{
    Act, Call, Change, Command, FileWant, FilesAct, HttpRequest, KubeAct, KubeLook, Look, Note, ObjectRef, PodUndo,
    Request, ResourceKind, Selector, SshAct, SshLook, Target, Undo,
};
use crate::consent::Consent;
use crate::manifest::{Action, Power};
use crate::plan::{Allow, NeedsReceipt, Permit};

pub use rule::normal_path;
use rule::{Rule, argv_matches, shown};

/// What a call is let through with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// The granted path: what the call's path resolves to at the target must lie at or below what this resolves to.
    pub jail: Option<String>,
    /// The number of the ask that lets it pass, among those of the action.
    pub ask: Option<usize>,
    /// The receipt without which it may not be carried out.
    pub needs_receipt: Option<NeedsReceipt>,
}

impl Passed {
    fn by(rule: &Rule) -> Self {
        Self { jail: None, ask: rule.ask, needs_receipt: rule.needs_receipt.clone() }
    }
}

/// Why a call is not let through: for the journal and the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// What one instance of a step may do.
#[derive(Debug, Clone)]
pub struct Grants {
    targets: BTreeSet<Target>,
    asked: Vec<Rule>,
    /// None: all that is asked for.
    given: Option<Vec<Rule>>,
    /// For what was computed from outputs, also where `given` is none.
    computed: Vec<Rule>,
    /// Requests come from the journal.
    journal: Option<Passed>,
}

/// What the grants of a step are made of.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The machines and the cluster that the step names, and the controller where the action asks for it.
    pub targets: &'a BTreeSet<Target>,
    /// What the action asks for.
    pub action: &'a Action,
    /// The step's inputs, rendered.
    pub inputs: &'a Value,
    /// Names of the inputs that were computed from outputs of other steps.
    pub computed: &'a BTreeSet<String>,
    /// What the owner wrote into the step.
    pub allow: &'a Allow,
    /// Whether the owner agreed to what the action asks for.
    pub consent: Consent,
}

impl Grants {
    /// The grants of an instance.
    pub fn new(terms: Terms<'_>) -> Self {
        let asks = terms.action.asks.iter().enumerate();
        let numbered = |(number, ask)| Rule::of_ask(ask, terms).map(|rule| Rule { ask: Some(number), ..rule });
        let asked: Vec<Rule> = asks.filter_map(numbered).collect();
        let permits = |permits: &[Permit]| permits.iter().flat_map(|p| Rule::of_permit(p, terms)).collect::<Vec<_>>();
        let (given, computed) = match terms.allow {
            Allow::Asked => (None, asked.clone()),
            Allow::Only(list) => {
                let rules = permits(list);
                // What the owner wrote for a plugin of the program narrows nothing but computed inputs.
                (if terms.consent == Consent::Implied { None } else { Some(rules.clone()) }, rules)
            }
            Allow::Unsaid => (None, Vec::new()),
        };
        // The step's words give nothing that the lock does not.
        let given = if terms.consent == Consent::Missing { Some(Vec::new()) } else { given };
        Self { targets: terms.targets.clone(), asked, given, computed, journal: None }
    }

    /// The grants of requests that stand in the journal, and of what takes them back: they were let through when they were written, for
    /// this target and with this path.
    pub fn of_journal(target: &Target, jail: Option<String>) -> Self {
        Self {
            targets: BTreeSet::from([target.clone()]),
            asked: Vec::new(),
            given: None,
            computed: Vec::new(),
            journal: Some(Passed { jail, ..Passed::default() }),
        }
    }

    /// Whether a call may pass.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self, request: &Request) -> Result<Passed, Refused> {
        if !self.targets.contains(&request.target) && request.target != Target::Run {
            return Err(Refused(format!("{} is not a target of this step", request.target)));
        }
        if let Some(passed) = &self.journal {
            return Ok(passed.clone());
        }
        let target = &request.target;
        match (&request.call, target) {
            (Call::Note(note), Target::Run) => match note {
                Note::Log { .. }
                | Note::Progress { .. }
                | Note::Pause { .. }
                | Note::Baseline { .. }
                | Note::Receipt { .. } => Ok(Passed::default()),
            },
            (Call::Look(Look::Ssh(look)), Target::Machine(_)) => self.ssh_look(look),
            (Call::Change(Change { act: Act::Ssh(act), .. }), Target::Machine(_)) => self.ssh_act(act),
            (Call::Look(Look::Files(look)), Target::Machine(_)) => {
                self.path(&[Power::FilesRead, Power::FilesWrite], look.path())
            }
            (Call::Look(Look::Files(look)), Target::Controller) => {
                self.path(&[Power::ControllerRead, Power::ControllerWrite], look.path())
            }
            (Call::Change(Change { act: Act::Files(act), .. }), Target::Machine(_)) => {
                self.file_act(Power::FilesWrite, act)
            }
            (Call::Change(Change { act: Act::Files(act), .. }), Target::Controller) => {
                self.file_act(Power::ControllerWrite, act)
            }
            (Call::Look(Look::Kube(look)), Target::Cluster(_)) => self.kube_look(look),
            (Call::Change(Change { act: Act::Kube(act), .. }), Target::Cluster(_)) => self.kube_act(act),
            (Call::Note(_), Target::Machine(_) | Target::Controller | Target::Cluster(_))
            | (
                Call::Look(Look::Ssh(_)) | Call::Change(Change { act: Act::Ssh(_), .. }),
                Target::Controller | Target::Cluster(_) | Target::Run,
            )
            | (
                Call::Look(Look::Files(_)) | Call::Change(Change { act: Act::Files(_), .. }),
                Target::Cluster(_) | Target::Run,
            )
            | (
                Call::Look(Look::Kube(_)) | Call::Change(Change { act: Act::Kube(_), .. }),
                Target::Machine(_) | Target::Controller | Target::Run,
            ) => Err(Refused(format!("this call does not exist for {target}"))),
        }
    }

    fn ssh_look(&self, look: &SshLook) -> Result<Passed, Refused> {
        match look {
            SshLook::Facts => Ok(Passed::default()),
            SshLook::Observe { commands } => self.commands(Power::SshObserve, commands, false),
            SshLook::Http { request } => self.url(Power::SshNet, &request.url, false),
            SshLook::Tcp { address, port, .. } => self.url(Power::SshNet, &format!("{address}:{port}"), false),
            SshLook::Resolve { name, .. } => self.url(Power::SshNet, name, false),
        }
    }

    fn ssh_act(&self, act: &SshAct) -> Result<Passed, Refused> {
        match act {
            SshAct::Run { pipeline, done_when, undo } => {
                if let Some(command) = done_when {
                    self.commands(Power::SshObserve, std::slice::from_ref(command), false)?;
                }
                let irreversible = match undo {
                    Undo::Inverse { command, only_if } => {
                        self.commands(Power::SshChange, std::slice::from_ref(command), false)?;
                        if let Some(command) = only_if {
                            self.commands(Power::SshObserve, std::slice::from_ref(command), false)?;
                        }
                        false
                    }
                    Undo::Harmless | Undo::ByHand(_) => false,
                    Undo::Irreversible(_) => true,
                };
                self.commands(Power::SshChange, pipeline, irreversible)
            }
            SshAct::Reboot { .. } => self.any(Power::SshReboot, || "reboot".to_owned(), |_| true).map(Passed::by),
            SshAct::Confirm { commit, revert, .. } => {
                self.commands(Power::SshChange, std::slice::from_ref(revert.as_ref()), false)?;
                self.commands(Power::SshChange, std::slice::from_ref(commit.as_ref()), false)
            }
            SshAct::Http { request, undo } => self.http_change(request, undo),
        }
    }

    fn http_change(&self, request: &HttpRequest, undo: &Undo) -> Result<Passed, Refused> {
        match undo {
            Undo::Inverse { command, only_if } => {
                self.commands(Power::SshChange, std::slice::from_ref(command), false)?;
                if let Some(command) = only_if {
                    self.commands(Power::SshObserve, std::slice::from_ref(command), false)?;
                }
                self.url(Power::SshHttpChange, &request.url, false)
            }
            Undo::Harmless | Undo::ByHand(_) => self.url(Power::SshHttpChange, &request.url, false),
            Undo::Irreversible(_) => self.url(Power::SshHttpChange, &request.url, true),
        }
    }

    fn commands(&self, power: Power, commands: &[Command], irreversible: bool) -> Result<Passed, Refused> {
        if commands.is_empty() {
            return Err(Refused("no command".to_owned()));
        }
        let mut passed = Passed::default();
        for command in commands {
            let what = || format!("{} {}", power_name(power), shown(&command.argv));
            let rule = self.any(power, what, |rule| {
                (!command.privileged || rule.privileged)
                    && (!irreversible || rule.irreversible)
                    && rule.argv.as_ref().is_some_and(|tokens| argv_matches(tokens, &command.argv))
                    && command.env.iter().all(|(name, _)| rule.env.iter().any(|n| n.matches(name)))
            })?;
            passed = Passed::by(rule);
        }
        Ok(passed)
    }

    fn url(&self, power: Power, url: &str, irreversible: bool) -> Result<Passed, Refused> {
        let what = || format!("{} {url}", power_name(power));
        let rule = self.any(power, what, |rule| {
            (!irreversible || rule.irreversible) && rule.url.as_ref().is_some_and(|name| name.matches(url))
        });
        rule.map(Passed::by)
    }

    fn path(&self, powers: &[Power], path: &str) -> Result<Passed, Refused> {
        let Some(path) = normal_path(path) else {
            return Err(Refused(format!("{path:?} is not an absolute path without `..`")));
        };
        let mut refused = None;
        for &power in powers {
            let what = || format!("{} {path}", power_name(power));
            let jail = self.any(power, what, |rule| rule.path.as_ref().is_some_and(|granted| granted.covers(&path)));
            match jail {
                Ok(rule) => {
                    let jail = rule.path.as_ref().map(|path| path.top.clone());
                    return Ok(Passed { jail, ..Passed::by(rule) });
                }
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        Err(refused.unwrap_or(Refused(path)))
    }

    fn file_act(&self, power: Power, act: &FilesAct) -> Result<Passed, Refused> {
        match &act.want {
            FileWant::File { validate, .. } if !validate.is_empty() => {
                let command = Command { argv: validate.clone(), ..Command::default() };
                let what = || format!("validate with {}", shown(validate));
                self.any(Power::SshObserve, what, |rule| {
                    rule.argv.as_ref().is_some_and(|tokens| argv_matches(tokens, &command.argv))
                })?;
            }
            // A link in place of a granted folder would move all that is granted below it to wherever the link points.
            FileWant::Link { .. } => {
                let path = normal_path(&act.path);
                let what = || format!("a link at {}", act.path);
                self.any(power, what, |rule| {
                    rule.path
                        .as_ref()
                        .zip(path.as_ref())
                        .is_some_and(|(granted, path)| granted.covers(path) && !(granted.below && granted.top == *path))
                })?;
            }
            FileWant::AbsentIfEmpty | FileWant::Tree { .. } => {
                return Err(Refused("only an undo does that".to_owned()));
            }
            FileWant::File { .. } | FileWant::Directory { .. } | FileWant::Absent => {}
        }
        self.path(&[power], &act.path)
    }

    fn kube_look(&self, look: &KubeLook) -> Result<Passed, Refused> {
        match look {
            KubeLook::Uid => Ok(Passed::default()),
            KubeLook::Get { object } | KubeLook::Wait { object, .. } => self.object(Power::KubeRead, object, false),
            KubeLook::List { selector } | KubeLook::WaitNone { selector, .. } => self.selector(selector),
            KubeLook::Logs { pod, .. } => self.object(Power::KubeLogs, pod, false),
            KubeLook::Exec { pod, argv, .. } => self.pod_exec(Power::KubeExecObserve, pod, argv, false),
            KubeLook::CopyOut { pod, .. } => self.object(Power::KubeExecObserve, pod, false),
        }
    }

    fn kube_act(&self, act: &KubeAct) -> Result<Passed, Refused> {
        match act {
            KubeAct::Apply { manifest, .. } => {
                let object = ObjectRef::of(manifest).map_err(Refused)?;
                self.object(Power::KubeApply, &object, false)
            }
            KubeAct::Patch { object, .. } => self.object(Power::KubePatch, object, false),
            KubeAct::Delete { object, .. } => self.object(Power::KubeDelete, object, holds_data(&object.kind)),
            KubeAct::Scale { object, .. } => self.object(Power::KubeScale, object, false),
            KubeAct::Evict { pod, .. } => self.object(Power::KubeEvict, pod, false),
            KubeAct::Exec { pod, argv, done_when, undo, .. } => {
                if let Some(argv) = done_when {
                    self.pod_exec(Power::KubeExecObserve, pod, argv, false)?;
                }
                let irreversible = match undo {
                    PodUndo::Inverse(argv) => {
                        self.pod_exec(Power::KubeExecChange, pod, argv, false)?;
                        false
                    }
                    PodUndo::Harmless | PodUndo::ByHand(_) => false,
                    PodUndo::Irreversible(_) => true,
                };
                self.pod_exec(Power::KubeExecChange, pod, argv, irreversible)
            }
            KubeAct::CopyIn { pod, .. } => self.object(Power::KubeExecChange, pod, false),
            KubeAct::PutBack { .. } => Err(Refused("only an undo does that".to_owned())),
        }
    }

    fn pod_exec(&self, power: Power, pod: &ObjectRef, argv: &[String], irreversible: bool) -> Result<Passed, Refused> {
        let what = || format!("{} {} in {pod}", power_name(power), shown(argv));
        let rule = self.any(power, what, |rule| {
            rule.object_matches(&pod.kind, pod.namespace.as_deref(), Some(&pod.name))
                && (!irreversible || rule.irreversible)
                && rule.argv.as_ref().is_some_and(|tokens| argv_matches(tokens, argv))
        });
        rule.map(Passed::by)
    }

    fn object(&self, power: Power, object: &ObjectRef, irreversible: bool) -> Result<Passed, Refused> {
        let what = || format!("{} {object}", power_name(power));
        let rule = self.any(power, what, |rule| {
            rule.object_matches(&object.kind, object.namespace.as_deref(), Some(&object.name))
                && (!irreversible || rule.irreversible)
        });
        rule.map(Passed::by)
    }

    fn selector(&self, selector: &Selector) -> Result<Passed, Refused> {
        let place = selector.namespace.as_deref().unwrap_or("all namespaces");
        let what = || format!("kube.read {} in {place}", selector.kind.kind);
        let rule = self.any(Power::KubeRead, what, |rule| {
            // A rule for one name does not grant a list: it would show the others.
            rule.object_matches(&selector.kind, selector.namespace.as_deref(), None)
        });
        rule.map(Passed::by)
    }

    /// The first rule that lets a call pass: asked for, and given. `what` names the call, for whom it may concern that none does.
    fn any(&self, power: Power, what: impl Fn() -> String, matches: impl Fn(&Rule) -> bool) -> Result<&Rule, Refused> {
        let fits = |rule: &&Rule| rule.power == power && matches(rule);
        let Some(asked) = self.asked.iter().find(fits) else {
            return Err(Refused(format!("the plugin did not ask for: {}", what())));
        };
        if let Some(given) = &self.given
            && !given.iter().any(|rule| fits(&rule))
        {
            return Err(Refused(format!("`allow` of the step does not give: {}", what())));
        }
        // One rule that does without computed inputs is enough.
        let literal = self.asked.iter().find(|rule| fits(rule) && !rule.computed);
        if literal.is_none() && !self.computed.iter().any(|rule| fits(&rule)) {
            return Err(Refused(format!(
                "an input was computed from outputs, and `allow` of the step does not give: {}",
                what()
            )));
        }
        Ok(literal.unwrap_or(asked))
    }
}

/// Kinds whose objects take data with them when they go.
pub fn holds_data(kind: &ResourceKind) -> bool {
    matches!(
        (kind.group.as_str(), kind.kind.as_str()),
        ("", "Namespace" | "PersistentVolumeClaim" | "PersistentVolume")
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
    )
}

/// The name of a power as manifests write it.
pub fn power_name(power: Power) -> String {
    match serde_json::to_value(power) {
        Ok(Value::String(name)) => name,
        _ => format!("{power:?}"),
    }
}

#[cfg(test)]
mod tests;
