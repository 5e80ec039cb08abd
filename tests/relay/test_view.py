"""What a relay shows of itself costs no more than is shown."""

from types import SimpleNamespace
from typing import Any

from co2.protocol.relay.away import Away, AwayBook
from co2.relay.view import RelayView


def test_of_ten_thousand_that_are_away_only_those_are_looked_at_that_are_shown() -> None:
    looks = 0

    def now() -> float:
        nonlocal looks
        looks += 1
        return 5.0

    known = [Away(f"{n:x}", f"{n:x}@10.0.{n % 100}.9:2004", 1.0, stopped=n < 3) for n in range(10_000)]
    relay: Any = SimpleNamespace(away=AwayBook(known, now=now))
    host: Any = None
    view = RelayView(host, relay, "10.0.0.1")
    looks = 0
    assert [row.host_id for row in view.away(2)] == ["270f@10.0.99.9:2004", "270e@10.0.98.9:2004"]
    assert view.away_states() == {"away": 9_997, "stopped": 3}
    assert looks == 2
