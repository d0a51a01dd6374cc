//! `directory`, `file`, `link` and `absent`.

use runbook_sdk::prelude::*;
use runbook_sdk::template::render;
use serde_json::Map;

#[derive(Deserialize)]
pub(crate) struct DirectoryInput {
    path: String,
    mode: Option<Mode>,
    owner: Option<String>,
    group: Option<String>,
}

pub(crate) fn directory(input: DirectoryInput) -> Result<()> {
    let DirectoryInput { path, mode, owner, group } = input;
    let files = Machine::target("host")?.files();
    files.directory(path).mode(mode).owner(owner).group(group).ensure()?;
    Ok(())
}

#[derive(Deserialize)]
pub(crate) struct FileInput {
    path: String,
    content: Option<Text>,
    source: Option<String>,
    template: Option<String>,
    #[serde(default)]
    vars: Map<String, Value>,
    mode: Option<Mode>,
    owner: Option<String>,
    group: Option<String>,
    #[serde(default)]
    validate: Vec<String>,
}

pub(crate) fn file(input: FileInput) -> Result<()> {
    let files = Machine::target("host")?.files();
    let file = files.file(input.path).mode(input.mode).owner(input.owner).group(input.group).validate(input.validate);
    match (input.content, input.source, input.template) {
        (Some(content), None, None) => file.text(content).ensure()?,
        (None, Some(source), None) => {
            let source = Tree::controller().source(&source)?;
            file.copy_of(&source).ensure()?
        }
        (None, None, Some(template)) => {
            let text = Tree::controller().read_text(&template)?;
            file.text(render(&template, &text, &Value::Object(input.vars))?).ensure()?
        }
        _ => invalid!("give exactly one of `content`, `source` and `template`"),
    };
    Ok(())
}

#[derive(Deserialize)]
pub(crate) struct LinkInput {
    path: String,
    target: String,
}

pub(crate) fn link(input: LinkInput) -> Result<()> {
    Machine::target("host")?.files().link(input.path, input.target).ensure()?;
    Ok(())
}

#[derive(Deserialize)]
pub(crate) struct AbsentInput {
    path: String,
}

pub(crate) fn absent(input: AbsentInput) -> Result<()> {
    ensure_may_go(&input.path)?;
    Machine::target("host")?.files().absent(input.path).ensure()?;
    Ok(())
}

/// A variable that came out empty must not take the system with it.
fn ensure_may_go(path: &str) -> Result<()> {
    const TOP: [&str; 20] = [
        "bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "opt", "proc", "root", "run",
        "sbin", "srv", "sys", "tmp", "usr", "var",
    ];
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    match parts.as_slice() {
        [] => invalid!("{path:?} is the whole system: it is not removed"),
        [top] if TOP.contains(top) => invalid!("{path} is a directory of the system: it is not removed"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_not_removed() {
        for path in ["/", "//", "/.", "", "/etc", "/etc/", "/./var"] {
            assert_eq!(ensure_may_go(path).unwrap_err().kind(), Kind::Invalid, "{path}");
        }
        for path in ["/etc/motd", "/data", "/var/lib/old/"] {
            assert!(ensure_may_go(path).is_ok(), "{path}");
        }
    }
}
