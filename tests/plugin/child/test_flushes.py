"""Flushes of one load after another: a late answer is nobody else's."""

from co2.plugin.child.flushes import Flushes


def test_a_late_answer_to_a_flush_of_an_earlier_load_answers_no_other() -> None:
    earlier = Flushes()
    late = earlier.new(1.0)
    earlier.close()
    assert Flushes().new(1.0) != late
