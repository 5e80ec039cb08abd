"""Which name somebody may have meant: one that is a slip of the finger away, not another word."""

from collections.abc import Iterable

__all__ = ["nearest"]

MAX_LETTERS = 64
"""Of a name that is compared; what is longer is near to nothing."""

LETTERS_A_SLIP = 3
"""One slip for so many letters of what was typed, and one in any case."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Give the known name that is nearest to one that is not known; '' where none is near.

    Args:
        name: as it was typed.
        known: what there is.
    """
    typed = name.lower()
    allowed = max(1, len(typed) // LETTERS_A_SLIP)
    if len(typed) > MAX_LETTERS:
        return ""
    near = [
        (slips, one)
        for one in sorted(known)
        if abs(len(one) - len(typed)) <= allowed and (slips := _slips(typed, one.lower())) <= allowed
    ]
    return min(near)[1] if near else ""


def _slips(typed: str, meant: str) -> int:
    """Count what went wrong: a letter too much, one that is missing, another one, or two that changed places."""
    before: list[int] = []
    row = list(range(len(meant) + 1))
    for at, letter in enumerate(typed, 1):
        earlier, before, row = before, row, [at]
        for there, wanted in enumerate(meant, 1):
            least = min(before[there] + 1, row[-1] + 1, before[there - 1] + (letter != wanted))
            if at > 1 and there > 1 and letter == meant[there - 2] and typed[at - 2] == wanted:
                least = min(least, earlier[there - 2] + 1)
            row.append(least)
    return row[-1]
