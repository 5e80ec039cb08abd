"""What counts as noticed for ``make mutants``: a test that fails for other reasons has noticed nothing."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tools.mutants import MAX_LEFT_OUT, Mutant, is_noticed

MUTANT = Mutant("src/co2/store/ham.py", 1, 0, 1, "(2)", "return 1")
ONE, OTHER = "tests/store/test_ham.py::test_one", "tests/store/test_ham.py::test_other"


class Space:
    """A copy of the project whose tests do as the test says.

    Args:
        fails: returns whether a test fails, with the change or without.
    """

    def __init__(self, fails: Callable[[str, bool], bool]) -> None:
        self._fails = fails
        self._is_planted = False

    @contextlib.contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        assert mutant is MUTANT
        self._is_planted = True
        yield
        self._is_planted = False

    def tests(self, _mutant: Mutant) -> list[str]:
        return [ONE, OTHER]

    def run(self, arguments: list[str]) -> tuple[int, str]:
        left_out = [one.removeprefix("--deselect=") for one in arguments if one.startswith("--deselect=")]
        for test in arguments:
            if not test.startswith("--") and test not in left_out and self._fails(test, self._is_planted):
                return 1, f"FAILED {test} - AssertionError\n"
        return 0, ""


def noticed(fails: Callable[[str, bool], bool]) -> tuple[str, list[str]]:
    space: Any = Space(fails)
    return is_noticed(space, MUTANT)


class NowAndThen:
    """Fails the first time, with the change or without."""

    def __init__(self) -> None:
        self.times = 0

    def __bool__(self) -> bool:
        self.times += 1
        return self.times == 1


def test_a_test_that_fails_with_the_change_and_only_then_notices_it() -> None:
    assert noticed(lambda test, planted: test == OTHER and planted) == (OTHER, [])
    assert noticed(lambda test, planted: False) == ("", [])


def test_one_that_fails_without_the_change_too_is_left_out_and_the_others_are_asked() -> None:
    assert noticed(lambda test, planted: test == ONE) == ("", [ONE])
    assert noticed(lambda test, planted: test == ONE or planted) == (OTHER, [ONE])


def test_one_that_fails_now_and_then_is_left_out_and_the_others_are_asked() -> None:
    once = NowAndThen()
    assert noticed(lambda test, planted: test == ONE and bool(once)) == ("", [ONE])
    once = NowAndThen()
    assert noticed(lambda test, planted: planted if test == OTHER else bool(once)) == (OTHER, [ONE])


def test_where_everything_fails_nothing_is_said() -> None:
    space: Any = Space(lambda test, planted: True)
    many = [f"tests/store/test_ham.py::test_{number}" for number in range(MAX_LEFT_OUT + 2)]
    space.tests = lambda _mutant: many
    with pytest.raises(RuntimeError, match="now and then"):
        is_noticed(space, MUTANT)
