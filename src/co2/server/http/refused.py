"""How the server says no before anything is called."""

from collections.abc import Sequence

from co2.errors import PeerError

__all__ = ["Refused"]


class Refused(Exception):
    """A request that is answered with a status and then the connection is closed.

    Not a Co2Error: it never leaves the server.

    Args:
        status: HTTP status.
        why: one line for the caller; nothing in it comes from Python.
        more: header lines that go with the status, from a fixed set: ``Allow`` with a 405.
        fault: what a client of XML-RPC is told instead, with status 200: many show no other answer to anybody.
    """

    def __init__(
        self, status: int, why: str, more: Sequence[str] = (), *, fault: type[PeerError] | None = None
    ) -> None:
        super().__init__(status, why)
        self.status = status
        self.fault = None if fault is None else fault(why)
        self.why = why
        self.more = tuple(more)

    def __str__(self) -> str:
        return f"{self.status} {self.why}"
