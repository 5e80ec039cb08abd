"""What a satellite tells of its packages, and the words for what is wrong with them."""

import pytest

from co2.protocol.wire.package_health import (
    MAX_ERROR,
    MAX_HEALTH,
    MAX_HEALTH_TEXT,
    RECENT,
    Health,
    fitting,
    health_text,
)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Health("p", "running"), []),
        (Health("p", "failed", hangs=1.0), ["p failed"]),
        (Health("p", "parked", refused=True), ["p parked"]),
        (Health("p", "restarting"), ["p restarting"]),
        (Health("p", "running", hangs=0.1), ["p hangs"]),
        (Health("p", "running", refused=True), ["p: new code refused"]),
        (Health("p", "running", dead_letters=1), ["p: 1 dead letter"]),
        (Health("p", "running", dead_letters=2), ["p: 2 dead letters"]),
        (Health("p", "running", error="E", error_age=RECENT - 1), ["p: error 599 s ago"]),
        (Health("p", "running", error="E", error_age=RECENT), []),
        (Health("p", "running", error_age=1.0), []),
        (Health("p", "running", hangs=1.0, error="E", error_age=1.0), ["p hangs"]),
        (
            Health("p", "restarting", hangs=1.0, refused=True, dead_letters=3),
            ["p restarting", "p hangs", "p: new code refused", "p: 3 dead letters"],
        ),
    ],
)
def test_what_is_wrong_is_said_in_words_worst_first(row: Health, words: list[str]) -> None:
    assert row.words(lambda seconds: f"{seconds:g} s") == words


def test_later_it_hangs_for_longer_and_its_error_is_older() -> None:
    row = Health("p", "running", hangs=2.0, error="E", error_age=3.0)
    assert row.later(5.0) == Health("p", "running", hangs=7.0, error="E", error_age=8.0)
    assert Health("p", "running").later(5.0).hangs == 0.0, "what does not hang does not begin to"


def test_text_is_what_names_states_and_errors_have_together() -> None:
    assert health_text([Health("ham", "failed", error="xy"), Health("p", "running")]) == 3 + 6 + 2 + 1 + 7


def test_only_so_many_are_told_those_in_trouble_first() -> None:
    well = [Health(f"p{number}", "running") for number in range(MAX_HEALTH)]
    bad = Health("bad", "failed")
    told = fitting([*well, bad])
    assert told == [bad, *well[: MAX_HEALTH - 1]]


def test_what_is_told_fits_to_the_last_character() -> None:
    row = Health("p" * 10, "failed", error="x" * MAX_ERROR)
    many = [row] * (MAX_HEALTH_TEXT // health_text([row]))
    left = MAX_HEALTH_TEXT - health_text(many)
    last = Health("p", "failed", error="x" * (left - 7))
    assert fitting([*many, last]) == [*many, last]
    assert fitting([*many, Health("pp", "failed", error="x" * (left - 7))]) == many
