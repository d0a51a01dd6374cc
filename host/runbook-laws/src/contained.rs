//! Law 7: no call outside of its grants; an end within its limits, whatever the hosts do; no secret in what it tells.

use runbook_model::event::{Event, Verb};
use runbook_model::words;

use crate::evening::{Evening, Undisturbed, calls};
use crate::hostile::{Hostile, Manner};
use crate::{Breach, Case, Harness, Judgement, Tried, Trouble};

/// The hosts that are tried.
const MANNERS: [Manner; 6] =
    [Manner::Silent, Manner::Flooding, Manner::Lying(1), Manner::Lying(2), Manner::Lying(3), Manner::Lying(4)];

impl Harness {
    pub(crate) async fn contained(&self, case: &Case, undisturbed: &Undisturbed) -> Tried {
        for record in &undisturbed.records {
            if let Event::Denied { instance, request, reason, .. } = &record.event {
                let what =
                    format!("{instance} asks for what it is not granted: {} ({reason})", words::request(request));
                return Err(Breach::of(what).after(calls(&undisturbed.records, record.seq)).into());
            }
        }
        undisturbed.is_good().map_err(Trouble::Unjudged)?;
        let mut trials = 1;
        if self.is_meant("friendly") {
            self.tells_no_secret(case, None).await?;
        }
        for manner in MANNERS {
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
        let at = manner.map_or("friendly".to_owned(), name);
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
        Manner::Lying(seed) => format!("lying:{seed}"),
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
