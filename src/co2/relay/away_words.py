"""Who is away, in words for whoever wanted something of it."""

import time

from co2.errors import Unreachable
from co2.protocol.away import Away
from co2.web.text import duration

__all__ = ["away_words", "method_away"]


def away_words(one: Away) -> str:
    """Say since when a satellite is away."""
    ago = max(0.0, time.time() - one.seen_at)
    form = "%H:%M:%S" if ago < 43_200 else "%Y-%m-%d %H:%M:%S"
    since = time.strftime(form, time.localtime(one.seen_at))
    if one.stopped:
        return f"was stopped at {since}, {duration(ago)} ago"
    return f"is away since {since}, for {duration(ago)}"


def method_away(method: str, having: list[Away]) -> Unreachable:
    """Return the fault for a method of satellites that are away."""
    last = having[0]
    more = f" (and {len(having) - 1} others that had it are away, too)" if len(having) > 1 else ""
    return Unreachable(f"{method} is known, but its satellite {last.host_id} {away_words(last)}{more}")
