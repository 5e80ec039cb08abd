"""The connections of expected frames: links and plugin hosts, as the express sees them."""

from collections.abc import Callable, Sequence
from typing import Protocol

from co2.server.express.frame_template import Outline
from co2.server.express.loop import COUNTED, FROM_CLIENT, FROM_SERVER, End, Expected, Way

__all__ = ["HostEnd", "LinkEnd", "expected_or_none", "host_way", "link_way_in", "link_way_out"]


class LinkEnd(End, Protocol):
    """Our end of a link."""

    @property
    def is_client(self) -> bool:
        """Whether this host has opened it."""

    @property
    def read_descriptor(self) -> int:
        """Of the socket, while the next byte begins a message; else -1."""

    @property
    def write_descriptor(self) -> int:
        """Of the socket, while nothing waits to be written; else -1."""


class HostEnd(End, Protocol):
    """Our end of a plugin host's socket pair."""

    @property
    def descriptor(self) -> int:
        """Of the socket, while whole frames can bypass the transport in both directions; else -1."""


def link_way_in(end: LinkEnd, outline: Outline) -> Way | None:
    """Return the way of a frame that arrives over a link; None while it may be the middle of a message."""
    descriptor = end.read_descriptor
    return (
        Way(end, descriptor, FROM_SERVER if end.is_client else FROM_CLIENT, outline) if descriptor >= 0 else None
    )


def link_way_out(end: LinkEnd, outline: Outline) -> Way | None:
    """Return the way of a frame to a link; None while other bytes wait before it."""
    descriptor = end.write_descriptor
    return (
        Way(end, descriptor, FROM_CLIENT if end.is_client else FROM_SERVER, outline) if descriptor >= 0 else None
    )


def host_way(end: HostEnd, outline: Outline) -> Way | None:
    """Return the way of a frame from or to a plugin host; None while it must pass the transport."""
    descriptor = end.descriptor
    return Way(end, descriptor, COUNTED, outline) if descriptor >= 0 else None


def expected_or_none(
    comes: Way | None, becomes: Sequence[Way | None], failed: Callable[[], bool] = lambda: False
) -> Expected | None:
    """Return an expected frame; None if one of its ways is unknown."""
    known = [way for way in becomes if way is not None]
    return Expected(comes, known, failed) if comes is not None and len(known) == len(becomes) else None
