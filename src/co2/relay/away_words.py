"""Absent satellites in words, for callers that wanted to reach them."""

import time

from co2.errors import Unreachable
from co2.host_name import host_label
from co2.protocol.relay.away import Away, AwayBook
from co2.protocol.relay.names import NameBook
from co2.web.text import duration

__all__ = ["away_words", "method_away"]


def away_words(one: Away, book: AwayBook) -> str:
    """Return in words since when a satellite is away."""
    seconds, seen_at, before_start = book.absence(one)
    form = "%H:%M:%S" if seconds < 43_200 and not before_start else "%Y-%m-%d %H:%M:%S"
    since = time.strftime(form, time.localtime(seen_at))
    if before_start:
        gone = "was stopped before" if one.stopped else "has been away since before"
        return (
            f"{gone} the relay's start {duration(seconds)} ago; it was last seen at {since} by the clock at "
            "that time"
        )
    if one.stopped:
        return f"was stopped at {since}, {duration(seconds)} ago"
    return f"has been away since {since}, for {duration(seconds)}"


def method_away(method: str, having: list[Away], book: AwayBook, names: NameBook) -> Unreachable:
    """Return the fault for a method of satellites that are away."""
    last = having[0]
    more = f" (and {len(having) - 1} other satellites that had it are also away)" if len(having) > 1 else ""
    who = host_label(names.get(last.origin), last.host_id)
    return Unreachable(f"{method} is known, but its satellite {who} {away_words(last, book)}{more}")
