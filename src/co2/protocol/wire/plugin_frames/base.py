"""Common base of all frames of a host and its plugin hosts."""

import msgspec

__all__ = ["Frame"]


class Frame(msgspec.Struct, tag=True, array_like=True):
    """Base of all frames."""
