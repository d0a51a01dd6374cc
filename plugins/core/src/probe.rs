//! What `wait` and `manual` look at, again and again.

use runbook_sdk::prelude::*;
use runbook_sdk::run::Probe as Seen;

/// A look that says whether something is there. Exactly one of the three.
#[derive(Debug, Deserialize)]
pub(crate) struct Probe {
    tcp: Option<String>,
    http: Option<String>,
    command: Option<Vec<String>>,
    status: Option<u16>,
    contains: Option<String>,
    #[serde(default)]
    insecure: bool,
}

impl Probe {
    /// What it looks for, for people.
    pub(crate) fn said(&self) -> Result<String> {
        match (&self.tcp, &self.http, &self.command) {
            (Some(address), None, None) => split(address).map(|_| address.clone()),
            (None, Some(url), None) => Ok(url.clone()),
            (None, None, Some(argv)) => Ok(format!("`{}`", argv.join(" "))),
            _ => invalid!("give exactly one of `tcp`, `http` and `command`"),
        }
    }

    /// Looks once.
    pub(crate) fn look(&self, machine: &Machine) -> Result<Seen<()>> {
        if let Some(address) = &self.tcp {
            let (host, port) = split(address)?;
            let open = machine.tcp(host, port, Period::seconds(5))?;
            return Ok(if open { Seen::Ready(()) } else { Seen::NotYet(format!("{address} accepts no connection")) });
        }
        if let Some(url) = &self.http {
            let request = machine.http("GET", url);
            let response = if self.insecure { request.insecure() } else { request }.look()?;
            return Ok(self.judge_http(response.status, &response.text()));
        }
        let output = machine.cmd(self.command.iter().flatten()).privileged().timeout(Period::minutes(1)).observe()?;
        Ok(if output.success() { Seen::Ready(()) } else { Seen::NotYet(output.error().message().to_owned()) })
    }

    fn judge_http(&self, status: u16, body: &str) -> Seen<()> {
        let right = self.status.map_or((200..300).contains(&status), |wanted| wanted == status);
        match &self.contains {
            _ if !right => Seen::NotYet(format!("status {status}")),
            Some(text) if !body.contains(text) => Seen::NotYet(format!("the answer does not contain {text:?}")),
            Some(_) | None => Seen::Ready(()),
        }
    }
}

/// `HOST:PORT`, with an IPv6 address in brackets.
fn split(address: &str) -> Result<(&str, u16)> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parts {
        Some((host, port)) if !host.is_empty() => Ok((host.trim_start_matches('[').trim_end_matches(']'), port)),
        _ => invalid!("{address:?} is not HOST:PORT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(value: Value) -> Probe {
        serde_json::from_value(value).expect("a probe")
    }

    #[test]
    fn addresses_are_split() {
        assert_eq!(split("n1:22"), Ok(("n1", 22)));
        assert_eq!(split("[::1]:6443"), Ok(("::1", 6443)));
        assert!(split("n1").is_err() && split("n1:http").is_err() && split(":22").is_err());
    }

    #[test]
    fn exactly_one_probe_is_given() {
        assert!(probe(json!({ "tcp": "n1:22" })).said().is_ok());
        assert!(probe(json!({})).said().is_err());
        assert!(probe(json!({ "tcp": "n1:22", "http": "http://n1" })).said().is_err());
    }

    #[test]
    fn an_answer_is_judged() {
        let ready = |value: Value, status, body| probe(value).judge_http(status, body) == Seen::Ready(());
        assert!(ready(json!({}), 204, ""));
        assert!(!ready(json!({}), 302, ""));
        assert!(ready(json!({ "status": 401 }), 401, ""));
        assert!(ready(json!({ "contains": "ok" }), 200, "all ok"));
        assert!(!ready(json!({ "contains": "ok" }), 200, "starting"));
    }
}
