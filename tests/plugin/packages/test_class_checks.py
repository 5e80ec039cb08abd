"""What in a class has no effect on its host, and what is only used in a roundabout way."""

import pytest

from co2.plugin.api import Co2Plugin
from co2.plugin.packages.class_checks import mentions, without_effect


class Switches(Co2Plugin):
    """Its relay is one of a lamp, and only a function within a method uses it."""

    def __init__(self, var_dict: object) -> None:
        self.switch = lambda: self.relay(True)

    def relay(self, on: bool) -> bool:
        return on


class Waits(Co2Plugin):
    """Nobody calls its relay."""

    def relay(self, on: bool) -> bool:
        return on


@pytest.mark.parametrize(("kind", "problems"), [(Switches, 0), (Waits, 1)])
def test_a_relay_that_the_class_itself_uses_is_meant_for_something_else(
    kind: type[Co2Plugin], problems: int
) -> None:
    assert mentions(kind.__mro__, "relay") is not bool(problems)
    assert len([*without_effect(kind)]) == problems
