"""What all frames of a host and its plugin hosts have in common."""

import msgspec

__all__ = ["Frame"]


class Frame(msgspec.Struct, tag=True, array_like=True):
    """Base of all frames."""
