//! The text that a helper shell runs. A command runs in a session of its own, in a subshell that becomes it: one fork.

use std::sync::Arc;

use crate::command::{Body, Item, Piece, Prepared, Stdin, Word};
use crate::frame::FrameSpec;
use crate::marks::{self, Marked};
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
            Body::Commands(commands) => text.commands(commands, &spec.nonce, item.marked.as_ref()),
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
        let keep = item.marked.as_ref().is_some_and(|marked| marked.keep);
        text.mark(&spec.nonce, "E", "\"$RB_S\"", if keep { &marks::KEPT } else { &[1, 2] });
        if keep {
            text.add("exec 7>&- 9>&-\n");
        }
        text.add(afterwards);
    }
    text.0
}

/// Where a command stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Alone.
    Only,
    /// First in a pipeline.
    First,
    /// Behind another one.
    Later,
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

    fn commands(&mut self, commands: &[Prepared], nonce: &str, marked: Option<&Marked>) {
        let keep = marked.is_some_and(|marked| marked.keep);
        let [stdout, stderr] = if keep { marks::KEPT } else { [1, 2] };
        let streams = if keep { "4>&9 2>/dev/null >&7" } else { "4>&2 2>/dev/null" };
        self.add("RB_D=\n");
        if let Some(marked) = marked {
            self.add("RB_M=");
            quote(&mut self.0, marked.path().as_bytes());
            self.add(if keep { "\nrb_keep || exec 7>&1 9>&2\n" } else { "\n" });
        }
        let files: Vec<_> = commands.iter().flat_map(|command| &command.files).collect();
        if !files.is_empty() {
            self.add("if RB_D=$(umask 077; mktemp -d \"${TMPDIR:-/tmp}/runbook.XXXXXXXXXX\" 2>/dev/null)\nthen\n");
            self.mark(nonce, "D", "\"$RB_D\"", &[stderr]);
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
            self.subshell(command, nonce, Part::Only, marked);
            self.add(&format!("; RB_S=$?; }} {streams}\n"));
        } else {
            if let Some(marked) = marked {
                self.add("if ");
                self.start(nonce, "''", marked);
                self.add("\nthen\n");
            }
            self.mark(nonce, "S", "0", &[stdout, stderr]);
            self.add("{ ");
            for (place, command) in commands.iter().enumerate() {
                if place == 0 {
                    self.input(&command.stdin);
                } else {
                    self.add(" |\n");
                }
                self.add("{ ");
                self.subshell(command, nonce, if place == 0 { Part::First } else { Part::Later }, marked);
                self.add("\nRB_S=$?\n");
                if marked.is_some() {
                    self.add(&format!("rb_note part {place} \"$RB_S\"\n"));
                }
                self.mark(nonce, "P", &format!("\"{place} $RB_S\""), &[4]);
                self.add("}");
            }
            self.add(&format!("\n}} {streams}\nRB_S=0\n"));
            if marked.is_some() {
                self.add("else\n");
                self.mark(nonce, "F", "\"$RB_F\"", &[stderr]);
                self.add("RB_S=125\nfi\n");
            }
        }
        if !files.is_empty() {
            self.add("else\n");
            self.mark(nonce, "F", "files", &[stderr]);
            self.add("RB_S=125\nfi\n[ -z \"$RB_D\" ] || rm -rf -- \"$RB_D\"\n");
        }
        if marked.is_some() {
            // Before anything is said: where nobody listens any more, saying it is this shell's end.
            self.add("rb_note end \"$RB_S\"\n");
        }
    }

    /// Notes the start of a command and makes sure that its session is in charge; fails where it may not run.
    fn start(&mut self, nonce: &str, pid: &str, marked: &Marked) {
        self.add("rb_start ");
        quote(&mut self.0, marked.boot_id().as_bytes());
        self.add(&format!(" {nonce} {pid} {}", marked.session));
    }

    /// The subshell that becomes the command.
    fn subshell(&mut self, command: &Prepared, nonce: &str, part: Part, marked: Option<&Marked>) {
        let keep = marked.is_some_and(|marked| marked.keep);
        self.add(if keep { "( exec 2>&4 4>&- 7>&- 9>&-\nrb_pid\n" } else { "( exec 2>&4 4>&-\nrb_pid\n" });
        if let Some(cwd) = &command.cwd {
            self.add("cd -- ");
            let mut path = if cwd.starts_with('/') { Vec::new() } else { b"./".to_vec() };
            path.extend_from_slice(cwd.as_bytes());
            quote(&mut self.0, &path);
            self.add(" || {\n");
            self.mark(nonce, "F", "cwd", &[2]);
            self.add("exit 125\n}\n");
        }
        match (marked, part) {
            (None, _) => {}
            (Some(marked), Part::Only) => {
                self.start(nonce, "\"$RB_P\"", marked);
                self.add(" || {\n");
                self.mark(nonce, "F", "\"$RB_F\"", &[2]);
                self.add("exit 125\n}\n");
            }
            (Some(_), Part::First | Part::Later) => self.add("rb_note group \"$RB_P\"\n"),
        }
        for (name, value) in &command.env {
            self.add(&format!("export {name}="));
            self.word(value);
            self.add("\n");
        }
        match part {
            Part::Only => self.mark(nonce, "S", "\"$RB_P\"", &[1, 2]),
            Part::First | Part::Later => self.mark(nonce, "Q", "\"$RB_P\"", &[2]),
        }
        // A test needs neither a program nor a session: it is over at once. What follows is the same on all shells.
        let is_test = matches!(command.argv.as_slice(), [program, operator, _]
            if literal(program) == Some(b"test") && matches!(literal(operator), Some([b'-', b'e' | b'f' | b'd' | b'h'])));
        self.add(if is_test { "" } else { "rb_exec" });
        for word in &command.argv {
            self.add(" ");
            self.word(word);
        }
        self.add("\n)");
        if part != Part::Later {
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
