//! Steps: their actions, their order, their names.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, list, name_help};
use crate::manifest::{Action, Need};
use crate::parse::inventory::creators;
use crate::parse::load::{Loader, Outer, join_path};
use crate::parse::names::{Known, Names, StepInfo, StepNames};
use crate::parse::on::{self, OnExpression};
use crate::parse::set::StepSet;
use crate::parse::with;
use crate::plan::{Cluster, Confirm, Host, On, RoleOn, Step, Uses};
use crate::schema::node::{Data, Node};
use crate::schema::read::{Reading, Spanned};
use crate::schema::v1_block::Block as RawBlock;
use crate::schema::v1_step::{Step as RawStep, UsesText};

/// Keys that belong to the steps of an included runbook, not to the step that includes it.
const NOT_FOR_INCLUDES: [&str; 9] =
    ["on", "among", "cluster", "serial", "retry", "timeout", "on_unreachable", "allow", "needs_receipt"];

/// What the steps of a runbook are checked against.
pub(super) struct World<'w> {
    pub(super) loader: &'w Loader<'w>,
    pub(super) r: &'w Reading<'w>,
    pub(super) known: &'w Known<'w>,
    pub(super) hosts: &'w [Host],
    pub(super) clusters: &'w [Cluster],
    pub(super) plugins: &'w BTreeMap<String, String>,
    pub(super) outer: Option<&'w Outer<'w>>,
}

impl World<'_> {
    /// Checks all steps. A step with a mistake is in the result nevertheless where it can be, so that others find it.
    pub(super) fn steps(&self, raw: &[RawStep], blocks: &[RawBlock], above: &mut Vec<String>) -> Vec<Step> {
        self.check_ids(raw, blocks);
        let mut steps: Vec<Step> = Vec::with_capacity(raw.len());
        let mut actions: Vec<Option<&Action>> = Vec::with_capacity(raw.len());
        let mut expressions: Vec<Vec<OnExpression>> = Vec::with_capacity(raw.len());
        for step in raw {
            let action = match &step.uses {
                Some(UsesText::Action(uses)) => self.action(uses),
                _ => None,
            };
            let (on, found) = match (&step.uses, action) {
                (Some(UsesText::Action(uses)), Some(action)) => {
                    on::resolve(self.r, step, &uses.value, action, self.hosts)
                }
                _ => (Vec::new(), Vec::new()),
            };
            let mut plan = self.convert(step, above);
            plan.on = on;
            steps.push(plan);
            actions.push(action);
            expressions.push(found);
        }
        let places: BTreeMap<&str, usize> = steps.iter().enumerate().rev().map(|(i, s)| (s.id.as_str(), i)).collect();
        let order = self.order(raw, &steps, &places);
        let infos: Vec<StepInfo<'_>> = steps.iter().zip(raw).zip(&actions).map(|((s, r), a)| info(s, r, *a)).collect();
        let labels: BTreeSet<&str> = self.hosts.iter().flat_map(|h| h.labels.iter().map(String::as_str)).collect();
        let creators = creators(self.hosts, self.clusters);
        for (at, (step, plan)) in raw.iter().zip(&steps).enumerate() {
            let names = |host, item| Names {
                known: self.known,
                vars: self.known.vars.len(),
                steps: Some(StepNames { all: &infos, places: &places, current: at, before: &order[at] }),
                host,
                item,
                labels: Some(&labels),
            };
            let candidates = |role: &RoleOn| {
                let names: HashSet<&String> = role.on.candidates().iter().collect();
                self.hosts.iter().filter(|h| names.contains(&h.name)).collect()
            };
            let of_step = names(None, false);
            let of_key = names(None, true);
            let of_instance = names(plan.host_role().map(candidates), step.for_each.is_some());
            self.check_expressions(step, &expressions[at], &of_step, &of_key, &of_instance);
            if let (Some(UsesText::Action(uses)), Some(action)) = (&step.uses, actions[at]) {
                self.check_action(step, plan, &uses.value, action, &of_instance);
            }
            self.check_created(step, plan, &places, &order[at], &creators);
            for block in blocks.iter().filter(|block| block.steps.start == at) {
                for condition in [&block.when, &block.unless].into_iter().flatten() {
                    of_step.check_condition(self.r, &condition.value, &condition.span);
                }
            }
        }
        steps
    }

    fn check_ids(&self, raw: &[RawStep], blocks: &[RawBlock]) {
        let mut seen: BTreeMap<&str, &Spanned<String>> = BTreeMap::new();
        let ids = raw.iter().map(|step| &step.id).chain(blocks.iter().map(|block| &block.id));
        for id in ids.filter(|id| !id.value.is_empty()) {
            if let Some(first) = seen.insert(&id.value, id) {
                let line = self.r.source.line(first.span.start);
                let message = format!("the step `{}` is there already, in line {line}", id.value);
                self.r.report(&id.span, Diagnostic::error("duplicate", message).help("give each step its own id"));
            }
        }
    }

    fn action(&self, uses: &Spanned<String>) -> Option<&Action> {
        let Some((plugin, action)) = uses.value.split_once('/') else {
            let diagnostic = Diagnostic::error("bad-value", format!("`{}` is not `plugin/action`", uses.value));
            let help = self.loader.catalog.manifest(&uses.value).map(|manifest| {
                let names: Vec<String> =
                    manifest.actions.iter().map(|a| format!("{}/{}", manifest.name, a.name)).collect();
                format!("its actions are {}", list(&names))
            });
            self.r.report(&uses.span, diagnostic.maybe_help(help));
            return None;
        };
        let Some(manifest) = self.loader.catalog.manifest(plugin) else {
            if let Some(path) = self.plugins.get(plugin) {
                let message = format!("the plugin `{plugin}` could not be read from {path}");
                self.r.report(&uses.span, Diagnostic::error("unknown-plugin", message));
                return None;
            }
            let names = self.loader.catalog.names();
            let help = name_help(plugin, "plugins", names.iter().map(String::as_str))
                .unwrap_or_else(|| "a plugin that is not part of the program comes from a pack, which stands in `[packs]`, or from a file in `[plugins]`".to_owned());
            self.r.report(
                &uses.span,
                Diagnostic::error("unknown-plugin", format!("there is no plugin `{plugin}`")).help(help),
            );
            return None;
        };
        let found = manifest.action(action);
        if found.is_none() {
            let help = name_help(action, "actions", manifest.actions.iter().map(|a| a.name.as_str()));
            let message = format!("the plugin `{plugin}` has no action `{action}`");
            self.r.report(&uses.span, Diagnostic::error("unknown-action", message).maybe_help(help));
        }
        found
    }

    fn convert(&self, step: &RawStep, above: &mut Vec<String>) -> Step {
        let uses = match &step.uses {
            Some(UsesText::Include(file)) => self.include(step, file, above),
            Some(UsesText::Action(uses)) => {
                let (plugin, action) = uses.value.split_once('/').unwrap_or((&uses.value, ""));
                Uses::Action { plugin: plugin.to_owned(), action: action.to_owned() }
            }
            None => Uses::Action { plugin: String::new(), action: String::new() },
        };
        Step {
            id: step.id.value.clone(),
            uses,
            on: Vec::new(),
            cluster: step.cluster.as_ref().map(|c| c.value.clone()),
            with: step.with.as_ref().map_or_else(|| Value::Object(Map::new()), Node::to_json),
            needs: step.needs.as_ref().map(|needs| needs.iter().map(|n| n.value.clone()).collect()),
            when: step.when.as_ref().map(|t| t.value.clone()),
            unless: step.unless.as_ref().map(|t| t.value.clone()),
            for_each: step.for_each.as_ref().map(Node::to_json),
            key: step.key.as_ref().map(|t| t.value.clone()),
            serial: step.serial,
            retry: step.retry,
            timeout_ms: step.timeout_ms,
            on_unreachable: step.on_unreachable,
            on_failure: step.on_failure,
            confirm: step.confirm.as_ref().map(|(text, typed)| Confirm {
                text: text.value.clone(),
                typed: typed.as_ref().map(|t| t.value.clone()),
            }),
            block: step.block.clone(),
            needs_receipt: step.needs_receipt.as_ref().map(|(needs, _)| needs.clone()),
            undo: step.undo,
            why: step.why.clone(),
            manual: step.manual.clone(),
            allow: step.allow.clone(),
            line: u32::try_from(self.r.source.line(step.span.start)).unwrap_or(u32::MAX),
        }
    }

    fn include(&self, step: &RawStep, file: &Spanned<String>, above: &mut Vec<String>) -> Uses {
        for key in NOT_FOR_INCLUDES {
            if let Some(span) = step.key_span(key) {
                let message =
                    format!("`{key}` belongs to the steps of the included runbook, not to the step that includes it");
                self.r.report(span, Diagnostic::error("conflict", message));
            }
        }
        let prefix = self.outer.map_or("", |o| o.path.as_str());
        let outer = Outer { hosts: self.hosts, clusters: self.clusters, path: join_path(prefix, &file.value) };
        match self.loader.include(self.r, file, &outer, above) {
            Some(runbook) => {
                with::check_include(self.r, step, &runbook.inputs);
                Uses::Include { file: file.value.clone(), runbook: Box::new(runbook) }
            }
            None => Uses::Action { plugin: String::new(), action: String::new() },
        }
    }

    /// Checks `needs`; for each step, all that have ended when it begins.
    fn order(&self, raw: &[RawStep], steps: &[Step], places: &BTreeMap<&str, usize>) -> Vec<StepSet> {
        let mut before: Vec<StepSet> = Vec::with_capacity(steps.len());
        for (i, step) in raw.iter().enumerate() {
            let mut mine = StepSet::default();
            match &step.needs {
                None => mine = StepSet::first(i),
                Some(needs) => {
                    for need in needs {
                        match places.get(need.value.as_str()) {
                            Some(&j) if j < i => {
                                mine.insert(j);
                                mine.insert_all(&before[j]);
                            }
                            Some(&j) => self.report_forward(raw, places, i, j, need),
                            None => {
                                let diagnostic = Diagnostic::error(
                                    "undefined-step",
                                    format!("`needs` names the step `{}`, which is not there", need.value),
                                )
                                .maybe_help(name_help(
                                    &need.value,
                                    "steps above",
                                    steps[..i].iter().map(|s| s.id.as_str()),
                                ));
                                self.r.report(&need.span, diagnostic);
                            }
                        }
                    }
                }
            }
            before.push(mine);
        }
        before
    }

    fn report_forward(
        &self,
        raw: &[RawStep],
        index: &BTreeMap<&str, usize>,
        from: usize,
        to: usize,
        need: &Spanned<String>,
    ) {
        let diagnostic = if from == to {
            Diagnostic::error("cycle", format!("the step `{}` needs itself", need.value))
        } else if let Some(path) = way(raw, index, to, from) {
            let names: Vec<&str> = [from].iter().chain(&path).map(|i| raw[*i].id.value.as_str()).collect();
            Diagnostic::error("cycle", format!("steps need one another: {}", names.join(" -> ")))
        } else {
            let message = format!("`{}` needs `{}`, which comes further down", raw[from].id.value, need.value);
            Diagnostic::error("needs-order", message).help(format!(
                "steps run in the order of the file: move `{}` above `{}`",
                need.value, raw[from].id.value
            ))
        };
        self.r.report(&need.span, diagnostic);
    }

    fn check_expressions(
        &self,
        step: &RawStep,
        on: &[OnExpression],
        of_step: &Names<'_>,
        of_key: &Names<'_>,
        of_instance: &Names<'_>,
    ) {
        let r = self.r;
        for expression in on {
            of_step.check_text(r, &expression.text, &expression.span, false);
        }
        match (&step.for_each, &step.key) {
            (Some(node), _) => {
                let ok = match &node.data {
                    Data::String(text) => crate::expr::syntax::whole(text).is_some(),
                    Data::List(_) | Data::Table(_) | Data::Broken => true,
                    _ => false,
                };
                if !ok {
                    let diagnostic = Diagnostic::error(
                        "wrong-type",
                        "`for_each` must be a list, a table, or one whole expression that gives one",
                    );
                    r.report(
                        &node.span,
                        diagnostic.help("such as `for_each = [\"a\", \"b\"]` or `for_each = \"{{ inputs.names }}\"`"),
                    );
                }
                of_step.check_value(r, node, true);
            }
            (None, Some(key)) => {
                r.report(&key.span, Diagnostic::error("conflict", "`key` has no meaning without `for_each`"));
            }
            (None, None) => {}
        }
        if let (Some(_), Some(key)) = (&step.for_each, &step.key) {
            of_key.check_condition(r, &key.value, &key.span);
        }
        for condition in [&step.when, &step.unless].into_iter().flatten() {
            of_instance.check_condition(r, &condition.value, &condition.span);
        }
        if let Some((text, typed)) = &step.confirm {
            for text in [Some(text), typed.as_ref()].into_iter().flatten() {
                of_step.check_text(r, &text.value, &text.span, false);
            }
        }
        if let Some((_, Some(subject))) = &step.needs_receipt {
            of_instance.check_text(r, &subject.value, &subject.span, false);
        }
        if let Some(node) = &step.with {
            of_instance.check_value(r, node, true);
        }
    }

    fn check_action(&self, step: &RawStep, plan: &Step, uses: &str, action: &Action, names: &Names<'_>) {
        with::check_action(self.r, step, uses, action, names);
        if let (true, None, Some(UsesText::Action(text))) = (action.needs_block, &step.block, &step.uses) {
            let message = format!(
                "`{uses}` leaves a state that must not last: put it into a block (`[[step.do]]`), at whose end it is put back"
            );
            let help = "write `[[step]]` with an `id` above it, and make this and what needs that state `[[step.do]]`";
            self.r.report(&text.span, Diagnostic::error("needs-block", message).help(help));
        }
        let known = || self.clusters.iter().map(|c| c.name.as_str());
        match (&step.cluster, action.cluster) {
            (Some(_), Need::None) => {
                let span = step.key_span("cluster").unwrap_or(&step.span);
                self.r
                    .report(span, Diagnostic::error("role", format!("`{uses}` needs no cluster: leave `cluster` out")));
            }
            (Some(cluster), _) if !known().any(|c| c == cluster.value) => {
                let diagnostic =
                    Diagnostic::error("undefined-cluster", format!("there is no cluster `{}`", cluster.value))
                        .maybe_help(name_help(&cluster.value, "clusters", known()));
                self.r.report(&cluster.span, diagnostic);
            }
            (None, Need::Required) => {
                let help = match known().next() {
                    Some(first) => format!("add `cluster = \"{first}\"`"),
                    None => "declare one with `[clusters.NAME]` and add `cluster = \"NAME\"`".to_owned(),
                };
                self.r.report(&step.span, Diagnostic::error("role", format!("`{uses}` needs a cluster")).help(help));
            }
            _ => {}
        }
        if let (Some(_), None) = (step.serial, plan.fan_out())
            && !action.roles.iter().any(|role| role.arity == crate::manifest::Arity::Each)
        {
            let span = step.key_span("serial").unwrap_or(&step.span);
            let message = format!("`serial` has no meaning: `{uses}` does not run once for each host");
            self.r.report(span, Diagnostic::error("conflict", message));
        }
    }

    /// What a step creates cannot be used before.
    fn check_created(
        &self,
        step: &RawStep,
        plan: &Step,
        places: &BTreeMap<&str, usize>,
        before: &StepSet,
        creators: &BTreeMap<(bool, &str), &str>,
    ) {
        let hosts = plan.hosts();
        let used = hosts
            .iter()
            .map(|h| (false, h.as_str(), "on"))
            .chain(plan.cluster.iter().map(|c| (true, c.as_str(), "cluster")));
        for (is_cluster, name, key) in used {
            let Some(creator) = creators.get(&(is_cluster, name)) else { continue };
            let Some(&index) = places.get(creator) else { continue };
            if !before.contains(index) {
                let span = step.key_span(key).unwrap_or(&step.span);
                let what = if is_cluster { "cluster" } else { "host" };
                let message = format!(
                    "the {what} `{name}` does not exist before the step `{creator}`, for which this one does not wait"
                );
                self.r.report(span, Diagnostic::error("needs-order", message));
            }
        }
    }
}

/// The way along `needs` from a step to another one, both included.
fn way(raw: &[RawStep], index: &BTreeMap<&str, usize>, from: usize, goal: usize) -> Option<Vec<usize>> {
    let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        if at == goal {
            let mut path = vec![at];
            while let Some(&previous) = path.last().and_then(|last| came_from.get(last)) {
                path.push(previous);
            }
            path.reverse();
            return Some(path);
        }
        for next in raw[at].needs.iter().flatten().filter_map(|need| index.get(need.value.as_str()).copied()) {
            if next != from && !came_from.contains_key(&next) {
                came_from.insert(next, at);
                open.push(next);
            }
        }
    }
    None
}

fn info<'k>(step: &Step, raw: &RawStep, action: Option<&'k Action>) -> StepInfo<'k> {
    let fan_out = step.fan_out();
    StepInfo {
        id: step.id.clone(),
        outputs: action.map(|a| &a.outputs),
        is_include: matches!(raw.uses, Some(UsesText::Include(_))),
        hosts: fan_out.and_then(|role| match &role.on {
            On::Static(hosts) => Some(hosts.clone()),
            On::Expression { .. } => None,
        }),
        fans_out: fan_out.is_some(),
        for_each: step.for_each.is_some(),
    }
}
