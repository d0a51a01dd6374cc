//! The plugins of the program.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runbook_engine::plugin::{PluginCall, PluginError, Plugins, Road};
use runbook_model::call::{Call, Level, Note, Request, Target};
use runbook_model::manifest::Manifest;
use runbook_packs::{Component, ReadError, Schema};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::time::{timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::bindings::PluginPre;
use crate::call::{Question, Reply, Visit};
use crate::convert;
use crate::engine::GuestThreads;
use crate::limits::Limits;
use crate::load::{self, Cache, Code};
use crate::output::Output;
use crate::pool::{self, Pool};
use crate::preflight::{self, NoRoad};
use crate::state::State;

/// A plugin only prints a constant to describe itself; starting an interpreter takes most of it.
const DESCRIBE: Duration = Duration::from_secs(10);

/// The largest interpreter takes a tenth of it. A compiler cannot be stopped: it goes on until the process ends.
const COMPILE: Duration = Duration::from_secs(3 * 60);

/// How long a person waits without being told what for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lines of a guest's output that go into the journal.
const LOGGED_LINES: usize = 200;

/// How long the journal may take for these lines.
const LOGGING: Duration = Duration::from_secs(5);

/// Post-conditions that are reported as not met.
const MAX_WRONG: usize = 100;

/// How plugins are run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A folder for compiled plugins, private to the user; made where it is missing. None, or one that cannot be used: they
    /// are compiled anew by each process.
    pub cache_dir: Option<PathBuf>,
    /// What one call may use where its action wants nothing else.
    pub limits: Limits,
    /// Bytes of linear memory that all guests at work may have together. None: half of the memory of this machine, or of what this process
    /// may have of it, and at least 256 MiB.
    pub memory_of_all: Option<usize>,
    /// Told the name of a plugin that takes more than a second to compile. It is to say so to a person, and to return at once.
    pub compiling: Option<fn(&str)>,
}

/// Why plugins cannot be run at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The compiler does not start.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// No threads for guests.
    #[error("threads for plugins cannot be started: {0}")]
    Threads(#[from] std::io::Error),
}

/// Why a component is not taken as a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is no plugin.
    #[error("`{name}` is not a plugin: {error}")]
    Read {
        /// The name that was asked for.
        name: String,
        /// What it is instead.
        error: ReadError,
    },
    /// It says that it is another one.
    #[error("`{name}` calls itself `{itself}` in its manifest")]
    Name {
        /// The name that was asked for.
        name: String,
        /// Its own.
        itself: String,
    },
    /// The name is taken by another component.
    #[error("there are two different plugins named `{0}`")]
    Twice(String),
    /// It wants something that is not offered, or lacks something.
    #[error("`{name}` does not fit this version of runbook: {message}")]
    Unfit {
        /// The name that was asked for.
        name: String,
        /// What is wanted and what is offered.
        message: String,
    },
    /// It wants to use more than it could get.
    #[error("`{name}` wants to use too much: {}", .wants.join("; "))]
    Greedy {
        /// The name that was asked for.
        name: String,
        /// Each action and what it wants.
        wants: Vec<String>,
    },
}

/// A plugin as far as it is known without running it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says of itself.
    pub manifest: Manifest,
    /// SHA-256 of the component, lower-case hex.
    pub sha256: String,
    /// What it imports: all that it can reach.
    pub imports: Vec<String>,
}

/// The plugins of the program. Clones are the same host.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<Cache>,
    limits: Limits,
    pool: Arc<Pool>,
    compiling: Option<fn(&str)>,
    threads: GuestThreads,
    plugins: RwLock<BTreeMap<String, Arc<Entry>>>,
}

struct Entry {
    loaded: Arc<Loaded>,
    /// What one call of an action may use, by action.
    limits: BTreeMap<String, Limits>,
    manifest_json: String,
    bytes: Cow<'static, [u8]>,
    /// What it takes to call it.
    ready: OnceCell<PluginPre<State>>,
    /// Schemas of the outputs, by action; compiled when the action gives its first ones.
    outputs: BTreeMap<String, OnceLock<Result<Schema, String>>>,
}

impl Host {
    /// Starts a host without plugins. A cache that cannot be used is only warned of.
    ///
    /// # Errors
    ///
    /// When the engine does not start.
    pub fn new(options: Options) -> Result<Self, StartError> {
        let engine = crate::engine::start().map_err(|error| StartError::Engine(format!("{error:#}")))?;
        let linker = preflight::linker(&engine).map_err(|error| StartError::Engine(format!("{error:#}")))?;
        let cache = options.cache_dir.and_then(|dir| {
            let shown = dir.display().to_string();
            Cache::open(dir).inspect_err(|error| tracing::warn!("compiled plugins are not kept: {shown}: {error}")).ok()
        });
        let threads = GuestThreads::start()?;
        let plugins = RwLock::default();
        let Options { limits, compiling, .. } = options;
        let pool = Arc::new(Pool::new(options.memory_of_all.unwrap_or_else(pool::sensible)));
        Ok(Self(Arc::new(Inner { engine, linker, cache, limits, pool, compiling, threads, plugins })))
    }

    /// Takes a component as the plugin with this name. Reads it, and compares names and versions of what it imports with what
    /// is offered; compiles and runs nothing. Loading the same component again changes nothing.
    ///
    /// # Errors
    ///
    /// When it is no plugin, another one, or does not fit.
    pub fn load(&self, name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Arc<Loaded>, LoadError> {
        self.load_as(name, name, bytes)
    }

    /// [`Host::load`] for a component that calls itself `itself`, and that is known by another name here, in what is loaded of its
    /// manifest, too.
    ///
    /// # Errors
    ///
    /// When it is no plugin, another one, or does not fit.
    pub fn load_as(
        &self,
        name: &str,
        itself: &str,
        bytes: impl Into<Cow<'static, [u8]>>,
    ) -> Result<Arc<Loaded>, LoadError> {
        let bytes = bytes.into();
        let read = runbook_packs::read(&bytes);
        self.take(name.to_owned(), itself, bytes, read)
    }

    /// [`Host::load`] for a component that is part of the program. Its digest comes from the build, and its manifest is not
    /// checked again: a test of the program does that.
    ///
    /// # Errors
    ///
    /// When it is no plugin, another one, or does not fit.
    pub fn load_own(&self, name: &str, bytes: &'static [u8], sha256: &str) -> Result<Arc<Loaded>, LoadError> {
        let read = runbook_packs::read_own(bytes, sha256.to_owned());
        self.take(name.to_owned(), name, Cow::Borrowed(bytes), read)
    }

    fn take(
        &self,
        name: String,
        itself: &str,
        bytes: Cow<'static, [u8]>,
        read: Result<Component, ReadError>,
    ) -> Result<Arc<Loaded>, LoadError> {
        let mut component = match read {
            Ok(component) => component,
            Err(error) => return Err(LoadError::Read { name, error }),
        };
        if component.manifest.name != itself {
            return Err(LoadError::Name { name: itself.to_owned(), itself: component.manifest.name });
        }
        component.manifest.name.clone_from(&name);
        if let Err(message) = preflight::names(&component) {
            return Err(LoadError::Unfit { name, message });
        }
        let limits =
            self.limits(&component.manifest).map_err(|wants| LoadError::Greedy { name: name.clone(), wants })?;
        let (manifest, imports) = (component.manifest, component.imports);
        let loaded = Arc::new(Loaded { manifest, sha256: component.sha256, imports });
        let mut plugins = self.0.plugins.write().unwrap_or_else(PoisonError::into_inner);
        match plugins.get(&name) {
            Some(entry) if entry.loaded.sha256 != loaded.sha256 => return Err(LoadError::Twice(name)),
            Some(_) => {}
            None => {
                let actions = loaded.manifest.actions.iter();
                let entry = Entry {
                    outputs: actions.map(|action| (action.name.clone(), OnceLock::new())).collect(),
                    loaded: Arc::clone(&loaded),
                    limits,
                    manifest_json: component.manifest_json,
                    bytes,
                    ready: OnceCell::new(),
                };
                plugins.insert(name, Arc::new(entry));
            }
        }
        Ok(loaded)
    }

    /// What the actions of a plugin may use; else all that they want too much of.
    fn limits(&self, manifest: &Manifest) -> Result<BTreeMap<String, Limits>, Vec<String>> {
        let (mut limits, mut wants) = (BTreeMap::new(), Vec::new());
        for action in &manifest.actions {
            match self.0.limits.wanted(&action.limits) {
                Ok(given) => drop(limits.insert(action.name.clone(), given)),
                Err(over) => wants.extend(over.into_iter().map(|over| format!("action `{}`: {over}", action.name))),
            }
        }
        if wants.is_empty() { Ok(limits) } else { Err(wants) }
    }

    /// Compiles a plugin or takes it from the cache, compares the types of what it imports and exports, and what it says of
    /// itself with its manifest. To be done for all plugins of a runbook before its first step; otherwise the first call does
    /// it.
    ///
    /// # Errors
    ///
    /// [`PluginError::Unfit`] for what does not fit; what went wrong while it described itself.
    pub async fn prepare(&self, name: &str) -> Result<(), PluginError> {
        let entry = self.entry(name)?;
        self.ready(&entry).await.map(drop)
    }

    /// The plugins, as the engine calls them.
    pub fn plugins(&self) -> Arc<dyn Plugins> {
        Arc::new(self.clone())
    }

    fn entry(&self, name: &str) -> Result<Arc<Entry>, PluginError> {
        let plugins = self.0.plugins.read().unwrap_or_else(PoisonError::into_inner);
        plugins.get(name).cloned().ok_or_else(|| unfit(format!("there is no plugin named `{name}`")))
    }

    async fn ready<'a>(&self, entry: &'a Arc<Entry>) -> Result<&'a PluginPre<State>, PluginError> {
        entry.ready.get_or_try_init(|| self.make_ready(entry)).await
    }

    async fn make_ready(&self, entry: &Arc<Entry>) -> Result<PluginPre<State>, PluginError> {
        let (inner, compiled) = (Arc::clone(&self.0), Arc::clone(entry));
        let mut work = tokio::task::spawn_blocking(move || {
            let code = load::load(&inner.engine, inner.cache.as_ref(), &compiled.loaded.sha256, &compiled.bytes)?;
            let (component, new) = match code {
                Code::Kept(component) => (component, None),
                Code::New(component) => (component.clone(), Some(component)),
            };
            preflight::types(&inner.linker, &component, &compiled.loaded.imports).map(|pre| (pre, new))
        });
        let done = match timeout(PATIENCE, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                if let Some(say) = self.0.compiling {
                    say(&entry.loaded.manifest.name);
                }
                timeout(COMPILE, work)
                    .await
                    .map_err(|_| unfit(format!("compiling it takes longer than {} s", COMPILE.as_secs())))?
            }
        };
        let (pre, new) = done
            .map_err(|error| unfit(format!("internal error while compiling it: {error}")))?
            .map_err(|error| unfit(format!("{error:#}")))?;
        if let Some(component) = new {
            self.describes_itself(entry, &pre).await?;
            let (inner, entry) = (Arc::clone(&self.0), Arc::clone(entry));
            let keep = move || {
                if let Some(cache) = &inner.cache {
                    load::keep(&inner.engine, cache, &entry.loaded.sha256, &component);
                }
            };
            // What became of it is in the log.
            let _ = tokio::task::spawn_blocking(keep).await;
        }
        Ok(pre)
    }

    /// Compares what a plugin says of itself with its manifest. That cannot change while the component stays the same.
    async fn describes_itself(&self, entry: &Entry, pre: &PluginPre<State>) -> Result<(), PluginError> {
        let deadline = Instant::now() + DESCRIBE;
        // Starting takes the same memory whatever is asked afterwards.
        let memory = entry.limits.values().map(|limits| limits.memory).max().unwrap_or(self.0.limits.memory);
        let limits = Limits { memory, ..self.0.limits.clone() };
        let (reply, _) = self.visit(pre.clone(), limits, Arc::new(NoRoad), deadline, Question::Describe).await;
        let Reply::Json(described) = reply? else {
            return Err(unfit("internal error: it answered another question".to_owned()));
        };
        let json = |text: &str| serde_json::from_str::<Value>(text).ok();
        // JSON takes many times its length once it is read.
        let is_short = described.len() <= runbook_packs::MAX_MANIFEST;
        if !is_short || json(&described).is_none_or(|described| json(&entry.manifest_json) != Some(described)) {
            return Err(unfit("what it says of itself (`describe`) is not what its manifest says".to_owned()));
        }
        Ok(())
    }

    /// Makes one call on the threads for guests. When this future is dropped, the guest is too.
    async fn visit(
        &self,
        pre: PluginPre<State>,
        limits: Limits,
        road: Arc<dyn Road>,
        deadline: Instant,
        question: Question,
    ) -> (Result<Reply, PluginError>, Output) {
        let output = Output::default();
        let (pool, home) = (Arc::clone(&self.0.pool), Handle::current());
        let visit = Visit { pre, limits, pool, road, deadline, home, output: output.clone(), question };
        let broke = |message: String| PluginError::Crashed { message };
        let Some(threads) = self.0.threads.handle() else {
            return (Err(broke("internal error: the threads for plugins are gone".to_owned())), output);
        };
        let reply = match AbortOnDropHandle::new(threads.spawn(visit.run())).await {
            Ok(reply) => reply,
            Err(error) => Err(broke(format!("internal error: {error}"))),
        };
        (reply, output)
    }

    fn limits_of<'a>(&'a self, entry: &'a Entry, action: &str) -> &'a Limits {
        entry.limits.get(action).unwrap_or(&self.0.limits)
    }

    async fn call(&self, call: &PluginCall, entry: &Arc<Entry>, question: Question) -> Result<Reply, PluginError> {
        let deadline = tokio::time::Instant::from_std(call.deadline);
        let ready = timeout_at(deadline, self.ready(entry)).await.map_err(|_| PluginError::Limit {
            limit: "time: the step's time was over while the plugin was compiled".to_owned(),
        })??;
        let limits = self.limits_of(entry, &call.action).clone();
        let (reply, output) = self.visit(ready.clone(), limits, Arc::clone(&call.road), call.deadline, question).await;
        // The journal has the lines also where the call failed; a journal that does not take them fails elsewhere, louder.
        let _ = timeout(LOGGING, keep_output(call.road.as_ref(), &output)).await;
        reply
    }
}

#[async_trait]
impl Plugins for Host {
    async fn converge(&self, call: PluginCall) -> Result<Value, PluginError> {
        let entry = self.entry(&call.plugin)?;
        known_action(&entry, &call.action)?;
        let question = Question::Converge { action: call.action.clone(), inputs: call.inputs.to_string() };
        let Reply::Json(text) = self.call(&call, &entry, question).await? else {
            return Err(bad("it answered another question".to_owned()));
        };
        let most = self.limits_of(&entry, &call.action).outputs;
        if text.len() > most {
            return Err(bad(format!("its outputs are larger than {} KiB", most >> 10)));
        }
        let outputs: Value =
            serde_json::from_str(&text).map_err(|error| bad(format!("its outputs are not JSON: {error}")))?;
        if !outputs.is_object() {
            return Err(bad("its outputs are not a JSON object".to_owned()));
        }
        let wrong = entry.wrong_outputs(&call.action, &outputs).map_err(unfit)?;
        if wrong.is_empty() {
            Ok(outputs)
        } else {
            Err(bad(format!("its outputs are not what its manifest says: {}", wrong.join("; "))))
        }
    }

    async fn verify(&self, call: PluginCall) -> Result<Vec<String>, PluginError> {
        let entry = self.entry(&call.plugin)?;
        known_action(&entry, &call.action)?;
        let question = Question::Verify { action: call.action.clone(), inputs: call.inputs.to_string() };
        let Reply::Wrong(mut wrong) = self.call(&call, &entry, question).await? else {
            return Err(bad("it answered another question".to_owned()));
        };
        let more = wrong.len().saturating_sub(MAX_WRONG);
        wrong.truncate(MAX_WRONG);
        let mut wrong: Vec<String> = wrong.into_iter().map(convert::wrong).collect();
        if more > 0 {
            wrong.push(format!("and {more} more"));
        }
        Ok(wrong)
    }
}

impl Entry {
    /// What is wrong with the outputs of an action, in words.
    fn wrong_outputs(&self, action: &str, outputs: &Value) -> Result<Vec<String>, String> {
        let (Some(schema), Some(action)) = (self.outputs.get(action), self.loaded.manifest.action(action)) else {
            return Ok(Vec::new());
        };
        let compile = || Schema::compile(&action.outputs).map_err(|error| error.to_string());
        match schema.get_or_init(compile) {
            Ok(schema) => Ok(schema.violations(outputs)),
            Err(error) => Err(error.clone()),
        }
    }
}

fn known_action(entry: &Entry, action: &str) -> Result<(), PluginError> {
    if entry.loaded.manifest.action(action).is_some() {
        return Ok(());
    }
    Err(unfit(format!("`{}` has no action `{action}`", entry.loaded.manifest.name)))
}

/// Writes what a guest wrote to stdout and stderr into the journal.
async fn keep_output(road: &dyn Road, output: &Output) {
    for message in output.last_lines(LOGGED_LINES) {
        let call = Call::Note(Note::Log { level: Level::Debug, message });
        let _ = road.call(Request { target: Target::Run, call }).await;
    }
}

fn unfit(message: String) -> PluginError {
    PluginError::Unfit { message }
}

fn bad(message: String) -> PluginError {
    PluginError::BadAnswer { message }
}
