"""Which channels somebody wants: patterns of dot-separated tokens.

``*`` stands for one token, ``>`` as the last token for one or more. A message without a channel has the channel
``''``: no pattern but ``''`` itself selects it.
"""

from collections.abc import Iterable, Sequence

__all__ = ["MAX_PATTERNS", "MAX_PATTERN_LENGTH", "Interests", "pattern_problem"]

MAX_PATTERNS = 256
"""Patterns of one plugin."""

MAX_PATTERN_LENGTH = 256
"""Characters of one pattern."""

_MAX_KNOWN = 4096
"""Channels whose answers are remembered; then they are looked up anew."""


def pattern_problem(pattern: object) -> str:
    """Tell what is wrong with a pattern; '' for nothing."""
    if not isinstance(pattern, str):
        return f"{pattern!r:.80} is not text"
    if len(pattern) > MAX_PATTERN_LENGTH:
        return f"{pattern!r:.80} is longer than {MAX_PATTERN_LENGTH} characters"
    tokens = pattern.split(".")
    if pattern and not all(tokens):
        return f"{pattern!r} has an empty token; a pattern is like 'stage.*.fader1' or 'stage.>'"
    if ">" in tokens[:-1]:
        return f"{pattern!r} has '>' before its end; '>' stands for all the rest"
    for token in tokens:
        if len(token) > 1 and ("*" in token or ">" in token):
            return f"{pattern!r}: '*' and '>' stand for whole tokens, {token!r} mixes"
    return ""


class Interests:
    """What somebody wants.

    Args:
        patterns: valid ones; none means everything.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.patterns = tuple(dict.fromkeys(patterns))
        self.everything = not self.patterns
        self._exact = frozenset(pattern for pattern in self.patterns if not _is_wild(pattern))
        self._wild = [pattern.split(".") for pattern in self.patterns if _is_wild(pattern)]
        self._known: dict[str, bool] = {}

    def wants(self, channel: str) -> bool:
        """Tell whether messages of this channel are wanted; '' for those without one."""
        if self.everything:
            return True
        known = self._known.get(channel)
        if known is None:
            known = channel in self._exact or (channel != "" and self._matches(channel.split(".")))
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[channel] = known
        return known

    def wants_any(self, channels: Iterable[str] | None) -> bool:
        """Tell whether any of these channels is wanted; None stands for more than anybody has listed."""
        return self.everything or channels is None or any(map(self.wants, channels))

    def _matches(self, tokens: Sequence[str]) -> bool:
        return any(_match(pattern, tokens) for pattern in self._wild)


def _is_wild(pattern: str) -> bool:
    return not {"*", ">"}.isdisjoint(pattern.split("."))


def _match(pattern: Sequence[str], tokens: Sequence[str]) -> bool:
    if pattern[-1] == ">":
        pattern = pattern[:-1]
        if len(tokens) <= len(pattern):
            return False
        tokens = tokens[: len(pattern)]
    if len(tokens) != len(pattern):
        return False
    return all(wanted in ("*", token) for wanted, token in zip(pattern, tokens, strict=True))
