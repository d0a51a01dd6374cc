//! JSON Schemas of types, put together while a plugin is compiled.
//!
//! A schema must lie in the component before anything runs, so it is a constant: a list of pieces of text, some of which are
//! lists themselves. `plugin!` joins those of all actions with the manifest into the bytes of the custom section.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{ControllerPath, Mode, Period, TargetPath, Text};

/// JSON text in pieces.
pub type Pieces = &'static [Piece];

/// A piece of JSON text.
#[derive(Debug, Clone, Copy)]
pub enum Piece {
    /// As it is.
    Text(&'static str),
    /// Those of another type.
    Of(Pieces),
}

use Piece::{Of, Text as Is};

/// A type that can stand under `with`: `#[derive(Input)]` makes one, and with it the JSON Schema of the action's inputs.
///
/// ```
/// # use runbook_sdk::prelude::*;
/// #[derive(Input)]
/// struct Limit {
///     /// Such as "200M".
///     #[input(pattern = "^[0-9]+[KMG]$")]
///     size: String,
///     /// Where the setting goes.
///     #[input(default = "/etc/systemd/journald.conf.d/50-size.conf")]
///     path: TargetPath,
///     /// What is kept of it. Left out: all.
///     keep: Option<Keep>,
/// }
///
/// #[derive(Input, PartialEq)]
/// enum Keep {
///     /// What belongs to the kernel.
///     Kernel,
///     /// What was written since the last boot.
///     ThisBoot,
/// }
///
/// # fn main() -> Result<()> {
/// let limit: Limit = serde_json::from_value(json!({ "size": "1G", "keep": "this-boot" }))?;
/// assert!(limit.keep == Some(Keep::ThisBoot) && &*limit.path == "/etc/systemd/journald.conf.d/50-size.conf");
/// # Ok(()) }
/// ```
///
/// - Each field needs a doc comment, which is its description. Those of an enum's words are added to it.
/// - A field may be left out where it is an [`Option`], or has a default: `#[input(default = LITERAL)]` (a text, a number, a
///   boolean or a list of them), or `#[input(default)]` for what [`Default`] gives.
/// - [`TargetPath`] and [`ControllerPath`] say where a path is one, [`Text`] takes secrets, [`Period`] and [`Mode`] read what
///   people write.
/// - `pattern`, `format` (texts), `min_length`, `max_length`, `min_items`, `max_items`, `minimum` and `maximum` (numbers) say more, as
///   JSON Schema has them; `secret` lets secrets stand in a table; `name = "..."` is the key where it is not the field's name.
/// - `#[input(one_of("a", "b"))]` on the struct: exactly one of these optional fields is given; `any_of`: one at least.
/// - An enum's words are its variants in lower case with hyphens; `#[input(name = "...")]` on a variant says another one.
///
/// An action whose manifest has no `inputs` takes its schema from here. What this cannot say, `inputs` in the manifest can.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what it takes as an input",
    note = "derive `Input` for it, or describe the inputs of the action as `[action.inputs]` in plugin.toml"
)]
pub trait InputType: DeserializeOwned {
    /// Members of its JSON Schema, without the braces around them.
    const SCHEMA: Pieces;
    /// What its words mean, for the description of a field of this type.
    const MEANING: Pieces = &[];
    /// Its keys, which the manifest's asks may refer to.
    const FIELDS: &'static [Field] = &[];
    /// What `${input.NAME...}` in an ask makes of it.
    const SPREAD: Spread = Spread::None;
}

/// A type that an action can give: `#[derive(Output)]` makes one, and with it the JSON Schema of the action's outputs.
///
/// ```
/// # use runbook_sdk::prelude::*;
/// #[derive(Output)]
/// struct Limited {
///     /// Bytes that the journal takes now.
///     bytes: u64,
///     /// What was set before. None where nothing was.
///     before: Option<String>,
/// }
/// # fn main() -> Result<()> {
/// assert_eq!(serde_json::to_value(Limited { bytes: 7, before: None })?, json!({ "bytes": 7 }));
/// # Ok(()) }
/// ```
///
/// Each field needs a doc comment, which is its description. A field that is none is left out.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what it gives as an output",
    note = "derive `Output` for it, or describe the outputs of the action as `[action.outputs]` in plugin.toml"
)]
pub trait OutputType: Serialize {
    /// Members of its JSON Schema, without the braces around them.
    const SCHEMA: Pieces;
    /// What its words mean.
    const MEANING: Pieces = &[];
}

/// A key of an input.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// What it can be spread to.
    pub spread: Spread,
}

/// What becomes of `${input.NAME...}` in an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// It cannot be spread.
    None,
    /// The elements of a list.
    List,
    /// The keys of a table.
    Table,
}

macro_rules! leaves {
    ($($type:ty => $schema:literal $(, $spread:ident)?;)*) => { $(
        impl InputType for $type {
            const SCHEMA: Pieces = &[Is($schema)];
            $( const SPREAD: Spread = Spread::$spread; )?
        }

        impl OutputType for $type {
            const SCHEMA: Pieces = &[Is($schema)];
        }
    )* };
}

leaves! {
    bool => r#""type":"boolean""#;
    u8 => r#""type":"integer","minimum":0,"maximum":255"#;
    u16 => r#""type":"integer","minimum":0,"maximum":65535"#;
    u32 => r#""type":"integer","minimum":0,"maximum":4294967295"#;
    u64 => r#""type":"integer","minimum":0"#;
    usize => r#""type":"integer","minimum":0"#;
    i32 => r#""type":"integer","minimum":-2147483648,"maximum":2147483647"#;
    i64 => r#""type":"integer""#;
    f64 => r#""type":"number""#;
    String => r#""type":"string""#;
    Ipv4Addr => r#""type":"string","format":"ipv4""#;
    Ipv6Addr => r#""type":"string","format":"ipv6""#;
    IpAddr => r#""type":"string""#;
    Mode => r#""type":["string","integer"]"#;
    Period => r#""type":"string","pattern":"^\\s*([0-9]+\\s*(ms|s|m|min|h|d)\\s*)+$""#;
    TargetPath => r#""type":"string","format":"target-path""#;
    ControllerPath => r#""type":"string","format":"controller-path""#;
    Text => r#""type":"string","x-secret":true"#;
    Value => r#""type":["null","boolean","number","string","array","object"]"#;
    Map<String, Value> => r#""type":"object""#, Table;
}

/// An action without outputs.
impl OutputType for () {
    const SCHEMA: Pieces = &[Is(r#""type":"object","additionalProperties":false,"properties":{}"#)];
}

impl<T: InputType> InputType for Option<T> {
    const SCHEMA: Pieces = T::SCHEMA;
    const MEANING: Pieces = T::MEANING;
    const FIELDS: &'static [Field] = T::FIELDS;
    const SPREAD: Spread = T::SPREAD;
}

impl<T: OutputType> OutputType for Option<T> {
    const SCHEMA: Pieces = T::SCHEMA;
    const MEANING: Pieces = T::MEANING;
}

impl<T: InputType> InputType for Vec<T> {
    const SCHEMA: Pieces = &[Is(r#""type":"array","items":{"#), Of(T::SCHEMA), Is("}")];
    const MEANING: Pieces = T::MEANING;
    const SPREAD: Spread = Spread::List;
}

impl<T: OutputType> OutputType for Vec<T> {
    const SCHEMA: Pieces = &[Is(r#""type":"array","items":{"#), Of(T::SCHEMA), Is("}")];
    const MEANING: Pieces = T::MEANING;
}

impl<T: InputType> InputType for BTreeMap<String, T> {
    const SCHEMA: Pieces = &[Is(r#""type":"object","additionalProperties":{"#), Of(T::SCHEMA), Is("}")];
    const MEANING: Pieces = T::MEANING;
    const SPREAD: Spread = Spread::Table;
}

impl<T: OutputType> OutputType for BTreeMap<String, T> {
    const SCHEMA: Pieces = &[Is(r#""type":"object","additionalProperties":{"#), Of(T::SCHEMA), Is("}")];
    const MEANING: Pieces = T::MEANING;
}

/// Bytes of pieces when they are joined.
pub const fn length(pieces: Pieces) -> usize {
    let (mut sum, mut index) = (0, 0);
    while index < pieces.len() {
        sum += match pieces[index] {
            Is(text) => text.len(),
            Of(inner) => length(inner),
        };
        index += 1;
    }
    sum
}

/// The pieces, joined. `LENGTH` is what [`length`] gives.
pub const fn joined<const LENGTH: usize>(pieces: Pieces) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let end = write(pieces, &mut bytes, 0);
    assert!(end == LENGTH);
    bytes
}

const fn write(pieces: Pieces, bytes: &mut [u8], mut at: usize) -> usize {
    let mut index = 0;
    while index < pieces.len() {
        at = match pieces[index] {
            Is(text) => {
                bytes.split_at_mut(at).1.split_at_mut(text.len()).0.copy_from_slice(text.as_bytes());
                at + text.len()
            }
            Of(inner) => write(inner, bytes, at),
        };
        index += 1;
    }
    at
}

/// The inputs of an action, by its function.
pub const fn inputs_of<I: InputType, O, F: Fn(I) -> crate::Result<O>>(_: &F) -> Pieces {
    I::SCHEMA
}

/// The outputs of an action, by its function.
pub const fn outputs_of<I, O: OutputType, F: Fn(I) -> crate::Result<O>>(_: &F) -> Pieces {
    O::SCHEMA
}

/// Whether the action's function takes an input of this name, that can be spread so where `spread` says so. Ends the compilation
/// with `message` where not.
pub const fn refers<I: InputType, O, F: Fn(I) -> crate::Result<O>>(_: &F, name: &str, spread: Spread, message: &str) {
    let mut index = 0;
    while index < I::FIELDS.len() {
        let field = &I::FIELDS[index];
        if same(field.name, name) {
            if !matches!(spread, Spread::None) && spread as u8 != field.spread as u8 {
                panic!("{}", message);
            }
            return;
        }
        index += 1;
    }
    panic!("{}", message);
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// What was given, with the defaults of what was not: by key, as JSON.
///
/// # Errors
///
/// Where it is no table, or a default is no JSON.
pub fn with_defaults<'de, D: serde::Deserializer<'de>>(given: D, defaults: &[(&str, &str)]) -> Result<Value, D::Error> {
    use serde::de::{Deserialize as _, Error as _};

    let mut given = Map::deserialize(given)?;
    for (key, json) in defaults {
        if !given.contains_key(*key) {
            given.insert((*key).to_owned(), serde_json::from_str(json).map_err(D::Error::custom)?);
        }
    }
    Ok(Value::Object(given))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NESTED: Pieces = &[Is("{"), Of(<Vec<Option<BTreeMap<String, u8>>> as InputType>::SCHEMA), Is("}")];

    #[test]
    fn pieces_are_joined_while_compiling() {
        const LENGTH: usize = length(NESTED);
        static BYTES: [u8; LENGTH] = joined::<LENGTH>(NESTED);
        let byte = json!({ "type": "integer", "minimum": 0, "maximum": 255 });
        let expect = json!({ "type": "array", "items": { "type": "object", "additionalProperties": byte } });
        assert_eq!(serde_json::from_slice::<Value>(&BYTES).unwrap(), expect);
    }

    #[test]
    fn all_leaves_are_json() {
        for pieces in [<String as InputType>::SCHEMA, <Period as InputType>::SCHEMA, <Value as InputType>::SCHEMA] {
            let mut bytes = vec![0; length(pieces)];
            write(pieces, &mut bytes, 0);
            let text = format!("{{{}}}", String::from_utf8(bytes).unwrap());
            assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        }
    }
}
