"""Find the known name that was probably meant: one with a few letters wrong, not another word."""

from collections.abc import Iterable

__all__ = ["nearest"]

MAX_LETTERS = 64
"""Letters of a name that is compared: the time grows with their third power. A longer name is close to none."""

LETTERS_A_SLIP = 3
"""Letters of the typed name for each wrong letter allowed; at least one is allowed."""

COMPARED = 8
"""Closest names among which one with the same letters in another order is preferred: it is the likeliest slip."""

LEAST = 0.5
"""Share of two names that must be equal, however short they are."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is closest to an unknown one, '' if none is close.

    Args:
        name: as typed.
        known: all known names.
    """
    typed = name.lower()
    if not typed or len(typed) > MAX_LETTERS:
        return ""
    wrong = max(1, len(typed) // LETTERS_A_SLIP)
    compared = {one.lower(): one for one in sorted(known, reverse=True) if abs(len(one) - len(typed)) <= wrong}
    from difflib import get_close_matches  # imported late: most commands and hosts have nothing to compare

    same = max(LEAST, 1 - wrong / len(typed) - 1e-9)  # the last term is for rounding: one letter of three passes
    found = get_close_matches(typed, compared, n=COMPARED, cutoff=same)
    swapped = (one for one in found if sorted(one) == sorted(typed))
    return compared[next(swapped, found[0])] if found else ""
