//! `[[step]]` of version 1, as it is written.

use std::ops::Range;

use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error as WordError;

use crate::diagnostic::Diagnostic;
use crate::manifest::{Pattern, Power};
use crate::plan::{Allow, NeedsReceipt, OnUnreachable, Permit, Retry, StepOnFailure, UndoMode};
use crate::schema::node::{Data, Node};
use crate::schema::read::{Fields, Reading, Spanned};

/// A step as it is written.
#[derive(Debug)]
pub struct Step {
    /// Where it begins.
    pub span: Range<usize>,
    /// `id`.
    pub id: Spanned<String>,
    /// `uses` or `include`.
    pub uses: Option<UsesText>,
    /// `on`.
    pub on: Option<Node>,
    /// `among`.
    pub among: Option<Node>,
    /// `cluster`.
    pub cluster: Option<Spanned<String>>,
    /// `with`.
    pub with: Option<Node>,
    /// `needs`.
    pub needs: Option<Vec<Spanned<String>>>,
    /// `when`.
    pub when: Option<Spanned<String>>,
    /// `unless`.
    pub unless: Option<Spanned<String>>,
    /// `for_each`.
    pub for_each: Option<Node>,
    /// `key`.
    pub key: Option<Spanned<String>>,
    /// `serial`.
    pub serial: Option<u32>,
    /// `retry`.
    pub retry: Option<Retry>,
    /// `timeout`.
    pub timeout_ms: Option<u64>,
    /// `on_unreachable`.
    pub on_unreachable: OnUnreachable,
    /// `on_failure`.
    pub on_failure: StepOnFailure,
    /// The block that it stands in.
    pub block: Option<String>,
    /// `needs_receipt`, and its `subject`, which may hold a template, with its place.
    pub needs_receipt: Option<(NeedsReceipt, Option<Spanned<String>>)>,
    /// `confirm.text` and `confirm.type`.
    pub confirm: Option<(Spanned<String>, Option<Spanned<String>>)>,
    /// `undo`.
    pub undo: UndoMode,
    /// `why`.
    pub why: Option<String>,
    /// `manual`.
    pub manual: Option<String>,
    /// `allow`.
    pub allow: Allow,
    /// The keys that are there, with their places.
    pub keys: Vec<Spanned<String>>,
}

/// What a step does, as it is written.
#[derive(Debug)]
pub enum UsesText {
    /// `uses`.
    Action(Spanned<String>),
    /// `include`.
    Include(Spanned<String>),
}

#[derive(Clone, Copy)]
enum FailureWord {
    Known(StepOnFailure),
    BlockOnly,
    RunOnly,
}

impl Step {
    /// Reads a step. None: it cannot even be named.
    pub fn read(r: &Reading<'_>, node: &Node) -> Option<Self> {
        let f = r.fields(node, "step", "a step")?;
        let id = f.required_text("id", "give it a short name, such as `id = \"registry\"`");
        let uses = read_uses(r, &f);
        let confirm = f.node("confirm").and_then(|n| read_confirm(r, n));
        let step = Self {
            span: node.span.clone(),
            id: id.clone().unwrap_or_else(|| Spanned::new(String::new(), node.span.clone())),
            uses,
            on: f.node("on").cloned(),
            among: f.node("among").cloned(),
            cluster: f.text("cluster"),
            with: f.node("with").cloned(),
            needs: f.texts("needs"),
            when: read_condition(r, &f, "when"),
            unless: read_condition(r, &f, "unless"),
            for_each: f.node("for_each").cloned(),
            key: f.text("key"),
            serial: f.integer("serial", 1..=10_000).and_then(|n| u32::try_from(n).ok()),
            retry: f.node("retry").and_then(|n| read_retry(r, n)),
            timeout_ms: f.duration("timeout").filter(|ms| {
                if let (0, Some(node)) = (*ms, f.node("timeout")) {
                    r.report(&node.span, Diagnostic::error("bad-duration", "`timeout` leaves no time at all"));
                }
                *ms > 0
            }),
            on_unreachable: f
                .word(
                    "on_unreachable",
                    &[("stop", OnUnreachable::Stop), ("skip", OnUnreachable::Skip), ("wait", OnUnreachable::Wait)],
                )
                .unwrap_or_default(),
            on_failure: read_on_failure(r, &f),
            block: None,
            needs_receipt: f.node("needs_receipt").and_then(|n| read_needs_receipt(r, n)),
            confirm,
            undo: f.word("undo", &[("auto", UndoMode::Auto), ("none", UndoMode::None)]).unwrap_or_default(),
            why: f.text("why").map(|t| t.value),
            manual: f.text("manual").map(|t| t.value),
            allow: f.node("allow").map(|n| read_allow(r, n)).unwrap_or_default(),
            keys: node
                .as_table()
                .unwrap_or_default()
                .iter()
                .map(|e| Spanned::new(e.key.clone(), e.key_span.clone()))
                .collect(),
        };
        f.finish();
        if id.is_some() {
            r.check_id("a step", &step.id.value, &step.id.span);
        }
        Some(step)
    }

    /// Where a key of the step stands.
    pub fn key_span(&self, key: &str) -> Option<&Range<usize>> {
        self.keys.iter().find(|k| k.value == key).map(|k| &k.span)
    }
}

fn read_uses(r: &Reading<'_>, f: &Fields<'_, '_>) -> Option<UsesText> {
    let uses = f.entry("uses");
    let include = f.entry("include");
    match (uses, include) {
        (Some(_), Some(include)) => {
            r.report(
                &include.key_span,
                Diagnostic::error("conflict", "a step has either `uses` or `include`, not both"),
            );
            None
        }
        (None, None) => {
            f.missing("uses", "say what it does: `uses = \"plugin/action\"`, or `include = \"other.toml\"`");
            None
        }
        (Some(_), None) => f.required_text("uses", "\"plugin/action\"").map(UsesText::Action),
        (None, Some(_)) => f.required_text("include", "the path of a runbook").map(UsesText::Include),
    }
}

pub(super) fn read_condition(r: &Reading<'_>, f: &Fields<'_, '_>, key: &'static str) -> Option<Spanned<String>> {
    let node = f.node(key)?;
    match &node.data {
        Data::Bool(flag) => Some(Spanned::new(flag.to_string(), node.span.clone())),
        Data::String(text) if text.trim().is_empty() => {
            r.report(&node.span, Diagnostic::error("empty", format!("`{key}` is empty")));
            None
        }
        Data::String(text) => Some(Spanned::new(text.clone(), node.span.clone())),
        _ => {
            r.wrong_type(key, "an expression in quotes", node);
            None
        }
    }
}

fn read_on_failure(r: &Reading<'_>, f: &Fields<'_, '_>) -> StepOnFailure {
    let words = [
        ("stop", FailureWord::Known(StepOnFailure::Stop)),
        ("continue", FailureWord::Known(StepOnFailure::Continue)),
        ("undo", FailureWord::BlockOnly),
        ("release", FailureWord::BlockOnly),
        ("hold", FailureWord::BlockOnly),
        ("undo_step", FailureWord::RunOnly),
        ("undo_run", FailureWord::RunOnly),
    ];
    let Some(text) = f.text("on_failure") else { return StepOnFailure::default() };
    match f.pick("on_failure", &text, &words) {
        Some(FailureWord::Known(known)) => return known,
        Some(FailureWord::BlockOnly) => {
            let message = format!("`on_failure = \"{}\"` belongs to a block of steps", text.value);
            let help = "a step has \"stop\" or \"continue\"; put it under `[[step.do]]` of a step that has it";
            r.report(&text.span, Diagnostic::error("bad-value", message).help(help));
        }
        Some(FailureWord::RunOnly) => {
            let message = format!("`on_failure = \"{}\"` is said once, at the top of the runbook", text.value);
            let help = "a step has \"stop\" or \"continue\"; `undo = \"none\"` leaves it out of an undo";
            r.report(&text.span, Diagnostic::error("bad-value", message).help(help));
        }
        None => {}
    }
    StepOnFailure::default()
}

fn read_retry(r: &Reading<'_>, node: &Node) -> Option<Retry> {
    let f = r.fields(node, "retry", "`retry`")?;
    let attempts = f
        .required("attempts", "how often it is tried in all, such as `attempts = 3`")
        .and_then(|_| f.integer("attempts", 1..=1000));
    let backoff_ms = if f.node("backoff").is_some() { f.duration("backoff") } else { Some(5000) };
    f.finish();
    Some(Retry { attempts: u32::try_from(attempts?).ok()?, backoff_ms: backoff_ms? })
}

fn read_confirm(r: &Reading<'_>, node: &Node) -> Option<(Spanned<String>, Option<Spanned<String>>)> {
    let f = r.fields(node, "confirm", "`confirm`")?;
    let text = f.required_text("text", "the question that is asked");
    let typed = f.text("type");
    if let Some(entry) = f.entry("choose") {
        let diagnostic = Diagnostic::error("unsupported", "`confirm.choose` is not supported yet");
        r.report(&entry.key_span, diagnostic.help("an input with `choices` can be asked for before the run"));
    }
    f.finish();
    Some((text?, typed))
}

fn read_needs_receipt(r: &Reading<'_>, node: &Node) -> Option<(NeedsReceipt, Option<Spanned<String>>)> {
    let f = r.fields(node, "needs_receipt", "`needs_receipt`")?;
    let kind = f.required_text("kind", "of what sort, such as \"backup\"");
    let subject = f.text("subject");
    let needs = NeedsReceipt {
        kind: kind.as_ref().map(|kind| kind.value.clone()).unwrap_or_default(),
        subject: subject.as_ref().map(|subject| subject.value.clone()),
        max_age_ms: f.duration("max_age"),
        off_host: f.flag("off_host").unwrap_or_default(),
    };
    f.finish();
    kind.map(|_| (needs, subject))
}

fn read_allow(r: &Reading<'_>, node: &Node) -> Allow {
    const HELP: &str = "write `allow = \"asked\"` for all that the plugin asks for, or a list such as \
                        [{ call = \"files.write\", path = \"/etc/foo/**\" }]";
    match &node.data {
        Data::String(word) if word == "asked" => Allow::Asked,
        Data::String(word) => {
            r.report(&node.span, Diagnostic::error("bad-value", format!("`allow` cannot be \"{word}\"")).help(HELP));
            Allow::Unsaid
        }
        Data::List(nodes) => Allow::Only(nodes.iter().filter_map(|n| read_permit(r, n)).collect()),
        _ => {
            r.wrong_type("allow", "\"asked\" or a list of tables", node);
            Allow::Unsaid
        }
    }
}

/// The call with this name.
pub fn power_from_word(word: &str) -> Option<Power> {
    let deserializer: serde::de::value::StrDeserializer<'_, WordError> = word.into_deserializer();
    Power::deserialize(deserializer).ok()
}

/// All names of calls.
pub const POWERS: [&str; 18] = [
    "ssh.observe",
    "ssh.change",
    "ssh.reboot",
    "ssh.net",
    "ssh.http-change",
    "files.read",
    "files.write",
    "controller.read",
    "controller.write",
    "kube.read",
    "kube.logs",
    "kube.apply",
    "kube.patch",
    "kube.delete",
    "kube.scale",
    "kube.evict",
    "kube.exec-observe",
    "kube.exec-change",
];

fn read_permit(r: &Reading<'_>, node: &Node) -> Option<Permit> {
    let f = r.fields(node, "allow", "an entry of `allow`")?;
    let words: Vec<(&'static str, Power)> = POWERS.iter().filter_map(|w| power_from_word(w).map(|p| (*w, p))).collect();
    let call =
        f.required_text("call", "which call, such as \"ssh.change\"").and_then(|text| f.pick("call", &text, &words));
    let literal = |key: &str, text: &Spanned<String>| {
        if text.value.contains("{{") {
            let diagnostic = Diagnostic::error("bad-value", format!("`{key}` of `allow` cannot hold an expression"))
                .help("an owner's grant is a literal; `${input.NAME}` stands for an input of the step");
            r.report(&text.span, diagnostic);
        }
    };
    let plain = |key: &'static str| {
        let text = f.text(key)?;
        literal(key, &text);
        Some(text.value)
    };
    let plain_list = |key: &'static str| {
        let texts = f.texts(key)?;
        texts.iter().for_each(|text| literal(key, text));
        Some(texts.into_iter().map(|t| t.value).collect::<Vec<_>>())
    };
    let on = Pattern {
        argv: plain_list("argv"),
        env: plain_list("env"),
        path: plain("path"),
        kind: plain("kind"),
        namespace: plain("namespace"),
        name: plain("name"),
        url: plain("url"),
    };
    let privileged = f.flag("privileged").unwrap_or_default();
    f.finish();
    Some(Permit { call: call?, on, privileged })
}
