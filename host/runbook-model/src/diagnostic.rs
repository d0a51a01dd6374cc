//! What is wrong with a file: where, what, and how to put it right.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

/// Lines around a mistake of which the renderer may want to know.
const NEIGHBOURS: usize = 2;

/// A text that diagnostics point into.
#[derive(Debug)]
pub struct Source {
    /// The file as the user named it.
    pub name: String,
    /// All of its text.
    pub text: String,
    /// Where each line begins. Found at the first question, since most texts have no mistake.
    lines: OnceLock<Vec<usize>>,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.text == other.text
    }
}

impl Eq for Source {}

impl Source {
    /// A text, by the name of its file.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), lines: OnceLock::new() }
    }

    /// Line and column of a byte offset, both from 1; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.floor(offset);
        let line = self.line(offset);
        (line, self.text[self.lines()[line - 1]..offset].chars().count() + 1)
    }

    /// Line of a byte offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.lines().partition_point(|start| *start <= offset)
    }

    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| std::iter::once(0).chain(self.text.match_indices('\n').map(|(i, _)| i + 1)).collect())
    }

    /// The lines of a span with some neighbours: number of the first, place of its first byte, text.
    fn excerpt(&self, span: &Range<usize>) -> (usize, usize, &str) {
        let lines = self.lines();
        let first = self.line(span.start).saturating_sub(NEIGHBOURS).max(1);
        let start = lines[first - 1];
        let end = lines.get(self.line(span.end) + NEIGHBOURS).copied().unwrap_or(self.text.len());
        (first, start, &self.text[start..end])
    }

    /// The nearest boundary of a character at or before an offset.
    fn floor(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The runbook cannot run.
    Error,
    /// It can, but should be looked at.
    Warning,
    /// Nothing is wrong with it; something is to be done before it can run.
    Note,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Names the kind of mistake; never changes: "unknown-key".
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The file; none where the mistake is not in one (a value of the command line).
    pub file: Option<Arc<Source>>,
    /// The place in the file, in bytes.
    pub span: Range<usize>,
    /// A word beside the caret; may be empty.
    pub label: String,
    /// How to put it right.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: visible(&message.into()),
            file: None,
            span: 0..0,
            label: String::new(),
            help: None,
        }
    }

    /// A warning without a place.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// A note without a place.
    pub fn note(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(code, message) }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, file: &Arc<Source>, span: Range<usize>) -> Self {
        let start = file.floor(span.start);
        self.span = start..file.floor(span.end).max(start);
        self.file = Some(Arc::clone(file));
        self
    }

    /// Puts a word beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = visible(&label.into());
        self
    }

    /// Says how to put it right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(visible(&help.into()));
        self
    }

    /// Says how to put it right, where that is known.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.map(|h| visible(&h)).or(self.help);
        self
    }

    /// Line and column, both from 1.
    pub fn position(&self) -> Option<(usize, usize)> {
        self.file.as_ref().map(|f| f.position(self.span.start))
    }

    /// For a person: message, place, the line with a caret, help. Ends without a newline.
    pub fn render(&self, coloured: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let title = level.primary_title(&self.message).id(self.code);
        let mut group = match &self.file {
            Some(file) => {
                // Not the whole text: with many mistakes in a large file it would be read as many times.
                let (line, start, text) = file.excerpt(&self.span);
                let annotation = AnnotationKind::Primary.span(self.span.start - start..self.span.end - start);
                let annotation = if self.label.is_empty() { annotation } else { annotation.label(&self.label) };
                let snippet = Snippet::source(text).line_start(line).path(&file.name).fold(true);
                title.element(snippet.annotation(annotation))
            }
            None => Group::with_title(title),
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// For a program.
    pub fn to_json(&self) -> Value {
        let mut out = json!({
            "code": self.code,
            "severity": match self.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "note",
            },
            "message": self.message,
        });
        if let Some(file) = &self.file {
            let (line, column) = file.position(self.span.start);
            let (end_line, end_column) = file.position(self.span.end);
            out["file"] = json!(file.name);
            out["line"] = json!(line);
            out["column"] = json!(column);
            out["end_line"] = json!(end_line);
            out["end_column"] = json!(end_column);
        }
        if !self.label.is_empty() {
            out["label"] = json!(self.label);
        }
        if let Some(help) = &self.help {
            out["help"] = json!(help);
        }
        out
    }
}

/// Whether one of them keeps the runbook from running.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|d| d.severity == Severity::Error)
}

/// All of them for a person, a blank line between them.
pub fn render_all(diagnostics: &[Diagnostic], coloured: bool) -> String {
    diagnostics.iter().map(|d| d.render(coloured)).collect::<Vec<_>>().join("\n\n")
}

/// The name that was probably meant.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &candidate.to_lowercase().replace('-', "_")), candidate))
        // One letter of a short name makes another name, not a slip.
        .filter(|(distance, candidate)| *distance <= candidate.len().max(word.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Help for a name that is not known: the one that was probably meant, else those that there are.
pub fn name_help<'a>(word: &str, what: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(best) = did_you_mean(word, known.clone()) {
        return Some(format!("did you mean `{best}`?"));
    }
    let names: Vec<&str> = known.into_iter().collect();
    match names.len() {
        0 => Some(format!("there are no {what}")),
        n if n <= 12 => Some(format!("the {what} are {}", list(&names))),
        _ => None,
    }
}

/// Names in backticks, with commas.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    let mut out = String::new();
    for (i, name) in names.iter().enumerate() {
        let _ = write!(out, "{}`{}`", if i == 0 { "" } else { ", " }, name.as_ref());
    }
    out
}

/// A text of somebody else as it can go to a terminal: control characters become visible.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control() && c != '\n';
            let plain = (!escaped).then_some(c);
            plain.into_iter().chain(escaped.then(|| c.escape_default()).into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_place_and_help() {
        let source = Arc::new(Source::new("dr.toml", "schema = 1\nnmae = \"ä\"\n"));
        let diagnostic = Diagnostic::error("unknown-key", "unknown key `nmae`")
            .at(&source, 11..15)
            .label("not a key of a runbook")
            .help("did you mean `name`?");
        assert_eq!(
            diagnostic.render(false),
            "error[unknown-key]: unknown key `nmae`\n --> dr.toml:2:1\n  |\n2 | nmae = \"ä\"\n  | ^^^^ not a key of a \
             runbook\n  |\n  = help: did you mean `name`?"
        );
        assert_eq!(diagnostic.to_json()["line"], 2);
        assert!(diagnostic.render(true).contains("\u{1b}["));
    }

    #[test]
    fn places_without_text_do_no_harm() {
        let source = Arc::new(Source::new("x", "ä"));
        for span in [0..0, 1..1, 0..1, 5..9, 2..2] {
            let _ = Diagnostic::error("x", "y\u{1b}[31m").at(&source, span).render(false);
        }
        assert!(!Diagnostic::error("x", "y\u{1b}[31m").render(false).contains('\u{1b}'));
    }

    #[test]
    fn places_are_those_of_the_text_before_them() {
        for text in ["", "\n", "a\nä\r\n\nb", "ä\n", "\n\n"] {
            let source = Arc::new(Source::new("x", text));
            for offset in 0..text.len() + 3 {
                let before = &text[..text.floor_char_boundary(offset)];
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                assert_eq!(source.position(offset), (line, column), "{text:?} at {offset}");
            }
        }
    }

    #[test]
    fn the_lines_around_a_mistake_do_not_change_how_it_is_shown() {
        let text = (1..=40).map(|n| format!("line {n}\n")).collect::<String>();
        let at = text.find("line 20").expect("is there");
        for span in [0..4, at..at + 4, at..at + 30, text.len()..text.len(), text.len() - 1..text.len(), at..text.len()]
        {
            let source = Arc::new(Source::new("x", text.as_str()));
            let diagnostic = Diagnostic::error("x", "y").at(&source, span.clone());
            let whole = Snippet::source(&text).path("x").fold(true).annotation(AnnotationKind::Primary.span(span));
            let group = Level::ERROR.primary_title("y").id("x").element(whole);
            assert_eq!(diagnostic.render(false), Renderer::plain().render(&[group]));
        }
    }

    #[test]
    fn suggests_only_what_is_near() {
        assert_eq!(did_you_mean("adress", ["address", "addresses"]), Some("address"));
        assert_eq!(did_you_mean("on-failure", ["on_failure"]), Some("on_failure"));
        assert_eq!(did_you_mean("x", ["y", "id"]), None);
        assert_eq!(did_you_mean("zzzzz", ["schema"]), None);
    }
}
