"""A figure beside its goal and its floor (the numbers to reach), for tables and for the verdict."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Judged", "lines", "tell"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One figure.

    Attributes:
        what: for tables.
        value: as measured.
        goal: to reach.
        floor: never to miss; None where only a goal is set.
        at_most: the value is to stay below.
        unit: behind the value.
        low, high: the smallest and the largest value, where it is the median of several runs.
    """

    what: str
    value: float
    goal: float
    floor: float | None = None
    at_most: bool = False
    unit: str = ""
    low: float | None = None
    high: float | None = None

    def meets(self, bound: float | None) -> bool:
        """Return whether the value is on the right side of a bound."""
        return bound is None or (self.value <= bound if self.at_most else self.value >= bound)

    @property
    def verdict(self) -> str:
        """In words."""
        if self.meets(self.goal):
            return "reached"
        if self.floor is None:
            return "not reached"
        return "held" if self.meets(self.floor) else "FLOOR NOT HELD"

    def row(self) -> dict[str, Any]:
        """Return it for the file of results."""
        return asdict(self)


def lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write the table."""
    found = ["| | measured | goal | floor | |", "|---|---:|---:|---:|---|"]
    for one in (Judged(**row) for row in rows):
        sign = "≤" if one.at_most else "≥"
        floor = "" if one.floor is None else f"{sign} {written(one.floor)}"
        told = f"**{written(one.value)}** {one.unit}".rstrip()
        if one.low is not None and one.high is not None:
            told += f" ({written(one.low)} to {written(one.high)})"
        found.append(f"| {one.what} | {told} | {sign} {written(one.goal)} | {floor} | {one.verdict} |")
    return [*found, ""]


def tell(rows: Iterable[Mapping[str, Any]], unmeasured: Iterable[str] = ()) -> bool:
    """Print which goals are reached; return False where a floor is not held.

    Args:
        rows: what was judged.
        unmeasured: floors that were to be judged and could not be: that is no better than one that is not held.
    """
    held = True
    for one in (Judged(**row) for row in rows):
        held = held and one.meets(one.floor)
        sign = "at most " if one.at_most else ""
        bounds = f"goal {sign}{written(one.goal)}" + ("" if one.floor is None else f", floor {written(one.floor)}")
        print(f"{one.what}: {written(one.value)} {one.unit}".rstrip() + f" ({bounds}): {one.verdict}")
    for what in unmeasured:
        held = False
        print(f"{what}: NOT MEASURED, so its floor is not shown to be held")
    return held


def written(value: float) -> str:
    """Write a number with as many digits as it needs."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
