"""Where a plugin stands, whatever comes between its messages."""

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from co2.plugin.child import receiver as receiving
from co2.plugin.child import speedups
from co2.plugin.child.progress import ProgressWords
from co2.plugin.child.receiver import Receiver
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.plugin_frames.frames import Deliver
from co2.values import pack


class Ground:
    """Notes what the receiver wants of it."""

    name = "spam"

    def __init__(self) -> None:
        self.jobs: deque[Callable[[], None]] = deque()
        self.given_up: list[bytes] = []

    def run_jobs(self) -> bool:
        while self.jobs:
            self.jobs.popleft()()
        return True

    def report(self) -> None:
        pass

    def finished(self, result: Any) -> Any:
        return result

    def give_up(self, frame: Deliver, message: bytes, error: BaseException) -> None:
        self.given_up.append(message)

    def complain(self, what: str, error: BaseException) -> None:
        pass

    def stumble(self, error: BaseException) -> None:
        pass


def deliver(first: int, *data: Any) -> Deliver:
    return Deliver(first, 0, 0, "a@b:1", ("b", 1), make_batch([pack({"data": value}) for value in data]))


@pytest.mark.parametrize("loop", [speedups.give, speedups._give], ids=["compiled", "plain"])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_fails_between_two_messages_is_taken_for_none_of_them(
    monkeypatch: pytest.MonkeyPatch, loop: Callable[..., Any], before: int
) -> None:
    """No memory for the call itself; or an exception that somebody has thrown into the plugin's thread."""
    taken: list[Any] = []
    calls: list[int] = []

    def give(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == before + 1:
            raise MemoryError
        return loop(*args)

    def receive(message: Any) -> Any:
        taken.append(message["data"])
        if message["data"] == 1:
            raise LookupError
        return message["data"]  # so that each is a call of its own

    monkeypatch.setattr(receiving, "give", give)
    actor = Ground()
    plugin: Any = SimpleNamespace(receive=receive)
    receiver = Receiver(actor, (), ProgressWords().words, 0)
    frame = deliver(1000, 0, 1, 2)
    with pytest.raises(MemoryError):
        receiver.take(plugin, frame)
    assert receiver.done == 999 + before
    receiver.take(plugin, frame)
    assert taken == [0, 1, 2]
    assert actor.given_up == [pack({"data": 1})]
    assert (receiver.done, receiver.failed) == (1002, 1)
