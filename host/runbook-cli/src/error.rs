//! What a failed command says, and its exit code.

use std::io::Write as _;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use runbook_model::exit_code;

/// Why a command failed: what, where, and how to mend it.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) code: u8,
    pub(crate) what: String,
    pub(crate) hints: Vec<String>,
    /// The mistakes were shown already.
    pub(crate) shown: bool,
}

impl CliError {
    fn new(code: u8, what: impl std::fmt::Display) -> Self {
        Self { code, what: what.to_string(), hints: Vec::new(), shown: false }
    }

    /// The command line makes no sense.
    pub(crate) fn usage(what: impl std::fmt::Display) -> Self {
        Self::new(exit_code::USAGE, what)
    }

    /// The runbook or an input is wrong.
    pub(crate) fn invalid(what: impl std::fmt::Display) -> Self {
        Self::new(exit_code::INVALID, what)
    }

    /// A plugin or a grant is refused.
    pub(crate) fn refused(what: impl std::fmt::Display) -> Self {
        Self::new(exit_code::REFUSED, what)
    }

    /// The program is at fault, or the system that it runs on.
    pub(crate) fn internal(what: impl std::fmt::Display) -> Self {
        Self::new(exit_code::INTERNAL, what)
    }

    /// How to mend it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Several of one kind at once, each on a line of its own; a single one stays as it is. None when there is none.
    pub(crate) fn together(title: &str, mut errors: Vec<Self>) -> Option<Self> {
        if errors.len() < 2 {
            return errors.pop();
        }
        let lines: Vec<String> = errors.iter().map(|error| format!("\n  {}", error.what)).collect();
        let code = errors.first().map_or(exit_code::INTERNAL, |error| error.code);
        let mut all = Self::new(code, format!("{title}:{}", lines.concat()));
        for hint in errors.into_iter().flat_map(|error| error.hints) {
            if !all.hints.contains(&hint) {
                all.hints.push(hint);
            }
        }
        Some(all)
    }

    /// The mistakes were shown one by one; what is left is the count.
    pub(crate) fn after_diagnostics(file: &str, count: usize) -> Self {
        let mistakes = if count == 1 { "mistake" } else { "mistakes" };
        Self { shown: true, ..Self::invalid(format!("{file}: {count} {mistakes}; nothing was touched")) }
    }
}

/// Prints an error; gives its exit code.
pub(crate) fn report(error: &CliError) -> ExitCode {
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let cyan = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
    let mut out = anstream::stderr().lock();
    // A closed stderr leaves the exit code to say it.
    let _ =
        if error.shown { writeln!(out, "{}", error.what) } else { writeln!(out, "{red}error:{red:#} {}", error.what) };
    for hint in &error.hints {
        let _ = writeln!(out, "{cyan}hint:{cyan:#} {hint}");
    }
    ExitCode::from(error.code)
}
