//! Blocks of version 1, as they are written: a `[[step]]` that holds `[[step.do]]`.
//!
//! The steps of a block stand among the others, in the order of the file, so that names and order are checked as everywhere else; the
//! block says what is shared by them, and what becomes of its deferred changes.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::plan::BlockOnFailure;
use crate::schema::node::{Data, Node};
use crate::schema::read::{Reading, Spanned};
use crate::schema::v1_step::{Step, read_condition};

/// A block as it is written.
#[derive(Debug)]
pub struct Block {
    /// Its id.
    pub id: Spanned<String>,
    /// The places of its steps among all steps.
    pub steps: Range<usize>,
    /// `needs`.
    pub needs: Option<Vec<Spanned<String>>>,
    /// `when`.
    pub when: Option<Spanned<String>>,
    /// `unless`.
    pub unless: Option<Spanned<String>>,
    /// `on_failure`.
    pub on_failure: BlockOnFailure,
    /// `why`.
    pub why: Option<String>,
}

/// Reads all steps, those of blocks among them.
pub fn read_all(r: &Reading<'_>, nodes: &[Node]) -> (Vec<Step>, Vec<Block>) {
    let (mut steps, mut blocks) = (Vec::new(), Vec::new());
    for node in nodes {
        match node.entry("do") {
            None => steps.extend(Step::read(r, node)),
            Some(entry) => blocks.extend(read(r, node, &entry.value, &mut steps)),
        }
    }
    expand_needs(&mut steps, &blocks);
    (steps, blocks)
}

fn read(r: &Reading<'_>, node: &Node, inner: &Node, steps: &mut Vec<Step>) -> Option<Block> {
    let f = r.fields(node, "step", "a block of steps")?;
    let _ = f.node("do");
    let id = f.required_text("id", "give the block a short name, such as `id = \"maintenance\"`");
    let words = [("undo", BlockOnFailure::Undo), ("release", BlockOnFailure::Release), ("hold", BlockOnFailure::Hold)];
    let begins = steps.len();
    let Data::List(nodes) = &inner.data else {
        r.wrong_type("do", "a list of steps: begin each with `[[step.do]]`", inner);
        return None;
    };
    if nodes.is_empty() {
        r.report(&inner.span, Diagnostic::error("missing-key", "a block needs at least one step: `[[step.do]]`"));
    }
    for node in nodes {
        if let Some(entry) = node.entry("do") {
            let diagnostic = Diagnostic::error("conflict", "a block cannot stand in another block");
            r.report(
                &entry.key_span,
                diagnostic.help("end the outer one first, or write the steps one after the other"),
            );
            continue;
        }
        steps.extend(Step::read(r, node));
    }
    let block = Block {
        id: id.clone().unwrap_or_else(|| Spanned::new(String::new(), node.span.clone())),
        steps: begins..steps.len(),
        needs: f.texts("needs"),
        when: read_condition(r, &f, "when"),
        unless: read_condition(r, &f, "unless"),
        on_failure: f.word("on_failure", &words).unwrap_or_default(),
        why: f.text("why").map(|text| text.value),
    };
    f.finish();
    let id = id?;
    r.check_id("a block", &id.value, &id.span);
    for step in &mut steps[begins..] {
        step.block = Some(id.value.clone());
    }
    (!block.steps.is_empty()).then_some(block)
}

/// What a block waits for, all of its steps wait for; who waits for a block, waits for all of its steps.
fn expand_needs(steps: &mut [Step], blocks: &[Block]) {
    let ids: Vec<Spanned<String>> = steps.iter().map(|step| step.id.clone()).collect();
    for block in blocks {
        let Some(needs) = &block.needs else { continue };
        for place in block.steps.clone() {
            let before = ids[block.steps.start..place].iter().map(|id| id.value.clone());
            let own = steps[place].needs.take().unwrap_or_else(|| {
                let span = needs.first().map_or(block.id.span.clone(), |need| need.span.clone());
                before.map(|id| Spanned::new(id, span.clone())).collect()
            });
            steps[place].needs = Some(needs.iter().cloned().chain(own).collect());
        }
    }
    let members: BTreeMap<&str, Range<usize>> =
        blocks.iter().map(|block| (block.id.value.as_str(), block.steps.clone())).collect();
    for step in steps {
        let Some(needs) = &mut step.needs else { continue };
        if needs.iter().any(|need| members.contains_key(need.value.as_str())) {
            let expand = |need: Spanned<String>| match members.get(need.value.as_str()) {
                None => vec![need],
                Some(range) => {
                    ids[range.clone()].iter().map(|id| Spanned::new(id.value.clone(), need.span.clone())).collect()
                }
            };
            *needs = needs.drain(..).flat_map(expand).collect();
        }
    }
}
