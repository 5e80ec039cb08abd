"""The runs that are kept, with their dates, and the figures of the page: medians over the last whole runs.

One run is one hour of one machine. Whoever runs ``make bench`` at three different hours gets the medians of the
three, and how far apart they were.
"""

import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

__all__ = ["KEPT", "begin", "combined", "kept_of", "measured_apart", "now"]

KEPT = 3
"""Whole runs whose figures count: the last ones."""

Kept = dict[str, Any]
"""``runs``: the last ones, oldest first; ``apart``: parts that were measured by themselves after them, by name."""


def now() -> str:
    """Return the time of now, to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def kept_of(found: Mapping[str, Any]) -> Kept:
    """Return what a file of results holds; one of before has a single run, which has no date."""
    if not found or "runs" in found:
        return {"runs": list(found.get("runs", ())), "apart": dict(found.get("apart", {}))}
    return {"runs": [{key: value for key, value in found.items() if key != "apart"}], "apart": {}}


def begin(kept: Kept, machine: Mapping[str, Any], *, anew: bool = False) -> dict[str, Any]:
    """Begin a whole run: it counts from now on, with the last ones before it that were whole and have a date.

    Args:
        kept: what there is; is changed.
        machine: what it is measured on.
        anew: forget the runs before: what is measured has changed.

    Returns:
        The run; its parts are put in as they are measured, and ``whole`` at the end.
    """
    run: dict[str, Any] = {"date": now(), "whole": False, "machine": dict(machine)}
    before = [] if anew else [one for one in kept["runs"] if one.get("date") and one.get("whole")]
    kept["runs"] = [*before, run][-KEPT:]
    kept["apart"] = {}
    return run


def measured_apart(kept: Kept, name: str, result: Mapping[str, Any] | None, machine: Mapping[str, Any]) -> None:
    """Keep a part that was measured by itself, in place of what the runs say of it; None where it failed."""
    if result is None:
        kept["apart"].pop(name, None)
    else:
        kept["apart"][name] = {"date": now(), "machine": dict(machine), "result": dict(result)}


def combined(kept: Kept) -> dict[str, Any]:
    """Return the figures for the page: machine, dates of the runs, the parts, and which were measured apart."""
    runs = kept["runs"]
    parts = {name for run in runs for name in run} - {"date", "whole", "machine"}
    found = {name: middle([run[name] for run in runs if name in run]) for name in parts}
    found |= {name: one["result"] for name, one in kept["apart"].items()}
    machines = [one["machine"] for one in (*runs, *kept["apart"].values())]
    dates = [run.get("date", "") for run in runs]
    return {"machine": machines[-1], "dates": dates, "apart": sorted(kept["apart"]), **found}


def middle(found: Sequence[Any]) -> Any:
    """Return the median of every number in results of the same form; where that is none, what the latest one says.

    A row that is judged also gets the smallest and the largest value.
    """
    latest = found[-1]
    if isinstance(latest, Mapping):
        same = [one for one in found if isinstance(one, Mapping)]
        result = {key: middle([one[key] for one in same if key in one]) for key in latest}
        if "what" in latest and "value" in latest and len(same) > 1:
            values = [one["value"] for one in same]
            result |= {"low": min(values), "high": max(values)}
        return result
    if isinstance(latest, list) and all(isinstance(one, Mapping) and "what" in one for one in latest):
        return [middle([row for rows in found for row in rows if row["what"] == one["what"]]) for one in latest]
    numbers = [one for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
    if numbers and (latest is None or latest in numbers):
        median = statistics.median(numbers)
        return int(median) if all(isinstance(one, int) for one in numbers) and median == int(median) else median
    return latest
