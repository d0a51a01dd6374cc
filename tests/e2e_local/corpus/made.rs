//! Cases that are too large to be kept, or no text.

use super::{Case, Ends, component};

/// MiB.
const MIB: usize = 1 << 20;

fn refused(name: &str, bytes: Vec<u8>, text: &str) -> Case {
    Case::made(name, bytes, Ends::Refused(text.to_owned()))
}

/// A plugin with nothing wrong in it but these definitions.
fn with(more: &str) -> Vec<u8> {
    component("made", "", "{}", more)
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

/// A component with one module that has these functions, all of the type that takes and gives nothing.
fn module(count: usize, body: &[u8]) -> Vec<u8> {
    let vector = |item: &[u8]| {
        let mut bytes = Vec::new();
        leb128(&mut bytes, count);
        bytes.extend(item.repeat(count));
        bytes
    };
    let mut sized = Vec::new();
    leb128(&mut sized, body.len());
    sized.extend_from_slice(body);
    let module = sections(&[(1, vec![1, 0x60, 0, 0]), (3, vector(&[0])), (10, vector(&sized))]);
    let module = [b"\0asm\x01\0\0\0", &module[8..]].concat();
    [&with("")[..], &sections(&[(1, module)])[8..]].concat()
}

/// Functions that do nothing.
fn many_functions(count: usize) -> Vec<u8> {
    module(count, &[0, 0x0b])
}

/// Functions that do nothing half a million times.
fn much_code() -> Vec<u8> {
    module(140, &[&[0][..], &[0x01; 500_000], &[0x0b]].concat())
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
        refused(
            "a section that is longer than the file",
            [&good[..], &[0, 0xff, 0xff, 0xff, 0xff, 0x07]].concat(),
            "it is damaged",
        ),
        refused("components in components", nested(2000), "it has no manifest"),
        refused(
            "manifest of 2 MiB",
            sections(&[(0, [b"\x10runbook:manifest".to_vec(), vec![b' '; 2 * MIB]].concat())]),
            "larger than 1024 KiB",
        ),
        Case::made("a huge custom section", stuffed, Ends::Well),
        refused(
            "instances",
            with(&"(core instance (instantiate $Memory))\n".repeat(200)),
            "parts: it has more than 100 instances, tables or memories",
        ),
        refused("imports", imports(2000), "it has more than 1000 imports or exports"),
        refused(
            "a huge function",
            functions(std::iter::once(sum(150_000))),
            "it has a function of more than 1 MiB of code",
        ),
        refused("many functions", many_functions(300_000), "it has more than 250000 functions"),
        refused("much code", much_code(), "it has more than 64 MiB of code"),
        refused("blocks in blocks", functions(std::iter::once(blocks(20_000))), "nested more than 5000 deep"),
    ]
}

fn imports(count: usize) -> Vec<u8> {
    let imports: String = (0..count).map(|n| format!("(import \"a{n}\" (func))\n")).collect();
    component("imports", &format!("(component {imports} (@custom \"runbook:manifest\" \"{{SECTION}}\"))"), "{}", "")
}
