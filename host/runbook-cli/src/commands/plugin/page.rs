//! How the page of a plugin looks: Markdown, from what the component says of itself. It may be hostile: whatever it says is text.

use std::fmt::Write as _;

use runbook_model::grant::power_name;
use runbook_model::manifest::{Action, Arity, Ask, Manifest, Need, Pattern};
use runbook_plugins::Loaded;
use serde_json::Value;

/// Characters of a word of an ask that are shown: scripts are cut.
const LONGEST_WORD: usize = 60;

/// A runbook that shows how the plugin is used, and that was tried.
pub(super) struct Example {
    /// Name of the file.
    pub(super) name: String,
    /// What it is for.
    pub(super) description: String,
    /// The runbook.
    pub(super) text: String,
    /// What the plan said; none: it needs more than this machine, and was validated alone.
    pub(super) planned: Option<String>,
}

/// The page.
pub(super) fn page(loaded: &Loaded, examples: &[Example]) -> String {
    let Manifest { name, version, summary, actions } = &loaded.manifest;
    let mut page = format!("# {}\n\n{} Version {}.\n", text(name), text(summary), text(version));
    let capabilities: Vec<String> =
        loaded.imports.iter().filter(|import| is_capability(import)).map(|import| code(import)).collect();
    let reach = if capabilities.is_empty() { "nothing".to_owned() } else { capabilities.join(", ") };
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(page, "\nIt can reach {reach}, as far as its steps and their owner let it.");
    for action in actions {
        write_action(&mut page, name, action);
    }
    for example in examples {
        write_example(&mut page, example);
    }
    page.push_str("\n<!-- Made by `runbook plugin doc`. -->\n");
    page
}

/// The packages that every component has say nothing of its reach.
fn is_capability(import: &str) -> bool {
    import.starts_with("runbook:") && !import.starts_with("runbook:base/") && !import.starts_with("runbook:plugin/")
}

fn write_action(page: &mut String, plugin: &str, action: &Action) {
    let _ = writeln!(page, "\n## {}/{}\n\n{}", text(plugin), text(&action.name), text(&action.summary));
    let targets = targets(action);
    if !targets.is_empty() {
        page.push('\n');
    }
    for target in targets {
        let _ = writeln!(page, "- {target}");
    }
    write_properties(page, "with", &action.inputs);
    write_properties(page, "outputs", &action.outputs);
    if !action.asks.is_empty() {
        page.push_str("\n| it asks for | on | because |\n| --- | --- | --- |\n");
        action.asks.iter().for_each(|ask| write_ask(page, ask));
    }
}

/// What a step has to name, and where it may stand.
fn targets(action: &Action) -> Vec<String> {
    let role = |role: &runbook_model::manifest::Role| {
        let arity = match role.arity {
            Arity::Each => "each host by itself",
            Arity::One => "one host",
            Arity::All => "all hosts at once",
        };
        let optional = if role.optional { ", may be left out" } else { "" };
        format!("`on` {}: {arity}{optional}. {}", code(&role.name), text(&role.summary)).trim_end().to_owned()
    };
    let mut targets: Vec<String> = action.roles.iter().map(role).collect();
    match action.cluster {
        Need::None => {}
        Need::Optional => targets.push("`cluster`: may be given".to_owned()),
        Need::Required => targets.push("`cluster`: needed".to_owned()),
    }
    if action.needs_block {
        targets.push("only within a block (`[[step.do]]`), at whose end what it leaves is put back".to_owned());
    }
    targets
}

fn write_properties(page: &mut String, title: &str, schema: &Value) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty()) else {
        return;
    };
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| title == "with" && required.is_some_and(|names| names.iter().any(|n| n == name));
    let _ = writeln!(page, "\n| `{title}` | type | what it means |\n| --- | --- | --- |");
    for (name, property) in properties {
        let description = property.get("description").and_then(Value::as_str).unwrap_or_default();
        let more = match property.get("default") {
            Some(default) => format!(" Default: {}.", code(&default.to_string())),
            None if is_required(name) => " Required.".to_owned(),
            None => String::new(),
        };
        let _ = writeln!(page, "| {} | {} | {}{more} |", code(name), kind(property), text(description));
    }
}

/// The type of a value in a few words.
fn kind(schema: &Value) -> String {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().map(|word| code(&word.to_string())).collect::<Vec<_>>().join(", ");
    }
    let secret = if schema.get("x-secret") == Some(&Value::Bool(true)) { ", may be secret" } else { "" };
    let kind = match (schema.get("type"), schema.get("format").and_then(Value::as_str)) {
        (_, Some("target-path")) => "path on the host".to_owned(),
        (_, Some("controller-path")) => "path on this machine".to_owned(),
        (Some(Value::String(kind)), _) if kind == "array" => match schema.get("items") {
            Some(items) if items.get("type").is_some() => format!("list of {}", self::kind(items)),
            _ => "list".to_owned(),
        },
        (Some(Value::String(kind)), _) if kind == "object" => "table".to_owned(),
        (Some(Value::String(kind)), _) => text(kind),
        (Some(Value::Array(kinds)), _) if kinds.len() < 5 => {
            kinds.iter().filter_map(Value::as_str).map(text).collect::<Vec<_>>().join(" or ")
        }
        _ => "anything".to_owned(),
    };
    format!("{kind}{secret}")
}

fn write_ask(page: &mut String, ask: &Ask) {
    let root = if ask.privileged { " as root" } else { "" };
    let mut because = text(&ask.reason);
    if let Some(consequence) = &ask.irreversible {
        because = format!("{because} **Cannot be taken back:** {}", text(consequence));
    }
    if let Some(receipt) = &ask.needs_receipt {
        because = format!("{because} Needs a receipt of the kind {}.", code(&receipt.kind));
    }
    let _ = writeln!(page, "| {}{root} | {} | {because} |", code(&power_name(ask.call)), on(&ask.on));
}

fn on(pattern: &Pattern) -> String {
    let Pattern { argv, env, path, kind, namespace, name, url } = pattern;
    let mut parts = Vec::new();
    parts.extend(argv.as_ref().map(|argv| code(&argv.iter().map(|word| cut(word)).collect::<Vec<_>>().join(" "))));
    parts.extend(env.as_ref().map(|env| format!("with the environment {}", code(&env.join(" ")))));
    parts.extend(path.as_ref().map(|path| code(path)));
    parts.extend(kind.as_ref().map(|kind| code(kind)));
    parts.extend(namespace.as_ref().filter(|n| !n.is_empty()).map(|namespace| format!("in {}", code(namespace))));
    parts.extend(name.as_ref().map(|name| format!("named {}", code(name))));
    parts.extend(url.as_ref().map(|url| code(url)));
    parts.join(" ")
}

/// The first line of a word, and of that no more than can be read.
fn cut(word: &str) -> String {
    let line = word.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut short: String = line.chars().take(LONGEST_WORD).collect();
    if short.len() < word.len() {
        short.push('…');
    }
    short
}

fn write_example(page: &mut String, example: &Example) {
    let Example { name, description, text: runbook, planned } = example;
    let _ = writeln!(page, "\n## Example: {}\n\n{}\n\n{}\n", text(name), text(description), block("toml", runbook));
    match planned {
        Some(planned) => {
            let _ = writeln!(page, "`runbook plan` said of it when this page was made:\n\n{}", block("", planned));
        }
        None => page.push_str("It was validated when this page was made.\n"),
    }
}

/// A text as one line of Markdown in which nothing has a meaning, within a table, too.
fn text(text: &str) -> String {
    let mut line = String::new();
    let mut in_code = false;
    for c in text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()) {
        in_code ^= c == '`';
        if c == '|' || !in_code && matches!(c, '<' | '*' | '_' | '[' | ']' | '\\') {
            line.push('\\');
        }
        line.push(c);
    }
    // A span that does not end would take the rest of the line with it.
    if in_code { line.replace('`', "\\`") } else { line }
}

/// A text as code within a line.
fn code(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.replace('|', "\\|");
    if line.contains('`') { format!("`` {line} ``") } else { format!("`{line}`") }
}

/// A text of several lines as it is.
fn block(language: &str, text: &str) -> String {
    let lines: Vec<String> =
        text.trim_end().lines().map(|line| line.chars().filter(|c| !c.is_control() || *c == '\t').collect()).collect();
    // Longer than any fence in it.
    let longest = lines.iter().map(|line| line.chars().take_while(|c| *c == '`').count()).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_component_says_is_text() {
        assert_eq!(text("a|b\n<b> `x|y` *"), r"a\|b \<b> `x\|y` \*");
        assert_eq!(text("one ` alone"), r"one \` alone");
        assert_eq!(text("\u{1b}[31mred"), r"\[31mred");
        assert_eq!(code("a`|\n"), "`` a`\\|  ``");
        assert_eq!(block("", "```\n\u{1b}x\n"), "````\n```\nx\n````");
    }

    #[test]
    fn types_are_named() {
        for (schema, expect) in [
            (json!({ "type": "string", "x-secret": true }), "string, may be secret"),
            (json!({ "type": "array", "items": { "type": "string" } }), "list of string"),
            (json!({ "type": "array", "items": {} }), "list"),
            (json!({ "type": "string", "format": "target-path" }), "path on the host"),
            (json!({ "enum": ["a", 1] }), "`\"a\"`, `1`"),
            (json!({ "type": ["string", "integer"] }), "string or integer"),
            (json!({}), "anything"),
        ] {
            assert_eq!(kind(&schema), expect, "{schema}");
        }
    }

    #[test]
    fn scripts_are_cut() {
        assert_eq!(cut("\n# Looks.\nset -e\n"), "# Looks.…");
        assert_eq!(cut("short"), "short");
    }
}
