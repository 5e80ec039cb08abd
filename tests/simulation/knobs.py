"""What happens once in many megabytes happens often: bounds of the product are drawn small, and dice are ours.

Bounds are constants of modules, which also stand where they were imported to; so each is set in all its places.
"""

import contextlib
import importlib
import random
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

__all__ = ["LINK_BACKLOG", "NORMAL", "Knobs", "installed"]

KIB = 1024

_PLACES: dict[str, tuple[str, ...]] = {
    "CHUNK": ("co2.protocol.relay.cursors", "co2.protocol.relay.fan_out"),
    "STREAM_ROOM": ("co2.protocol.relay.cursors:ROOM",),
    "MAX_ENTRY_BATCH": ("co2.protocol.relay.cursors", "co2.protocol.relay.fan_out"),
    "SATELLITE_ROOM": ("co2.protocol.satellite.core:ROOM",),
    "REPLAY_ROOM": ("co2.protocol.satellite.core",),
    "OUTBOX_MEMORY": ("co2.protocol.satellite.outbox:MEMORY",),
    "SEGMENT": ("co2.protocol.satellite.outbox", "co2.store.outbox_store"),
    "KEPT": ("co2.store.memory_tail",),
    "MUCH": ("co2.store.log_writer",),
    "SMALL": ("co2.store.log_writer", "co2.store.log_writer:AWAITED"),
    "JOURNAL": ("co2.store.journal:HALF", "co2.store.log_writer:HALF"),
    "RESERVE": ("co2.store.log_writer",),
    "CHECKPOINT_PAGES": ("co2.store.log_writer",),
    "RESTART_PAGES": ("co2.store.log_writer",),
    "DELETE_AT_ONCE": ("co2.store.log_writer",),
    "LEASE": ("co2.store.relay_log",),
    "LOG_BACKLOG": ("co2.store.relay_log:MAX_BACKLOG",),
    "MAX_WAITING": ("co2.plugin.parent.delivery_queue",),
    "WINDOW": ("co2.plugin.parent.delivery_queue",),
    "MAX_FROM_NETWORK": ("co2.plugin.parent.delivery",),
}

NORMAL = "normal"
"""The product's own bound."""

# LOG_BACKLOG divided by the bytes of the smallest message must stay below half of LEASE.
_CHOICES: dict[str, Sequence[Any]] = {
    "CHUNK": (NORMAL, 2 * KIB, 8 * KIB, 32 * KIB),
    "STREAM_ROOM": (NORMAL, 4 * KIB, 32 * KIB),
    "MAX_ENTRY_BATCH": (NORMAL, 1 * KIB, 8 * KIB),
    "SATELLITE_ROOM": (NORMAL, 2 * KIB, 16 * KIB),
    "REPLAY_ROOM": (NORMAL, 1 * KIB, 8 * KIB, 32 * KIB),
    "OUTBOX_MEMORY": (NORMAL, 8 * KIB, 64 * KIB),
    "SEGMENT": (NORMAL, 1 * KIB, 4 * KIB, 16 * KIB),
    "KEPT": (NORMAL, 1, 4 * KIB, 32 * KIB),
    "MUCH": (NORMAL, 8 * KIB),
    "RESERVE": (8 * KIB,),
    "CHECKPOINT_PAGES": (NORMAL, 24, 60),
    "RESTART_PAGES": (NORMAL, 60),
    "DELETE_AT_ONCE": (NORMAL, 3),
    "LEASE": (NORMAL, 6000),
    "LOG_BACKLOG": (24 * KIB,),
    "MAX_WAITING": (NORMAL, 160 * KIB),
    "WINDOW": (NORMAL, 1 * KIB, 8 * KIB),
    "MAX_FROM_NETWORK": (NORMAL, 4 * KIB, 16 * KIB),
}

# Drawn by dice of their own: the worlds of a seed stay what they were.
_MORE_CHOICES: dict[str, Sequence[Any]] = {
    "SMALL": (NORMAL, 0, 0, 400),
    "JOURNAL": (NORMAL, 2 * KIB, 2 * KIB, 16 * KIB),
}

LINK_BACKLOG = 16 * KIB
"""Bytes waiting for the disk above which the relay reads no more from its links, in all worlds."""

Knobs = dict[str, Any]


def drawn(dice: random.Random, more: random.Random) -> Knobs:
    """Draw all bounds of a world; ``more`` those that came later."""
    knobs = {name: dice.choice(values) for name, values in _CHOICES.items()}
    if knobs["MAX_WAITING"] != NORMAL:
        # What waits for a package from the network stays far below what waits for it at all, as it does normally.
        knobs["MAX_FROM_NETWORK"] = 4 * KIB
        knobs["REPLAY_ROOM"] = 8 * KIB if knobs["REPLAY_ROOM"] == NORMAL else min(8 * KIB, knobs["REPLAY_ROOM"])
    return knobs | {name: more.choice(values) for name, values in _MORE_CHOICES.items()}


class _Secrets:
    """Stands for the module ``secrets``."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def token_hex(self, size: int) -> str:
        return self._dice.randbytes(size).hex()


@contextlib.contextmanager
def installed(knobs: Knobs, dice: random.Random) -> Iterator[None]:
    """Set bounds and dice in the product, for a while."""
    with contextlib.ExitStack() as undo:
        for name, value in knobs.items():
            for place in _PLACES[name] if value != NORMAL else ():
                module, _, attribute = place.partition(":")
                undo.enter_context(mock.patch.object(importlib.import_module(module), attribute or name, value))
        for module in ("co2.store.relay_log", "co2.store.log_file"):
            undo.enter_context(mock.patch.object(importlib.import_module(module), "secrets", _Secrets(dice)))
        for module in ("co2.plugin.parent.restart_policy", "co2.satellite.link"):
            undo.enter_context(mock.patch.object(importlib.import_module(module), "random", dice))
        yield
