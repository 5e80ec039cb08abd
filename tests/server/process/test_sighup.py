"""SIGHUP applies changes, one after the other; that of a terminal that is gone ends the host."""

import asyncio
import signal
from collections.abc import Callable

import pytest

from co2.server.process import sighup
from co2.server.process.sighup import HangupSignal


class Host:
    """A host that gets the signal: it counts how often it has begun to apply changes, and holds the work."""

    def __init__(self) -> None:
        self.begun = self.done = 0
        self.fails = False
        self.go_on = asyncio.Event()
        self.stopping = asyncio.Event()
        self.signal = HangupSignal(self._apply, self.stopping)

    async def _apply(self) -> None:
        self.begun += 1
        if self.fails:
            raise ValueError("ours")
        await self.go_on.wait()
        self.done += 1


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


class Terminal:
    """Whether there is one, now."""

    def __init__(self) -> None:
        self.is_there = True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    found = Terminal()
    monkeypatch.setattr(sighup, "_has_terminal", lambda: found.is_there)
    monkeypatch.setattr(sighup, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(signal, "getsignal", lambda _number: signal.SIG_DFL)
    return found


def test_signals_during_the_work_make_it_begin_once_more(terminal: Terminal) -> None:
    async def test() -> None:
        host = Host()
        host.signal.take()
        await until(lambda: host.begun == 1)
        for _ in range(3):
            host.signal.take()
        await asyncio.sleep(0)
        assert host.begun == 1, "one after the other"
        host.go_on.set()
        await until(lambda: host.done == 2)
        host.signal.take()
        await until(lambda: host.done == 3)
        await host.signal.stop()
        assert (host.begun, host.stopping.is_set()) == (3, False)

    asyncio.run(test())


def test_an_error_in_the_work_is_logged_and_the_next_signal_works(
    terminal: Terminal, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        host = Host()
        host.fails = True
        host.signal.take()
        await until(lambda: "the changes could not be applied" in caplog.text)
        host.fails = False
        host.go_on.set()
        host.signal.take()
        await until(lambda: host.done)

    asyncio.run(test())
    assert "ValueError: ours" in caplog.text


def test_a_host_whose_terminal_is_gone_ends_and_applies_nothing(terminal: Terminal) -> None:
    async def test() -> None:
        host = Host()
        terminal.is_there = False
        host.signal.take()
        assert host.stopping.is_set()
        await asyncio.sleep(0)
        assert host.begun == 0

    asyncio.run(test())


def test_a_host_ends_also_if_its_terminal_goes_a_moment_later(terminal: Terminal) -> None:
    async def test() -> None:
        host = Host()
        host.signal.take()
        await until(lambda: host.begun)
        assert not host.stopping.is_set()
        terminal.is_there = False
        await until(host.stopping.is_set)
        await host.signal.stop()

    asyncio.run(test())


@pytest.mark.parametrize("why", ["nohup", "no terminal at the start"])
def test_a_host_that_was_to_outlive_its_terminal_applies_changes(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "nohup":
        monkeypatch.setattr(signal, "getsignal", lambda _number: signal.SIG_IGN)
    else:
        terminal.is_there = False

    async def test() -> None:
        host = Host()
        terminal.is_there = False
        host.go_on.set()
        host.signal.take()
        await until(lambda: host.done)
        assert not host.stopping.is_set()

    asyncio.run(test())


def test_a_stop_ends_the_work_and_waits_for_its_end(terminal: Terminal) -> None:
    async def test() -> None:
        host = Host()
        await host.signal.stop()
        host.signal.take()
        await until(lambda: host.begun)
        await host.signal.stop()
        assert {task.get_name() for task in asyncio.all_tasks()}.isdisjoint({"SIGHUP"})
        assert host.done == 0

    asyncio.run(test())
