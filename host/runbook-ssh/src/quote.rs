//! Text for a POSIX shell.

use rand::RngExt as _;

/// Appends bytes as one word that no shell reads anything into. They must hold no NUL.
pub(crate) fn quote(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'\'');
    for &byte in bytes {
        if byte == b'\'' {
            out.extend_from_slice(b"'\\''");
        } else {
            out.push(byte);
        }
    }
    out.push(b'\'');
}

/// 128 random bits as hex: nothing that runs on a machine can guess them.
pub(crate) fn nonce() -> String {
    hex::encode(rand::rng().random::<[u8; 16]>())
}

/// A short, one-line form of a command for messages.
pub(crate) fn describe<S: AsRef<str>>(argv: &[S]) -> String {
    const LONGEST: usize = 100;
    let mut text = String::new();
    for word in argv {
        if !text.is_empty() {
            text.push(' ');
        }
        // Of a script, its first line says most.
        let (line, more) = word.as_ref().split_once('\n').map_or((word.as_ref(), ""), |(line, _)| (line, "..."));
        text.extend(line.chars().chain(more.chars()).map(|c| if c.is_control() { ' ' } else { c }));
        if text.chars().count() > LONGEST {
            text = text.chars().take(LONGEST).collect::<String>() + "...";
            break;
        }
    }
    format!("`{text}`")
}

/// The last lines of some output, for messages.
pub(crate) fn tail(bytes: &[u8]) -> String {
    const LINES: usize = 4;
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_cannot_be_left() {
        let mut out = Vec::new();
        quote(&mut out, b"it's $HOME; `x`");
        assert_eq!(out, b"'it'\\''s $HOME; `x`'");
    }

    #[test]
    fn descriptions_stay_short_and_on_one_line() {
        let text = describe(&["sh", "-c", &"a\nb".repeat(100)]);
        assert!(text.len() < 120 && !text.contains('\n'), "{text}");
        assert_eq!(
            describe(&["sh", "-c", "# Moves it.\nset -eu\n", "move", "eth0"]),
            "`sh -c # Moves it.... move eth0`"
        );
    }
}
