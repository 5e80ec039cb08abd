"""Plugins at work, in real children: what they get, send, are called, and how they stop."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from co2.errors import BadParams, CallTimeout, LoadError, NoSuchMethod, PluginFailed, ValueRefused
from co2.plugin.parent import restart_policy
from co2.plugin.parent.delivery_queue import Envelope, QueuedBatch
from co2.plugin.parent.supervisor import PackageSpec
from co2.protocol.wire.batch import make_batch
from co2.values import pack
from tests.pids import is_gone, is_there, resident
from tests.plugin.support import (
    ADDRESS,
    HOST_ID,
    OTHER,
    OTHER_ADDRESS,
    PATIENCE,
    Settings,
    carrying,
    write_package,
)

ECHO = """
class X_Echo(plugin.Co2Plugin):
    '''Sends on what it hears.'''

    def receive(self, data_dict):
        self.send({"data": [type(data_dict["client_address"]).__name__, data_dict]})

    def x_send(self, data_dict: dict) -> bool:
        '''Send it.'''
        self.send(data_dict["data"])
        return True
"""
LISTENER = """
class X_{name}(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.heard = []

    def receive(self, data_dict):
        self.heard.append(data_dict)

    def x_{name}_heard(self, data_dict):
        return self.heard

    def x_{name}_send(self, data_dict):
        self.send({{"data": data_dict["data"]}})
"""


@pytest.fixture(params=["process", "thread"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(isolation=request.param)


def test_receive_gets_data_envelope_and_other_keys(tmp_path: Path, settings: Settings) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=ECHO)], settings) as it:
            it.deliver(1, channel="x", host_id="evil")
            [kind, message] = (await it.until(it.sent))[0]
            assert kind == "tuple"
            assert message == {"data": 1, "channel": "x", "host_id": OTHER, "client_address": [*OTHER_ADDRESS]}
            assert it.published[0].keys() == {"data"}
            status = it.status("ham")
            assert (status.state, status.sent, status.restarts) == ("running", 1, 0)
            assert (status.pid is None) == (settings.isolation == "thread")
            assert [(p.name, p.receives, p.help) for p in status.plugins] == [
                ("ham.spam.X_Echo", True, "Sends on what it hears.")
            ]
            await it.until(lambda: it.status("ham").received == 1)
            assert it.changes == 1
        assert it.state("ham") == "stopped"

    asyncio.run(scenario())


def test_siblings_hear_each_other_at_once_and_nobody_hears_itself(tmp_path: Path, settings: Settings) -> None:
    async def scenario() -> None:
        two = LISTENER.format(name="one") + LISTENER.format(name="two")
        specs = [
            write_package(tmp_path, "ham", spam=two),
            write_package(tmp_path, "eggs", spam=LISTENER.format(name="three")),
        ]
        async with carrying(specs, settings) as it:
            await it.call("ham.spam.one_send", "hello")
            await it.until(lambda: it.status("ham").received == it.status("eggs").received == 1)
            expected = [{"data": "hello", "host_id": HOST_ID, "client_address": [*ADDRESS]}]
            assert await it.call("ham.spam.two_heard") == expected
            assert await it.call("eggs.spam.three_heard") == expected
            assert await it.call("ham.spam.one_heard") == []
            assert it.sent() == ["hello"]

    asyncio.run(scenario())


def test_each_plugin_has_a_message_and_a_configuration_of_its_own(tmp_path: Path) -> None:
    code = """
    class X_A(plugin.Co2Plugin):
        def __init__(self, var_dict):
            super().__init__(var_dict)
            var_dict["role"] = self.config["list"].append(1)
        def receive(self, data_dict):
            data_dict["data"].append(self.config["list"])
            self.send({"data": data_dict["data"]})
    class X_B(X_A):
        pass
    """

    async def scenario() -> None:
        spec = write_package(tmp_path, "ham", {"list": [0]}, spam=textwrap.dedent(code))
        async with carrying([spec]) as it:
            it.deliver(["m"])
            await it.until(lambda: it.sent().count(["m", [0, 1]]) == 2)

    asyncio.run(scenario())


def test_name_config_and_var_dict_are_there_in_init_and_sends_are_held_until_all_is_loaded(tmp_path: Path) -> None:
    code = """
    class X_Ham(plugin.Co2Plugin):
        def __init__(self, var_dict):
            self.send({"data": [self.name, str(self), self.config, sorted(var_dict), var_dict["package"]]})
            plugin.Co2Plugin.__init__(self, var_dict)
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", {"port": 9}, spam=textwrap.dedent(code))]) as it:
            await it.until(it.sent)
            assert it.sent() == [
                ["ham.spam.X_Ham", "ham.spam.X_Ham", {"port": 9}, ["host_id", "package", "role"], "ham"]
            ]

    asyncio.run(scenario())


def test_everything_of_a_plugin_happens_in_its_own_thread_one_at_a_time(tmp_path: Path) -> None:
    code = """
    import threading, time
    class X_Ham(plugin.Co2Plugin):
        def __init__(self, var_dict):
            super().__init__(var_dict)
            self.threads = {threading.current_thread().name}
            self.inside = self.worst = 0
        def receive(self, data_dict):
            self.threads.add(threading.current_thread().name)
            self.inside += 1
            self.worst = max(self.worst, self.inside)
            time.sleep(0.001)
            self.inside -= 1
        def x_tell(self, data_dict):
            self.receive(data_dict)
            return [sorted(self.threads), self.worst]
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))]) as it:
            it.deliver(*range(50))
            answers = await asyncio.gather(*(it.call("ham.spam.tell") for _ in range(10)))
            assert answers == [[["ham.spam.X_Ham"], 1]] * 10

    asyncio.run(scenario())


def test_async_methods_work_and_their_tasks_go_on_between_messages(tmp_path: Path, settings: Settings) -> None:
    code = """
    import asyncio
    class X_Ham(plugin.Co2Plugin):
        async def receive(self, data_dict):
            await asyncio.sleep(0)
            asyncio.create_task(self.later(data_dict["data"]))
            if data_dict["data"] == 13:
                raise ValueError("unlucky")
        async def later(self, data):
            await asyncio.sleep(0.02)
            self.send({"data": ["later", data]})
        async def x_add(self, data_dict):
            await asyncio.sleep(0)
            return sum(data_dict["data"])
        async def __exit__(self, *args):
            await asyncio.sleep(0)
            self.send({"data": "goodbye"})
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))], settings) as it:
            it.deliver(12, 13)
            await it.until(lambda: it.sent() == [["later", 12], ["later", 13]])
            assert await it.call("ham.spam.add", [1, 2]) == 3
            await it.until(lambda: it.status("ham").failed == 1)
            assert "ValueError: unlucky" in it.log.text
            await it.stop()
            assert it.sent()[-1] == "goodbye"

    asyncio.run(scenario())


def test_an_exception_in_receive_names_the_plugin_the_sender_and_the_message(tmp_path: Path) -> None:
    code = """
    class X_Ham(plugin.Co2Plugin):
        def receive(self, data_dict):
            1 / data_dict["data"]
            self.send(data_dict)
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))]) as it:
            it.deliver(0, 2)
            await it.until(lambda: it.sent() == [2])
            await it.until(lambda: it.status("ham").failed == 1)
            place = f"{tmp_path / 'ham' / 'spam.py'}:5"
            told = f"ERROR co2.plugins.ham.spam.X_Ham {place}: receive failed; the message is from there@10.0.0.7"
            assert told in it.log.text
            assert "{'data': 0}" in it.log.text
            assert "spam.py" in it.log.text
            assert "ZeroDivisionError" in it.status("ham").last_error
            assert it.status("ham").last_error_age is not None

    asyncio.run(scenario())


def deepest() -> int:
    """Return how deep a sender may nest at most, which has Python's own limit raised.

    In 3.12 C has a limit of its own, of 1,500, that nobody raises.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(3000)
    try:
        for depth in (1500, 1400):
            data: list[Any] = []
            for _ in range(depth):
                data = [data]
            with contextlib.suppress(ValueRefused):
                pack({"data": data})
                return depth
    finally:
        sys.setrecursionlimit(limit)
    raise AssertionError("not even half as deep as 3.11 and 3.13 let it")


def test_a_message_nested_as_deep_as_a_sender_could_arrives(tmp_path: Path) -> None:
    code = """
    class X_Ham(plugin.Co2Plugin):
        def receive(self, data_dict):
            depth, data = 0, data_dict["data"]
            while data:
                depth, data = depth + 1, data[0]
            self.send({"data": depth})
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))]) as it:
            depth = deepest()
            batch = make_batch([b"\x81\xa4data" + b"\x91" * depth + b"\x90", pack({"data": 0})])
            it.supervisor.deliver(OTHER, OTHER_ADDRESS, [""], batch)
            await it.until(lambda: it.sent() == [depth, 0])

    asyncio.run(scenario())


# ---- calls ---------------------------------------------------------------------------------------------

CALLS = """
import os, time
class X_Calls(plugin.Co2Plugin):
    def x_fail(self, data_dict):
        raise RuntimeError("the parrot is dead\\nsecret second line" + "x" * 1000)
    def x_long(self, data_dict):
        raise RuntimeError("x" * 1000)
    def x_object(self, data_dict):
        return object()
    def x_big(self, data_dict):
        return "x" * 800_000
    def x_slow(self, data_dict):
        time.sleep(data_dict["data"])
    def x_die(self, data_dict):
        os._exit(9)
    def x_echo(self, data_dict: dict) -> dict:
        '''Give back.'''
        return data_dict
    @staticmethod
    def x_static(data_dict):
        return "static"
"""


def test_calls(tmp_path: Path, settings: Settings) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=CALLS)], settings) as it:
            argument = {"data": {"nested": [1, None, b"\xff"]}, "other": 2, "host_id": "kept"}
            assert await it.supervisor.call("ham.spam.echo", argument) == argument
            assert await it.call("ham.spam.static") == "static"
            method = it.supervisor.methods["ham.spam.echo"]
            assert (method.help, method.signatures) == ("Give back.", [["struct", "struct"]])
            with pytest.raises(PluginFailed) as caught:
                await it.call("ham.spam.fail")
            text = str(caught.value)
            assert text.startswith("ham.spam.fail: RuntimeError: the parrot is dead (log id ")
            log_id = text.rpartition(" ")[2].rstrip(")")
            await it.until(lambda: log_id in it.log.text and "secret second line" in it.log.text)
            with pytest.raises(PluginFailed) as caught:
                await it.call("ham.spam.long")
            assert 450 < len(str(caught.value)) < 550
            assert "x… (log id " in str(caught.value)
            with pytest.raises(PluginFailed, match="bad result: cannot be sent"):
                await it.call("ham.spam.object")
            with pytest.raises(PluginFailed, match="800005 bytes"):
                await it.call("ham.spam.big")
            for name in ("ham.spam.nothing", "eggs.spam.echo", "ham", "", "ham.spam.x_echo"):
                with pytest.raises(NoSuchMethod):
                    await it.call(name)
            for bad in ({}, {"date": 1}, [1]):
                with pytest.raises(BadParams, match="'data'"):
                    await it.supervisor.call("ham.spam.echo", bad)  # type: ignore[arg-type]
            with pytest.raises(BadParams, match="cannot be sent"):
                await it.call("ham.spam.echo", object())

    asyncio.run(scenario())


def test_a_call_that_waits_too_long_times_out_and_those_of_a_dead_host_fail(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = Settings(receive_deadline=0.5, receive_warning=0.1)
        async with carrying([write_package(tmp_path, "ham", spam=CALLS)], settings) as it:
            first, second = await asyncio.gather(
                it.call("ham.spam.slow", 60), it.call("ham.spam.slow", 60), return_exceptions=True
            )
            assert isinstance(first, PluginFailed)
            assert isinstance(second, PluginFailed)
            assert "the plugin host of ham died" in str(first)
            await it.until(lambda: it.state("ham") == "running")
            assert "ham.spam.X_Calls: ham.spam.slow has been running" in it.log.text
            assert "ham.spam.X_Calls: ham.spam.slow took longer than 0.5 s (at " in it.status("ham").last_error
            assert it.status("ham").slowest >= 0.4
            with pytest.raises(PluginFailed, match=r"ham\.spam\.die: the plugin host of ham died"):
                await it.call("ham.spam.die")
            with pytest.raises(PluginFailed, match="restarting"):
                await it.call("ham.spam.echo")

    asyncio.run(scenario())


def test_in_threads_nothing_can_be_killed_and_that_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = Settings(isolation="thread", receive_deadline=0.2, receive_warning=0.1)
        async with carrying([write_package(tmp_path, "ham", spam=CALLS)], settings) as it:
            assert "one that hangs cannot be stopped" in it.log.text
            with pytest.raises(CallTimeout, match=r"ham\.spam\.slow"):
                await it.call("ham.spam.slow", 1.5)
            assert "it cannot be ended" in it.log.text
            assert it.state("ham") == "running"

    asyncio.run(scenario())


# ---- sending -------------------------------------------------------------------------------------------


def test_paused_sends_are_held_calls_go_on_and_nothing_is_lost(tmp_path: Path, settings: Settings) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=ECHO)], settings) as it:
            it.supervisor.pause_sending()
            for number in range(10):
                assert await it.call("ham.spam.send", {"data": number})
            assert it.sent() == []
            it.supervisor.resume_sending()
            await it.until(lambda: it.sent() == list(range(10)))

    asyncio.run(scenario())


def test_send_waits_for_room_and_then_says_that_the_outbox_is_full(tmp_path: Path) -> None:
    code = """
    class X_Ham(plugin.Co2Plugin):
        def x_fill(self, data_dict):
            sent = 0
            try:
                while True:
                    self.send({"data": b"x" * 500_000})
                    sent += 1
            except TimeoutError as error:
                return [sent, type(error).__name__, str(error)]
    """

    async def scenario() -> None:
        spec = write_package(tmp_path, "ham", spam=textwrap.dedent(code))
        async with carrying([spec], Settings(send_timeout=0.1)) as it:
            it.supervisor.pause_sending("the relay is slow")
            it.supervisor.pause_sending("the relay is away")
            sent, error, text = await it.call("ham.spam.fill")
            assert error == "OutboxFull"
            assert text.startswith(
                "the message was not sent, because the outbox had no room for 0.1 s: the relay is away. "
            )
            assert 8 <= sent <= 10
            await it.until(lambda: it.status("ham").send_waits == 1)
            it.supervisor.resume_sending()
            await it.until(lambda: len(it.published) == sent)

    asyncio.run(scenario())


def test_order_is_kept_in_bulk(tmp_path: Path, settings: Settings) -> None:
    code = """
    class X_Ham(plugin.Co2Plugin):
        def receive(self, data_dict):
            self.send({"data": data_dict["data"]})
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))], settings) as it:
            numbers = list(range(20_000))
            for at in range(0, len(numbers), 100):
                it.deliver(*numbers[at : at + 100])
            await it.until(lambda: len(it.published) == len(numbers))
            assert it.sent() == numbers
            await it.until(lambda: it.status("ham").received == len(numbers))
            assert it.status("ham").waiting == 0

    asyncio.run(scenario())


def test_what_was_sent_before_a_death_goes_out(tmp_path: Path) -> None:
    code = """
    import os, time
    class X_Ham(plugin.Co2Plugin):
        def x_last(self, data_dict):
            self.send({"data": "last"})
            time.sleep(0.1)  # what is promised is that a send is on its way within 50 ms
            os._exit(1)
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))]) as it:
            with pytest.raises(PluginFailed):
                await it.call("ham.spam.last")
            await it.until(lambda: it.sent() == ["last"])

    asyncio.run(scenario())


# ---- deaths --------------------------------------------------------------------------------------------


def test_after_a_kill_each_plugin_goes_on_where_it_stood(tmp_path: Path) -> None:
    code = """
    import os, pathlib
    class X_Quick(plugin.Co2Plugin):
        def receive(self, data_dict):
            with open(self.config["file"], "a") as file:
                file.write(f"quick {data_dict['data']} {data_dict.get('repeat', False)}\\n")
    class X_Dies(plugin.Co2Plugin):
        def receive(self, data_dict):
            with open(self.config["file"], "a") as file:
                file.write(f"dies {data_dict['data']} {data_dict.get('repeat', False)}\\n")
            if data_dict["data"] == 3 and "repeat" not in data_dict:
                quick = lambda: sum(line.startswith("quick") for line in pathlib.Path(self.config["file"]).open())
                while quick() < 5:
                    pass
                os._exit(1)
    """
    file = tmp_path / "heard"

    async def scenario() -> None:
        async with carrying(
            [write_package(tmp_path, "ham", {"file": str(file)}, spam=textwrap.dedent(code))]
        ) as it:
            it.deliver(*range(5))
            await it.until(lambda: it.status("ham").restarts == 1 and it.state("ham") == "running")
            it.deliver(5)
            await it.until(lambda: it.status("ham").received == 6)
            lines = file.read_text().splitlines()
            quick = [line for line in lines if line.startswith("quick")]
            dies = [line for line in lines if line.startswith("dies")]
            assert quick[:4] + quick[-1:] == [f"quick {n} False" for n in (0, 1, 2, 3, 5)]
            # It may have been caught between writing its last line and having returned: then it says repeat.
            assert [line for line in quick if line.startswith("quick 4")][1:] in ([], ["quick 4 True"])
            expected = [(0, False), (1, False), (2, False), (3, False), (3, True), (4, False), (5, False)]
            assert dies == [f"dies {number} {repeat}" for number, repeat in expected]

    asyncio.run(scenario())


def test_one_that_dies_in_every_message_is_parked_soon_and_told_what_to_do(tmp_path: Path) -> None:
    code = """
    import os
    class X_Dies(plugin.Co2Plugin):
        def receive(self, data_dict):
            os._exit(3)
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=code)]) as it:
            it.deliver(*range(100))
            await it.until(lambda: it.state("ham") == "parked", "parked", 60)
            status = it.status("ham")
            assert (status.dead_letters, status.restarts) == (
                4,
                12,
            )  # three tries each, and the first of the fifth
            assert status.last_error.endswith(
                "is parked: its plugin host died in 5 different messages within 60 s; the last time it ended "
                "with exit status 3. Fix it, then: co2 plugin reload ham --url http://127.0.0.1:2004"
            )
            letters = [letter.reason for _, letter in it.letters]
            assert letters == ["the plugin host died 3 times in this message: it ended with exit status 3"] * 4
            assert it.log.text.count("it will be restarted") == 12, "not the last time"
            await it.supervisor.reload(write_package(tmp_path, "ham", spam=ECHO))
            await it.until(lambda: it.status("ham").received == 100, "all but four are taken after all")
            assert [message["data"] for _, message in it.sent()] == list(range(4, 100))

    asyncio.run(scenario())


def test_one_that_takes_long_to_start_is_parked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart_policy, "PARK_WITHIN", 2.0)
    code = """
    import threading, time, os
    time.sleep(0.6)
    class X_Dies(plugin.Co2Plugin):
        def __init__(self, var_dict):
            super().__init__(var_dict)
            threading.Timer(0.1, os._exit, (1,)).start()
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=code)]) as it:
            await it.until(lambda: it.state("ham") == "parked", "parked", 60)
            assert it.status("ham").restarts == 4

    asyncio.run(scenario())


def test_messages_wait_while_a_package_starts_again_and_a_gap_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from co2.plugin.parent import delivery_queue

    monkeypatch.setattr(delivery_queue, "MAX_WAITING", 100_000)

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=ECHO)]) as it:
            pid = it.status("ham").pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await it.until(lambda: it.state("ham") == "restarting")
            it.deliver(*range(100))
            await it.until(lambda: it.status("ham").received == 100)
            assert [message["data"] for _, message in it.sent()] == list(range(100))
            pid = it.status("ham").pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await it.until(lambda: it.state("ham") == "restarting")
            for _ in range(500):
                it.deliver(b"x" * 1000)
            await it.until(lambda: "gap: " in it.log.text)
            status = it.status("ham")
            assert status.dropped > 300
            await it.until(lambda: it.status("ham").received == 600 - status.dropped)
            assert "SIGKILL" in it.status("ham").last_error

    asyncio.run(scenario())


# ---- stopping ------------------------------------------------------------------------------------------

EXITS = """
class X_NoArgument(plugin.Co2Plugin):
    def __exit__(self):
        self.send({"data": "none"})

class X_Three(plugin.Co2Plugin):
    def __exit__(self, kind, value, traceback):
        self.send({"data": [kind, value, traceback]})

class X_Fails(plugin.Co2Plugin):
    def x_ping(self, data_dict):
        return True

    def __exit__(self, *args):
        raise RuntimeError("in exit")
"""


def test_exit_is_called_in_both_forms_and_its_last_sends_go_out(tmp_path: Path, settings: Settings) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=EXITS)], settings) as it:
            it.supervisor.pause_sending()
            await it.stop()
            assert sorted(map(str, it.sent())) == ["[None, None, None]", "none"]
            assert "RuntimeError: in exit" in it.log.text
            assert it.state("ham") == "stopped"
            with pytest.raises(PluginFailed, match="stopped"):
                await it.call("ham.spam.ping")

    asyncio.run(scenario())


def test_stopping_while_a_package_loads_or_waits_for_its_next_try(tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(60)\n" + ECHO
    dies = "import os\n" + ECHO + "    def x_die(self, data_dict):\n        os._exit(1)\n"

    async def scenario() -> None:
        specs = [write_package(tmp_path, "slow", spam=slow), write_package(tmp_path, "dies", spam=dies)]
        async with carrying(specs, Settings(load_timeout=1.5)) as it:
            await it.until(lambda: it.state("slow") == "failed")
            with pytest.raises(PluginFailed):
                await it.call("dies.spam.die")
            began = time.monotonic()
            await it.stop()
            assert time.monotonic() - began < 2
            assert it.state("dies") == "stopped"

    asyncio.run(scenario())


def test_a_package_that_does_not_run_has_no_process(tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(60)\n" + ECHO

    async def scenario() -> None:
        specs = [write_package(tmp_path, "bad", spam="1 / 0"), write_package(tmp_path, "good", spam=ECHO)]
        async with carrying(specs) as it:
            assert (it.state("bad"), it.status("bad").pid) == ("failed", None)
            loading = asyncio.create_task(it.supervisor.load(write_package(tmp_path, "slow", spam=slow)))
            await it.until(lambda: len(it.supervisor.status()) == 3 and it.status("slow").pid)
            good = it.status("good").pid
            assert good is not None
            assert is_there(good)
            await it.stop()
            assert [row.pid for row in it.supervisor.status()] == [None] * 3
            with pytest.raises(LoadError, match="stopped"):
                await loading

    asyncio.run(scenario())


def test_no_orphan_when_the_parent_dies(tmp_path: Path) -> None:
    code = """
    import os
    class X_Ham(plugin.Co2Plugin):
        def __init__(self, var_dict):
            super().__init__(var_dict)
            print("child", os.getpid(), flush=True)
            self.send({"data": os.getpid()})
        def __exit__(self):
            open(self.config["file"], "w").write("exited")
    """
    file = tmp_path / "exited"
    write_package(tmp_path, "ham", {}, spam=textwrap.dedent(code))
    parent = f"""
import asyncio, os, signal, sys
from pathlib import Path
from typing import Any
from co2.protocol.wire.batch import make_batch
from co2.values import pack
from tests.plugin.support import PackageSpec, carrying
async def main():
    async with carrying([PackageSpec("ham", Path({str(tmp_path)!r}), {{"file": {str(file)!r}}})]) as it:
        await it.until(it.sent)
        print(it.sent()[0], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, timeout=30, cwd=Path.cwd()
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    deadline = time.monotonic() + PATIENCE
    while not is_gone(pid) or not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert file.read_text() == "exited"


def test_what_a_child_prints_reaches_the_log_under_its_packages_name(tmp_path: Path) -> None:
    code = """
    import sys
    class X_Ham(plugin.Co2Plugin):
        def x_print(self, data_dict):
            print("to stdout")
            print("to stderr", file=sys.stderr)
            for stream in (sys.stdout, sys.stderr):
                print("gar", chr(0xDCE7), file=stream)  # as the name of an old file may be
            self.log("to %s", "log")
            self.debug("to debug")
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))]) as it:
            await it.call("ham.spam.print")
            for line in (
                "INFO co2.plugins.ham to stdout",
                "WARNING co2.plugins.ham to stderr",
                r"INFO co2.plugins.ham gar \udce7",
                r"WARNING co2.plugins.ham gar \udce7",
                "INFO co2.plugins.ham.spam.X_Ham to log",
                "DEBUG co2.plugins.ham.spam.X_Ham to debug",
            ):
                await it.until(lambda line=line: line in it.log.text.splitlines())  # type: ignore[misc]

    asyncio.run(scenario())


def test_a_child_is_kept_apart_from_the_parent(tmp_path: Path) -> None:
    code = """
    import os, resource, sys
    class X_Ham(plugin.Co2Plugin):
        def x_tell(self, data_dict):
            return {
                "session": os.getsid(0) == os.getpid(),
                "memory": resource.getrlimit(resource.RLIMIT_AS)[0] >> 20 if sys.platform == "linux" else 777,
                "oom": open("/proc/self/oom_score_adj").read().strip() if sys.platform == "linux" else "500",
                "arenas": os.environ["MALLOC_ARENA_MAX"],
                "stdin": sys.stdin.read(),
                "path": sys.path[-1],
                "modules": sorted({"asyncio", "aiohttp", "logging"} & set(sys.modules)),
                "bytecode": os.path.exists(os.path.join(os.path.dirname(__file__), "__pycache__")),
            }
    """

    async def scenario() -> None:
        spec = write_package(tmp_path, "ham", spam=textwrap.dedent(code))
        async with carrying([spec], Settings(plugin_memory=777)) as it:
            told = await it.call("ham.spam.tell")
            pid = it.status("ham").pid
            assert pid is not None and resident(pid) <= 35 * 2**20
            assert told == {
                "session": True,
                "memory": 777,
                "oom": "500",
                "arenas": "2",
                "stdin": "",
                "path": str(tmp_path),
                "modules": [],
                "bytecode": False,
            }

    asyncio.run(scenario())


def test_an_interrupt_does_nothing_to_a_child_but_ends_a_program_that_it_has_started(tmp_path: Path) -> None:
    """What ends many programs in order, such as a recorder that has to write the end of its file."""
    code = """
    import os, signal, subprocess
    class X_Ham(plugin.Co2Plugin):
        def x_tell(self, data_dict):
            os.kill(os.getpid(), signal.SIGINT)
            started = subprocess.Popen(["sleep", "60"])
            started.send_signal(signal.SIGINT)
            try:
                return started.wait(10)
            finally:
                started.kill()
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))]) as it:
            assert await it.call("ham.spam.tell") == -signal.SIGINT
            assert it.status("ham").restarts == 0

    asyncio.run(scenario())


def test_bundled_packages_are_carried(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([PackageSpec("example", None, {"name": "Brian"})]) as it:
            assert await it.call("example.example.greet", "John") == "Hello, John!"
            await it.until(lambda: len(it.published) == 2)
            assert it.published[0] == {"channel": "hello", "data": "Brian"}

    asyncio.run(scenario())


def test_a_package_whose_plugins_do_not_receive_is_given_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=CALLS)]) as it:
            it.deliver(*range(10))
            assert it.status("ham").waiting == 0
            assert await it.call("ham.spam.static") == "static"
            assert it.status("ham").received == 0

    asyncio.run(scenario())


def test_a_durable_package_gets_nothing_of_its_siblings_directly_not_even_while_it_loads(tmp_path: Path) -> None:
    """They come from the relay: given here too, they would come twice."""
    quick = """
        import pathlib

        class X_Quick(plugin.Co2Plugin):
            def __init__(self, var_dict):
                super().__init__(var_dict)
                self.send({"data": "at once"})

            def x_send(self, data_dict):
                self.send({"data": "later"})

        class X_Witness(plugin.Co2Plugin):
            def receive(self, data_dict):
                pathlib.Path("sent").touch()
        """
    slow = """
        import pathlib, time
        while not pathlib.Path("sent").exists():
            time.sleep(0.01)

        class X_Slow(plugin.Co2Plugin):
            durable = True

            def __init__(self, var_dict):
                super().__init__(var_dict)
                self.got = []

            def receive(self, data_dict):
                self.got.append(data_dict["data"])

            def x_got(self, data_dict):
                return self.got
        """
    quick, slow = (code.replace('"sent"', repr(str(tmp_path / "sent"))) for code in (quick, slow))

    async def scenario() -> None:
        specs = [write_package(tmp_path, "eggs", spam=quick), write_package(tmp_path, "ham", spam=slow)]
        async with carrying(specs) as it:
            await it.call("eggs.spam.send")
            await it.until(lambda: it.sent() == ["at once", "later"])
            batch = make_batch([pack({"data": "from the relay"})])
            it.supervisor.deliver_to(
                "ham", QueuedBatch(Envelope(HOST_ID, ADDRESS), batch, 1, position=2, log_id="log")
            )
            await it.until(lambda: it.status("ham").received)
            assert await it.call("ham.spam.got") == ["from the relay"]

    asyncio.run(scenario())


def test_a_call_that_nobody_waits_for_any_more_is_not_begun(tmp_path: Path, settings: Settings) -> None:
    code = """
        import threading
        from co2 import plugin

        class X_Slow(plugin.Co2Plugin):
            gate = threading.Event()
            ran = []

            def x_work(self, data_dict):
                self.ran.append(data_dict["data"])
                self.gate.wait(20)

        class X_Other(plugin.Co2Plugin):
            def x_ran(self, data_dict):
                return X_Slow.ran

            def x_open(self, data_dict):
                X_Slow.gate.set()
        """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))], settings) as it:
            calls = [
                asyncio.ensure_future(it.supervisor.call("ham.spam.work", {"data": number})) for number in range(5)
            ]
            while await it.supervisor.call("ham.spam.ran", {"data": 0}) != [0]:
                await asyncio.sleep(0.01)
            for call in calls[1:4]:
                call.cancel()
            await asyncio.gather(*calls[1:4], return_exceptions=True)
            await it.supervisor.call("ham.spam.open", {"data": 0})
            await asyncio.gather(calls[0], calls[4])
            assert await it.supervisor.call("ham.spam.ran", {"data": 0}) == [0, 4]

    asyncio.run(scenario())


def test_a_child_that_holds_the_interpreter_ends_though_its_satellite_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "ham"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "spam.py").write_text(
        "import os\nfrom co2 import plugin\n\nclass X_Holds(plugin.Co2Plugin):\n"
        "    def __init__(self, var_dict):\n        super().__init__(var_dict)\n"
        "        print(os.getpid(), flush=True)\n        sum(range(10**13))\n"
    )
    parent = """
import asyncio, sys
from pathlib import Path
from typing import Any
from co2.plugin.parent.supervisor import PackageSpec, Supervisor
from tests.plugin.support import Settings
import co2.plugin.parent.package as package
package.HANG_GRACE = 0.5

async def main():
    import logging
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    spec = PackageSpec("ham", Path(sys.argv[1]), {})
    supervisor = Supervisor([spec], settings=Settings(receive_deadline=1.0, load_timeout=1.5), var_dict={},
                            host_id=lambda: "a@127.0.0.1:1", address=lambda: ("127.0.0.1", 1),
                            on_publish=lambda *_: None, flushed=None, on_methods_changed=lambda: None)
    await supervisor.start()

asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as satellite:
        assert satellite.stdout
        pid = next(int(found[1]) for line in satellite.stdout if (found := re.search(r"(\d+)$", line.strip())))
        satellite.kill()
    deadline = time.monotonic() + 20
    while is_there(pid):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.05)
