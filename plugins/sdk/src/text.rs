//! Text in which secrets stay references.

use std::fmt;

use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::bindings::runbook::base::types::TextPart;
use crate::{Error, Result};

/// Text in which secrets stay references: the host puts their values in at the last moment, and a plugin never sees one.
///
/// Use it for every input that may be secret. It is read from a string, from `{"$secret": "name"}`, and from
/// `{"$text": ["user:", {"$secret": "name"}]}`, and written back the same way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Characters as they are.
    Plain(String),
    /// The name of a secret.
    Secret(String),
}

impl Text {
    /// Characters as they are.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::from(text.into())
    }

    /// The value of the secret with this name.
    pub fn secret(name: impl Into<String>) -> Self {
        Self(vec![Part::Secret(name.into())])
    }

    /// This text with another one behind it.
    #[must_use]
    pub fn and(mut self, more: impl Into<Self>) -> Self {
        for part in more.into().0 {
            match (self.0.last_mut(), part) {
                (_, Part::Plain(new)) if new.is_empty() => {}
                (Some(Part::Plain(text)), Part::Plain(new)) => text.push_str(&new),
                (_, part) => self.0.push(part),
            }
        }
        self
    }

    /// Whether there is nothing in it. A secret counts as something.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a secret stands in it.
    pub fn has_secret(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Secret(_)))
    }

    /// Its characters; none where a secret stands in it.
    pub fn as_plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Plain(text)] => Some(text),
            _ => None,
        }
    }

    /// Its characters.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`](crate::Kind::Invalid) where a secret stands in it: `what` cannot be one.
    pub fn require_plain(&self, what: &str) -> Result<&str> {
        self.as_plain().ok_or_else(|| Error::invalid(format!("{what} cannot hold a secret: the plugin has to read it")))
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }

    pub(crate) fn to_wit(&self) -> Vec<TextPart> {
        let part = |part: &Part| match part {
            Part::Plain(text) => TextPart::Plain(text.clone()),
            Part::Secret(name) => TextPart::Secret(name.clone()),
        };
        self.0.iter().map(part).collect()
    }

    /// Whether a value is the reference that stands for a text with secrets: `{"$secret": ...}` or `{"$text": ...}`.
    pub fn is_reference(value: &Value) -> bool {
        value.as_object().is_some_and(|o| o.len() == 1 && (o.contains_key("$secret") || o.contains_key("$text")))
    }

    fn read(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(Self::plain(text)),
            Value::Object(mut object) if object.len() == 1 => match object.remove("$secret") {
                Some(Value::String(name)) => Ok(Self::secret(name)),
                _ => match object.remove("$text") {
                    Some(Value::Array(parts)) => {
                        parts.into_iter().try_fold(Self::default(), |text, part| Ok(text.and(Self::read(part)?)))
                    }
                    _ => Err("a table is not text".to_owned()),
                },
            },
            _ => Err("expected a text".to_owned()),
        }
    }
}

/// For people: a secret is shown by its name.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Plain(text) => f.write_str(text)?,
                Part::Secret(name) => write!(f, "<secret {name}>")?,
            }
        }
        Ok(())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::plain(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(if text.is_empty() { Vec::new() } else { vec![Part::Plain(text)] })
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<&Text> for Text {
    fn from(text: &Text) -> Self {
        text.clone()
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(text) => serializer.serialize_str(text),
            Self::Secret(name) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("$secret", name)?;
                map.end()
            }
        }
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [] => serializer.serialize_str(""),
            [part] => part.serialize(serializer),
            parts => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("$text", parts)?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_three_forms_are_read_and_written() {
        for value in [
            json!("plain"),
            json!(""),
            json!({ "$secret": "pw" }),
            json!({ "$text": ["a:", { "$secret": "pw" }, "\n"] }),
        ] {
            let text: Text = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(&text).unwrap(), value);
        }
        assert!(serde_json::from_value::<Text>(json!({ "$secret": 1 })).is_err());
        assert!(serde_json::from_value::<Text>(json!(7)).is_err());
    }

    #[test]
    fn pieces_join() {
        let text = Text::plain("a").and("b").and(Text::secret("pw")).and("").and("c");
        assert_eq!(text.to_string(), "ab<secret pw>c");
        assert!(text.has_secret() && text.as_plain().is_none());
        assert_eq!(Text::plain("a").and("b").as_plain(), Some("ab"));
    }
}
