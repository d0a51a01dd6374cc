//! Loading a runbook with its inventory and its includes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::diagnostic::{Diagnostic, Source, has_errors};
use crate::manifest::Manifest;
use crate::pack_source::PackSource;
use crate::parse::inventory::{self, Inventory};
use crate::parse::names::{Known, Names};
use crate::parse::steps;
use crate::plan::{Block, Cluster, Host, InputDef, Runbook};
use crate::schema::node::{self, Node, table_to_json};
use crate::schema::read::{Reading, Spanned};
use crate::schema::{v1, v1_block, v1_packs};

/// Runbooks that include one another deeper than this are a mistake.
const MAX_DEPTH: usize = 8;

/// Mistakes that may only be the consequence of a syntax error in the same file.
const CONSEQUENCES: [&str; 10] = [
    "not-a-list",
    "missing-key",
    "unknown-key",
    "undefined-name",
    "undefined-host",
    "undefined-cluster",
    "undefined-step",
    "missing-input",
    "role",
    "needs-order",
];

/// Reads the files that a runbook names.
pub trait Files {
    /// The text of a file, by its path as [`join_path`] gives it.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, in words.
    fn read(&self, path: &str) -> Result<String, String>;
}

/// The plugins that there are.
pub trait Catalog {
    /// The manifest of a plugin; those of `[plugins]` and of packs among them.
    fn manifest(&self, plugin: &str) -> Option<&Manifest>;

    /// The names of all plugins.
    fn names(&self) -> Vec<String>;

    /// Whether a plugin is part of the program.
    fn is_builtin(&self, plugin: &str) -> bool {
        let _ = plugin;
        false
    }
}

/// Loads a runbook: the runbook if nothing is wrong with it, and all that is to be said of it, warnings too.
///
/// `file_name` is the path of the file as diagnostics show it; paths in the file are relative to its folder.
pub fn load(
    file_name: &str,
    text: &str,
    files: &dyn Files,
    catalog: &dyn Catalog,
) -> (Option<Runbook>, Vec<Diagnostic>) {
    Document::parse(file_name, text.to_owned()).load(files, catalog)
}

/// A file that was read and not yet checked. Loads a runbook in two steps, for a caller that first has to see which plugins it
/// mentions; [`load`] does both.
#[derive(Debug)]
pub struct Document {
    source: Arc<Source>,
    root: Node,
    /// What cannot be read of it.
    errors: Vec<Diagnostic>,
}

/// What a runbook and those that it includes name of plugins. What is wrong with the names is left for [`load`] to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mentions {
    /// The plugins whose actions are used, whether they exist or not.
    pub plugins: BTreeSet<String>,
    /// The components of `[plugins]`.
    pub components: BTreeSet<Component>,
    /// The packs of `[packs]`.
    pub packs: BTreeSet<PackMention>,
}

impl Document {
    /// Reads a text. Its mistakes are told by [`Document::load`].
    pub fn parse(file_name: &str, text: String) -> Self {
        let source = Arc::new(Source::new(file_name, text));
        let (root, errors) = node::parse(&source);
        Self { source, root, errors }
    }

    /// The plugins that it mentions, to be made known to the catalog of [`Document::load`].
    pub fn mentions(&self, files: &dyn Files) -> Mentions {
        let mut found = Mentions::default();
        self.gather(files, 0, &mut found);
        found
    }

    fn gather(&self, files: &dyn Files, depth: usize, found: &mut Mentions) {
        for entry in self.table("plugins") {
            if let Some(path) = entry.value.as_str() {
                let path = join_path(&self.source.name, path);
                found.components.insert(Component { name: entry.key.clone(), path });
            }
        }
        for entry in self.table("packs") {
            let source = entry.value.as_str().or_else(|| entry.value.entry("source")?.value.as_str());
            if let Some(source) = source {
                let source = join_source(&self.source.name, source);
                let rename = v1_packs::rename_of(&entry.value);
                found.packs.insert(PackMention { name: entry.key.clone(), source, rename });
            }
        }
        let Some(node::Data::List(steps)) = self.root.entry("step").map(|e| &e.value.data) else { return };
        let inner = |step: &node::Node| match step.entry("do").map(|e| &e.value.data) {
            Some(node::Data::List(steps)) => steps.clone(),
            _ => Vec::new(),
        };
        let of_blocks: Vec<node::Node> = steps.iter().flat_map(inner).collect();
        for step in steps.iter().chain(&of_blocks) {
            if let Some(uses) = step.entry("uses").and_then(|e| e.value.as_str()) {
                let plugin = uses.split_once('/').map_or(uses, |(plugin, _)| plugin);
                if !found.plugins.contains(plugin) {
                    found.plugins.insert(plugin.to_owned());
                }
            }
            if let Some(file) = step.entry("include").and_then(|e| e.value.as_str())
                && depth < MAX_DEPTH
            {
                let path = join_path(&self.source.name, file);
                if let Ok(text) = files.read(&path) {
                    Self::parse(&path, text).gather(files, depth + 1, found);
                }
            }
        }
    }

    /// The entries of a table.
    fn table(&self, key: &str) -> &[node::Entry] {
        self.root.entry(key).and_then(|e| e.value.as_table()).unwrap_or_default()
    }

    /// Checks it: the runbook if nothing is wrong with it, and all that is to be said of it, warnings too.
    pub fn load(self, files: &dyn Files, catalog: &dyn Catalog) -> (Option<Runbook>, Vec<Diagnostic>) {
        let loader = Loader {
            files,
            catalog,
            out: RefCell::default(),
            order: RefCell::default(),
            torn: RefCell::default(),
            components: RefCell::default(),
            packs: RefCell::default(),
        };
        let runbook = loader.file(self, None, &mut Vec::new());
        let diagnostics = loader.finish();
        (runbook.filter(|_| !has_errors(&diagnostics)), diagnostics)
    }
}

/// A component that a runbook names in `[plugins]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Component {
    /// Name of the plugin.
    pub name: String,
    /// Path of the component, as [`join_path`] gives it.
    pub path: String,
}

/// A pack that a runbook names in `[packs]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackMention {
    /// Its name in the runbook.
    pub name: String,
    /// Where it comes from, as [`join_source`] gives it.
    pub source: String,
    /// Plugins of it that have another name in the runbook: their own names, and those.
    pub rename: BTreeMap<String, String>,
}

impl PackMention {
    /// The name that a plugin of the pack has in the runbook.
    pub fn name_of<'a>(&'a self, plugin: &'a str) -> &'a str {
        self.rename.get(plugin).map_or(plugin, String::as_str)
    }
}

/// The source of a pack that stands in a file: a path is seen as [`join_path`] sees it.
pub fn join_source(file: &str, source: &str) -> String {
    match PackSource::parse(source) {
        Ok(PackSource::Path(path)) => {
            let joined = join_path(file, &path);
            // It must still be told from a name.
            if joined.starts_with(['.', '/', '~']) { joined } else { format!("./{joined}") }
        }
        Ok(PackSource::Stored(_)) | Err(_) => source.to_owned(),
    }
}

/// A path that stands in a file, as seen from where that file is seen: relative ones begin at the file's folder.
pub fn join_path(file: &str, path: &str) -> String {
    if path.starts_with('/') || path.starts_with('~') {
        return path.to_owned();
    }
    let path = path.strip_prefix("./").unwrap_or(path);
    match file.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{path}"),
        None => path.to_owned(),
    }
}

/// What an included runbook sees of the one that includes it.
pub(super) struct Outer<'o> {
    /// Its hosts.
    pub(super) hosts: &'o [Host],
    /// Its clusters.
    pub(super) clusters: &'o [Cluster],
    /// The path of the included file from the folder of the outermost runbook.
    pub(super) path: String,
}

/// One loading, all files of it.
pub(super) struct Loader<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) catalog: &'a dyn Catalog,
    pub(super) out: RefCell<Vec<Diagnostic>>,
    /// Files in the order in which they were met.
    order: RefCell<Vec<String>>,
    /// Files with syntax errors.
    torn: RefCell<BTreeSet<String>>,
    /// The components that `[plugins]` of all files name.
    components: RefCell<BTreeMap<String, String>>,
    /// The packs that `[packs]` of all files name.
    packs: RefCell<BTreeMap<String, String>>,
}

impl<'a> Loader<'a> {
    /// Takes the tree of a file. None: it is of another version of the language.
    pub(super) fn tree(&self, document: Document, schema_required: bool) -> (Option<Node>, Reading<'_>) {
        let Document { source, root, errors } = document;
        self.order.borrow_mut().push(source.name.clone());
        if errors.iter().any(|e| e.code == "syntax") {
            self.torn.borrow_mut().insert(source.name.clone());
        }
        self.out.borrow_mut().extend(errors);
        let reading = Reading { source, out: &self.out };
        let readable = v1::check_schema(&reading, &root, schema_required);
        (readable.then_some(root), reading)
    }

    /// Loads one runbook. `above`: the files that include it.
    pub(super) fn file(
        &self,
        document: Document,
        outer: Option<&Outer<'_>>,
        above: &mut Vec<String>,
    ) -> Option<Runbook> {
        let (root, reading) = self.tree(document, true);
        let file = v1::read_file(&reading, &root?);
        above.push(reading.source.name.clone());
        let runbook = self.assemble(&reading, file, outer, above);
        above.pop();
        runbook
    }

    fn assemble(
        &self,
        r: &Reading<'_>,
        file: v1::File,
        outer: Option<&Outer<'_>>,
        above: &mut Vec<String>,
    ) -> Option<Runbook> {
        let inputs: Vec<InputDef> = file.inputs.iter().map(|i| i.def.clone()).collect();
        if outer.is_some() {
            for input in
                file.inputs.iter().filter(|i| matches!(&i.def.from, Some(from) if !is_implied_prompt(from, &i.def)))
            {
                let message = format!(
                    "`from` of `{}` is not used here, because another runbook includes this one",
                    input.def.name
                );
                let diagnostic =
                    Diagnostic::warning("unused", message).help("the including step gives the value in `with`");
                r.report(&input.span, diagnostic);
            }
        }
        let secrets = RefCell::default();
        let known = Known { inputs: &inputs, vars: &file.vars, secrets: &secrets };
        for (index, entry) in file.vars.iter().enumerate() {
            let names = Names::of_values(&known, index);
            names.check_value(r, &entry.value, true);
        }
        let Inventory { hosts, clusters } = inventory::assemble(self, r, &file, &known, outer);
        self.check_plugins(r, &file);
        let named = |all: &[v1_packs::Named]| all.iter().map(|(n, v)| (n.value.clone(), v.value.clone())).collect();
        let plugins: BTreeMap<String, String> = named(&file.plugins);
        let renaming = file.packs.iter().filter(|pack| !pack.rename.is_empty());
        let world = steps::World {
            loader: self,
            r,
            known: &known,
            hosts: &hosts,
            clusters: &clusters,
            plugins: &plugins,
            outer,
        };
        let plan_steps = world.steps(&file.steps, &file.blocks, above);
        inventory::check_creators(r, &file, &plan_steps);
        Some(Runbook {
            schema: 1,
            name: file.name?,
            description: file.description,
            file: r.source.name.clone(),
            sha256: hex::encode(Sha256::digest(r.source.text.as_bytes())),
            targets: file.targets,
            on_failure: file.on_failure,
            vars: table_to_json(&file.vars),
            hosts: inventory::without_foreign_creators(hosts, &plan_steps),
            clusters: inventory::clusters_without_foreign_creators(clusters, &plan_steps),
            plugins,
            packs: file.packs.iter().map(|pack| (pack.name.value.clone(), pack.source.value.clone())).collect(),
            renamed: renaming.map(|pack| (pack.name.value.clone(), named(&pack.rename))).collect(),
            blocks: file.blocks.iter().map(block).collect(),
            steps: plan_steps,
            inputs,
        })
    }

    fn check_plugins(&self, r: &Reading<'_>, file: &v1::File) {
        let renamed = || file.packs.iter().flat_map(|pack| pack.rename.iter().map(|(_, name)| name));
        let given = file.plugins.iter().map(|(name, _)| name);
        for name in given.clone().chain(renamed()).filter(|name| self.catalog.is_builtin(&name.value)) {
            let message = format!("the plugin `{}` is part of the program and cannot be replaced", name.value);
            r.report(&name.span, Diagnostic::error("conflict", message).help("give yours another name"));
        }
        let mut taken: BTreeSet<&str> = given.map(|name| name.value.as_str()).collect();
        for name in renamed() {
            if !taken.insert(&name.value) {
                let message = format!("there is a plugin `{}` already", name.value);
                let help = "a name stands for one plugin in the whole run";
                r.report(&name.span, Diagnostic::error("conflict", message).help(help));
            }
        }
        for (name, path) in &file.plugins {
            self.once("plugin", r, name, join_path(&r.source.name, &path.value), &self.components);
        }
        for pack in &file.packs {
            let mut is = join_source(&r.source.name, &pack.source.value);
            is.extend(pack.rename.iter().map(|(plugin, name)| format!(", `{}` as `{}`", plugin.value, name.value)));
            self.once("pack", r, &pack.name, is, &self.packs);
        }
    }

    /// A name stands for one thing in all files.
    fn once(
        &self,
        what: &str,
        r: &Reading<'_>,
        name: &Spanned<String>,
        path: String,
        known: &RefCell<BTreeMap<String, String>>,
    ) {
        let mut known = known.borrow_mut();
        let first = known.entry(name.value.clone()).or_insert_with(|| path.clone());
        if *first != path {
            let message = format!(
                "the {what} `{}` is {first} already, in the runbook that includes this one or beside it",
                name.value
            );
            let help = match what {
                "pack" => "a name stands for one pack in the whole run",
                _ => "a name stands for one component in the whole run",
            };
            r.report(&name.span, Diagnostic::error("conflict", message).help(help));
        }
    }

    /// Loads an included runbook; says why where it cannot.
    pub(super) fn include(
        &self,
        r: &Reading<'_>,
        file: &Spanned<String>,
        outer: &Outer<'_>,
        above: &mut Vec<String>,
    ) -> Option<Runbook> {
        let path = join_path(&r.source.name, &file.value);
        if above.contains(&path) || above.len() >= MAX_DEPTH {
            let chain: Vec<&str> = above.iter().map(String::as_str).chain([path.as_str()]).collect();
            let message = if above.contains(&path) {
                "a runbook includes itself"
            } else {
                "runbooks include one another too deeply"
            };
            r.report(&file.span, Diagnostic::error("cycle", format!("{message}: {}", chain.join(" -> "))));
            return None;
        }
        match self.files.read(&path) {
            Ok(text) => self.file(Document::parse(&path, text), Some(outer), above),
            Err(reason) => {
                r.report(
                    &file.span,
                    Diagnostic::error("unreadable", format!("cannot read the runbook {path}: {reason}")),
                );
                None
            }
        }
    }

    /// All diagnostics, in the order of files and places, each once.
    fn finish(self) -> Vec<Diagnostic> {
        let mut all = self.out.into_inner();
        let order = self.order.into_inner();
        let torn = self.torn.into_inner();
        all.retain(|d| !(CONSEQUENCES.contains(&d.code) && d.file.as_ref().is_some_and(|f| torn.contains(&f.name))));
        let place = |d: &Diagnostic| {
            let file = d.file.as_ref().and_then(|f| order.iter().position(|o| *o == f.name));
            (file, d.span.start, d.span.end)
        };
        all.sort_by_key(place);
        let mut kept: Vec<Diagnostic> = Vec::with_capacity(all.len());
        for diagnostic in all {
            if !kept.iter().rev().take_while(|k| k.span == diagnostic.span).any(|k| *k == diagnostic) {
                kept.push(diagnostic);
            }
        }
        kept
    }
}

fn block(block: &v1_block::Block) -> Block {
    let text = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.value.clone());
    Block {
        id: block.id.value.clone(),
        first: block.steps.start,
        end: block.steps.end,
        when: text(&block.when),
        unless: text(&block.unless),
        on_failure: block.on_failure,
        why: block.why.clone(),
    }
}

fn is_implied_prompt(from: &crate::plan::InputFrom, def: &InputDef) -> bool {
    matches!(from, crate::plan::InputFrom::Prompt(_)) && def.kind == crate::plan::InputType::Secret
}
