//! Law 4: cut off after any record of the journal, a run comes to the same end.

use std::collections::BTreeMap;

use runbook_model::call::{Act, SshAct, Undo};
use runbook_model::event::{RunOutcome, Verb};
use runbook_world::{How, State, contrast, differences};

use crate::evening::{Evening, Undisturbed, calls, failure, made, short};
use crate::{Breach, Case, Harness, Judgement, Tried, Trouble};

impl Harness {
    pub(crate) async fn resumes(&self, case: &Case, undisturbed: &Undisturbed) -> Tried {
        let mut tried = Cuts::default();
        let last = undisturbed.records.last().map_or(0, |record| record.seq);
        let changes: BTreeMap<u64, bool> =
            made(&undisturbed.records).map(|made| (made.seq, made.is_process())).collect();
        for after in 1..=last {
            // Where nothing is on its way, it does not matter what becomes of it.
            let hows: &[How] = match changes.get(&after) {
                None => &[How::Before],
                Some(false) => &[How::Before, How::After],
                Some(true) => &[How::Before, How::After, How::During],
            };
            for how in hows {
                let name = trial(after, *how);
                if self.is_meant(&name) {
                    self.cut(case, undisturbed, (after, *how), &name, &mut tried).await?;
                }
            }
        }
        let Cuts { trials, stuck } = tried;
        let notes =
            stuck.first().map(|first| format!("after {} of {trials} cuts it ended stuck; {first}", stuck.len()));
        Ok(Judgement::Holds { trials, notes: notes.into_iter().collect() })
    }

    async fn cut(
        &self,
        case: &Case,
        undisturbed: &Undisturbed,
        crash: (u64, How),
        name: &str,
        tried: &mut Cuts,
    ) -> Result<(), Trouble> {
        let evening = Evening::new(self, case, case.world.clone())?;
        let first = evening.go(Verb::Exec, Some(crash)).await?;
        tried.trials += 1;
        if first.is_ok_and(|ended| ended.outcome == RunOutcome::Succeeded) {
            // Steps beside each other come in any order, so a run may be a little shorter.
            return Ok(());
        }
        let at_cut = evening.records();
        let ended = evening.run(Verb::Resume).await?;
        evening.gaps()?;
        let broken = |what: String| Trouble::from(Breach::of(what).at(name).after(calls(&at_cut, crash.0)));
        let how = words(crash);
        match ended.outcome {
            RunOutcome::Succeeded => {}
            RunOutcome::Stuck => {
                let why = failure(&evening.records()).unwrap_or_default();
                tried.stuck.push(format!("after {name}: {}", short(&why)));
                return Ok(());
            }
            RunOutcome::Failed | RunOutcome::Cancelled => {
                let records = evening.records();
                let after: Vec<_> = records[at_cut.len().min(records.len())..].to_vec();
                return Err(broken(format!("{how}, it does not go on: {}", failure(&after).unwrap_or_default())));
            }
        }
        let state = evening.world.state().clone();
        if let Some(thing) = differences(&state, &undisturbed.end).first() {
            let told = contrast(thing, &state, &undisturbed.end);
            return Err(broken(format!("{how}, it comes to another end: {thing} is another: {told}")));
        }
        let (now, once) = (irreversible(&state), irreversible(&undisturbed.end));
        if let Some((what, _)) = now.iter().find(|(what, count)| once.get(*what) != Some(count)) {
            return Err(broken(format!("{how}, what cannot be taken back is done another number of times: {what}")));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Cuts {
    trials: usize,
    /// After which of them a person was needed, and why.
    stuck: Vec<String>,
}

/// The name of a trial.
pub(crate) fn trial(after: u64, how: How) -> String {
    let how = match how {
        How::Before => "before",
        How::After => "after",
        How::During => "during",
    };
    format!("{after}:{how}")
}

pub(crate) fn words((record, how): (u64, How)) -> String {
    match how {
        How::Before => format!("cut off after record {record}"),
        How::After => format!("cut off when the change of record {record} was done and its answer not heard"),
        How::During => format!("cut off while the program of record {record} was at work"),
    }
}

/// How often each change was made that cannot be taken back.
pub(crate) fn irreversible(state: &State) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for done in &state.done {
        if let Act::Ssh(SshAct::Run { pipeline, undo: Undo::Irreversible(_), .. }) = &done.act {
            let words: Vec<String> = pipeline.iter().map(|command| command.argv.join(" ")).collect();
            *count.entry(format!("`{}` on {}", words.join(" | "), done.target)).or_default() += 1;
        }
    }
    count
}
