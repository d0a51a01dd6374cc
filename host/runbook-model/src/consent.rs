//! The owner's consent: which powers were granted to the actions of plugins from elsewhere, and what a manifest asks for beyond them.

use serde::{Deserialize, Serialize};

use crate::facet::at_or_below;
use crate::grant::power_name;
use crate::manifest::{Action, Ask, AskReceipt, Pattern, Power};

/// Whether the owner agreed to what an action asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Its plugin is part of the program: the inputs that the owner wrote say enough.
    Implied,
    /// Its plugin is from elsewhere, and the lock grants all that it asks for.
    Granted,
    /// Its plugin is from elsewhere, and nobody was asked.
    Missing,
}

/// One power that was granted to an action: an ask of its manifest, without the words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Granted {
    /// The action.
    pub action: String,
    /// Which call.
    pub call: Power,
    /// What it may touch, as the manifest writes it.
    #[serde(default, skip_serializing_if = "Pattern::is_empty")]
    pub on: Pattern,
    /// With the rights of `become`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// Also what cannot be taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub irreversible: bool,
    /// The receipt without which such a call is denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_receipt: Option<AskReceipt>,
}

impl Granted {
    /// The power that an ask is for.
    pub fn of(action: &str, ask: &Ask) -> Self {
        Self {
            action: action.to_owned(),
            call: ask.call,
            on: ask.on.clone(),
            privileged: ask.privileged,
            irreversible: ask.irreversible.is_some(),
            needs_receipt: ask.needs_receipt.clone(),
        }
    }

    /// All that an action asks for, each power once.
    pub fn of_action(action: &Action) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::with_capacity(action.asks.len());
        for ask in &action.asks {
            let power = Self::of(&action.name, ask);
            if !all.contains(&power) {
                all.push(power);
            }
        }
        all
    }

    /// Whether who was granted this may do that: the same, or less. In doubt it is more.
    pub fn covers(&self, asked: &Self) -> bool {
        let receipt = self.needs_receipt.is_none() || self.needs_receipt == asked.needs_receipt;
        self.action == asked.action
            && self.call == asked.call
            && (self.privileged || !asked.privileged)
            && (self.irreversible || !asked.irreversible)
            && receipt
            && pattern_covers(&self.on, &asked.on)
    }
}

fn pattern_covers(granted: &Pattern, asked: &Pattern) -> bool {
    // Where nothing is said, everything is meant.
    let any = |granted: &Option<String>, asked: &Option<String>| granted.is_none() || granted == asked;
    let env = asked.env.iter().flatten().all(|name| granted.env.iter().flatten().any(|known| known == name));
    granted.argv == asked.argv
        && env
        && path_covers(granted.path.as_deref(), asked.path.as_deref())
        && (granted.kind == asked.kind || granted.kind.as_deref() == Some("*") && asked.kind.is_some())
        && any(&granted.namespace, &asked.namespace)
        && any(&granted.name, &asked.name)
        && granted.url == asked.url
}

fn path_covers(granted: Option<&str>, asked: Option<&str>) -> bool {
    match (granted, asked) {
        (Some(granted), Some(asked)) => {
            let below = granted.strip_suffix("/**");
            granted == asked || below.is_some_and(|top| at_or_below(asked.strip_suffix("/**").unwrap_or(asked), top))
        }
        (granted, asked) => granted == asked,
    }
}

/// What is asked for beyond what was granted, in its order.
pub fn missing<'a>(asked: &'a [Granted], granted: &[Granted]) -> Vec<&'a Granted> {
    asked.iter().filter(|power| !granted.iter().any(|known| known.covers(power))).collect()
}

impl std::fmt::Display for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.action, words(self.call, &self.on, self.privileged))?;
        if self.irreversible {
            f.write_str(", also what cannot be taken back")?;
        }
        match &self.needs_receipt {
            Some(needs) => write!(f, ", with a receipt of the kind {}", needs.kind),
            None => Ok(()),
        }
    }
}

/// A power in words: "ssh.change as root zfs snapshot ${input.name}".
pub fn words(call: Power, on: &Pattern, privileged: bool) -> String {
    let mut parts = vec![power_name(call)];
    parts.extend(privileged.then(|| "as root".to_owned()));
    parts.extend(on.argv.as_ref().map(|argv| argv.join(" ")));
    parts.extend(on.env.as_ref().map(|env| format!("with {}", env.join(" "))));
    parts.extend(on.path.clone());
    parts.extend(on.kind.clone());
    parts.extend(on.namespace.as_ref().map(|namespace| match namespace.as_str() {
        "" => "outside of namespaces".to_owned(),
        namespace => format!("in {namespace}"),
    }));
    parts.extend(on.name.clone());
    parts.extend(on.url.clone());
    parts.join(" ")
}

/// Whether calls with this power are also made while a plan is made: commands and looks at networks run somewhere, other looks only
/// read.
pub fn runs_during_plan(call: Power) -> bool {
    matches!(call, Power::SshObserve | Power::SshNet | Power::KubeExecObserve)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn power(value: Value) -> Granted {
        let mut whole = json!({"action": "go"});
        for (key, value) in value.as_object().expect("a table") {
            whole[key] = value.clone();
        }
        serde_json::from_value(whole).expect("a power")
    }

    #[test]
    fn the_same_or_less_is_covered_and_more_is_not() {
        let write = |path: &str| json!({"call": "files.write", "on": {"path": path}});
        let argv = |argv: &[&str]| json!({"call": "ssh.change", "on": {"argv": argv}});
        let with = |mut value: Value, key: &str, more: Value| {
            value[key] = more;
            value
        };
        let object = |on: Value| json!({"call": "kube.delete", "on": on});
        let cases = [
            (write("/etc/**"), write("/etc/**"), true),
            (write("/etc/**"), write("/etc/zfs/**"), true),
            (write("/etc/**"), write("/etc"), true),
            (write("/etc/**"), write("/etc/${input.name}"), true),
            (write("/etc/**"), write("/etcetera"), false),
            (write("/etc/zfs"), write("/etc/zfs/**"), false),
            (write("/etc/**"), write("${input.path}"), false),
            (write("/etc/x"), json!({"call": "files.read", "on": {"path": "/etc/x"}}), false),
            (argv(&["zfs", "list"]), argv(&["zfs", "list"]), true),
            (argv(&["zfs", "list"]), argv(&["zfs", "list", "**"]), false),
            (argv(&["zfs", "**"]), argv(&["zfs", "list"]), false),
            (argv(&["zfs"]), with(argv(&["zfs"]), "privileged", json!(true)), false),
            (with(argv(&["zfs"]), "privileged", json!(true)), argv(&["zfs"]), true),
            (argv(&["zfs"]), with(argv(&["zfs"]), "irreversible", json!(true)), false),
            (argv(&["zfs"]), json!({"call": "ssh.change", "on": {"argv": ["zfs"], "env": ["LD_PRELOAD"]}}), false),
            (json!({"call": "ssh.change", "on": {"argv": ["zfs"], "env": ["A", "B"]}}), argv(&["zfs"]), true),
            (object(json!({"kind": "*"})), object(json!({"kind": "Pod", "namespace": "a"})), true),
            (object(json!({"kind": "Pod", "namespace": "a"})), object(json!({"kind": "Pod"})), false),
            (object(json!({"kind": "Pod", "namespace": ""})), object(json!({"kind": "Pod", "namespace": "a"})), false),
        ];
        for (granted, asked, covered) in cases {
            assert_eq!(power(granted.clone()).covers(&power(asked.clone())), covered, "{granted} covers {asked}");
        }
    }

    #[test]
    fn a_receipt_that_is_no_longer_needed_is_more() {
        let plain = power(json!({"call": "kube.delete", "on": {"kind": "Pod"}, "irreversible": true}));
        let mut guarded = plain.clone();
        let day = Some("24h".to_owned());
        guarded.needs_receipt =
            Some(AskReceipt { kind: "backup".to_owned(), subject: None, max_age: day, off_host: false });
        assert!(plain.covers(&guarded) && !guarded.covers(&plain));
    }

    #[test]
    fn another_action_is_more() {
        let one = power(json!({"call": "ssh.reboot"}));
        let other = Granted { action: "other".to_owned(), ..one.clone() };
        assert_eq!(missing(&[one.clone(), other.clone()], &[one]), [&other]);
    }
}
