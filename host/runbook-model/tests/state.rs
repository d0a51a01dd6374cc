//! The transition function against an oracle that knows no state: it judges each event by reading back through those before it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use runbook_model::call::{
    Answer, Call, CallError, Exit, FilesLook, Look, Outcome, Output, Prior, Request, Response, Target, Verdict,
};
use runbook_model::event::{BlockEnd, Diff, Event, Instance, RunOutcome, Settlement, StepOutcome, Verb};
use runbook_model::state::State;
use serde_json::Value;

fn request() -> Request {
    Request { target: Target::Controller, call: Call::Look(Look::Files(FilesLook::Stat { path: "/".into() })) }
}

fn instances() -> Vec<Instance> {
    ["a", "b"].map(|step| Instance { step: step.into(), host: None, item: None }).to_vec()
}

fn exited(code: i32) -> Response {
    let output = Output { exit: Exit::Code(code), stdout: Vec::new().into(), stderr: Vec::new().into() };
    Ok(Answer::Outcome(Outcome::Done(output)))
}

/// An answer, whether the change came to its end as it was meant to, and whether something may be another one since.
fn answers() -> Vec<(Response, bool, bool)> {
    vec![
        (Ok(Answer::Verdict(Verdict::Changed)), true, true),
        (Ok(Answer::Verdict(Verdict::Unchanged)), true, false),
        (Ok(Answer::Outcome(Outcome::Already)), true, false),
        (exited(0), true, true),
        (exited(3), false, true),
        (Err(CallError::Failed("x".into())), false, true),
        (Err(CallError::Conflict("x".into())), false, false),
        (Err(CallError::Unreachable("x".into())), false, true),
    ]
}

fn run_started() -> Event {
    Event::RunStarted {
        run: "r".into(),
        version: "1.2".into(),
        program: "t".into(),
        verb: Verb::Exec,
        runbook: "t".into(),
        file: "t.toml".into(),
        sha256: String::new(),
        steps: Vec::new(),
        plugins: Vec::new(),
        inputs: Value::Null,
        pid: 1,
        boot_id: String::new(),
        rto_ms: None,
    }
}

fn reopened(session: u32) -> Event {
    Event::Reopened {
        verb: Verb::Resume,
        session,
        program: "t".into(),
        sha256: String::new(),
        steps: Vec::new(),
        plugins: Vec::new(),
        edits: Vec::new(),
        force: false,
        pid: 1,
        boot_id: String::new(),
    }
}

/// Any event, of few instances, calls and blocks, so that they meet. Ends are rare, so that runs become long.
fn event() -> impl Strategy<Value = Event> {
    let of_call = (select(instances()), 1..4_u32, 0..16_u32, any::<bool>(), select(answers()));
    let of_call = of_call.prop_map(|(instance, call, kind, flag, (response, ..))| match kind {
        0 => Event::Deferred { instance, call, request: request(), jail: None, kept: None },
        1..5 => Event::Intended {
            instance,
            call,
            request: request(),
            prior: Prior::None,
            diff: Diff::default(),
            jail: None,
            undoes: (kind == 4).then_some(call % 3 + 1),
            kept: None,
        },
        5..8 => Event::Changed { instance, call, response, elapsed_us: 0 },
        8 => Event::Lost { instance, call, error: CallError::Unreachable("x".into()) },
        9 => Event::Resolved { instance, call, done: flag, because: String::new() },
        10 => Event::Unchanged { instance, call, request: request() },
        11 => Event::Lapsed { instance, call },
        12 => Event::TakingBack { instance, call, summary: String::new() },
        13 => Event::TakenBack { instance, call, how: String::new() },
        14 => Event::Left { instance, call, why: String::new() },
        _ => Event::Looked { instance, call, request: request(), response, elapsed_us: 0, kept: None },
    });
    let settled = (
        select(instances()),
        1..4_u32,
        select(vec![Settlement::Done, Settlement::NotDone, Settlement::Again, Settlement::Unclear]),
    );
    let settled =
        settled.prop_map(|(instance, call, finding)| Event::Settled { instance, call, finding, why: String::new() });
    let of_step = (select(instances()), 0..5_u32).prop_map(|(instance, kind)| match kind {
        0 | 1 => Event::StepStarted {
            instance,
            attempt: 1,
            calls: 0,
            inputs: Value::Null,
            roles: Vec::new(),
            fingerprint: String::new(),
        },
        2 => Event::StepFinished {
            instance,
            outcome: StepOutcome::Changed,
            outputs: Value::Null,
            reason: None,
            elapsed_ms: 0,
        },
        3 => Event::Verifying { instance },
        _ => Event::Baseline { instance, key: "k".into(), value: Value::Null },
    });
    let of_block = (select(vec!["x", "y"]), any::<bool>()).prop_map(|(block, enters)| match enters {
        true => Event::Entered { block: block.into() },
        false => Event::Exited { block: block.into(), how: BlockEnd::Well },
    });
    let outcomes = vec![RunOutcome::Succeeded, RunOutcome::Failed, RunOutcome::Stuck, RunOutcome::Cancelled];
    let of_run = (0..40_u32, select(outcomes), 1..5_u32).prop_map(|(kind, outcome, session)| match kind {
        0 => Event::Abandoned { because: String::new() },
        1 => Event::Unknown,
        2..4 => run_started(),
        4..30 => reopened(session),
        _ => Event::RunFinished { outcome, summary: Default::default(), elapsed_ms: 0 },
    });
    prop_oneof![12 => of_call, 3 => settled, 6 => of_step, 2 => of_block, 2 => of_run]
}

/// What came so far, to be read backwards.
#[derive(Default)]
struct Oracle(Vec<Event>);

impl Oracle {
    /// The last thing that was said on a question, where anything was.
    fn last<T>(&self, says: impl Fn(&Event) -> Option<T>) -> Option<T> {
        self.0.iter().rev().find_map(says)
    }

    fn holds(&self, says: impl Fn(&Event) -> Option<bool>) -> bool {
        self.last(says).unwrap_or(false)
    }

    fn is_open(&self, of: &Instance) -> bool {
        let says = |(place, event): (usize, &Event)| match event {
            Event::StepStarted { instance, .. } if instance == of => Some(true),
            // One with a change in doubt is gone on with.
            Event::StepFinished { instance, .. } if instance == of => {
                let before = Self(self.0[..place].to_vec());
                (!(1..5).any(|number| before.is_in_flight(of, number))).then_some(false)
            }
            _ => None,
        };
        self.0.iter().enumerate().rev().find_map(says).unwrap_or(false)
    }

    fn is_unwinding(&self, of: &Instance) -> bool {
        self.holds(|event| match event {
            Event::TakingBack { instance, .. } if instance == of => Some(true),
            Event::TakenBack { instance, .. } | Event::Left { instance, .. } if instance == of => Some(false),
            Event::Reopened { .. } | Event::RunFinished { .. } => Some(false),
            _ => None,
        })
    }

    fn is_in_flight(&self, of: &Instance, number: u32) -> bool {
        self.holds(|event| match event {
            Event::Intended { instance, call, .. } if (instance, *call) == (of, number) => Some(true),
            Event::Changed { instance, call, .. }
            | Event::Resolved { instance, call, done: false, .. }
            | Event::Settled { instance, call, finding: Settlement::NotDone | Settlement::Again, .. }
                if (instance, *call) == (of, number) =>
            {
                Some(false)
            }
            _ => None,
        })
    }

    fn is_unclear(&self, of: &Instance, number: u32) -> bool {
        self.holds(|event| match event {
            Event::Settled { instance, call, finding, .. } if (instance, *call) == (of, number) => match finding {
                Settlement::Unclear => Some(true),
                Settlement::NotDone | Settlement::Again => Some(false),
                Settlement::Done => None,
            },
            Event::Changed { instance, call, .. } | Event::Resolved { instance, call, .. }
                if (instance, *call) == (of, number) =>
            {
                Some(false)
            }
            _ => None,
        })
    }

    fn is_in_effect(&self, of: &Instance, number: u32) -> bool {
        self.holds(|event| match event {
            Event::Changed { instance, call, response, .. } if (instance, *call) == (of, number) => {
                judged(response).1.then_some(true)
            }
            Event::TakenBack { instance, call, .. } if (instance, *call) == (of, number) => Some(false),
            _ => None,
        })
    }

    fn waits(&self, of: &Instance, number: u32) -> bool {
        self.holds(|event| match event {
            Event::Deferred { instance, call, .. } if (instance, *call) == (of, number) => Some(true),
            Event::Changed { instance, call, response, .. } if (instance, *call) == (of, number) => {
                judged(response).0.then_some(false)
            }
            Event::Unchanged { instance, call, .. } | Event::Lapsed { instance, call }
                if (instance, *call) == (of, number) =>
            {
                Some(false)
            }
            _ => None,
        })
    }

    fn is_entered(&self, name: &str) -> bool {
        self.holds(|event| match event {
            Event::Entered { block } if block == name => Some(true),
            Event::Exited { block, .. } if block == name => Some(false),
            _ => None,
        })
    }

    fn finished(&self) -> Option<RunOutcome> {
        self.last(|event| match event {
            Event::RunFinished { outcome, .. } => Some(Some(*outcome)),
            Event::RunStarted { .. } | Event::Reopened { .. } | Event::Unknown => Some(None),
            _ => None,
        })
        .flatten()
    }

    fn sessions(&self) -> usize {
        self.0.iter().filter(|event| matches!(event, Event::RunStarted { .. } | Event::Reopened { .. })).count()
    }

    fn is_abandoned(&self) -> bool {
        self.0.iter().any(|event| matches!(event, Event::Abandoned { .. }))
    }

    fn allows(&self, event: &Event) -> bool {
        let at_work = |of: &Instance| self.is_open(of) || self.is_unwinding(of);
        if self.is_abandoned() {
            return false;
        }
        match event {
            Event::RunStarted { .. } => return self.sessions() == 0,
            Event::Unknown => return true,
            _ if self.sessions() == 0 => return false,
            Event::Reopened { session, .. } => return *session as usize == self.sessions() + 1,
            Event::Abandoned { .. } => return true,
            _ if self.finished().is_some() => return false,
            _ => {}
        }
        match event {
            Event::Deferred { instance, .. } | Event::Verifying { instance } | Event::Baseline { instance, .. } => {
                at_work(instance)
            }
            Event::Looked { instance, call, .. } | Event::Unchanged { instance, call, .. } => {
                at_work(instance) || self.waits(instance, *call)
            }
            Event::Intended { instance, call, undoes, .. } => {
                let may_leave = match undoes {
                    Some(undone) => self.is_in_effect(instance, *undone),
                    None => at_work(instance) || self.waits(instance, *call),
                };
                may_leave && !self.is_in_flight(instance, *call)
            }
            Event::Changed { instance, call, .. }
            | Event::Lost { instance, call, .. }
            | Event::Settled { instance, call, .. }
            | Event::Resolved { instance, call, .. } => self.is_in_flight(instance, *call),
            Event::Lapsed { instance, call } => self.waits(instance, *call),
            Event::TakenBack { instance, call, .. } => self.is_in_effect(instance, *call),
            Event::Exited { block, .. } => self.is_entered(block),
            _ => true,
        }
    }

    fn agrees(&self, state: &State) {
        let mut open = self.sessions() > 0 && self.finished().is_none_or(|outcome| outcome == RunOutcome::Stuck);
        for instance in instances() {
            assert_eq!(state.open().any(|other| *other == instance), self.is_open(&instance));
            for number in 1..5 {
                let call = (instance.clone(), number);
                assert_eq!(state.is_in_doubt(&call), self.is_in_flight(&instance, number), "{call:?} in doubt");
                assert_eq!(state.is_unclear(&call), self.is_unclear(&instance, number), "{call:?} unclear");
                assert_eq!(state.is_in_effect(&call), self.is_in_effect(&instance, number), "{call:?} in effect");
                assert_eq!(state.is_deferred(&call), self.waits(&instance, number), "{call:?} waits");
                open |= self.is_in_flight(&instance, number) || self.waits(&instance, number);
            }
        }
        for block in ["x", "y"] {
            assert_eq!(state.blocks().any(|other| other == block), self.is_entered(block), "block {block}");
            open |= self.is_entered(block);
        }
        assert_eq!(state.finished(), self.finished());
        assert_eq!(state.sessions() as usize, self.sessions());
        assert_eq!(state.is_abandoned(), self.is_abandoned());
        assert_eq!(state.holds_targets(), open && !self.is_abandoned());
    }
}

/// Whether a change came to its end as it was meant to, and whether something may be another one since.
fn judged(response: &Response) -> (bool, bool) {
    let all = answers();
    let (_, done, changed) = all.iter().find(|(known, ..)| known == response).expect("one of the answers above");
    (*done, *changed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_what_the_events_say(events in vec(event(), 1..120)) {
        let (mut state, mut oracle) = (State::default(), Oracle::default());
        let first = std::iter::once(run_started());
        for event in first.chain(events) {
            let next = state.clone().next(&event);
            prop_assert_eq!(next.is_ok(), oracle.allows(&event), "{:?} after {:?}: {:?}", event, oracle.0, next);
            if let Ok(next) = next {
                state = next;
                oracle.0.push(event);
            }
            oracle.agrees(&state);
        }
    }
}
