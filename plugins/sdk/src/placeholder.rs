//! Texts with secrets as plain strings for a while: for what can only work on strings, such as a parser or an editor of lines.

use crate::text::Part;
use crate::{Error, Result, Text};

/// Stand around a number. Both are characters that Unicode keeps from being used in texts.
const OPEN: char = '\u{10FFFE}';
const CLOSE: char = '\u{10FFFF}';

/// Remembers which placeholder stands for what.
///
/// ```
/// # use runbook_sdk::{Text, placeholder::Placeholders};
/// let mut placeholders = Placeholders::default();
/// let line = placeholders.put(&Text::plain("password=").and(Text::secret("pw")))?;
/// let file = format!("user=a\n{line}\n");
/// assert_eq!(placeholders.back(&file)?.to_string(), "user=a\npassword=<secret pw>\n");
/// # Ok::<(), runbook_sdk::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Placeholders(Vec<String>);

impl Placeholders {
    /// The text as a string, with a placeholder where a secret stands in it.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`](crate::Kind::Invalid) where the text holds a character that placeholders are made of.
    pub fn put(&mut self, text: &Text) -> Result<String> {
        let mut string = String::new();
        for part in text.parts() {
            match part {
                Part::Plain(plain) if plain.contains([OPEN, CLOSE]) => {
                    return Err(Error::invalid("the characters U+10FFFE and U+10FFFF are not allowed in texts"));
                }
                Part::Plain(plain) => string.push_str(plain),
                Part::Secret(name) => {
                    string.extend([OPEN.to_string(), self.0.len().to_string(), CLOSE.to_string()]);
                    self.0.push(name.clone());
                }
            }
        }
        Ok(string)
    }

    /// The string as a text, with its secrets back in it.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`](crate::Kind::Invalid) where a placeholder was altered.
    pub fn back(&self, string: &str) -> Result<Text> {
        let altered = || Error::invalid("a secret can only be put in as it is, and not be altered");
        let mut text = Text::default();
        let mut rest = string;
        while let Some((plain, marked)) = rest.split_once(OPEN) {
            let (number, after) = marked.split_once(CLOSE).ok_or_else(altered)?;
            let secret = number.parse().ok().and_then(|number: usize| self.0.get(number)).ok_or_else(altered)?;
            if plain.contains(CLOSE) {
                return Err(altered());
            }
            text = text.and(plain).and(Text::secret(secret));
            rest = after;
        }
        if rest.contains(CLOSE) { Err(altered()) } else { Ok(text.and(rest)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_altered_is_noticed() {
        let mut placeholders = Placeholders::default();
        let secret = placeholders.put(&Text::secret("pw")).unwrap();
        assert_eq!(placeholders.back(&secret), Ok(Text::secret("pw")));
        assert_eq!(placeholders.put(&"a".into()).unwrap(), "a");
        let close = CLOSE.to_string();
        let altered = [secret.replace('0', "7"), secret.replace(OPEN, ""), secret.replace(CLOSE, ""), close + &secret];
        for string in altered {
            assert!(placeholders.back(&string).is_err(), "{string:?}");
        }
        assert!(placeholders.put(&OPEN.to_string().into()).is_err());
    }
}
