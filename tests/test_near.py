"""Only a name that is a slip away is offered."""

import pytest

from co2.near import nearest


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("rellay", "relay"),
        ("relya", "relay"),
        ("relais", "relay"),
        ("OSC", "osc"),
        ("osk", "osc"),
        ("sysinf", "sysinfo"),
        ("exmaple", "example"),
        ("nosuch", ""),
        ("os", "osc"),
        ("x", ""),
        ("", ""),
        ("o" * 65, ""),
    ],
)
def test_only_a_slip_is_near(typed: str, meant: str) -> None:
    assert nearest(typed, ["example", "osc", "relay", "sysinfo"]) == meant


def test_the_nearest_of_several() -> None:
    assert nearest("prot", ["part", "port", "pro"]) == "port"
    assert nearest("abc", []) == ""
