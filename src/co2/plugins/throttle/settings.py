"""The table ``[plugin.throttle]`` of co2.toml."""

from typing import Annotated

import msgspec

from co2 import plugin

__all__ = ["MAX_RATE", "ThrottleSettings"]

MAX_RATE = 1000
"""Messages per second of one channel of one sender, at most."""


class ThrottleSettings(msgspec.Struct, frozen=True):
    """What is throttled, and how much is let through.

    Attributes:
        channels: patterns, ``*`` for one token, ``>`` at the end for one or more; nothing for every channel.
        rate: messages per second of one channel of one sender.
    """

    channels: list[str] = []
    rate: Annotated[float, msgspec.Meta(gt=0, le=MAX_RATE)] = 30.0

    def __post_init__(self) -> None:
        plugin.Channels(self.channels)
