//! Edits of text, one line or one block at a time, that find nothing to do the second time.

use regex_lite::Regex;

/// What marks a block: a comment line with its name before it, and one after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    begin: String,
    end: String,
}

impl Marker {
    /// `# BEGIN name` and `# END name`.
    pub fn new(name: &str) -> Self {
        Self::with_comment(name, "#")
    }

    /// The same with other characters before: `//`, `;`, `--`.
    pub fn with_comment(name: &str, comment: &str) -> Self {
        Self { begin: format!("{comment} BEGIN {name}"), end: format!("{comment} END {name}") }
    }
}

/// Why an edit was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditError {
    /// There is a first marker and no last one, or the other way round, or one of them twice.
    BrokenBlock(String),
}

impl std::fmt::Display for EditError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BrokenBlock(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for EditError {}

impl From<EditError> for crate::Error {
    fn from(error: EditError) -> Self {
        Self::conflict(error.to_string())
    }
}

/// The text with `line` in it: in place of the last line that `pattern` matches, else appended, unless it is there already.
///
/// Only one line is replaced, and the ends of the other lines (`\r\n` too) stay as they are.
pub fn ensure_line(text: &str, pattern: Option<&Regex>, line: &str) -> String {
    let lines = lines(text);
    let matching = pattern.and_then(|pattern| lines.iter().rposition(|(content, _)| pattern.is_match(content)));
    match matching {
        Some(index) if lines[index].0 == line => text.to_owned(),
        Some(index) => {
            join(lines.iter().enumerate().map(|(i, &(old, end))| (if i == index { line } else { old }, end)))
        }
        None if lines.iter().any(|(content, _)| *content == line) => text.to_owned(),
        None => append(text, line),
    }
}

/// The text without the lines that `pattern` matches.
pub fn remove_lines(text: &str, pattern: &Regex) -> String {
    join(lines(text).into_iter().filter(|(content, _)| !pattern.is_match(content)))
}

/// The text with `content` between the marker's lines: in place of what is between them, else appended. An empty content removes
/// the block with its markers.
///
/// # Errors
///
/// [`EditError::BrokenBlock`] where the markers do not come as a pair: whose lines those are cannot be known.
pub fn ensure_block(text: &str, marker: &Marker, content: &str) -> Result<String, EditError> {
    let lines = lines(text);
    let find = |wanted: &str| -> Vec<usize> {
        lines.iter().enumerate().filter(|(_, (line, _))| line.trim_end() == wanted).map(|(index, _)| index).collect()
    };
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut block = String::new();
    if !content.is_empty() {
        for line in std::iter::once(marker.begin.as_str()).chain(content.lines()).chain([marker.end.as_str()]) {
            block.push_str(line);
            block.push_str(newline);
        }
    }
    match (find(&marker.begin).as_slice(), find(&marker.end).as_slice()) {
        ([], []) if block.is_empty() => Ok(text.to_owned()),
        ([], []) => Ok(append(text, block.trim_end_matches(['\r', '\n']))),
        (&[begin], &[end]) if begin < end => {
            let before = join(lines[..begin].iter().copied());
            let after = join(lines[end + 1..].iter().copied());
            Ok(before + &block + &after)
        }
        (begins, ends) => Err(EditError::BrokenBlock(format!(
            "the markers {:?} ({} times) and {:?} ({} times) do not stand there as one pair: put that right by hand",
            marker.begin,
            begins.len(),
            marker.end,
            ends.len(),
        ))),
    }
}

/// Lines, each with what ends it; the last may have no end.
fn lines(text: &str) -> Vec<(&str, &str)> {
    text.split_inclusive('\n')
        .map(|line| {
            let content = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
            (content, &line[content.len()..])
        })
        .collect()
}

fn join<'a>(lines: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    lines.flat_map(|(content, end)| [content, end]).collect()
}

fn append(text: &str, line: &str) -> String {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { newline };
    [text, gap, line, newline].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Regex {
        Regex::new(pattern).unwrap()
    }

    /// Makes an edit, and checks that making it again changes nothing.
    fn line(text: &str, pattern: Option<&str>, line: &str) -> String {
        let pattern = pattern.map(regex);
        let once = ensure_line(text, pattern.as_ref(), line);
        assert_eq!(ensure_line(&once, pattern.as_ref(), line), once);
        once
    }

    #[test]
    fn a_line_is_replaced_or_appended() {
        assert_eq!(line("a\nb=1\nc\n", Some("^b="), "b=2"), "a\nb=2\nc\n");
        assert_eq!(line("a\n", Some("^b="), "b=2"), "a\nb=2\n");
        assert_eq!(line("a", None, "b"), "a\nb\n");
        assert_eq!(line("", None, "b"), "b\n");
        assert_eq!(line("b\na\n", None, "b"), "b\na\n");
        assert_eq!(line("b=1\nb=3\n", Some("^b="), "b=2"), "b=1\nb=2\n", "the last one counts for most readers");
        assert_eq!(line("a\r\nb=1\r\n", Some("^b=1$"), "b=2"), "a\r\nb=2\r\n");
    }

    #[test]
    fn a_new_line_that_the_pattern_does_not_match_is_not_added_twice() {
        assert_eq!(line("#Port 22\n", Some("^#Port"), "Port 2222"), "Port 2222\n");
    }

    #[test]
    fn lines_are_removed() {
        assert_eq!(remove_lines("a\nb=1\nc", &regex("^b=")), "a\nc");
    }

    fn block(text: &str, content: &str) -> String {
        let marker = Marker::new("dns");
        let once = ensure_block(text, &marker, content).unwrap();
        assert_eq!(ensure_block(&once, &marker, content).unwrap(), once);
        once
    }

    #[test]
    fn a_block_is_put_in_replaced_and_removed() {
        let with = block("a\n", "x\ny\n");
        assert_eq!(with, "a\n# BEGIN dns\nx\ny\n# END dns\n");
        assert_eq!(block(&(with.clone() + "z\n"), "new"), "a\n# BEGIN dns\nnew\n# END dns\nz\n");
        assert_eq!(block(&with, ""), "a\n");
        assert_eq!(block("a", "x"), "a\n# BEGIN dns\nx\n# END dns\n");
        assert_eq!(block("a\r\n", "x"), "a\r\n# BEGIN dns\r\nx\r\n# END dns\r\n");
    }

    #[test]
    fn a_broken_block_is_left_alone() {
        let marker = Marker::new("dns");
        for broken in ["# BEGIN dns\n", "# END dns\n# BEGIN dns\n", "# BEGIN dns\n# BEGIN dns\n# END dns\n"] {
            assert!(ensure_block(broken, &marker, "x").is_err(), "{broken}");
        }
    }
}
