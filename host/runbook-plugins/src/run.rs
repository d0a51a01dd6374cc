//! `runbook:plugin/run`.

use runbook_model::call::{Answer, Call, Level, Note, SourceRef, Target};
use wasmtime::component::Resource;

use crate::bindings::runbook::plugin::run as guest;
use crate::convert::{self, capped, take};
use crate::state::{Fault, State};

/// Bytes of one message.
const MAX_MESSAGE: usize = 8 << 10;

/// Bytes of a key.
const MAX_KEY: usize = 256;

impl guest::Host for State {
    async fn log(&mut self, level: guest::Level, message: String) -> wasmtime::Result<()> {
        let message = capped(message, MAX_MESSAGE);
        self.meter.log(message.len())?;
        let level = match level {
            guest::Level::Debug => Level::Debug,
            guest::Level::Info => Level::Info,
            guest::Level::Warn => Level::Warn,
        };
        self.tell(Note::Log { level, message }).await
    }

    async fn progress(&mut self, message: String, done: u64, total: Option<u64>, unit: String) -> wasmtime::Result<()> {
        let message = convert::line(&message);
        let unit = convert::line(&unit);
        self.meter.log(message.len() + unit.len())?;
        self.tell(Note::Progress { message, done, total, unit }).await
    }

    async fn pause(&mut self, milliseconds: u32) -> Result<(), Fault> {
        let note = Note::Pause { milliseconds: convert::wait_ms(milliseconds) };
        match self.answer(Target::Run, Call::Note(note)).await? {
            Answer::Unit => Ok(()),
            _ => Err(convert::wrong_answer()),
        }
    }

    async fn baseline(&mut self, key: String, value: String) -> Result<String, Fault> {
        let note = Note::Baseline { key: capped(key, MAX_KEY), value: convert::json("the value", &value)? };
        let answer = self.answer(Target::Run, Call::Note(note)).await?;
        Ok(take!(answer, Answer::Value).to_string())
    }

    async fn receipt(
        &mut self,
        kind: String,
        subject: String,
        place: Resource<SourceRef>,
        made_at: u64,
    ) -> Result<(), Fault> {
        let note = Note::Receipt {
            kind: convert::name("the kind of a receipt", kind)?,
            subject: convert::name("the subject of a receipt", subject)?,
            place: self.table.get(&place)?.clone(),
            made_at,
        };
        match self.answer(Target::Run, Call::Note(note)).await? {
            Answer::Unit => Ok(()),
            _ => Err(convert::wrong_answer()),
        }
    }
}

impl State {
    /// Tells the run something. A message that is not taken is no reason for a guest to do anything else.
    async fn tell(&mut self, note: Note) -> wasmtime::Result<()> {
        let _ = self.ask(Target::Run, Call::Note(note)).await?;
        Ok(())
    }
}
