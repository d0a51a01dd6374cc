//! Programs that an author describes: what a command answers, and what it leaves.

use std::collections::BTreeMap;

use runbook_model::bytes::Bytes;
use runbook_model::call::Output;
use serde::Deserialize;

use crate::machine::{Invocation, Machine, Program, output};
use crate::tree::Node;

/// One program, or one case of one. The first rule that fits a command runs it.
///
/// In all texts, `{name}` is what the pattern took, `{stdin}` the standard input, `{env:X}` a variable of the environment, `{file:X}` a
/// file that came with the command, `@{name}` a value that the machine remembers (`@{name|else}` where it has none), and `@{/path}` a file
/// (`@{/path|each:> }`: with something before each of its lines).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Program and arguments. `{name}` takes a part of a word, `{name...}` all words that follow.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Instead of `argv`: an HTTP request from the machine, such as "GET http://{host}/v2/".
    pub http: Option<String>,
    /// Instead of `argv`: a TCP connection from the machine, such as "192.0.2.1:80".
    pub tcp: Option<String>,
    /// Instead of `argv`: a DNS question, such as "A registry.home".
    pub dns: Option<String>,
    /// Only where these values are so: a text or one of several; true: there is one; false: there is none. A name that begins with `/` is
    /// a file.
    #[serde(default)]
    pub when: BTreeMap<String, Wanted>,
    /// Values that are remembered; an empty one is forgotten.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Files that are written.
    #[serde(default)]
    pub write: BTreeMap<String, String>,
    /// Texts that are added to the ends of files.
    #[serde(default)]
    pub append: BTreeMap<String, String>,
    /// Directories whose content is put into others.
    #[serde(default)]
    pub copy: BTreeMap<String, String>,
    /// What is removed.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Exit code; for HTTP the status (200 where it is left out).
    pub exit: Option<i32>,
    /// Standard output, the body of an HTTP answer, the lines of a DNS answer.
    #[serde(default)]
    pub stdout: String,
    /// Standard error.
    #[serde(default)]
    pub stderr: String,
}

/// What a value has to be.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Wanted {
    /// Whether there is one.
    There(bool),
    /// This text.
    Text(String),
    /// One of these.
    Any(Vec<String>),
}

impl Rule {
    fn pattern(&self) -> Vec<String> {
        let pseudo = |name: &str, text: &str| std::iter::once(name).chain(text.split(' ')).map(str::to_owned).collect();
        match (&self.http, &self.tcp, &self.dns) {
            (Some(http), ..) => pseudo("(http)", http),
            (_, Some(tcp), _) => pseudo("(tcp)", tcp),
            (.., Some(dns)) => pseudo("(dns)", dns),
            (None, None, None) => self.argv.clone(),
        }
    }

    fn applies(&self, machine: &Machine, taken: &BTreeMap<String, String>) -> bool {
        self.when.iter().all(|(name, wanted)| {
            let name = filled(name, taken, machine);
            let is = match name.starts_with('/') {
                true => machine.tree.has(&name).then(|| machine.tree.text(&name)),
                false => machine.values.get(&name).cloned(),
            };
            let same = |text: &String| is.as_ref() == Some(&filled(text, taken, machine));
            match wanted {
                Wanted::There(there) => is.is_some() == *there,
                Wanted::Text(text) => same(text),
                Wanted::Any(texts) => texts.iter().any(same),
            }
        })
    }

    /// What it leaves, one thing after the other.
    fn effects(&self, machine: &mut Machine, taken: &BTreeMap<String, String>, most: usize) {
        let mut left = most;
        for (name, value) in self.set.iter().take(left) {
            let (name, value) = (filled(name, taken, machine), filled(value, taken, machine));
            match value.is_empty() {
                true => drop(machine.values.remove(&name)),
                false => drop(machine.values.insert(name, value)),
            }
        }
        left = left.saturating_sub(self.set.len());
        for (path, text) in self.write.iter().take(left) {
            let (path, text) = (filled(path, taken, machine), filled(text, taken, machine));
            machine.tree.put(&path, Node::file(text, 0o644));
        }
        left = left.saturating_sub(self.write.len());
        for (path, text) in self.append.iter().take(left) {
            let (path, text) = (filled(path, taken, machine), filled(text, taken, machine));
            let text = machine.tree.text(&path) + &text;
            machine.tree.put(&path, Node::file(text, 0o644));
        }
        left = left.saturating_sub(self.append.len());
        for (from, to) in self.copy.iter().take(left) {
            let (from, to) = (filled(from, taken, machine), filled(to, taken, machine));
            for (path, node) in machine.tree.below(&from).iter() {
                machine.tree.put(&format!("{to}{path}"), node.clone());
            }
        }
        left = left.saturating_sub(self.copy.len());
        for path in self.remove.iter().take(left) {
            let path = filled(path, taken, machine);
            machine.tree.remove(&path);
        }
    }
}

impl Program for Rule {
    fn run(&self, machine: &mut Machine, call: &Invocation, half: bool) -> Option<Output> {
        let mut taken = taken(&self.pattern(), &call.argv)?;
        taken.insert("stdin".to_owned(), String::from_utf8_lossy(&call.stdin).into_owned());
        taken.extend(call.env.iter().map(|(name, value)| (format!("env:{name}"), value.clone())));
        taken.extend(call.files.iter().map(|(name, text)| (format!("file:{name}"), text.clone())));
        if !self.applies(machine, &taken) {
            return None;
        }
        // What is killed has left the first of its traces.
        self.effects(machine, &taken, if half { 1 } else { usize::MAX });
        let code = self.exit.unwrap_or(if self.http.is_some() { 200 } else { 0 });
        let stderr = Bytes::from(filled(&self.stderr, &taken, machine).as_str());
        Some(Output { stderr, ..output(code, filled(&self.stdout, &taken, machine)) })
    }
}

/// What a pattern takes of a command; none: it does not fit.
fn taken(pattern: &[String], argv: &[String]) -> Option<BTreeMap<String, String>> {
    let mut taken = BTreeMap::new();
    let mut words = argv.iter();
    for part in pattern {
        if let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix("...}")) {
            let rest: Vec<&str> = words.by_ref().map(String::as_str).collect();
            taken.insert(name.to_owned(), rest.join(" "));
        } else {
            take(part, words.next()?, &mut taken)?;
        }
    }
    words.next().is_none().then_some(taken)
}

/// A word with names in it. A name takes as little as it can.
fn take(pattern: &str, word: &str, taken: &mut BTreeMap<String, String>) -> Option<()> {
    let named = pattern
        .split_once('{')
        .and_then(|(before, rest)| rest.split_once('}').map(|(name, rest)| (before, name, rest)));
    let Some((before, name, rest)) = named.filter(|(_, name, _)| is_name(name)) else {
        return (pattern == word).then_some(());
    };
    let word = word.strip_prefix(before)?;
    for end in (0..=word.len()).filter(|end| word.is_char_boundary(*end)) {
        let mut more = taken.clone();
        if more.insert(name.to_owned(), word[..end].to_owned()).is_none_or(|old| old == word[..end])
            && take(rest, &word[end..], &mut more).is_some()
        {
            *taken = more;
            return Some(());
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A text with what was taken, and then with what the machine remembers. What was put in is not read again.
fn filled(text: &str, taken: &BTreeMap<String, String>, machine: &Machine) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        let remembered = rest[..start].ends_with('@');
        let Some(length) = closing(&rest[start..]) else { break };
        let inner = &rest[start + 1..start + length];
        let value = if remembered {
            let inner = filled(inner, taken, machine);
            let (name, default) = inner.split_once('|').unwrap_or((&inner, ""));
            match name.starts_with('/') {
                true => Some(match default.strip_prefix("each:") {
                    Some(prefix) => {
                        let text = machine.tree.text(name);
                        text.split_inclusive('\n').map(|line| format!("{prefix}{line}")).collect()
                    }
                    None => machine.tree.text(name),
                }),
                false => Some(machine.values.get(name).cloned().unwrap_or_else(|| default.to_owned())),
            }
        } else {
            taken.get(inner).cloned()
        };
        match value {
            Some(value) => {
                out.push_str(&rest[..start - usize::from(remembered)]);
                out.push_str(&value);
                rest = &rest[start + length + 1..];
            }
            // A brace that is nothing but a brace.
            None => {
                out.push_str(&rest[..=start]);
                rest = &rest[start + 1..];
            }
        }
    }
    out + rest
}

/// Where the brace at the beginning of a text is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(toml: &str) -> Rule {
        toml::from_str(toml).expect("a rule")
    }

    fn run(rule: &Rule, machine: &mut Machine, argv: &[&str]) -> Option<String> {
        let call = Invocation { argv: argv.iter().map(|&word| word.to_owned()).collect(), ..Invocation::default() };
        rule.run(machine, &call, false).map(|output| output.stdout.lossy().into_owned())
    }

    #[test]
    fn a_service_remembers_that_it_was_started() {
        let start = rule("argv = ['systemctl', 'start', '{unit}']\nset = { 'service {unit}' = 'active' }");
        let show = rule(
            "argv = ['systemctl', 'show', '--property={p}', '{unit}']\nstdout = \"{p}=@{service {unit}|inactive} {x}\"",
        );
        let mut machine = Machine::default();
        let ask = ["systemctl", "show", "--property=ActiveState", "web"];
        assert_eq!(run(&show, &mut machine, &ask).as_deref(), Some("ActiveState=inactive {x}"));
        assert!(run(&start, &mut machine, &["systemctl", "stop", "web"]).is_none());
        run(&start, &mut machine, &["systemctl", "start", "web"]).expect("it fits");
        assert_eq!(run(&show, &mut machine, &ask).as_deref(), Some("ActiveState=active {x}"));
    }

    #[test]
    fn conditions_ask_values_and_files() {
        let rule =
            rule("argv = ['x', '{rest...}']\nwhen = { a = ['1', '2'], b = false, '/etc/x' = true }\nstdout = '{rest}'");
        let mut machine = Machine::default();
        machine.values.insert("a".into(), "2".into());
        assert_eq!(run(&rule, &mut machine, &["x", "y", "z"]), None);
        machine.tree.put("/etc/x", Node::file("", 0o644));
        assert_eq!(run(&rule, &mut machine, &["x", "y", "z"]).as_deref(), Some("y z"));
        machine.values.insert("b".into(), "".into());
        assert_eq!(run(&rule, &mut machine, &["x"]), None);
    }

    #[test]
    fn what_is_killed_has_left_the_first_of_its_traces() {
        let rule = rule("argv = ['x']\nset = { a = '1' }\nwrite = { '/b' = '2' }");
        let mut machine = Machine::default();
        let call = Invocation::pseudo(["x"]);
        rule.run(&mut machine, &call, true).expect("it fits");
        assert!(machine.values.contains_key("a") && !machine.tree.has("/b"));
    }

    #[test]
    fn the_lines_of_a_file_are_told_apart() {
        let show = rule("argv = ['show']\nstdout = '@{/a|each:> }@{/b|each:> }'");
        let mut machine = Machine::default();
        machine.tree.put("/a", Node::file("x\n\ny", 0o644));
        assert_eq!(run(&show, &mut machine, &["show"]).as_deref(), Some("> x\n> \n> y"));
    }

    #[test]
    fn directories_are_copied() {
        let rule = rule("argv = ['cp', '{from}', '{to}']\ncopy = { '{from}' = '{to}' }\nwrite = { '{to}/log' = 'x' }");
        let mut machine = Machine::default();
        machine.tree.put("/a/b/c", Node::file("2", 0o600));
        run(&rule, &mut machine, &["cp", "/a", "/d"]).expect("it fits");
        assert_eq!(machine.tree.get("/d/b/c"), machine.tree.get("/a/b/c"));
        assert!(machine.tree.has("/d/log") && !machine.tree.has("/a/log"));
    }

    #[test]
    fn a_value_is_not_read_again() {
        let echo = rule("argv = ['echo', '{text}']\nstdout = '{text}'");
        assert_eq!(run(&echo, &mut Machine::default(), &["echo", "{text}@{a}"]).as_deref(), Some("{text}@{a}"));
    }
}
