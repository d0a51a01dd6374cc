//! `line` and `block`: a part of a file that somebody else owns.

use regex_lite::Regex;
use runbook_sdk::edit::{Marker, ensure_block, ensure_line};
use runbook_sdk::placeholder::Placeholders;
use runbook_sdk::prelude::*;

#[derive(Deserialize)]
pub(crate) struct LineInput {
    path: String,
    #[serde(rename = "match")]
    pattern: Option<String>,
    line: Text,
    #[serde(default)]
    create: bool,
}

pub(crate) fn line(input: LineInput) -> Result<()> {
    let LineInput { path, pattern, line, create } = input;
    if pattern.is_none() && line.has_secret() {
        invalid!("a `line` with a secret needs `match`: the line that is there already cannot be found by its content");
    }
    let pattern = pattern.as_deref().map(regex).transpose()?;
    let mut placeholders = Placeholders::default();
    let new = placeholders.put(&line)?;
    ensure_is_one_line(&new)?;
    let summary = format!("set the line \"{line}\" in {path}");
    change(&path, create, &summary, |text| placeholders.back(&ensure_line(text, pattern.as_ref(), &new)))
}

#[derive(Deserialize)]
pub(crate) struct BlockInput {
    path: String,
    marker: String,
    content: Text,
    #[serde(default = "hash")]
    comment: String,
    #[serde(default)]
    create: bool,
}

fn hash() -> String {
    "#".to_owned()
}

pub(crate) fn block(input: BlockInput) -> Result<()> {
    let marker = Marker::with_comment(&input.marker, &input.comment);
    let mut placeholders = Placeholders::default();
    let content = placeholders.put(&input.content)?;
    let summary = format!("set the block \"{}\" in {}", input.marker, input.path);
    change(&input.path, input.create, &summary, |text| placeholders.back(&ensure_block(text, &marker, &content)?))
}

/// Mode and owner of the file stay as they are.
fn change(path: &str, create: bool, summary: &str, edit: impl Fn(&str) -> Result<Text>) -> Result<()> {
    let machine = Machine::target("host")?;
    let files = machine.files();
    let old = files.read_text_if_found(path)?;
    if old.is_none() && !create {
        fail!("{path} is not there on {}: write it with core/file, or say `create = true`", machine.name());
    }
    let new = edit(old.as_deref().unwrap_or_default()).context(path)?;
    // Where a secret stands in it, the host knows whether it is the same.
    if old.is_none() || new.as_plain() != old.as_deref() {
        files.file(path).text(new).summary(summary).ensure()?;
    }
    Ok(())
}

fn regex(pattern: &str) -> Result<Regex> {
    Regex::new(pattern)
        .map_err(|error| Error::invalid(format!("match: {pattern:?} is not a regular expression: {error}")))
}

fn ensure_is_one_line(line: &str) -> Result<()> {
    if line.contains(['\n', '\r']) {
        invalid!("`line` holds several lines: use core/block");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_inputs_are_named() {
        assert!(regex("^a(").unwrap_err().message().contains("is not a regular expression"));
        assert!(ensure_is_one_line("a\nb").is_err());
        assert!(ensure_is_one_line("a=b").is_ok());
    }
}
