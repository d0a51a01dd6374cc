//! Permission bits.

use std::fmt;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Permission bits, as an input: `mode = "0644"` or, since TOML has octal numbers, `mode = 0o644`.
///
/// A plain `mode = 644` is refused: it would be 0o1204, which nobody means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(u32);

impl Mode {
    /// These bits, such as `0o644`.
    pub const fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    fn of_text(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        match u32::from_str_radix(digits, 8) {
            Ok(bits) if (3..=4).contains(&digits.len()) && !digits.starts_with('+') => Ok(Self(bits)),
            _ => Err(format!("{text:?} is not a mode: three or four octal digits, such as \"0644\"")),
        }
    }

    fn of_number(number: u64) -> Result<Self, String> {
        // As decimal numbers these look like a mode, and as bits they are none that is in use: the quotes were forgotten.
        const FORGOTTEN: [u64; 4] = [400, 440, 444, 500];
        match u32::try_from(number) {
            Ok(bits) if bits <= 0o777 && !FORGOTTEN.contains(&number) => Ok(Self(bits)),
            _ => Err(format!("the number {number} is not a mode: write \"{number:04}\", or 0o{number}")),
        }
    }
}

impl From<Mode> for u32 {
    fn from(mode: Mode) -> Self {
        mode.0
    }
}

impl From<u32> for Mode {
    fn from(bits: u32) -> Self {
        Self(bits)
    }
}

/// As `ls` and `chmod` say it: `0644`.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bits;

        impl Visitor<'_> for Bits {
            type Value = Mode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mode such as \"0644\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Mode, E> {
                Mode::of_text(text).map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Mode, E> {
                Mode::of_number(number).map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Mode, E> {
                self.visit_u64(u64::try_from(number).map_err(|_| E::custom("a mode is not negative"))?)
            }
        }

        deserializer.deserialize_any(Bits).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn text_and_octal_numbers_are_read() {
        let read = |value: Value| serde_json::from_value::<Mode>(value).map(Mode::bits).ok();
        assert_eq!(read(json!("0644")), Some(0o644));
        assert_eq!(read(json!("755")), Some(0o755));
        assert_eq!(read(json!("0o1777")), Some(0o1777));
        assert_eq!(read(json!(0o644)), Some(0o644));
        for wrong in
            [json!(644), json!(755), json!(400), json!("0888"), json!("7"), json!("+644"), json!(-1), json!("rw-")]
        {
            assert_eq!(read(wrong.clone()), None, "{wrong}");
        }
        assert_eq!(Mode::new(0o644).to_string(), "0644");
    }
}
