//! Cases: a runbook, and the world that it runs in.

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_engine::scope::Inputs;
use runbook_model::diagnostic::Diagnostic;
use runbook_model::expr::Scope;
use runbook_model::parse::{self, Catalog};
use runbook_model::plan::{InputType, Runbook};
use runbook_model::{delta, inputs, resolve};
use runbook_world::State;
use runbook_world::file::{self, FileError, Sabotage};

/// Where the runbook of a case lies, as its plugins see it.
pub(crate) const FOLDER: &str = "/case";

/// A runbook, and the world that it runs in.
pub struct Case {
    /// Its name.
    pub name: String,
    pub(crate) runbook: Runbook,
    pub(crate) world: State,
    pub(crate) sabotage: Vec<Sabotage>,
    /// Harm that need not be noticed, and why.
    pub(crate) unnoticed: BTreeMap<String, String>,
    pub(crate) inputs: Inputs,
    /// Made up for the case.
    pub(crate) secrets: BTreeMap<String, String>,
}

/// A case that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// Its runbook has mistakes.
    #[error("the runbook of the case has mistakes")]
    Runbook(Vec<Diagnostic>),
    /// Its world has.
    #[error("the world of the case: {0}")]
    World(#[from] FileError),
    /// An expression in its inventory has no value.
    #[error("the inventory of the case: {0}")]
    Inventory(String),
}

/// A case is one file.
struct Alone;

impl parse::Files for Alone {
    fn read(&self, path: &str) -> Result<String, String> {
        Err(format!("a case is one file, and cannot read {path}"))
    }
}

impl Case {
    /// Reads a case. Inputs get their defaults; secrets get values that are made up.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(name: &str, file: &str, runbook: &str, world: &str, catalog: &dyn Catalog) -> Result<Self, CaseError> {
        let (loaded, diagnostics) = parse::load(file, runbook, &Alone, catalog);
        let runbook = loaded.ok_or(CaseError::Runbook(diagnostics))?;
        let file::Read { state: world, sabotage, unnoticed } = file::read(world)?;
        let made_up = |def: &&runbook_model::plan::InputDef| def.kind == InputType::Secret;
        let read = runbook.inputs.iter().filter(made_up).map(|def| (def.name.clone(), Ok(secret(&def.name))));
        let resolved = inputs::resolve(&runbook.inputs, &BTreeMap::new(), &read.collect());
        let resolved = resolved.map_err(CaseError::Runbook)?;
        let mut scope = Scope { inputs: resolved.values, ..Scope::default() };
        let wrong = |error: runbook_model::expr::ExprError| CaseError::Inventory(error.to_string());
        resolve::vars(&runbook, &mut scope).map_err(wrong)?;
        let hosts = runbook.hosts.iter().map(|host| Ok(resolve::view(&resolve::host(host, &scope)?, None)));
        let hosts = hosts.collect::<Result<_, _>>().map_err(wrong)?;
        let inputs = Inputs { values: scope.inputs, vars: scope.vars, hosts: Arc::new(hosts), ..Inputs::default() };
        Ok(Self { name: name.to_owned(), runbook, world, sabotage, unnoticed, inputs, secrets: resolved.secrets })
    }

    /// The actions that it uses, as "plugin/action".
    pub fn actions(&self) -> Vec<String> {
        let steps = self.runbook.steps.iter().filter_map(|step| match &step.uses {
            runbook_model::plan::Uses::Action { plugin, action } => Some(format!("{plugin}/{action}")),
            runbook_model::plan::Uses::Include { .. } => None,
        });
        steps.collect()
    }
}

/// A value that stands nowhere by chance.
fn secret(name: &str) -> String {
    format!("Mxq{}", &delta::sha256(name.as_bytes())[..20])
}
