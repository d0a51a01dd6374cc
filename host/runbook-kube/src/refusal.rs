//! What an API server says when it does not do what was asked, and what that means for a call.

use std::time::Duration;

use kube::core::Status;
use runbook_model::call::CallError;

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// HTTP status code.
    pub(crate) code: u16,
    /// The body was a `Status` of an API server, not something that stands in front of it.
    pub(crate) genuine: bool,
    /// The body.
    pub(crate) status: Status,
    /// What the server said about trying again.
    pub(crate) retry_after: Option<Duration>,
}

/// Why a request has no result.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The server answered with an error.
    Refused(Box<Refusal>),
    /// No whole answer came.
    Lost {
        /// Nothing was sent: there was no connection.
        unsent: bool,
        /// Why, in words.
        text: String,
    },
    /// Something that needs no more thought.
    Call(CallError),
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl Refusal {
    /// Reads an error answer.
    pub(crate) fn read(code: u16, retry_after: Option<&str>, body: &[u8]) -> Self {
        let parsed = serde_json::from_slice::<serde_json::Value>(body)
            .ok()
            .filter(|value| value["kind"] == "Status")
            .and_then(|value| serde_json::from_value::<Status>(value).ok());
        let genuine = parsed.is_some();
        let status = parsed.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(body);
            let line: String = text.trim().chars().take(300).collect();
            Status::failure(if line.is_empty() { "no explanation" } else { &line }, "").with_code(code)
        });
        let seconds = retry_after
            .and_then(|text| text.trim().parse().ok())
            .or_else(|| status.details.as_ref().map(|d| u64::from(d.retry_after_seconds)).filter(|s| *s > 0));
        Self { code, genuine, status, retry_after: seconds.map(Duration::from_secs) }
    }

    /// Whether the server says, of this very object, that it is not there.
    pub(crate) fn absent(&self, plural: &str, kind: &str, name: &str) -> bool {
        self.code == 404
            && self.genuine
            && self.status.reason == "NotFound"
            && self.status.details.as_ref().is_some_and(|d| {
                d.name == name && (d.kind == plural || d.kind.eq_ignore_ascii_case(kind) || d.kind.is_empty())
            })
    }

    /// Whether the server does not know the path at all, as opposed to an object that is not there.
    pub(crate) fn unknown_path(&self) -> bool {
        self.code == 404 && (!self.genuine || self.status.details.as_ref().is_none_or(|d| d.name.is_empty()))
    }

    /// Whether the server calls our own mistake an internal error, as old ones do for unknown fields in an apply.
    pub(crate) fn mistaken(&self) -> bool {
        self.code == 500 && self.status.message.contains("typed patch object")
    }

    /// Whether somebody changed the object between our read and our write on the server.
    pub(crate) fn raced(&self) -> bool {
        self.code == 409 && self.managers().is_empty() && self.status.message.contains("has been modified")
    }

    /// Field and other manager, for each field that a server-side apply would have to take over.
    fn managers(&self) -> Vec<(String, String)> {
        let causes = self.status.details.iter().flat_map(|d| &d.causes);
        causes
            .filter(|cause| cause.reason == "FieldManagerConflict")
            .map(|cause| {
                let manager = cause.message.split('"').nth(1).unwrap_or(&cause.message);
                (cause.field.clone(), manager.to_owned())
            })
            .collect()
    }

    /// The call's error; `what` says what was tried.
    pub(crate) fn into_error(self, what: &str) -> CallError {
        let managers = self.managers();
        if !managers.is_empty() {
            let fields: Vec<String> = managers.iter().map(|(field, by)| format!("{field} by {by}")).collect();
            return CallError::Conflict(format!(
                "{what}: others manage fields of it: {}; leave these fields out, or take them over with force",
                fields.join(", ")
            ));
        }
        let mut text = format!("{what}: {}", self.status.message.trim());
        for cause in self.status.details.iter().flat_map(|d| &d.causes) {
            if !cause.message.is_empty() && !text.contains(&cause.message) {
                text = format!("{text}; {} {}", cause.field, cause.message);
            }
        }
        match self.code {
            _ if self.mistaken() => CallError::Invalid(text),
            400 | 405 | 406 | 413 | 415 | 422 => CallError::Invalid(text),
            401 => CallError::Failed(format!(
                "{text}: the API server does not accept the credentials of the kubeconfig (401); they may have expired"
            )),
            403 => CallError::Failed(format!("{text} (403: the user of the kubeconfig may not do that)")),
            404 if self.genuine && !self.unknown_path() => CallError::NotFound(text),
            404 => CallError::NotFound(format!("{text}: the cluster does not serve this (404)")),
            409 | 410 | 412 => CallError::Conflict(text),
            429 => CallError::Failed(format!("{text} (429: the API server asks for fewer requests)")),
            502..=504 => CallError::Unreachable(format!("{text} ({})", self.code)),
            code => CallError::Failed(format!("{text} ({code})")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(code: u16, body: &serde_json::Value) -> Refusal {
        Refusal::read(code, None, body.to_string().as_bytes())
    }

    #[test]
    fn only_the_server_s_word_on_that_object_means_absent() {
        let status = json!({"kind": "Status", "reason": "NotFound", "details": {"name": "web", "kind": "pods"}});
        assert!(refusal(404, &status).absent("pods", "Pod", "web"));
        assert!(!refusal(404, &status).absent("pods", "Pod", "db"));
        let namespace = json!({"kind": "Status", "reason": "NotFound", "details": {"name": "x", "kind": "namespaces"}});
        assert!(!refusal(404, &namespace).absent("pods", "Pod", "x"));
        for body in ["404 page not found", "<html>gone</html>", "", "{}"] {
            let refusal = Refusal::read(404, None, body.as_bytes());
            assert!(!refusal.absent("pods", "Pod", "web") && refusal.unknown_path(), "{body}");
        }
    }

    #[test]
    fn a_field_conflict_names_managers_and_fields() {
        let status = json!({"kind": "Status", "reason": "Conflict", "message": "Apply failed with 2 conflicts",
            "details": {"name": "web", "kind": "deployments", "causes": [
                {"reason": "FieldManagerConflict", "message": "conflict with \"argocd\" using apps/v1", "field": ".spec.replicas"},
                {"reason": "FieldManagerConflict", "message": "conflict with \"helm\"", "field": ".spec.paused"}]}});
        let refusal = refusal(409, &status);
        assert!(!refusal.raced());
        let CallError::Conflict(text) = refusal.into_error("apply Deployment d/web") else { panic!("a conflict") };
        for part in ["Deployment d/web", ".spec.replicas by argocd", ".spec.paused by helm", "force"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn an_unknown_field_is_our_mistake() {
        let text = "failed to create typed patch object: .spec.replica: field not declared in schema";
        let error = refusal(500, &json!({"kind": "Status", "message": text})).into_error("apply");
        assert!(matches!(error, CallError::Invalid(text) if text.contains(".spec.replica")));
    }

    #[test]
    fn the_time_to_wait_is_read_from_header_or_body() {
        assert_eq!(Refusal::read(429, Some("7"), b"{}").retry_after, Some(Duration::from_secs(7)));
        let status = json!({"kind": "Status", "details": {"retryAfterSeconds": 3}});
        assert_eq!(refusal(429, &status).retry_after, Some(Duration::from_secs(3)));
        assert_eq!(Refusal::read(429, Some("soon"), b"").retry_after, None);
    }
}
