"""The exception for a request that is refused before anything is called."""

from collections.abc import Sequence

from co2.errors import PeerError

__all__ = ["Refused"]


class Refused(Exception):
    """A request is refused: it is answered with a status, and then the connection is closed.

    It is not a Co2Error, because it never leaves the server.

    Args:
        status: HTTP status.
        why: one line for the caller, without any text of a Python exception.
        more: header lines that belong to the status, from a fixed set: ``Allow`` for status 405.
        fault: Fault for an XML-RPC client, sent with status 200 instead: many clients show no other answer.

    Attributes:
        as_json: whether the sender expects JSON.
    """

    def __init__(
        self, status: int, why: str, more: Sequence[str] = (), *, fault: type[PeerError] | None = None
    ) -> None:
        super().__init__(status, why)
        self.status = status
        self.fault = None if fault is None else fault(why)
        self.why = why
        self.more = tuple(more)
        self.as_json = False

    def __str__(self) -> str:
        return f"{self.status} {self.why}"
