//! Files on a machine or on the controller.

use crate::bindings::runbook::files::trees as raw;
use crate::effect::{Effect, effect_methods};
use crate::{Context as _, Error, Mode, Result, Text, world};

pub use crate::bindings::runbook::base::types::Verdict;
pub use raw::{Entry, Kind as FileKind, Stat};

/// A tree of files, of [`Machine::files`](crate::Machine::files) or [`Tree::controller`]. Paths are absolute.
#[derive(Debug)]
pub struct Tree {
    raw: world::Tree,
    place: String,
}

impl Tree {
    /// Bytes that [`Tree::read`] takes at most: a plugin's memory is small. What is larger is streamed: see [`Tree::source`].
    pub const READ_LIMIT: u64 = 8 << 20;

    pub(crate) fn new(raw: world::Tree, place: String) -> Self {
        Self { raw, place }
    }

    /// Files on the controller: below the runbook's folder, and where the step's inputs of format `controller-path` point.
    pub fn controller() -> Self {
        Self::new(world::controller(), "the controller".to_owned())
    }

    /// What lies there, links not followed; none where nothing does.
    ///
    /// # Errors
    ///
    /// Where that cannot be seen. Never guessed.
    pub fn stat(&self, path: &str) -> Result<Option<Stat>> {
        Ok(self.raw.stat(path).if_found()?.flatten())
    }

    /// Whether anything lies there.
    ///
    /// # Errors
    ///
    /// Like [`Tree::stat`].
    pub fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.stat(path)?.is_some())
    }

    /// A file's content, up to [`Tree::READ_LIMIT`].
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`](crate::Kind::NotFound) where nothing is there; [`Kind::Invalid`](crate::Kind::Invalid) where it is
    /// larger.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.raw.read(path, Self::READ_LIMIT)?)
    }

    /// A file's content as text.
    ///
    /// # Errors
    ///
    /// Like [`Tree::read`], and where it is not UTF-8.
    pub fn read_text(&self, path: &str) -> Result<String> {
        String::from_utf8(self.read(path)?)
            .map_err(|error| Error::failed(format!("{path} on {} is not a text: {error}", self.place)))
    }

    /// A file's content as text; none where there is no such file.
    ///
    /// # Errors
    ///
    /// Like [`Tree::read_text`].
    pub fn read_text_if_found(&self, path: &str) -> Result<Option<String>> {
        self.read_text(path).if_found()
    }

    /// The entries of a directory, by name.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`](crate::Kind::NotFound) where there is none.
    pub fn list(&self, path: &str) -> Result<Vec<Entry>> {
        Ok(self.raw.list(path)?)
    }

    /// SHA-256 of a file's content, as lower-case hex.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`](crate::Kind::NotFound) where nothing is there.
    pub fn sha256(&self, path: &str) -> Result<String> {
        Ok(self.raw.sha256(path)?)
    }

    /// Opens a file of any size, to be streamed to where it is wanted.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`](crate::Kind::NotFound) where nothing is there.
    pub fn source(&self, path: &str) -> Result<Source> {
        Ok(Source(self.raw.source(path)?))
    }

    /// A file that is to be there: say its content, and then [`NewFile::ensure`].
    ///
    /// ```no_run
    /// # use runbook_sdk::prelude::*;
    /// # fn f(files: &Tree) -> Result<()> {
    /// files.file("/etc/sudoers.d/ops").text("ops ALL=(ALL) ALL\n").mode(0o440).validate(["visudo", "-cf", "{}"]).ensure()?;
    /// # Ok(()) }
    /// ```
    pub fn file(&self, path: impl Into<String>) -> NewFile<'_> {
        let path = path.into();
        let effect = Effect::new(format!("write {path}"));
        NewFile { tree: self, path, content: None, attributes: attributes(), validate: Vec::new(), effect }
    }

    /// A directory that is to be there, its parents included.
    pub fn directory(&self, path: impl Into<String>) -> Directory<'_> {
        let path = path.into();
        let effect = Effect::new(format!("make directory {path}"));
        Directory { tree: self, path, attributes: attributes(), effect }
    }

    /// A symbolic link that is to be there, pointing to `target` as written.
    pub fn link(&self, path: impl Into<String>, target: impl Into<String>) -> Link<'_> {
        let (path, target) = (path.into(), target.into());
        let effect = Effect::new(format!("link {path} to {target}"));
        Link { tree: self, path, target, effect }
    }

    /// A path where nothing is to be. A directory goes with all that is below it.
    pub fn absent(&self, path: impl Into<String>) -> Removal<'_> {
        let path = path.into();
        let effect = Effect::new(format!("remove {path}"));
        Removal { tree: self, path, effect }
    }
}

/// Content that is streamed from where it lies, pinned by size and SHA-256 when it is opened.
#[derive(Debug)]
pub struct Source(world::Source);

impl Source {
    pub(crate) fn of(raw: world::Source) -> Self {
        Self(raw)
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// SHA-256 as lower-case hex.
    pub fn sha256(&self) -> String {
        self.0.sha256()
    }

    pub(crate) fn raw(&self) -> &raw::Source {
        &self.0
    }
}

/// A file that is to be there. What is not said stays as it is, or is the system's default for a new one.
#[must_use = "nothing happens until `ensure`"]
pub struct NewFile<'a> {
    tree: &'a Tree,
    path: String,
    content: Option<Content<'a>>,
    attributes: raw::Attributes,
    validate: Vec<String>,
    effect: Effect,
}

enum Content<'a> {
    Text(Text),
    Bytes(Vec<u8>),
    CopyOf(&'a Source),
}

impl<'a> NewFile<'a> {
    /// It contains this text, with secrets put in by the host.
    pub fn text(mut self, text: impl Into<Text>) -> Self {
        self.content = Some(Content::Text(text.into()));
        self
    }

    /// It contains these bytes.
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.content = Some(Content::Bytes(bytes.into()));
        self
    }

    /// It contains the same as that source.
    pub fn copy_of(mut self, source: &'a Source) -> Self {
        self.content = Some(Content::CopyOf(source));
        self
    }

    /// Program and arguments that are run on the new file before it takes the place of the old one; the argument `{}` stands for
    /// its path. Any exit code but 0 leaves the old file.
    pub fn validate(mut self, argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.validate = argv.into_iter().map(Into::into).collect();
        self
    }

    /// Makes it so, atomically, or plans it.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`](crate::Kind::Invalid) where no content was said; what keeps it from being written.
    pub fn ensure(self) -> Result<Verdict> {
        let content = match self.content {
            Some(Content::Text(text)) => raw::Content::Text(text.to_wit()),
            Some(Content::Bytes(bytes)) => raw::Content::Bytes(bytes),
            Some(Content::CopyOf(source)) => raw::Content::CopyOf(source.raw()),
            None => return Err(Error::invalid(format!("{}: it was not said what the file contains", self.path))),
        };
        let Self { tree, path, attributes, validate, effect, .. } = self;
        Ok(tree.raw.ensure_file(&path, &content, &attributes, &validate, effect.to_wit())?)
    }
}

/// A directory that is to be there. What is not said stays as it is, or is the system's default for a new one.
#[must_use = "nothing happens until `ensure`"]
pub struct Directory<'a> {
    tree: &'a Tree,
    path: String,
    attributes: raw::Attributes,
    effect: Effect,
}

impl Directory<'_> {
    /// Makes it so, or plans it.
    ///
    /// # Errors
    ///
    /// What keeps it from being made.
    pub fn ensure(self) -> Result<Verdict> {
        Ok(self.tree.raw.ensure_directory(&self.path, &self.attributes, self.effect.to_wit())?)
    }
}

/// A symbolic link that is to be there.
#[must_use = "nothing happens until `ensure`"]
pub struct Link<'a> {
    tree: &'a Tree,
    path: String,
    target: String,
    effect: Effect,
}

impl Link<'_> {
    /// Makes it so, or plans it.
    ///
    /// # Errors
    ///
    /// What keeps it from being made.
    pub fn ensure(self) -> Result<Verdict> {
        Ok(self.tree.raw.ensure_link(&self.path, &self.target, self.effect.to_wit())?)
    }
}

/// A path where nothing is to be.
#[must_use = "nothing happens until `ensure`"]
pub struct Removal<'a> {
    tree: &'a Tree,
    path: String,
    effect: Effect,
}

impl Removal<'_> {
    /// Makes it so, or plans it.
    ///
    /// # Errors
    ///
    /// What keeps it from being removed.
    pub fn ensure(self) -> Result<Verdict> {
        Ok(self.tree.raw.ensure_absent(&self.path, self.effect.to_wit())?)
    }
}

fn attributes() -> raw::Attributes {
    raw::Attributes { mode: None, owner: None, group: None }
}

macro_rules! attribute_methods {
    ($($type:ident),*) => { $(
        impl $type<'_> {
            /// Permission bits, such as `0o644`; a `Mode`, a number, or an option of a `Mode`.
            pub fn mode(mut self, mode: impl IntoMode) -> Self {
                self.attributes.mode = mode.into_mode();
                self
            }

            /// Name or number of the owner; an option of it leaves out what is none.
            pub fn owner(mut self, owner: impl IntoName) -> Self {
                self.attributes.owner = owner.into_name();
                self
            }

            /// Name or number of the group; an option of it leaves out what is none.
            pub fn group(mut self, group: impl IntoName) -> Self {
                self.attributes.group = group.into_name();
                self
            }
        }
    )* };
}

macro_rules! summary_methods {
    ($($type:ident),*) => { $(
        impl $type<'_> {
            /// What it is for, short and imperative, instead of the words that the path makes.
            pub fn summary(mut self, summary: impl Into<String>) -> Self {
                self.effect.set_summary(summary);
                self
            }

            effect_methods!();
        }
    )* };
}

attribute_methods!(NewFile, Directory);
summary_methods!(NewFile, Directory, Link, Removal);

/// What can be given as permission bits.
pub trait IntoMode {
    /// The bits, or none.
    fn into_mode(self) -> Option<u32>;
}

impl IntoMode for u32 {
    fn into_mode(self) -> Option<u32> {
        Some(self)
    }
}

impl IntoMode for Mode {
    fn into_mode(self) -> Option<u32> {
        Some(self.bits())
    }
}

impl IntoMode for Option<Mode> {
    fn into_mode(self) -> Option<u32> {
        self.map(Mode::bits)
    }
}

/// What can be given as a name.
pub trait IntoName {
    /// The name, or none.
    fn into_name(self) -> Option<String>;
}

impl IntoName for &str {
    fn into_name(self) -> Option<String> {
        Some(self.to_owned())
    }
}

impl IntoName for String {
    fn into_name(self) -> Option<String> {
        Some(self)
    }
}

impl IntoName for Option<String> {
    fn into_name(self) -> Option<String> {
        self
    }
}
