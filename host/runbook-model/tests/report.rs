//! Reports of whole runs: what they say, and that nothing in a journal becomes a part of the page.

#[path = "report/journals.rs"]
mod journals;

use std::path::Path;

use jiff::tz::{TimeZone, offset};
use proptest::prelude::*;
use runbook_model::event::{Event, Record, RunOutcome, StepOutcome, Verb};
use runbook_model::report::{Fate, Report, Standing, Verdict, Work, html::html, markdown::markdown};

use journals::{HOUR, MINUTE, SECOND, everything, on};

fn report(records: Vec<Record>) -> Report {
    Report::of(records).expect("the engine could have written it")
}

fn zone() -> TimeZone {
    TimeZone::fixed(offset(1))
}

fn page(report: &Report) -> String {
    html(report, &zone()).expect("there is a page of each report")
}

fn text(report: &Report) -> String {
    markdown(report, &zone()).expect("there is a text of each report")
}

/// The page without its style, which is looked at rather than compared.
fn without_style(page: &str) -> String {
    let (head, rest) = page.split_once("<style>").expect("a page has a style");
    let (_, tail) = rest.split_once("</style>").expect("a style ends");
    let digest = |line: &&str| !line.contains("Content-Security-Policy");
    head.lines().filter(digest).chain(tail.lines()).map(|line| format!("{line}\n")).collect()
}

#[test]
fn reports_read_as_written() {
    let cases = [
        ("succeeded", journals::succeeded()),
        ("failed-and-undone", journals::failed_and_undone()),
        ("stuck", journals::stuck()),
        ("resumed", journals::resumed()),
        ("drill", journals::drill()),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report");
    let bless = std::env::var_os("BLESS").is_some();
    for (name, records) in cases {
        let report = report(records);
        for (kind, got) in [("md", text(&report)), ("html", without_style(&page(&report)))] {
            let file = folder.join(format!("{name}.{kind}"));
            if bless {
                std::fs::write(&file, &got).expect("the expectation is writable");
            }
            let want = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(got, want, "{}: BLESS=1 rewrites it", file.display());
        }
    }
}

#[test]
fn a_run_within_its_time() {
    let report = report(journals::succeeded());
    assert_eq!(report.standing, Standing::Succeeded);
    let took = report.recovery.took_ms.expect("it recovered");
    assert_eq!(report.recovery.verdict(), Verdict::Met(30 * MINUTE - took));
    assert_eq!((report.summary.changed, report.summary.steps), (4, 4));
    let registry = report.rows().find(|row| row.instance == on("registry", "node1")).expect("it was run");
    assert_eq!((registry.attempts, registry.spans.len()), (2, 1), "attempts of a sitting are one piece of work");
    assert_eq!(registry.worked_ms(), 8 * MINUTE + 6 * SECOND);
}

#[test]
fn a_failed_run_that_was_undone_has_nothing_in_effect() {
    let report = report(journals::failed_and_undone());
    assert_eq!(report.standing, Standing::FailedUndone { left: 0 });
    assert_eq!(report.recovery.verdict(), Verdict::NotRecovered);
    let motd = report.rows().find(|row| row.instance == on("motd", "node1")).expect("it was run");
    assert!(motd.is_undone());
    let works: Vec<Work> = motd.spans.iter().map(|span| span.what).collect();
    assert_eq!(works, [Work::Ended(StepOutcome::Failed), Work::Undoing]);
    let inverse = motd.changes.iter().find(|change| change.takes_back == Some(1)).expect("it was taken back");
    assert_eq!(inverse.fate, Fate::Made);
    assert_eq!(report.changes(), (3, 3), "what a failed command may have done was taken back, too");
}

#[test]
fn what_an_undo_left_is_told_from_what_stays() {
    let motd = on("motd", "node1");
    let mut records = journals::failed_and_undone();
    let place = records.iter().position(|record| matches!(record.event, Event::TakenBack { call: 2, .. }));
    let place = place.expect("the command was taken back");
    records[place].event = Event::Left { instance: motd, call: 2, why: "it does no harm".into() };
    let left = report(records.clone());
    assert_eq!(left.standing, Standing::FailedUndone { left: 1 });
    assert!(text(&left).contains("1 change was left as it is"));

    // Had the undo come to no more than that one, the rest would be in effect.
    let end = records.last().expect("it ended").event.clone();
    records.truncate(place + 2);
    records[place + 1].event = end;
    let stays = report(records);
    assert_eq!(stays.standing, Standing::Failed);
    assert!(text(&stays).contains("A step failed; what was done stays"));
}

#[test]
fn a_run_that_was_cut_off_has_a_gap() {
    let report = report(journals::resumed());
    assert_eq!(report.standing, Standing::Succeeded);
    assert_eq!(report.pauses().map(|(from, to)| to - from).collect::<Vec<_>>(), [3 * HOUR]);
    assert_eq!(report.recovery.paused_ms, 3 * HOUR);
    let took = report.recovery.took_ms.expect("it recovered");
    assert_eq!(report.recovery.verdict(), Verdict::Missed(took - 30 * MINUTE), "the clock runs on in pauses");
    let motd = report.rows().find(|row| row.instance == on("motd", "node1")).expect("it was run");
    let works: Vec<Work> = motd.spans.iter().map(|span| span.what).collect();
    assert_eq!(works, [Work::CutOff, Work::Ended(StepOutcome::Changed)]);
    assert!(motd.spans[1].began_at >= report.sittings[1].began_at, "nobody works in a pause");

    let registry = report.steps.iter().find(|step| step.id == "registry").expect("it is one of the steps");
    assert_eq!(registry.rows.len(), 1, "that it was left out before is over");

    // The same journal up to any of its records is one of a run that has no end yet.
    let records = journals::resumed();
    for cut in 1..records.len() {
        let report = self::report(records[..cut].to_vec());
        assert_eq!((report.standing.clone(), report.recovery.took_ms), (Standing::Unfinished, None), "{cut}");
        assert!(page(&report).contains("unfinished") && text(&report).contains("runbook resume"), "{cut}");
    }
}

#[test]
fn what_a_person_did_is_no_recovery() {
    let report = report(journals::drill());
    assert_eq!(report.standing, Standing::Undone { left: 1 });
    assert_eq!(report.recovery.took_ms, None);
    let notes: Vec<(Verb, bool)> = report.sittings.iter().map(|sitting| (sitting.verb, sitting.is_note)).collect();
    assert_eq!(notes, [(Verb::Exec, false), (Verb::Done, true), (Verb::Undo, false)]);
    let registry = report.rows().find(|row| row.instance == on("registry", "node1")).expect("it was run");
    assert_eq!(registry.by_hand.as_deref(), Some("edited hosts.toml by hand"));
    assert_eq!(registry.changes[0].fate, Fate::Left("a restart is not taken back".to_owned()));
}

#[test]
fn what_is_stuck_is_said_first() {
    let report = report(journals::stuck());
    assert_eq!((report.standing.clone(), report.needs.len(), report.open.len()), (Standing::Stuck, 1, 3));
    assert_eq!(report.recovery.verdict(), Verdict::Overdue(report.recovery.elapsed_ms - 10 * MINUTE));
    let page = page(&report);
    let place = |what: &str| page.find(what).unwrap_or_else(|| panic!("{what} is on the page"));
    assert!(place("zpool status tank") < place("id=\"recovery\""), "what to do comes before how it was");
}

#[test]
fn an_abandoned_run_is_not_open() {
    let mut records = journals::stuck();
    let (seq, at) = (records.len() as u64 + 1, records[0].at + HOUR);
    records.push(Record { seq, at, event: Event::Abandoned { because: "the disk is gone".into() } });
    let report = report(records);
    assert_eq!(report.standing, Standing::Abandoned { because: "the disk is gone".into() });
    assert!(report.open.is_empty());
}

#[test]
fn an_order_that_cannot_be_is_refused() {
    let mut records = journals::succeeded();
    records.remove(0);
    assert!(Report::of(records).is_err());
}

#[test]
fn what_went_as_it_should_on_many_hosts_stands_together() {
    let page = page(&report(journals::fleet(400)));
    assert!(page.contains("399 more, of which nothing is to be said"));
    assert_eq!(page.matches("class=\"row\"").count(), 1, "the one that failed is shown");
    assert_eq!(page.matches("class=\"lane\"").count(), 300);
    assert!(page.contains("100 rows more are not drawn") && page.contains("node400"));
    let text = text(&report(journals::fleet(400)));
    assert!((1..=400).all(|number| text.contains(&format!("node{number}"))));
}

/// The colours of a page by name: in light, and in dark where they differ.
fn colours(style: &str) -> Vec<(String, [f64; 3])> {
    let parts = style.split("--").skip(1).filter_map(|part| part.split_once(": #"));
    let parts = parts.filter(|(_, rest)| rest.len() >= 6);
    let channel = |hex: &str| f64::from(u8::from_str_radix(hex, 16).expect("it is a colour")) / 255.0;
    parts.map(|(name, hex)| (name.to_owned(), [channel(&hex[..2]), channel(&hex[2..4]), channel(&hex[4..6])])).collect()
}

/// How bright a colour is, as WCAG 2 has it.
fn brightness(colour: [f64; 3]) -> f64 {
    let linear = colour.map(|c| if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) });
    0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
}

#[test]
fn texts_can_be_read_in_light_and_in_dark() {
    let page = page(&report(journals::succeeded()));
    let style = page.split_once("<style>").and_then(|(_, rest)| rest.split_once("}\n* {")).expect("it has colours").0;
    let (light, dark) = style.split_once("@media").expect("it has dark ones");
    for theme in [light, dark] {
        let colours = colours(theme);
        let of = |name: &str| colours.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}")).1;
        let mut pairs = vec![("ink", "add"), ("ink", "del"), ("ink", "quiet-wash"), ("ink", "bad-wash")];
        for text in ["ink", "soft", "good", "change", "bad", "undo", "quiet", "limit"] {
            pairs.extend([(text, "card"), (text, "ground")]);
        }
        let washes = ["good", "change", "bad", "undo", "quiet"].map(|name| (name, format!("{name}-wash")));
        pairs.extend(washes.iter().map(|(name, wash)| (*name, wash.as_str())));
        for (text, ground) in pairs {
            let (a, b) = (brightness(of(text)), brightness(of(ground)));
            let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
            assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.2}");
        }
    }
}

#[test]
fn nothing_sealed_is_in_a_report() {
    for records in [journals::succeeded(), journals::failed_and_undone(), journals::drill()] {
        let report = report(records);
        assert!(!page(&report).contains("never-shown") && !text(&report).contains("never-shown"));
    }
}

#[test]
fn a_page_needs_nothing_and_runs_nothing() {
    let page = page(&report(journals::resumed()));
    assert!(page.contains("default-src 'none'"), "scripts and requests are forbidden");
    for what in ["<script", "http://", "https://", " src=", " href=", "@import", "javascript:", " style=", " on"] {
        let within_tag = |tag: &str| tag.split('>').next().unwrap_or_default().contains(what.trim_start_matches('<'));
        let found = page.split('<').skip(1).any(|tag| if what == " on" { handler(tag) } else { within_tag(tag) });
        assert!(!found, "{what}");
    }
    assert_eq!(page.matches("url(").count(), page.matches("url(#").count(), "patterns are those of the page");
}

/// Whether a tag has an attribute that is a script.
fn handler(tag: &str) -> bool {
    let tag = tag.split('>').next().unwrap_or_default();
    tag.split(' ').skip(1).any(|attribute| attribute.starts_with("on") && attribute.contains('='))
}

/// What of a page is markup: its tags with the names of their attributes.
fn skeleton(page: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let (mut tag, mut quoted, mut end) = (String::new(), false, rest.len());
        for (index, c) in rest.char_indices() {
            match c {
                '"' => quoted = !quoted,
                '>' if !quoted => {
                    end = index;
                    break;
                }
                _ if !quoted => tag.push(c),
                _ => {}
            }
        }
        tags.push(tag);
        rest = &rest[end..];
    }
    tags
}

/// The same text without what could be markup.
fn tamed(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '<' | '>' | '&' | '"' | '\'') { 'a' } else { c }).collect()
}

const EVIL: &str = "</style></title><script>alert('x')</script>\"'><img src=x onerror=\"alert(1)\">&lt;";

#[test]
fn a_page_shows_evil_texts_and_obeys_none() {
    let evil = page(&report(everything(&|name| format!("{EVIL}{name}"))));
    let good = page(&report(everything(&|name| tamed(&format!("{EVIL}{name}")))));
    assert_eq!(skeleton(&evil), skeleton(&good));
    assert!(!evil.contains("<script") && !evil.contains("<img"));
    // What is shown is shown whole. (Digests are cut, and labels of the drawing.)
    let escaped = "&lt;/style&gt;&lt;/title&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&#39;&gt;&lt;img src=x \
                   onerror=&quot;alert(1)&quot;&gt;&amp;lt;";
    for name in [
        "run", "runbook", "file", "step", "host", "item", "uses", "cluster", "why", "summary", "before", "after",
        "error", "signal", "lost", "settled", "diverged", "retry", "left", "wrong", "asked", "kind", "subject",
        "machine", "path", "by-hand", "reason", "block", "held", "edit", "conflict", "how", "left-why", "stuck",
        "manual", "resolved", "log", "fault", "denied", "argv", "input", "value", "plugin", "version", "program",
    ] {
        assert!(evil.contains(&format!("{escaped}{name}")), "{name} is not shown");
    }
}

#[test]
fn markdown_shows_evil_texts_and_obeys_none() {
    let evil = "<b>| `x` **y** [z](javascript:alert(1))\n# w";
    let text = text(&report(everything(&|name| format!("{evil}{name}"))));
    let (mut fence, mut in_fence) = (String::new(), false);
    for line in text.lines() {
        let ticks: String = line.trim_start().chars().take_while(|c| *c == '`').collect();
        if ticks.len() > 2 && (!in_fence || (ticks.len() >= fence.len() && line.trim() == ticks)) {
            (in_fence, fence) = (!in_fence, ticks);
            continue;
        }
        if in_fence {
            continue;
        }
        let outside = outside_code(line);
        let bare = |c: char| outside.replace("\\\\", "").replace(&format!("\\{c}"), "").contains(c);
        assert!(!bare('<') && !bare('['), "{line}");
        assert!(!line.trim_start().starts_with("# w"), "{line}");
    }
    assert!(!in_fence, "each block of code ends");
}

/// A line without its spans of code.
fn outside_code(line: &str) -> String {
    let mut outside = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].chars().take_while(|c| *c == '`').count();
        let is_text = rest[..start].ends_with('\\');
        outside.push_str(&rest[..start]);
        let behind = &rest[start + ticks..];
        let close = "`".repeat(ticks);
        let end = behind
            .match_indices(&close)
            .find(|(at, _)| !behind[at + ticks..].starts_with('`') && !behind[..*at].ends_with('`'));
        rest = match end {
            Some((at, _)) if !is_text => &behind[at + ticks..],
            _ => behind,
        };
    }
    outside + rest
}

proptest! {
    #[test]
    fn nothing_of_a_journal_becomes_markup(evil in "[<>&\"'/=a \\n\u{202e}\u{0}`-]{1,16}") {
        let of = |tame: bool| page(&report(everything(&|name| {
            let text = format!("{evil}{name}");
            if tame { tamed(&text) } else { text }
        })));
        prop_assert_eq!(skeleton(&of(false)), skeleton(&of(true)));
    }

    #[test]
    fn a_report_of_any_beginning_of_a_run_can_be_written(cut in 1_usize..60) {
        for records in [journals::drill(), journals::failed_and_undone(), everything(&|name| name.to_owned())] {
            let report = report(records[..cut.min(records.len())].to_vec());
            prop_assert!(page(&report).contains("</html>"));
            prop_assert!(text(&report).contains("## Steps"));
            prop_assert!(report.sittings.last().is_some_and(|last| last.end.is_some()) || report.standing == Standing::Unfinished);
        }
    }
}

#[test]
fn outcomes_of_runs_are_told_apart() {
    let outcomes = [RunOutcome::Failed, RunOutcome::Cancelled, RunOutcome::Stuck, RunOutcome::Succeeded];
    let standings = outcomes.map(|outcome| {
        let mut records = journals::succeeded();
        if let Some(Record { event: Event::RunFinished { outcome: last, .. }, .. }) = records.last_mut() {
            *last = outcome;
        }
        report(records).standing
    });
    assert_eq!(standings, [Standing::Failed, Standing::Cancelled, Standing::Stuck, Standing::Succeeded]);
}
