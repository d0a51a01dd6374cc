//! Cases that are too large to be kept, or no text.

use super::{Case, Ends, component};

/// MiB.
const MIB: usize = 1 << 20;

fn refused(name: &str, bytes: Vec<u8>, text: &str) -> Case {
    Case::made(name, bytes, Ends::Refused(text.to_owned()))
}

/// A plugin with nothing wrong in it but these definitions.
fn with(more: &str) -> Vec<u8> {
    component("made", "", more)
}

/// A component in binary with this behind its first byte of content: sections as they are.
fn sections(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for (id, content) in sections {
        bytes.push(*id);
        leb128(&mut bytes, content.len());
        bytes.extend_from_slice(content);
    }
    bytes
}

fn leb128(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).expect("7 bits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("7 bits"));
}

/// A custom section with as many bytes.
fn custom(length: usize) -> (u8, Vec<u8>) {
    (0, [b"\x06filler".to_vec(), vec![7; length]].concat())
}

/// A component in a component in a component.
fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(sections(&[]), |inner, _| sections(&[(4, inner)]))
}

/// A module whose functions have these bodies, in a plugin with nothing wrong in it.
fn functions(bodies: impl Iterator<Item = String>) -> Vec<u8> {
    let bodies: String = bodies.map(|body| format!("(func (param i32) (result i32) {body})\n")).collect();
    with(&format!("(core module {bodies})"))
}

/// Additions, each with another number.
fn sum(terms: usize) -> String {
    let terms: String = (0..terms).map(|n| format!("(local.set 0 (i32.add (local.get 0) (i32.const {n})))")).collect();
    format!("{terms} (local.get 0)")
}

/// Blocks in blocks, each with a way out of all of them.
fn blocks(depth: usize) -> String {
    let open: String = (0..depth).map(|n| format!("block local.get 0 br_if {n} ")).collect();
    format!("{open} {} local.get 0", "end ".repeat(depth))
}

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    let good = with("");
    let filler = custom(32 * MIB);
    let stuffed = [&good[..], &sections(&[filler])[8..]].concat();
    vec![
        refused("not WebAssembly", b"#!/bin/sh\nrm -rf /\n".to_vec(), "it is not WebAssembly"),
        refused("empty", Vec::new(), "it is not WebAssembly"),
        refused("truncated", good[..good.len() / 2].to_vec(), "it is damaged, or newer than this version of runbook"),
        refused("too large", sections(&[custom(129 * MIB)]), "it is larger than 128 MiB"),
        refused("a section that is longer than the file", [&good[..], &[0, 0xff, 0xff, 0xff, 0xff, 0x07]].concat(), "it is damaged"),
        refused("components in components", nested(2000), "it has no manifest"),
        refused("manifest of 2 MiB", sections(&[(0, [b"\x10runbook:manifest".to_vec(), vec![b' '; 2 * MIB]].concat())]), "larger than 1024 KiB"),
        Case::made("a huge custom section", stuffed, Ends::Well),
        refused("instances", with(&"(core instance (instantiate $Memory))\n".repeat(200)), "instances"),
        refused("imports", imports(2000), "it has more than 1000 imports or exports"),
        refused("a huge function", functions(std::iter::once(sum(400_000))), "functions"),
        refused("a million functions", functions((0..300_000).map(|_| sum(3))), "functions"),
        refused("blocks in blocks", functions(std::iter::once(blocks(50_000))), "functions"),
    ]
}

fn imports(count: usize) -> Vec<u8> {
    let imports: String = (0..count).map(|n| format!("(import \"a{n}\" (func))\n")).collect();
    component("imports", &format!("(component {imports} (@custom \"runbook:manifest\" \"{{SECTION}}\"))"), "")
}
