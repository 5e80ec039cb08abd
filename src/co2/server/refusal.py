"""How the server says no before anything is called."""

__all__ = ["Refused"]


class Refused(Exception):
    """A request that is answered with a status and then the connection is closed.

    Not a Co2Error: it never leaves the server.

    Args:
        status: HTTP status.
        why: one line for the caller; nothing in it comes from Python.
        allow: methods for the header ``Allow`` of a 405.
    """

    def __init__(self, status: int, why: str, allow: str = "") -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why
        self.allow = allow

    def __str__(self) -> str:
        return f"{self.status} {self.why}"
