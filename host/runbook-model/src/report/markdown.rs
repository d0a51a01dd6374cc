//! A report as Markdown, for issues, wikis and terminals.

use jiff::tz::TimeZone;
use minijinja::value::Serde;
use minijinja::{Error, Output, State, Value, context};

use crate::words;

use super::Report;
use super::phrase::Clock;
use super::template;
use super::view::View;

const TEMPLATE: &str = include_str!("report.md.j2");

/// A report as Markdown. `zone`: the times of day in it.
///
/// # Errors
///
/// The text could not be made: the program is at fault.
pub fn markdown(report: &Report, zone: &TimeZone) -> Result<String, Error> {
    let mut env = template::environment()?;
    env.set_formatter(escaped);
    env.add_filter("code", |text: &str| Value::from_safe_string(code(text)));
    env.add_filter("fence", |text: &str, indent: usize| Value::from_safe_string(fence(text, indent)));
    env.add_template("report", TEMPLATE)?;
    env.get_template("report")?.render(context! { r => Serde(View::of(report, &Clock::new(zone, report.began_at))) })
}

fn escaped(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let text = if value.is_safe() { text } else { plain(&text) };
    out.write_str(&text).map_err(Error::from)
}

/// A text of one line in which nothing is Markdown or HTML.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let text = words::safe(text);
    let text = text.trim();
    for (index, c) in text.char_indices() {
        let begins_a_block = index == 0 && matches!(c, '#' | '+' | '-' | '=' | '>');
        // "1. " and "1) " begin a list.
        let rest = &text[index + c.len_utf8()..];
        let ends_a_number = matches!(c, '.' | ')')
            && (rest.is_empty() || rest.starts_with(char::is_whitespace))
            && index > 0
            && text[..index].bytes().all(|b| b.is_ascii_digit());
        let is_markup = matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&' | '~' | '$');
        if begins_a_block || ends_a_number || is_markup {
            plain.push('\\');
        }
        plain.push(if c == '\n' || c == '\t' { ' ' } else { c });
    }
    plain
}

/// A text of one line as code; not for tables, in which a `|` ends a cell even there.
fn code(text: &str) -> String {
    let text = words::safe(text).replace(['\n', '\t'], " ");
    if text.trim().is_empty() {
        return String::new();
    }
    let ticks = "`".repeat(longest_run(&text) + 1);
    // A space on both sides is taken away again; one that belongs to a tick keeps it from ours.
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{ticks}{pad}{text}{pad}{ticks}")
}

/// A text of several lines as a block of code, so many spaces from the left.
fn fence(text: &str, indent: usize) -> String {
    let text = words::safe(text);
    let (ticks, left) = ("`".repeat(longest_run(&text).max(2) + 1), " ".repeat(indent));
    let lines = text.lines().map(|line| format!("{left}{line}\n"));
    format!("{left}{ticks}diff\n{}{left}{ticks}", lines.collect::<String>())
}

/// How many ticks stand in a row, at most.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(plain("<b>*a*</b> | `x`\n# y"), "\\<b\\>\\*a\\*\\</b\\> \\| \\`x\\` # y");
        assert_eq!(plain("# a"), "\\# a");
        assert_eq!(plain("12. a"), "12\\. a");
        assert_eq!(plain("3.5 of 4"), "3.5 of 4");
    }

    #[test]
    fn code_cannot_be_left() {
        assert_eq!(code("a|b"), "`a|b`");
        assert_eq!(code("``` x"), "```` ``` x ````");
        assert_eq!(fence("a\n```\nb", 2), "  ````diff\n  a\n  ```\n  b\n  ````");
    }
}
