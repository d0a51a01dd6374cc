//! Where on a line of 100 percent a moment lies, and which rows and bars a timeline has.
//!
//! Places across are percents of the width and places down are pixels, so that the drawing follows the width of a page while its text
//! keeps its size. Long pauses between sittings are drawn short: the work on both sides is what a reader looks at.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::event::Verb;

use super::phrase::{self, Clock, Shade};
use super::{Report, Row, Work};

/// A pause takes at most this part of the time of work.
const PAUSE: f64 = 0.12;
/// How far behind the last record the target may lie to be drawn where it is, as a part of the time of work.
const BEHIND: f64 = 0.35;
/// Percent between two marks of the axis: less, and their texts meet on a phone.
const BETWEEN_MARKS: f64 = 20.0;
/// The same behind the mark at the left edge, whose text begins there.
const BEHIND_FIRST: f64 = 27.0;
/// Percent: a bar of less is not seen.
const THINNEST: f64 = 0.5;
/// Percent: a pause of less has no room to say how long it was.
const ROOM: f64 = 5.0;
/// Pixels of the line at the lower edge that tells how long pauses were.
const FOOT: u32 = 22;
/// Pixels from the upper edge to the first row: the axis is there.
const TOP: u32 = 44;
/// Pixels of a row that names a host.
const HEADING: u32 = 34;
/// Pixels of a row of an instance.
const ROW: u32 = 38;
/// Rows that are drawn: a page with more is nothing to look at.
const MOST_ROWS: usize = 300;

/// A timeline, ready to be drawn.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Timeline {
    /// Pixels.
    pub(super) height: u32,
    pub(super) groups: Vec<Heading>,
    pub(super) rows: Vec<Lane>,
    pub(super) marks: Vec<Mark>,
    pub(super) pauses: Vec<Pause>,
    /// The target, where it lies within the drawing.
    pub(super) target: Option<Target>,
    /// The target, where it lies behind the right edge.
    pub(super) target_behind: Option<String>,
    /// Rows that are not drawn.
    pub(super) left_out: usize,
}

/// The name of a host above its rows.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Heading {
    pub(super) y: u32,
    pub(super) name: String,
}

/// A row: one instance of a step.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Lane {
    pub(super) y: u32,
    pub(super) label: String,
    pub(super) full: String,
    pub(super) note: String,
    pub(super) shade: Shade,
    pub(super) bars: Vec<Bar>,
}

/// A time of work.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Bar {
    /// Percent.
    pub(super) x: f64,
    /// Percent.
    pub(super) width: f64,
    pub(super) shade: Shade,
    /// In words.
    pub(super) title: String,
}

/// A mark of the axis.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Mark {
    /// Percent.
    pub(super) x: f64,
    /// How far from the start.
    pub(super) offset: String,
    /// The time of day, where it differs from the mark before.
    pub(super) clock: String,
    /// Which end of the text is there: "start", "middle".
    pub(super) anchor: &'static str,
}

/// A time in which nobody was at it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Pause {
    /// Percent.
    pub(super) x: f64,
    /// Percent.
    pub(super) width: f64,
    /// The middle of it, in percent.
    pub(super) middle: f64,
    /// How long it was, where there is room to say so.
    pub(super) label: String,
    /// In words.
    pub(super) title: String,
    /// The run was killed before it.
    pub(super) died: bool,
}

/// The target.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Target {
    /// Percent.
    pub(super) x: f64,
    pub(super) label: String,
    /// Which end of the text is there.
    pub(super) anchor: &'static str,
}

/// A part of time and the part of the width that it takes, in milliseconds of work.
#[derive(Debug, Clone, Copy)]
struct Piece {
    from: u64,
    to: u64,
    start: f64,
    width: f64,
    is_work: bool,
}

/// Which moment lies where.
#[derive(Debug)]
struct Scale {
    pieces: Vec<Piece>,
    width: f64,
}

impl Scale {
    fn of(report: &Report, until: u64) -> Self {
        let long = |from: u64, to: u64| to.saturating_sub(from) as f64;
        let work: f64 = report.sittings.iter().map(|sitting| long(sitting.began_at, sitting.ended_at)).sum();
        let work = work.max(1.0);
        let (mut pieces, mut end): (Vec<Piece>, f64) = (Vec::new(), 0.0);
        let mut push = |from: u64, to: u64, is_work: bool| {
            let width = if is_work { long(from, to) } else { long(from, to).min(work * PAUSE) };
            pieces.push(Piece { from, to, start: end, width, is_work });
            end += width;
        };
        let mut last = report.began_at;
        for sitting in &report.sittings {
            if sitting.began_at > last {
                push(last, sitting.began_at, false);
            }
            push(sitting.began_at.max(last), sitting.ended_at.max(last), true);
            last = last.max(sitting.ended_at);
        }
        if until > last {
            push(last, until, true);
        }
        Self { pieces, width: end.max(1.0) }
    }

    /// Percent.
    fn place(&self, at: u64) -> f64 {
        let piece = self.pieces.iter().find(|piece| at <= piece.to).or(self.pieces.last());
        let Some(piece) = piece else { return 0.0 };
        let long = piece.to.saturating_sub(piece.from).max(1) as f64;
        let part = (at.saturating_sub(piece.from) as f64 / long).min(1.0);
        percent((piece.start + part * piece.width) / self.width)
    }
}

/// A part as percent, with two digits: more would only make the page larger.
fn percent(part: f64) -> f64 {
    (part.clamp(0.0, 1.0) * 10_000.0).round() / 100.0
}

/// The timeline of a run.
pub(super) fn timeline(report: &Report, clock: &Clock<'_>) -> Timeline {
    let work: u64 = report.sittings.iter().map(|sitting| sitting.ended_at.saturating_sub(sitting.began_at)).sum();
    let target = report.recovery.target_ms.map(|ms| (report.began_at.saturating_add(ms), phrase::round(ms)));
    let reach = report.ended_at.saturating_add((work as f64 * BEHIND) as u64);
    let drawn = target.as_ref().filter(|(at, _)| *at <= reach);
    let scale = Scale::of(report, drawn.map_or(report.ended_at, |(at, _)| (*at).max(report.ended_at)));
    let mut timeline = Timeline {
        target: drawn.map(|(at, text)| {
            let x = scale.place(*at);
            let anchor = if x > 60.0 { "end" } else { "start" };
            Target { x, label: format!("target {text}"), anchor }
        }),
        target_behind: target.as_ref().filter(|(at, _)| *at > reach).map(|(_, text)| text.clone()),
        marks: marks(&scale, report.began_at, clock),
        pauses: pauses(report, &scale),
        ..Timeline::default()
    };
    lanes(report, &scale, clock, &mut timeline);
    timeline
}

fn pauses(report: &Report, scale: &Scale) -> Vec<Pause> {
    let pairs = report.sittings.windows(2).filter(|pair| pair[1].began_at > pair[0].ended_at);
    let pauses = pairs.map(|pair| {
        let (from, to) = (pair[0].ended_at, pair[1].began_at);
        let (x, died) = (scale.place(from), pair[0].end.is_none());
        let what = if died { "the run was cut off" } else { "nobody was at it" };
        let title = format!("{what}, for {}", phrase::span(to - from));
        let width = percent((scale.place(to) - x) / 100.0);
        let label = if width < ROOM { String::new() } else { phrase::span(to - from) };
        Pause { x, width, middle: percent((x + width / 2.0) / 100.0), label, title, died }
    });
    pauses.collect()
}

/// Marks at round distances from the start, as dense as their texts allow.
fn marks(scale: &Scale, began_at: u64, clock: &Clock<'_>) -> Vec<Mark> {
    const STEPS: [u64; 26] = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000,
        600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000, 43_200_000, 86_400_000,
    ];
    let wide = |step: u64| step as f64 / scale.width * 100.0 >= BETWEEN_MARKS;
    let step = STEPS.into_iter().find(|step| wide(*step)).unwrap_or((scale.width / 5.0) as u64).max(1);
    let mut marks: Vec<Mark> = Vec::new();
    let mut said = String::new();
    for piece in scale.pieces.iter().filter(|piece| piece.is_work) {
        let (from, to) = (piece.from.saturating_sub(began_at), piece.to.saturating_sub(began_at));
        // A sitting after a pause begins with a mark of its own: round distances need not fall into it.
        let round = (from.div_ceil(step)..=to / step).map(|index| index * step);
        for offset in std::iter::once(from).chain(round) {
            let x = scale.place(began_at + offset);
            // The first mark behind a pause lies at the end of the pause, not at its start.
            let x = if offset == from { percent(piece.start / scale.width) } else { x };
            let is_free = marks
                .last()
                .is_none_or(|last| x - last.x >= if last.anchor == "start" { BEHIND_FIRST } else { BETWEEN_MARKS });
            if !is_free || x > 92.0 {
                continue;
            }
            let at = began_at + offset;
            let time = if step >= 60_000 { clock.minute(at) } else { clock.second(at) };
            let offset = if offset == 0 {
                "start".to_owned()
            } else if offset % step == 0 {
                format!("+{}", phrase::round(offset))
            } else {
                format!("+{}", phrase::span(offset))
            };
            let clock = if time == said { String::new() } else { time.clone() };
            said = time;
            marks.push(Mark { x, offset, clock, anchor: if x < 6.0 { "start" } else { "middle" } });
        }
    }
    marks
}

/// The rows, by host in the order in which hosts come up; within one by step.
fn lanes(report: &Report, scale: &Scale, clock: &Clock<'_>, timeline: &mut Timeline) {
    let mut order: Vec<String> = Vec::new();
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for step in &report.steps {
        for row in &step.rows {
            let place = match (&row.instance.host, &step.cluster) {
                (Some(host), _) => host.clone(),
                (None, Some(cluster)) => format!("cluster {cluster}"),
                (None, None) if !step.hosts.is_empty() => step.hosts.join(", "),
                (None, None) => "the run".to_owned(),
            };
            if !groups.contains_key(&place) {
                order.push(place.clone());
            }
            groups.entry(place).or_default().push(row);
        }
    }
    let mut y = TOP;
    for name in order {
        let rows = groups.remove(&name).unwrap_or_default();
        if timeline.rows.len() >= MOST_ROWS {
            timeline.left_out += rows.len();
            continue;
        }
        timeline.groups.push(Heading { y, name });
        y += HEADING;
        let fit = rows.len().min(MOST_ROWS - timeline.rows.len());
        timeline.left_out += rows.len() - fit;
        for row in &rows[..fit] {
            timeline.rows.push(lane(report, row, y, scale, clock));
            y += ROW;
        }
    }
    timeline.height = y + if timeline.pauses.is_empty() { 4 } else { FOOT };
}

fn lane(report: &Report, row: &Row, y: u32, scale: &Scale, clock: &Clock<'_>) -> Lane {
    let verb = report.verb.unwrap_or(Verb::Exec);
    let step = &row.instance.step;
    let full = row.instance.item.as_ref().map_or_else(|| step.clone(), |item| format!("{step}[{item}]"));
    let (_, word, shade) = phrase::outcome(row.outcome, verb);
    let (word, shade) = match (row.is_undone(), row.outcome) {
        (true, _) => ("undone", phrase::UNDO),
        (false, None) => row.spans.last().map_or((word, shade), |span| phrase::work(span.what, verb)),
        (false, Some(_)) => (word, shade),
    };
    let worked = row.worked_ms();
    let note = if row.spans.is_empty() { word.to_owned() } else { format!("{word} · {}", phrase::span(worked)) };
    let bars = row.spans.iter().map(|span| {
        let (word, shade) = phrase::work(span.what, verb);
        let x = scale.place(span.began_at).min(100.0 - THINNEST);
        let width = percent(((scale.place(span.ended_at) - x).max(THINNEST)).min(100.0 - x) / 100.0);
        let long = phrase::span(span.ended_at.saturating_sub(span.began_at));
        let what = if span.what == Work::Undoing { "taking back" } else { word };
        let title = format!(
            "{}: {what}, {} to {}, {long}",
            row.instance,
            clock.moment(span.began_at),
            clock.moment(span.ended_at)
        );
        Bar { x, width, shade, title }
    });
    Lane { y, label: shortened(&full, 28), full: row.instance.to_string(), note, shade, bars: bars.collect() }
}

/// A text of at most so many characters.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::report::Sitting;
    use crate::summary::Counter;

    /// A run that was at work and paused for these milliseconds in turn.
    fn report(turns: &[(u64, u64)], rto_ms: Option<u64>) -> Report {
        let mut report = Report { began_at: 1_000_000, ..Report::default() };
        report.recovery.target_ms = rto_ms;
        let mut now = report.began_at;
        for (index, (work, pause)) in turns.iter().enumerate() {
            report.sittings.push(Sitting {
                session: index as u32 + 1,
                verb: Verb::Exec,
                is_note: false,
                program: String::new(),
                began_at: now,
                ended_at: now + work,
                end: None,
                summary: Counter::default().summary(),
                edits: Vec::new(),
                force: false,
            });
            report.ended_at = now + work;
            now += work + pause;
        }
        report
    }

    proptest! {
        #[test]
        fn time_runs_from_left_to_right(
            turns in prop::collection::vec((0_u64..10_000_000, 0_u64..1_000_000_000), 1..6),
            rto in prop::option::of(0_u64..100_000_000),
        ) {
            let report = report(&turns, rto);
            let scale = Scale::of(&report, report.ended_at);
            let moments = report.sittings.iter().flat_map(|sitting| [sitting.began_at, sitting.ended_at]);
            let places: Vec<f64> = moments.map(|at| scale.place(at)).collect();
            prop_assert!(places.is_sorted(), "{places:?}");
            prop_assert!(places.iter().all(|place| (0.0..=100.0).contains(place)), "{places:?}");
            let zone = TimeZone::UTC;
            let timeline = timeline(&report, &Clock::new(&zone, report.began_at));
            let marks: Vec<f64> = timeline.marks.iter().map(|mark| mark.x).collect();
            prop_assert!(marks.windows(2).all(|pair| pair[1] - pair[0] >= BETWEEN_MARKS), "{marks:?}");
            prop_assert!(marks.first() == Some(&0.0), "{marks:?}");
            for pause in &timeline.pauses {
                prop_assert!(pause.x >= 0.0 && pause.x + pause.width <= 100.01, "{pause:?}");
            }
            prop_assert_eq!(timeline.target.is_some() || timeline.target_behind.is_some(), rto.is_some());
        }
    }

    #[test]
    fn a_night_does_not_hide_the_work() {
        let report = report(&[(60_000, 36_000_000), (60_000, 0)], Some(30_000));
        let zone = TimeZone::UTC;
        let timeline = timeline(&report, &Clock::new(&zone, report.began_at));
        let pause = &timeline.pauses[0];
        assert!(pause.width < 12.0 && pause.label == "10h 00m", "{pause:?}");
        assert!(timeline.target.is_some_and(|target| (20.0..30.0).contains(&target.x)));
    }

    #[test]
    fn a_target_far_behind_is_only_told() {
        let timeline = timeline(&report(&[(60_000, 0)], Some(1_800_000)), &Clock::new(&TimeZone::UTC, 0));
        assert_eq!((timeline.target, timeline.target_behind.as_deref()), (None, Some("30m")));
    }
}
