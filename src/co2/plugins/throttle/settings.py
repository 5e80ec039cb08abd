"""The table ``[plugin.throttle]`` of co2.toml."""

from typing import Annotated

import msgspec

from co2 import plugin

__all__ = ["MAX_RATE", "ThrottleSettings"]

MAX_RATE = 1000
"""Messages per second of one channel of one sender, at most."""


class ThrottleSettings(msgspec.Struct, frozen=True):
    """The configuration: which channels are throttled, and to which rate.

    Attributes:
        channels: patterns: ``*`` stands for one token, ``>`` at the end for one or more. If there are none, every
            channel is throttled.
        rate: messages per second of one channel of one sender.
    """

    channels: list[str] = []
    rate: Annotated[float, msgspec.Meta(gt=0, le=MAX_RATE)] = 30.0

    def __post_init__(self) -> None:
        plugin.Channels(self.channels)
