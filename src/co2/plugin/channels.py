"""Channel patterns as plugins write them: a check with clear errors, and a set of channels made from patterns."""

from collections.abc import Sequence

from co2.errors import BadRequest
from co2.protocol.wire.channel_patterns import MAX_PATTERNS, Interests, check_pattern

__all__ = ["Channels", "patterns_problem", "snapshot_patterns"]

_EXAMPLE = '("stage.*", "lab.>")'


class Channels:
    """A set of channels, given by patterns as in the attribute ``channels`` of a plugin.

    It is for channels that are known only at run time, such as those of the configuration.
    ``"stage.left" in plugin.Channels(("stage.*",))`` is true. Empty text, and anything but text, is in no set.

    Args:
        patterns: ``*`` stands for one token, ``>`` at the end for one or more. ``(">",)`` contains every channel,
            ``()`` none.

    Raises:
        ValueError: a pattern is wrong; the text says what was found, and what was expected.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if problem := patterns_problem(patterns, _EXAMPLE):
            raise ValueError(problem)
        self._patterns = tuple(patterns)
        self._wants = Interests(self._patterns).wants

    def __contains__(self, channel: object) -> bool:
        return isinstance(channel, str) and self._wants((channel,))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channels) and self._patterns == other._patterns

    def __hash__(self) -> int:
        return hash(self._patterns)

    def __repr__(self) -> str:
        return f"Channels({self._patterns!r})"


def snapshot_patterns(snapshot: "bool | Sequence[str]", channels: Sequence[str]) -> list[str]:
    """Return the patterns of the channels of which a plugin gets the last values; empty for none.

    Args:
        snapshot: the attribute of its class.
        channels: likewise.
    """
    if isinstance(snapshot, bool):
        return list(channels or (">",)) if snapshot else []
    return list(snapshot)


def patterns_problem(value: object, example: str) -> str:
    """Return what is wrong with a list of patterns, and what is expected; '' if it is right.

    Args:
        value: anything.
        example: a right list, as text, for the explanation.
    """
    if isinstance(value, str):
        return (
            f"found the text {value!r:.80}, expected a tuple of patterns such as {example}; a tuple of one item "
            "needs a comma"
        )
    if not isinstance(value, list | tuple):
        return f"found {type(value).__name__}, expected a tuple of patterns such as {example}"
    if len(value) > MAX_PATTERNS:
        return f"{len(value)} patterns; the limit is {MAX_PATTERNS}"
    return next((problem for pattern in value if (problem := _pattern_problem(pattern))), "")


def _pattern_problem(pattern: object) -> str:
    if not isinstance(pattern, str):
        return f"found {pattern!r:.80}, expected text"
    try:
        check_pattern(pattern)
    except BadRequest as error:
        return str(error)
    except UnicodeEncodeError:
        return f"{pattern!r:.80} is not valid Unicode"
    for token in pattern.split("."):
        if len(token) > 1 and ("*" in token or ">" in token):
            return f"{pattern!r}: '*' and '>' must be whole tokens; {token!r} would match only literally"
    return ""
