//! `command` and `script`: what the owner wrote, run as it stands there.

use std::collections::BTreeMap;

use regex_lite::Regex;
use runbook_sdk::prelude::*;

/// What both actions take beside the program itself.
#[derive(Deserialize)]
struct Common {
    creates: Option<String>,
    cwd: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, Text>,
    stdin: Option<Text>,
    #[serde(default = "yes")]
    privileged: bool,
    #[serde(default)]
    changed_when: ChangedWhen,
    timeout: Option<Period>,
    #[serde(default)]
    harmless: bool,
    #[serde(default)]
    alters: Vec<String>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
pub(crate) struct CommandInput {
    argv: Vec<String>,
    unless: Option<Vec<String>>,
    undo: Option<Vec<String>>,
    #[serde(flatten)]
    common: Common,
}

#[derive(Deserialize)]
pub(crate) struct ScriptInput {
    script: String,
    #[serde(default)]
    args: Vec<String>,
    unless: Option<String>,
    undo: Option<String>,
    #[serde(flatten)]
    common: Common,
}

/// When the output `changed` is true.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(untagged)]
enum ChangedWhen {
    #[default]
    #[serde(skip)]
    Always,
    Word(Word),
    ExitCode {
        exit_code: Vec<i32>,
    },
    StdoutMatches {
        stdout_matches: String,
    },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Always,
    Never,
}

/// What stands under `outputs`. A guard that held leaves out all but `changed`.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Outputs {
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
}

pub(crate) fn command(input: CommandInput) -> Result<Outputs> {
    let CommandInput { argv, unless, undo, common } = input;
    let summary = format!("run {}", argv.join(" "));
    Program { argv, unless, undo, summary, common }.run()
}

pub(crate) fn script(input: ScriptInput) -> Result<Outputs> {
    let ScriptInput { script, args, unless, undo, common } = input;
    let summary = format!("run the script: {}", first_line(&script));
    let mut argv = shell(script);
    if !args.is_empty() {
        argv.push("script".to_owned());
        argv.extend(args);
    }
    Program { argv, unless: unless.map(shell), undo: undo.map(shell), summary, common }.run()
}

/// The first command that fails ends the script.
fn shell(script: String) -> Vec<String> {
    vec!["sh".to_owned(), "-e".to_owned(), "-c".to_owned(), script]
}

fn first_line(script: &str) -> String {
    let mut lines = script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first} …") } else { first.to_owned() }
}

struct Program {
    argv: Vec<String>,
    unless: Option<Vec<String>>,
    undo: Option<Vec<String>>,
    summary: String,
    common: Common,
}

impl Program {
    fn run(self) -> Result<Outputs> {
        let machine = Machine::target("host")?;
        let Self { argv, unless, undo, summary, common } = self;
        let judge = Judge::new(&common.changed_when)?;
        let cmd = |argv: Vec<String>| {
            let cmd = machine.cmd(argv).envs(common.env.clone()).privileged_if(common.privileged);
            let cmd = match &common.cwd {
                Some(cwd) => cmd.cwd(cwd),
                None => cmd,
            };
            match common.timeout {
                Some(timeout) => cmd.timeout(timeout),
                None => cmd,
            }
        };
        let created = common.creates.as_ref().map(|path| {
            let look = machine.cmd(["test", "-e", path.as_str()]).privileged_if(common.privileged);
            look.reads([format!("path:{path}")])
        });
        let unless = unless.map(cmd);
        let program = cmd(argv).follow();
        let program = match &common.stdin {
            Some(text) => program.stdin(text),
            None => program,
        };

        if judge.only_looks() {
            for guard in [created, unless].into_iter().flatten() {
                if guard.observe()?.success() {
                    return Ok(Outputs::already());
                }
            }
            return judge.outputs(program.observe()?);
        }

        // One guard goes along with the change, where it also answers "did it happen?". Two: either of them is enough.
        let guard = match (created, unless) {
            (Some(created), Some(unless)) => {
                if unless.observe()?.success() {
                    return Ok(Outputs::already());
                }
                Some(created)
            }
            (created, unless) => created.or(unless),
        };
        let change = program.change(summary).alters(common.alters);
        let change = match guard {
            Some(guard) => change.done_when(guard),
            None => change.repeats(),
        };
        let change = match undo {
            Some(undo) => change.undo(cmd(undo)),
            None if common.harmless => change.harmless(),
            None => change,
        };
        match change.run_unjudged()?.output()? {
            Some(output) => judge.outputs(output),
            None => Ok(Outputs::already()),
        }
    }
}

impl Outputs {
    fn already() -> Self {
        Self { changed: false, stdout: None, stderr: None, exit_code: None }
    }
}

/// `changed_when`, ready for use.
enum Judge {
    Always,
    Never,
    ExitCode(Vec<i32>),
    StdoutMatches(Regex),
}

impl Judge {
    fn new(when: &ChangedWhen) -> Result<Self> {
        Ok(match when {
            ChangedWhen::Always | ChangedWhen::Word(Word::Always) => Self::Always,
            ChangedWhen::Word(Word::Never) => Self::Never,
            ChangedWhen::ExitCode { exit_code } => Self::ExitCode(exit_code.clone()),
            ChangedWhen::StdoutMatches { stdout_matches: pattern } => match Regex::new(pattern) {
                Ok(regex) => Self::StdoutMatches(regex),
                Err(error) => invalid!("changed_when: {pattern:?} is not a regular expression: {error}"),
            },
        })
    }

    fn only_looks(&self) -> bool {
        matches!(self, Self::Never)
    }

    /// Fails where the exit code says so.
    fn outputs(&self, output: Output) -> Result<Outputs> {
        let output = match self {
            Self::ExitCode(codes) => output.ok_if(&[codes.as_slice(), &[0]].concat())?,
            Self::Always | Self::Never | Self::StdoutMatches(_) => output.ok()?,
        };
        let stdout = output.text();
        let changed = match self {
            Self::Always => true,
            Self::Never => false,
            Self::ExitCode(codes) => output.code().is_some_and(|code| codes.contains(&code)),
            Self::StdoutMatches(regex) => regex.is_match(&stdout),
        };
        Ok(Outputs { changed, exit_code: output.code(), stderr: Some(output.stderr_text()), stdout: Some(stdout) })
    }
}

#[cfg(test)]
mod tests {
    use runbook_sdk::Exit;

    use super::*;

    fn judge(when: Value, code: i32, stdout: &str) -> Result<bool> {
        let when: ChangedWhen = serde_json::from_value(when).expect("a changed_when");
        let output = Output::new("x", Exit::Code(code), stdout, "why not");
        Judge::new(&when)?.outputs(output).map(|outputs| outputs.changed)
    }

    #[test]
    fn changed_when_decides() {
        assert_eq!(judge(json!("always"), 0, ""), Ok(true));
        assert_eq!(judge(json!("never"), 0, ""), Ok(false));
        assert_eq!(judge(json!({ "exit_code": [2] }), 2, ""), Ok(true));
        assert_eq!(judge(json!({ "exit_code": [2] }), 0, ""), Ok(false));
        assert_eq!(judge(json!({ "stdout_matches": "^new" }), 0, "new thing"), Ok(true));
        assert_eq!(judge(json!({ "stdout_matches": "^new" }), 0, "old thing"), Ok(false));
        assert_eq!(judge(json!({ "stdout_matches": "(" }), 0, "").unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn an_exit_code_that_nobody_expected_fails() {
        for when in [json!("always"), json!("never"), json!({ "exit_code": [2] })] {
            assert!(judge(when, 1, "").unwrap_err().message().ends_with("exit code 1: why not"));
        }
    }

    #[test]
    fn inputs_are_read() {
        let input: CommandInput = serde_json::from_value(json!({
            "argv": ["a"], "env": { "P": { "$secret": "pw" } }, "changed_when": "never", "timeout": "10s",
        }))
        .unwrap();
        assert!(input.common.privileged && input.common.changed_when == ChangedWhen::Word(Word::Never));
        assert!(serde_json::from_value::<ScriptInput>(json!({ "script": "a" })).is_ok());
    }

    #[test]
    fn a_script_is_named_by_its_first_command() {
        assert_eq!(first_line("#!/bin/sh\n\n# why\nmake all\nmake install\n"), "make all …");
        assert_eq!(first_line("true"), "true");
    }
}
