//! `settings`: NAME=VALUE lines of a file.

use std::collections::BTreeMap;

use runbook_sdk::prelude::*;

/// What stands under `with`. The doc comments are what people read of it.
#[derive(Input)]
pub(crate) struct Input {
    /// The file. It is made where it is missing.
    path: TargetPath,
    /// Names and the values that they are to have. Other lines stay as they are.
    set: BTreeMap<String, String>,
    /// Program and arguments that make the new settings effective. Run when one changed.
    #[input(default)]
    reload: Vec<String>,
}

/// What later steps can refer to.
#[derive(Output)]
pub(crate) struct Output {
    /// Names of the settings that were not so before.
    changed: Vec<String>,
}

/// Looks at the file, and changes what is not as it should be. Called for the plan, for the work, and once more after it.
pub(crate) fn converge(input: Input) -> Result<Output> {
    check(&input.set)?;
    let machine = Machine::target("host")?;
    let files = machine.files();
    let old = files.read_text_if_found(&input.path)?.unwrap_or_default();
    let changed = different(&old, &input.set);
    files.file(&input.path).text(with(&old, &input.set)).ensure()?;
    if !input.reload.is_empty() {
        machine
            .cmd(input.reload)
            .privileged()
            .change("make the new settings effective")
            .harmless() // Once more, or for nothing: it does no harm.
            .at_step_end_if_changed() // Also where this run breaks off in between.
            .run()?;
    }
    Ok(Output { changed })
}

/// Looks by another way whether it worked: what a shell would read.
pub(crate) fn verify(input: Input) -> Result<Vec<String>> {
    let machine = Machine::target("host")?;
    let text = machine.files().read_text(&input.path)?;
    let wrong = |name: String| format!("{name} in {} on {} is not as it should be", input.path, machine.name());
    Ok(different(&text, &input.set).into_iter().map(wrong).collect())
}

fn check(set: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in set {
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || value.contains('\n') {
            invalid!("`set`: {name:?} is not a name of letters, digits and `_` with a value of one line");
        }
    }
    Ok(())
}

/// Names of the settings that a text has otherwise, or not at all.
fn different(text: &str, set: &BTreeMap<String, String>) -> Vec<String> {
    let has = |name: &str, value: &str| {
        let mut values = text.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| *key == name);
        values.next_back().is_some_and(|(_, last)| last == value)
    };
    set.iter().filter(|(name, value)| !has(name, value)).map(|(name, _)| name.clone()).collect()
}

/// The text with these settings, each in its old place or at the end.
fn with(text: &str, set: &BTreeMap<String, String>) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (name, value) in set {
        let new = format!("{name}={value}");
        let begins = format!("{name}=");
        match lines.iter().rposition(|line| line.starts_with(&begins)) {
            Some(old) => lines[old] = new,
            None => lines.push(new),
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use runbook_sdk::fake::{Machine, World};

    use super::*;

    const FILE: &str = "/srv/app/.env";

    fn world() -> World {
        let node = Machine::new("node1").file(FILE, "# Ours\nPORT=80\n");
        World::new().machine(node.changes(["systemctl", "restart", "app"], |node| node))
    }

    fn with_port(port: &str) -> Value {
        json!({ "path": FILE, "set": { "PORT": port }, "reload": ["systemctl", "restart", "app"] })
    }

    /// Plan, apply, and the second look that must find nothing: `converges` does all three.
    #[test]
    fn a_setting_is_changed_and_the_service_told() {
        let mut world = world();
        let run = world.converges(converge, with_port("8080"));
        assert_eq!(run.summaries(), ["write /srv/app/.env", "make the new settings effective"]);
        assert_eq!(run.outputs.unwrap(), json!({ "changed": ["PORT"] }));
        assert_eq!(world.at("node1").text(FILE).unwrap(), "# Ours\nPORT=8080\n");
        assert_eq!(world.verify(verify, with_port("8080")), Ok(vec![]));
    }

    #[test]
    fn what_is_so_already_is_left_alone() {
        assert!(world().plan(converge, with_port("80")).changes.is_empty());
    }

    #[test]
    fn verify_notices_another_value() {
        let wrong = world().verify(verify, with_port("8080")).unwrap();
        assert_eq!(wrong, ["PORT in /srv/app/.env on node1 is not as it should be"]);
    }

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn other_lines_stay() {
        let old = "# Ours\nPORT=80\nNAME=a=b\n";
        let wanted = set(&[("PORT", "8080"), ("TZ", "UTC")]);
        assert_eq!(different(old, &wanted), ["PORT", "TZ"]);
        let new = with(old, &wanted);
        assert_eq!(new, "# Ours\nPORT=8080\nNAME=a=b\nTZ=UTC\n");
        assert!(different(&new, &wanted).is_empty());
        assert_eq!(with(&new, &wanted), new);
    }

    #[test]
    fn names_are_checked() {
        for set in [json!({ "": "x" }), json!({ "A B": "x" }), json!({ "A": "x\ny" })] {
            let run = world().plan(converge, json!({ "path": FILE, "set": set }));
            assert_eq!(run.outputs.unwrap_err().kind(), Kind::Invalid);
        }
    }
}
