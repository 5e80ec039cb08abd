"""Patterns over channels, as plugins write them: what is wrong with some, and a set that is made of them."""

from collections.abc import Sequence

from co2.errors import BadRequest
from co2.protocol.wire.channel_patterns import MAX_PATTERNS, Interests, check_pattern

__all__ = ["Channels", "patterns_problem"]

_EXAMPLE = '("stage.*", "lab.>")'


class Channels:
    """A set of channels, by patterns as in the attribute ``channels`` of a plugin: for those of a configuration.

    ``"stage.left" in plugin.Channels(("stage.*",))`` is true. What is no text, or empty, is in none.

    Args:
        patterns: ``*`` is one token, ``>`` at the end one or more; ``(">",)`` is every channel, ``()`` none.

    Raises:
        ValueError: one of them is no pattern; the text says what was found, and what was expected.
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


def patterns_problem(value: object, example: str) -> str:
    """Tell why something is no list of patterns, and what would be one; '' where it is."""
    if isinstance(value, str):
        return f"found the text {value!r:.80}, expected a tuple of patterns such as {example}; mind the comma"
    if not isinstance(value, list | tuple):
        return f"found {type(value).__name__}, expected a tuple of patterns such as {example}"
    if len(value) > MAX_PATTERNS:
        return f"{len(value)} patterns, at most {MAX_PATTERNS} are possible"
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
            return f"{pattern!r}: '*' and '>' stand for whole tokens, {token!r} would be taken literally"
    return ""
