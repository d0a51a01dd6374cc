//! Does a plugin fit this program? Asked before any step runs.

use async_trait::async_trait;
use runbook_engine::plugin::Road;
use runbook_model::call::{CallError, Request, Response};
use semver::Version;
use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker};

use crate::bindings::{Plugin, PluginPre};
use crate::state::State;

/// The interfaces of the world, as it offers them.
const OFFERED: [&str; 5] = [
    "runbook:base/types@0.1.0",
    "runbook:files/trees@0.1.0",
    "runbook:kube/clusters@0.1.0",
    "runbook:plugin/run@0.1.0",
    "runbook:ssh/machines@0.1.0",
];

/// What a plugin must export.
const REQUIRED: &str = "runbook:plugin/action@0.1.0";

/// The packages of WASI 0.2 that are there, with nothing behind files and sockets.
const WASI: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];

/// Everything that a plugin can import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Plugin::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Compares names and versions of imports and exports, without compiling anything.
///
/// # Errors
///
/// What is wanted and what is offered, for all that does not fit.
pub(crate) fn names(component: &runbook_packs::Component) -> Result<(), String> {
    let mut misfits: Vec<String> = component.imports.iter().filter_map(|wanted| import_misfit(wanted)).collect();
    if !component.exports.iter().any(|export| fits(export, REQUIRED)) {
        let (required, _) = split(REQUIRED);
        misfits.push(match component.exports.iter().find(|export| split(export).0 == required) {
            Some(other) => format!("it exports `{other}`, and this version of runbook wants `{REQUIRED}`"),
            None => format!("it does not export `{REQUIRED}`"),
        });
    }
    if misfits.is_empty() { Ok(()) } else { Err(misfits.join("; ")) }
}

fn import_misfit(wanted: &str) -> Option<String> {
    let (interface, version) = split(wanted);
    if let Some(wasi) = interface.strip_prefix("wasi:") {
        let package = wasi.split('/').next().unwrap_or(wasi);
        if !WASI.contains(&package) {
            return Some(format!("it imports `{wanted}`, and of WASI plugins get only {}", WASI.join(", ")));
        }
        let fits = version.is_some_and(|version| version.starts_with("0.2."));
        return (!fits).then(|| format!("it imports `{wanted}`, and this version of runbook offers WASI 0.2"));
    }
    match OFFERED.iter().find(|offered| split(offered).0 == interface) {
        None => Some(format!("it imports `{wanted}`, which this version of runbook does not offer")),
        Some(offered) if !fits(wanted, offered) => {
            Some(format!("it imports `{wanted}`, and this version of runbook offers `{offered}`"))
        }
        Some(_) => None,
    }
}

/// `a:b/c@1.2.3` as `a:b/c` and `1.2.3`.
fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((interface, version)) => (interface, Some(version)),
        None => (name, None),
    }
}

/// Whether the linker would look at `offered` for `wanted`: the same interface, and a version on the same track.
fn fits(wanted: &str, offered: &str) -> bool {
    let track = |version: Option<&str>| {
        let version = Version::parse(version?).ok()?;
        Some(if version.major > 0 { (version.major, 0) } else { (0, version.minor) })
    };
    let (wanted, offered) = (split(wanted), split(offered));
    wanted.0 == offered.0 && track(wanted.1).is_some() && track(wanted.1) == track(offered.1)
}

/// Compares the types of imports and exports.
///
/// # Errors
///
/// The first that does not fit, after those that are newer than what is offered: they are why.
pub(crate) fn types(
    linker: &Linker<State>,
    component: &Component,
    imports: &[String],
) -> wasmtime::Result<PluginPre<State>> {
    let pre = linker.instantiate_pre(component).and_then(PluginPre::new);
    let newer: Vec<String> = imports.iter().filter_map(|wanted| newer(wanted)).collect();
    pre.map_err(|error| if newer.is_empty() { error } else { error.context(newer.join("; ")) })
}

/// What is said of an import that is on the right track, and later than what is offered.
fn newer(wanted: &str) -> Option<String> {
    let offered = OFFERED.into_iter().find(|offered| fits(wanted, offered))?;
    let version = |name| split(name).1.and_then(|version| Version::parse(version).ok());
    (version(wanted)? > version(offered)?)
        .then(|| format!("it imports `{wanted}`, and this version of runbook offers `{offered}`"))
}

/// The road of a plugin that describes itself: nothing answers.
pub(crate) struct NoRoad;

#[async_trait]
impl Road for NoRoad {
    async fn call(&self, _: Request) -> Response {
        Err(CallError::Denied("no capability answers while a plugin describes itself".to_owned()))
    }

    fn targets(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn cluster(&self) -> Option<String> {
        None
    }

    fn now_ms(&self) -> u64 {
        0
    }

    fn seed(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_what_it_says() {
        let engine = crate::engine::start().expect("starts");
        let linker = linker(&engine).expect("links");
        for offered in OFFERED {
            let bytes = wat::parse_str(format!("(component (import \"{offered}\" (instance)))")).expect("is WAT");
            let component = Component::new(&engine, bytes).expect("compiles");
            linker.instantiate_pre(&component).map_err(|e| format!("{e:#}")).expect(offered);
        }
    }

    #[test]
    fn compares_versions_by_track() {
        assert!(fits("a:b/c@0.1.0", "a:b/c@0.1.0"));
        assert!(fits("a:b/c@0.1.7", "a:b/c@0.1.0"));
        assert!(fits("a:b/c@1.4.0", "a:b/c@1.0.0"));
        assert!(!fits("a:b/c@0.2.0", "a:b/c@0.1.0"));
        assert!(!fits("a:b/c@2.0.0", "a:b/c@1.0.0"));
        assert!(!fits("a:b/c", "a:b/c@0.1.0"));
        assert!(!fits("a:b/d@0.1.0", "a:b/c@0.1.0"));
        assert!(!fits("a:b/c@x", "a:b/c@y"));
    }
}
