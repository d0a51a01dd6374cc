//! The laws that a plugin keeps, as a harness for other people's plugins.
//!
//! A [`Case`] is a runbook and the world that it runs in. [`Harness::judge`] runs it with the real engine (broker, plans, journal, undo,
//! resume) against [`runbook_world`], again and again: as a plan, twice in a row, cut off at every place, taken back, against sabotage and
//! against hosts that lie. What breaks a law is told with what it takes to see it once more.
//!
//! What could not be judged is said as such and is no pass: a case that does not end well, or asks for what its world does not describe.
//!
//! Not in it: how an action does on a real machine. A case is as good as its world.

#![warn(missing_docs)]

mod again;
mod back;
mod case;
mod contained;
mod cuts;
mod evening;
mod hasty;
mod hostile;
mod plans;

use std::fmt;
use std::sync::Arc;

use runbook_engine::plugin::Plugins;
use runbook_engine::run::Actions;

pub use case::{Case, CaseError};
use evening::Undisturbed;
pub use runbook_world::file::LARGEST as LARGEST_CASE;

/// What a plugin must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// A plan changes nothing.
    Pure,
    /// A plan predicts what apply does.
    Predicts,
    /// The second apply finds nothing to do.
    Converges,
    /// A run that is cut off anywhere comes to the same end.
    Resumes,
    /// After an undo all is as before, or the change was declared to be left.
    Undoes,
    /// Sabotage is noticed.
    Notices,
    /// It stays within its grants and limits, and tells no secret.
    Contained,
}

impl Law {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Pure, Self::Predicts, Self::Converges, Self::Resumes, Self::Undoes, Self::Notices, Self::Contained];

    /// From 1 to 7.
    pub fn number(self) -> usize {
        Self::ALL.iter().position(|law| *law == self).unwrap_or_default() + 1
    }

    /// The law with this number.
    pub fn numbered(number: usize) -> Option<Self> {
        Self::ALL.get(number.checked_sub(1)?).copied()
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pure => "a plan changes nothing",
            Self::Predicts => "a plan predicts what apply does",
            Self::Converges => "the second apply finds nothing to do",
            Self::Resumes => "cut off anywhere, a run comes to the same end",
            Self::Undoes => "an undo puts back what was there before",
            Self::Notices => "sabotage is noticed",
            Self::Contained => "it stays within its grants and limits, and tells no secret",
        })
    }
}

/// What came of a law in a case.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// It holds: in so many trials; what is to be said of it.
    Holds {
        /// How often it was tried.
        trials: usize,
        /// Such as "left, as declared: ..."
        notes: Vec<String>,
    },
    /// It does not.
    Broken(Breach),
    /// Nobody can say; why.
    Unjudged(String),
}

impl Judgement {
    fn holds(trials: usize) -> Self {
        Self::Holds { trials, notes: Vec::new() }
    }
}

/// How a law was broken, and what it takes to see it once more.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    /// In words.
    pub what: String,
    /// Which of the trials; the same text selects it alone.
    pub at: Option<String>,
    /// The last calls up to there.
    pub calls: Vec<String>,
}

impl Breach {
    fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), at: None, calls: Vec::new() }
    }

    fn at(self, at: impl Into<String>) -> Self {
        Self { at: Some(at.into()), ..self }
    }

    fn after(self, calls: Vec<String>) -> Self {
        Self { calls, ..self }
    }
}

/// Why a trial gives no pass.
enum Trouble {
    Breach(Breach),
    Unjudged(String),
}

impl From<Breach> for Trouble {
    fn from(breach: Breach) -> Self {
        Self::Breach(breach)
    }
}

impl From<runbook_engine::journal::JournalError> for Trouble {
    fn from(error: runbook_engine::journal::JournalError) -> Self {
        Self::Unjudged(format!("the journal of a trial: {error}"))
    }
}

type Tried = Result<Judgement, Trouble>;

fn judged(tried: Tried) -> Judgement {
    match tried {
        Ok(judgement) => judgement,
        Err(Trouble::Breach(breach)) => Judgement::Broken(breach),
        Err(Trouble::Unjudged(why)) => Judgement::Unjudged(why),
    }
}

/// Plugins under test.
pub struct Harness {
    plugins: Arc<dyn Plugins>,
    actions: Arc<dyn Actions>,
    /// Of a law only the trial with this name.
    only: Option<String>,
}

impl Harness {
    /// Of a law, `only` selects one trial, as [`Breach::at`] names it.
    pub fn new(plugins: Arc<dyn Plugins>, actions: Arc<dyn Actions>, only: Option<String>) -> Self {
        Self { plugins, actions, only }
    }

    fn only(&self) -> Option<&str> {
        self.only.as_deref()
    }

    fn is_meant(&self, trial: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == trial)
    }

    /// Judges some laws in a case. `told` hears of each when it is judged.
    pub async fn judge(
        &self,
        case: &Case,
        laws: &[Law],
        told: &(dyn Fn(Law, &Judgement) + Sync),
    ) -> Vec<(Law, Judgement)> {
        let undisturbed = self.undisturbed(case).await;
        let mut judged = Vec::new();
        for law in laws {
            let tried = match (&undisturbed, law) {
                // Denied calls are what a case that does not end well may be about.
                (Ok(undisturbed), Law::Contained) => self.contained(case, undisturbed).await,
                (Err(trouble), _) => Err(Trouble::Unjudged(trouble.clone())),
                (Ok(undisturbed), law) => match undisturbed.is_good() {
                    Ok(()) => self.law(*law, case, undisturbed).await,
                    Err(why) => Err(Trouble::Unjudged(why)),
                },
            };
            let judgement = self::judged(tried);
            told(*law, &judgement);
            judged.push((*law, judgement));
        }
        judged
    }

    async fn law(&self, law: Law, case: &Case, undisturbed: &Undisturbed) -> Tried {
        match law {
            Law::Pure => self.pure(case).await,
            Law::Predicts => self.predicts(case, undisturbed).await,
            Law::Converges => self.converges(case, undisturbed).await,
            Law::Resumes => self.resumes(case, undisturbed).await,
            Law::Undoes => self.undoes(case, undisturbed).await,
            Law::Notices => self.notices(case, undisturbed).await,
            Law::Contained => self.contained(case, undisturbed).await,
        }
    }
}

#[cfg(test)]
mod tests;
