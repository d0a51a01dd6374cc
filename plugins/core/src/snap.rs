//! Snaps.

use std::collections::BTreeMap;

use runbook_sdk::Cmd;
use runbook_sdk::prelude::*;
use runbook_sdk::run::{Probe, wait_until};

use crate::package::{Input, State};

/// snapd changes a snap only once at a time, and says so with this exit code.
const BUSY: i32 = 10;

pub(crate) fn converge(machine: &Machine, input: &Input) -> Result<()> {
    let names = &input.names;
    if (input.channel.is_some() || input.classic) && names.len() != 1 {
        invalid!(
            "snap takes `channel` and `classic` for one snap at a time: give one name, and use `for_each` for several"
        );
    }
    let look = machine.cmd(["snap", "list"]).args(names).reads(["snap", "path:/var/lib/snapd"]);
    // Exit code 1: none of them is installed.
    let there = tracked(&look.observe()?.ok_if(&[0, 1])?.text());
    let missing: Vec<&str> = names.iter().map(String::as_str).filter(|name| !there.contains_key(*name)).collect();
    match input.state {
        State::Absent if there.is_empty() => Ok(()),
        State::Absent => {
            let summary = format!("remove the snap {}", there.keys().cloned().collect::<Vec<_>>().join(", "));
            let how = "install it again, and restore its data: `snap saved`, `snap restore ID`";
            insist(&summary, || snap(machine, "remove", names).change(&summary).undo_by_hand(how).run_unjudged())
        }
        State::Present if !missing.is_empty() => {
            let summary = format!("install the snap {}", missing.join(", "));
            insist(&summary, || {
                let change = with_options(snap(machine, "install", names), input).change(&summary);
                let change = match names.as_slice() {
                    [_] => change.done_when(machine.cmd(["snap", "list"]).args(names).reads(["snap"])),
                    _ => change,
                };
                if missing.len() == names.len() {
                    change.undo(snap(machine, "remove", names)).run_unjudged()
                } else {
                    change.undo_by_hand(format!("snap remove {}", missing.join(" "))).run_unjudged()
                }
            })
        }
        State::Present => match (&input.channel, names.as_slice()) {
            (Some(channel), [name]) => refresh(machine, input, name, channel, &there),
            _ => Ok(()),
        },
    }
}

fn refresh(
    machine: &Machine,
    input: &Input,
    name: &str,
    channel: &str,
    there: &BTreeMap<String, String>,
) -> Result<()> {
    let mut tracking = there.get(name).cloned().unwrap_or_default();
    if tracking.contains('…') {
        // `snap list` shortens what is long.
        let info = machine.cmd(["snap", "info", name]).reads(["snap", "path:/var/lib/snapd"]).observe()?.ok()?.text();
        tracking = info
            .lines()
            .find_map(|line| line.strip_prefix("tracking:"))
            .map(|channel| channel.trim().to_owned())
            .context(format!("`snap info {name}` does not say which channel it tracks"))?;
    }
    if full(&tracking) == full(channel) {
        return Ok(());
    }
    let summary = format!("refresh the snap {name} from {tracking} to {channel}");
    let how = format!("snap refresh {name} --channel={tracking}, where its data allows going back");
    insist(&summary, || {
        let cmd = with_options(snap(machine, "refresh", &input.names), input);
        cmd.change(&summary).undo_by_hand(&how).run_unjudged()
    })
}

fn snap<'a>(machine: &'a Machine, verb: &str, names: &[String]) -> Cmd<'a> {
    machine.cmd(["snap", verb]).args(names).privileged().follow()
}

fn with_options<'a>(mut cmd: Cmd<'a>, input: &Input) -> Cmd<'a> {
    if let Some(channel) = &input.channel {
        cmd = cmd.arg(format!("--channel={channel}"));
    }
    if input.classic {
        cmd = cmd.arg("--classic");
    }
    cmd
}

/// Waits while snapd is busy with the same snap, which it is on its own four times a day.
fn insist(summary: &str, mut change: impl FnMut() -> Result<Outcome>) -> Result<()> {
    wait_until(&format!("snapd, to {summary}"), Period::minutes(10), Period::seconds(10), || match change()? {
        Outcome::Done(output) if output.code() == Some(BUSY) => Ok(Probe::NotYet(output.stderr_text())),
        Outcome::Done(output) => output.ok().map(|_| Probe::Ready(())),
        Outcome::Already | Outcome::Planned | Outcome::Deferred => Ok(Probe::Ready(())),
    })
}

/// From the table of `snap list`: the channel that each tracks.
fn tracked(table: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let mut columns = line.split_whitespace();
        Some((columns.next()?.to_owned(), columns.nth(2)?.to_owned()))
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// `stable` is `latest/stable`, and `1.31` is `1.31/stable`.
fn full(channel: &str) -> String {
    const RISKS: [&str; 4] = ["stable", "candidate", "beta", "edge"];
    match channel.split_once('/') {
        None if RISKS.contains(&channel) => format!("latest/{channel}"),
        None => format!("{channel}/stable"),
        // `stable/hotfix` has a branch, and no track.
        Some((risk, _)) if RISKS.contains(&risk) => format!("latest/{channel}"),
        Some(_) => channel.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = "Name      Version  Rev    Tracking       Publisher   Notes\n\
                     microk8s  v1.31.7  7964   1.31/stable    canonical✓  classic\n\
                     core20    20240    2264   latest/stable  canonical✓  base\n";
        let tracked = tracked(table);
        assert_eq!(tracked["microk8s"], "1.31/stable");
        assert_eq!(tracked["core20"], "latest/stable");
        assert_eq!(tracked.len(), 2);
        assert!(super::tracked("").is_empty());
    }

    #[test]
    fn channels_have_one_form() {
        assert_eq!(full("stable"), "latest/stable");
        assert_eq!(full("1.31"), "1.31/stable");
        assert_eq!(full("1.31/edge"), "1.31/edge");
        assert_eq!(full("edge/fix"), "latest/edge/fix");
    }
}
