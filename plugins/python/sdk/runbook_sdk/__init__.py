"""What a runbook plugin in Python is written with. See plugins/python/README.md."""

from .cluster import Cluster, kind, ref
from .commands import (
    AT_BLOCK_END,
    AT_STEP_END,
    AT_STEP_END_IF_CHANGED,
    Cmd,
    Outcome,
    Output,
    by_hand,
    harmless,
    inverse,
    irreversible,
)
from .errors import (
    Conflict,
    Denied,
    Error,
    Failed,
    Invalid,
    NotFound,
    TimedOut,
    Unknown,
    Unreachable,
    ensure,
    fail,
    if_found,
    if_known,
)
from .files import Tree
from .machine import Machine
from .plugin import Plugin, baseline, info, pause, warn
from .text import Text
