"""The Kubernetes cluster that a step named. Objects are dictionaries, as in YAML."""

import json
from typing import Any

from wit_world.imports import clusters as raw
from wit_world.imports import types

from .commands import NOW, Timing
from .errors import Invalid, call
from .files import _changed


def kind(api_version: str, name: str) -> raw.ResourceKind:
    """A kind, by `apiVersion` and `kind` as a manifest has them: `kind("apps/v1", "Deployment")`."""
    group, _, version = api_version.rpartition("/")
    return raw.ResourceKind(group, version, name)


def ref(api_version: str, kind_name: str, name: str, namespace: str | None = None) -> raw.ObjectRef:
    """One object."""
    return raw.ObjectRef(kind(api_version, kind_name), namespace, name)


class Cluster:
    """One cluster."""

    def __init__(self, handle: raw.Cluster):
        self._raw = handle
        self.name = handle.name()
        """Its name in the inventory."""

    @staticmethod
    def target() -> "Cluster":
        """The cluster of the step."""
        handle = raw.target()
        if handle is None:
            raise Invalid("the step names no cluster")
        return Cluster(handle)

    def get(self, object: raw.ObjectRef) -> dict[str, Any] | None:
        """The object; None only where an authenticated API server answered that it is not there."""
        found = call(self._raw.get, object)
        return None if found is None else json.loads(found)

    def list(
        self, of: raw.ResourceKind, namespace: str | None = None, labels: str | None = None
    ) -> list[dict[str, Any]]:
        """The objects that match."""
        return [json.loads(text) for text in call(self._raw.list, raw.Selector(of, namespace, labels, None))]

    def apply(self, manifest: dict[str, Any], summary: str, *, force: bool = False, timing: Timing = NOW) -> bool:
        """Server-side apply. True where something changed, or would."""
        return _changed(call(self._raw.apply, json.dumps(manifest), force, types.Effect(summary, timing, [], False)))

    def delete(self, object: raw.ObjectRef, summary: str) -> bool:
        """The object is gone; unchanged where it is absent already."""
        options = raw.DeleteOptions(None, raw.Propagation.BACKGROUND, None)
        return _changed(call(self._raw.delete, object, options, types.Effect(summary, NOW, [], False)))

    def scale(self, object: raw.ObjectRef, replicas: int, summary: str, *, timing: Timing = NOW) -> bool:
        """It has that many replicas."""
        return _changed(call(self._raw.scale, object, replicas, types.Effect(summary, timing, [], False)))

    def wait_rolled_out(self, object: raw.ObjectRef, timeout: float) -> None:
        """Waits until all replicas of this generation are updated and available; at most `timeout` seconds."""
        call(self._raw.wait, object, raw.Condition_RolledOut(), round(timeout * 1000))
