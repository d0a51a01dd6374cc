//! Packages of Debian and its descendants.

use runbook_sdk::Cmd;
use runbook_sdk::prelude::*;

use crate::package::{Input, State};

/// Somebody else's apt-get (unattended-upgrades) is waited out for five minutes; lock files are never removed.
const WAIT: [&str; 2] = ["--option", "DPkg::Lock::Timeout=300"];

/// Configuration files that a person changed are kept; nothing else is removed to make room.
const INSTALL: [&str; 6] = [
    "--yes",
    "--no-remove",
    "--option",
    "Dpkg::Options::=--force-confdef",
    "--option",
    "Dpkg::Options::=--force-confold",
];

const INSTALLED: &str =
    r#"for p; do dpkg-query --status "$p" 2>/dev/null | grep -qE "^Status: [a-z]+ ok installed$" || exit 1; done"#;

const REMOVED: &str =
    r#"for p; do ! dpkg-query --status "$p" 2>/dev/null | grep -qE "^Status: [a-z]+ ok installed$" || exit 1; done"#;

pub(crate) fn converge(machine: &Machine, input: &Input) -> Result<()> {
    let names = &input.names;
    let look = machine.cmd(["dpkg-query", "--status"]).args(names).reads(["package", "path:/var/lib/dpkg"]);
    // Exit code 1: some of them are not known at all.
    let installed = installed(&look.observe()?.ok_if(&[0, 1])?.text());
    let (there, missing): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| installed.iter().any(|other| other == bare(name)));
    match input.state {
        State::Present if missing.is_empty() => Ok(()),
        State::Present => {
            if input.update {
                update(machine)?;
            }
            let change = install(machine, names).change(format!("install {}", join(&missing)));
            let change = if there.is_empty() {
                change.undo(remove(machine, names))
            } else {
                change.undo_by_hand(format!("apt-get remove {} on {}", join(&missing), machine.name()))
            };
            change.done_when(test(machine, "installed", INSTALLED, names)).run()?;
            Ok(())
        }
        State::Absent if there.is_empty() => Ok(()),
        State::Absent => {
            ensure_alone(machine, names)?;
            let change = remove(machine, names).change(format!("remove {}", join(&there)));
            change.undo(install(machine, names)).done_when(test(machine, "removed", REMOVED, names)).run()?;
            Ok(())
        }
    }
}

/// Lists that cannot be fetched are no reason to stop: what is in the old ones, or on a mirror that answers, can be installed.
fn update(machine: &Machine) -> Result<()> {
    let cmd = machine.cmd(["apt-get"]).args(WAIT).args(["--option", "APT::Update::Error-Mode=any", "update"]);
    let change = cmd.privileged().change("fetch the lists of packages").harmless();
    let outcome = change.alters(["path:/var/lib/apt", "path:/var/cache/apt"]).run_unjudged()?;
    if let Outcome::Done(output) = outcome
        && !output.success()
    {
        warn!("{}", output.error());
    }
    Ok(())
}

fn install<'a>(machine: &'a Machine, names: &[String]) -> Cmd<'a> {
    quiet(machine.cmd(["apt-get"]).args(WAIT).args(INSTALL).arg("install").args(names))
}

fn remove<'a>(machine: &'a Machine, names: &[String]) -> Cmd<'a> {
    quiet(machine.cmd(["apt-get"]).args(WAIT).args(["--yes", "remove"]).args(names))
}

/// Asks nothing, and restarts nothing but what the packages themselves restart: needrestart would restart containerd on all nodes
/// at once.
fn quiet(cmd: Cmd<'_>) -> Cmd<'_> {
    cmd.env("DEBIAN_FRONTEND", "noninteractive").env("NEEDRESTART_MODE", "l").privileged().follow()
}

fn test<'a>(machine: &'a Machine, name: &str, script: &str, names: &[String]) -> Cmd<'a> {
    machine.cmd(["sh", "-c", script, name]).args(names).reads(["package", "path:/var/lib/dpkg"])
}

/// apt removes what depends on a package along with it, without asking when it may not ask.
fn ensure_alone(machine: &Machine, names: &[String]) -> Result<()> {
    let simulation =
        machine.cmd(["apt-get", "--simulate", "remove"]).args(names).reads(["package", "path:/var/lib/dpkg"]);
    let others = removed_besides(&simulation.observe()?.ok()?.text(), names);
    if !others.is_empty() {
        conflict!(
            "removing {} from {} would also remove {}: name them in `names` too, if that is meant",
            names.join(", "),
            machine.name(),
            others.join(", ")
        );
    }
    Ok(())
}

/// Names of the installed packages among stanzas of `dpkg-query --status`.
fn installed(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Package: ") {
            current = name.trim();
        } else if line.strip_prefix("Status: ").is_some_and(|status| status.trim_end().ends_with(" ok installed")) {
            names.push(current.to_owned());
        }
    }
    names
}

fn removed_besides(simulation: &str, names: &[String]) -> Vec<String> {
    let removed = simulation.lines().filter_map(|line| line.strip_prefix("Remv ")?.split_whitespace().next());
    removed.filter(|removed| !names.iter().any(|name| bare(name) == bare(removed))).map(str::to_owned).collect()
}

/// Without the architecture: `libc6:i386`.
fn bare(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _)| name)
}

fn join(names: &[&String]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_told_from_the_rest() {
        let text = "Package: bash\nStatus: install ok installed\nPriority: required\n\nPackage: old\nStatus: deinstall ok \
                    config-files\n\nPackage: held\nStatus: hold ok installed\nDescription: x\n Status: install ok installed\n\n\
                    Package: half\nStatus: install ok half-installed\n";
        assert_eq!(installed(text), ["bash", "held"]);
    }

    #[test]
    fn what_else_would_go_is_named() {
        let simulation = "Reading package lists...\nRemv python3-apt [2.6.0]\nRemv python3 [3.11.2-1+b1] [a b ]\n";
        assert_eq!(removed_besides(simulation, &["python3".to_owned()]), ["python3-apt"]);
        assert!(removed_besides(simulation, &["python3".to_owned(), "python3-apt:amd64".to_owned()]).is_empty());
    }
}
