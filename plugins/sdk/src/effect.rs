//! What every change says of itself.

use crate::bindings::runbook::base::types::{Effect as Raw, Timing};

/// What a person, the plan and the journal should know of a change.
#[derive(Debug, Clone)]
pub(crate) struct Effect(Raw);

impl Effect {
    pub(crate) fn new(summary: impl Into<String>) -> Self {
        Self(Raw { summary: summary.into(), timing: Timing::Now, alters: Vec::new(), repeats: false })
    }

    pub(crate) fn summary(&self) -> &str {
        &self.0.summary
    }

    pub(crate) fn set_summary(&mut self, summary: impl Into<String>) {
        self.0.summary = summary.into();
    }

    pub(crate) fn add_facets(&mut self, facets: impl IntoIterator<Item = impl Into<String>>) {
        self.0.alters.extend(facets.into_iter().map(Into::into));
    }

    pub(crate) fn set_repeats(&mut self) {
        self.0.repeats = true;
    }

    pub(crate) fn set_timing(&mut self, timing: Timing) {
        self.0.timing = timing;
    }

    pub(crate) fn to_wit(&self) -> &Raw {
        &self.0
    }
}

/// The methods of a builder that has a field `effect`.
macro_rules! effect_methods {
    () => {
        /// What it alters besides its own target, as facets: `path:/etc/x`, `service:NAME`, `version`. For a command, leaving
        /// this out means anything on that machine, and a plan can then look at nothing there until it has run.
        pub fn alters(mut self, facets: impl IntoIterator<Item = impl Into<String>>) -> Self {
            self.effect.add_facets(facets);
            self
        }

        /// It repeats by nature: the check of convergence leaves it out.
        pub fn repeats(mut self) -> Self {
            self.effect.set_repeats();
            self
        }

        /// Carried out at the end of the step, however it ends, also after a crash.
        pub fn at_step_end(mut self) -> Self {
            self.effect.set_timing($crate::bindings::runbook::base::types::Timing::StepEnd);
            self
        }

        /// Carried out at the end of the step, where the step changed something.
        pub fn at_step_end_if_changed(mut self) -> Self {
            self.effect.set_timing($crate::bindings::runbook::base::types::Timing::StepEndIfChanged);
            self
        }

        /// Carried out at the end of the block, or of the run, that the step belongs to.
        pub fn at_block_end(mut self) -> Self {
            self.effect.set_timing($crate::bindings::runbook::base::types::Timing::BlockEnd);
            self
        }
    };
}

pub(crate) use effect_methods;
