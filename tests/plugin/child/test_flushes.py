"""Flushes of one load after another: a late answer is nobody else's."""

import threading
import time

import pytest

from co2.errors import FlushTimeout, NotRunning
from co2.plugin.child import flushes
from co2.plugin.child.flushes import Flushes


def test_a_late_answer_to_a_flush_of_an_earlier_load_answers_no_other() -> None:
    earlier = Flushes()
    late = earlier.new(1.0)
    earlier.close()
    assert Flushes().new(1.0) != late


def test_as_many_may_wait_as_may_be_and_those_that_were_forgotten_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flushes, "MAX_FLUSHES", 2)
    pending = Flushes()
    first, _ = pending.new(1.0), pending.new(1.0)
    with pytest.raises(FlushTimeout, match="2 flushes of this package are already waiting"):
        pending.new(1.0)
    pending.forget(first)
    pending.forget(first)
    pending.new(1.0)


def test_a_flush_waits_until_its_answer_comes() -> None:
    pending = Flushes()
    number = pending.new(20.0)
    answering = threading.Timer(0.02, pending.answer, (number, ""))
    answering.start()
    pending.wait(number, 20.0, 20.0)
    answering.join()


def test_the_end_wakes_a_flush_at_once() -> None:
    pending = Flushes()
    number = pending.new(600.0)
    ending = threading.Timer(0.02, pending.close)
    ending.start()
    began = time.monotonic()
    with pytest.raises(NotRunning, match="the last messages may be lost"):
        pending.wait(number, 600.0, 600.0)
    assert time.monotonic() - began < 60
    ending.join()
