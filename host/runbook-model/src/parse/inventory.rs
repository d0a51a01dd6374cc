//! Hosts and clusters: of the runbook, of its inventory, of the runbook that includes it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::diagnostic::{Diagnostic, name_help};
use crate::expr::syntax::is_template;
use crate::parse::load::{Document, Loader, Outer, join_path};
use crate::parse::names::{Known, Names};
use crate::plan::{Cluster, Host, Kubeconfig, Step, Transport};
use crate::schema::read::{Reading, Spanned};
use crate::schema::v1;

/// The hosts and clusters that a runbook sees.
pub(super) struct Inventory {
    pub(super) hosts: Vec<Host>,
    pub(super) clusters: Vec<Cluster>,
}

/// Gathers and checks them.
pub(super) fn assemble(
    loader: &Loader<'_>,
    r: &Reading<'_>,
    file: &v1::File,
    known: &Known<'_>,
    outer: Option<&Outer<'_>>,
) -> Inventory {
    let mut gathered = Gathered { hosts: Vec::new(), clusters: Vec::new(), outer };
    let prefix = outer.map(|o| o.path.clone());
    gathered.take(r, &file.hosts, &file.clusters, prefix.as_deref());
    let mut parts = vec![(r.source.clone(), &file.hosts, &file.clusters)];
    let shared;
    if let Some(inventory) = &file.inventory
        && let Some((reading, hosts, clusters)) = read_shared(loader, r, inventory)
    {
        // Paths in the inventory are relative to its own folder, all others to that of the runbook.
        let seen = join_path(prefix.as_deref().unwrap_or_default(), &inventory.value);
        gathered.take(&reading, &hosts, &clusters, Some(&seen));
        shared = (reading.source.clone(), hosts, clusters);
        parts.push((shared.0.clone(), &shared.1, &shared.2));
    }
    let mut inventory = Inventory {
        hosts: gathered.hosts.into_iter().map(|(h, _)| h).collect(),
        clusters: gathered.clusters.into_iter().map(|(c, _)| c).collect(),
    };
    if let Some(outer) = outer {
        let new_host = |h: &&Host| !inventory.hosts.iter().any(|own| own.name == h.name);
        let inherited: Vec<Host> = outer.hosts.iter().filter(new_host).cloned().collect();
        inventory.hosts.extend(inherited);
        let new_cluster = |c: &&Cluster| !inventory.clusters.iter().any(|own| own.name == c.name);
        let inherited: Vec<Cluster> = outer.clusters.iter().filter(new_cluster).cloned().collect();
        inventory.clusters.extend(inherited);
    }
    for (source, hosts, clusters) in parts {
        let reading = Reading { source, out: &loader.out };
        check_hosts(&reading, hosts, &inventory.hosts, known);
        check_clusters(&reading, clusters, &inventory.hosts, known);
    }
    inventory
}

fn read_shared<'l>(
    loader: &'l Loader<'_>,
    r: &Reading<'_>,
    inventory: &Spanned<String>,
) -> Option<(Reading<'l>, Vec<v1::Host>, Vec<v1::Cluster>)> {
    let path = join_path(&r.source.name, &inventory.value);
    match loader.files.read(&path) {
        Ok(text) => {
            let (root, reading) = loader.tree(Document::parse(&path, text), false);
            let (hosts, clusters) = v1::read_inventory(&reading, &root?);
            Some((reading, hosts, clusters))
        }
        Err(reason) => {
            r.report(
                &inventory.span,
                Diagnostic::error("unreadable", format!("cannot read the inventory {path}: {reason}")),
            );
            None
        }
    }
}

struct Gathered<'o> {
    hosts: Vec<(Host, String)>,
    clusters: Vec<(Cluster, String)>,
    outer: Option<&'o Outer<'o>>,
}

impl Gathered<'_> {
    /// Takes in what one file declares. `seen`: that file as seen from the folder of the outermost runbook, if it is not there.
    fn take(&mut self, r: &Reading<'_>, hosts: &[v1::Host], clusters: &[v1::Cluster], seen: Option<&str>) {
        for host in hosts {
            let mut plan = host.host.clone();
            for path in [&mut plan.identity_file, &mut plan.known_hosts].into_iter().flatten() {
                rebase(path, seen);
            }
            let same = |known: &Host| *known == plan;
            let name = plan.name.clone();
            let own = self.hosts.iter().find(|(h, _)| h.name == name).map(|(_, file)| file.clone());
            let of_outer = self.outer.and_then(|o| o.hosts.iter().find(|h| h.name == name));
            match (own, of_outer) {
                (Some(file), _) => report_twice(r, "host", &name, &host.span, &file),
                (None, Some(known)) if !same(known) => report_other(r, "host", &name, &host.span),
                (None, known) => {
                    if known.is_none() && self.outer.is_some() {
                        refuse_templates(r, "host", &host.templates);
                    }
                    self.hosts.push((plan, r.source.name.clone()));
                }
            }
        }
        for cluster in clusters {
            let mut plan = cluster.cluster.clone();
            if let Kubeconfig::File(path) = &mut plan.kubeconfig {
                rebase(path, seen);
            }
            let name = plan.name.clone();
            let own = self.clusters.iter().find(|(c, _)| c.name == name).map(|(_, file)| file.clone());
            let of_outer = self.outer.and_then(|o| o.clusters.iter().find(|c| c.name == name));
            match (own, of_outer) {
                (Some(file), _) => report_twice(r, "cluster", &name, &cluster.span, &file),
                (None, Some(known)) if *known != plan => report_other(r, "cluster", &name, &cluster.span),
                (None, known) => {
                    if known.is_none() && self.outer.is_some() {
                        refuse_templates(r, "cluster", &cluster.templates);
                    }
                    self.clusters.push((plan, r.source.name.clone()));
                }
            }
        }
    }
}

fn rebase(path: &mut String, seen: Option<&str>) {
    if let Some(seen) = seen
        && !path.is_empty()
        && !path.trim_start().starts_with("{{")
    {
        *path = join_path(seen, path);
    }
}

fn report_twice(r: &Reading<'_>, what: &str, name: &str, span: &Range<usize>, file: &str) {
    r.report(span, Diagnostic::error("duplicate", format!("the {what} `{name}` is declared in {file} already")));
}

fn report_other(r: &Reading<'_>, what: &str, name: &str, span: &Range<usize>) {
    let diagnostic =
        Diagnostic::error("conflict", format!("the including runbook declares the {what} `{name}` otherwise"))
            .help("let both use the same `inventory`, or leave the declaration out here");
    r.report(span, diagnostic);
}

/// The inputs of an included runbook may differ from one use to the next; a machine may not.
fn refuse_templates(r: &Reading<'_>, what: &str, templates: &[Spanned<String>]) {
    for text in templates.iter().filter(|t| is_template(&t.value)) {
        let message = format!("a {what} of an included runbook cannot hold expressions");
        r.report(
            &text.span,
            Diagnostic::error("bad-value", message).help(format!("declare the {what} in the including runbook")),
        );
    }
}

fn check_hosts(r: &Reading<'_>, declared: &[v1::Host], all: &[Host], known: &Known<'_>) {
    let names = || all.iter().map(|h| h.name.as_str());
    for host in declared {
        for label in &host.labels {
            if names().any(|n| n == label.value) {
                let diagnostic =
                    Diagnostic::error("conflict", format!("`{}` is both a label and the name of a host", label.value))
                        .help("`on` could mean either: rename one of them");
                r.report(&label.span, diagnostic);
            }
        }
        for (key, reference) in [("jump", &host.jump), ("via", &host.via)] {
            let Some(reference) = reference else { continue };
            let Some(target) = all.iter().find(|h| h.name == reference.value) else {
                report_undefined(r, key, reference, all);
                continue;
            };
            let wrong = match target.transport {
                Transport::None => Some("nothing can be reached through it"),
                Transport::Local if key == "jump" => Some("it is this machine, so there is nothing to jump over"),
                _ => None,
            };
            if let Some(wrong) = wrong {
                let message = format!("`{key}` cannot be the host `{}`: {wrong}", reference.value);
                r.report(&reference.span, Diagnostic::error("bad-value", message));
            } else if let Some(cycle) = cycle_of(&host.host, all) {
                r.report(
                    &reference.span,
                    Diagnostic::error("cycle", format!("hosts are reached through one another: {cycle}")),
                );
            }
        }
        let secret_ok: Vec<&str> =
            host.host.vars.values().chain(&host.host.elevation.password).flat_map(texts).collect();
        for text in &host.templates {
            let names = Names::of_values(known, known.vars.len());
            names.check_text(r, &text.value, &text.span, secret_ok.contains(&text.value.as_str()));
        }
    }
}

/// All strings in a value.
fn texts(value: &serde_json::Value) -> Vec<&str> {
    match value {
        serde_json::Value::String(text) => vec![text],
        serde_json::Value::Array(items) => items.iter().flat_map(texts).collect(),
        serde_json::Value::Object(map) => map.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn report_undefined(r: &Reading<'_>, key: &str, reference: &Spanned<String>, all: &[Host]) {
    let diagnostic = Diagnostic::error(
        "undefined-host",
        format!("`{key}` names the host `{}`, which is not declared", reference.value),
    )
    .maybe_help(name_help(&reference.value, "hosts", all.iter().map(|h| h.name.as_str())));
    r.report(&reference.span, diagnostic);
}

/// The hosts through which a host is reached, if they come back to it.
fn cycle_of(start: &Host, all: &[Host]) -> Option<String> {
    let mut path = vec![start.name.clone()];
    let mut at = start;
    while let Some(next) = at.jump.as_ref().or(at.via.as_ref()) {
        path.push(next.clone());
        if *next == start.name {
            return Some(path.join(" -> "));
        }
        at = all.iter().find(|h| h.name == *next)?;
        if path.len() > all.len() + 1 {
            return None;
        }
    }
    None
}

fn check_clusters(r: &Reading<'_>, declared: &[v1::Cluster], all: &[Host], known: &Known<'_>) {
    for cluster in declared {
        let hosts = cluster.hosts.iter().map(|h| ("host", h));
        for (key, reference) in hosts.chain(cluster.via.iter().map(|v| ("via", v))) {
            match all.iter().find(|h| h.name == reference.value) {
                None => report_undefined(r, key, reference, all),
                Some(host) if host.transport == Transport::None => {
                    let message = format!("`{key}` cannot be the host `{}`: it runs no commands", host.name);
                    r.report(&reference.span, Diagnostic::error("bad-value", message));
                }
                Some(_) => {}
            }
        }
        for text in &cluster.templates {
            Names::of_values(known, known.vars.len()).check_text(r, &text.value, &text.span, false);
        }
    }
}

/// Checks `created_by` of the hosts and clusters that stand in the runbook itself. Those of an inventory may name a step of
/// another runbook that shares it; here they are there already.
pub(super) fn check_creators(r: &Reading<'_>, file: &v1::File, steps: &[Step]) {
    let of_hosts = file.hosts.iter().filter_map(|h| h.created_by.as_ref());
    for reference in of_hosts.chain(file.clusters.iter().filter_map(|c| c.created_by.as_ref())) {
        if !steps.iter().any(|s| s.id == reference.value) {
            let diagnostic = Diagnostic::error(
                "undefined-step",
                format!("`created_by` names the step `{}`, which is not there", reference.value),
            )
            .maybe_help(name_help(&reference.value, "steps", steps.iter().map(|s| s.id.as_str())));
            r.report(&reference.span, diagnostic);
        }
    }
}

/// The hosts, without `created_by` where it names a step of another runbook.
pub(super) fn without_foreign_creators(mut hosts: Vec<Host>, steps: &[Step]) -> Vec<Host> {
    for host in &mut hosts {
        host.created_by = host.created_by.take().filter(|id| steps.iter().any(|s| s.id == *id));
    }
    hosts
}

/// The clusters, without `created_by` where it names a step of another runbook.
pub(super) fn clusters_without_foreign_creators(mut clusters: Vec<Cluster>, steps: &[Step]) -> Vec<Cluster> {
    for cluster in &mut clusters {
        cluster.created_by = cluster.created_by.take().filter(|id| steps.iter().any(|s| s.id == *id));
    }
    clusters
}

/// Hosts and clusters that exist only after a step, by name, with the step.
pub(super) fn creators<'i>(hosts: &'i [Host], clusters: &'i [Cluster]) -> BTreeMap<(bool, &'i str), &'i str> {
    let hosts = hosts.iter().filter_map(|h| Some(((false, h.name.as_str()), h.created_by.as_deref()?)));
    let clusters = clusters.iter().filter_map(|c| Some(((true, c.name.as_str()), c.created_by.as_deref()?)));
    hosts.chain(clusters).collect()
}
