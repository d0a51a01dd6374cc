//! `service`: units of systemd.

use std::collections::BTreeMap;

use runbook_sdk::Cmd;
use runbook_sdk::prelude::*;
use runbook_sdk::run::{Probe, wait_until};

#[derive(Deserialize)]
pub(crate) struct Input {
    name: String,
    state: Option<State>,
    enabled: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Started,
    Stopped,
    Restarted,
    Reloaded,
}

pub(crate) fn converge(input: Input) -> Result<()> {
    let machine = Machine::target("host")?;
    let service = Service { machine: &machine, name: &input.name };
    let unit = service.look()?;
    if !unit.is_there() {
        let wants_it = input.enabled == Some(true) || input.state.is_some_and(|state| state != State::Stopped);
        ensure!(!wants_it, "there is no service {} on {}", input.name, machine.name());
        return Ok(());
    }
    if unit.get("NeedDaemonReload") == "yes" {
        let reload = machine.cmd(["systemctl", "daemon-reload"]).privileged();
        reload.change("reload the definitions of systemd").harmless().alters(["service"]).run()?;
    }
    match input.enabled {
        Some(true) => service.enable(&unit)?,
        Some(false) => service.disable(&unit)?,
        None => {}
    }
    match input.state {
        Some(State::Started) if !unit.is_active() => service.start()?,
        Some(State::Stopped) if unit.is_active() => service.stop()?,
        Some(State::Restarted) => service.again("restart")?,
        Some(State::Reloaded) => service.again("reload")?,
        Some(State::Started | State::Stopped) | None => {}
    }
    Ok(())
}

/// A start succeeds as soon as the process runs. Whether it still does a moment later is the better question.
pub(crate) fn verify(input: Input) -> Result<Vec<String>> {
    if !matches!(input.state, Some(State::Started | State::Restarted | State::Reloaded)) {
        return Ok(Vec::new());
    }
    let machine = Machine::target("host")?;
    let service = Service { machine: &machine, name: &input.name };
    let up = wait_until(&format!("{} to be up", input.name), Period::seconds(30), Period::seconds(1), || {
        let unit = service.look()?;
        Ok(match unit.get("ActiveState") {
            "active" => Probe::Ready(None),
            "activating" | "reloading" if unit.get("SubState") != "auto-restart" => Probe::NotYet(unit.said()),
            _ => Probe::Ready(Some(unit.said())),
        })
    })?;
    let wrong =
        |said| format!("{} is not up: {said}; see `journalctl -u {}` on {}", input.name, input.name, machine.name());
    Ok(up.map(wrong).into_iter().collect())
}

struct Service<'a> {
    machine: &'a Machine,
    name: &'a str,
}

const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,Result,UnitFileState,NeedDaemonReload";

impl<'a> Service<'a> {
    fn look(&self) -> Result<Unit> {
        let show = self.machine.cmd(["systemctl", "show", PROPERTIES, self.name]).reads(self.reads());
        Ok(Unit::read(&show.observe()?.ok()?.text()))
    }

    /// The service, and where its definition lies.
    fn reads(&self) -> Vec<String> {
        let folders = ["/etc/systemd", "/usr/lib/systemd", "/lib/systemd", "/run/systemd"];
        let folders = folders.map(|folder| format!("path:{folder}"));
        [format!("service:{}", self.name)].into_iter().chain(folders).collect()
    }

    /// What a service does when it starts is its own affair; what it writes, it writes here.
    fn alters(&self) -> [String; 3] {
        [format!("service:{}", self.name), "path:/run".to_owned(), "path:/var".to_owned()]
    }

    fn systemctl(&self, verb: &str) -> Cmd<'a> {
        self.machine.cmd(["systemctl", verb, self.name]).privileged()
    }

    fn asks(&self, question: &str) -> Cmd<'a> {
        self.machine.cmd(["systemctl", question, "--quiet", self.name]).reads(self.reads())
    }

    fn enable(&self, unit: &Unit) -> Result<()> {
        match unit.get("UnitFileState") {
            "enabled" | "static" | "alias" | "indirect" | "generated" => return Ok(()),
            "masked" | "masked-runtime" => {
                conflict!("{} is masked on {}: {}", self.name, self.machine.name(), self.unmask())
            }
            _ => {}
        }
        let change =
            self.systemctl("enable").change(format!("enable {}", self.name)).done_when(self.asks("is-enabled"));
        change.undo(self.systemctl("disable")).alters([format!("service:{}", self.name)]).run()?;
        Ok(())
    }

    fn disable(&self, unit: &Unit) -> Result<()> {
        if matches!(unit.get("UnitFileState"), "enabled" | "enabled-runtime") {
            let change = self.systemctl("disable").change(format!("disable {}", self.name));
            change.undo(self.systemctl("enable")).alters([format!("service:{}", self.name)]).run()?;
        }
        Ok(())
    }

    fn start(&self) -> Result<()> {
        let change = self.systemctl("start").change(format!("start {}", self.name)).done_when(self.asks("is-active"));
        change.undo(self.systemctl("stop")).alters(self.alters()).run()?;
        Ok(())
    }

    fn stop(&self) -> Result<()> {
        let change = self.systemctl("stop").change(format!("stop {}", self.name));
        change.undo(self.systemctl("start")).alters(self.alters()).run()?;
        Ok(())
    }

    fn again(&self, verb: &str) -> Result<()> {
        let change = self.systemctl(verb).change(format!("{verb} {}", self.name));
        change.harmless().repeats().alters(self.alters()).run()?;
        Ok(())
    }

    fn unmask(&self) -> String {
        format!("somebody meant it never to start; `systemctl unmask {}` takes that back", self.name)
    }
}

/// What `systemctl show` says of a unit.
#[derive(Debug)]
struct Unit(BTreeMap<String, String>);

impl Unit {
    fn read(text: &str) -> Self {
        Self(text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    fn get(&self, property: &str) -> &str {
        self.0.get(property).map_or("", String::as_str)
    }

    fn is_there(&self) -> bool {
        self.get("LoadState") != "not-found"
    }

    fn is_active(&self) -> bool {
        matches!(self.get("ActiveState"), "active" | "reloading" | "activating" | "refreshing")
    }

    /// For people: "failed (failed), result exit-code".
    fn said(&self) -> String {
        format!("{} ({}), result {}", self.get("ActiveState"), self.get("SubState"), self.get("Result"))
    }
}

#[cfg(test)]
mod tests {
    use runbook_sdk::fake::{self, World};

    use super::*;

    /// A unit that is stopped and disabled, and obeys.
    fn node() -> fake::Machine {
        let show = |active: &str, enabled: &str| {
            format!("LoadState=loaded\nActiveState={active}\nSubState=x\nResult=success\nUnitFileState={enabled}\n")
        };
        let (off, on) = (show("inactive", "disabled"), show("active", "enabled"));
        fake::Machine::new("node1")
            .answers(["systemctl", "show", PROPERTIES, "zed"], off)
            .answers(["systemctl", "show", PROPERTIES, "none"], "LoadState=not-found\n")
            .fails(["systemctl", "*", "--quiet", "zed"], 3, "")
            .changes(["systemctl", "enable", "zed"], |node| {
                node.answers(["systemctl", "is-enabled", "--quiet", "zed"], "")
            })
            .changes(["systemctl", "start", "zed"], move |node| {
                node.answers(["systemctl", "is-active", "--quiet", "zed"], "")
                    .answers(["systemctl", "show", PROPERTIES, "zed"], on.clone())
            })
            .changes(["systemctl", "restart", "zed"], |node| node)
    }

    #[test]
    fn a_service_is_enabled_and_started_once() {
        let mut world = World::new().machine(node());
        let with = json!({ "name": "zed", "state": "started", "enabled": true });
        assert_eq!(world.converges(converge, with.clone()).summaries(), ["enable zed", "start zed"]);
        assert_eq!(world.verify(verify, with.clone()), Ok(Vec::new()));
        assert!(world.apply(converge, with).changes.is_empty());
    }

    #[test]
    fn a_service_that_does_not_come_up_is_noticed() {
        let wrong = World::new().machine(node()).verify(verify, json!({ "name": "zed", "state": "started" })).unwrap();
        assert!(wrong[0].starts_with("zed is not up: inactive"), "{wrong:?}");
    }

    #[test]
    fn a_restart_repeats_by_nature() {
        let mut world = World::new().machine(node());
        let run = world.converges(converge, json!({ "name": "zed", "state": "restarted" }));
        assert_eq!(run.summaries(), ["restart zed"]);
    }

    #[test]
    fn a_service_that_is_not_there_can_only_be_stopped() {
        let world = World::new().machine(node());
        assert!(world.plan(converge, json!({ "name": "none", "state": "stopped" })).is_converged());
        let error = world.plan(converge, json!({ "name": "none", "state": "started" })).outputs.unwrap_err();
        assert_eq!(error.message(), "there is no service none on node1");
    }

    #[test]
    fn a_unit_is_read() {
        let unit =
            Unit::read("LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nUnitFileState=\n");
        assert!(unit.is_there() && !unit.is_active());
        assert_eq!(unit.said(), "failed (failed), result exit-code");
        assert_eq!((unit.get("UnitFileState"), unit.get("Nothing")), ("", ""));
        assert!(!Unit::read("LoadState=not-found\nActiveState=inactive").is_there());
    }
}
