"""Plugins as they are in practice: each is contained and named, and the one beside it misses nothing."""

import asyncio
import contextlib
import logging
import os
import re
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from co2.plugin.parent.process_output import RATE
from co2.plugin.parent.supervisor import PackageSpec
from tests.pids import is_gone, is_there
from tests.plugin.support import PATIENCE, Carrier, Settings, carrying

PLUGINS = Path(__file__).parent / "plugins"
PRINTED = int(os.environ.get("CO2_ZOO_PRINT_MB", "1000")) * 1_000_000
QUICK = Settings(receive_warning=0.3, receive_deadline=0.8, load_timeout=15.0)


@dataclass
class Zoo:
    """A broken package beside the healthy one, which gets a number with every look at the condition."""

    carrier: Carrier
    name: str
    number: int = 0

    @property
    def log(self) -> str:
        return self.carrier.log.text

    @property
    def status(self) -> Any:
        return self.carrier.status(self.name)

    def count(self, how_many: int = 1) -> None:
        for _ in range(how_many):
            self.carrier.deliver(self.number)
            self.number += 1

    async def until(self, condition: Callable[[], Any], what: str = "") -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.status}\n{self.log[-4000:]}"
            self.count()
            await asyncio.sleep(0.005)

    async def healthy(self) -> None:
        """Everything has arrived at the healthy one, in order."""
        self.count(100)
        await self.carrier.until(lambda: self.carrier.status("healthy").waiting == 0)
        assert await self.carrier.call("healthy.mind.numbers") == list(range(self.number))
        status = self.carrier.status("healthy")
        assert (status.state, status.restarts, status.dropped, status.failed) == ("running", 0, 0, 0)


@contextlib.asynccontextmanager
async def zoo(name: str, settings: Settings = QUICK) -> AsyncIterator[Zoo]:
    specs = [PackageSpec("healthy", PLUGINS), PackageSpec(name, PLUGINS)]
    async with carrying(specs, settings) as carrier:
        it = Zoo(carrier, name)
        it.count(100)
        yield it
        if not carrier.stopped:
            await it.healthy()
    assert not processes_of(name), "nothing is left behind"


def most_memory() -> int:
    """Bytes that this process has had at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def processes_of(name: str) -> list[str]:
    """Command lines of children of ours that still run."""
    mine = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "co2.plugin.child.host" in (command := " ".join(child.cmdline())):
                mine.append(command)
    return mine


FAILS = [
    ("import_error", ["a_module_that_nobody_has", "import_error/broken.py:1"]),
    ("syntax_error", ["SyntaxError", "syntax_error/broken.py:4"]),
    ("no_super", ["super().__init__(var_dict)", "no_super/broken.py:5", "X_Broken"]),
    ("duplicate", ["X_First", "X_Second", "x_same", "duplicate/broken.py:10"]),
    ("exits_in_init", ["exit status 7", "while it loaded"]),
]


@pytest.mark.parametrize(("name", "words"), FAILS, ids=[name for name, _ in FAILS])
def test_what_cannot_be_loaded_is_told_with_file_and_line(name: str, words: list[str]) -> None:
    async def scenario() -> None:
        async with zoo(name) as it:
            assert it.status.state == "failed"
            assert it.status.pid is None
            for word in words:
                assert word in it.status.last_error
                assert word in it.log

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "line"), [("hangs_in_import", "broken.py:6"), ("hangs_in_init", "broken.py:7")], ids=lambda v: v
)
def test_a_load_that_hangs_is_ended_and_the_place_is_told(name: str, line: str) -> None:
    async def scenario() -> None:
        began = time.monotonic()
        async with zoo(name, Settings(load_timeout=1.5)) as it:
            assert time.monotonic() - began < 5
            await it.until(lambda: it.status.state == "failed")
            assert "hangs" in it.status.last_error
            assert line[:-1] in it.status.last_error

    asyncio.run(scenario())


def test_a_reserved_name_is_not_loaded() -> None:
    from co2.plugin.packages.discovery import find_packages

    config = SimpleNamespace(
        plugin_dir=PLUGINS,
        plugin_list=("healthy", "web"),
        plugin_config={},
        plugin_limits={},
        trusted_users=(),
        trusted_groups=(),
    )
    specs, problems = find_packages(config)
    assert [spec.name for spec in specs] == ["healthy"]
    assert [name for name, _ in problems] == ["web"]
    assert "reserved" in problems[0][1]


def test_a_hang_in_receive_is_warned_about_ended_and_after_three_a_dead_letter() -> None:
    async def scenario() -> None:
        async with zoo("hangs_in_receive") as it:
            it.carrier.deliver("before", "hang", "after")
            await it.until(lambda: ["after", False] in it.carrier.sent(), "the message after the dead letter")
            sent = [data for data in it.carrier.sent() if isinstance(data[0], str)]
            assert sent == [["before", False], ["after", False]]
            assert it.status.state == "running"
            assert it.status.dead_letters == 1
            assert it.status.restarts == 3
            assert "hangs_in_receive.broken.X_Broken: receive has been running" in it.log
            assert "receive took longer than 0.8 s (at " in it.log
            assert "broken.py:6 in receive" in it.log or "broken.py:7 in receive" in it.log
            assert "dead letter" in it.status.last_error or "dead letter" in it.log
            assert "there@10.0.0.7:2004: {'data': 'hang'}" in it.log
            loud = [line.getMessage() for line in it.carrier.log.records if line.levelno > logging.DEBUG]
            assert not [line for line in loud if "most recent call" in line or line.startswith("  File ")]
            assert sum("receive took longer than" in line and "broken.py" in line for line in loud) >= 3
            assert "most recent call" in it.log, "all of it is in debug.log"

    asyncio.run(scenario())


def test_a_hang_in_exit_is_left_behind_and_its_last_words_go_out() -> None:
    async def scenario() -> None:
        async with zoo("hangs_in_exit") as it:
            await it.healthy()
            began = time.monotonic()
            await it.carrier.stop(0.5)
            assert time.monotonic() - began < 3
            assert "last words" in it.carrier.sent()
            assert "did not end within" in it.log

    asyncio.run(scenario())


def test_an_exit_that_holds_the_whole_interpreter_is_killed() -> None:
    async def scenario() -> None:
        async with zoo("holds_everything_in_exit") as it:
            await it.healthy()
            began = time.monotonic()
            await it.carrier.stop(0.5)
            assert time.monotonic() - began < 3
            assert it.status.state == "stopped"
            assert "the plugin host is killed" in it.log

    asyncio.run(scenario())


@pytest.mark.parametrize(("name", "how"), [("exits", "exit status 3"), ("segfaults", "SIGSEGV")])
def test_a_death_in_receive_is_tried_three_times_and_then_given_up(name: str, how: str) -> None:
    async def scenario() -> None:
        async with zoo(name) as it:
            it.carrier.deliver("die")
            await it.until(lambda: it.status.dead_letters == 1 and it.status.state == "running")
            assert it.status.restarts == 3
            assert how in it.log
            assert f"{name}.broken.X_Broken: dead letter" in it.log
            if name == "exits":
                tried = [line for line in it.log.splitlines() if line.startswith("INFO co2.plugins.exits tried")]
                assert [line.rpartition(" ")[2] for line in tried] == ["False", "True", "True"]

    asyncio.run(scenario())


def test_deaths_outside_of_messages_park_a_package() -> None:
    from co2.errors import PluginFailed

    async def scenario() -> None:
        async with zoo("exits") as it:
            for deaths in range(1, 6):
                with pytest.raises(PluginFailed, match=r"exits\.broken\.die"):
                    await it.carrier.call("exits.broken.die")
                state = "parked" if deaths == 5 else "running"
                await it.until(lambda state=state: it.status.state == state, state)  # type: ignore[misc]
            assert "parked" in it.status.last_error
            assert it.status.pid is None
            with pytest.raises(PluginFailed, match="parked"):
                await it.carrier.call("exits.broken.die")

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["sys_exits", "raises_base"])
def test_what_is_raised_in_receive_is_logged_and_it_goes_on(name: str) -> None:
    async def scenario() -> None:
        async with zoo(name) as it:
            it.carrier.deliver("die", "interrupt", "after")
            await it.until(lambda: "still here" in it.carrier.sent())
            failed = 1 if name == "sys_exits" else 2
            await it.until(lambda: it.status.failed == failed)
            assert it.status.restarts == 0
            assert re.search(
                rf"^ERROR co2\.plugins\.{name}\.broken\.X_Broken /.*/broken\.py:\d+: receive failed",
                it.log,
                re.MULTILINE,
            )
            assert "Traceback" in it.log

    asyncio.run(scenario())


@pytest.mark.parametrize("newline", ["\n", " "], ids=["lines", "one line"])
def test_a_gigabyte_of_print_costs_neither_memory_nor_log(newline: str) -> None:
    size = PRINTED if newline == "\n" else PRINTED // 5

    async def scenario() -> None:
        async with zoo("prints", Settings()) as it:
            before, began = most_memory(), time.monotonic()
            printing = asyncio.create_task(it.carrier.call("prints.broken.print", [size, newline]))
            await it.until(printing.done)
            assert printing.result() is True
            await it.until(lambda: "too long, or too many" in it.log)
            assert most_memory() - before < 64 * 2**20
            # RATE lines a second, and as it may take long on a busy machine, so many more of them.
            allowed = 500 + 1.1 * RATE * (time.monotonic() - began)
            assert len(it.carrier.log.records) < allowed
            assert len(it.log) < 1000 * allowed

    asyncio.run(scenario())


def test_memory_that_runs_out_is_the_childs_own_affair() -> None:
    async def scenario() -> None:
        async with zoo("eats_memory", Settings(plugin_memory=512)) as it:
            it.carrier.deliver("at once", "bit by bit", "after")
            await it.until(lambda: "still here" in it.carrier.sent())
            assert "MemoryError" in it.log
            assert it.status.state == "running"

    asyncio.run(scenario())


def test_who_closes_all_descriptors_is_started_again() -> None:
    async def scenario() -> None:
        async with zoo("closes_fds") as it:
            it.carrier.deliver("die")
            await it.until(lambda: it.status.restarts >= 1 and it.status.state == "running")
            it.carrier.deliver("after")
            await it.until(lambda: "still here" in it.carrier.sent())
            assert it.status.state == "running"

    asyncio.run(scenario())


@pytest.mark.parametrize("end", ["dies", "is stopped"])
def test_processes_that_a_plugin_leaves_behind_end_with_it(end: str) -> None:
    async def scenario() -> None:
        async with zoo("leaves_children") as it:
            pid = await it.carrier.call("leaves_children.broken.leave")
            assert is_there(pid)
            if end == "dies":
                it.carrier.deliver("die")
                await it.until(lambda: it.status.restarts == 1)
            else:
                await it.carrier.stop(1.0)
            await it.carrier.until(lambda: is_gone(pid))

    asyncio.run(scenario())


def test_a_flood_of_sends_costs_the_others_nothing() -> None:
    async def scenario() -> None:
        async with zoo("floods", Settings(send_timeout=0.2)) as it:
            await it.carrier.call("floods.broken.flood", True)
            await it.until(lambda: it.status.sent > 50_000)
            it.carrier.supervisor.pause_sending()
            await it.until(lambda: it.status.send_waits > 0)
            sent = it.status.sent
            assert sent == len(it.carrier.published)
            it.carrier.supervisor.resume_sending()
            await it.until(lambda: it.status.sent > sent + 10_000)
            await it.carrier.call("floods.broken.flood", False)
            healthy = it.carrier.status("healthy")
            await it.carrier.until(lambda: it.carrier.status("healthy").waiting == 0)
            numbers = await it.carrier.call("healthy.mind.numbers")
            assert numbers == list(range(it.number)), healthy
            await it.carrier.stop()

    asyncio.run(scenario())
