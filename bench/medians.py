"""Medians over the rounds of a measurement."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

__all__ = ["medians"]

Key = TypeVar("Key")


def medians(rounds: Sequence[Mapping[Key, float]]) -> dict[Key, float]:
    """Return the median of every figure; all rounds have the same figures."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
