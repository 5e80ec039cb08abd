"""A traceback that comes again and again: whole once a minute, a line else, and never more than so many known."""

from co2.log_repeats import MAX_TRACEBACKS, WHOLE_EVERY, Repeats


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def failed(place: int = 3, error: str = "nih") -> str:
    return f'every failed\nTraceback (most recent call last):\n  File "spam.py", line {place}\nValueError: {error}'


def test_it_is_whole_again_after_a_minute() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    assert repeats.shortened("ham", failed()) == failed()
    clock.now += WHOLE_EVERY - 1
    assert repeats.shortened("ham", failed(error="two")) == (
        "every failed - ValueError: two (again: 2 times in 59 s; its traceback is in co2.log)"
    )
    clock.now += 1
    assert repeats.shortened("ham", failed()) == failed()
    assert "again: 2 times in 0 s" in repeats.shortened("ham", failed()), "it is counted anew"


def test_another_place_another_source_and_what_has_no_traceback_stay_whole() -> None:
    repeats = Repeats(Clock())
    for source, text in (("ham", failed()), ("ham", failed(4)), ("eggs", failed())):
        assert repeats.shortened(source, text) == text
    for _ in range(2):
        assert repeats.shortened("ham", "two\nlines") == "two\nlines"


def test_the_one_that_was_shown_first_is_forgotten() -> None:
    repeats = Repeats(Clock())
    for place in range(MAX_TRACEBACKS + 1):
        repeats.shortened("ham", failed(place))
    assert "again" in repeats.shortened("ham", failed(1))
    assert "again" in repeats.shortened("ham", failed(MAX_TRACEBACKS))
    assert repeats.shortened("ham", failed(0)) == failed(0)
    assert len(repeats._shown) == MAX_TRACEBACKS
