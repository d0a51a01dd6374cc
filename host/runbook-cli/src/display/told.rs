//! What is shown of what plugins say: one that talks without end must not bury what a person has to see.

use std::collections::BTreeMap;

use runbook_model::event::{Event, Instance, Verb};

use super::line;

/// Bytes that are shown of the messages and denials of one instance: some screens full.
const MOST: usize = 16 << 10;

/// How much each instance was heard.
#[derive(Default)]
pub(super) struct Told(BTreeMap<Instance, usize>);

impl Told {
    /// [`line::lines`], as long as an instance does not talk too much.
    pub(super) fn lines(&mut self, event: &Event, verb: Verb) -> Vec<String> {
        let mut lines = line::lines(event, verb);
        let (Event::Log { instance, .. } | Event::Denied { instance, .. }) = event else { return lines };
        let length: usize = lines.iter().map(String::len).sum();
        if length == 0 {
            return lines;
        }
        let told = self.0.entry(instance.clone()).or_default();
        let before = *told;
        *told = before.saturating_add(length);
        if before >= MOST {
            return Vec::new();
        }
        if *told >= MOST {
            lines.push(format!("  {instance}  says more than is shown here; the journal has all of it"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use runbook_model::call::Level;

    use super::*;

    #[test]
    fn one_that_talks_too_much_is_heard_no_more_and_others_are() {
        let log = |step: &str| Event::Log {
            instance: Instance { step: step.to_owned(), host: None, item: None },
            level: Level::Info,
            message: "x".repeat(1000),
        };
        let mut told = Told::default();
        let shown: Vec<String> = (0..1000).flat_map(|_| told.lines(&log("a"), Verb::Exec)).collect();
        assert!(shown.len() < 20, "{}", shown.len());
        assert!(shown.last().is_some_and(|last| last.contains("says more than is shown here")), "{shown:?}");
        assert_eq!(told.lines(&log("b"), Verb::Exec).len(), 1);
    }
}
