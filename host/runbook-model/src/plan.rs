//! The validated runbook: what [`crate::parse::load`] makes of a file that has no mistake.
//!
//! Every name in it is resolved (hosts of a label, predecessors of a step, actions of plugins); what is left open are the
//! templates (`{{ ... }}`) in [`Step::with`] and its neighbours, which [`crate::expr`] renders when their time has come.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::manifest::{Arity, Pattern, Power};

/// A runbook, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Runbook {
    /// Version of the language: 1.
    pub schema: u32,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The file as it was named to [`crate::parse::load`]. Paths on the controller are relative to its folder.
    pub file: String,
    /// SHA-256 of the file's text, lower-case hex.
    pub sha256: String,
    /// What the owner wants of a run.
    pub targets: Targets,
    /// What becomes of the run when a step fails.
    pub on_failure: OnFailure,
    /// The inputs, in the order of the file.
    pub inputs: Vec<InputDef>,
    /// Names with values; the values may hold templates over inputs and over vars above them.
    pub vars: Map<String, Value>,
    /// Plugins that are not part of the program: name to path of the component, relative to the runbook's folder.
    pub plugins: BTreeMap<String, String>,
    /// Packs, whose plugins can be used: name to where it comes from.
    #[serde(default)]
    pub packs: BTreeMap<String, String>,
    /// Plugins of packs that have another name in the runbook: by pack, their own names and those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub renamed: BTreeMap<String, BTreeMap<String, String>>,
    /// The hosts, those of the inventory and of an including runbook among them.
    pub hosts: Vec<Host>,
    /// The clusters, those of the inventory and of an including runbook among them.
    pub clusters: Vec<Cluster>,
    /// The steps, in the order of the file, those of blocks among them; never empty.
    pub steps: Vec<Step>,
    /// The blocks.
    #[serde(default)]
    pub blocks: Vec<Block>,
}

impl Runbook {
    /// The step with this id.
    pub fn step(&self, id: &str) -> Option<&Step> {
        self.steps.iter().find(|s| s.id == id)
    }

    /// The block with this id.
    pub fn block(&self, id: &str) -> Option<&Block> {
        self.blocks.iter().find(|block| block.id == id)
    }

    /// The host with this name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|h| h.name == name)
    }

    /// The cluster with this name.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|c| c.name == name)
    }

    /// The input with this name.
    pub fn input(&self, name: &str) -> Option<&InputDef> {
        self.inputs.iter().find(|i| i.name == name)
    }

    /// Names of the hosts with a label, in the order of the inventory.
    pub fn labelled(&self, label: &str) -> Vec<String> {
        self.hosts.iter().filter(|h| h.labels.iter().any(|l| l == label)).map(|h| h.name.clone()).collect()
    }

    /// The step that an instance is of, after the steps that include it, the outermost first: `outer[item]/inner`. None where there is no
    /// such step.
    pub fn trail(&self, instance: &str) -> Option<Vec<&Step>> {
        let (first, rest) = instance.split_once('/').map_or((instance, None), |(first, rest)| (first, Some(rest)));
        let step = self.step(first.split('[').next().unwrap_or(first))?;
        match (&step.uses, rest) {
            (Uses::Action { .. }, None) => Some(vec![step]),
            (Uses::Include { runbook, .. }, Some(rest)) => Some([vec![step], runbook.trail(rest)?].concat()),
            (Uses::Action { .. }, Some(_)) | (Uses::Include { .. }, None) => None,
        }
    }

    /// This runbook and all that it includes, at any depth.
    pub fn with_includes(&self) -> Vec<&Self> {
        let mut all = vec![self];
        for step in &self.steps {
            if let Uses::Include { runbook, .. } = &step.uses {
                all.extend(runbook.with_includes());
            }
        }
        all
    }

    /// The steps that the step at `index` waits for: those that it `needs`; without `needs` all steps above it. So a step that
    /// does not ask for concurrency never runs beside another one, not even beside one further up that lets others pass.
    pub fn predecessors(&self, index: usize) -> Vec<usize> {
        let Some(step) = self.steps.get(index) else { return Vec::new() };
        match &step.needs {
            None => (0..index).collect(),
            Some(needs) => (0..index).filter(|&i| needs.contains(&self.steps[i].id)).collect(),
        }
    }

    /// [`Runbook::predecessors`] of all steps at once, in time and memory that grow with the length of the file alone.
    pub fn waits(&self) -> Vec<Waits> {
        let mut above = BTreeMap::new();
        let mut waits = Vec::with_capacity(self.steps.len());
        for (index, step) in self.steps.iter().enumerate() {
            waits.push(match &step.needs {
                None => Waits::AllAbove,
                Some(needs) => Waits::For(needs.iter().filter_map(|id| above.get(id.as_str()).copied()).collect()),
            });
            above.insert(step.id.as_str(), index);
        }
        waits
    }
}

/// Steps that belong together: what their changes defer to the end of the block is carried out when all of them have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its id.
    pub id: String,
    /// The place of its first step.
    pub first: usize,
    /// The place behind its last step.
    pub end: usize,
    /// Expression: its steps run only where this holds.
    pub when: Option<String>,
    /// Expression: its steps run only where this does not hold.
    pub unless: Option<String>,
    /// What becomes of it when a step of it fails.
    pub on_failure: BlockOnFailure,
    /// Why it is there, for a person.
    pub why: Option<String>,
}

/// What becomes of a block when a step of it fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockOnFailure {
    /// Its changes are taken back, its deferred changes carried out on the way.
    #[default]
    Undo,
    /// Its deferred changes are carried out; what was done stays.
    Release,
    /// Everything stays as it is, until a person has looked.
    Hold,
}

/// What a step waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// All steps above it.
    AllAbove,
    /// These steps, by their places.
    For(Vec<usize>),
}

/// What the owner wants of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Recovery time objective: how long a run may take, in milliseconds.
    pub rto_ms: Option<u64>,
}

/// What becomes of a run when a step fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It ends; what was done stays.
    #[default]
    Stop,
    /// The failed step is undone.
    UndoStep,
    /// All steps are undone.
    UndoRun,
}

/// An input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputDef {
    /// Its name: `inputs.NAME`.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: InputType,
    /// Used where nobody gives a value. Of the right type; none: the input must be given.
    pub default: Option<Value>,
    /// For the person who is asked for it.
    pub description: Option<String>,
    /// Where the value is read, if `--var` does not say it.
    pub from: Option<InputFrom>,
    /// The only values that it may have; empty: any.
    pub choices: Vec<Value>,
}

/// What an input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputType {
    /// Text.
    String,
    /// A number.
    Number,
    /// A number without fraction.
    Integer,
    /// True or false.
    Bool,
    /// A list.
    List,
    /// A table.
    Map,
    /// Text that is never shown, written or handed to a plugin.
    Secret,
}

impl InputType {
    /// As it is written in a runbook.
    pub fn word(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Bool => "bool",
            Self::List => "list",
            Self::Map => "map",
            Self::Secret => "secret",
        }
    }

    /// The type with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::String, Self::Number, Self::Integer, Self::Bool, Self::List, Self::Map, Self::Secret]
            .into_iter()
            .find(|t| t.word() == word)
    }
}

/// Where an input's value is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputFrom {
    /// From this environment variable.
    Env(String),
    /// From this file; one newline at its end is left out.
    File(String),
    /// From this file, decrypted by age.
    Age {
        /// The encrypted file.
        file: String,
        /// The identity file; age's own default where left out.
        identity: Option<String>,
    },
    /// From the standard output of this program, run on the controller; one newline at its end is left out.
    Command(Vec<String>),
    /// From the person at the terminal, asked with this text.
    Prompt(String),
}

/// How a host is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// By SSH.
    #[default]
    Ssh,
    /// It is the machine that the program runs on.
    Local,
    /// It has an API alone; nothing runs on it.
    None,
}

/// A host. Texts marked T may hold templates over inputs and vars: [`crate::resolve::host`] renders them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Its name, under which its key is looked up first.
    pub name: String,
    /// Tried in this order (T). Empty for `local` and `none`.
    pub addresses: Vec<String>,
    /// Where left out: what the SSH configuration says, else 22.
    pub port: Option<u16>,
    /// Where left out: what the SSH configuration says, else the name of the user here (T).
    pub user: Option<String>,
    /// Private key, relative to the runbook's folder (T).
    pub identity_file: Option<String>,
    /// File of host keys to use instead of the user's (T).
    pub known_hosts: Option<String>,
    /// The one key to accept: `SHA256:...` (T).
    pub host_key: Option<String>,
    /// Name of the host to connect through.
    pub jump: Option<String>,
    /// How changes that need root get it.
    #[serde(rename = "become")]
    pub elevation: Become,
    /// Groups that it belongs to.
    pub labels: Vec<String>,
    /// `host.vars.NAME` (T).
    pub vars: Map<String, Value>,
    /// How it is reached.
    pub transport: Transport,
    /// Name of the host from which the API of this one is reached.
    pub via: Option<String>,
    /// Id of the step before which it does not exist.
    pub created_by: Option<String>,
}

/// How changes that need root get it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Become {
    /// By which program.
    pub method: BecomeMethod,
    /// Its password: a template; after [`crate::resolve::host`] a string, `{"$secret": ..}` or `{"$text": ..}`. None: it asks for none.
    pub password: Option<Value>,
}

/// By which program root is got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BecomeMethod {
    /// By none: the user's own rights.
    #[default]
    None,
    /// By sudo.
    Sudo,
}

/// A Kubernetes cluster. Texts marked T may hold templates over inputs and vars: [`crate::resolve::cluster`] renders them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// How to find and enter it.
    pub kubeconfig: Kubeconfig,
    /// Context of the kubeconfig; its current one where left out (T).
    pub context: Option<String>,
    /// URL to use instead of the one in the kubeconfig (T).
    pub server: Option<String>,
    /// Name of the host through which its API is reached.
    pub via: Option<String>,
    /// UID of its kube-system namespace; another cluster is refused (T).
    pub uid: Option<String>,
    /// Id of the step before which it does not exist.
    pub created_by: Option<String>,
}

/// How to find and enter a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kubeconfig {
    /// A file here, relative to the runbook's folder; may begin with `~/` (T).
    File(String),
    /// What a command prints.
    Host {
        /// The hosts to try, in this order; never empty.
        hosts: Vec<String>,
        /// Program and arguments (T).
        command: Vec<String>,
        /// With the rights of `become`.
        privileged: bool,
    },
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its id, unique in its runbook.
    pub id: String,
    /// What it does.
    pub uses: Uses,
    /// The machines, by role of the action; empty where the action needs none, and for an include.
    pub on: Vec<RoleOn>,
    /// Name of the cluster.
    pub cluster: Option<String>,
    /// The action's inputs, or those of the included runbook: an object, with templates.
    pub with: Value,
    /// The steps that it waits for; none: all steps above it. See [`Runbook::predecessors`].
    pub needs: Option<Vec<String>>,
    /// Expression: it runs only where this holds.
    pub when: Option<String>,
    /// Expression: it runs only where this does not hold.
    pub unless: Option<String>,
    /// Runs once for each element, in order: a list with templates, or a template that gives a list or a table. The
    /// elements of a table are `{"key": .., "value": ..}`.
    pub for_each: Option<Value>,
    /// Expression that names the instances of `for_each`; their position from 0 where left out.
    pub key: Option<String>,
    /// How many hosts at once; none: no limit.
    pub serial: Option<u32>,
    /// What to do when it fails.
    pub retry: Option<Retry>,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// What to do when a host does not answer.
    pub on_unreachable: OnUnreachable,
    /// What becomes of the run when it fails on a host.
    pub on_failure: StepOnFailure,
    /// What a person must agree to before it changes something.
    pub confirm: Option<Confirm>,
    /// The block that it stands in.
    #[serde(default)]
    pub block: Option<String>,
    /// The receipt without which it changes nothing.
    #[serde(default)]
    pub needs_receipt: Option<NeedsReceipt>,
    /// Whether it takes part in undo.
    pub undo: UndoMode,
    /// Why it is there, for a person.
    pub why: Option<String>,
    /// What to do by hand instead.
    pub manual: Option<String>,
    /// What the owner lets it do.
    pub allow: Allow,
    /// Line of the file where it begins, from 1.
    pub line: u32,
}

impl Step {
    /// The machines of this role.
    pub fn role(&self, role: &str) -> Option<&On> {
        self.on.iter().find(|r| r.role == role).map(|r| &r.on)
    }

    /// The role that it fans out over: one instance for each of these hosts.
    pub fn fan_out(&self) -> Option<&RoleOn> {
        self.on.iter().find(|r| r.arity == Arity::Each)
    }

    /// The role whose machine is `host` in its expressions: the one that it fans out over, else the only one that takes
    /// exactly one machine.
    pub fn host_role(&self) -> Option<&RoleOn> {
        self.fan_out().or_else(|| {
            let mut ones = self.on.iter().filter(|r| r.arity == Arity::One);
            ones.next().filter(|_| ones.next().is_none())
        })
    }

    /// Names of all hosts that it may touch, each once.
    pub fn hosts(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        self.on.iter().flat_map(|r| r.on.candidates()).filter(|name| seen.insert(*name)).cloned().collect()
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uses {
    /// An action of a plugin. Both exist.
    Action {
        /// First half of `uses`.
        plugin: String,
        /// Second half of `uses`.
        action: String,
    },
    /// Another runbook.
    Include {
        /// The file, relative to the including runbook's folder, as it is written.
        file: String,
        /// The runbook in it; its hosts and clusters contain those of the including one.
        runbook: Box<Runbook>,
    },
}

impl std::fmt::Display for Uses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Action { plugin, action } => write!(f, "{plugin}/{action}"),
            Self::Include { file, .. } => f.write_str(file),
        }
    }
}

/// The machines that a step gives to one role of its action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleOn {
    /// The role's name in the manifest.
    pub role: String,
    /// How many machines it takes, as the manifest says.
    pub arity: Arity,
    /// The machines.
    pub on: On,
}

/// Some machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// These hosts, each once; never empty.
    Static(Vec<String>),
    /// Those that an expression gives, by their names: a string or a list of strings.
    Expression {
        /// A template that is one whole expression.
        expr: String,
        /// The hosts of the label in `among`: what the expression gives must be one of them.
        among: Vec<String>,
    },
}

impl On {
    /// The hosts that it may come to.
    pub fn candidates(&self) -> &[String] {
        match self {
            Self::Static(hosts) | Self::Expression { among: hosts, .. } => hosts,
        }
    }
}

/// A receipt that must be there before something is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeedsReceipt {
    /// Of what sort: "backup".
    pub kind: String,
    /// Of what, a template; none: of anything.
    #[serde(default)]
    pub subject: Option<String>,
    /// How old it may be, in milliseconds; none: of any age.
    #[serde(default)]
    pub max_age_ms: Option<u64>,
    /// What it is a proof of must not lie on a machine of the step.
    #[serde(default)]
    pub off_host: bool,
}

/// Attempts after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// Wait before the second attempt, in milliseconds.
    pub backoff_ms: u64,
}

/// What to do when a host does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnreachable {
    /// The step fails there.
    #[default]
    Stop,
    /// The step is skipped there.
    Skip,
    /// Wait for it, until the step's timeout.
    Wait,
}

/// What becomes of the run when a step fails on a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOnFailure {
    /// Hosts that are at work finish this step, no new one starts, the run stops.
    #[default]
    Stop,
    /// All hosts and all later steps are tried.
    Continue,
}

/// Whether a step takes part in undo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoMode {
    /// It is undone where an undo comes to it.
    #[default]
    Auto,
    /// It is left as it is.
    None,
}

/// What a person must agree to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// The question, a template.
    pub text: String,
    /// What must be typed, a template; none: yes or no.
    pub typed: Option<String>,
}

/// What the owner lets a step do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allow {
    /// The step does not say.
    #[default]
    Unsaid,
    /// All that the plugin asks for.
    Asked,
    /// This alone.
    Only(Vec<Permit>),
}

/// One thing that the owner lets a step do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// Which call.
    pub call: Power,
    /// What it may touch; says nothing: whatever the plugin asks for with this call.
    pub on: Pattern,
    /// With the rights of `become` too.
    pub privileged: bool,
}
