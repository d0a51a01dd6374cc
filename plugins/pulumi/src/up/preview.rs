//! What `pulumi preview --json` says.

use runbook_sdk::prelude::*;

/// What `up` would do.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Preview {
    #[serde(default)]
    steps: Vec<Step>,
    #[serde(default)]
    diagnostics: Vec<Diagnostic>,
    /// Operations that an earlier update was killed in.
    #[serde(skip)]
    pub(super) pending: Vec<String>,
}

/// What would be done to one resource.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    /// "create", "same", ...
    pub(super) op: String,
    /// Name of the resource, over all stacks.
    pub(super) urn: String,
    #[serde(default)]
    diff_reasons: Option<Vec<String>>,
    #[serde(default)]
    replace_reasons: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Diagnostic {
    #[serde(default)]
    message: String,
    #[serde(default)]
    severity: String,
}

/// Type of a resource ("kubernetes:apps/v1:Deployment") and its name. Of a URN with parents, the last type.
pub(super) fn taken_apart(urn: &str) -> (&str, &str) {
    let mut parts = urn.splitn(4, "::");
    let (kinds, name) = (parts.nth(2).unwrap_or(urn), parts.next().unwrap_or_default());
    (kinds.rsplit('$').next().unwrap_or(kinds), name)
}

impl Step {
    /// "kubernetes:apps/v1:Deployment buttons".
    fn label(&self) -> String {
        let (kind, name) = taken_apart(&self.urn);
        format!("{kind} {name}")
    }

    /// Which properties differ: "data, labels".
    fn reasons(&self) -> String {
        self.replace_reasons.as_ref().or(self.diff_reasons.as_ref()).map(|names| names.join(", ")).unwrap_or_default()
    }

    /// For a person: "update kubernetes:core/v1:ConfigMap switches (data)".
    pub(super) fn said(&self) -> String {
        let reasons = self.reasons();
        let reasons = if reasons.is_empty() { reasons } else { format!(" ({reasons})") };
        format!("{} {}{reasons}", self.op, self.label())
    }
}

/// Whether an operation leaves all as it is.
pub(super) fn is_quiet(op: &str) -> bool {
    matches!(op, "same" | "read" | "refresh" | "read-discard" | "read-replacement" | "discard")
}

impl Preview {
    /// Reads what it wrote. Pending operations stand in a warning beside the JSON.
    ///
    /// # Errors
    ///
    /// Where it is not the document that it should be.
    pub(super) fn read(stdout: &[u8], stderr: &str) -> Result<Self, String> {
        let mut preview: Self = serde_json::from_slice(stdout)
            .map_err(|error| format!("`pulumi preview --json` did not write the JSON that was expected: {error}"))?;
        let said: String = preview.diagnostics.iter().map(|d| format!("{}\n", d.message)).collect();
        preview.pending = pending(&format!("{stderr}\n{said}"));
        Ok(preview)
    }

    /// The resources that would not stay as they are.
    pub(super) fn changes(&self) -> Vec<&Step> {
        self.steps.iter().filter(|step| !is_quiet(&step.op)).collect()
    }

    /// "update 1 (ConfigMap switches: data), delete 1 (CronJob old)".
    pub(super) fn summary(&self) -> String {
        const NAMED: usize = 20;
        let mut ops: Vec<(&str, Vec<String>)> = Vec::new();
        for step in self.changes() {
            let (kind, name) = taken_apart(&step.urn);
            let reasons = step.reasons();
            let colon = if reasons.is_empty() { "" } else { ": " };
            let short = format!("{} {name}{colon}{reasons}", kind.rsplit(':').next().unwrap_or(kind));
            match ops.iter_mut().find(|(op, _)| *op == step.op) {
                Some((_, names)) => names.push(short),
                None => ops.push((&step.op, vec![short])),
            }
        }
        let said = ops.iter().map(|(op, names)| {
            let more = if names.len() > NAMED { ", ..." } else { "" };
            format!("{op} {} ({}{more})", names.len(), names[..names.len().min(NAMED)].join(", "))
        });
        said.collect::<Vec<_>>().join(", ")
    }

    /// What it warns of.
    pub(super) fn warnings(&self) -> Vec<&str> {
        self.said("warning")
    }

    /// What it calls an error.
    pub(super) fn errors(&self) -> Vec<String> {
        self.said("error").into_iter().map(str::to_owned).collect()
    }

    fn said(&self, severity: &str) -> Vec<&str> {
        let said = self.diagnostics.iter().filter(|d| d.severity.starts_with(severity)).map(|d| d.message.trim());
        said.map(|text| text.strip_prefix("warning: ").unwrap_or(text)).filter(|text| !text.is_empty()).collect()
    }
}

/// The operations that the warning of pending operations lists.
fn pending(said: &str) -> Vec<String> {
    if !said.contains("pending operations from previous deployment") {
        return Vec::new();
    }
    let lines = said.lines().filter_map(|line| line.trim().strip_prefix("* "));
    let listed: Vec<String> = lines.filter(|line| line.contains("interrupted while")).map(str::to_owned).collect();
    if listed.is_empty() { vec!["(pulumi does not say which)".to_owned()] } else { listed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read() {
        let preview = Preview::read(include_bytes!("../../testdata/pulumi_preview_changes.json"), "").unwrap();
        assert_eq!(
            preview.summary(),
            "update 1 (ConfigMap switches: data), create 1 (Deployment buttons), replace 1 (Command populate: triggers), \
             delete 1 (CronJob old)"
        );
        assert_eq!(preview.changes()[0].said(), "update kubernetes:core/v1:ConfigMap switches (data)");
        assert_eq!(preview.changes()[1].said(), "create kubernetes:apps/v1:Deployment buttons");
        assert_eq!(preview.warnings(), ["the namespace already exists"]);
        assert!(preview.pending.is_empty());
    }

    #[test]
    fn nothing_but_same_is_nothing_to_do() {
        let warning = include_str!("../../testdata/pulumi_pending_ops_warning.txt");
        let preview = Preview::read(include_bytes!("../../testdata/pulumi_preview_nochange.json"), warning).unwrap();
        assert!(preview.changes().is_empty());
        assert_eq!(
            preview.pending,
            ["urn:pulumi:prod::homeslice::kubernetes:apps/v1:Deployment::chime, interrupted while creating"]
        );
        assert!(Preview::read(b"", "").is_err());
    }

    #[test]
    fn a_urn_with_parents_has_the_last_type() {
        let urn = "urn:pulumi:prod::homeslice::my:component:App$kubernetes:core/v1:Service::chime::x";
        assert_eq!(taken_apart(urn), ("kubernetes:core/v1:Service", "chime::x"));
    }
}
