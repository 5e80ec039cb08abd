"""What a filter does with a message: look at it, or put a key into it. The same code for every peer."""

from typing import Any

__all__ = ["look"]


def look(message: dict[str, Any], change: bool) -> dict[str, Any] | None:
    """Return what goes on; None for nothing.

    Args:
        message: as it came, decoded.
        change: put a key into it.
    """
    if message["data"] is None:
        return None
    if change:
        message["passed"] = True
    return message
