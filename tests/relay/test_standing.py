"""Which links are read first: those that take little of the relay's time, where it has none to spare."""

from co2.relay.standing import PROBATION, SHARE, SPAN, Standing


class Wire:
    """Notes where it was put."""

    def __init__(self) -> None:
        self.rank = ""

    def read_first(self) -> None:
        self.rank = "first"

    def read_behind(self) -> None:
        self.rank = "behind"


def live(
    standing: Standing, wire: Wire, seconds: float, share: float, began: float = 0.0, late: bool = True
) -> str:
    """Use up a share of the time, fifty times a second; return the rank after it."""
    for n in range(int(seconds * 50)):
        standing.take(share / 50, 10_000_000, 0, began + n / 50, late)
    return wire.rank


def test_who_takes_little_stays_first() -> None:
    wire = Wire()
    standing = Standing(wire, 0.0, late=False)
    assert live(standing, wire, 20, SHARE * 0.8) == "first"


def test_who_takes_more_goes_behind_at_once_but_only_where_there_is_no_time_to_spare() -> None:
    wire = Wire()
    standing = Standing(wire, 0.0, late=False)
    assert live(standing, wire, 3, SHARE * 2, late=False) == "first"
    assert live(standing, wire, 1, SHARE * 2, 3) == "behind"


def test_one_long_pause_of_the_machine_is_not_its_doing() -> None:
    wire = Wire()
    standing = Standing(wire, 0.0, late=False)
    standing.take(SPAN, 100, 0, 0.5, True)
    assert live(standing, wire, 5, SHARE / 2, 1) == "first"


def test_many_small_frames_count_as_long_as_they_take() -> None:
    wire = Wire()
    standing = Standing(wire, 0.0, late=False)
    for n in range(150):  # what one link brings that keeps a relay busy with nothing else, in a second
        standing.take(0.0065, 8192, 0, n / 150, True, frames=100)
    assert wire.rank == "behind"


def test_what_goes_to_many_links_counts_as_long_as_it_takes() -> None:
    wire = Wire()
    standing = Standing(wire, 0.0, late=False)
    for n in range(100):
        standing.take(0.008, 100, 0, n / 100, True, links=500)
    assert wire.rank == "behind"


def test_things_asked_for_count_though_they_are_answered_later() -> None:
    wire = Wire()
    standing = Standing(wire, 0.0, late=False)
    for n in range(1500):
        standing.take(0.0, 10, 1, n / 1000, True)
    assert wire.rank == "behind"


def test_who_comes_while_there_is_no_time_is_behind_until_it_is_seen_to_take_little() -> None:
    wire = Wire()
    standing = Standing(wire, 0.0, late=True)
    assert wire.rank == "behind"
    assert live(standing, wire, PROBATION - 1, SHARE / 2) == "behind"
    assert live(standing, wire, SPAN * 3, SHARE / 2, PROBATION) == "first"


def test_who_goes_on_taking_much_stays_behind() -> None:
    wire = Wire()
    standing = Standing(wire, 0.0, late=True)
    assert live(standing, wire, 3 * PROBATION, SHARE * 2) == "behind"
    assert live(standing, wire, PROBATION - 1, SHARE / 2, 3 * PROBATION) == "behind", "for a while after it, too"
    assert live(standing, wire, PROBATION + 2 * SPAN, SHARE / 2, 4 * PROBATION - 1) == "first"
