//! Between JSON values and those of expressions.

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::Value as Jinja;
use minijinja::value::{Object, ObjectRepr, ValueKind};
use serde_json::{Map, Number, Value};

use super::secret;

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// From the runbook: references to secrets in it become marks.
    Owner,
    /// From a host: nothing in it means anything.
    World,
}

/// Makes values for expressions, and remembers the secrets that stand in them.
#[derive(Default)]
pub(super) struct Importer {
    /// Names of the secrets whose marks went out.
    pub(super) issued: BTreeSet<String>,
}

impl Importer {
    /// A JSON value for expressions.
    pub(super) fn value(&mut self, value: &Value, origin: Origin) -> Result<Jinja, String> {
        Ok(match value {
            Value::Null => Jinja::from(()),
            Value::Bool(flag) => Jinja::from(*flag),
            Value::Number(number) => import_number(number),
            Value::String(text) => Jinja::from(clean(text)?),
            Value::Array(items) => {
                Jinja::from(items.iter().map(|v| self.value(v, origin)).collect::<Result<Vec<_>, _>>()?)
            }
            Value::Object(map) if origin == Origin::Owner && secret::is_reference(value) => {
                let marks = secret::to_marks(map).ok_or("a reference to a secret is not well formed")?;
                self.issued.extend(secret::names_in(&marks));
                Jinja::from(marks)
            }
            Value::Object(map) => self.map(map, origin)?,
        })
    }

    /// A JSON object for expressions.
    pub(super) fn map(&mut self, map: &Map<String, Value>, origin: Origin) -> Result<Jinja, String> {
        let mut entries = Vec::with_capacity(map.len());
        for (key, value) in map {
            entries.push((clean(key)?, self.value(value, origin)?));
        }
        Ok(Jinja::from_pairs(entries))
    }
}

fn clean(text: &str) -> Result<String, String> {
    if secret::is_tainted(text) {
        return Err("a value holds a character that is reserved for secrets (U+10F8F0 or U+10F8F1)".to_owned());
    }
    Ok(text.to_owned())
}

fn import_number(number: &Number) -> Jinja {
    if let Some(n) = number.as_i64() {
        Jinja::from(n)
    } else if let Some(n) = number.as_u64() {
        Jinja::from(n)
    } else {
        Jinja::from(number.as_f64().unwrap_or_default())
    }
}

/// The JSON value of a result; marks stay in its strings.
pub(super) fn export(value: &Jinja) -> Result<Value, String> {
    Ok(match value.kind() {
        ValueKind::Undefined => return Err("the result is not defined".to_owned()),
        ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number => export_number(value)?,
        ValueKind::String => Value::String(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(|e| e.to_string())?;
            Value::Array(items.map(|v| export(&v)).collect::<Result<_, _>>()?)
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter().map_err(|e| e.to_string())? {
                let name = match key.as_str() {
                    Some(name) => name.to_owned(),
                    None if key.is_number() => key.to_string(),
                    None => return Err("the keys of a map must be strings".to_owned()),
                };
                let inner = value.get_item(&key).map_err(|e| e.to_string())?;
                map.insert(name, export(&inner)?);
            }
            Value::Object(map)
        }
        ValueKind::Plain if value.downcast_object_ref::<Absent>().is_some() => {
            return Err("the outputs of a skipped step are none".to_owned());
        }
        ValueKind::Plain => Value::String(value.to_string()),
        kind => return Err(format!("the result is {kind}, which cannot be passed on")),
    })
}

fn export_number(value: &Jinja) -> Result<Value, String> {
    if value.is_integer() {
        if let Ok(n) = i64::try_from(value.clone()) {
            return Ok(Value::from(n));
        }
        if let Ok(n) = u64::try_from(value.clone()) {
            return Ok(Value::from(n));
        }
        return Err(format!("the number {value} is too large"));
    }
    let number = f64::try_from(value.clone()).map_err(|e| e.to_string())?;
    Number::from_f64(number).map(Value::Number).ok_or_else(|| format!("the result {number} is not a finite number"))
}

/// The outputs of a skipped step: every name in them is undefined.
#[derive(Debug)]
pub(super) struct Absent;

impl Object for Absent {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, _key: &Jinja) -> Option<Jinja> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        false
    }
}
