"""The life of a host in this process: ready line, signals, errors at the start and at the end, and how it ends."""

import asyncio
import gc
import io
import logging
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from co2 import __version__, values
from co2.config import HostConfig, RelayConfig, SatelliteConfig
from co2.errors import ConfigError
from co2.server.process import run
from co2.server.process.run import STOP_TIMEOUT, Ending, Foundation, run_host


class LastResort:
    """Stands for the timer that ends the process: nothing in this process may."""

    made: list["LastResort"]

    def __init__(self, seconds: float, leave: Callable[[], None]) -> None:
        self.seconds = seconds
        self.leave = leave
        self.daemon = False
        self.started_as_daemon: bool | None = None
        self.made.append(self)

    def start(self) -> None:
        self.started_as_daemon = self.daemon


@pytest.fixture(autouse=True)
def last_resort(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LastResort]]:
    """Have a process as it was before, afterwards."""
    made: list[LastResort] = []
    monkeypatch.setattr(LastResort, "made", made, raising=False)
    monkeypatch.setattr("co2.server.process.run.threading.Timer", LastResort)
    depth, threshold, policy = sys.getrecursionlimit(), gc.get_threshold(), asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
    yield made
    sys.setrecursionlimit(depth)
    gc.set_threshold(*threshold)
    gc.unfreeze()
    asyncio.set_event_loop_policy(policy)


class Player:
    """A role that notes what is asked of it, and does what a test wants."""

    ready_line = "ready player"

    def __init__(self, *, start: Any = None, stop: Any = None, serve: Any = None) -> None:
        self.asked: list[str] = []
        self.foundation: Foundation
        self._start, self._stop, self._serve = start, stop, serve
        self._tasks: list[asyncio.Task[None]] = []

    def make(self, foundation: Foundation) -> "Player":
        self.foundation = foundation
        return self

    async def start(self) -> None:
        self.asked.append("start")
        try:
            if self._start is not None:
                await self._start(self)
        except asyncio.CancelledError:
            self.asked.append("cancelled")
            raise
        if self._serve is not None:
            self._tasks.append(asyncio.create_task(self._served()))

    async def _served(self) -> None:
        try:
            async with asyncio.timeout(10):
                await self._serve(self)
        except Exception as error:  # a test that fails is to end
            self.foundation.ending.give_up(repr(error))

    async def hangup(self) -> None:
        self.asked.append("hangup")
        self.foundation.ending.event.set()

    async def stop(self) -> None:
        self.asked.append("stop")
        if self._stop is not None:
            await self._stop(self)


def gets(number: signal.Signals) -> Any:
    async def serve(_player: Player) -> None:
        os.kill(os.getpid(), number)

    return serve


async def give_up(player: Player) -> None:
    player.foundation.ending.give_up("the disk is gone")
    player.foundation.ending.give_up("and nothing works")


async def for_ever(_player: Player) -> None:
    await asyncio.Event().wait()


async def fail(_player: Player) -> None:
    raise ValueError("canary")


def config(folder: Path, **more: Any) -> HostConfig:
    return SatelliteConfig(port=0, port_given=True, state=folder / "state", **more)


def log_of(folder: Path) -> str:
    return (folder / "state/logs/co2.log").read_text()


def lives(folder: Path, player: Player, **more: Any) -> int:
    return run_host(config(folder, **more), player.make)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_host_serves_until_a_signal_ends_it(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    player = Player(serve=gets(number))
    assert lives(tmp_path, player) == 0
    assert player.asked == ["start", "stop"]
    assert capsys.readouterr().out == "ready player\n"
    assert player.foundation.state.path == tmp_path / "state"
    assert player.foundation.port > 0
    log = log_of(tmp_path)
    assert f"co2 {__version__} starts" in log
    assert log.index("stopping") < log.index("stopped")
    assert "ERROR" not in log
    assert "CRITICAL" not in log


def test_the_ready_line_is_there_at_once_for_a_program_that_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = io.BytesIO()

    async def serve(player: Player) -> None:
        async with asyncio.timeout(5):
            while pipe.getvalue() != b"ready player\n":
                await asyncio.sleep(0.001)
        await give_up(player)

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, "utf-8"))
    lives(tmp_path, Player(serve=serve))
    assert "ended: the disk is gone" in log_of(tmp_path)


def test_the_process_is_prepared_before_its_role_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(run, "go_first", lambda: done.append("its thread goes first"))
    monkeypatch.setattr(run, "give_back_large_pieces", lambda: done.append("memory goes back"))

    def make(foundation: Foundation) -> Player:
        done.append("made")
        return Player(serve=give_up).make(foundation)

    run_host(config(tmp_path), make)
    assert done == ["its thread goes first", "memory goes back", "made"]


def test_what_a_host_has_is_closed_behind_it(tmp_path: Path) -> None:
    player = Player(serve=give_up)
    before = logging.getLogger("co2").handlers[:]
    lives(tmp_path, player)
    assert player.foundation.sock.fileno() == -1
    assert logging.getLogger("co2").handlers == before
    assert lives(tmp_path, Player(serve=give_up)) == 1, "its state folder can be locked again"


def test_sighup_applies_changes(tmp_path: Path) -> None:
    player = Player(serve=gets(signal.SIGHUP))
    assert lives(tmp_path, player) == 0
    assert player.asked == ["start", "hangup", "stop"]


def test_a_host_that_cannot_continue_ends_with_its_first_reason(tmp_path: Path) -> None:
    assert lives(tmp_path, Player(serve=give_up)) == 1
    log = log_of(tmp_path)
    assert "ended: the disk is gone" in log
    assert "and nothing works" not in log


def test_a_host_that_gives_up_while_it_starts_is_never_ready(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    player = Player(start=give_up)
    assert lives(tmp_path, player) == 1
    assert player.asked == ["start", "stop"]
    assert capsys.readouterr().out == ""


def test_a_signal_during_the_start_cancels_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def start(player: Player) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await for_ever(player)

    player = Player(start=start)
    assert lives(tmp_path, player) == 0
    assert player.asked == ["start", "cancelled", "stop"]
    assert capsys.readouterr().out == ""


def test_an_error_of_the_start_is_raised_and_the_role_is_stopped(tmp_path: Path) -> None:
    player = Player(start=fail)
    with pytest.raises(ValueError, match="canary"):
        lives(tmp_path, player)
    assert player.asked == ["start", "stop"]


def test_an_error_of_the_end_is_logged(tmp_path: Path) -> None:
    assert lives(tmp_path, Player(serve=gets(signal.SIGTERM), stop=fail)) == 0
    log = log_of(tmp_path)
    assert "stopping failed" in log
    assert "canary" in log
    assert "stopped" in log


def test_an_end_that_takes_too_long_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "STOP_TIMEOUT", 0.35)
    assert lives(tmp_path, Player(serve=gets(signal.SIGTERM), stop=for_ever)) == 0
    log = log_of(tmp_path)
    assert "not everything ended within 0.35 s" in log
    assert "stopped" in log


def test_changes_that_are_being_applied_do_not_delay_the_end(tmp_path: Path) -> None:
    class Hangs(Player):
        async def hangup(self) -> None:
            await super().hangup()
            try:
                await for_ever(self)
            finally:
                self.asked.append("given up")

    player = Hangs(serve=gets(signal.SIGHUP))
    assert lives(tmp_path, player) == 0
    assert player.asked == ["start", "hangup", "given up", "stop"]


@pytest.mark.parametrize(("serve", "code"), [(gets(signal.SIGTERM), 0), (give_up, 1)])
def test_a_process_that_something_blocks_ends_in_time(
    serve: Any, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_resort: list[LastResort]
) -> None:
    codes: list[int] = []
    written: list[str] = []

    async def stop(_player: Player) -> None:
        logging.getLogger("co2.access").info("the last request")
        last_resort[0].leave()
        written.append((tmp_path / "state/logs/access.log").read_text())

    monkeypatch.setattr(os, "_exit", codes.append)
    assert lives(tmp_path, Player(serve=serve, stop=stop)) == code
    (timer,) = last_resort
    assert timer.seconds == STOP_TIMEOUT
    assert timer.started_as_daemon is True, "it does not delay the end itself"
    assert codes == [code]
    assert "the last request" in written[0]
    assert "a blocking system call delays the end of the process" in log_of(tmp_path)


@pytest.mark.parametrize(("bind", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_a_host_that_others_can_reach_says_so(bind: str, warned: bool, tmp_path: Path) -> None:
    lives(tmp_path, Player(serve=give_up), bind=bind)
    assert (f"listening on {bind}: anyone who can reach this port" in log_of(tmp_path)) is warned


def test_what_is_there_after_the_start_is_no_work_for_the_garbage_collector(tmp_path: Path) -> None:
    found: list[tuple[int, tuple[int, int, int]]] = []
    garbage: list[weakref.ref[Any]] = []

    async def start(_player: Player) -> None:
        one = Player()
        one.asked.append(one)  # type: ignore[arg-type] # a cycle
        garbage.append(weakref.ref(one))

    async def serve(player: Player) -> None:
        try:
            async with asyncio.timeout(10):
                while not gc.get_freeze_count():
                    await asyncio.sleep(0.001)
        finally:
            found.append((gc.get_freeze_count(), gc.get_threshold()))
            await give_up(player)

    lives(tmp_path, Player(start=start, serve=serve))
    ((frozen, threshold),) = found
    assert frozen > 10_000
    assert threshold == (2_000, 10, 30)
    assert garbage[0]() is None, "it would never be freed"


def test_values_may_be_as_deep_as_they_may_travel(tmp_path: Path) -> None:
    lives(tmp_path, Player(serve=give_up))
    assert sys.getrecursionlimit() == values.RECURSION_LIMIT


@pytest.mark.parametrize("refused", [False, True])
def test_ends_of_processes_take_no_threads(refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some kernels, and some containers, have no files for processes."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this system has no files for processes")
    threads: list[list[str]] = []

    async def serve(player: Player) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=-1)
        threads.append([one.name for one in threading.enumerate() if "waitpid" in one.name])
        await process.communicate(b"\n")
        assert process.returncode == 0
        await give_up(player)

    def refuse(_pid: int) -> int:
        raise PermissionError

    if refused:
        monkeypatch.setattr(os, "pidfd_open", refuse)
    monkeypatch.setitem(sys.modules, "uvloop", None)  # it has ways of its own
    lives(tmp_path, Player(serve=serve), express=False)
    if not refused:
        assert threads == [[]]
    elif sys.version_info < (3, 12):
        assert len(threads[0]) == 1


def test_a_plugin_folder_that_was_given_must_be_there(tmp_path: Path) -> None:
    missing = tmp_path / "plugins"
    with pytest.raises(ConfigError, match=f"there is no folder {missing}") as caught:
        lives(tmp_path, Player(), plugin_dir=missing, plugin_dir_from="--plugin-dir")
    assert caught.value.where == "--plugin-dir"
    assert lives(tmp_path, Player(serve=give_up), plugin_dir=missing) == 1, "the default one need not be"
    missing.mkdir()
    assert lives(tmp_path, Player(serve=give_up), plugin_dir=missing, plugin_dir_from="--plugin-dir") == 1


class Neighbour:
    """Somebody has a port; the host beside it may be a relay."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, is_relay: bool) -> None:
        self.looked: list[tuple[str, int]] = []
        self._is_relay = is_relay
        monkeypatch.setattr(run, "refuse_second_relay", self._refuse)

    def _refuse(self, bind: str, port: int) -> None:
        self.looked.append((bind, port))
        if self._is_relay:
            raise ConfigError("port", "there is a relay")


@pytest.fixture
def port() -> Iterator[int]:
    """A port that somebody has."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield int(sock.getsockname()[1])


def test_a_satellite_takes_the_next_port_beside_anybody(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    neighbour = Neighbour(monkeypatch, is_relay=True)
    player = Player(serve=give_up)
    run_host(SatelliteConfig(port=port, state=tmp_path / "state"), player.make)
    assert neighbour.looked == []
    assert player.foundation.port > port
    assert f"port {port} is taken, using {player.foundation.port}" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=f"port {port} is"):
        run_host(SatelliteConfig(port=port, port_given=True, state=tmp_path / "state"), player.make)
    assert neighbour.looked == []


def test_a_relay_takes_the_next_port_unless_a_relay_has_its_own(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbour = Neighbour(monkeypatch, is_relay=False)
    player = Player(serve=give_up)
    run_host(RelayConfig(port=port, state=tmp_path / "state"), player.make)
    assert player.foundation.port > port
    assert neighbour.looked == [("127.0.0.1", port)]
    Neighbour(monkeypatch, is_relay=True)
    with pytest.raises(ConfigError, match="there is a relay"):
        run_host(RelayConfig(port=port, state=tmp_path / "state"), player.make)
    with pytest.raises(ConfigError, match="there is a relay"):
        run_host(RelayConfig(port=port, port_given=True, state=tmp_path / "state"), player.make)
    other = Neighbour(monkeypatch, is_relay=False)
    with pytest.raises(ConfigError, match=f"port {port} is"):
        run_host(RelayConfig(port=port, port_given=True, state=tmp_path / "state"), player.make)
    assert other.looked == [("127.0.0.1", port)]


@pytest.mark.parametrize("given", [False, True])
def test_a_relay_on_a_port_of_its_own_looks_for_nobody(
    given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    neighbour = Neighbour(monkeypatch, is_relay=True)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        free = int(sock.getsockname()[1])
    for number in (0, free):
        player = Player(serve=give_up)
        run_host(RelayConfig(port=number, port_given=given or not number, state=tmp_path / "state"), player.make)
        assert player.foundation.port == (number or player.foundation.port)
    assert neighbour.looked == []
    assert "is taken" not in capsys.readouterr().err


def test_a_host_that_has_no_address_to_listen_on_looks_for_no_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbour = Neighbour(monkeypatch, is_relay=True)
    with pytest.raises(ConfigError) as caught:
        run_host(RelayConfig(port=0, bind="192.0.2.1", state=tmp_path / "state"), Player().make)
    assert caught.value.where == "bind"
    assert neighbour.looked == []


def test_without_uvloop_asyncio_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import uvloop

    assert run._loop_factory(False) is uvloop.new_event_loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run._loop_factory(False) is None


def test_an_ending_without_a_failure_is_in_good_order() -> None:
    assert Ending().failure == ""
    assert not Ending().event.is_set()
