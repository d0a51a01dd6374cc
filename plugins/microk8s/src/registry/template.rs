//! `containerd-template.toml`: which generation a node is of, and the edit that the old one needs.
//!
//! Nodes first installed with 1.23 or later have `config_path`, and a file for each registry. A node that was installed before keeps
//! its old template through every refresh, with tables `registry.mirrors`. Both together, and containerd refuses its whole part for
//! Kubernetes: no pod starts any more.

use runbook_sdk::edit::{Marker, ensure_block};

use super::hosts_toml::quoted;
use super::input::Registry;

/// How a node's containerd takes registries.
#[derive(Debug, PartialEq)]
pub(super) enum Generation {
    /// A file for each, below `args/certs.d`.
    CertsD,
    /// Tables of the template.
    Mirrors {
        /// The table `registry`, as the template writes it: `plugins."io.containerd.grpc.v1.cri".registry`.
        table: String,
    },
}

impl Generation {
    /// As the outputs have it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::CertsD => "certs.d",
            Self::Mirrors { .. } => "mirrors",
        }
    }
}

/// What the template is to be.
#[derive(Debug, PartialEq)]
pub(super) struct Edit {
    /// Its text.
    pub(super) text: String,
    /// The lines of it that are about this registry.
    pub(super) body: String,
}

/// A line of the template that is no comment, with its number and the table that it stands in.
struct Line<'a> {
    number: usize,
    table: String,
    content: &'a str,
    is_header: bool,
}

/// Without quotes and white space, so that names can be compared.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '"' | '\'') && !c.is_whitespace()).collect()
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut table = String::new();
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let header = content.strip_prefix('[').and_then(|rest| rest.split(" #").next()?.trim_end().strip_suffix(']'));
        // An element of a list over several lines begins and ends so too, but has no key before.
        let is_header = header.is_some_and(|header| !header.contains(',') && !header.contains('='));
        if let (Some(header), true) = (header, is_header) {
            table = plain(header);
        }
        found.push(Line { number: index + 1, table: table.clone(), content, is_header });
    }
    found
}

fn value<'a>(line: &Line<'a>, key: &str) -> Option<&'a str> {
    let (name, value) = line.content.split_once('=')?;
    (!line.is_header && plain(name) == key).then(|| value.trim())
}

/// Which generation a template is of.
///
/// # Errors
///
/// Why it must not be touched, and what to do.
pub(super) fn generation(text: &str, data_dir: &str) -> Result<Generation, String> {
    let lines = lines(text);
    let config_path = lines.iter().filter(|line| line.table.ends_with(".registry")).find_map(|line| {
        let path = value(line, "config_path")?.split('#').next()?.trim().trim_matches(['"', '\'']);
        (!path.is_empty()).then_some((line.number, path))
    });
    let Some((number, path)) = config_path else {
        let table = |line: &&str| {
            let header = line.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
            let name = plain(header);
            (name.starts_with("plugins.") && name.ends_with(".registry")).then(|| header.to_owned())
        };
        let table = text.lines().find_map(|line| table(&line));
        let table = table.unwrap_or_else(|| "plugins.\"io.containerd.grpc.v1.cri\".registry".to_owned());
        return Ok(Generation::Mirrors { table });
    };
    let mirrors: Vec<String> = lines
        .iter()
        .filter(|line| line.is_header && line.table.contains(".registry.mirrors."))
        .map(|line| line.number.to_string())
        .collect();
    if !mirrors.is_empty() {
        return Err(format!(
            "it has `config_path` (line {number}) and tables `registry.mirrors` (line {}). containerd refuses both together, and \
             no pod starts after its next restart. Remove these tables: each becomes a file certs.d/HOST:PORT/hosts.toml, \
             which this action writes",
            mirrors.join(", ")
        ));
    }
    let ours = [format!("{data_dir}/args/certs.d"), "${SNAP_DATA}/args/certs.d".to_owned()];
    if !path.split(':').any(|path| ours.contains(&path.trim_end_matches('/').to_owned())) {
        return Err(format!(
            "its `config_path` (line {number}) is {path:?}: this action writes {}. Set it to \"${{SNAP_DATA}}/args/certs.d\" \
             and restart MicroK8s, or write the file there with core/file",
            ours[0]
        ));
    }
    Ok(Generation::CertsD)
}

/// The template of the old generation, with this registry in it.
///
/// # Errors
///
/// Where somebody else's lines say something else of it.
pub(super) fn edit(text: &str, table: &str, registry: &Registry, authority: Option<&str>) -> Result<Edit, String> {
    let host = registry.namespace_host();
    let endpoints = match registry.mirror_of.as_deref() {
        None => vec![registry.url()],
        Some("docker.io") => vec![registry.url(), "https://registry-1.docker.io".to_owned()],
        Some(host) => vec![registry.url(), format!("https://{host}")],
    };
    let listed: Vec<String> = endpoints.iter().map(|url| quoted(url)).collect();
    let mut body = format!("[{table}.mirrors.{}]\n  endpoint = [{}]\n", quoted(host), listed.join(", "));
    let mut tls = String::new();
    if let Some(path) = authority {
        tls.extend(["  ca_file = ", &quoted(path), "\n"]);
    }
    if registry.skip_verify {
        tls.push_str("  insecure_skip_verify = true\n");
    }
    if !tls.is_empty() {
        body.extend(["[", table, ".configs.", &quoted(&registry.endpoint), ".tls]\n", &tls]);
    }

    let marker = Marker::new(&format!("runbook registry {host}"));
    let without = ensure_block(text, &marker, "").map_err(|error| error.to_string())?;
    let wanted = format!("{}.mirrors.{host}", plain(table));
    let theirs: Vec<Line<'_>> = lines(&without).into_iter().filter(|line| line.table == wanted).collect();
    let Some(first) = theirs.first() else {
        return Ok(Edit { text: ensure_block(text, &marker, &body).map_err(|error| error.to_string())?, body });
    };
    let says = theirs.iter().find_map(|line| value(line, "endpoint")).map(urls).unwrap_or_default();
    if says == endpoints && tls.is_empty() {
        let body =
            theirs.iter().find(|line| value(line, "endpoint").is_some()).map_or("", |line| line.content).to_owned();
        return Ok(Edit { text: without, body });
    }
    Err(format!(
        "line {} has a table for {host} already, which this program did not write: endpoint {says:?}, and wanted is \
         {endpoints:?}. Remove that table, and run this again",
        first.number
    ))
}

/// The strings of a list on one line.
fn urls(list: &str) -> Vec<String> {
    list.split('"').skip(1).step_by(2).map(|url| url.trim_end_matches('/').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use runbook_sdk::prelude::*;

    use super::super::input::registry;
    use super::*;

    const NEW: &str = include_str!("../../testdata/containerd-template.toml");
    const OLD: &str = include_str!("../../testdata/containerd-template-1.22.toml");
    const DATA: &str = "/var/snap/microk8s/current";
    const TABLE: &str = "plugins.\"io.containerd.grpc.v1.cri\".registry";

    fn homeslice(more: Value) -> Registry {
        let mut with = json!({ "endpoint": "registry.localdomain:32000" });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        registry(with).unwrap()
    }

    #[test]
    fn both_generations_are_told_apart() {
        assert_eq!(generation(NEW, DATA), Ok(Generation::CertsD));
        assert_eq!(generation(OLD, DATA), Ok(Generation::Mirrors { table: TABLE.to_owned() }));
        let off = NEW.replace("config_path =", "#config_path =");
        assert_eq!(generation(&off, DATA), Ok(Generation::Mirrors { table: TABLE.to_owned() }));
        let absolute = NEW.replace("${SNAP_DATA}", DATA);
        assert_eq!(generation(&absolute, DATA), Ok(Generation::CertsD));
    }

    #[test]
    fn what_would_stop_every_pod_is_refused() {
        let both = format!("{NEW}\n    [{TABLE}.mirrors.\"r.lan:5000\"]\n      endpoint = [\"http://r.lan:5000\"]\n");
        let error = generation(&both, DATA).unwrap_err();
        assert!(error.contains("refuses both"), "{error}");
        let elsewhere = NEW.replace("${SNAP_DATA}/args", "/etc/containerd");
        assert!(generation(&elsewhere, DATA).unwrap_err().contains("/etc/containerd/certs.d"));
    }

    #[test]
    fn the_old_template_gets_a_table() {
        let plain = homeslice(json!({ "insecure": true }));
        let first = edit(OLD, TABLE, &plain, None).unwrap();
        assert!(first.text.starts_with(OLD));
        assert!(first.text.contains(&format!(
            "[{TABLE}.mirrors.\"registry.localdomain:32000\"]\n  endpoint = [\"http://registry.localdomain:32000\"]\n"
        )));
        assert!(first.text.contains(&first.body));
        assert_eq!(edit(&first.text, TABLE, &plain, None), Ok(first.clone_for_test()));

        let tls = edit(&first.text, TABLE, &homeslice(json!({ "skip_verify": true })), Some("/ca.crt")).unwrap();
        assert!(tls.text.contains("endpoint = [\"https://registry.localdomain:32000\"]"), "{}", tls.text);
        assert!(tls.body.ends_with("ca_file = \"/ca.crt\"\n  insecure_skip_verify = true\n"), "{}", tls.body);
    }

    impl Edit {
        fn clone_for_test(&self) -> Self {
            Self { text: self.text.clone(), body: self.body.clone() }
        }
    }

    #[test]
    fn tables_of_others_are_left_alone() {
        let shipped = registry(json!({ "endpoint": "localhost:32000", "insecure": true })).unwrap();
        let same = edit(OLD, TABLE, &shipped, None).unwrap();
        assert_eq!(same.text, OLD);
        assert!(OLD.contains(&same.body) && same.body.starts_with("endpoint"));

        let secure = registry(json!({ "endpoint": "localhost:32000" })).unwrap();
        assert!(edit(OLD, TABLE, &secure, None).unwrap_err().contains("Remove that table"));
    }
}
