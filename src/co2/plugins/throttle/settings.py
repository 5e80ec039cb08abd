"""The table ``[plugin.throttle]`` of co2.toml."""

import re
from collections.abc import Callable, Iterable
from typing import Annotated

import msgspec

__all__ = ["MAX_RATE", "Settings", "selector"]

MAX_RATE = 1000
"""Messages per second of one channel of one sender, at most."""

_WILDCARDS = {"*": "[^.]*", ">": ".*"}


class Settings(msgspec.Struct, frozen=True):
    """What is throttled, and how much is let through.

    Attributes:
        channels: patterns, ``*`` for one token, ``>`` at the end for one or more; nothing for every channel.
        rate: messages per second of one channel of one sender.
    """

    channels: list[str] = []
    rate: Annotated[float, msgspec.Meta(gt=0, le=MAX_RATE)] = 30.0

    def __post_init__(self) -> None:
        selector(self.channels)


def selector(patterns: Iterable[str]) -> Callable[[str], object]:
    """Make a function that tells whether one of the patterns selects a channel, by something true.

    Raises:
        ValueError: one of them is no pattern.
    """
    expressions = []
    for pattern in patterns:
        tokens = pattern.split(".")
        if "" in tokens or ">" in tokens[:-1]:
            raise ValueError(f'{pattern!r} is not a channel pattern, such as "stage.*" or "stage.>"')
        expressions.append(r"\.".join(_WILDCARDS.get(token) or re.escape(token) for token in tokens))
    return re.compile("|".join(expressions), re.DOTALL).fullmatch
