"""Which known name somebody may have meant: one with a few letters wrong, not another word."""

from collections.abc import Iterable

__all__ = ["nearest"]

MAX_LETTERS = 64
"""Letters of a name that is compared: the time grows with their third power. A longer one is near to nothing."""

LETTERS_A_SLIP = 3
"""One letter may be wrong for so many letters of what was typed, and one in any case."""

LEAST = 0.5
"""Part of two names that must be the same, however short they are."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is nearest to one that is not known; '' where none is near.

    Args:
        name: as it was typed.
        known: what there is.
    """
    typed = name.lower()
    if not typed or len(typed) > MAX_LETTERS:
        return ""
    wrong = max(1, len(typed) // LETTERS_A_SLIP)
    compared = {one.lower(): one for one in sorted(known, reverse=True) if abs(len(one) - len(typed)) <= wrong}
    from difflib import get_close_matches  # late: most commands, and most hosts, have nothing to compare

    same = max(LEAST, 1 - wrong / len(typed) - 1e-9)  # without the last of it rounding refuses one letter of three
    found = get_close_matches(typed, compared, n=1, cutoff=same)
    return compared[found[0]] if found else ""
