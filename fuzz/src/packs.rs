//! Bytes of plugins.

use runbook_model::input_schema;
use runbook_model::manifest::{Manifest, SECTION};
use runbook_model::schema_json;
use runbook_packs::{Schema, check, read};
use serde_json::Value;

/// A component.
pub(crate) fn component(data: &[u8]) {
    if let Ok(component) = read(data) {
        assert!(check(&component.manifest).is_empty(), "it was taken and is wrong");
        assert!(data.windows(SECTION.len()).any(|window| window == SECTION.as_bytes()), "its manifest is from nowhere");
        let _ = component.capabilities().count();
    }
}

/// A manifest, in a component around it. What is taken is told the same when it is written and read again.
pub(crate) fn manifest(data: &[u8]) {
    let mut bytes = b"\0asm\x0d\0\x01\0\0".to_vec();
    let length = 1 + SECTION.len() + data.len();
    leb128(&mut bytes, length);
    bytes.push(16);
    bytes.extend_from_slice(SECTION.as_bytes());
    bytes.extend_from_slice(data);
    let Ok(component) = read(&bytes) else { return };
    let written = serde_json::to_string(&component.manifest).unwrap_or_default();
    let again: Option<Manifest> = serde_json::from_str(&written).ok();
    assert_eq!(again.as_ref(), Some(&component.manifest), "{written}");
    let _ = schema_json::schema([&component.manifest]);
}

fn leb128(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// The schema of a plugin's inputs, and inputs for it after `---`.
pub(crate) fn schema(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (schema, inputs) = crate::halves(text);
    let Ok(schema) = serde_json::from_str::<Value>(schema) else { return };
    let inputs: Value = serde_json::from_str(inputs).unwrap_or(Value::Null);
    if let Ok(compiled) = Schema::compile(&schema) {
        let violations = compiled.violations(&inputs);
        assert!(
            violations.len() <= 100 && violations.iter().all(|said| said.len() < 1 << 16),
            "more than anybody reads"
        );
    }
    let _ = input_schema::may_be_secret(&schema, "/path");
    let _ = input_schema::properties(&schema);
    let mut filled = inputs.clone();
    runbook_model::prepare::fill_defaults(&schema, &mut filled);
    runbook_model::prepare::resolve_paths(&schema, &mut filled, "/srv", "/home/ann");
    let _ = input_schema::check(&input_schema::Schema::from(schema), &inputs);
}
