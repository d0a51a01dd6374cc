//! Asks the person for the passphrases of keys.

use std::io::IsTerminal as _;

use async_trait::async_trait;
use indicatif::MultiProgress;
use runbook_ssh::auth::Prompts;

/// The terminal, if there is one.
pub(crate) struct Terminal {
    bars: Option<MultiProgress>,
}

impl Terminal {
    /// The live display has to make room for a question.
    pub(crate) fn new(bars: Option<MultiProgress>) -> Self {
        Self { bars }
    }
}

#[async_trait]
impl Prompts for Terminal {
    async fn passphrase(&self, key: &str) -> Option<String> {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return None;
        }
        let question = format!("Passphrase of {key}: ");
        let bars = self.bars.clone();
        let ask = move || rpassword::prompt_password(question).ok();
        tokio::task::spawn_blocking(move || match bars {
            Some(bars) => bars.suspend(ask),
            None => ask(),
        })
        .await
        .ok()
        .flatten()
    }
}
