//! Reads the inputs that `--var` does not give: from the environment, files, programs and the person.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::{Command, Stdio};

use runbook_model::plan::{InputDef, InputFrom, InputType, Runbook};
use runbook_model::prepare;

/// What stands at the places of the inputs' `from`, or why it cannot be read; what is not there is left out.
pub(crate) fn read(
    runbook: &Runbook,
    given: &BTreeMap<String, String>,
    folder: &str,
    home: &str,
) -> BTreeMap<String, Result<String, String>> {
    let places = runbook_model::inputs::to_read(&runbook.inputs, given);
    places
        .into_iter()
        .filter_map(|(input, from)| Some((input.name.clone(), value(input, from, folder, home)?)))
        .collect()
}

/// None: there is nothing at that place, and the input has a default.
fn value(input: &InputDef, from: &InputFrom, folder: &str, home: &str) -> Option<Result<String, String>> {
    match from {
        InputFrom::Env(name) => std::env::var(name).ok().map(Ok),
        InputFrom::File(path) => {
            let path = prepare::absolute(path, folder, home);
            match std::fs::read_to_string(&path) {
                Ok(text) => Some(Ok(chomp(text))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && input.default.is_some() => None,
                Err(error) => Some(Err(format!("{path}: {error}"))),
            }
        }
        InputFrom::Age { file, identity } => {
            let mut argv = vec!["age".to_owned(), "--decrypt".to_owned()];
            if let Some(identity) = identity {
                argv.extend(["--identity".to_owned(), prepare::absolute(identity, folder, home)]);
            }
            argv.push(prepare::absolute(file, folder, home));
            Some(output(&argv, folder))
        }
        InputFrom::Command(argv) => Some(output(argv, folder)),
        InputFrom::Prompt(_) if !std::io::stdin().is_terminal() && input.default.is_some() => None,
        InputFrom::Prompt(_) if !std::io::stdin().is_terminal() => {
            Some(Err("it is asked for at the terminal, and there is none".to_owned()))
        }
        InputFrom::Prompt(text) => {
            Some(prompt(text, input.kind == InputType::Secret).map_err(|error| error.to_string()))
        }
    }
}

fn prompt(text: &str, secret: bool) -> std::io::Result<String> {
    use std::io::{BufRead as _, Write as _};
    if secret {
        return rpassword::prompt_password(format!("{text}: "));
    }
    write!(std::io::stderr().lock(), "{text}: ")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(chomp(line))
}

/// What a program of the controller prints. It may talk to the person (a password store that asks for its own).
fn output(argv: &[String], folder: &str) -> Result<String, String> {
    let (program, arguments) = argv.split_first().ok_or("the command is empty")?;
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{}` ended with {}", argv.join(" "), output.status));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| format!("`{program}` did not print text"))?;
    Ok(chomp(text))
}

fn chomp(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}
