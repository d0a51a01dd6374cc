//! Answers calls from the journal: what an attempt asked before it broke off, it asks again, and hears the same.
//!
//! The calls of an instance are numbered, and a guest makes them one after the other, so a call is the same one where number and
//! request are the same. What comes after the last one in the journal is asked of the world.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use runbook_model::call::{Call, Note, Prior, Request};
use runbook_model::event::Instance;
use runbook_model::history::{Entry, Heard, History, Made, Past, Tape, Taped, What};
use runbook_model::journal;
use runbook_model::redact::Redactor;
use runbook_model::words;

use crate::shared::lock;
use crate::vault::Vault;

/// The part of an attempt that the journal knows.
pub(crate) struct Replay {
    tape: Tape,
    first: u32,
    began_at: u64,
    last: u32,
    doubts: BTreeMap<u32, Doubt>,
    /// Changes that were deferred and have had their time, and whether they changed something.
    carried: BTreeMap<u32, bool>,
    diverged: Mutex<Option<(u32, String)>>,
    /// For a whole recording that is compared with another plugin: how many of its calls were asked. Then nothing is asked of the world,
    /// and messages may come and go.
    compared: Option<AtomicUsize>,
}

/// A change whose answer was lost.
#[derive(Debug, Clone)]
pub(crate) struct Doubt {
    /// Number of its intent in the journal.
    pub(crate) record: u64,
    /// What was there before it.
    pub(crate) prior: Prior,
    /// A person said that it is done.
    pub(crate) is_done: bool,
}

/// What the journal says to a call.
pub(crate) enum Replayed {
    /// Nothing: it is asked of the world.
    Live,
    /// This.
    Heard(Box<Taped>),
    /// A word to the run, which was said already.
    Said,
    /// Something else was asked at this place.
    Diverged(String),
}

impl Doubt {
    pub(crate) fn of(entry: &Entry, made: &Made, vault: &Vault) -> Self {
        // Without the key, what the journal says in plain has to do.
        let prior = entry.kept.as_ref().and_then(|kept| vault.recall(kept).ok());
        Self {
            record: entry.record,
            prior: prior.unwrap_or_else(|| made.prior.clone()),
            is_done: made.resolved == Some(true),
        }
    }
}

impl Replay {
    /// What the journal knows of the last attempt of an instance that did not come to its end. None: there is none.
    pub(crate) fn of(history: &History, instance: &Instance, vault: &Vault) -> Option<Self> {
        let past = history.past(instance).filter(|past| past.ended.is_none() && past.started.is_some())?;
        let (first, began_at) = past.started.as_ref().map_or((0, 0), |started| (started.calls, started.at));
        let own = || history.stack.iter().filter(|entry| entry.instance == *instance && entry.call > first);
        let mut doubts = BTreeMap::new();
        let mut carried = BTreeMap::new();
        for entry in own() {
            let id = entry.id();
            match &entry.what {
                What::Change(made) if history.state.is_in_doubt(&id) => {
                    doubts.insert(entry.call, Doubt::of(entry, made, vault));
                }
                What::Change(_) => {}
                What::Deferred if !history.state.is_deferred(&id) => {
                    carried.insert(entry.call, history.state.is_in_effect(&id));
                }
                What::Deferred => {}
            }
        }
        let tape = unsealed(past, vault);
        Some(Self {
            first,
            began_at,
            last: tape.last(),
            tape,
            doubts,
            carried,
            diverged: Mutex::default(),
            compared: None,
        })
    }

    /// A recorded attempt that a plugin is compared with.
    pub(crate) fn compared(past: &Past, vault: &Vault) -> Self {
        let (first, began_at) = past.started.as_ref().map_or((0, 0), |started| (started.calls, started.at));
        let tape = unsealed(past, vault);
        Self {
            first,
            began_at,
            last: tape.last(),
            tape,
            doubts: BTreeMap::new(),
            carried: BTreeMap::new(),
            diverged: Mutex::default(),
            compared: Some(AtomicUsize::new(0)),
        }
    }

    /// The call of a compared recording that would be next.
    pub(crate) fn next(&self) -> Option<&Taped> {
        self.tape.0.values().nth(self.compared.as_ref()?.load(Ordering::Relaxed))
    }

    /// How many calls of a compared recording were asked.
    pub(crate) fn asked(&self) -> usize {
        self.compared.as_ref().map_or(0, |asked| asked.load(Ordering::Relaxed))
    }

    fn compare(&self, asked: &AtomicUsize, call: u32, request: &Request, redactor: &Redactor) -> Replayed {
        match (self.next(), &request.call) {
            (_, Call::Note(Note::Log { .. } | Note::Progress { .. } | Note::Pause { .. } | Note::Receipt { .. })) => {
                Replayed::Said
            }
            (_, Call::Note(Note::Baseline { .. })) => Replayed::Live,
            (Some(taped), _) if is_same(taped, request, redactor) => {
                asked.fetch_add(1, Ordering::Relaxed);
                match taped.what {
                    // Its answer was never heard: there the recording ends.
                    Heard::InDoubt => self.diverge(call, request, None),
                    _ => Replayed::Heard(Box::new(taped.clone())),
                }
            }
            (taped, _) => self.diverge(call, request, taped),
        }
    }

    fn diverge(&self, call: u32, request: &Request, taped: Option<&Taped>) -> Replayed {
        let asked = taped.map_or("nothing".to_owned(), |taped| words::request(&taped.request));
        let mut now = words::request(request);
        if now == asked {
            now.push_str(", with other details");
        }
        let why = format!("call {call} asks: {now}; before, it asked: {asked}");
        *lock(&self.diverged) = Some((call, why.clone()));
        Replayed::Diverged(why)
    }

    /// What it says to this call.
    pub(crate) fn answer(&self, call: u32, request: &Request, redactor: &Redactor) -> Replayed {
        if let Some((_, why)) = lock(&self.diverged).as_ref() {
            return Replayed::Diverged(why.clone());
        }
        if let Some(asked) = &self.compared {
            return self.compare(asked, call, request, redactor);
        }
        if call > self.last {
            return Replayed::Live;
        }
        match (self.tape.0.get(&call), &request.call) {
            (Some(taped), _) if is_same(taped, request, redactor) => Replayed::Heard(Box::new(taped.clone())),
            (None, Call::Note(Note::Log { .. } | Note::Progress { .. } | Note::Pause { .. })) => Replayed::Said,
            // The values of earlier sessions are known.
            (None, Call::Note(Note::Baseline { .. } | Note::Receipt { .. })) => Replayed::Live,
            (taped, _) => self.diverge(call, request, taped),
        }
    }

    /// Where something else was asked, if it was: the call, and what.
    pub(crate) fn diverged(&self) -> Option<(u32, String)> {
        lock(&self.diverged).clone()
    }

    /// The change in doubt under this number.
    pub(crate) fn doubt(&self, call: u32) -> Option<Doubt> {
        self.doubts.get(&call).cloned()
    }

    /// Whether a change that was deferred has had its time, and then whether it changed something.
    pub(crate) fn carried(&self, call: u32) -> Option<bool> {
        self.carried.get(&call).copied()
    }

    /// How many calls the instance had made before the attempt.
    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    /// When the attempt began, in milliseconds since 1970.
    pub(crate) fn began_at(&self) -> u64 {
        self.began_at
    }
}

/// The journal has requests without secrets.
fn is_same(taped: &Taped, request: &Request, redactor: &Redactor) -> bool {
    taped.request == *request || journal::cleaned(request, redactor).as_ref() == Some(&taped.request)
}

/// The calls of an attempt, with the answers that the journal hides.
fn unsealed(past: &Past, vault: &Vault) -> Tape {
    let mut tape = past.tape.clone();
    for taped in tape.0.values_mut() {
        if let Heard::Looked { response, kept } = &mut taped.what
            && let Some(seen) = kept.take().and_then(|kept| vault.recall(&kept).ok())
        {
            *response = seen;
        }
    }
    tape
}
