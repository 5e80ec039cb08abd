"""The life of a link as a table: which frame is in place when, and what it leads to.

Both state machines take their frames by it (:func:`in_place`), and the diagram in
``docs/explanation/architecture.md`` is drawn from it (``tools/draw_states.py``). Whatever is not in it is out of
place: the answer is a Goodbye that says so, and the link ends.
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
    """The connection stands. No frame, but it moves the satellite's side."""


class Asked:
    """On a Hello a relay plugin is asked whether it may join, or the disk waited for. No frame either."""


class Admitted:
    """It may."""


class Lost:
    """The connection is gone, or we have said Goodbye ourselves. No frame either."""


NO_FRAMES = frozenset((Connected, Asked, Admitted, Lost))
"""What moves a link besides frames."""

Table = Mapping[str, Mapping[type, str]]
"""Next state, by state and frame; the first state is where it begins."""

SATELLITE: Table = {
    "away": {Connected: "hello"},
    "hello": {Welcome: "open", Goodbye: "away", Lost: "away"},
    "open": {
        Ack: "open",
        Hold: "open",
        Receipt: "open",
        Deliver: "open",
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
    """Return the state that a frame, or an event that is none, leads to.

    Raises:
        KeyError: it is out of place.
    """
    return table[state][what]


def in_place(table: Table, handlers: Mapping[type, Handler]) -> dict[str, dict[type, Handler]]:
    """Give who handles which frame, by state.

    Args:
        table: :data:`SATELLITE` or :data:`RELAY`.
        handlers: one for each frame that is in it.

    Raises:
        ValueError: a frame of the table has no handler, or a handler has no place in it.
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
