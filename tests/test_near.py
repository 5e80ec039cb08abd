"""Only a name that is a slip away is offered."""

import subprocess
import sys
import time

import pytest

from co2.near import nearest
from co2.relay.method_lookup import MAX_COMPARED


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
    assert nearest("relaay", ["really", "relays", "relay"]) == "relay"
    assert nearest("abc", []) == ""
    for known in (["ham", "map"], ["map", "ham"]):
        assert nearest("hma", known) == "ham", "the same letters in another order"


def test_a_name_is_offered_as_it_is_written() -> None:
    assert nearest("x_fadr", ["X_Fader", "X_Meter"]) == "X_Fader"


def test_names_that_are_made_to_be_dear_take_no_time_that_matters() -> None:
    """As many as a relay compares, of as many letters: they share all letters and no order."""
    began = time.process_time()
    assert nearest("abc" * 21, [f"{'acb' * 20}{at:03}" for at in range(MAX_COMPARED)]) == ""
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "module", ["co2.cli.main", "co2.plugin.child.host", "co2.relay.main", "co2.satellite.main"]
)
def test_nobody_waits_for_what_compares_before_there_is_something_to_compare(module: str) -> None:
    code = f"import sys, {module}; print('difflib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
