"""Where expected frames come and go: links and plugin hosts, as the express sees them."""

from collections.abc import Callable, Sequence
from typing import Protocol

from co2.server.express.frame_template import Outline
from co2.server.express.loop import COUNTED, FROM_CLIENT, FROM_SERVER, End, Expected, Way

__all__ = ["HostEnd", "LinkEnd", "expected_or_none", "host_way", "link_way_in", "link_way_out"]


class LinkEnd(End, Protocol):
    """Our end of a link."""

    @property
    def is_client(self) -> bool:
        """Whether we have opened it."""

    @property
    def read_descriptor(self) -> int:
        """Of the socket, while what comes next is the beginning of a message; else -1."""

    @property
    def write_descriptor(self) -> int:
        """Of the socket, while nothing waits to be written; else -1."""


class HostEnd(End, Protocol):
    """Our end of a plugin host's socket pair."""

    @property
    def descriptor(self) -> int:
        """Of the socket, while whole frames can come and go past the transport; else -1."""


def link_way_in(end: LinkEnd, outline: Outline) -> Way | None:
    """Return how a frame would come over a link; None while it cannot be told apart from what else comes."""
    descriptor = end.read_descriptor
    return (
        Way(end, descriptor, FROM_SERVER if end.is_client else FROM_CLIENT, outline) if descriptor >= 0 else None
    )


def link_way_out(end: LinkEnd, outline: Outline) -> Way | None:
    """Return how a frame would be written to a link; None while something waits before it."""
    descriptor = end.write_descriptor
    return (
        Way(end, descriptor, FROM_CLIENT if end.is_client else FROM_SERVER, outline) if descriptor >= 0 else None
    )


def host_way(end: HostEnd, outline: Outline) -> Way | None:
    """Return how a frame would come from a plugin host, or go there; None while it could not."""
    descriptor = end.descriptor
    return Way(end, descriptor, COUNTED, outline) if descriptor >= 0 else None


def expected_or_none(
    comes: Way | None, becomes: Sequence[Way | None], failed: Callable[[], bool] = lambda: False
) -> Expected | None:
    """Put together what is known; all of it must be."""
    known = [way for way in becomes if way is not None]
    return Expected(comes, known, failed) if comes is not None and len(known) == len(becomes) else None
