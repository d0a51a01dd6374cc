//! `on`: which machines a step is for.

use std::collections::HashSet;
use std::ops::Range;

use crate::diagnostic::{Diagnostic, did_you_mean, list, name_help};
use crate::expr::syntax::{is_template, whole};
use crate::manifest::{Action, Arity, Role};
use crate::plan::{Host, On, RoleOn};
use crate::schema::node::{Data, Node};
use crate::schema::read::Reading;
use crate::schema::v1_step::Step;

/// An expression in `on`, to be checked with the names of its step.
pub(super) struct OnExpression {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

/// Resolves `on` for the roles of an action.
pub(super) fn resolve(
    r: &Reading<'_>,
    step: &Step,
    uses: &str,
    action: &Action,
    hosts: &[Host],
) -> (Vec<RoleOn>, Vec<OnExpression>) {
    let mut resolver = Resolver { r, step, hosts, expressions: Vec::new(), used_among: false };
    let roles = resolver.roles(uses, action);
    if let (Some(among), false) = (&step.among, resolver.used_among) {
        let diagnostic = Diagnostic::error("conflict", "`among` has no meaning without an expression in `on`");
        r.report(&among.span, diagnostic.help("leave it out"));
    }
    (roles, resolver.expressions)
}

struct Resolver<'a> {
    r: &'a Reading<'a>,
    step: &'a Step,
    hosts: &'a [Host],
    expressions: Vec<OnExpression>,
    used_among: bool,
}

impl Resolver<'_> {
    fn roles(&mut self, uses: &str, action: &Action) -> Vec<RoleOn> {
        let needed: Vec<&Role> = action.roles.iter().filter(|r| !r.optional).collect();
        let Some(node) = &self.step.on else {
            if let Some(role) = needed.first() {
                let what = if needed.len() == 1 && action.roles.len() == 1 {
                    "on = \"HOST\"".to_owned()
                } else {
                    let parts: Vec<String> = needed.iter().map(|r| format!("{} = \"HOST\"", r.name)).collect();
                    format!("on = {{ {} }}", parts.join(", "))
                };
                let diagnostic =
                    Diagnostic::error("role", format!("`{uses}` needs to know its machines ({})", role_words(role)))
                        .help(format!("add `{what}`, with a host, a label or a list: {}", self.candidates()));
                self.r.report(&self.step.span, diagnostic);
            }
            return Vec::new();
        };
        if action.roles.is_empty() {
            let span = self.step.key_span("on").unwrap_or(&node.span);
            self.r.report(span, Diagnostic::error("role", format!("`{uses}` runs on no machine: leave `on` out")));
            return Vec::new();
        }
        let by_role = node.as_table().filter(|entries| !entries.iter().any(|e| e.key == "label"));
        let Some(entries) = by_role else {
            let only = match (action.roles.as_slice(), needed.as_slice()) {
                ([only], _) => only,
                (_, [only]) => *only,
                _ => {
                    let names: Vec<&str> = action.roles.iter().map(|r| r.name.as_str()).collect();
                    let diagnostic = Diagnostic::error("role", format!("`{uses}` has several roles: {}", list(&names)))
                        .help(format!("say who takes which: `on = {{ {} = \"HOST\", ... }}`", names[0]));
                    self.r.report(&node.span, diagnostic);
                    return Vec::new();
                }
            };
            return self.role(uses, only, node).into_iter().collect();
        };
        let mut out = Vec::new();
        let mut meant = Vec::new();
        for entry in entries {
            match action.roles.iter().find(|r| r.name == entry.key) {
                Some(role) => out.extend(self.role(uses, role, &entry.value)),
                None => {
                    let names = action.roles.iter().map(|r| r.name.as_str());
                    meant.extend(did_you_mean(&entry.key, names.clone()));
                    let diagnostic = Diagnostic::error("role", format!("`{uses}` has no role `{}`", entry.key))
                        .maybe_help(name_help(&entry.key, "roles", names));
                    self.r.report(&entry.key_span, diagnostic);
                }
            }
        }
        let given = |role: &Role| entries.iter().any(|e| e.key == role.name) || meant.contains(&role.name.as_str());
        for role in needed.iter().filter(|role| !given(role)) {
            let message = format!("`{uses}` needs a machine for its role `{}` ({})", role.name, role_words(role));
            self.r.report(&node.span, Diagnostic::error("role", message));
        }
        // In the order of the manifest, so that the plan does not depend on how it is written.
        out.sort_by_key(|on| action.roles.iter().position(|r| r.name == on.role));
        out
    }

    fn role(&mut self, uses: &str, role: &Role, node: &Node) -> Option<RoleOn> {
        let on = match node.as_str().filter(|t| is_template(t)) {
            Some(text) => self.expression(text, node)?,
            None => {
                let hosts = self.machines(node)?;
                if role.arity == Arity::One && hosts.len() != 1 {
                    let message =
                        format!("the role `{}` of `{uses}` takes one machine, and here are {}", role.name, hosts.len());
                    self.r.report(
                        &node.span,
                        Diagnostic::error("role", message).help(format!("they are {}", list(&hosts))),
                    );
                    return None;
                }
                On::Static(hosts)
            }
        };
        Some(RoleOn { role: role.name.clone(), arity: role.arity, on })
    }

    fn expression(&mut self, text: &str, node: &Node) -> Option<On> {
        self.used_among = true;
        if whole(text).is_none() {
            let diagnostic =
                Diagnostic::error("bad-value", "`on` must be one whole expression, or names of hosts and labels")
                    .help("write `on = \"{{ steps.ID.outputs.NAME }}\"`");
            self.r.report(&node.span, diagnostic);
            return None;
        }
        self.expressions.push(OnExpression { text: text.to_owned(), span: node.span.clone() });
        let Some(among) = &self.step.among else {
            let diagnostic = Diagnostic::error("missing-key", "an expression in `on` needs `among`")
                .help("say among which hosts it chooses: `among = \"LABEL\"`; access is settled for all of them before the start");
            self.r.report(&node.span, diagnostic);
            return None;
        };
        let among = self.machines(among)?;
        Some(On::Expression { expr: text.to_owned(), among })
    }

    /// The hosts of a host, label, list or `{ label, except }`. Never empty.
    fn machines(&self, node: &Node) -> Option<Vec<String>> {
        let hosts = match &node.data {
            Data::String(name) => self.named(name, &node.span)?,
            Data::List(nodes) => {
                let mut all = Vec::new();
                let mut complete = true;
                for inner in nodes {
                    match inner.as_str() {
                        Some(name) if is_template(name) => {
                            let diagnostic = Diagnostic::error("bad-value", "a list in `on` cannot hold expressions")
                                .help("one expression may give the whole list: `on = \"{{ ... }}\"`");
                            self.r.report(&inner.span, diagnostic);
                            complete = false;
                        }
                        Some(name) => match self.named(name, &inner.span) {
                            Some(found) => all.extend(found),
                            None => complete = false,
                        },
                        None => {
                            self.r.wrong_type("on", "a host or label", inner);
                            complete = false;
                        }
                    }
                }
                if !complete {
                    return None;
                }
                all
            }
            Data::Table(_) => {
                let f = self.r.fields(node, "on", "`on`")?;
                let label = f.required("label", "which hosts: `{ label = \"LABEL\", except = \"HOST\" }`");
                let except = f.node("except");
                f.finish();
                let all = self.machines(label?)?;
                let without = match except {
                    Some(node) => self.machines(node)?,
                    None => Vec::new(),
                };
                if let Some(node) = except {
                    for name in without.iter().filter(|n| !all.contains(n)) {
                        let message = format!("`{name}` is not one of the hosts that it is taken from");
                        self.r.report(
                            &node.span,
                            Diagnostic::error("bad-value", message).help(format!("these are {}", list(&all))),
                        );
                    }
                }
                let without: HashSet<String> = without.into_iter().collect();
                all.into_iter().filter(|h| !without.contains(h)).collect()
            }
            _ => {
                self.r.wrong_type("on", "a host, a label or a list", node);
                return None;
            }
        };
        let mut seen = HashSet::new();
        let unique: Vec<String> = hosts.into_iter().filter(|host| seen.insert(host.clone())).collect();
        if unique.is_empty() {
            let diagnostic = Diagnostic::error("empty", "this names no host")
                .help("there is no implicit \"all hosts\": name them, or a label");
            self.r.report(&node.span, diagnostic);
            return None;
        }
        Some(unique)
    }

    fn named(&self, name: &str, span: &Range<usize>) -> Option<Vec<String>> {
        if self.hosts.iter().any(|h| h.name == name) {
            return Some(vec![name.to_owned()]);
        }
        let labelled: Vec<String> =
            self.hosts.iter().filter(|h| h.labels.iter().any(|l| l == name)).map(|h| h.name.clone()).collect();
        if !labelled.is_empty() {
            return Some(labelled);
        }
        let labels = self.hosts.iter().flat_map(|h| h.labels.iter().map(String::as_str));
        let mut known: Vec<&str> = self.hosts.iter().map(|h| h.name.as_str()).chain(labels).collect();
        known.dedup();
        let mut seen = std::collections::BTreeSet::new();
        known.retain(|n| seen.insert(*n));
        let diagnostic = Diagnostic::error("undefined-host", format!("there is no host or label `{name}`"))
            .maybe_help(name_help(name, "hosts and labels", known));
        self.r.report(span, diagnostic);
        None
    }

    fn candidates(&self) -> String {
        let names: Vec<&str> = self.hosts.iter().map(|h| h.name.as_str()).take(8).collect();
        if names.is_empty() { "declare one with `[hosts.NAME]`".to_owned() } else { list(&names) }
    }
}

fn role_words(role: &Role) -> String {
    let arity = match role.arity {
        Arity::Each => "one run for each",
        Arity::One => "exactly one",
        Arity::All => "all of them at once",
    };
    if role.summary.is_empty() { arity.to_owned() } else { format!("{}: {arity}", role.summary) }
}
