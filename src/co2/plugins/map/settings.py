"""The entries ``[[map]]`` of co2.toml, checked."""

import math
import re

import msgspec

from . import routes, scale

__all__ = ["MAX_ENTRIES", "MAX_ITEM", "MAX_RATE", "MAX_SMOOTH", "MapEntry", "MapSettings"]

MAX_ENTRIES = 256
"""Entries of one satellite."""

MAX_RATE = 1000
"""Messages per second on one channel of an entry, where ``rate`` limits them."""

MAX_SMOOTH = 60.0
"""Seconds of the longest time constant."""

MAX_ITEM = 9_999
"""Number of the last item of a list that an entry may pick."""

_DURATION = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|s)\s*")
_UNITS = {"ms": 0.001, "s": 1.0}

Bounds = tuple[int | float, int | float]


class MapEntry(msgspec.Struct, frozen=True, kw_only=True, rename={"source": "from"}):
    """One entry.

    Attributes:
        source: pattern of the channels of what comes; the key ``from``.
        to: the channel of what goes; ``{1}`` stands for what the first ``*`` or ``>`` has matched.
        range: of what comes; values beyond it count as its nearer end.
        out: what the two ends of ``range`` become.
        curve: between them: ``linear``, ``log``, ``exp``, ``s``, or a power.
        smooth: time constant, in seconds or as text with a unit; 0 for none.
        rate: messages per second on each channel, at most; 0 for no limit.
        field: a field of a dictionary, or the number of an item of a list; None for all of the data.
        round: send integers.

    Raises:
        ValueError: a key is wrong; the text names it.
    """

    source: str
    to: str
    range: Bounds | None = None
    out: Bounds | None = None
    curve: str | float = "linear"
    smooth: str | float = 0.0
    rate: float = 0.0
    field: str | int | None = None
    round: bool = False

    def __post_init__(self) -> None:
        routes.Route(self.source, self.to)
        for name, bounds in (("range", self.range), ("out", self.out)):
            for bound in bounds or ():
                if not abs(bound) <= scale.MAX_BOUND:
                    raise ValueError(f"{name}: found {bound!r:.80}, expected numbers up to {scale.MAX_BOUND:g}")
        if self.range is not None and float(self.range[0]) == float(self.range[1]):
            raise ValueError(f"range: found {list(self.range)}, expected two different numbers")
        try:
            scale.curve_of(self.curve)
        except ValueError as error:
            raise ValueError(f"curve: {error}") from None
        self._seconds()
        if not 0 <= self.rate <= MAX_RATE:
            raise ValueError(f"rate: found {self.rate:g}, expected messages per second, from 0 to {MAX_RATE}")
        if isinstance(self.field, int) and not 0 <= self.field <= MAX_ITEM:
            raise ValueError(f"field: found {self.field}, expected a name, or a number from 0 to {MAX_ITEM}")

    def _seconds(self) -> float:
        found = self.smooth
        if isinstance(found, str):
            parts = _DURATION.fullmatch(found)
            found = float(parts[1]) * _UNITS[parts[2]] if parts else math.nan
        if not 0 <= found <= MAX_SMOOTH:
            raise ValueError(
                f'smooth: found {self.smooth!r:.80}, expected a duration such as "100ms" or "1s", or seconds, '
                f"from 0 to {MAX_SMOOTH:g} s"
            )
        return float(found)

    @property
    def route(self) -> routes.Route:
        """From which channels to which."""
        return routes.Route(self.source, self.to)

    @property
    def time_constant(self) -> float:
        """Seconds in which a smoothed value does 63 % of its way; 0 for at once."""
        return self._seconds()

    @property
    def scaling(self) -> scale.Scale | None:
        """The conversion of values; None if they stay as they are."""
        if self.range is None and self.out is None and self.curve == "linear":
            return None
        low, high = self.range or (0.0, 1.0)
        out_low, out_high = self.out or (0.0, 1.0)
        curve = scale.curve_of(self.curve)
        return scale.Scale(float(low), float(high), float(out_low), float(out_high), curve)


class MapSettings(msgspec.Struct, frozen=True):
    """The configuration: all entries.

    Attributes:
        map: the entries, in the order of the file.

    Raises:
        ValueError: there are too many entries; or some are equal, or lead in a circle: the text names them.
    """

    map: list[MapEntry] = []

    def __post_init__(self) -> None:
        if len(self.map) > MAX_ENTRIES:
            raise ValueError(f"found {len(self.map)} entries; the limit is {MAX_ENTRIES}")
        for place, entry in enumerate(self.map):
            if entry in self.map[:place]:
                first = self.map.index(entry)
                raise ValueError(f"entries {first + 1} and {place + 1} ({entry.route}) are equal: remove one")
        if problem := routes.circle_or_chain_problem([entry.route for entry in self.map]):
            raise ValueError(problem)
