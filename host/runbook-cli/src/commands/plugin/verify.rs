//! `runbook plugin verify`: the laws, tried in the cases of a plugin.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook_engine::run::Actions;
use runbook_laws::{Breach, Case, CaseError, Harness, Judgement, Law};
use runbook_model::consent::Consent;
use runbook_model::exit_code;
use runbook_model::manifest::{Action, Manifest};
use runbook_model::parse::{Component, Mentions};

use super::project::Project;
use crate::args;
use crate::catalog::Catalog;
use crate::display::{Styles, print, safe};
use crate::error::CliError;
use crate::session;
use crate::standard::STANDARD;

/// Bytes of a case.
const LARGEST: u64 = runbook_laws::LARGEST_CASE as u64;

/// A plugin under test, and where its cases lie.
struct Subject {
    name: String,
    catalog: Arc<Trusted>,
    cases: PathBuf,
}

/// Tries the laws in all cases.
pub(crate) async fn run(args: &args::Laws) -> Result<u8, CliError> {
    let subject = Subject::find(args)?;
    let laws = laws(args)?;
    let cases = subject.read(args)?;
    for plugin in used(&cases) {
        subject.catalog.0.host().prepare(&plugin).await.map_err(CliError::refused)?;
    }
    let actions = Arc::clone(&subject.catalog) as Arc<dyn Actions>;
    let harness = Arc::new(Harness::new(subject.catalog.0.host().plugins(), actions, args.at.clone()));
    let uncovered = subject.uncovered(&cases);
    let mut table = Table::new(&laws, &cases);
    let (mut under_way, mut waiting) = (tokio::task::JoinSet::new(), cases.into_iter().enumerate());
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    loop {
        while under_way.len() < at_once
            && let Some((number, case)) = waiting.next()
        {
            let (harness, laws) = (Arc::clone(&harness), laws.clone());
            under_way.spawn(async move {
                let told = |law: Law, judgement: &Judgement| super::say(&progress(&case.name, law, judgement));
                (number, harness.judge(&case, &laws, &told).await)
            });
        }
        match under_way.join_next().await {
            None => break,
            Some(Ok((number, judged))) => table.rows[number].1 = judged,
            Some(Err(error)) => return Err(CliError::internal(format!("a case: {error}"))),
        }
    }
    table.print();
    let (held, broken, unjudged) = table.count();
    let again = |case: &str, law: Law, breach: &Breach| subject.again(args, case, law, breach);
    table.explain(&again);
    if args.case.is_none() && !uncovered.is_empty() {
        print(&format!("not judged, since no case uses it: {}", uncovered.join(", ")));
    }
    let word = match (broken, unjudged) {
        (0, 0) => "kept",
        (0, _) => "incomplete",
        _ => "broken",
    };
    print(&format!("{word}: {held} hold, {unjudged} not judged, {broken} broken"));
    Ok(if broken > 0 { exit_code::STEP_FAILED } else { exit_code::SUCCESS })
}

impl Subject {
    fn find(args: &args::Laws) -> Result<Self, CliError> {
        let plugins = STANDARD.iter().map(|plugin| plugin.name.to_owned()).collect();
        let mut mentions = Mentions { plugins, ..Mentions::default() };
        let path = Path::new(&args.plugin);
        let (name, beside) = if path.join("plugin.toml").is_file() {
            let project = Project::open(path)?;
            let component = project.component();
            if crate::standard::find(&project.name).is_none() {
                mentions.components.insert(component_of(&project.name, &component));
            }
            (project.name.clone(), Some(project.dir))
        } else if args.plugin.ends_with(".wasm") || path.is_file() {
            let name = super::inspect::read(path)?.manifest.name;
            mentions.components.insert(component_of(&name, path));
            (name, path.parent().map(Path::to_path_buf))
        } else {
            (args.plugin.clone(), None)
        };
        let catalog = Catalog::of_project(&mentions)?;
        if catalog.loaded(&name).is_none() {
            return Err(CliError::usage(format!("there is no plugin `{name}`"))
                .hint("give a plugin of the program, the folder of a project, or the path of a component"));
        }
        let cases = args.cases.clone().or_else(|| beside.map(|folder| folder.join("cases"))).ok_or_else(|| {
            CliError::usage(format!("where are the cases of `{name}`?"))
                .hint("--cases DIR names the folder of its cases; in a project it is cases/")
        })?;
        Ok(Self { name, catalog: Arc::new(Trusted(catalog)), cases })
    }

    /// The cases: `NAME.toml`, with `NAME.world.toml` beside it.
    fn read(&self, args: &args::Laws) -> Result<Vec<Case>, CliError> {
        let folder = self.cases.display();
        let listed = std::fs::read_dir(&self.cases).map_err(|error| {
            CliError::usage(format!("{folder}: {error}")).hint(
                "a case is a runbook, cases/NAME.toml, and the world that it runs in, cases/NAME.world.toml: see plugins/README.md",
            )
        })?;
        let mut names: Vec<String> = listed
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".toml").filter(|name| !name.ends_with(".world")).map(str::to_owned))
            .filter(|name| args.case.as_ref().is_none_or(|case| case == name))
            .collect();
        names.sort();
        if names.is_empty() {
            let what = args.case.as_ref().map_or("no cases".to_owned(), |case| format!("no case `{case}`"));
            return Err(CliError::usage(format!("{folder} has {what}")));
        }
        names.iter().map(|name| self.case(name)).collect()
    }

    fn case(&self, name: &str) -> Result<Case, CliError> {
        let file = self.cases.join(format!("{name}.toml"));
        let world_file = self.cases.join(format!("{name}.world.toml"));
        let (runbook, world) = (text(&file)?, text(&world_file)?);
        let shown = file.display().to_string();
        Case::read(name, &shown, &runbook, &world, self.catalog.as_ref()).map_err(|error| match error {
            CaseError::Runbook(diagnostics) => {
                session::show(&diagnostics);
                CliError::after_diagnostics(&shown, diagnostics.len())
            }
            CaseError::World(error) => CliError::invalid(format!("{}: {error}", world_file.display())),
            error => CliError::invalid(format!("{shown}: {error}")),
        })
    }

    /// Its actions that no case uses.
    fn uncovered(&self, cases: &[Case]) -> Vec<String> {
        let covered: BTreeSet<String> = cases.iter().flat_map(Case::actions).collect();
        let actions = self.catalog.0.loaded(&self.name).map(|loaded| &loaded.manifest.actions);
        let names = actions.into_iter().flatten().map(|action| format!("{}/{}", self.name, action.name));
        names.filter(|name| !covered.contains(name)).collect()
    }

    /// What repeats a breach alone.
    fn again(&self, args: &args::Laws, case: &str, law: Law, breach: &Breach) -> String {
        let at = breach.at.as_ref().map(|at| format!(" --at {at}")).unwrap_or_default();
        let (plugin, cases) = (&args.plugin, self.cases.display());
        format!("runbook plugin verify {plugin} --cases {cases} --case {case} --law {}{at}", law.number())
    }
}

fn component_of(name: &str, path: &Path) -> Component {
    Component { name: name.to_owned(), path: path.to_string_lossy().into_owned() }
}

fn text(path: &Path) -> Result<String, CliError> {
    let shown = path.display();
    let size = std::fs::metadata(path).map(|file| file.len());
    let text = size.and_then(|size| match size > LARGEST {
        true => Err(std::io::Error::other(format!("it is larger than {} KiB", LARGEST >> 10))),
        false => std::fs::read_to_string(path),
    });
    text.map_err(|error| CliError::usage(format!("{shown}: {error}")))
}

fn laws(args: &args::Laws) -> Result<Vec<Law>, CliError> {
    if args.laws.is_empty() {
        return Ok(Law::ALL.to_vec());
    }
    let law = |number: &usize| {
        Law::numbered(*number).ok_or_else(|| CliError::usage(format!("there is no law {number}: they are 1 to 7")))
    };
    args.laws.iter().map(law).collect()
}

fn used(cases: &[Case]) -> BTreeSet<String> {
    let actions = cases.iter().flat_map(Case::actions);
    actions.filter_map(|action| action.split_once('/').map(|(plugin, _)| plugin.to_owned())).collect()
}

fn progress(case: &str, law: Law, judgement: &Judgement) -> String {
    let (word, style) = word(judgement);
    format!("{style}{word}{style:#} {case}, law {}: {law}", law.number())
}

fn word(judgement: &Judgement) -> (&'static str, anstyle::Style) {
    match judgement {
        Judgement::Holds { .. } => ("ok", Styles::GOOD),
        Judgement::Broken(_) => ("BROKEN", Styles::BAD),
        Judgement::Unjudged(_) => ("-", Styles::PERHAPS),
    }
}

/// What came of the laws, case by case.
struct Table {
    laws: Vec<Law>,
    rows: Vec<(String, Vec<(Law, Judgement)>)>,
}

impl Table {
    fn new(laws: &[Law], cases: &[Case]) -> Self {
        Self { laws: laws.to_vec(), rows: cases.iter().map(|case| (case.name.clone(), Vec::new())).collect() }
    }

    fn print(&self) {
        const COLUMN: usize = 10;
        let first = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default().max(4);
        let mut out = anstream::stdout().lock();
        let heads: String = self.laws.iter().map(|law| format!("  {:<COLUMN$}", short(*law))).collect();
        let dim = Styles::DIM;
        let _ = writeln!(out, "{dim}{:first$}{heads}{dim:#}", "case");
        for (name, judged) in &self.rows {
            let _ = write!(out, "{name:first$}");
            for (_, judgement) in judged {
                let (word, style) = word(judgement);
                let text = match judgement {
                    Judgement::Holds { trials: trials @ 2.., .. } => format!("{word} ({trials})"),
                    _ => word.to_owned(),
                };
                let _ = write!(out, "  {style}{text:<COLUMN$}{style:#}");
            }
            let _ = writeln!(out);
        }
    }

    fn count(&self) -> (usize, usize, usize) {
        let all = || self.rows.iter().flat_map(|(_, judged)| judged).map(|(_, judgement)| judgement);
        let count = |is: fn(&&Judgement) -> bool| all().filter(is).count();
        (
            count(|j| matches!(j, Judgement::Holds { .. })),
            count(|j| matches!(j, Judgement::Broken(_))),
            count(|j| matches!(j, Judgement::Unjudged(_))),
        )
    }

    /// What is to be said of the judgements: the notes of each, and how to see a breach once more.
    fn explain(&self, again: &dyn Fn(&str, Law, &Breach) -> String) {
        let mut notes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut out = anstream::stdout().lock();
        for (case, judged) in &self.rows {
            for (law, judgement) in judged {
                let number = law.number();
                match judgement {
                    Judgement::Holds { notes: said, .. } => said.iter().for_each(|note| {
                        notes.entry(format!("law {number}: {}", safe(note))).or_default().push(case.clone());
                    }),
                    Judgement::Unjudged(why) => {
                        notes
                            .entry(format!("law {number} is not judged: {}", safe(why)))
                            .or_default()
                            .push(case.clone());
                    }
                    Judgement::Broken(breach) => {
                        let bad = Styles::BAD;
                        let _ =
                            writeln!(out, "\n{bad}{case} breaks law {number}{bad:#}, {law}\n  {}", safe(&breach.what));
                        if !breach.calls.is_empty() {
                            let _ = writeln!(out, "  the last calls up to there:");
                        }
                        for call in &breach.calls {
                            let _ = writeln!(out, "    {}", safe(call));
                        }
                        let _ = writeln!(out, "  once more: {}", again(case, *law, breach));
                    }
                }
            }
        }
        let dim = Styles::DIM;
        for (note, cases) in notes {
            let _ = writeln!(out, "{dim}{}: {note}{dim:#}", cases.join(", "));
        }
    }
}

fn short(law: Law) -> &'static str {
    match law {
        Law::Pure => "1 pure",
        Law::Predicts => "2 predict",
        Law::Converges => "3 converge",
        Law::Resumes => "4 resume",
        Law::Undoes => "5 undo",
        Law::Notices => "6 notice",
        Law::Contained => "7 contain",
    }
}

/// The plugins, as if their owner had granted all that they ask for: what they do with it is what is tried.
struct Trusted(Catalog);

impl Actions for Trusted {
    fn action(&self, plugin: &str, action: &str) -> Option<(&Action, Consent)> {
        self.0.action(plugin, action).map(|(action, _)| (action, Consent::Implied))
    }
}

impl runbook_model::parse::Catalog for Trusted {
    fn manifest(&self, plugin: &str) -> Option<&Manifest> {
        self.0.manifest(plugin)
    }

    fn names(&self) -> Vec<String> {
        self.0.names().map(str::to_owned).collect()
    }

    fn is_builtin(&self, plugin: &str) -> bool {
        self.0.loaded(plugin).is_some()
    }
}
