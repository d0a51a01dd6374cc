//! `runbook:files/trees`.

use runbook_model::call::{
    Act, Answer, Attributes, Call, CallError, Change, Content, FileKind, FileWant, FilesAct, FilesLook, Look,
    SourceRef, Stat, Target,
};
use wasmtime::component::Resource;

use crate::bindings::runbook::base::types::{Effect, Verdict};
use crate::bindings::runbook::files::trees as guest;
use crate::convert::{self, path as checked, take};
use crate::state::{Fault, State, Tree};

/// Bytes that a guest may read at once: they have to fit into its memory. Larger files are streamed from a source.
const MAX_READ: u64 = 64 << 20;

/// Permission bits with set-user-id, set-group-id and sticky.
const MODE_BITS: u32 = 0o7777;

impl State {
    async fn files_look(&mut self, tree: &Resource<Tree>, look: FilesLook) -> Result<Answer, Fault> {
        let target = self.table.get(tree)?.target.clone();
        self.look(target, Look::Files(look)).await
    }

    async fn ensure(
        &mut self,
        tree: &Resource<Tree>,
        path: String,
        want: FileWant,
        effect: Effect,
    ) -> Result<Verdict, Fault> {
        let target = self.table.get(tree)?.target.clone();
        let act = Act::Files(FilesAct { path: checked(path)?, want });
        let answer = self.answer(target, Call::Change(Change { act, effect: convert::effect(effect) })).await?;
        convert::verdict(answer)
    }
}

impl guest::Host for State {
    async fn controller(&mut self) -> wasmtime::Result<Resource<Tree>> {
        self.push(Tree { target: Target::Controller })
    }
}

impl guest::HostTree for State {
    async fn stat(&mut self, tree: Resource<Tree>, path: String) -> Result<Option<guest::Stat>, Fault> {
        let answer = self.files_look(&tree, FilesLook::Stat { path: checked(path)? }).await?;
        Ok(take!(answer, Answer::Stat).map(stat))
    }

    async fn read(&mut self, tree: Resource<Tree>, path: String, limit: u64) -> Result<Vec<u8>, Fault> {
        let look = FilesLook::Read { path: checked(path)?, limit: limit.min(MAX_READ) };
        let answer = self.files_look(&tree, look).await?;
        Ok(take!(answer, Answer::Bytes).0)
    }

    async fn list(&mut self, tree: Resource<Tree>, path: String) -> Result<Vec<guest::Entry>, Fault> {
        let answer = self.files_look(&tree, FilesLook::List { path: checked(path)? }).await?;
        let entries = take!(answer, Answer::Entries);
        Ok(entries.into_iter().map(|entry| guest::Entry { name: entry.name, stat: stat(entry.stat) }).collect())
    }

    async fn sha256(&mut self, tree: Resource<Tree>, path: String) -> Result<String, Fault> {
        let answer = self.files_look(&tree, FilesLook::Sha256 { path: checked(path)? }).await?;
        Ok(take!(answer, Answer::Text))
    }

    async fn source(&mut self, tree: Resource<Tree>, path: String) -> Result<Resource<SourceRef>, Fault> {
        let answer = self.files_look(&tree, FilesLook::Source { path: checked(path)? }).await?;
        Ok(self.push(take!(answer, Answer::Source))?)
    }

    async fn ensure_file(
        &mut self,
        tree: Resource<Tree>,
        path: String,
        content: guest::Content,
        attributes: guest::Attributes,
        validate: Vec<String>,
        effect: Effect,
    ) -> Result<Verdict, Fault> {
        let content = match content {
            guest::Content::Bytes(bytes) => Content::Bytes(bytes.into()),
            guest::Content::Text(text) => Content::Text(convert::text(text)),
            guest::Content::CopyOf(source) => Content::CopyOf(self.table.get(&source)?.clone()),
        };
        let want = FileWant::File { content, attributes: wanted(attributes)?, validate };
        self.ensure(&tree, path, want, effect).await
    }

    async fn ensure_directory(
        &mut self,
        tree: Resource<Tree>,
        path: String,
        attributes: guest::Attributes,
        effect: Effect,
    ) -> Result<Verdict, Fault> {
        self.ensure(&tree, path, FileWant::Directory { attributes: wanted(attributes)? }, effect).await
    }

    async fn ensure_link(
        &mut self,
        tree: Resource<Tree>,
        path: String,
        target: String,
        effect: Effect,
    ) -> Result<Verdict, Fault> {
        self.ensure(&tree, path, FileWant::Link { target: checked(target)? }, effect).await
    }

    async fn ensure_absent(&mut self, tree: Resource<Tree>, path: String, effect: Effect) -> Result<Verdict, Fault> {
        self.ensure(&tree, path, FileWant::Absent, effect).await
    }

    async fn drop(&mut self, tree: Resource<Tree>) -> wasmtime::Result<()> {
        self.table.delete(tree)?;
        Ok(())
    }
}

impl guest::HostSource for State {
    async fn size(&mut self, source: Resource<SourceRef>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&source)?.size)
    }

    async fn sha256(&mut self, source: Resource<SourceRef>) -> wasmtime::Result<String> {
        Ok(self.table.get(&source)?.sha256.clone())
    }

    async fn drop(&mut self, source: Resource<SourceRef>) -> wasmtime::Result<()> {
        self.table.delete(source)?;
        Ok(())
    }
}

fn wanted(attributes: guest::Attributes) -> Result<Attributes, Fault> {
    if let Some(mode) = attributes.mode.filter(|mode| *mode > MODE_BITS) {
        return Err(Fault::Call(CallError::Invalid(format!("0o{mode:o} is not a file mode"))));
    }
    Ok(Attributes {
        mode: attributes.mode,
        owner: convert::optional_name("an owner", attributes.owner)?,
        group: convert::optional_name("a group", attributes.group)?,
    })
}

fn stat(stat: Stat) -> guest::Stat {
    guest::Stat {
        kind: match stat.kind {
            FileKind::File => guest::Kind::File,
            FileKind::Directory => guest::Kind::Directory,
            FileKind::Link => guest::Kind::Link,
            FileKind::Other => guest::Kind::Other,
        },
        size: stat.size,
        mode: stat.mode,
        owner: stat.owner,
        group: stat.group,
        link_target: stat.link_target,
    }
}
