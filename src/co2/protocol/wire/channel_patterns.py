"""Channel patterns as in NATS: ``*`` for one token, ``>`` for one or more at the end.

``stage.*.fader1`` matches ``stage.left.fader1``; ``stage.>`` matches ``stage.left`` and ``stage.left.fader1``, not
``stage``. A message without a channel has the channel ``''``, which only "everything" matches.
"""

from collections.abc import Collection, Iterable, Sequence

from co2.errors import BadRequest, ValueRefused
from co2.protocol.wire.plugin_frames.frames import MAX_CHANNELS

__all__ = ["MAX_CHANNEL", "MAX_PATTERNS", "Interests", "channels_of_frame", "check_channel", "check_pattern"]

MAX_CHANNEL = 256
"""Bytes of a channel or pattern."""

MAX_PATTERNS = 256
"""Patterns of one plugin; packages or satellites with more in total get everything, and filter."""

_REMEMBERED = 4096
"""Sets of channels whose result is cached."""

_REMEMBERED_SIZE = 512 * 1024
"""The same in characters, with :data:`_OF_EACH` more for each channel: each reader of the log has such a cache."""

_OF_EACH = 64


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
        self._patterns: _Patterns | None = None
        self._known: dict[tuple[str, ...], bool] = {}
        self._known_size = 0

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
            if self._patterns is None:
                self._patterns = _Patterns(self.patterns)
            known = any(map(self._patterns.match, channels))
            size = sum(map(len, channels)) + _OF_EACH * len(channels)
            if len(self._known) >= _REMEMBERED or self._known_size + size > _REMEMBERED_SIZE:
                self._known.clear()
                self._known_size = 0
            self._known[channels] = known
            self._known_size += size
        return known

    def wants_one(self, channel: str) -> bool:
        """Return whether a message on this channel is wanted."""
        return self.wants((channel,))


class _Patterns:
    """Patterns that are compared with a channel all at once, token by token.

    Each is a bit. A client may choose patterns of which each, by itself, takes as many comparisons as a channel
    has tokens: hundreds of them would take milliseconds for each new channel.

    Args:
        patterns: valid ones.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._ends: dict[int, int] = {}  # by number of tokens: the patterns that have so many, and no > at the end
        self._tokens: list[dict[str, int]] = []  # by place: the patterns that have this token there
        self._stars: list[int] = []  # by place: those with * there
        self._tails: list[int] = []  # by place: those with > there
        for number, pattern in enumerate(patterns):
            bit = 1 << number
            tokens = pattern.split(".")
            while len(self._tokens) < len(tokens):
                self._tokens.append({})
                self._stars.append(0)
                self._tails.append(0)
            if tokens[-1] == ">":
                self._tails[len(tokens) - 1] |= bit
                tokens.pop()
            else:
                self._ends[len(tokens)] = self._ends.get(len(tokens), 0) | bit
            for place, wanted in enumerate(tokens):
                if wanted == "*":
                    self._stars[place] |= bit
                else:
                    row = self._tokens[place]
                    row[wanted] = row.get(wanted, 0) | bit

    def match(self, channel: str) -> bool:
        """Return whether one of them selects a channel."""
        if not channel:
            return False
        left = -1  # all
        tokens = channel.split(".")
        for token, row, stars, tails in zip(tokens, self._tokens, self._stars, self._tails, strict=False):
            if left & tails:
                return True
            left &= row.get(token, 0) | stars
            if not left:
                return False
        return bool(left & self._ends.get(len(tokens), 0))
