"""Frames that are not complete share one budget."""

from co2.server.link.unfinished import Unfinished


class Link:
    def __init__(self) -> None:
        self.why = ""

    def break_off(self, why: str) -> None:
        self.why = why


def test_the_oldest_of_the_address_that_holds_most_goes() -> None:
    budget = Unfinished(1000)
    honest, first, second, third = (Link() for _ in range(4))
    budget.hold(honest, "192.0.2.1", 300)
    budget.hold(first, "192.0.2.2", 350)
    budget.hold(second, "192.0.2.2", 300)
    assert budget.total == 950
    budget.hold(second, "192.0.2.2", 340)
    budget.hold(third, "192.0.2.2", 100)
    assert "more than 1000 bytes" in first.why
    assert [honest.why, second.why, third.why] == ["", "", ""]
    assert budget.total == 740
    for link in (honest, second, third, third):
        budget.release(link)
    assert budget.total == 0


def test_one_that_is_larger_than_the_budget_goes_itself() -> None:
    budget = Unfinished(1000)
    link = Link()
    budget.hold(link, "192.0.2.1", 1001)
    assert link.why
    assert budget.total == 0
