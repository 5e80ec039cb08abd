"""Channels: which channel an entry leads to, and whether entries lead in a circle."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from co2 import plugin

__all__ = ["MAX_CHAIN", "Route", "circle_or_chain_problem"]

MAX_CHAIN = 16
"""Entries through which one value passes, each into the next."""

_SHOWN = 6
"""Entries of a circle or chain that its error names."""

_HOLE = re.compile(r"\{([0-9]{1,3})\}")
_MANY = ">"


@dataclass(frozen=True)
class Route:
    """The way from the channels of a pattern to other channels.

    Attributes:
        source: a pattern: ``*`` stands for one token, ``>`` at the end for one or more.
        to: a channel; ``{1}`` stands for what the first ``*`` or ``>`` has matched, ``{2}`` for the second.

    Raises:
        ValueError: one of them is wrong; the text names the key.
    """

    source: str
    to: str

    def __post_init__(self) -> None:
        try:
            plugin.Channels((self.source,))
        except ValueError as error:
            raise ValueError(f"from: {error}") from None
        self._check_to()

    def _check_to(self) -> None:
        wild = [token for token in self._tokens if token in ("*", ">")]
        tokens = self.to.split(".")
        try:
            plugin.Channels((_HOLE.sub("x", self.to),))
        except ValueError as error:
            raise ValueError(f"to: {error}") from None
        for token in tokens:
            if token in ("*", ">"):
                raise ValueError(f"to: found {self.to!r}, expected a channel; {{1}} stands for the first * or >")
            if "{" in (rest := _HOLE.sub("", token)) or "}" in rest:
                raise ValueError(f"to: found {self.to!r}; braces are only for {{1}}, {{2}} and so on")
            for number in map(int, _HOLE.findall(token)):
                if not 1 <= number <= len(wild):
                    there = f"{len(wild)} of * and >" if wild else "no * or >"
                    raise ValueError(f"to: {{{number}}} in {self.to!r} stands for nothing: 'from' has {there}")
                if wild[number - 1] == ">" and token != f"{{{number}}}":
                    raise ValueError(f"to: {{{number}}} in {self.to!r} is several tokens, so it stands alone")

    @functools.cached_property
    def _tokens(self) -> list[str]:
        return self.source.split(".")

    def channel(self, channel: str) -> str | None:
        """Return the channel to which a message on this channel goes; None if the pattern does not match."""
        tokens = channel.split(".")
        pattern = self._tokens
        if len(tokens) < len(pattern) or (len(tokens) > len(pattern) and pattern[-1] != ">"):
            return None
        found = []
        for place, wanted in enumerate(pattern):
            if wanted == ">":
                found.append(".".join(tokens[place:]))
            elif wanted == "*":
                found.append(tokens[place])
            elif wanted != tokens[place]:
                return None
        return _HOLE.sub(lambda hole: found[int(hole[1]) - 1], self.to)

    @functools.cached_property
    def _outcome(self) -> "list[str | re.Pattern[str]]":
        """The tokens of the channels to which it leads: text, ``>`` for one or more, or an expression for one."""
        wild = [token for token in self._tokens if token in ("*", ">")]
        outcome: list[str | re.Pattern[str]] = []
        for token in self.to.split("."):
            whole = _HOLE.fullmatch(token)
            if "{" not in token:
                outcome.append(token)
            elif whole and wild[int(whole[1]) - 1] == _MANY:
                outcome.append(_MANY)
            else:
                outcome.append(re.compile(".*".join(re.escape(part) for part in _HOLE.split(token)[::2])))
        return outcome

    def leads_to(self, other: "Route") -> bool:
        """Return whether a channel to which it leads may match the pattern of another route."""
        if "{" not in self.to:
            return other.channel(self.to) is not None
        return _may_match(self._outcome, other._tokens)

    def __str__(self) -> str:
        return f"{self.source} to {self.to}"


def _may_match(outcome: "Sequence[str | re.Pattern[str]]", pattern: Sequence[str]) -> bool:
    if not outcome or not pattern:
        return not outcome and not pattern
    if pattern[0] == _MANY:
        return True
    first, wanted = outcome[0], pattern[0]
    if first == _MANY:
        return _may_match(outcome[1:], pattern[1:]) or _may_match(outcome, pattern[1:])
    if wanted != "*" and not (first == wanted if isinstance(first, str) else first.fullmatch(wanted)):
        return False
    return _may_match(outcome[1:], pattern[1:])


def circle_or_chain_problem(routes: Sequence[Route]) -> str:
    """Return why entries cannot work together: they lead in a circle, or through too many; '' if they can.

    Args:
        routes: of all entries, in order.
    """
    following = [[at for at, other in enumerate(routes) if one.leads_to(other)] for one in routes]
    longest: dict[int, list[int]] = {}
    for first in range(len(routes)):
        if circle := _walk(first, following, longest, []):
            return _circle_text(circle, routes)
    chain = max(longest.values(), key=len, default=[])
    if len(chain) > MAX_CHAIN:
        return f"{_named(chain, routes)} follow each other: {len(chain)} entries; the limit is {MAX_CHAIN}"
    return ""


def _walk(at: int, following: list[list[int]], longest: dict[int, list[int]], path: list[int]) -> list[int]:
    """Return a circle that is reached from an entry, [] for none; note the longest chain from each entry.

    The depth of the recursion is bounded by the number of entries.
    """
    if at in path:
        return path[path.index(at) :]
    if at in longest:
        return []
    path.append(at)
    chain: list[int] = []
    for other in following[at]:
        if circle := _walk(other, following, longest, path):
            return circle
        chain = max(chain, longest[other], key=len)
    path.pop()
    longest[at] = [at, *chain]
    return []


def _circle_text(circle: list[int], routes: Sequence[Route]) -> str:
    if len(circle) == 1:
        return f"{_named(circle, routes)} leads to itself: its 'to' matches its own 'from'"
    return f"{_named(circle, routes)} lead in a circle: the 'to' of each matches the 'from' of the next"


def _named(places: list[int], routes: Sequence[Route]) -> str:
    names = [f"{place + 1} ({routes[place]})" for place in places[:_SHOWN]]
    if len(places) > _SHOWN:
        names.append(f"{len(places) - _SHOWN} more")
    if len(names) == 1:
        return f"entry {names[0]}"
    return f"entries {', '.join(names[:-1])} and {names[-1]}"
