"""How the server says no before anything is called."""

from collections.abc import Sequence

__all__ = ["Refused"]


class Refused(Exception):
    """A request that is answered with a status and then the connection is closed.

    Not a Co2Error: it never leaves the server.

    Args:
        status: HTTP status.
        why: one line for the caller; nothing in it comes from Python.
        more: header lines that go with the status, from a fixed set: ``Allow`` with a 405.
    """

    def __init__(self, status: int, why: str, more: Sequence[str] = ()) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why
        self.more = tuple(more)

    def __str__(self) -> str:
        return f"{self.status} {self.why}"
