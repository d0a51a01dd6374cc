//! What a run recorded is executed once more without any world: the same plugin acts the same, a changed one is found out.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use runbook_engine::backend::NoRuns;
use runbook_engine::compare::{self, Nowhere};
use runbook_engine::journal::{Journal, Start};
use runbook_engine::plugin::{PluginCall, PluginError, Plugins};
use runbook_engine::shared::Shared;
use runbook_engine::vault::Vault;
use runbook_model::call::{Call, Level, Note, Request, Target};
use runbook_model::event::Verb;
use runbook_model::history::{self, History};
use runbook_model::journal;
use runbook_model::plan::Runbook;
use serde_json::{Value, json};

use super::plugin::{Catalog, Odd};
use super::programs::world;
use super::{How, in_a_folder, runbook};

const STEPS: &str = "[[step]]\nid = \"a\"\nuses = \"t/odd\"\non = \"n1\"\nwith = { name = \"a\", burns = true }\n\
                     [[step]]\nid = \"b\"\nuses = \"t/odd\"\non = \"n2\"\nwith = { name = \"b\" }\n";

/// The plugin as somebody changed it.
#[derive(Clone, Copy)]
enum Newer {
    Same,
    Talks,
    BurnsNot,
    Fails,
    SaysOther,
}

#[async_trait]
impl Plugins for Newer {
    async fn converge(&self, mut call: PluginCall) -> Result<Value, PluginError> {
        match self {
            Self::Same | Self::SaysOther => {}
            Self::Talks => {
                let note = Note::Log { level: Level::Info, message: "hello".into() };
                let said = call.road.call(Request { target: Target::Run, call: Call::Note(note) }).await;
                said.expect("a message is always taken");
            }
            Self::BurnsNot => call.inputs["burns"] = json!(false),
            Self::Fails => call.inputs["fails"] = json!(true),
        }
        let outputs = Odd.converge(call).await?;
        Ok(if matches!(self, Self::SaysOther) { json!({"lines": "other"}) } else { outputs })
    }

    async fn verify(&self, call: PluginCall) -> Result<Vec<String>, PluginError> {
        Odd.verify(call).await
    }
}

/// The difference of each attempt.
async fn differences(folder: &Path, runbook: &Runbook, newer: Newer) -> Vec<Option<String>> {
    let text = std::fs::read_to_string(folder.join(journal::FILE)).expect("a journal");
    let records = journal::decode(&text).expect("a journal that can be read");
    let past = History::of(records.clone()).expect("a journal that makes sense");
    let shared = Arc::new(Shared {
        backend: Arc::new(Nowhere),
        journal: Journal::new(None, Start::default(), Default::default(), Vec::new()),
        redactor: Default::default(),
        secrets: Arc::default(),
        vault: Arc::new(Vault::open(&folder.join("key"), folder.join("blobs")).expect("a vault")),
        receipts: Arc::default(),
        owner: String::new(),
        runs: Arc::new(NoRuns),
        baselines: Mutex::new(past.baselines.clone()),
        past,
        artifacts: "/tmp".into(),
        cancel: Default::default(),
        run: "r".into(),
        foresight: Arc::default(),
    });
    let plugins: Arc<dyn Plugins> = Arc::new(newer);
    let mut found = Vec::new();
    for attempt in history::attempts(records).expect("a journal that makes sense") {
        let compared = compare::compare(&shared, &plugins, &Catalog::default(), runbook, &attempt).await;

        found.push(compared.difference);
    }
    found
}

#[tokio::test(start_paused = true)]
async fn a_changed_plugin_is_found_out() {
    let runbook = runbook("", STEPS);
    in_a_folder(world(), &runbook, async |run| {
        run.go(Verb::Exec, None).await.expect("the journal is written");
        let lines = run.end();
        for (newer, wanted) in [
            (Newer::Same, [None, None]),
            (Newer::Talks, [None, None]),
            (
                Newer::BurnsNot,
                [Some("asks: remove /srv/old on n1; before, it asked: run: burn /var/ledger a on n1"), None],
            ),
            (
                Newer::Fails,
                [
                    Some("it does not ask any more: write /srv/a/done on n1"),
                    Some("it does not ask any more: write /srv/b/done on n2"),
                ],
            ),
            (Newer::SaysOther, [Some("its outputs are {\"lines\":\"other\"}"), Some("its outputs are")]),
        ] {
            let found = differences(run.folder, &runbook, newer).await;
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(wanted) {
                match (found, wanted) {
                    (None, None) => {}
                    (Some(found), Some(wanted)) => assert!(found.contains(wanted), "{found}"),
                    (found, wanted) => panic!("{found:?} is not {wanted:?}"),
                }
            }
        }
        assert_eq!(run.end(), lines, "nothing is changed by that");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_recording_may_break_off_anywhere() {
    let runbook = runbook("", STEPS);
    for after in 2..30 {
        in_a_folder(world(), &runbook, async |run| {
            let _ = run.go(Verb::Exec, Some((after, How::After))).await;
            let found = differences(run.folder, &runbook, Newer::Same).await;
            assert!(found.iter().all(Option::is_none), "after record {after}: {found:?}");
        })
        .await;
    }
}
