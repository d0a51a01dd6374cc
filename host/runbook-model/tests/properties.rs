//! Arbitrary files never stop the program: there are diagnostics, and each points into the file.

mod common;

use std::fmt::Write as _;

use common::{Texts, catalog};
use proptest::prelude::*;
use runbook_model::diagnostic::has_errors;
use runbook_model::parse::load;

const SEED: &str = r#"
schema = 1
name = "x"
[inputs.pw]
type = "secret"
[vars]
a = "{{ inputs.pw }}"
[hosts.n1]
address = "192.0.2.1"
labels = ["cp"]
[clusters.home]
kubeconfig = "k"
[[step]]
id = "a"
uses = "core/command"
on = "cp"
with = { argv = ["x"], env = { A = "{{ vars.a }}" } }
[[step]]
id = "b"
uses = "core/file"
on = { label = "cp" }
needs = ["a"]
when = "steps.a.outputs.stdout == ''"
with = { path = "/a", content = """
{{ vars.a }}""" }
"#;

fn check(text: &str) {
    let (runbook, diagnostics) = load("x.toml", text, &Texts::default(), &catalog());
    assert_eq!(runbook.is_none(), has_errors(&diagnostics));
    for diagnostic in diagnostics {
        assert!(diagnostic.file.is_some());
        assert!(diagnostic.span.end <= text.len());
        let _ = (diagnostic.render(false), diagnostic.to_json());
    }
}

#[test]
fn the_seed_is_good() {
    let (runbook, diagnostics) = load("x.toml", SEED, &Texts::default(), &catalog());
    assert!(runbook.is_some(), "{diagnostics:#?}");
}

#[test]
fn deep_and_long_files() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{ a = ".repeat(50_000)),
        format!("{}a = 1", "a.".repeat(50_000)),
        format!("[{}a]", "a.".repeat(50_000)),
    ] {
        check(&text);
    }
    let mut chain = SEED.to_owned();
    for i in 0..2000 {
        let _ = write!(
            chain,
            "[[step]]\nid = \"s{i}\"\nuses = \"core/assert\"\nneeds = [\"s{}\"]\nwith = {{ that = true }}\n",
            i + 1
        );
    }
    check(&chain);
}

proptest! {
    #[test]
    fn arbitrary_text(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn arbitrary_toml_like_text(lines in prop::collection::vec("(\\[{1,2}(step|hosts|inputs|vars|step.with)(\\.[a-z]{1,3})?\\]{1,2}|(id|uses|on|with|needs|type|default|address|for_each|when|retry|confirm|allow|schema) = (\"[a-z{}/. |]{0,12}\"|[0-9]{1,3}|\\[\"a\", 1\\]|\\{ a = 1 \\}|true|inf))", 0..20)) {
        check(&lines.join("\n"));
    }

    /// A good runbook with a piece cut out or put in.
    #[test]
    fn damaged_runbooks(at in 0usize..SEED.len(), cut in 0usize..12, put in "[\\[\\]{}\"'=a-z#\\n\u{e4}]{0,6}") {
        let end = (at + cut).min(SEED.len());
        check(&format!("{}{put}{}", &SEED[..at], &SEED[end..]));
    }
}
