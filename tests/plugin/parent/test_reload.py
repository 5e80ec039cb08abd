"""New code for a running package: nothing lost, nothing doubled; the old code stays where the new one fails."""

import asyncio
import contextlib
import gc
import logging
import os
import random
import socket
import textwrap
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from co2.errors import LoadError, PluginFailed
from co2.plugin.parent.lifecycle import Lifecycle
from co2.plugin.parent.supervisor import PackageSpec
from tests.pids import is_there, open_files
from tests.plugin.support import Carrier, Settings, carrying, in_loop, write_package

ECHO = """
    class X_Spam(plugin.Co2Plugin):
        def receive(self, data_dict):
            self.send({"data": [VERSION, data_dict["data"]], "repeat": data_dict.get("repeat", False)})
        def x_version(self, data_dict):
            return VERSION
"""


def write(folder: Path, code: str, **others: str) -> PackageSpec:
    return write_package(folder, "ham", None, spam=code, **others)


def echo(version: int, code: str = ECHO) -> str:
    return f"VERSION = {version}\n" + textwrap.dedent(code)


@contextlib.asynccontextmanager
async def ham(folder: Path, code: str, settings: Settings | None = None, **others: str) -> AsyncIterator[Carrier]:
    async with carrying([write(folder, code, **others)], settings) as carrier:
        await carrier.until(lambda: carrier.state("ham") == "running", "ham runs")
        yield carrier


async def reload(carrier: Carrier, spec: PackageSpec) -> None:
    await carrier.supervisor.reload(spec)


async def version(carrier: Carrier) -> Any:
    return await carrier.call("ham.spam.version")


def messages(carrier: Carrier) -> list[tuple[Any, Any]]:
    return [tuple(data) for data in carrier.sent()]


@in_loop
async def test_a_reload_runs_the_new_code(tmp_path: Path) -> None:
    async with ham(tmp_path, echo(1)) as carrier:
        before = carrier.status("ham")
        assert await version(carrier) == 1
        await reload(carrier, write(tmp_path, echo(2)))
        after = carrier.status("ham")
        assert await version(carrier) == 2
        assert (before.load, after.load) == (1, 2)
        assert before.code and after.code and before.code != after.code
        assert before.pid != after.pid
        assert (after.restarts, dict(after.reloads)) == (0, {"ok": 1, "failed": 0, "reverted": 0})
        assert f"reloaded: ham.spam.X_Spam (load 2, code {after.code})" in carrier.log.text
        await reload(carrier, write(tmp_path, echo(1)))
        assert carrier.status("ham").code == before.code  # the hash is of the code, and of nothing else


@in_loop
async def test_an_edit_of_a_helper_alone_is_new_code(tmp_path: Path) -> None:
    code = """
        from . import helper
        from .deep.deeper import spoken
        class X_Spam(plugin.Co2Plugin):
            def x_version(self, data_dict):
                from .late import word
                return [helper.NAME, spoken(), word]
    """
    parts = {"helper": "NAME = 'john'", "late": "word = 'nih'"}
    (tmp_path / "ham" / "deep").mkdir(parents=True)
    (tmp_path / "ham" / "deep" / "__init__.py").write_text("")
    deeper = tmp_path / "ham" / "deep" / "deeper.py"
    deeper.write_text("def spoken(): return 'a'")
    async with ham(tmp_path, code, None, **parts) as carrier:
        assert await version(carrier) == ["john", "a", "nih"]
        # What is imported later is as old as the rest.
        (tmp_path / "ham" / "late.py").write_text("word = 'ni!'")
        spec = write(tmp_path, code, helper="NAME = 'eric'", late="word = 'ni!'")
        assert await version(carrier) == ["john", "a", "nih"]
        await reload(carrier, spec)
        assert await version(carrier) == ["eric", "a", "ni!"]
        for letter in "bcdefghijk":  # of one size, within a second
            deeper.write_text(f"def spoken(): return '{letter}'")
            await reload(carrier, spec)
            assert await version(carrier) == ["eric", letter, "ni!"]
        assert not [*tmp_path.rglob("*.pyc")]


@in_loop
async def test_compiled_files_are_not_believed(tmp_path: Path) -> None:
    """What another program has compiled does not count, be its time and size right or not."""
    import py_compile

    code = "from . import helper\nVERSION = helper.N\n" + echo(0).partition("\n")[2]
    spec = write(tmp_path, code, helper="N = 1")
    helper = tmp_path / "ham" / "helper.py"
    py_compile.compile(str(helper), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    helper.write_text("N = 2")
    async with carrying([spec]) as carrier:
        assert await version(carrier) == 2


@in_loop
async def test_nothing_is_lost_or_doubled_and_order_is_kept(tmp_path: Path) -> None:
    total, at_once = 20_000, 100
    async with ham(tmp_path, echo(1)) as carrier:

        async def feed() -> None:
            for number in range(0, total, at_once):
                carrier.deliver(*range(number, number + at_once))
                await asyncio.sleep(0.008)

        feeding = asyncio.create_task(feed())
        reloads = 1
        while not feeding.done():
            reloads += 1
            await reload(carrier, write(tmp_path, echo(reloads)))
        await carrier.until(lambda: len(carrier.published) >= total, "all of them")
        assert [number for _, number in messages(carrier)] == [*range(total)]
        versions = [found for found, _ in messages(carrier)]
        assert versions == sorted(versions)
        assert len(set(versions)) >= 4
        assert not [message for message in carrier.published if message["repeat"]]
        assert carrier.status("ham").received == total


@in_loop
async def test_what_the_old_one_hands_over_the_new_one_takes(tmp_path: Path) -> None:
    code = """
        class X_Spam(plugin.Co2Plugin):
            def __init__(self, var_dict):
                super().__init__(var_dict)
                self.seen = []
            def receive(self, data_dict):
                self.seen.append(data_dict["data"])
            def handover(self):
                return {"seen": self.seen, "from": VERSION}
            def takeover(self, value):
                self.seen, self.before = value["seen"], value["from"]
            def x_version(self, data_dict):
                return [self.seen, self.before]
    """
    async with ham(tmp_path, echo(1, code)) as carrier:
        carrier.deliver(1, 2)
        await carrier.until(lambda: carrier.status("ham").received == 2, "two messages")
        await reload(carrier, write(tmp_path, echo(2, code)))
        carrier.deliver(3)
        await carrier.until(lambda: carrier.status("ham").received == 3, "a third one")
        assert await version(carrier) == [[1, 2, 3], 1]


@in_loop
async def test_async_handover_and_takeover_are_awaited(tmp_path: Path) -> None:
    code = """
        class X_Spam(plugin.Co2Plugin):
            taken = None
            async def receive(self, data_dict): pass
            async def handover(self):
                return VERSION
            async def takeover(self, value):
                self.taken = value
            async def x_version(self, data_dict):
                return self.taken
    """
    async with ham(tmp_path, echo(7, code)) as carrier:
        carrier.deliver(1)
        await reload(carrier, write(tmp_path, echo(8, code)))
        assert await version(carrier) == 7


@in_loop
async def test_what_is_sent_in_exit_comes_before_what_the_new_one_sends(tmp_path: Path) -> None:
    code = """
        class X_Spam(plugin.Co2Plugin):
            def __init__(self, var_dict):
                super().__init__(var_dict)
                self.send({"data": ["hello", VERSION]})
            def handover(self):
                self.send({"data": ["handover", VERSION]})
                return 1
            def takeover(self, value):
                self.send({"data": ["takeover", VERSION]})
            def __exit__(self, *exc_info):
                for number in range(3000):
                    self.send({"data": ["bye", VERSION]})
    """
    async with ham(tmp_path, echo(1, code)) as carrier:
        await reload(carrier, write(tmp_path, echo(2, code)))
        await carrier.until(lambda: ("takeover", 2) in messages(carrier), "the new one")
        expected = [("hello", 1), ("handover", 1), *[("bye", 1)] * 3000, ("hello", 2), ("takeover", 2)]
        assert messages(carrier) == expected


@in_loop
async def test_calls_during_a_reload_are_answered(tmp_path: Path) -> None:
    async with ham(tmp_path, echo(1)) as carrier:
        answers: list[Any] = []

        async def ask() -> None:
            while True:
                answers.append(await version(carrier))

        calls_out = [asyncio.create_task(ask()) for _ in range(8)]
        for number in (2, 3, 4):
            await reload(carrier, write(tmp_path, echo(number)))
            await carrier.until(lambda number=number: number in answers, "an answer of the new one")
        for one in calls_out:
            one.cancel()
        await asyncio.gather(*calls_out, return_exceptions=True)
        assert {*answers} == {1, 2, 3, 4}


@in_loop
async def test_a_slow_receive_is_waited_for(tmp_path: Path) -> None:
    code = "import time\n" + echo(1).replace("self.send(", "time.sleep(0.4); self.send(")
    async with ham(tmp_path, code) as carrier:
        carrier.deliver(1, 2, 3)
        await carrier.until(lambda: carrier.inside("ham"), "its receive to have begun")
        await reload(carrier, write(tmp_path, echo(2)))
        await carrier.until(lambda: len(carrier.published) == 3, "all of them")
        assert [number for _, number in messages(carrier)] == [1, 2, 3]
        assert messages(carrier)[-1] == (2, 3)
        assert not any(message["repeat"] for message in carrier.published)


@in_loop
async def test_one_that_hangs_is_replaced_and_its_message_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("co2.plugin.parent.lifecycle.HANDOVER_TIMEOUT", 0.3)
    code = "import time\n" + echo(1).replace("self.send(", "time.sleep(99); self.send(")
    async with ham(tmp_path, code, Settings(exit_timeout=0.2)) as carrier:
        carrier.deliver(1, 2)
        await carrier.until(lambda: carrier.inside("ham"), "its receive to have begun")
        await reload(carrier, write(tmp_path, echo(2)))
        await carrier.until(lambda: len(carrier.published) == 2, "both of them")
        assert [(*message["data"], message["repeat"]) for message in carrier.published] == [
            (2, 1, True),
            (2, 2, False),
        ]
        assert "nothing is handed over" in carrier.log.text


BROKEN = {
    "a syntax error": ("def x(:", "spam.py:"),
    "an import error": ("import no_such_module", "spam.py:2: 'spam' cannot be imported: ModuleNotFoundError"),
    "a crash in __init__": (
        "class X_Spam(plugin.Co2Plugin):\n    def __init__(self, var_dict):\n        1 / 0",
        "spam.py:4, class X_Spam: X_Spam.__init__ failed: ZeroDivisionError",
    ),
    "an end in __init__": (
        "import os\nclass X_Spam(plugin.Co2Plugin):\n    def __init__(self, var_dict):\n        os._exit(3)",
        "the plugin host ended with exit status 3 while it loaded",
    ),
    "a hang in __init__": (
        "import time\nclass X_Spam(plugin.Co2Plugin):\n    def __init__(self, var_dict):\n        time.sleep(99)",
        "hangs: loading took longer than 1 s (at ",
    ),
    "no plugin at all": ("x = 1", "it has no class X_"),
    "a crash in takeover": (
        echo(2) + "    def takeover(self, value):\n        1 / 0",
        "ham.spam.X_Spam.takeover failed: ",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
@in_loop
async def test_where_the_new_code_does_not_load_the_old_one_goes_on(tmp_path: Path, what: str) -> None:
    code, told = BROKEN[what]
    first = echo(1) + "    def handover(self):\n        return 1"
    async with ham(tmp_path, first, Settings(load_timeout=1.0)) as carrier:
        before = carrier.status("ham")
        carrier.deliver("before")
        with pytest.raises(LoadError) as caught:
            await reload(carrier, write(tmp_path, code))
        carrier.deliver("after")
        await carrier.until(lambda: len(carrier.published) == 2, "both answers")
        assert messages(carrier) == [(1, "before"), (1, "after")]
        assert await version(carrier) == 1
        after = carrier.status("ham")
        assert told in str(caught.value)
        assert told in after.last_error
        assert (after.state, after.pid, after.load, after.code) == ("running", before.pid, 1, before.code)
        assert (after.restarts, after.reloads["failed"]) == (0, 1)
        await reload(carrier, write(tmp_path, echo(3)))
        assert (await version(carrier), carrier.status("ham").load) == (3, 3)


@in_loop
async def test_where_handover_fails_the_old_one_goes_on(tmp_path: Path) -> None:
    code = echo(1) + "    def handover(self):\n        return object()"
    async with ham(tmp_path, code) as carrier:
        with pytest.raises(LoadError, match=r"handover failed: .*cannot be sent"):
            await reload(carrier, write(tmp_path, echo(2)))
        carrier.deliver("x")
        await carrier.until(lambda: carrier.published, "an answer")
        assert messages(carrier) == [(1, "x")]
        told = len(carrier.log.records)
        await carrier.supervisor.reload(write(tmp_path, echo(3)), fresh=True)
        assert await version(carrier) == 3
        assert carrier.status("ham").last_error == ""
        since = carrier.log.records[told:]
        assert [line.getMessage() for line in since if line.levelno > logging.INFO] == []
        assert any("handover failed" in line.getMessage() for line in since), "it is in debug.log"


CRASHES = {
    "raises": "1 / 0",
    "ends": "os._exit(1)",
    "is killed": "os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("how", CRASHES)
@pytest.mark.parametrize("exclusive", [False, True])
@in_loop
async def test_a_crash_in_the_first_receive_brings_the_old_code_back(
    tmp_path: Path, how: str, exclusive: bool
) -> None:
    state = f"""
        exclusive = {exclusive}
        def handover(self): return "kept"
        def takeover(self, value): self.send({{"data": [VERSION, value]}})
        def __exit__(self, *exc_info): self.send({{"data": [VERSION, "bye"]}})
    """
    good = echo(1) + textwrap.indent(textwrap.dedent(state), "    ")
    bad = "import os\n" + echo(2).replace("self.send(", f"{CRASHES[how]}; self.send(")
    async with ham(tmp_path, good) as carrier:
        first = carrier.status("ham")
        carrier.deliver(1)
        await carrier.until(lambda: len(carrier.published) == 1, "an answer")
        await reload(carrier, write(tmp_path, bad))
        assert await version(carrier) == 2
        carrier.deliver(2, 3)
        await carrier.until(lambda: len(carrier.published) == 5, "the old one's answers")
        assert messages(carrier) == [(1, 1), (1, "bye"), (1, "kept"), (1, 2), (1, 3)]
        assert [message["repeat"] for message in carrier.published[-2:]] == [True, False]
        now = carrier.status("ham")
        assert (now.load, now.code, now.pid, now.restarts) == (1, first.code, first.pid, 0)
        assert (now.reloads["reverted"], now.dead_letters, carrier.letters) == (1, 0, [])
        if how == "raises":
            assert "(load 2, code" in now.last_error
            assert ") raised, so the previous code runs again" in now.last_error
            assert "crashed" not in now.last_error
            assert "receive failed in its first message: " in now.last_error
            assert "spam.py:" in now.last_error
            assert "ZeroDivisionError" in now.last_error
        else:
            assert ") crashed within 5 s, so the previous code runs again" in now.last_error
        assert await version(carrier) == 1


@in_loop
async def test_a_plugin_that_raises_later_is_as_ever(tmp_path: Path) -> None:
    code = echo(2).replace("self.send(", "1 / data_dict['data']; self.send(")
    async with ham(tmp_path, echo(1)) as carrier:
        await reload(carrier, write(tmp_path, code))
        carrier.deliver(1, 0, 2)
        await carrier.until(lambda: len(carrier.letters) == 1, "a dead letter")
        await carrier.until(lambda: len(carrier.published) == 2, "both answers")
        assert messages(carrier) == [(2, 1), (2, 2)]
        assert carrier.status("ham").load == 2


@in_loop
async def test_a_dead_letter_is_taken_by_the_mended_code(tmp_path: Path) -> None:
    async with ham(tmp_path, echo(1).replace("self.send(", "1 / data_dict['data']; self.send(")) as carrier:
        carrier.deliver(1, 0)
        await carrier.until(lambda: carrier.letters, "a dead letter")
        package, letter = carrier.letters[0]
        mending = asyncio.create_task(reload(carrier, write(tmp_path, echo(2))))
        with pytest.raises(PluginFailed, match="ZeroDivisionError"):
            await carrier.supervisor.repeat(package, letter)
        await mending
        await carrier.supervisor.repeat(package, letter)
        assert messages(carrier) == [(1, 1), (2, 0)]
        assert carrier.published[-1]["repeat"] is True


@in_loop
async def test_after_its_trial_a_crash_starts_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("co2.plugin.parent.lifecycle.TRIAL", 0.1)
    async with ham(tmp_path, echo(1)) as carrier:
        old = carrier.status("ham").pid
        assert old is not None
        code = "import os\n" + echo(2) + "    def x_end(self, data_dict): os._exit(1)"
        await reload(carrier, write(tmp_path, code))
        await carrier.until(lambda: not is_there(old), "the old one's end")
        with pytest.raises(PluginFailed):
            await carrier.call("ham.spam.end")
        await carrier.until(lambda: carrier.status("ham").restarts == 1, "a restart")
        await carrier.until(lambda: carrier.state("ham") == "running", "ham runs again")
        assert await version(carrier) == 2
        assert carrier.status("ham").load == 3


PORT = """
    import socket
    class X_Spam(plugin.Co2Plugin):
        def __init__(self, var_dict):
            super().__init__(var_dict)
            self.socket = socket.socket()
            self.socket.bind(("127.0.0.1", self.config["port"]))
        def receive(self, data_dict):
            self.send({"data": [VERSION, data_dict["data"]]})
        def x_version(self, data_dict):
            return VERSION
        def __exit__(self, *exc_info):
            self.socket.close()
"""


def port_for_nobody_else() -> int:
    """Return a free port that the system gives to nobody who wants any: other tests do meanwhile."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("none is free")


@pytest.mark.parametrize("said", [True, False])
@in_loop
async def test_one_that_holds_a_port_exits_before_the_new_one_is_made(tmp_path: Path, said: bool) -> None:
    code = PORT.replace("def __init__", "exclusive = True\n        def __init__") if said else PORT
    config = {"port": port_for_nobody_else()}
    async with carrying([write_package(tmp_path, "ham", config, spam=echo(1, code))]) as carrier:
        for number in (2, 3):
            carrier.deliver(number)
            await reload(carrier, write_package(tmp_path, "ham", config, spam=echo(number, code)))
            assert await version(carrier) == number
        # One that cannot be made: the old one makes its plugins anew, from the code that it holds.
        bad = echo(4, code).replace("self.socket =", "1 / 0; self.socket =")
        with pytest.raises(LoadError, match="ZeroDivisionError"):
            await reload(carrier, write_package(tmp_path, "ham", config, spam=bad))
        carrier.deliver("x")
        await carrier.until(lambda: len(carrier.published) == 3, "all answers")
        assert [number for _, number in messages(carrier)] == [2, 3, "x"]
        assert messages(carrier)[-1] == (3, "x")
        assert await version(carrier) == 3


@in_loop
async def test_a_package_that_has_failed_or_is_parked_is_tried_again(tmp_path: Path) -> None:
    async with carrying([write(tmp_path, "import no_such_module")]) as carrier:
        assert carrier.state("ham") == "failed"
        with pytest.raises(LoadError, match="no_such_module"):
            await reload(carrier, write(tmp_path, "import no_such_module"))
        assert carrier.state("ham") == "failed"
        dies = "import os, threading\nthreading.Timer(0.3, os._exit, (1,)).start()\n"
        await reload(carrier, write(tmp_path, dies + echo(1)))
        await carrier.until(lambda: carrier.state("ham") == "parked", "parked", 60)
        carrier.deliver("waits")
        await carrier.supervisor.load(write(tmp_path, echo(2)))
        await carrier.until(lambda: carrier.published, "an answer")
        assert messages(carrier) == [(2, "waits")]
        with pytest.raises(LoadError, match="already loaded"):
            await carrier.supervisor.load(write(tmp_path, echo(2)))


@in_loop
async def test_load_and_unload_at_run_time(tmp_path: Path) -> None:
    async with ham(tmp_path, echo(1)) as carrier:
        eggs = write_package(tmp_path, "eggs", spam=echo(5) + "    def __exit__(self): self.send({'data': 'bye'})")
        await carrier.supervisor.load(eggs)
        assert await carrier.call("eggs.spam.version") == 5
        await carrier.supervisor.unload("eggs", 3.0)
        assert [row.name for row in carrier.supervisor.status()] == ["ham"]
        assert [*carrier.supervisor.methods] == ["ham.spam.version"]
        assert carrier.sent()[0] == "bye"
        with pytest.raises(LoadError, match="not loaded"):
            await carrier.supervisor.unload("eggs", 3.0)
        with pytest.raises(LoadError, match="not loaded"):
            await reload(carrier, eggs)
        await carrier.supervisor.load(eggs)
        assert await carrier.call("eggs.spam.version") == 5
        bad = write_package(tmp_path, "bad", spam="1 / 0")
        with pytest.raises(LoadError, match="ZeroDivisionError"):
            await carrier.supervisor.load(bad)
        assert carrier.state("bad") == "failed"
        await carrier.supervisor.unload("bad", 3.0)


@in_loop
async def test_the_old_one_dies_while_the_new_one_loads(tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(0.5)\n" + echo(2)
    code = "import os\n" + echo(1) + "    def x_end(self, data_dict): os._exit(1)"
    async with ham(tmp_path, code) as carrier:
        loading = asyncio.create_task(reload(carrier, write(tmp_path, slow)))
        await carrier.until(lambda: len(_lifecycle(carrier).accounting.alive) == 2, "two of them")
        with pytest.raises(PluginFailed):
            await asyncio.wait_for(carrier.call("ham.spam.end"), 5)
        carrier.deliver(1, 2)
        await loading
        await carrier.until(lambda: len(carrier.published) == 2, "both answers")
        assert messages(carrier) == [(2, 1), (2, 2)]


@in_loop
async def test_plugins_that_come_and_go(tmp_path: Path) -> None:
    other = echo(9).replace("X_Spam", "X_Other").replace("x_version", "x_other")
    async with ham(tmp_path, echo(1)) as carrier:
        carrier.deliver(1)
        await carrier.until(lambda: len(carrier.published) == 1, "one answer")
        await reload(carrier, write(tmp_path, echo(2), more=other))
        carrier.deliver(2)
        await carrier.until(lambda: len(carrier.published) >= 4, "two answers, of which each hears the other's")
        assert {(2, 2), (9, 2)} <= {(a, str(b) if isinstance(b, list) else b) for a, b in messages(carrier)}
        assert await carrier.call("ham.more.other") == 9
        changes = carrier.changes
        await reload(carrier, write(tmp_path, "class X_Spam(plugin.Co2Plugin): ...", more=""))
        assert carrier.changes == changes + 1
        assert not carrier.supervisor.methods
        carrier.deliver(3)
        assert carrier.status("ham").waiting == 0


@in_loop
async def test_a_reload_within_the_trial_of_the_last_one(tmp_path: Path) -> None:
    async with ham(tmp_path, echo(1)) as carrier:
        for number in range(2, 6):
            await reload(carrier, write(tmp_path, echo(number)))
        await carrier.until(
            lambda: len(_lifecycle(carrier).accounting.alive) == 2, "the ends of those before the last"
        )
        carrier.deliver(1)
        await carrier.until(lambda: carrier.published, "an answer")
        assert messages(carrier) == [(5, 1)]


@in_loop
async def test_several_who_ask_at_once_get_one_reload(tmp_path: Path) -> None:
    async with ham(tmp_path, echo(1)) as carrier:
        spec = write(tmp_path, echo(2))
        await asyncio.gather(*(reload(carrier, spec) for _ in range(5)))
        assert await version(carrier) == 2
        assert carrier.status("ham").load == 2


@in_loop
async def test_reloads_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("co2.plugin.parent.lifecycle.TRIAL", 0.0)

    async with ham(tmp_path, echo(1)) as carrier:

        async def weight() -> tuple[int, int, int]:
            await carrier.until(lambda: len(_lifecycle(carrier).accounting.alive) == 1, "the ends of those before")
            files = open_files(os.getpid())
            return files, threading.active_count(), len(gc.get_objects())

        async def reloads(*numbers: int) -> tuple[int, int, int]:
            for number in numbers:
                await reload(carrier, write(tmp_path, echo(number)))
            carrier.log.records.clear()
            return await weight()

        await reloads(*range(2, 6))
        gc.collect()
        gc.disable()  # hosts look very rarely for what only holds itself: nothing like that should be left
        try:
            files, threads, objects = await reloads(6)
            late = await reloads(*range(7, 47))
        finally:
            gc.enable()
        assert late[:2] == (files, threads)
        assert late[2] - objects < 480, "less than 12 a reload; a line of the log may be among them"


@in_loop
async def test_reload_works_in_threads_too(tmp_path: Path) -> None:
    async with ham(tmp_path, echo(1), Settings(isolation="thread")) as carrier:
        carrier.deliver(1)
        await reload(carrier, write(tmp_path, echo(2)))
        carrier.deliver(2)
        await carrier.until(lambda: len(carrier.published) == 2, "both answers")
        assert [number for _, number in messages(carrier)] == [1, 2]
        assert await version(carrier) == 2
        with pytest.raises(LoadError, match="ZeroDivisionError"):
            await reload(carrier, write(tmp_path, "1 / 0"))
        assert await version(carrier) == 2


@in_loop
async def test_a_stop_in_the_middle_of_a_reload(tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(99)\n"
    code = echo(1) + "    def __exit__(self, *exc_info): self.send({'data': 'bye'})"
    async with ham(tmp_path, code) as carrier:
        loading = asyncio.create_task(reload(carrier, write(tmp_path, slow)))
        await carrier.until(lambda: len(_lifecycle(carrier).accounting.alive) == 2, "two of them")
        await carrier.stop()
        with pytest.raises(LoadError):
            await loading
        assert carrier.sent() == ["bye"]


def _lifecycle(carrier: Carrier) -> Lifecycle:
    return carrier.supervisor._packages["ham"].lifecycle
