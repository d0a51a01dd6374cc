//! The text that a helper shell runs. A command runs in a session of its own, in a subshell that becomes it: one fork.

use std::sync::Arc;

use crate::command::{Body, Item, Piece, Prepared, Stdin, Word};
use crate::frame::FrameSpec;
use crate::quote::quote;

/// The whole text of a job: read completely before any of an item runs, so that nothing can come between its marks.
///
/// `first` is what the shell has to be told before it runs the items: how it is set up, and the libraries that it lacks.
pub(crate) fn script(items: &[Arc<Item>], specs: &[FrameSpec], first: &[&str], previous: &[u32]) -> Vec<u8> {
    let mut text = Script::default();
    for part in first {
        text.add("{\n");
        text.add(part);
        text.add("}\n");
    }
    if let (Some(spec), false) = (specs.first(), previous.is_empty()) {
        // A process that the last job left behind may still write to our streams: then this shell is not to be used.
        let alive: Vec<String> = previous.iter().map(|group| format!("kill -0 -{group}")).collect();
        text.add(&format!("if {{ {}; }} 2>/dev/null; then ", alive.join(" || ")));
        text.mark(&spec.nonce, "B", "", &[1, 2]);
        text.add("exit; fi\n");
    }
    for (item, spec) in items.iter().zip(specs) {
        let afterwards = match item.stdin() {
            Some(Stdin::Feed) => "exit\n}\n",
            // What was left unread must not be read as text.
            Some(Stdin::Part(_)) => "[ \"$RB_S\" = 0 ] || exit\n}\n",
            _ => "}\n",
        };
        text.add("{\n");
        match &item.body {
            Body::Commands(commands) => text.commands(commands, &spec.nonce),
            Body::Script { text: body, arguments, stdin, .. } => {
                text.add("{ ");
                text.input(stdin);
                text.add("( exec 2>&4 4>&-\n");
                text.mark(&spec.nonce, "S", "0", &[1, 2]);
                text.add("set --");
                for argument in arguments {
                    text.add(" ");
                    quote(&mut text.0, argument);
                }
                text.add("\n");
                text.add(body);
                text.add("\n)");
                text.redirect(stdin);
                text.add("; RB_S=$?; } 4>&2 2>/dev/null\n");
            }
        }
        text.mark(&spec.nonce, "E", "\"$RB_S\"", &[1, 2]);
        text.add(afterwards);
    }
    text.0
}

/// Shell text that is being written.
#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    fn add(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A mark on some of the shell's streams; `rest` is shell text.
    fn mark(&mut self, nonce: &str, kind: &str, rest: &str, streams: &[u8]) {
        for stream in streams {
            let value = if rest.is_empty() { "''" } else { rest };
            self.add(&format!("printf '{nonce} {kind} %s\\n' {value} >&{stream}\n"));
        }
    }

    fn input(&mut self, stdin: &Stdin) {
        if let Stdin::Inline(text) = stdin {
            self.add("printf '%s' ");
            quote(&mut self.0, text);
            self.add(" 2>/dev/null | ");
        }
    }

    fn redirect(&mut self, stdin: &Stdin) {
        if matches!(stdin, Stdin::Null) {
            self.add(" </dev/null");
        }
    }

    fn commands(&mut self, commands: &[Prepared], nonce: &str) {
        self.add("RB_D=\n");
        let files: Vec<_> = commands.iter().flat_map(|command| &command.files).collect();
        if !files.is_empty() {
            self.add("if RB_D=$(umask 077; mktemp -d \"${TMPDIR:-/tmp}/runbook.XXXXXXXXXX\" 2>/dev/null)\nthen\n");
            self.mark(nonce, "D", "\"$RB_D\"", &[2]);
            self.add("fi\nif [ -n \"$RB_D\" ] && ( umask 077");
            for (name, content) in &files {
                self.add(" && printf '%s' ");
                quote(&mut self.0, content);
                self.add(&format!(" >\"$RB_D/{name}\""));
            }
            self.add(" ) 2>/dev/null\nthen\n");
        }
        if let [command] = commands {
            self.add("{ ");
            self.input(&command.stdin);
            self.subshell(command, nonce, "S", false);
            self.add("; RB_S=$?; } 4>&2 2>/dev/null\n");
        } else {
            self.mark(nonce, "S", "0", &[1, 2]);
            self.add("{ ");
            for (place, command) in commands.iter().enumerate() {
                if place == 0 {
                    self.input(&command.stdin);
                } else {
                    self.add(" |\n");
                }
                self.add("{ ");
                self.subshell(command, nonce, "Q", place > 0);
                self.add(";\n");
                self.mark(nonce, "P", &format!("\"{place} $?\""), &[4]);
                self.add("}");
            }
            self.add("\n} 4>&2 2>/dev/null\nRB_S=0\n");
        }
        if !files.is_empty() {
            self.add("else\n");
            self.mark(nonce, "F", "files", &[2]);
            self.add("RB_S=125\nfi\n[ -z \"$RB_D\" ] || rm -rf -- \"$RB_D\"\n");
        }
    }

    /// The subshell that becomes the command.
    fn subshell(&mut self, command: &Prepared, nonce: &str, start: &str, piped: bool) {
        self.add("( exec 2>&4 4>&-\nrb_pid\n");
        if let Some(cwd) = &command.cwd {
            self.add("cd -- ");
            let mut path = if cwd.starts_with('/') { Vec::new() } else { b"./".to_vec() };
            path.extend_from_slice(cwd.as_bytes());
            quote(&mut self.0, &path);
            self.add(" || {\n");
            self.mark(nonce, "F", "cwd", &[2]);
            self.add("exit 125\n}\n");
        }
        for (name, value) in &command.env {
            self.add(&format!("export {name}="));
            self.word(value);
            self.add("\n");
        }
        let streams: &[u8] = if start == "S" { &[1, 2] } else { &[2] };
        self.mark(nonce, start, "\"$RB_P\"", streams);
        // A test needs neither a program nor a session: it is over at once. What follows is the same on all shells.
        let is_test = matches!(command.argv.as_slice(), [program, operator, _]
            if literal(program) == Some(b"test") && matches!(literal(operator), Some([b'-', b'e' | b'f' | b'd' | b'h'])));
        self.add(if is_test { "" } else { "rb_exec" });
        for word in &command.argv {
            self.add(" ");
            self.word(word);
        }
        self.add("\n)");
        if !piped {
            self.redirect(&command.stdin);
        }
    }

    fn word(&mut self, word: &Word) {
        for piece in word {
            match piece {
                Piece::Literal(bytes) => quote(&mut self.0, bytes),
                Piece::File(name) => self.add(&format!("\"$RB_D/{name}\"")),
            }
        }
    }
}

/// A word without placeholders.
fn literal(word: &Word) -> Option<&[u8]> {
    match word.as_slice() {
        [Piece::Literal(bytes)] => Some(bytes),
        _ => None,
    }
}
