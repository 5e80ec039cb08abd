"""Channel patterns as in NATS: ``*`` for one token, ``>`` for one or more at the end.

``stage.*.fader1`` matches ``stage.left.fader1``; ``stage.>`` matches ``stage.left`` and ``stage.left.fader1``, not
``stage``. A message without a channel has the channel ``''``, which only "everything" matches.
"""

from collections.abc import Collection, Iterable

from co2.errors import BadRequest, ValueRefused
from co2.protocol.wire.plugin_frames.frames import MAX_CHANNELS

__all__ = ["MAX_CHANNEL", "MAX_PATTERNS", "Interests", "channels_of_frame", "check_channel", "check_pattern"]

MAX_CHANNEL = 256
"""Bytes of a channel or pattern."""

MAX_PATTERNS = 256
"""Patterns of one plugin; packages or satellites with more in total get everything, and filter."""

_REMEMBERED = 4096
"""Sets of channels whose result is cached."""


def check_pattern(pattern: str) -> None:
    """Refuse an invalid pattern.

    Raises:
        BadRequest: empty, too long, an empty token, or ``>`` before the end.
    """
    tokens = pattern.split(".")
    if not pattern or len(pattern.encode()) > MAX_CHANNEL:
        raise BadRequest(f"a channel pattern has 1 to {MAX_CHANNEL} bytes: {pattern[:80]!r}")
    if "" in tokens or ">" in tokens[:-1]:
        raise BadRequest(
            f"not a channel pattern: {pattern[:80]!r}; expected tokens separated by dots, with > only at the end"
        )


def check_channel(channel: str) -> None:
    """Refuse a channel that is too long.

    Raises:
        ValueRefused: over :data:`MAX_CHANNEL` bytes.
    """
    if 4 * len(channel) > MAX_CHANNEL < (size := len(channel.encode())):
        raise ValueRefused(f"a channel has at most {MAX_CHANNEL} bytes; this one has {size}: {channel[:40]!r}…")


def channels_of_frame(channels: Collection[str]) -> list[str] | None:
    """Return the sorted channels for a frame; None if there are too many, or one is too long."""
    if len(channels) > MAX_CHANNELS:
        return None
    for one in channels:
        if 4 * len(one) > MAX_CHANNEL < len(one.encode()):
            return None
    return sorted(channels)


class Interests:
    """A set of patterns.

    Args:
        patterns: None for everything.

    Raises:
        BadRequest: a pattern is invalid, or there are too many.
    """

    def __init__(self, patterns: Iterable[str] | None) -> None:
        self.patterns = None if patterns is None else tuple(patterns)
        if self.patterns is not None:
            if len(self.patterns) > MAX_PATTERNS:
                raise BadRequest(f"more than {MAX_PATTERNS} channel patterns")
            for pattern in self.patterns:
                check_pattern(pattern)
        self._tokens = [pattern.split(".") for pattern in self.patterns or ()]
        self._known: dict[tuple[str, ...], bool] = {}

    @classmethod
    def together(cls, patterns: Collection[str]) -> "Interests":
        """Return the patterns of several readers together.

        Over :data:`MAX_PATTERNS` that is everything: each reader filters messages anyway, so this costs some
        bytes, where a refusal would cost the link.

        Raises:
            BadRequest: a pattern is invalid.
        """
        return cls(patterns if len(patterns) <= MAX_PATTERNS else None)

    def wants(self, channels: tuple[str, ...] | None) -> bool:
        """Return whether a frame may hold a wanted message.

        Args:
            channels: of its messages, '' for none; None for too many to name; () if all of them were dropped on
                their way.
        """
        if self.patterns is None:
            return channels != ()
        if not self.patterns:
            return False
        if channels is None:
            return True
        known = self._known.get(channels)
        if known is None:
            known = any(self._matches(channel) for channel in channels)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[channels] = known
        return known

    def wants_one(self, channel: str) -> bool:
        """Return whether a message on this channel is wanted."""
        return self.wants((channel,))

    def _matches(self, channel: str) -> bool:
        tokens = channel.split(".") if channel else []
        return any(_match(pattern, tokens) for pattern in self._tokens)


def _match(pattern: list[str], tokens: list[str]) -> bool:
    if pattern[-1] == ">":
        if len(tokens) < len(pattern):
            return False
    elif len(tokens) != len(pattern):
        return False
    return all(wanted in ("*", ">", token) for wanted, token in zip(pattern, tokens, strict=False))
