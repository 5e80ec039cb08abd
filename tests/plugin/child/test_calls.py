"""Requests of a package's plugins: their limits, their answers in parts, and the end."""

import threading
from typing import Any

import pytest

from co2.errors import CallRefused, CallTimeout, NotRunning, PluginFailed, RemoteFault
from co2.plugin.child import calls
from co2.plugin.child.calls import MAX_TIMEOUT, OutgoingCalls, checked_timeout, result_of
from co2.protocol.wire.plugin_frames.frames import Answered, Ask, AskHosts, Host, Hosts


class Satellite:
    """Notes what it is asked, and answers at once where it is told what."""

    def __init__(self, *answers: Any) -> None:
        self.asked: list[Ask | AskHosts] = []
        self.answers = answers
        self.calls = OutgoingCalls(self._send)

    def _send(self, frame: Ask | AskHosts) -> None:
        self.asked.append(frame)
        for answer in self.answers:
            self.calls.take(answer(frame.call_id))

    def begin(self, size: int = 0) -> Any:
        return self.calls.begin("m", "", bytes(size), 1.0, lambda: None)


def test_a_call_is_asked_with_all_it_has_and_returns_its_answer() -> None:
    satellite = Satellite(lambda call_id: Answered(call_id, b"result"))
    assert satellite.calls.call("ham.it", "a@b:1", b"argument", 2.5) == b"result"
    assert satellite.calls.call("ham.it", "", b"", 2.5) == b"result"
    assert satellite.asked == [Ask(1, "ham.it", "a@b:1", b"argument", 2.5), Ask(2, "ham.it", "", b"", 2.5)]


def test_as_many_may_be_under_way_as_may_be_and_those_that_end_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_ASKS", 3)
    satellite = Satellite()
    under_way = [satellite.begin() for _ in range(3)]
    with pytest.raises(CallRefused, match="3 calls of this package are already in progress"):
        satellite.begin()
    satellite.calls.forget(under_way[1])
    satellite.calls.forget(under_way[1])
    assert satellite.begin().call_id == 4, "numbers are never used again"
    with pytest.raises(CallRefused):
        satellite.calls.hosts(0.01)


def test_their_arguments_have_a_limit_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_ASK_BYTES", 100)
    satellite = Satellite()
    first = satellite.begin(60)
    with pytest.raises(CallRefused):
        satellite.begin(41)
    second = satellite.begin(40)
    with pytest.raises(CallRefused):
        satellite.begin(1)
    for pending in (first, second, second):
        satellite.calls.forget(pending)
    satellite.begin(100)
    with pytest.raises(CallRefused):
        satellite.begin(1)


def test_a_call_that_is_over_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_ASKS", 1)
    satellite = Satellite()
    for _ in range(3):
        with pytest.raises(CallTimeout):
            satellite.calls.call("m", "", b"", 0.001)
        with pytest.raises(CallTimeout, match=r"hosts\(\)"):
            satellite.calls.hosts(0.001)
    satellite.answers = (lambda call_id: Answered(call_id, b"", PluginFailed.code, "it failed"),)
    with pytest.raises(PluginFailed, match="it failed"):
        satellite.calls.call("m", "", b"", 1.0)


def test_hosts_may_come_in_parts_and_wake_once_they_are_all_there() -> None:
    one, two, three = (Host(f"{name}@b:1") for name in "abc")
    satellite = Satellite(
        lambda call_id: Hosts(call_id, [one, two], more=True), lambda call_id: Hosts(call_id, [three])
    )
    assert satellite.calls.hosts(5.0) == [one, two, three]
    assert satellite.asked == [AskHosts(1)]
    satellite.answers = (lambda call_id: Hosts(call_id, [one], more=True),)
    with pytest.raises(CallTimeout):
        satellite.calls.hosts(0.001)


def test_an_answer_wakes_whoever_asked_and_nobody_else() -> None:
    woken: list[str] = []
    satellite = Satellite()
    first = satellite.calls.begin("a", "", b"", 1.0, lambda: woken.append("a"))
    satellite.calls.begin("b", "", b"", 1.0, lambda: woken.append("b"))
    satellite.calls.take(Answered(99, b""))
    assert (woken, first.finished) == ([], False)
    satellite.calls.take(Answered(first.call_id, b"x"))
    assert (woken, first.finished, result_of(first, "a", 1.0)) == (["a"], True, b"x")


def test_at_the_end_all_are_woken_and_nothing_more_is_asked() -> None:
    satellite = Satellite()
    came = threading.Event()
    pending = satellite.calls.begin("ham.it", "", b"", 60.0, came.set)
    assert (pending.gone, came.is_set()) == (False, False)
    satellite.calls.close()
    assert (pending.gone, came.is_set()) == (True, True)
    with pytest.raises(NotRunning, match=r"ham\.it: the satellite has ended"):
        result_of(pending, "ham.it", 60.0)
    with pytest.raises(NotRunning, match="nothing can be called"):
        satellite.begin()
    assert len(satellite.asked) == 1


def test_what_is_no_number_of_seconds_is_refused_and_what_is_too_much_is_cut() -> None:
    for timeout in (0, -1, float("nan"), True, "1", None):
        wrong: Any = timeout
        with pytest.raises(ValueError, match="a number of seconds above 0, found"):
            checked_timeout(wrong)
    for timeout in (-0.1, False):
        with pytest.raises(ValueError, match="a number of seconds from 0 up, found"):
            checked_timeout(timeout, zero=True)
    found = [checked_timeout(0, zero=True), checked_timeout(0.5), checked_timeout(1, zero=True)]
    assert found == [0.0, 0.5, 1.0]
    assert [checked_timeout(MAX_TIMEOUT + spare) for spare in (-1, 0, 1, float("inf"))] == [
        MAX_TIMEOUT - 1, MAX_TIMEOUT, MAX_TIMEOUT, MAX_TIMEOUT,
    ]  # fmt: skip


def test_an_error_that_is_not_ours_keeps_its_code() -> None:
    satellite = Satellite(lambda call_id: Answered(call_id, b"", 77, "no such luck"))
    with pytest.raises(RemoteFault, match="no such luck") as caught:
        satellite.calls.call("m", "", b"", 1.0)
    assert 77 in caught.value.args


def test_an_answer_that_takes_its_time_is_waited_for() -> None:
    satellite = Satellite()

    def later(answer: Any) -> threading.Timer:
        timer = threading.Timer(0.02, satellite.calls.take, (answer,))
        timer.start()
        return timer

    timers = [later(Answered(1, b"result"))]
    assert satellite.calls.call("m", "", b"", 20.0) == b"result"
    timers.append(later(Hosts(2, [Host("a@b:1")])))
    assert satellite.calls.hosts(20.0) == [Host("a@b:1")]
    for timer in timers:
        timer.join()


def test_the_list_of_hosts_takes_no_room_of_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_ASK_BYTES", 100)
    satellite = Satellite(lambda call_id: Hosts(call_id, []))
    satellite.answers, answers = (), satellite.answers
    satellite.begin(100)
    satellite.answers = answers
    assert satellite.calls.hosts(5.0) == []
