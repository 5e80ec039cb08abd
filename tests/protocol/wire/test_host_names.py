"""How many names a host may have, and that a host never tells more than that of itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.errors import BadRequest
from co2.protocol.wire.host_names import (
    MAX_NAME,
    MAX_NAMES,
    MAX_NAMES_SIZE,
    MAX_PACKAGES,
    check_names,
    fitting_names,
    fitting_packages,
)

NAMES = st.lists(st.text(max_size=30), max_size=20)


@given(NAMES, NAMES, st.integers(1, 400))
def test_what_a_host_tells_of_itself_is_never_refused(methods: list[str], plugins: list[str], times: int) -> None:
    told = fitting_names(methods * times, plugins * times)
    check_names(*told)
    assert told[0] == (methods * times)[: len(told[0])]
    assert told[1] == (plugins * times)[: len(told[1])]


def test_the_bounds_themselves_are_allowed_and_told() -> None:
    half = ["x" * 256] * (MAX_NAMES_SIZE // 512)
    check_names(half, half)
    assert fitting_names(half, half) == (half, half)
    assert fitting_names([*half, "y"], half) == (half, half)
    for methods, number in (([*half, "y"], MAX_NAMES_SIZE + 1), (["y"] * (MAX_NAMES + 1), MAX_NAMES + 1)):
        with pytest.raises(BadRequest, match=str(number)):
            check_names(methods, half)


def test_a_name_that_is_too_long_is_left_out_and_the_others_are_told() -> None:
    short = ["x" * MAX_NAME, "y"]
    assert fitting_names(["a" * (MAX_NAME + 1), *short], ["b" * (MAX_NAME + 1), *short]) == (short, short)


def test_packages_are_carried_as_far_as_they_can_be_told() -> None:
    assert fitting_packages([]) == 0
    assert fitting_packages(["p"] * MAX_PACKAGES) == MAX_PACKAGES
    assert fitting_packages(["p"] * (MAX_PACKAGES + 1)) == MAX_PACKAGES
    assert fitting_packages(["x" * 256] * MAX_PACKAGES) == MAX_NAMES_SIZE // 256
