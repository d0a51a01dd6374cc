//! Law 7: no call outside of its grants; an end within its limits, whatever the hosts do; no secret in what it tells.

use runbook_model::event::{Event, Record, Verb};
use runbook_model::{delta, words};

use crate::evening::{Evening, Undisturbed, calls, short};
use crate::hostile::{Hostile, Manner};
use crate::{Breach, Case, Harness, Judgement, Tried, Trouble};

/// How many lying hosts are tried.
const LIARS: usize = 4;

/// A trial that has no manner.
const FRIENDLY: &str = "friendly";

impl Harness {
    pub(crate) async fn contained(&self, case: &Case, undisturbed: &Undisturbed) -> Tried {
        if let Some(breach) = denied(&undisturbed.records) {
            return Err(breach.at(FRIENDLY).into());
        }
        undisturbed.is_good().map_err(Trouble::Unjudged)?;
        let mut trials = 0;
        if self.is_meant(FRIENDLY) {
            trials += 1;
            self.tells_no_secret(case, None).await?;
        }
        // Where it finds something else than the first time, it may ask for something else.
        let plan = (Verb::Plan, "plan".to_owned(), "in a plan".to_owned(), undisturbed.before.clone());
        let again = (Verb::Exec, "again".to_owned(), "the second time".to_owned(), undisturbed.end.clone());
        let harms = self.harms(case, undisturbed).into_iter().enumerate().filter_map(|(number, harm)| {
            let when = format!("where somebody harmed {}", harm.what);
            Some((Verb::Exec, format!("harm:{number}"), when, harm.state?))
        });
        let disturbed = [plan, again].into_iter().chain(harms);
        for (verb, name, when, state) in disturbed.filter(|(_, name, ..)| self.is_meant(name)) {
            trials += 1;
            let evening = Evening::new(self, case, state)?;
            evening.run(verb).await?;
            evening.gaps()?;
            if let Some(breach) = denied(&evening.records()) {
                return Err(Breach { what: format!("{when}, {}", breach.what), ..breach }.at(name).into());
            }
        }
        for manner in manners(&case.name, self.only()) {
            if self.is_meant(&name(manner)) {
                trials += 1;
                self.tells_no_secret(case, Some(manner)).await?;
            }
        }
        let notes = case.secrets.is_empty().then(|| "the case has no secret that could be told".to_owned());
        Ok(Judgement::Holds { trials, notes: notes.into_iter().collect() })
    }

    async fn tells_no_secret(&self, case: &Case, manner: Option<Manner>) -> Result<(), Trouble> {
        let mut evening = Evening::new(self, case, case.world.clone())?;
        let at = manner.map_or(FRIENDLY.to_owned(), name);
        if let Some(manner) = manner {
            evening.backend = Hostile::before(&evening.world, manner);
        }
        evening.run(Verb::Exec).await?;
        let records = evening.records();
        let broke = evening.plugins.broke.lock().map(|broke| broke.first().cloned()).unwrap_or_default();
        if let Some(broke) = broke {
            let breach = Breach::of(format!("against {}: {broke}", host(manner)));
            return Err(breach.at(at).after(calls(&records, u64::MAX)).into());
        }
        let text = evening.journal();
        if let Some(secret) = case.secrets.iter().find_map(|(name, value)| tells(&text, value).then_some(name)) {
            let breach = Breach::of(format!("against {}: the secret `{secret}` stands in the journal", host(manner)));
            return Err(breach.at(at).after(calls(&records, u64::MAX)).into());
        }
        Ok(())
    }
}

/// The first call that was not granted. Against hosts that lie it is none of the plugin's: it goes where it is led, up to the broker.
pub(crate) fn denied(records: &[Record]) -> Option<Breach> {
    records.iter().find_map(|record| match &record.event {
        Event::Denied { instance, request, reason, .. } => {
            let what =
                format!("{instance} asks for what it is not granted: {} ({reason})", short(&words::request(request)));
            Some(Breach::of(what).after(calls(records, record.seq)))
        }
        _ => None,
    })
}

/// The hosts that a case is tried against: its own liars, the same ones each time. One that is asked for by its number is tried, too.
fn manners(case: &str, only: Option<&str>) -> Vec<Manner> {
    let named = only.and_then(|only| only.strip_prefix(LYING)?.parse().ok());
    let first = delta::sha256(case.as_bytes());
    let seeds = (0..LIARS).filter_map(|n| u64::from_str_radix(first.get(n * 4..n * 4 + 4)?, 16).ok());
    let liars = named.map_or_else(|| seeds.collect(), |seed| vec![seed]);
    [Manner::Silent, Manner::Flooding].into_iter().chain(liars.into_iter().map(Manner::Lying)).collect()
}

/// What the names of trials with liars begin with; a seed follows.
const LYING: &str = "lying:";

/// Whether a text tells a secret: as it is, with anything between its characters, or backwards.
fn tells(text: &str, secret: &str) -> bool {
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let (text, secret) = (plain(text), plain(secret));
    let backwards: String = secret.chars().rev().collect();
    text.contains(&secret) || text.contains(&backwards)
}

fn name(manner: Manner) -> String {
    match manner {
        Manner::Silent => "silent".to_owned(),
        Manner::Flooding => "flooding".to_owned(),
        Manner::Lying(seed) => format!("{LYING}{seed}"),
    }
}

fn host(manner: Option<Manner>) -> &'static str {
    match manner {
        None => "friendly hosts",
        Some(Manner::Silent) => "silent hosts",
        Some(Manner::Flooding) => "flooding hosts",
        Some(Manner::Lying(_)) => "lying hosts",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_however_it_is_written() {
        for (text, found) in [
            ("the token is Mxq3c469e", true),
            ("M-x-q-3-c-4-6-9-e", true),
            ("e964c3qxM", true),
            ("Mxq3c469", false),
            ("", false),
        ] {
            assert_eq!(tells(text, "Mxq3c469e"), found, "{text}");
        }
    }

    #[test]
    fn a_case_has_liars_of_its_own_and_the_same_ones_each_time() {
        let seeds = |case: &str, only: Option<&str>| -> Vec<u64> {
            let seed = |manner| if let Manner::Lying(seed) = manner { Some(seed) } else { None };
            manners(case, only).into_iter().filter_map(seed).collect()
        };
        let some = seeds("files", None);
        assert_eq!((some.len(), &some), (LIARS, &seeds("files", None)));
        assert_ne!(some, seeds("kube", None));
        for (only, expected) in [("lying:7", vec![7]), ("lying:x", some.clone()), ("silent", some.clone())] {
            assert_eq!(seeds("files", Some(only)), expected, "{only}");
        }
        // Whatever is told of a trial selects it.
        assert!(
            manners("files", None).into_iter().all(|manner| manners("files", Some(&name(manner))).contains(&manner))
        );
    }
}
