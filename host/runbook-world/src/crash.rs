//! The end of a process after a record of its journal.

use std::sync::Arc;

use runbook_engine::journal::Watcher;
use runbook_model::event::Record;

use crate::World;

/// What becomes of what is on its way when the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It never arrives.
    Before,
    /// It arrives and is done; its answer is not heard.
    After,
    /// It arrives, and the machine is cut off too while a program of it runs.
    During,
}

/// Stops the writer of the journal after a record, as the end of the process would.
pub struct Crash {
    after: u64,
    how: How,
    world: Arc<World>,
}

impl Crash {
    /// After the record with this number.
    pub fn watcher(world: &Arc<World>, after: u64, how: How) -> Arc<dyn Watcher> {
        Arc::new(Self { after, how, world: Arc::clone(world) })
    }
}

impl Watcher for Crash {
    fn record(&self, record: &Record) {
        if record.seq == self.after {
            let mut power = self.world.power();
            power.off = self.how == How::Before;
            power.cut = self.how == How::During;
        }
        // What a record let go has to arrive: then it is the next record that is not written.
        let last = if self.how == How::Before { self.after } else { self.after + 1 };
        if record.seq == last {
            std::panic::resume_unwind(Box::new("as asked"));
        }
    }
}
