//! What is not part of the program: packs and plugins from elsewhere, who signed them, and what the lock says of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runbook_model::consent::Granted;
use runbook_model::diagnostic::Diagnostic;
use runbook_model::pack_source::{PackSource, Reference};
use runbook_model::parse::PackMention;
use runbook_model::plan::{Runbook, Step, Uses};
use runbook_packs::allowed_signers::AllowedSigners;
use runbook_packs::image::Digest;
use runbook_packs::layout;
use runbook_packs::lock::{LOCK, Lock, LockedPack, LockedPlugin, MAX_LOCK, Standing, Use};
use runbook_packs::pack::Pack;
use runbook_packs::read_file;
use runbook_packs::store::{Kept, Store};
use runbook_packs::trust::{self, TrustError};

use crate::args::Signers;
use crate::catalog::{Catalog, Origin};
use crate::display::{hint, safe};
use crate::error::CliError;
use crate::runs_dir;
use crate::session::walk;

/// The lock beside a runbook.
pub(crate) struct Beside {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Name of the runbook's file.
    pub(crate) runbook: String,
    pub(crate) lock: Lock,
}

impl Beside {
    /// Reads it; an empty one where there is none.
    pub(crate) fn of(runbook: &Path) -> Result<Self, CliError> {
        let folder = runbook.parent().unwrap_or(Path::new(""));
        let path = folder.join(LOCK);
        let file = runbook.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let lock = match read_file(&path, MAX_LOCK) {
            Ok(text) => Lock::parse(&String::from_utf8_lossy(&text)).map_err(|error| {
                CliError::refused(format!("{}: {}", path.display(), safe(&error.to_string())))
                    .hint(format!("it is written by `runbook grant {}`; put it aside to begin anew", runbook.display()))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Lock::default(),
            Err(error) => return Err(CliError::refused(format!("{}: {error}", path.display()))),
        };
        Ok(Self { path, runbook: file, lock })
    }

    /// Writes it, whole or not at all.
    pub(crate) fn save(&self) -> Result<(), CliError> {
        use std::io::Write as _;
        let beside = self.path.with_extension("lock.new");
        let write = || {
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(self.lock.to_text().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.path)
        };
        write().map_err(|error| CliError::internal(format!("{}: {error}", self.path.display())))
    }
}

/// Whose signatures count.
pub(crate) fn signers(args: &Signers) -> Result<AllowedSigners, CliError> {
    let path = signers_file(args)?;
    let text = match read_file(&path, runbook_packs::allowed_signers::MAX_FILE) {
        Ok(text) => text,
        // Without the file nobody's signature counts, and the refusal says which line would change that.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && args.allowed_signers.is_none() => Vec::new(),
        Err(error) => return Err(CliError::refused(format!("{}: {error}", path.display()))),
    };
    AllowedSigners::parse(&text).map_err(|mistakes| {
        let refused = CliError::refused(format!("{} cannot be read", path.display()));
        mistakes.iter().fold(refused, |error, mistake| error.hint(safe(&mistake.to_string())))
    })
}

/// For commands without an option for it.
fn signers_of_environment() -> Signers {
    Signers { allowed_signers: std::env::var_os("RUNBOOK_ALLOWED_SIGNERS").map(PathBuf::from) }
}

/// Where those are named whose signatures count.
fn signers_file(args: &Signers) -> Result<PathBuf, CliError> {
    match &args.allowed_signers {
        Some(path) => Ok(path.clone()),
        None => Ok(runs_dir::config()?.join("allowed_signers")),
    }
}

/// Why a pack is refused, in the words of the command line.
pub(crate) fn not_trusted(what: &str, pack: &str, error: &TrustError, args: &Signers) -> CliError {
    let refused = CliError::refused(format!("{what}: {}", safe(&error.to_string())));
    match error {
        TrustError::UnknownKey(_) => {
            let file = signers_file(args).map(|path| path.display().to_string()).unwrap_or_default();
            let line = error.line_to_add(pack).unwrap_or_default();
            refused.hint(format!("if you trust whose key that is, add this line to {file}:\n{line}"))
        }
        TrustError::Unsigned => refused.hint("who made it signs it: runbook pack sign PACK --key ~/.ssh/id_ed25519"),
        TrustError::Pack(_) => refused.hint("it was damaged or altered: get it again, from who made it"),
        TrustError::Signature(_) | TrustError::Refused(_) => refused,
    }
}

/// The packs of this machine.
pub(crate) fn store() -> Result<Store, CliError> {
    Ok(Store::at(runs_dir::data()?.join("packs")))
}

/// Reads the pack that a runbook names. Nobody has asked yet who signed it.
pub(crate) fn read_pack(mention: &PackMention, beside: &Beside) -> Result<Pack, CliError> {
    let PackMention { name, source, .. } = mention;
    let refused = |why: String| CliError::refused(format!("pack `{name}`: {}", safe(&why)));
    let path = match PackSource::parse(source) {
        Ok(PackSource::Path(path)) => PathBuf::from(expand(&path)),
        Ok(PackSource::Stored(reference)) => find(name, source, &reference, beside)?.path,
        Err(wrong) => return Err(refused(wrong.to_string()).hint(wrong.help)),
    };
    let image = layout::read(&path).map_err(|error| {
        refused(format!("{}: {error}", path.display())).hint("paths under [packs] are relative to the runbook's folder")
    })?;
    let pack = Pack::read(image).map_err(|error| {
        refused(format!("{}: {error}", path.display()))
            .hint("it was damaged or altered: get it again, from who made it")
    })?;
    // The names of files prove nothing.
    if let Ok(PackSource::Stored(Reference { digest: Some(digest), .. })) = PackSource::parse(source)
        && digest != pack.digest.as_str()
    {
        return Err(refused(format!("{} is {}, not {digest}", path.display(), pack.digest)));
    }
    Ok(pack)
}

fn expand(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => path.to_owned(),
    }
}

/// A pack that is kept here: by digest, else the version that is locked, else the only one with this version.
fn find(name: &str, source: &str, reference: &Reference, beside: &Beside) -> Result<Kept, CliError> {
    let refused = |why: String| CliError::refused(format!("pack `{name}`: {why}"));
    let mut kept = store()?.list().map_err(CliError::internal)?;
    kept.retain(|pack| reference.is_of(&pack.name));
    let locked = beside.lock.pack(&beside.runbook, name).filter(|pack| pack.source == source);
    let digest = match (&reference.digest, reference.version()) {
        (Some(digest), _) => Digest::parse(digest).ok(),
        (None, None) => {
            let newest = kept.first().map_or_else(|| "1.2.0".to_owned(), |pack| pack.version.to_string());
            return Err(refused(format!("`{source}` is no version: what it stands for may be another pack tomorrow"))
                .hint(format!(
                    "write \"{}:{newest}\", or the digest: runbook pack list shows both",
                    reference.repository
                )));
        }
        (None, Some(_)) => locked.map(|pack| pack.digest.clone()),
    };
    let is_meant = |pack: &&Kept| match &digest {
        Some(digest) => pack.digest == *digest,
        None => reference.version().is_some_and(|version| version == pack.version.to_string()),
    };
    let found: Vec<&Kept> = kept.iter().filter(is_meant).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(refused(format!("{source} is not kept on this machine"))
            .hint(format!("runbook pack pull {source}; a file is kept by: runbook pack verify FILE --keep"))),
        several => {
            let error = refused(format!("several packs on this machine are {source}"));
            let hint = |error: CliError, pack: &&Kept| error.hint(format!("{}@{}", reference.repository, pack.digest));
            Err(several.iter().fold(error, hint))
        }
    }
}

/// A path as the lock has it: seen from the folder of the outermost runbook, from wherever that was named.
pub(crate) fn from_folder(runbook: &Path, path: &str) -> String {
    if path.starts_with('~') {
        return path.to_owned();
    }
    let plain = |path: &Path| path.strip_prefix(".").map(Path::to_path_buf).unwrap_or_else(|_| path.to_owned());
    let path = plain(Path::new(path));
    let folder = plain(runbook.parent().unwrap_or(Path::new("")));
    match path.strip_prefix(folder) {
        Ok(rest) if rest.is_relative() => format!("./{}", rest.display()),
        _ => path.display().to_string(),
    }
}

/// The source of a pack as the lock has it.
pub(crate) fn source_from_folder(runbook: &Path, source: &str) -> String {
    match PackSource::parse(source) {
        Ok(PackSource::Path(path)) => from_folder(runbook, &path),
        Ok(PackSource::Stored(_)) | Err(_) => source.to_owned(),
    }
}

/// The plugins from elsewhere that a runbook uses, as they would be locked. `signer` gives the fingerprint of who signed a pack.
pub(crate) fn uses(
    runbook: &Runbook,
    catalog: &Catalog,
    signer: impl Fn(&str, &Pack) -> Result<String, CliError>,
) -> Result<Vec<Use>, CliError> {
    let Some(beside) = catalog.beside() else { return Ok(Vec::new()) };
    let mut asked: BTreeMap<String, Vec<Granted>> = BTreeMap::new();
    walk(runbook, &mut |step: &Step| {
        let Uses::Action { plugin, action } = &step.uses else { return };
        let Some(loaded) = catalog.origin(plugin).and_then(|_| catalog.loaded(plugin)) else { return };
        let powers = asked.entry(plugin.clone()).or_default();
        let of_action = loaded.manifest.action(action).map(Granted::of_action).unwrap_or_default();
        for power in of_action {
            if !powers.contains(&power) {
                powers.push(power);
            }
        }
    });
    let mut uses = Vec::new();
    for (name, granted) in asked {
        let (Some(origin), Some(loaded)) = (catalog.origin(&name), catalog.loaded(&name)) else { continue };
        let (pack, in_pack, source) = match origin {
            Origin::Pack { pack, itself } => (Some(pack.as_str()), itself.clone(), None),
            Origin::File(path) => (None, None, Some(path.clone())),
        };
        let plugin = LockedPlugin {
            runbook: beside.runbook.clone(),
            name,
            pack: pack.map(str::to_owned),
            in_pack,
            source,
            version: loaded.manifest.version.parse().map_err(CliError::internal)?,
            digest: Digest::parse(&format!("sha256:{}", loaded.sha256)).map_err(CliError::internal)?,
            granted,
        };
        let pack = match pack.and_then(|name| catalog.pack(name).map(|found| (name, found))) {
            Some((name, (source, pack))) => Some(LockedPack {
                runbook: beside.runbook.clone(),
                name: name.to_owned(),
                source: source.clone(),
                version: pack.config.version.parse().map_err(CliError::internal)?,
                digest: pack.digest.clone(),
                signer: signer(name, pack)?,
            }),
            None => None,
        };
        uses.push(Use { plugin, pack });
    }
    Ok(uses)
}

/// The fingerprint of who signed a pack, if that counts.
pub(crate) fn signer_of<'a>(
    args: &'a Signers,
    signers: &'a AllowedSigners,
) -> impl Fn(&str, &Pack) -> Result<String, CliError> + 'a {
    move |name, pack| {
        let signer = trust::signer(pack, signers, jiff::Timestamp::now());
        let what = format!("pack `{name}` ({} {})", pack.config.name, pack.config.version);
        signer.map(|(_, fingerprint)| fingerprint).map_err(|error| not_trusted(&what, &pack.config.name, &error, args))
    }
}

/// Takes plugins for a replay, which reaches nothing: packs must be signed, and what the lock says does not matter, for a plugin that was
/// changed is what a replay is for.
pub(crate) fn consent_to_replay(runbook: &Runbook, catalog: &mut Catalog) -> Result<(), CliError> {
    let args = signers_of_environment();
    let known = signers(&args)?;
    uses(runbook, catalog, signer_of(&args, &known))?;
    catalog.consent();
    Ok(())
}

/// How the plugins from elsewhere stand that a runbook uses.
struct Standings {
    /// Why some may not be used: all of it.
    refused: Vec<CliError>,
    /// Those that may, and are newer than what was granted.
    newer: Vec<String>,
}

/// Compares what a runbook uses with who signed it and with what was granted.
fn standings(runbook: &Runbook, catalog: &Catalog) -> Result<Standings, CliError> {
    let mut found = Standings { refused: Vec::new(), newer: Vec::new() };
    let Some(beside) = catalog.beside() else { return Ok(found) };
    let args = signers_of_environment();
    let known = signers(&args)?;
    let signer = signer_of(&args, &known);
    // A pack that is not trusted keeps nobody from hearing of the others.
    let not_trusted: RefCell<BTreeMap<String, CliError>> = RefCell::default();
    let uses = uses(runbook, catalog, |name, pack| {
        let signer = signer(name, pack);
        Ok(signer.unwrap_or_else(|error| {
            not_trusted.borrow_mut().insert(name.to_owned(), error);
            String::new()
        }))
    })?;
    let not_trusted = not_trusted.into_inner();
    let command = format!("runbook grant {}", beside.path.with_file_name(&beside.runbook).display());
    for wanted in &uses {
        if wanted.pack.as_ref().is_some_and(|pack| not_trusted.contains_key(&pack.name)) {
            continue;
        }
        match beside.lock.check(wanted) {
            Ok(Standing::Locked) => {}
            Ok(Standing::Newer) => {
                let (name, version) = (&wanted.plugin.name, &wanted.plugin.version);
                found.newer.push(format!(
                    "`{name}` {version} is newer than what was granted, and asks for no more; {command} locks it"
                ));
            }
            Err(refusal) => {
                let hint = format!("{command} shows what they ask for and why, and writes {LOCK}");
                found.refused.push(CliError::refused(safe_lines(&refusal.to_string())).hint(hint));
            }
        }
    }
    found.refused.extend(not_trusted.into_values());
    Ok(found)
}

/// Decides before the run whether the plugins from elsewhere may be used: signed, locked, granted.
pub(crate) fn consent(runbook: &Runbook, catalog: &mut Catalog) -> Result<(), CliError> {
    if catalog.beside().is_none() {
        return Ok(());
    }
    let Standings { refused, newer } = standings(runbook, catalog)?;
    newer.iter().for_each(|words| hint(words));
    if let Some(error) = CliError::together("plugins are refused", refused) {
        return Err(error.hint("nothing was touched"));
    }
    catalog.consent();
    Ok(())
}

/// What is to be done before a run of a runbook without mistakes can begin: it says nothing against the runbook.
pub(crate) fn notes(runbook: &Runbook, catalog: &Catalog) -> Vec<Diagnostic> {
    let not_granted = |error: CliError| {
        let note = Diagnostic::note("not-granted", error.what);
        if error.hints.is_empty() { note } else { note.help(error.hints.join("\n")) }
    };
    match standings(runbook, catalog) {
        Ok(Standings { refused, newer }) => {
            let newer = newer.into_iter().map(|words| Diagnostic::note("newer-than-granted", words));
            refused.into_iter().map(not_granted).chain(newer).collect()
        }
        Err(error) => vec![not_granted(error)],
    }
}

/// Text of others that has lines of ours.
fn safe_lines(text: &str) -> String {
    text.lines().map(safe).collect::<Vec<_>>().join("\n")
}
