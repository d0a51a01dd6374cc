//! Where each step of a level is, and which may begin.

use runbook_model::plan::{Runbook, Waits};

/// The state of one step in the loop of its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Waiting,
    Running,
    /// It ended, and its block did not yet: steps of the block may go on, others wait.
    Inside,
    Ended,
}

/// The places of all steps of a level.
pub(crate) struct Places {
    places: Vec<Place>,
    /// The block of each step, by its number.
    blocks: Vec<Option<usize>>,
    ends: Vec<BlockPlace>,
    /// Steps at the beginning that have ended.
    above: usize,
}

/// Where a block is.
struct BlockPlace {
    first: usize,
    end: usize,
    /// A step of it did not end well.
    failed: bool,
    /// Its end is being carried out, or was.
    at_its_end: bool,
}

impl Places {
    pub(crate) fn new(runbook: &Runbook) -> Self {
        let mut blocks = vec![None; runbook.steps.len()];
        for (number, block) in runbook.blocks.iter().enumerate() {
            blocks[block.first..block.end].fill(Some(number));
        }
        let end = |block: &runbook_model::plan::Block| BlockPlace {
            first: block.first,
            end: block.end,
            failed: false,
            at_its_end: false,
        };
        let ends = runbook.blocks.iter().map(end).collect();
        Self { places: vec![Place::Waiting; runbook.steps.len()], blocks, ends, above: 0 }
    }

    pub(crate) fn get(&self, index: usize) -> Place {
        self.places[index]
    }

    pub(crate) fn set(&mut self, index: usize, place: Place) {
        self.places[index] = place;
    }

    /// How many steps at the beginning have all ended: the first that may begin is the one behind them.
    pub(crate) fn all_above(&mut self) -> usize {
        while self.places.get(self.above) == Some(&Place::Ended) {
            self.above += 1;
        }
        self.above
    }

    /// Whether a step waits for nothing any more.
    pub(crate) fn is_ready(&self, index: usize, waits: &Waits) -> bool {
        let block = self.blocks[index];
        // The end of its own block is not for it to wait for.
        let has_ended = |&before: &usize| match self.places[before] {
            Place::Ended => true,
            Place::Inside => block.is_some() && self.blocks[before] == block,
            Place::Waiting | Place::Running => false,
        };
        self.places[index] == Place::Waiting
            && !block.is_some_and(|block| self.ends[block].failed || self.ends[block].at_its_end)
            && match waits {
                Waits::AllAbove => (self.above..index).all(|before| has_ended(&before)),
                Waits::For(steps) => steps.iter().all(has_ended),
            }
    }

    /// A step ended. `failed`: its block does not go on.
    pub(crate) fn ended(&mut self, index: usize, failed: bool) {
        self.places[index] = if self.blocks[index].is_some() { Place::Inside } else { Place::Ended };
        if let Some(block) = self.blocks[index] {
            self.ends[block].failed |= failed;
        }
    }

    /// The blocks whose end is to be carried out now, and whether a step of each did not end well. `stopped`: nothing begins any more.
    pub(crate) fn blocks_at_their_end(&mut self, stopped: bool) -> Vec<(usize, bool)> {
        let mut due = Vec::new();
        for (number, block) in self.ends.iter_mut().enumerate().filter(|(_, block)| !block.at_its_end) {
            let places = &self.places[block.first..block.end];
            let at_work = places.contains(&Place::Running);
            let waiting = places.contains(&Place::Waiting);
            if !at_work && (!waiting || block.failed || stopped) {
                block.at_its_end = true;
                // A block that was cut off has not ended well; one that was not reached has no end to be carried out.
                if !waiting || places.contains(&Place::Inside) {
                    due.push((number, block.failed || waiting));
                }
            }
        }
        due
    }

    /// The end of a block was carried out. Its steps that never began wait on, and are skipped when the level ends.
    pub(crate) fn block_ended(&mut self, number: usize) {
        let block = &self.ends[number];
        for place in &mut self.places[block.first..block.end] {
            if *place == Place::Inside {
                *place = Place::Ended;
            }
        }
    }
}
