//! What a step may do: what its plugin asks for, within what the owner gives. Everything else is denied.
//!
//! There is one door, [`Grants::check`], and one match in it, without a catch-all: a new call does not compile before it was
//! decided here.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::call::{
    Act, Call, Change, Command, FileWant, FilesAct, HttpRequest, KubeAct, KubeLook, Look, Note, ObjectRef, PodUndo,
    Request, ResourceKind, Selector, SshAct, SshLook, Target, Undo,
};
use crate::consent::Consent;
use crate::duration;
use crate::facet::at_or_below;
use crate::manifest::{Action, Ask, AskReceipt, Pattern, Power};
use crate::plan::{Allow, NeedsReceipt, Permit};

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

#[derive(Debug, Clone)]
struct Rule {
    power: Power,
    privileged: bool,
    irreversible: bool,
    argv: Option<Vec<Token>>,
    env: Vec<Name>,
    path: Option<Path>,
    kind: Option<String>,
    namespace: Option<Name>,
    name: Option<Name>,
    url: Option<Name>,
    /// It refers to an input that was computed from outputs.
    computed: bool,
    /// The number of the ask that it was made of.
    ask: Option<usize>,
    needs_receipt: Option<NeedsReceipt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(String),
    Prefix(String),
    /// Any one argument that does not begin with `-`.
    One,
    /// Any further arguments.
    Rest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Exact(String),
    Prefix(String),
}

impl Name {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()) && !climbs(prefix, name),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Path {
    top: String,
    below: bool,
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
pub(crate) fn holds_data(kind: &ResourceKind) -> bool {
    matches!(
        (kind.group.as_str(), kind.kind.as_str()),
        ("", "Namespace" | "PersistentVolumeClaim" | "PersistentVolume")
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
    )
}

impl Rule {
    /// None where an input that it refers to is not given: then there is nothing to grant.
    fn of_ask(ask: &Ask, terms: Terms<'_>) -> Option<Self> {
        let mut rule = Self::build(ask.call, &ask.on, ask.privileged, ask.irreversible.is_some(), terms)?;
        rule.needs_receipt = match &ask.needs_receipt {
            Some(needs) => Some(receipt(needs, terms)?),
            None => None,
        };
        Some(rule)
    }

    /// A permit without a pattern stands for whatever is asked for with this call.
    fn of_permit(permit: &Permit, terms: Terms<'_>) -> Vec<Self> {
        if permit.on.is_empty() {
            let asks = terms.action.asks.iter().filter(|ask| ask.call == permit.call);
            return asks
                .filter(|ask| permit.privileged || !ask.privileged)
                .filter_map(|ask| Self::of_ask(ask, terms))
                .collect();
        }
        let mut pattern = permit.on.clone();
        if pattern.env.is_none() {
            // The owner gives a command; with which variables is between the plugin's ask and its inputs.
            pattern.env = Some(vec!["*".to_owned()]);
        }
        Self::build(permit.call, &pattern, permit.privileged, true, terms).into_iter().collect()
    }

    fn build(power: Power, on: &Pattern, privileged: bool, irreversible: bool, terms: Terms<'_>) -> Option<Self> {
        let mut fill = Fill { inputs: terms.inputs, computed_names: terms.computed, computed: false };
        let argv = match &on.argv {
            Some(elements) => Some(fill.argv(elements)?),
            None => None,
        };
        let env = match &on.env {
            Some(names) => fill.names(names)?,
            None => Vec::new(),
        };
        let path = match &on.path {
            Some(path) => Some(fill.path(path)?),
            None => None,
        };
        let mut name = |pattern: &Option<String>| match pattern {
            Some(pattern) => fill.name(pattern).map(Some),
            None => Some(None),
        };
        let namespace = name(&on.namespace)?;
        let object = name(&on.name)?;
        let url = name(&on.url)?;
        Some(Self {
            power,
            privileged,
            irreversible,
            argv,
            env,
            path,
            kind: on.kind.clone(),
            namespace,
            name: object,
            url,
            computed: fill.computed,
            ask: None,
            needs_receipt: None,
        })
    }

    fn object_matches(&self, kind: &ResourceKind, namespace: Option<&str>, name: Option<&str>) -> bool {
        let kind_matches = match self.kind.as_deref() {
            None => false,
            Some("*") => true,
            Some(pattern) => {
                let (wanted, group) = pattern.split_once('.').unwrap_or((pattern, ""));
                wanted == kind.kind && group == kind.group
            }
        };
        let namespace_matches = match (&self.namespace, namespace) {
            (None, _) => true,
            (Some(Name::Exact(exact)), None) => exact.is_empty(),
            (Some(Name::Prefix(_)), None) => false,
            (Some(granted), Some(namespace)) => granted.matches(namespace),
        };
        let name_matches = match (&self.name, name) {
            (None, _) => true,
            (Some(granted), Some(name)) => granted.matches(name),
            (Some(_), None) => false,
        };
        kind_matches && namespace_matches && name_matches
    }
}

/// None where an input that it refers to is not given.
fn receipt(needs: &AskReceipt, terms: Terms<'_>) -> Option<NeedsReceipt> {
    let mut fill = Fill { inputs: terms.inputs, computed_names: terms.computed, computed: false };
    let subject = match &needs.subject {
        Some(subject) => match fill.name(subject)? {
            Name::Exact(subject) | Name::Prefix(subject) => Some(subject),
        },
        None => None,
    };
    // An age that cannot be read lets nothing pass.
    let max_age_ms = needs.max_age.as_ref().map(|age| duration::parse(age).unwrap_or(0));
    Some(NeedsReceipt { kind: needs.kind.clone(), subject, max_age_ms, off_host: needs.off_host })
}

/// Puts a step's inputs into patterns, literally: a `*` in a value matches itself.
struct Fill<'a> {
    inputs: &'a Value,
    computed_names: &'a BTreeSet<String>,
    computed: bool,
}

impl<'a> Fill<'a> {
    fn input(&mut self, name: &str) -> Option<&'a Value> {
        let top = name.split('.').next().unwrap_or(name);
        if self.computed_names.contains(top) {
            self.computed = true;
        }
        let value = match name.contains('.') {
            true => self.inputs.pointer(&format!("/{}", name.replace('.', "/"))),
            false => self.inputs.get(name),
        };
        value.filter(|value| !value.is_null())
    }

    /// The elements of a list, the keys of a table.
    fn each(&mut self, name: &str) -> Option<Vec<String>> {
        match self.input(name)? {
            Value::Array(items) => items.iter().map(plain).collect(),
            Value::Object(map) => Some(map.keys().cloned().collect()),
            other => Some(vec![plain(other)?]),
        }
    }

    fn argv(&mut self, elements: &[String]) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        for element in elements {
            match whole_reference(element) {
                Some((name, true)) => tokens.extend(self.each(name)?.into_iter().map(Token::Literal)),
                Some((name, false)) => tokens.push(Token::Literal(plain(self.input(name)?)?)),
                None => match element.as_str() {
                    "*" => tokens.push(Token::One),
                    "**" => tokens.push(Token::Rest),
                    _ => match element.strip_suffix('*') {
                        Some(prefix) => tokens.push(Token::Prefix(self.text(prefix)?)),
                        None => tokens.push(Token::Literal(self.text(element)?)),
                    },
                },
            }
        }
        Some(tokens)
    }

    fn names(&mut self, patterns: &[String]) -> Option<Vec<Name>> {
        let mut names = Vec::new();
        for pattern in patterns {
            match whole_reference(pattern) {
                // A table of variables that is not given gives no variables; the command may still run.
                Some((name, true)) => names.extend(self.each(name).unwrap_or_default().into_iter().map(Name::Exact)),
                Some((_, false)) | None => names.push(self.name(pattern)?),
            }
        }
        Some(names)
    }

    fn name(&mut self, pattern: &str) -> Option<Name> {
        match whole_reference(pattern) {
            Some((name, _)) => Some(Name::Exact(plain(self.input(name)?)?)),
            None => match pattern.strip_suffix('*') {
                Some(prefix) => Some(Name::Prefix(self.text(prefix)?)),
                None => Some(Name::Exact(self.text(pattern)?)),
            },
        }
    }

    fn path(&mut self, pattern: &str) -> Option<Path> {
        let (pattern, below) = match pattern.strip_suffix("/**") {
            Some(top) => (top, true),
            None => (pattern, false),
        };
        let text = self.text(pattern)?;
        // `/**` alone is the whole tree.
        let top = if text.is_empty() { "/".to_owned() } else { normal_path(&text)? };
        Some(Path { top, below })
    }

    /// A text with `${input.NAME}` in it.
    fn text(&mut self, pattern: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = pattern;
        while let Some(start) = rest.find("${input.") {
            out.push_str(&rest[..start]);
            let after = &rest[start + "${input.".len()..];
            let end = after.find('}')?;
            out.push_str(&plain(self.input(&after[..end])?)?);
            rest = &after[end + 1..];
        }
        out.push_str(rest);
        Some(out)
    }
}

/// `${input.NAME}` or `${input.NAME...}` and nothing else: the name, and whether each element is meant.
fn whole_reference(pattern: &str) -> Option<(&str, bool)> {
    let name = pattern.strip_prefix("${input.")?.strip_suffix('}')?;
    if name.contains('}') {
        return None;
    }
    Some(match name.strip_suffix("...") {
        Some(name) => (name, true),
        None => (name, false),
    })
}

/// The literal text of a scalar. A secret has none: it cannot be part of a grant.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl Path {
    fn covers(&self, path: &str) -> bool {
        path == self.top || (self.below && at_or_below(path, &self.top))
    }
}

/// A path without empty and `.` parts; none where it is relative, or has `..` or a NUL in it.
pub fn normal_path(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

/// Whether a text that begins with a path climbs out of it again by `..`.
fn climbs(prefix: &str, text: &str) -> bool {
    let ups = |parts: &str| parts.split('/').filter(|part| *part == "..").count();
    prefix.rsplit_once('/').is_some_and(|(whole, _)| ups(text) > ups(whole))
}

fn argv_matches(tokens: &[Token], argv: &[String]) -> bool {
    let mut arguments = argv.iter();
    for token in tokens {
        if *token == Token::Rest {
            return true;
        }
        let Some(argument) = arguments.next() else { return false };
        let matches = match token {
            Token::Literal(literal) => literal == argument,
            Token::Prefix(prefix) => argument.starts_with(prefix.as_str()) && !climbs(prefix, argument),
            Token::One => !argument.starts_with('-'),
            Token::Rest => true,
        };
        if !matches {
            return false;
        }
    }
    arguments.next().is_none()
}

fn shown(argv: &[String]) -> String {
    let text = format!("{argv:?}");
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
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
