//! A stack, and the commands of `pulumi` that look at it and change it.

use std::collections::BTreeMap;

use runbook_sdk::prelude::*;
use runbook_sdk::{Change, Cmd};

use super::input::Input;
use super::lock::Lock;
use super::preview::Preview;
use super::trouble::{Trouble, Version};

/// One stack of a project on a machine.
pub(super) struct Stack<'a> {
    machine: &'a Machine,
    input: &'a Input,
    env: BTreeMap<String, Text>,
    reads: Vec<String>,
    alters: Vec<String>,
}

/// What `stack ls` says of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    name: String,
    /// Somebody holds the lock.
    pub(super) update_in_progress: Option<bool>,
    /// Resources in its state.
    pub(super) resource_count: Option<u64>,
}

impl<'a> Stack<'a> {
    pub(super) fn new(machine: &'a Machine, input: &'a Input) -> Self {
        let mut env = BTreeMap::from([
            ("NO_COLOR".to_owned(), Text::plain("1")),
            ("PULUMI_SKIP_UPDATE_CHECK".to_owned(), Text::plain("true")),
        ]);
        env.extend(input.backend_url.as_ref().map(|url| ("PULUMI_BACKEND_URL".to_owned(), url.into())));
        env.extend(input.passphrase.as_ref().map(|text| ("PULUMI_CONFIG_PASSPHRASE".to_owned(), text.into())));
        env.extend(input.env.iter().map(|(name, value)| (name.clone(), value.clone())));

        // What the program and the state hang on. Tools that it needs are packages.
        let mut reads = vec!["package".to_owned(), format!("path:{}", input.project)];
        reads.extend(input.config_file.as_ref().map(|path| format!("path:{path}")));
        let url = env.get("PULUMI_BACKEND_URL").and_then(Text::as_plain);
        let state = url.and_then(|url| url.strip_prefix("file://")).filter(|path| path.starts_with('/'));
        let mut alters = vec!["pulumi".to_owned()];
        alters.extend(state.map(|path| format!("path:{path}")));
        reads.extend(alters.iter().cloned());
        for name in ["KUBECONFIG", "PULUMI_CONFIG_PASSPHRASE_FILE"] {
            let path = env.get(name).and_then(Text::as_plain).filter(|path| path.starts_with('/'));
            reads.extend(path.map(|path| format!("path:{path}")));
        }
        Self { machine, input, env, reads, alters }
    }

    /// What errors call it.
    pub(super) fn said(&self) -> String {
        format!("stack {} of {} on {}", self.input.stack, self.input.project, self.machine.name())
    }

    /// The machine that pulumi runs on.
    pub(super) fn machine(&self) -> &Machine {
        self.machine
    }

    /// That project, configuration, program and stack are there. Gives the version of pulumi.
    pub(super) fn check(&self) -> Result<Version> {
        self.check_files()?;
        let version = self.cmd(["version", "--cwd", &self.input.project]).timeout(Period::minutes(1)).observe()?;
        if !version.success() {
            let why = match version.code() {
                Some(126 | 127) => {
                    "it is not there, or not in the PATH of the host's sessions: install it, or give its path as `program`"
                }
                _ => "is this pulumi?",
            };
            return Err(version
                .error()
                .context(format!("{} cannot be asked for its version: {why}", self.input.program)));
        }
        let version = Version::read(&version.text());
        let row = self.row(version)?;
        if row.update_in_progress == Some(true) {
            warn!(
                "{} is locked: another update is in progress, or its lock was left behind (see `cancel_stale_lock`)",
                self.said()
            );
        }
        Ok(version)
    }

    fn check_files(&self) -> Result<()> {
        let files = self.machine.files();
        let Input { project, stack, config_file, .. } = self.input;
        let Some(entries) = files.list(project).if_found()? else {
            fail!("there is no directory {project} on {}: check the project out there first", self.machine.name());
        };
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        if !["Pulumi.yaml", "Pulumi.yml", "Pulumi.json"].iter().any(|name| names.contains(name)) {
            fail!("{project} on {} has no Pulumi.yaml: `project` is the directory that has it", self.machine.name());
        }
        let found = match config_file {
            Some(path) => files.exists(path)?,
            None => config_names(stack).iter().any(|name| names.contains(&name.as_str())),
        };
        if !found {
            let wanted = config_file.clone().unwrap_or_else(|| format!("{project}/{}", config_names(stack)[0]));
            fail!(
                "there is no {wanted} on {}: pulumi would make a new one, with another key, and could read no secret of the stack \
                 any more. Get it from the project's repository, or name it with `config_file`",
                self.machine.name()
            );
        }
        Ok(())
    }

    /// What `stack ls` says of the stack.
    pub(super) fn row(&self, version: Version) -> Result<Row> {
        let args = ["stack", "ls", "--json", "--non-interactive", "--color", "never", "--cwd", &self.input.project];
        let output = self.cmd(args).timeout(Period::minutes(2)).observe()?;
        if !output.success() {
            return Err(self.error(Trouble::of(&output.stderr_text(), output.code(), version), &output));
        }
        let rows: Vec<Row> = output.json()?;
        let wanted = last(&self.input.stack);
        match rows.iter().find(|row| row.name == self.input.stack || last(&row.name) == wanted) {
            Some(row) => Ok(row.clone()),
            None => {
                let found: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
                let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
                Err(Trouble::NoStack.error(&format!("{} (stacks there: {found})", self.said())))
            }
        }
    }

    /// What `up` would do. It takes no lock.
    pub(super) fn preview(&self) -> Cmd<'a> {
        self.cmd(["preview", "--json"]).args(self.place()).args(self.selection(true)).timeout(self.input.timeout)
    }

    /// Brings it up.
    pub(super) fn up<'b>(&'b self, preview: &Preview) -> impl Fn() -> Change<'a> + use<'a, 'b> {
        let summary = format!("pulumi up {}: {}", self.input.stack, preview.summary());
        move || {
            let cmd = self.cmd(["up", "--yes", "--skip-preview", "--json"]).args(self.place());
            let cmd = cmd.args(self.selection(true)).timeout(self.input.timeout).follow();
            cmd.change(summary.clone())
                .done_when(self.preview().arg("--expect-no-changes"))
                .undo_by_hand(format!(
                    "go back to the program as it was (git checkout in {}) and run pulumi up again; what was deleted with its \
                     data comes back from a backup only",
                    self.input.project
                ))
                .alters(self.alters.clone())
        }
    }

    /// Makes the state say what really exists, operations that were interrupted included.
    pub(super) fn settle<'b>(&'b self, pending: &[String]) -> impl Fn() -> Change<'a> + use<'a, 'b> {
        let summary = format!("pulumi refresh {}: settle {} interrupted operations", self.input.stack, pending.len());
        move || {
            let cmd = self.cmd(["refresh", "--yes", "--skip-preview", "--clear-pending-creates", "--json"]);
            let cmd = cmd.args(self.place()).args(self.selection(false)).timeout(self.input.timeout).follow();
            cmd.change(summary.clone()).harmless().alters(self.alters.clone())
        }
    }

    /// Removes its locks.
    pub(super) fn cancel(&self, locks: &[Lock]) -> Change<'a> {
        let holders: Vec<String> = locks.iter().map(ToString::to_string).collect();
        self.cmd(["cancel", "--yes"])
            .args(&self.place()[..])
            .timeout(Period::minutes(2))
            .change(format!(
                "remove the lock of {} from {}: that process is dead",
                holders.join(", "),
                self.input.stack
            ))
            .harmless()
            .repeats()
            .alters(self.alters.clone())
    }

    /// The outputs of the stack. Secrets read "[secret]".
    pub(super) fn outputs(&self) -> Result<serde_json::Map<String, Value>> {
        let output =
            self.cmd(["stack", "output", "--json"]).args(self.place()).timeout(Period::minutes(2)).observe()?;
        output.ok()?.json()
    }

    /// The error of a command that did not work.
    pub(super) fn error(&self, trouble: Trouble, output: &Output) -> Error {
        match trouble {
            Trouble::Other => output.error(),
            trouble => trouble.error(&self.said()),
        }
    }

    fn cmd<'s>(&self, args: impl IntoIterator<Item = &'s str>) -> Cmd<'a> {
        self.machine.cmd([self.input.program.clone()]).args(args).envs(self.env.clone()).reads(self.reads.clone())
    }

    /// Which stack, without touching what the user has selected.
    fn place(&self) -> Vec<String> {
        let Input { stack, project, .. } = self.input;
        ["--non-interactive", "--color", "never", "--stack", stack, "--cwd", project].map(str::to_owned).to_vec()
    }

    fn selection(&self, refresh: bool) -> Vec<String> {
        let mut args: Vec<String> = Vec::new();
        args.extend((self.input.refresh && refresh).then(|| "--refresh".to_owned()));
        args.extend(self.input.targets.iter().map(|urn| format!("--target={urn}")));
        args.extend(self.input.parallel.map(|n| format!("--parallel={n}")));
        args.extend(self.input.config_file.as_ref().map(|path| format!("--config-file={path}")));
        args
    }
}

/// "prod" of "organization/homeslice/prod".
fn last(stack: &str) -> &str {
    stack.rsplit('/').next().unwrap_or(stack)
}

/// Names of the file with a stack's configuration.
fn config_names(stack: &str) -> [String; 3] {
    ["yaml", "yml", "json"].map(|extension| format!("Pulumi.{}.{extension}", last(stack)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_names() {
        let rows: Vec<Row> = serde_json::from_str(include_str!("../../testdata/pulumi_stack_ls.json")).unwrap();
        assert_eq!((rows[0].name.as_str(), rows[0].resource_count), ("prod", Some(9)));
        assert_eq!(rows[0].update_in_progress, Some(false));
        assert_eq!(last("organization/homeslice/prod"), "prod");
        assert_eq!(config_names("prod")[0], "Pulumi.prod.yaml");
        let outputs = include_str!("../../testdata/pulumi_stack_output.json");
        let outputs: serde_json::Map<String, Value> = serde_json::from_str(outputs).unwrap();
        assert_eq!(outputs["adminPassword"], "[secret]");
    }
}
