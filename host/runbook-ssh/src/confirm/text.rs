//! A command as a program of its own, for whoever runs it when nobody is connected.

use runbook_engine::backend::CallContext;
use runbook_model::call::{CallError, Command, Input};

use crate::command::{Piece, Prepared, Stdin, Word, prepare};
use crate::quote::{describe, quote};

/// The files that make up a command in the folder of its change: names and contents.
pub(super) fn files(
    name: &str,
    folder: &str,
    command: &Command,
    ctx: &CallContext,
) -> Result<Vec<(String, Vec<u8>)>, CallError> {
    let invalid = |text: &str| Err(CallError::Invalid(format!("{}: {text}", describe(&command.argv))));
    if !command.privileged {
        return invalid(
            "a change that is confirmed over a new connection needs `privileged`: root keeps watch over it",
        );
    }
    match command.stdin {
        Input::None | Input::Text(_) => {}
        Input::Bytes(_) | Input::CopyOf(_) => {
            return invalid("it runs while nobody is connected, so its input can be a short text only");
        }
    }
    let prepared = prepare(command, &ctx.secrets)?;
    let stdin = match &prepared.stdin {
        Stdin::Null => Vec::new(),
        Stdin::Inline(text) => text.clone(),
        Stdin::Feed | Stdin::Part(_) => return invalid("its input is too large"),
    };
    let mut files =
        vec![(name.to_owned(), program(&prepared, &format!("{folder}/{name}.d"))), (format!("{name}.in"), stdin)];
    files.extend(prepared.files.into_iter().map(|(file, content)| (format!("{name}.d/{file}"), content)));
    Ok(files)
}

/// The text for `sh`. Temporary files lie in `folder`.
fn program(command: &Prepared, folder: &str) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(cwd) = &command.cwd {
        text.extend_from_slice(b"cd -- ");
        quote(&mut text, cwd.as_bytes());
        text.extend_from_slice(b" || exit 125\n");
    }
    for (name, value) in &command.env {
        text.extend_from_slice(format!("{name}=").as_bytes());
        word(&mut text, value, folder);
        text.extend_from_slice(format!("\nexport {name}\n").as_bytes());
    }
    text.extend_from_slice(b"exec");
    for argument in &command.argv {
        text.push(b' ');
        word(&mut text, argument, folder);
    }
    text.push(b'\n');
    text
}

fn word(text: &mut Vec<u8>, word: &Word, folder: &str) {
    for piece in word {
        match piece {
            Piece::Literal(bytes) => quote(text, bytes),
            Piece::File(name) => quote(text, format!("{folder}/{name}").as_bytes()),
        }
    }
}
