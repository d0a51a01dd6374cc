"""Files on a machine or on the controller."""

from typing import Sequence

from wit_world.imports import trees as raw
from wit_world.imports import types
from wit_world.imports.types import Verdict

from .commands import NOW, Timing
from .errors import Failed, call, if_found
from .text import Text, to_wit

# Bytes that `Tree.read` takes at most: a plugin's memory is small.
READ_LIMIT = 8 << 20


class Tree:
    """A tree of files. Paths are absolute."""

    def __init__(self, handle: raw.Tree):
        self._raw = handle

    @staticmethod
    def controller() -> "Tree":
        """Files on the controller: below the runbook's folder, and where inputs of format `controller-path` point."""
        return Tree(raw.controller())

    def stat(self, path: str) -> raw.Stat | None:
        """What lies there, links not followed; None where nothing does. Never guessed."""
        return if_found(lambda: call(self._raw.stat, path))

    def list(self, path: str) -> list[raw.Entry]:
        """The entries of a directory, by name."""
        return call(self._raw.list, path)

    def read(self, path: str) -> bytes:
        """A file's content."""
        return call(self._raw.read, path, READ_LIMIT)

    def read_text(self, path: str) -> str | None:
        """A file's content as text; None where there is no such file."""
        content = if_found(lambda: self.read(path))
        if content is None:
            return None
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise Failed(f"{path} is not a text: {error}") from None

    def file(
        self,
        path: str,
        content: Text | bytes,
        *,
        mode: int | None = None,
        owner: str | None = None,
        group: str | None = None,
        validate: Sequence[str] = (),
        summary: str = "",
        alters: Sequence[str] = (),
        timing: Timing = NOW,
    ) -> bool:
        """The file has this content; the rest as it says, or as it is. True where it was not so: then it is, or will be.

        `validate` is run on the new file before it takes the place of the old one, with `{}` standing for its path.
        """
        what = raw.Content_Bytes(content) if isinstance(content, bytes) else raw.Content_Text(to_wit(content))
        effect = types.Effect(summary or f"write {path}", timing, list(alters), False)
        attributes = raw.Attributes(mode, owner, group)
        return _changed(call(self._raw.ensure_file, path, what, attributes, list(validate), effect))

    def directory(
        self, path: str, *, mode: int | None = None, owner: str | None = None, group: str | None = None
    ) -> bool:
        """A directory is there, its parents included."""
        attributes = raw.Attributes(mode, owner, group)
        return _changed(call(self._raw.ensure_directory, path, attributes, _effect(f"make the directory {path}")))

    def link(self, path: str, target: str) -> bool:
        """A symbolic link to `target`, as written, is there."""
        return _changed(call(self._raw.ensure_link, path, target, _effect(f"link {path} to {target}")))

    def absent(self, path: str) -> bool:
        """Nothing is there. A directory goes with all that is below it."""
        return _changed(call(self._raw.ensure_absent, path, _effect(f"remove {path}")))


def _effect(summary: str) -> types.Effect:
    return types.Effect(summary, NOW, [], False)


def _changed(verdict: Verdict) -> bool:
    return verdict != Verdict.UNCHANGED
