//! A report in words, as both templates read it: what is left to them is where it stands.

use serde::Serialize;
use serde_json::Value;

use crate::event::{RunOutcome, StepOutcome, Verb};

use super::phrase::{self, Clock, Shade};
use super::timeline::{self, Timeline};
use super::{Change, Note, Report, Row, Sitting, Step, Tone, Verdict};

/// Lines of a diff that are shown; the rest is counted.
const DIFF_LINES: usize = 400;
/// Instances of a step of which each is shown; where there are more, those of which nothing is to be said stand together.
const MANY: usize = 12;
/// Hex digits of a digest that tell it from others.
const DIGEST: usize = 12;

/// A text and its shade.
#[derive(Debug, Serialize)]
pub(super) struct Word {
    word: String,
    shade: Shade,
}

impl Word {
    fn new(word: impl Into<String>, shade: Shade) -> Self {
        Self { word: word.into(), shade }
    }
}

/// All that the templates show.
#[derive(Debug, Serialize)]
pub(super) struct View {
    run: String,
    runbook: String,
    file: String,
    digest: String,
    standing: Word,
    explained: String,
    /// Commands that go on, each with what it does.
    commands: Vec<(String, &'static str)>,
    began: String,
    ended: String,
    zone: String,
    is_plan: bool,
    drill: Option<String>,
    recovery: RecoveryView,
    tiles: Vec<Tile>,
    needs: Vec<NeedView>,
    open: Vec<String>,
    timeline: Timeline,
    sittings: Vec<SittingView>,
    steps: Vec<StepView>,
    blocks: Vec<BlockView>,
    confirmed: Vec<String>,
    receipts: Vec<ReceiptView>,
    inputs: Vec<(String, String)>,
    plugins: Vec<PluginView>,
    programs: Vec<String>,
    unknown: usize,
}

#[derive(Debug, Serialize)]
struct RecoveryView {
    headline: String,
    detail: String,
    shade: Shade,
    /// Where there is a target: the parts of the larger one of time and target, in percent.
    meter: Option<Meter>,
}

#[derive(Debug, Serialize)]
struct Meter {
    parts: Vec<MeterPart>,
    target: f64,
    label: String,
    text: String,
    anchor: &'static str,
}

#[derive(Debug, Serialize)]
struct MeterPart {
    x: f64,
    width: f64,
    is_pause: bool,
}

#[derive(Debug, Serialize)]
struct Tile {
    number: usize,
    what: &'static str,
    shade: Shade,
}

#[derive(Debug, Serialize)]
struct NeedView {
    instance: String,
    why: String,
    manual: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SittingView {
    session: u32,
    what: &'static str,
    began: String,
    ended: String,
    span: String,
    end: Word,
    note: String,
    edits: Vec<String>,
    /// How long nobody was at it before, where that was so.
    pause: Option<String>,
}

#[derive(Debug, Serialize)]
struct StepView {
    id: String,
    uses: String,
    why: String,
    place: String,
    sign: &'static str,
    outcome: Word,
    /// Instances of which something is to be said.
    rows: Vec<RowView>,
    /// Those of which nothing is but how they ended, where there are many.
    others: Vec<RowView>,
}

#[derive(Debug, Serialize)]
struct RowView {
    name: String,
    sign: &'static str,
    outcome: Word,
    undone: bool,
    span: String,
    attempts: u32,
    reason: Option<String>,
    by_hand: Option<String>,
    changes: Vec<ChangeView>,
    notes: Vec<NoteView>,
}

#[derive(Debug, Serialize)]
struct ChangeView {
    /// "undo", "redo" or nothing.
    kind: &'static str,
    at: String,
    summary: String,
    fate: Word,
    notes: Vec<String>,
    diff: Vec<Line>,
    /// Lines of the diff that are not shown.
    left_out: usize,
    /// Lines that came and went.
    added: usize,
    removed: usize,
}

#[derive(Debug, Serialize)]
struct Line {
    kind: &'static str,
    text: String,
}

#[derive(Debug, Serialize)]
struct NoteView {
    at: String,
    shade: Shade,
    text: String,
}

#[derive(Debug, Serialize)]
struct BlockView {
    id: String,
    entered: String,
    end: &'static str,
}

#[derive(Debug, Serialize)]
struct ReceiptView {
    kind: String,
    subject: String,
    by: String,
    place: String,
    size: u64,
    sha256: String,
    made: String,
}

#[derive(Debug, Serialize)]
struct PluginView {
    name: String,
    version: String,
    digest: String,
}

impl View {
    /// A report in words.
    pub(super) fn of(report: &Report, clock: &Clock<'_>) -> Self {
        let (word, shade) = phrase::standing(&report.standing, report.verb);
        let mut programs: Vec<String> = report.sittings.iter().map(|sitting| sitting.program.clone()).collect();
        programs.dedup();
        Self {
            run: report.run.clone(),
            runbook: report.runbook.clone(),
            file: report.file.clone(),
            digest: short(&report.sha256),
            standing: Word::new(word, shade),
            explained: phrase::explained(report),
            commands: phrase::commands(&report.standing, &report.run),
            began: clock.date(report.began_at),
            ended: clock.date(report.ended_at),
            zone: clock.zone(report.began_at),
            is_plan: report.verb == Some(Verb::Plan),
            drill: (report.drilled > 0)
                .then(|| format!("This was a drill: {} on purpose.", phrase::count(report.drilled, "fault"))),
            recovery: recovery(report),
            tiles: tiles(report),
            needs: report
                .needs
                .iter()
                .map(|need| NeedView {
                    instance: need.instance.to_string(),
                    why: need.why.clone(),
                    manual: need.manual.clone(),
                })
                .collect(),
            open: report.open.iter().map(phrase::open).collect(),
            timeline: timeline::timeline(report, clock),
            sittings: sittings(report, clock),
            steps: report.steps.iter().map(|step| of_step(report, step, clock)).collect(),
            blocks: report
                .blocks
                .iter()
                .map(|block| BlockView {
                    id: block.id.clone(),
                    entered: clock.date(block.entered_at),
                    end: phrase::block(block.exited.map(|(_, how)| how)),
                })
                .collect(),
            confirmed: report
                .confirmed
                .iter()
                .map(|said| {
                    let word = if said.approved { "agreed" } else { "not agreed" };
                    format!("{}: {word} ({}), {}", said.step, said.by, clock.moment(said.at))
                })
                .collect(),
            receipts: receipts(report, clock),
            inputs: inputs(&report.inputs),
            plugins: report
                .plugins
                .iter()
                .map(|pin| PluginView {
                    name: pin.name.clone(),
                    version: pin.version.clone(),
                    digest: short(&pin.sha256),
                })
                .collect(),
            programs,
            unknown: report.unknown,
        }
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(DIGEST).collect()
}

fn recovery(report: &Report) -> RecoveryView {
    let recovery = &report.recovery;
    let (headline, detail, shade) = phrase::recovery(report);
    let taken = recovery.took_ms.unwrap_or(recovery.elapsed_ms);
    let meter = recovery.target_ms.filter(|target| *target > 0).map(|target| {
        let whole = taken.max(target) as f64;
        let part = |ms: u64| (ms as f64 / whole * 10_000.0).round() / 100.0;
        let x = part(target);
        Meter {
            parts: parts(report, taken)
                .into_iter()
                .map(|(from, to, is_pause)| MeterPart { x: part(from), width: part(to - from), is_pause })
                .collect(),
            target: x,
            label: format!("{} of {}", phrase::span(taken), phrase::round(target)),
            text: format!("target {}", phrase::round(target)),
            anchor: if x > 50.0 { "end" } else { "start" },
        }
    });
    let shade = match recovery.verdict() {
        // Nobody waits for a run that was taken back on purpose.
        Verdict::NotRecovered if shade == phrase::BAD && report.summary.failed == 0 => phrase::QUIET,
        _ => shade,
    };
    RecoveryView { headline, detail, shade, meter }
}

/// The time from the start until so many milliseconds later, as (from, to, whether nobody was at it).
fn parts(report: &Report, taken: u64) -> Vec<(u64, u64, bool)> {
    let (mut parts, mut end) = (Vec::new(), 0);
    let pauses =
        report.pauses().map(|(from, to)| (from.saturating_sub(report.began_at), to.saturating_sub(report.began_at)));
    for (from, to) in pauses.filter(|(_, to)| *to <= taken) {
        parts.extend([(end, from, false), (from, to, true)]);
        end = to;
    }
    parts.push((end, taken.max(end), false));
    parts.retain(|(from, to, _)| to > from);
    parts
}

fn tiles(report: &Report) -> Vec<Tile> {
    let summary = &report.summary;
    let (begun, back) = report.changes();
    let tile = |number: usize, what: &'static str, shade: Shade| Tile { number, what, shade };
    let mut tiles = vec![
        tile(summary.steps, "steps", phrase::QUIET),
        tile(summary.changed, "changed", phrase::CHANGE),
        tile(summary.unchanged, "unchanged", phrase::GOOD),
        tile(summary.skipped, "skipped", phrase::QUIET),
        tile(summary.failed, "failed", phrase::BAD),
    ];
    if summary.may_change > 0 {
        tiles.insert(2, tile(summary.may_change, "may change", phrase::CHANGE));
    }
    if report.verb != Some(Verb::Plan) {
        tiles.push(tile(begun, "changes", phrase::CHANGE));
        tiles.push(tile(back, "taken back", phrase::UNDO));
    }
    tiles
}

fn sittings(report: &Report, clock: &Clock<'_>) -> Vec<SittingView> {
    let mut views = Vec::new();
    let mut before: Option<&Sitting> = None;
    for (index, sitting) in report.sittings.iter().enumerate() {
        let (word, shade) = phrase::end(sitting.end, index + 1 == report.sittings.len());
        let word = match (sitting.verb, sitting.end) {
            (Verb::Undo, Some(RunOutcome::Succeeded)) if !sitting.is_note => "undone",
            (Verb::Redo, Some(RunOutcome::Succeeded)) if !sitting.is_note => "redone",
            _ if sitting.is_note => "noted",
            _ => word,
        };
        let pause = before.filter(|last| sitting.began_at > last.ended_at).map(|last| {
            let what = if last.end.is_none() { "cut off" } else { "paused" };
            format!("{what} for {}", phrase::span(sitting.began_at - last.ended_at))
        });
        views.push(SittingView {
            session: sitting.session,
            what: phrase::sitting(sitting),
            began: clock.date(sitting.began_at),
            ended: clock.from(sitting.began_at).moment(sitting.ended_at),
            span: phrase::span(sitting.ended_at.saturating_sub(sitting.began_at)),
            end: Word::new(word, if sitting.is_note { phrase::QUIET } else { shade }),
            note: if sitting.force { "over conflicts (--force)".to_owned() } else { String::new() },
            edits: sitting.edits.clone(),
            pause,
        });
        before = Some(sitting);
    }
    views
}

fn of_step(report: &Report, step: &Step, clock: &Clock<'_>) -> StepView {
    let verb = report.verb.unwrap_or(Verb::Exec);
    let holds = |other: &Step| other.id.strip_prefix(step.id.as_str()).is_some_and(|rest| rest.starts_with(['/', '[']));
    let (sign, word, shade) = match (&step.outcome, step.rows.is_empty()) {
        // Of an include, what it includes tells.
        (None, true) if report.steps.iter().any(holds) => ("·", "", phrase::QUIET),
        (None, true) => ("·", "not begun", phrase::QUIET),
        (outcome, _) => phrase::outcome(*outcome, verb),
    };
    let place = match (&step.cluster, step.hosts.as_slice()) {
        (Some(cluster), []) => format!("cluster {cluster}"),
        (Some(cluster), hosts) => format!("{}, cluster {cluster}", hosts.join(", ")),
        (None, hosts) => hosts.join(", "),
    };
    let is_many = step.rows.len() > MANY;
    let (others, rows): (Vec<&Row>, Vec<&Row>) = step.rows.iter().partition(|row| is_many && is_uneventful(row));
    StepView {
        id: step.id.clone(),
        uses: step.uses.clone(),
        why: step.why.clone().unwrap_or_default(),
        place,
        sign,
        outcome: Word::new(word, shade),
        rows: rows.into_iter().map(|row| of_row(verb, row, clock)).collect(),
        others: others.into_iter().map(|row| of_row(verb, row, clock)).collect(),
    }
}

/// Whether nothing is to be said of an instance but how it ended.
fn is_uneventful(row: &Row) -> bool {
    let is_well = row.outcome.is_some_and(StepOutcome::is_ok);
    let is_plain = row.changes.is_empty() && row.notes.is_empty() && row.reason.is_none() && row.by_hand.is_none();
    is_well && is_plain && row.attempts <= 1
}

fn of_row(verb: Verb, row: &Row, clock: &Clock<'_>) -> RowView {
    let (sign, word, shade) = phrase::outcome(row.outcome, verb);
    let (sign, word, shade) = match (row.outcome, row.spans.last()) {
        (None, Some(span)) => {
            let (word, shade) = phrase::work(span.what, verb);
            ("!", word, shade)
        }
        _ => (sign, word, shade),
    };
    RowView {
        name: phrase::within_step(&row.instance),
        sign,
        outcome: Word::new(word, shade),
        undone: row.is_undone(),
        span: if row.spans.is_empty() { String::new() } else { phrase::span(row.worked_ms()) },
        attempts: row.attempts,
        // It says the same again.
        reason: row.reason.clone().filter(|_| row.by_hand.is_none()),
        by_hand: row.by_hand.clone(),
        changes: row.changes.iter().map(|change| of_change(row, change, clock)).collect(),
        notes: row.notes.iter().map(|note| of_note(note, clock)).collect(),
    }
}

fn of_change(row: &Row, change: &Change, clock: &Clock<'_>) -> ChangeView {
    let undone = change.takes_back.and_then(|call| row.changes.iter().find(|other| other.call == call));
    let (fate, shade) = phrase::fate(&change.fate);
    let text = change.diff.as_deref().unwrap_or_default();
    // The lines that name the file say nothing that the summary does not. Further on, such a line is one of the file.
    let named = text.starts_with("--- ") && text.lines().nth(1).is_some_and(|line| line.starts_with("+++ "));
    let mut lines = text.lines().skip(if named { 2 } else { 0 });
    let diff: Vec<Line> = lines.by_ref().take(DIFF_LINES).map(of_line).collect();
    let of_kind = |kind: &str| diff.iter().filter(|line| line.kind == kind).count();
    ChangeView {
        kind: match (change.takes_back, undone.and_then(|undone| undone.takes_back)) {
            (None, _) => "",
            (Some(_), None) => "undo",
            (Some(_), Some(_)) => "redo",
        },
        at: clock.moment(change.at),
        summary: change.summary.clone(),
        fate: Word::new(fate, shade),
        notes: change.notes.clone(),
        left_out: lines.count(),
        added: of_kind("add"),
        removed: of_kind("del"),
        diff,
    }
}

fn of_line(text: &str) -> Line {
    let kind = match text.as_bytes().first() {
        Some(b'+') => "add",
        Some(b'-') => "del",
        Some(b'@') => "at",
        _ => "same",
    };
    Line { kind, text: text.to_owned() }
}

fn of_note(note: &Note, clock: &Clock<'_>) -> NoteView {
    let shade = match note.tone {
        Tone::Quiet => phrase::QUIET,
        Tone::Warning => phrase::CHANGE,
        Tone::Bad => phrase::BAD,
    };
    NoteView { at: clock.moment(note.at), shade, text: note.text.clone() }
}

fn receipts(report: &Report, clock: &Clock<'_>) -> Vec<ReceiptView> {
    let receipts = report.receipts.iter().map(|(instance, receipt)| ReceiptView {
        kind: receipt.kind.clone(),
        subject: receipt.subject.clone(),
        by: instance.to_string(),
        place: format!("{}:{}", receipt.place.target, receipt.place.path),
        size: receipt.place.size,
        sha256: short(&receipt.place.sha256),
        made: clock.date(receipt.made_at),
    });
    receipts.collect()
}

fn inputs(inputs: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Object(map) if map.len() == 1 && map.contains_key("$secret") => "(a secret)".to_owned(),
        other => other.to_string(),
    };
    let map = inputs.as_object();
    map.into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}
