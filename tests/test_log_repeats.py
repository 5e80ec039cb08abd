"""An error that comes again and again: told at once, then after 1, 10 and 60 s, with a count."""

from co2.log_repeats import FORGET, MAX_KNOWN, RecentlyLogged, Repeats, Told


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def failed(place: int = 3, error: str = "nih", what: str = "every failed") -> str:
    return f'{what}\nTraceback (most recent call last):\n  File "spam.py", line {place}\nValueError: {error}'


def test_it_is_told_at_once_and_then_ever_more_rarely_with_a_count() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    assert repeats.take("ham", failed()) == Told(failed())
    told = {}
    for tick in range(1, 30 * 200 + 1):
        clock.now = 1000 + tick / 30
        if text := repeats.take("ham", failed(error=str(tick))).text:
            told[tick / 30] = text
    assert [*told] == [1, 10, 60, 120, 180]
    end = "its traceback is in co2.log)"
    assert told[1] == f"every failed - ValueError: 30 (repeated: 31 times in 1 s; {end}"
    assert told[180] == f"every failed - ValueError: 5400 (repeated: 5401 times in 180 s; {end}"
    assert [*repeats.due()] == []


def test_what_came_again_is_told_though_it_does_not_come_any_more() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    for _ in range(20):
        repeats.take("ham", failed())
    assert [*repeats.due()] == []
    clock.now += 1
    [(source, text)] = repeats.due()
    assert source == "ham"
    assert "(repeated: 20 times in 1 s;" in text
    clock.now += 1000
    assert [*repeats.due()] == []


def test_what_has_not_come_for_a_while_is_new() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    for _ in range(3):
        repeats.take("ham", failed())
    clock.now += FORGET + 1
    assert repeats.take("ham", failed()) == Told(failed())


def test_what_only_one_of_them_has_goes_to_the_file() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    repeats.take("ham", failed(what="receive failed: 1"))
    told = repeats.take("ham", failed(what="receive failed: 2", error="two"))
    assert told == Told("receive failed: 2 - ValueError: two (again)", aloud=False)
    assert repeats.take("ham", failed(what="receive failed: 2", error="two")) == Told("", aloud=False)
    clock.now += 1
    told = repeats.take("ham", failed(what="receive failed: 3"))
    assert told.aloud
    assert told.text.startswith("receive failed: 3 - ValueError: nih (repeated: 4 times in 1 s")


def test_another_place_another_source_and_what_has_no_traceback_stay_whole() -> None:
    repeats = Repeats(Clock())
    for source, text in (("ham", failed()), ("ham", failed(4)), ("eggs", failed())):
        assert repeats.take(source, text) == Told(text)
    for _ in range(2):
        assert repeats.take("ham", "two\nlines") == Told("two\nlines")


def test_the_one_that_came_first_is_forgotten() -> None:
    repeats = Repeats(Clock())
    for place in range(MAX_KNOWN + 1):
        repeats.take("ham", failed(place))
    for place in (1, MAX_KNOWN):
        assert repeats.take("ham", failed(place)) == Told("", aloud=False)
    assert repeats.take("ham", failed(0)) == Told(failed(0))
    assert len(repeats._known) == MAX_KNOWN


def test_what_was_logged_lately_is_not_new_and_a_bounded_number_is_remembered() -> None:
    now = 0.0
    recent = RecentlyLogged(60, 2, lambda: now)
    assert [recent.is_new("a"), recent.is_new("a"), recent.is_new("b")] == [True, False, True]
    now = 59.9
    assert not recent.is_new("a")
    now = 60.0
    assert recent.is_new("a")
    assert recent.is_new("c"), "the oldest, b, is forgotten"
    assert not recent.is_new("a")
    assert recent.is_new("b")
