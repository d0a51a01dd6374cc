//! Vars, hosts and clusters with the values of a run in their templates.

use serde_json::{Map, Value};

use crate::expr::{ExprError, HostView, Scope, render, text};
use crate::plan::{Cluster, Host, Kubeconfig, Runbook};

/// Puts the runbook's vars into a scope whose inputs are there already. What is computed or unknown stays so.
///
/// # Errors
///
/// A var that has no value.
pub fn vars(runbook: &Runbook, scope: &mut Scope) -> Result<(), ExprError> {
    scope.vars = Map::new();
    for (name, template) in &runbook.vars {
        let wrapped = Value::Object(Map::from_iter([(name.clone(), template.clone())]));
        let rendered = render(&wrapped, scope).map_err(|e| ExprError { path: format!("vars{}", e.path), ..e })?;
        if !rendered.computed.is_empty() {
            scope.computed.insert(format!("vars.{name}"));
        }
        if let Some(unknown) = rendered.unknown.into_iter().next() {
            scope.unknown.insert(format!("vars.{name}"), unknown.step);
        }
        if let Value::Object(values) = rendered.value {
            scope.vars.extend(values);
        }
    }
    Ok(())
}

/// A host with the values of inputs and vars in its texts. Its vars and its password may hold secrets, as references.
///
/// # Errors
///
/// A text that has no value, or must not hold a secret.
pub fn host(host: &Host, scope: &Scope) -> Result<Host, ExprError> {
    let at = |field: &str, e: ExprError| ExprError { path: format!("hosts.{}.{field}{}", host.name, e.path), ..e };
    let optional = |field: &str, value: &Option<String>| {
        value.as_ref().map(|v| plain(v, scope).map_err(|e| at(field, e))).transpose()
    };
    let mut out = host.clone();
    out.addresses =
        host.addresses.iter().map(|a| plain(a, scope).map_err(|e| at("address", e))).collect::<Result<_, _>>()?;
    out.user = optional("user", &host.user)?;
    out.identity_file = optional("identity_file", &host.identity_file)?;
    out.known_hosts = optional("known_hosts", &host.known_hosts)?;
    out.host_key = optional("host_key", &host.host_key)?;
    out.vars = match render(&Value::Object(host.vars.clone()), scope).map_err(|e| at("vars", e))?.value {
        Value::Object(vars) => vars,
        _ => Map::new(),
    };
    if let Some(password) = &host.elevation.password {
        out.elevation.password = Some(render(password, scope).map_err(|e| at("become.password", e))?.value);
    }
    Ok(out)
}

/// A cluster with the values of inputs and vars in its texts.
///
/// # Errors
///
/// A text that has no value, or holds a secret.
pub fn cluster(cluster: &Cluster, scope: &Scope) -> Result<Cluster, ExprError> {
    let at = |field: &str, e: ExprError| ExprError { path: format!("clusters.{}.{field}", cluster.name), ..e };
    let optional = |field: &str, value: &Option<String>| {
        value.as_ref().map(|v| plain(v, scope).map_err(|e| at(field, e))).transpose()
    };
    let mut out = cluster.clone();
    out.context = optional("context", &cluster.context)?;
    out.server = optional("server", &cluster.server)?;
    out.uid = optional("uid", &cluster.uid)?;
    match &mut out.kubeconfig {
        Kubeconfig::File(path) => *path = plain(path, scope).map_err(|e| at("kubeconfig", e))?,
        Kubeconfig::Host { command, .. } => {
            for argument in command {
                *argument = plain(argument, scope).map_err(|e| at("kubeconfig.command", e))?;
            }
        }
    }
    Ok(out)
}

/// A resolved host as expressions see it; `address` is the one that answered, if one did.
pub fn view(host: &Host, address: Option<&str>) -> HostView {
    HostView {
        name: host.name.clone(),
        address: address.map(str::to_owned).or_else(|| host.addresses.first().cloned()),
        labels: host.labels.clone(),
        vars: host.vars.clone(),
    }
}

fn plain(template: &str, scope: &Scope) -> Result<String, ExprError> {
    text(template, scope)?.ok_or_else(|| ExprError {
        path: String::new(),
        expression: template.to_owned(),
        message: "this must be known before the run begins".to_owned(),
        help: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture::{Texts, catalog};

    fn runbook(password: &str) -> Runbook {
        let text = format!(
            r#"
schema = 1
name = "x"
[inputs.ip]
type = "string"
[inputs.pw]
type = "secret"
[vars]
base = "/srv/{{{{ inputs.ip }}}}"
below = "{{{{ vars.base }}}}/x"
[hosts.n1]
addresses = ["{{{{ inputs.ip }}}}", "n1.example"]
become = {{ method = "sudo", password = "{password}" }}
vars = {{ home = "{{{{ vars.below }}}}", token = "{{{{ inputs.pw }}}}" }}
[clusters.home]
kubeconfig = "{{{{ vars.base }}}}/kube"
[[step]]
id = "a"
uses = "core/assert"
with = {{ that = true }}
"#
        );
        let (runbook, diagnostics) = crate::parse::load("x.toml", &text, &Texts::default(), &catalog());
        runbook.unwrap_or_else(|| panic!("{diagnostics:#?}"))
    }

    fn scope() -> Scope {
        let inputs = json!({"ip": "192.0.2.1", "pw": {"$secret": "pw"}});
        Scope { inputs: inputs.as_object().cloned().unwrap_or_default(), ..Scope::default() }
    }

    #[test]
    fn vars_see_those_above_and_hosts_see_all() {
        let runbook = runbook("{{ inputs.pw }}");
        let mut scope = scope();
        vars(&runbook, &mut scope).expect("vars resolve");
        assert_eq!(scope.vars["below"], "/srv/192.0.2.1/x");
        let resolved = host(&runbook.hosts[0], &scope).expect("the host resolves");
        assert_eq!(resolved.addresses, ["192.0.2.1", "n1.example"]);
        assert_eq!(resolved.elevation.password, Some(json!({"$secret": "pw"})));
        assert_eq!(resolved.vars["home"], "/srv/192.0.2.1/x");
        assert_eq!(resolved.vars["token"], json!({"$secret": "pw"}));
        let seen = view(&resolved, Some("n1.example"));
        assert_eq!(seen.address.as_deref(), Some("n1.example"));
        let home = cluster(&runbook.clusters[0], &scope).expect("the cluster resolves");
        assert_eq!(home.kubeconfig, Kubeconfig::File("/srv/192.0.2.1/kube".to_owned()));
    }

    #[test]
    fn what_is_computed_or_unknown_stays_so() {
        let runbook = runbook("x");
        let mut scope = scope();
        scope.unknown.insert("inputs.ip".to_owned(), "outer".to_owned());
        vars(&runbook, &mut scope).expect("vars resolve");
        assert_eq!(scope.unknown.get("vars.below").map(String::as_str), Some("outer"));
        assert!(scope.computed.contains("vars.below"));
        let error = host(&runbook.hosts[0], &scope).expect_err("an address must be known");
        assert!(error.to_string().contains("hosts.n1.address"), "{error}");
    }
}
