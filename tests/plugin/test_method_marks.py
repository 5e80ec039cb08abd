"""What an author says about a method."""

from typing import Any

import pytest

from co2 import plugin
from co2.plugin.method_marks import DANGERS, MAX_UNIT, Marks, marks_of


def test_a_marked_method_is_the_same_and_has_its_marks() -> None:
    class X_Ham(plugin.Co2Plugin):
        @plugin.marks(danger="touch", unit={"level": "dB"})
        def x_fade(self, level: float) -> float:
            return level

        @plugin.marks(danger="look")
        @staticmethod
        def x_still() -> float:
            return 1.0

        def x_plain(self, data_dict: Any) -> Any: ...

    made = X_Ham({})
    assert (made.x_fade(2.0), made.x_still()) == (2.0, 1.0)
    assert marks_of(X_Ham.x_fade) == marks_of(made.x_fade) == Marks("touch", {"level": "dB"})
    assert marks_of(made.x_still) == Marks("look")
    assert marks_of(made.x_plain) == marks_of(3) == Marks()
    assert all(marks_of(plugin.marks(danger=danger)(lambda _: 0)).danger == danger for danger in DANGERS)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"danger": "Touch"}, "danger: found 'Touch', expected 'look', 'touch', 'harm'"),
        ({"danger": None}, "danger: found None"),
        ({"unit": "dB"}, "unit: found 'dB', expected a dictionary"),
        ({"unit": {"level": 3}}, "unit: found 'level': 3, expected"),
        ({"unit": {"level": ""}}, f"1 to {MAX_UNIT} characters"),
        ({"unit": {"level": "x" * (MAX_UNIT + 1)}}, f"1 to {MAX_UNIT} characters"),
    ],
)
def test_wrong_marks_are_refused(given: Any, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        plugin.marks(**given)
    assert problem in str(caught.value)
