//! Proofs that something lies somewhere, kept across runs: last night's backup lets tonight's migration begin.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

use runbook_model::event::Receipt;

use crate::shared::lock;

/// The receipts of this installation: JSON lines, appended to.
#[derive(Default)]
pub struct Receipts {
    file: Option<PathBuf>,
    /// Those of this process, where nothing is kept.
    here: Mutex<Vec<Receipt>>,
}

impl Receipts {
    /// Receipts that lie in `file`, which is made with the first one.
    pub fn at(file: PathBuf) -> Self {
        Self { file: Some(file), here: Mutex::default() }
    }

    /// Keeps a receipt.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn add(&self, receipt: &Receipt) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let Some(file) = &self.file else {
            lock(&self.here).push(receipt.clone());
            return Ok(());
        };
        let mut line = serde_json::to_string(receipt).map_err(std::io::Error::other)?;
        line.push('\n');
        let mut file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }

    /// The receipts of this kind, of this subject where one is named, in the order in which they were issued.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn of(&self, kind: &str, subject: Option<&str>) -> std::io::Result<Vec<Receipt>> {
        let all = match &self.file {
            None => lock(&self.here).clone(),
            Some(file) => match std::fs::read_to_string(file) {
                // A line that was cut by a crash is none.
                Ok(text) => text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error),
            },
        };
        let fits = |receipt: &Receipt| receipt.kind == kind && subject.is_none_or(|s| s == receipt.subject);
        Ok(all.into_iter().filter(fits).collect())
    }
}

#[cfg(test)]
mod tests {
    use runbook_model::call::{SourceRef, Target};

    use super::*;

    #[test]
    fn receipts_are_found_by_kind_and_subject() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("receipts.jsonl");
        let receipt = |subject: &str, made_at| Receipt {
            kind: "backup".into(),
            subject: subject.into(),
            place: SourceRef { target: Target::Controller, path: "/b".into(), size: 1, sha256: "00".into() },
            made_at,
        };
        for one in [receipt("a", 5), receipt("a", 9), receipt("b", 7)] {
            Receipts::at(file.clone()).add(&one).expect("kept");
        }
        let mut cut = std::fs::OpenOptions::new().append(true).open(&file).expect("there");
        cut.write_all(b"{\"kind\":\"backup\",\"subj").expect("written");
        let receipts = Receipts::at(file);
        let of = |kind, subject| {
            let found = receipts.of(kind, subject).expect("read").into_iter();
            found.map(|receipt| receipt.made_at).collect::<Vec<_>>()
        };
        assert_eq!(of("backup", Some("b")), [7]);
        assert_eq!(of("backup", None), [5, 9, 7]);
        assert!(of("snapshot", None).is_empty());
    }
}
