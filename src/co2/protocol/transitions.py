"""The states of a link as a table: which frame is allowed in which state, and the state it leads to.

Both state machines dispatch their frames by it (:func:`in_place`), and the diagram in
``docs/architecture.md`` is drawn from it (``tools/draw_states.py``). Any other frame is out of place:
the answer is a Goodbye with that reason, and the link ends.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from co2.protocol.wire.link_frames import (
    Ack,
    Applied,
    Call,
    Deliver,
    Gap,
    Goodbye,
    Hello,
    Hold,
    Interest,
    Publish,
    Receipt,
    Replay,
    Result,
    Roster,
    Snapshot,
    Welcome,
)

__all__ = [
    "NO_FRAMES",
    "RELAY",
    "SATELLITE",
    "Admitted",
    "Asked",
    "Connected",
    "Lost",
    "Table",
    "drawn",
    "in_place",
    "next_state",
]

Handler = TypeVar("Handler", bound=Callable[..., None])
What = TypeVar("What")


class Connected:
    """The connection is established. Not a frame, but it changes the satellite's state."""


class Asked:
    """A Hello waits: for a relay plugin's decision or for the disk. Not a frame either."""


class Admitted:
    """The satellite of the Hello may join. Not a frame either."""


class Lost:
    """The connection is lost, or we have said Goodbye ourselves. Not a frame either."""


NO_FRAMES = frozenset((Connected, Asked, Admitted, Lost))
"""Events besides frames that change the state of a link."""

Table = Mapping[str, Mapping[type, str]]
"""Next state, by state and frame; the first state is the initial one."""

SATELLITE: Table = {
    "away": {Connected: "hello"},
    "hello": {Welcome: "open", Goodbye: "away", Lost: "away"},
    "open": {
        Ack: "open",
        Hold: "open",
        Receipt: "open",
        Deliver: "open",
        Snapshot: "open",
        Replay: "open",
        Gap: "open",
        Roster: "open",
        Call: "open",
        Result: "open",
        Goodbye: "away",
        Lost: "away",
    },
}

RELAY: Table = {
    "opening": {Hello: "open", Asked: "asked", Lost: "closed"},
    "asked": {Admitted: "open", Goodbye: "closed", Lost: "closed"},
    "open": {
        Publish: "open",
        Hold: "open",
        Interest: "open",
        Replay: "open",
        Applied: "open",
        Call: "open",
        Result: "open",
        Goodbye: "closed",
        Lost: "closed",
    },
    "closed": {},
}


def next_state(table: Mapping[str, Mapping[What, str]], state: str, what: What) -> str:
    """Return the state that a frame or another event leads to.

    Raises:
        KeyError: it is out of place.
    """
    return table[state][what]


def in_place(table: Table, handlers: Mapping[type, Handler]) -> dict[str, dict[type, Handler]]:
    """Return the handler of each frame, by state.

    Args:
        table: :data:`SATELLITE` or :data:`RELAY`.
        handlers: one for each frame of the table.

    Raises:
        ValueError: a frame of the table has no handler, or a handler has no frame in the table.
    """
    known = {frame for frames in table.values() for frame in frames} - NO_FRAMES
    if known != set(handlers):
        odd = ", ".join(sorted(frame.__name__ for frame in known ^ set(handlers)))
        raise ValueError(f"not both in the table and handled: {odd}")
    return {
        state: {frame: handlers[frame] for frame in frames if frame not in NO_FRAMES}
        for state, frames in table.items()
    }


def drawn(table: Mapping[str, Mapping[Any, str]]) -> str:
    """Draw a table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    direction LR", f"    [*] --> {next(iter(table))}"]
    for state, frames in table.items():
        arrows: dict[str, list[str]] = {}
        for what, following in frames.items():
            arrows.setdefault(following, []).append(_name(what))
        lines += [f"    {state} --> {following}: {', '.join(names)}" for following, names in arrows.items()]
    return "\n".join(lines) + "\n"


def _name(what: Any) -> str:
    if isinstance(what, str):
        return what
    return str(what.__name__.lower() if what in NO_FRAMES else what.__name__)
