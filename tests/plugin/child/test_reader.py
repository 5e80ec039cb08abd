"""The way into a plugin host: who reads, and that nothing is missed when that changes."""

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from co2.plugin.child import reader as reader_module
from co2.plugin.child.reader import TICK, SocketReader
from co2.plugin.child.wakeup import Wakeup
from co2.protocol.wire.plugin_frames.frames import Deliver, Flow, Stop, encode_frame
from tests.plugin.support import PATIENCE


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


class Reading:
    """A way in, with a plugin whose thread waits in it unless it is told to be busy."""

    def __init__(self) -> None:
        self.satellite, ours = socket.socketpair()
        self.ours = ours
        self.came: list[tuple[Any, int | None]] = []
        self.mail: deque[Any] = deque()
        self.accepted: list[Any] = []
        self.jobs: deque[Callable[[], None]] = deque()
        self.garbage: list[str] = []
        self.told = 0
        self.ended = threading.Event()
        self.idle = False
        self.running = True
        self.wakeup = Wakeup()
        self.way = SocketReader(
            ours, self._take, garbage=self.garbage.append, broken=lambda: None, ended=self.ended.set
        )
        self.thread = threading.Thread(target=self._run)
        self.way.start()

    def send(self, *numbers: float) -> None:
        self.satellite.sendall(b"".join(encode_frame(Stop(number)) for number in numbers))

    @property
    def numbers(self) -> list[float]:
        return [frame.timeout for frame, _ in self.came]

    def expect(self, count: int) -> None:
        until(lambda: self.numbers == [*range(count)], f"the first {count} have come, in order")

    def expect_own(self, numbers: list[float]) -> None:
        until(lambda: self.numbers == numbers, "they have come")
        assert all(self.read_by_plugin())

    def read_by_plugin(self) -> list[bool]:
        return [reader == self.thread.ident for _, reader in self.came]

    def begin(self) -> None:
        """Start the plugin; return when it reads. The stand-in may be in a read, which the first frame ends."""
        self.thread.start()
        self.way.set_plugin(self)
        self.wake()
        self.send(-1)
        until(lambda: self.came and self.way.polling, "it reads")
        self.came.clear()

    def do(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)
        self.wake()

    def wake(self) -> None:
        if threading.get_ident() != self.thread.ident:
            self.wakeup.ring()
            if self.way.polling:
                self.way.wake()

    def tell_progress(self) -> None:
        self.told += 1

    def close(self) -> None:
        self.way.set_plugin(None)
        self.running = False
        self.wake()
        if self.thread.is_alive():
            self.thread.join(PATIENCE)
        with contextlib.suppress(OSError):
            self.ours.shutdown(socket.SHUT_RDWR)
        self.way.join(PATIENCE)
        self.ours.close()
        self.satellite.close()

    def _take(self, frame: Any) -> None:
        self.came.append((frame, threading.get_ident()))
        self.mail.append(frame)
        self.wake()

    def _run(self) -> None:
        while self.running:
            while self.running and not self.jobs and not self.mail:
                self.idle = True
                self.way.wait(
                    lambda: bool(self.jobs or self.mail or not self.running), self.accepted.append, self.wakeup
                )
                self.idle = False
            if self.jobs:
                self.jobs.popleft()()
            self.mail.clear()


@pytest.fixture
def reading() -> Iterator[Reading]:
    made = Reading()
    yield made
    made.close()


def test_before_there_is_a_plugin_the_stand_in_reads(reading: Reading) -> None:
    reading.send(1, 2)
    until(lambda: reading.numbers == [1, 2], "both have come")


def test_a_thread_that_does_not_read_waits_to_be_woken(reading: Reading) -> None:
    """One that looked again and again in place of this would take a processor."""
    reading.wakeup.ring()
    reading.way.wait(lambda: False, reading.accepted.append, reading.wakeup)
    assert not reading.wakeup.wait(timeout=0), "the ring is what it waited for"


def test_the_plugins_own_thread_reads_and_wakes_nobody(reading: Reading) -> None:
    reading.begin()
    for number in range(200):
        reading.send(number)
        reading.expect(number + 1)
    assert all(reading.read_by_plugin())


def test_messages_that_the_plugin_reads_are_its_own_at_once(reading: Reading) -> None:
    reading.begin()
    for number in range(1, 100):
        frame = Deliver(number, 0, 0, "a@1.2.3.4:5", ("1.2.3.4", 5), b"batch")
        reading.satellite.sendall(encode_frame(frame) + encode_frame(Flow(True)))
        until(lambda: len(reading.accepted) == number, "it has come")  # noqa: B023
        assert reading.accepted[-1] == frame
    until(lambda: len(reading.came) == 99, "what else has come goes the way of everything")
    assert all(reading.read_by_plugin())


def test_while_the_plugin_is_busy_the_stand_in_reads_and_then_gives_back(reading: Reading) -> None:
    reading.begin()
    for begin in range(0, 30, 3):
        go_on = threading.Event()
        reading.do(lambda event=go_on: event.wait(PATIENCE))  # type: ignore[misc]
        until(lambda: not reading.idle, "it is busy")
        reading.send(begin, begin + 1)
        reading.expect(begin + 2)
        assert not any(reading.read_by_plugin()[-2:])
        go_on.set()
        until(lambda: reading.way.polling, "it reads again by itself")
        reading.send(begin + 2)
        reading.expect(begin + 3)
        assert reading.read_by_plugin()[-1]


def test_nothing_there_is_no_end(reading: Reading) -> None:
    reading.ours.setblocking(False)
    reading.way._read()
    reading.begin()
    reading.send(0)
    reading.expect(1)


def test_a_job_wakes_a_plugin_that_waits_for_the_socket(reading: Reading) -> None:
    reading.begin()
    for _ in range(100):
        done = threading.Event()
        reading.do(done.set)
        assert done.wait(PATIENCE)


def test_after_a_while_of_silence_it_is_told_where_the_plugin_stands(reading: Reading) -> None:
    reading.begin()
    reading.send(1)
    until(lambda: reading.told > 0, "told")
    told = reading.told
    reading.send(2)
    until(lambda: reading.told > told, "told again, though the stand-in had gone to rest")


class Deciding:
    """A plugin that is the test's own thread. The stand-in stops before it decides to rest, until it may go on."""

    def __init__(self) -> None:
        self.decides, self.may_go_on, self.looked = threading.Event(), threading.Event(), threading.Event()
        self.wakeup = Wakeup()
        self._idle = True
        self._told = 0

    @property
    def idle(self) -> bool:
        found = self._idle
        if self.may_go_on.is_set():
            self.looked.set()
        return found

    @idle.setter
    def idle(self, value: bool) -> None:
        self._idle = value

    def wake(self) -> None:
        self.wakeup.ring()

    def tell_progress(self) -> None:
        self._told += 1
        if self._told > 1:  # its first rest ends at once: setting the plugin has woken it
            self.decides.set()
            assert self.may_go_on.wait(PATIENCE)


def test_the_stand_in_does_not_rest_where_a_job_came_just_before() -> None:
    """Nobody would read while the plugin does that job: not even the answer that the job waits for."""
    satellite, ours = socket.socketpair()
    came: list[Any] = []
    plugin, ended = Deciding(), threading.Event()
    reader = SocketReader(ours, came.append, garbage=print, broken=lambda: None, ended=ended.set)
    reader.start()
    reader.set_plugin(plugin)
    threading.Thread(target=lambda: plugin.decides.wait(PATIENCE) and reader.wake()).start()
    while not plugin.decides.is_set():
        reader.wait(lambda: False, came.append, plugin.wakeup)  # the job ends it
    plugin.may_go_on.set()
    assert plugin.looked.wait(PATIENCE)
    plugin.idle = False
    with satellite, ours:
        satellite.sendall(encode_frame(Flow(True)))
        try:
            until(lambda: came, "it is read for the busy plugin")
        finally:
            reader.set_plugin(None)
            satellite.shutdown(socket.SHUT_RDWR)
            reader.join(PATIENCE)


def test_frames_in_pieces_and_many_at_once_come_whole_and_in_order(reading: Reading) -> None:
    reading.begin()
    stream = b"".join(encode_frame(Stop(number)) for number in range(20_000))
    for start in range(0, 200):
        reading.satellite.sendall(stream[start : start + 1])
    reading.satellite.sendall(stream[200:])
    until(lambda: len(reading.came) == 20_000, "all of them")
    assert reading.numbers == [*range(20_000)]


@pytest.mark.parametrize("busy", [False, True])
def test_the_end_of_the_socket_is_told_once_whoever_reads(reading: Reading, busy: bool) -> None:
    reading.begin()
    go_on = threading.Event()
    if busy:
        reading.do(lambda: go_on.wait(PATIENCE) and None)  # type: ignore[arg-type]
    reading.satellite.sendall(encode_frame(Flow(False)))
    reading.satellite.close()
    assert reading.ended.wait(PATIENCE)
    assert len(reading.came) == 1
    go_on.set()


def test_garbage_is_told_and_nothing_comes_after_it(reading: Reading) -> None:
    reading.begin()
    reading.satellite.sendall(b"\0\0\0\1\xc1" + encode_frame(Flow(True)))
    assert reading.ended.wait(PATIENCE)
    assert "not a frame" in reading.garbage[0]
    assert reading.came == []


def test_a_plugin_that_comes_before_anything_has_come_reads_at_once(reading: Reading) -> None:
    reading.thread.start()
    reading.way.set_plugin(reading)
    reading.wake()
    until(lambda: reading.way.polling, "it reads")
    reading.send(1)
    reading.expect_own([1])


def test_a_bell_that_was_heard_is_silent_again(reading: Reading) -> None:
    reading.begin()
    for _ in range(10):
        done = threading.Event()
        reading.do(done.set)
        assert done.wait(PATIENCE)
        until(lambda: reading.way.polling and not rings(reading.way._wakes), "it waits, and nothing rings")


def rings(wakeup: socket.socket) -> bool:
    try:
        return bool(wakeup.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


def test_the_stand_in_looks_at_intervals_and_takes_no_processor_between_them(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    stops, stopped, may_look = threading.Event(), threading.Event(), threading.Semaphore(0)

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if stops.is_set():
            stopped.set()
            assert may_look.acquire(timeout=PATIENCE)
        else:
            time.sleep(seconds)

    monkeypatch.setattr(reader_module, "time", SimpleNamespace(sleep=sleep))
    go_on = threading.Event()
    try:
        reading.begin()
        stops.set()
        reading.send(-1)  # what the plugin reads ends a rest of the stand-in
        until(lambda: reading.came, "the plugin has read it")
        until(stopped.is_set, "the stand-in waits before it looks")
        reading.came.clear()
        reading.do(lambda: go_on.wait(PATIENCE) and None)  # type: ignore[arg-type]
        until(lambda: not reading.idle and not reading.jobs, "the plugin is busy")
        reading.send(0)
        assert reading.came == [], "nobody has looked yet"
        until(lambda: may_look.release() or reading.came, "it is read for the busy plugin")  # type: ignore[func-returns-value]
        assert set(looks) == {TICK}
    finally:
        stops.clear()
        go_on.set()
        may_look.release(1000)
