"""Values: pick one out of the data of a message, and convert it from one range into another along a curve."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CURVES", "MAX_BOUND", "MAX_GAMMA", "MIN_GAMMA", "Scale", "Unusable", "curve_of", "number_of", "picked"]

MAX_BOUND = 1e300
"""Largest bound of a range; the difference of two of them is still a number."""

MIN_GAMMA = 0.01
MAX_GAMMA = 100.0
"""Bounds of a number as curve."""

_STEEP = 100.0
"""Factor by which the slope of the curves ``exp`` and ``log`` changes from one end to the other."""

Curve = Callable[[float], float]
"""From 0 … 1 to 0 … 1; 0 and 1 stay as they are."""


class Unusable(ValueError):
    """Data that an entry cannot map; the text says why. The plugin counts it, and it never leaves the plugin."""


CURVES: Mapping[str, Curve] = {
    "linear": lambda part: part,
    "exp": lambda part: (_STEEP**part - 1.0) / (_STEEP - 1.0),
    "log": lambda part: math.log(1.0 + part * (_STEEP - 1.0), _STEEP),
    "s": lambda part: part * part * (3.0 - 2.0 * part),
}
"""The curves with names: ``exp`` begins flat and ends steep, ``log`` is its inverse, ``s`` has flat ends."""


def curve_of(curve: str | float) -> Curve:
    """Return a curve: one by its name, or a power.

    Raises:
        ValueError: there is none of that name, or the number is out of bounds.
    """
    if isinstance(curve, str):
        if curve not in CURVES:
            known = ", ".join(f'"{name}"' for name in CURVES)
            raise ValueError(f"found {curve!r:.80}, expected {known} or a number")
        return CURVES[curve]
    if not MIN_GAMMA <= curve <= MAX_GAMMA:
        raise ValueError(f"found {curve!r:.80}, expected a name or a number from {MIN_GAMMA:g} to {MAX_GAMMA:g}")
    gamma = float(curve)
    return lambda part: part**gamma


@dataclass(frozen=True, slots=True)
class Scale:
    """The way from one range into another. Values beyond the first range count as its nearer end.

    Attributes:
        low, high: the range of what comes; ``low`` may be the greater one.
        out_low, out_high: what ``low`` and ``high`` become.
        curve: between them.
    """

    low: float
    high: float
    out_low: float
    out_high: float
    curve: Curve

    def __call__(self, value: float) -> float:
        """Convert a finite value."""
        part = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        part = min(max(self.curve(part), 0.0), 1.0)
        if part == 1.0:
            return self.out_high  # the sum below may miss it by a rounding
        return self.out_low + part * (self.out_high - self.out_low)


def number_of(data: Any) -> float:
    """Return data as a finite number; booleans are 0 and 1.

    Raises:
        Unusable: it is something else.
    """
    if not isinstance(data, int | float):
        raise Unusable(f"found {_kind_of(data)}, expected a number or a boolean")
    try:
        number = float(data)
    except OverflowError:
        raise Unusable("found an integer that is too large") from None
    if not math.isfinite(number):
        raise Unusable(f"found {number}, expected a finite number")
    return number


def picked(data: Any, field: str | int | None) -> Any:
    """Return a part of the data: a field of a dictionary, or an item of a list; all of it for None.

    Raises:
        Unusable: there is no such part.
    """
    if field is None:
        return data
    if isinstance(field, str):
        if not isinstance(data, dict):
            raise Unusable(f"found {_kind_of(data)}, expected a dictionary with the field {field!r:.80}")
        if field not in data:
            raise Unusable(f"the dictionary has no field {field!r:.80}")
        return data[field]
    if not isinstance(data, list | tuple):
        raise Unusable(f"found {_kind_of(data)}, expected a list with an item {field}")
    if field >= len(data):
        raise Unusable(f"the list of {len(data)} has no item {field}; the first one is 0")
    return data[field]


_KINDS = {
    str: "text",
    bytes: "bytes",
    list: "a list",
    tuple: "a list",
    dict: "a dictionary",
    type(None): "nothing",
}


def _kind_of(data: Any) -> str:
    if isinstance(data, int | float):
        return "a number"
    return _KINDS.get(type(data), type(data).__name__)
