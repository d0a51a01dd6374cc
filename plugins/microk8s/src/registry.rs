//! `registry`: each node pulls from a private registry.

mod etc_hosts;
mod explain;
mod hosts_toml;
mod input;
mod node;
mod probe;
mod pull;
mod template;

use runbook_sdk::prelude::*;

use input::{Authority, Input, Registry};
use node::{Node, Status};
use template::Generation;

/// What stands under `outputs`.
#[derive(Serialize)]
pub(crate) struct Outputs {
    generation: &'static str,
    path: String,
    changed: bool,
}

pub(crate) fn converge(input: Input) -> Result<Outputs> {
    let registry = Registry::new(input)?;
    let node = Node::target(&registry.data_dir)?;
    let template = node.template()?;
    let generation = node.generation(&template)?;
    refuse_a_pull_that_cannot_be(&registry, &node, &generation)?;
    let mut changed = name(&registry, &node)?;
    let path = match &generation {
        Generation::CertsD => {
            changed |= certs_d(&registry, &node)?;
            node.hosts_toml(&registry)
        }
        Generation::Mirrors { table } => {
            changed |= mirrors(&registry, &node, &template, table)?;
            node.template_path()
        }
    };
    // What was changed is proved by `verify`. What was not, here: an earlier run may have ended before its proof.
    if !changed {
        match &registry.pull {
            Some(image) if !pull::has(&node, image)? => prove(&registry, &node, &generation, image)?,
            _ => warn_if_it_does_not_answer(&registry, &node)?,
        }
    }
    Ok(Outputs { generation: generation.name(), path, changed })
}

fn prove(registry: &Registry, node: &Node, generation: &Generation, image: &str) -> Result<()> {
    let wrong = pull::pulls(registry, node, generation, image)?;
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

fn warn_if_it_does_not_answer(registry: &Registry, node: &Node) -> Result<()> {
    for wrong in probe::answers(registry, node).if_known()?.unwrap_or_default() {
        warn!("{} is set up, but: {wrong}", registry.endpoint);
    }
    Ok(())
}

pub(crate) fn verify(input: Input) -> Result<Vec<String>> {
    let registry = Registry::new(input)?;
    let node = Node::target(&registry.data_dir)?;
    let wrong = probe::answers(&registry, &node)?;
    if !wrong.is_empty() {
        return Ok(wrong);
    }
    match &registry.pull {
        Some(image) => {
            let generation = node.generation(&node.template()?)?;
            pull::pulls(&registry, &node, &generation, image)
        }
        None => Ok(Vec::new()),
    }
}

/// Before anything is changed: the proof that the step asks for must be possible.
fn refuse_a_pull_that_cannot_be(registry: &Registry, node: &Node, generation: &Generation) -> Result<()> {
    if registry.pull.is_none() {
        return Ok(());
    }
    if matches!(generation, Generation::Mirrors { .. }) && Cluster::optional().is_none() {
        invalid!(
            "`pull` needs `cluster = \"NAME\"` for {}: its containerd has a template from before 1.23, and what \
             `microk8s ctr` pulls there proves nothing. Name the cluster, or leave `pull` out",
            node.name()
        );
    }
    if node.status()? == Status::Stopped {
        conflict!(
            "MicroK8s is stopped on {}, so that nothing can be pulled there: start it with `microk8s start`, or leave \
             `pull` out",
            node.name()
        );
    }
    Ok(())
}

/// The registry's name in /etc/hosts.
fn name(registry: &Registry, node: &Node) -> Result<bool> {
    let Some(address) = &registry.address else { return Ok(false) };
    const PATH: &str = "/etc/hosts";
    let files = node.machine.files();
    let now = files.read_text_if_found(PATH)?.unwrap_or_default();
    let wanted = etc_hosts::ensure(&now, address, registry.host());
    let verdict = files
        .file(PATH)
        .text(wanted)
        .summary(format!("say in {PATH} that {} is {address}", registry.host()))
        .ensure()?;
    Ok(verdict != Verdict::Unchanged)
}

/// 1.23 and later: a file that is read at each pull. Nothing restarts.
fn certs_d(registry: &Registry, node: &Node) -> Result<bool> {
    let files = node.machine.files();
    let directory = node.hosts_dir(registry);
    // What is there keeps its mode: older versions made it 0770 for the group microk8s, which does as well.
    let mode = |path: &str, new: u32| -> Result<Option<Mode>> {
        Ok(if files.exists(path)? { None } else { Some(Mode::new(new)) })
    };
    let mut changed = files.directory(&directory).mode(mode(&directory, 0o755)?).ensure()? != Verdict::Unchanged;
    let authority = match &registry.authority {
        Some(Authority::Path(path)) => {
            ensure!(
                files.exists(path)?,
                "{} has no {path}, which `ca` names: put the certificate of the registry's authority there, or give \
                 its PEM text as `ca`",
                node.name()
            );
            Some(path.clone())
        }
        Some(Authority::Pem(pem)) => {
            let path = format!("{directory}/ca.crt");
            let verdict = files.file(&path).text(pem).mode(mode(&path, 0o644)?).ensure()?;
            changed |= verdict != Verdict::Unchanged;
            Some(path)
        }
        None => None,
    };
    let path = node.hosts_toml(registry);
    let text = hosts_toml::text(registry, authority.as_deref());
    let verdict = files
        .file(&path)
        .text(text)
        .mode(mode(&path, 0o644)?)
        .summary(format!("say in {path} how {} is reached", registry.namespace_host()))
        .ensure()?;
    Ok(changed | (verdict != Verdict::Unchanged))
}

/// Before 1.23: tables of the template, which containerd reads when it starts.
fn mirrors(registry: &Registry, node: &Node, template: &str, table: &str) -> Result<bool> {
    let files = node.machine.files();
    let mut changed = false;
    let authority = match &registry.authority {
        Some(Authority::Path(path)) => Some(path.clone()),
        Some(Authority::Pem(pem)) => {
            let directory = node.hosts_dir(registry);
            changed |= files.directory(&directory).ensure()? != Verdict::Unchanged;
            let path = format!("{directory}/ca.crt");
            changed |= files.file(&path).text(pem).mode(0o644_u32).ensure()? != Verdict::Unchanged;
            Some(path)
        }
        None => None,
    };
    let path = node.template_path();
    let edit = template::edit(template, table, registry, authority.as_deref())
        .map_err(|why| Error::conflict(format!("{path} on {}: {why}", node.name())))?;
    let template::Edit { text, body } = edit;

    // What containerd was started with is made of the template at each start: it says whether the template has been read. So a
    // restart that was missed, by whatever became of an earlier run, is found here.
    let rendered_path = node.rendered_path();
    let rendered = files.read_text_if_found(&rendered_path)?.unwrap_or_default();
    if !rendered.contains(&body) {
        if node.status()? == Status::Stopped {
            info!("MicroK8s is stopped on {}: containerd reads its template when it is started again", node.name());
        } else {
            // Deferred before the template is written: also a crash in between does not forget it.
            node.machine
                .cmd(["snap", "restart", "microk8s.daemon-containerd"])
                .privileged()
                .timeout(Period::minutes(3))
                .change("restart containerd, so that it reads its template (containers keep running)")
                .harmless()
                .alters([format!("path:{rendered_path}"), "service:snap.microk8s.daemon-containerd".to_owned()])
                .at_step_end()
                .run()?;
            changed = true;
        }
    }
    let verdict = files
        .file(&path)
        .text(text)
        .summary(format!("say in {path} how {} is reached", registry.namespace_host()))
        .ensure()?;
    Ok(changed | (verdict != Verdict::Unchanged))
}
