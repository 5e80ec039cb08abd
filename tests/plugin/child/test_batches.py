"""Whole batches through real plugin hosts: who gets which, deaths in the middle, gaps, flushes."""

import asyncio
import os
import signal
import textwrap
from pathlib import Path
from typing import Any

import pytest

from co2.errors import BadRequest, PluginFailed
from co2.plugin.child import decoding
from co2.plugin.child.decoding import Unreadable, open_batch
from co2.plugin.parent import delivery_queue
from co2.plugin.parent.delivery_queue import GapRange
from co2.protocol.wire.batch import make_batch, split_batch
from co2.values import pack
from tests.plugin.support import HOST_ID, OTHER, OTHER_ADDRESS, Settings, carrying, write_package

HEARS = """
class X_Stage(plugin.Co2Plugin):
    channels = ("stage.*",)
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.heard = []
    def receive(self, data_dict):
        self.heard.append(data_dict["data"])
    def x_heard_by_{kind}(self, data_dict):
        return self.heard
class X_All(X_Stage):
    channels = []
    def x_heard_by_all(self, data_dict):
        return self.heard
    x_heard_by_{kind} = None
"""
STAGE = HEARS.partition("class X_All")[0]


@pytest.fixture(params=["process", "thread"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(isolation=request.param)


def test_each_plugin_gets_the_channels_it_wants_and_nothing_else(tmp_path: Path, settings: Settings) -> None:
    async def scenario() -> None:
        specs = [
            write_package(tmp_path, "both", spam=HEARS.format(kind="stage")),
            write_package(tmp_path, "stage", spam=STAGE.format(kind="stage")),
        ]
        messages: list[dict[str, Any]] = [
            {"data": 1, "channel": "stage.left"},
            {"data": 2},
            {"data": 3, "channel": "lab.left"},
            {"data": 4, "channel": 7},
            {"data": 5, "channel": "stage.left.x"},
            {"data": 6, "channel": "stage.right"},
        ]
        async with carrying(specs, settings) as it:
            infos = [info for row in it.supervisor.status() for info in row.plugins]
            assert [(info.name, info.channels, info.durable) for info in infos] == [
                ("both.spam.X_Stage", ["stage.*"], False),
                ("both.spam.X_All", [], False),
                ("stage.spam.X_Stage", ["stage.*"], False),
            ]
            batch = make_batch([*map(pack, messages)])
            it.supervisor.deliver(OTHER, OTHER_ADDRESS, ["", "stage.left", "stage.right"], batch)
            it.supervisor.deliver(OTHER, OTHER_ADDRESS, None, batch)
            it.deliver(7, channel="lab.x")
            await it.until(lambda: it.status("both").received == 13 and it.status("stage").received == 12)
            assert await it.call("both.spam.heard_by_stage") == [1, 6] * 2
            assert await it.call("both.spam.heard_by_all") == [1, 2, 3, 4, 5, 6] * 2 + [7]
            assert await it.call("stage.spam.heard_by_stage") == [1, 6] * 2

    asyncio.run(scenario())


def test_siblings_get_what_they_want_and_the_satellite_learns_the_channels(tmp_path: Path) -> None:
    code = """
    class X_Talks(plugin.Co2Plugin):
        live = ("meter.>",)
        def x_send(self, data_dict):
            for channel in data_dict["data"]:
                self.send({"data": channel, "channel": channel})
    """

    async def scenario() -> None:
        specs = [
            write_package(tmp_path, "ham", spam=textwrap.dedent(code)),
            write_package(tmp_path, "stage", spam=STAGE.format(kind="stage")),
        ]
        async with carrying(specs) as it:
            await it.call("ham.spam.send", ["lab", "meter.x"])
            await it.until(lambda: len(it.published) == 2)
            await it.call("ham.spam.send", ["stage.x"])
            await it.until(lambda: it.status("stage").received == 1)
            assert await it.call("stage.spam.heard_by_stage") == ["stage.x"]
            assert [(frame[0], frame[1], frame[2], frame[4]) for frame in it.frames] == [
                ("ham", "ham.spam.X_Talks", ["lab"], False),
                ("ham", "ham.spam.X_Talks", ["meter.x"], True),
                ("ham", "ham.spam.X_Talks", ["stage.x"], False),
            ]
            assert it.status("ham").sent == 3

    asyncio.run(scenario())


def test_only_what_cannot_be_decoded_is_lost_and_it_is_told(tmp_path: Path, settings: Settings) -> None:
    bad = [b"\x81\xa4data" + b"\x91" * 100_000 + b"\x90", b"\x90", b"\x81\x01\x02", b"\x81\xa4data\xa1\xff"]

    async def scenario() -> None:
        spec = write_package(tmp_path, "ham", spam=STAGE.format(kind="all"))
        async with carrying([spec], settings) as it:
            good = [pack({"data": number, "channel": "stage.x"}) for number in range(len(bad))]
            mixed = [packed for pair in zip(good, bad, strict=True) for packed in pair]
            batch = make_batch([*mixed, pack({"data": "not for it", "channel": "x"}), good[0]])
            it.supervisor.deliver(OTHER, OTHER_ADDRESS, None, batch)
            await it.until(lambda: it.status("ham").received == 2 * len(bad) + 2)
            assert await it.call("ham.spam.heard_by_all") == [*range(len(bad)), 0]
            await it.until(lambda: it.status("ham").failed == len(bad))
            told = it.log.text
            assert told.count("receive failed; the message is from there@10.0.0.7") == len(bad)
            assert "100007 bytes that cannot be shown" in told

    asyncio.run(scenario())


def test_what_is_no_batch_is_refused_where_it_comes_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=STAGE.format(kind="all"))]) as it:
            for bad in (b"", b"\x90", make_batch([]), b"\xdd\x00\x01\x00\x00"):
                with pytest.raises(BadRequest):
                    it.supervisor.deliver(OTHER, OTHER_ADDRESS, None, bad)
            torn = make_batch([pack({"data": 1})] * 3)[:-2]
            it.supervisor.deliver(OTHER, OTHER_ADDRESS, None, torn)
            it.deliver("after", channel="stage.x")
            await it.until(lambda: it.status("ham").received == 4)
            assert await it.call("ham.spam.heard_by_all") == ["after"]
            assert it.status("ham").restarts == 0

    asyncio.run(scenario())


def test_messages_at_the_front_can_be_left_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=STAGE.format(kind="all"))]) as it:
            batch = make_batch([pack({"data": number, "channel": "stage.x"}) for number in range(5)])
            it.supervisor.deliver(OTHER, OTHER_ADDRESS, None, batch, skip=3)
            it.deliver("after", channel="stage.x")
            await it.until(lambda: it.status("ham").received == 3)
            assert await it.call("ham.spam.heard_by_all") == [3, 4, "after"]
            assert it.status("ham").waiting == 0

    asyncio.run(scenario())


DIES = """
import os
class X_Dies(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.file = open(self.config["file"], "a", buffering=1)
    def receive(self, data_dict):
        self.file.write(f"{data_dict['data']} {data_dict.get('repeat', False)}\\n")
        if data_dict["data"] in self.config["deadly"] and "repeat" not in data_dict:
            os._exit(1)
        if data_dict["data"] in self.config["hopeless"]:
            os._exit(1)
"""


def test_a_death_in_the_middle_of_a_batch_loses_and_doubles_nothing(tmp_path: Path) -> None:
    file = tmp_path / "heard"
    config = {"file": str(file), "deadly": [300, 301, 700], "hopeless": []}

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", config, spam=DIES)]) as it:
            for first in (0, 512):
                batch = make_batch([pack({"data": number}) for number in range(first, first + 512)])
                it.supervisor.deliver(OTHER, OTHER_ADDRESS, [""], batch)
            await it.until(lambda: it.status("ham").received == 1024)
            assert it.status("ham").restarts == 3
            assert it.status("ham").dead_letters == 0
        expected = []
        for number in range(1024):
            expected.append(f"{number} False")
            if number in (300, 301, 700):
                expected.append(f"{number} True")
        assert file.read_text().splitlines() == expected

    asyncio.run(scenario())


def test_a_message_that_kills_again_and_again_is_given_up_and_the_rest_arrives(
    tmp_path: Path,
) -> None:
    file = tmp_path / "heard"
    config = {"file": str(file), "deadly": [], "hopeless": [300]}

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", config, spam=DIES)]) as it:
            it.deliver(*range(512))
            await it.until(lambda: it.status("ham").received == 512)
            assert (it.status("ham").dead_letters, it.state("ham")) == (1, "running")
            assert f"from {OTHER}: {{'data': 300}}" in it.log.text
        lines = file.read_text().splitlines()
        assert [line for line in lines if not line.startswith("300 ")] == [
            f"{number} False" for number in range(512) if number != 300
        ]
        assert [line for line in lines if line.startswith("300 ")] == ["300 False", "300 True", "300 True"]

    asyncio.run(scenario())


def test_calls_come_between_the_messages_of_a_batch(tmp_path: Path) -> None:
    code = """
    import threading
    class X_Ham(plugin.Co2Plugin):
        count = 0
        def receive(self, data_dict):
            self.count += 1
            if self.count == 100:
                self.send({"data": "at 100"})
                while not self._co2.jobs:
                    pass
        def x_count(self, data_dict):
            return self.count
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))]) as it:
            it.deliver(*range(1000))
            await it.until(it.sent)
            assert await it.call("ham.spam.count") == 100
            await it.until(lambda: it.status("ham").received == 1000)

    asyncio.run(scenario())


# ---- gaps ----------------------------------------------------------------------------------------------

GAPS = """
class X_Gaps(plugin.Co2Plugin):
    def receive(self, data_dict):
        self.send({"data": data_dict["data"]})
    def gap(self, gap):
        self.send({"data": gap})
class X_Default(plugin.Co2Plugin):
    def receive(self, data_dict):
        pass
class X_Fails(plugin.Co2Plugin):
    def receive(self, data_dict):
        pass
    async def gap(self, gap):
        raise RuntimeError("in gap")
class X_OnlySends(plugin.Co2Plugin):
    def gap(self, gap):
        self.send({"data": "not for me"})
"""


def test_a_gap_comes_in_its_place(tmp_path: Path, settings: Settings) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=GAPS)], settings) as it:
            it.deliver(1, 2)
            it.supervisor.gap_to("ham", GapRange(17, 29, ("retention",)))
            it.deliver(3)
            gap = {"after": 17, "next": 29, "reason": "retention"}
            await it.until(lambda: [m for m in it.sent() if m != "not for me"] == [1, 2, gap, 3])
            assert it.sent() == [1, 2, gap, 3]
            await it.until(lambda: "RuntimeError: in gap" in it.log.text)
            expected = "WARNING co2.plugins.ham.spam.X_Default gap: messages are missing: retention"
            await it.until(lambda: expected in it.log.text)
            # X_Gaps says aloud what it hears, and its siblings hear that.
            await it.until(lambda: it.status("ham").received == 7)
            await it.until(lambda: it.status("ham").failed == 1)

    asyncio.run(scenario())


def test_what_had_to_be_dropped_is_told_in_its_place_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_queue, "MAX_WAITING", 100_000)

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=GAPS.partition("class X_Default")[0])]) as it:
            it.deliver(0)
            await it.until(lambda: it.status("ham").received == 1)
            pid = it.status("ham").pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await it.until(lambda: it.state("ham") == "restarting")
            for number in range(1, 201):
                it.deliver(number, number, b"x" * 1000)
            dropped = it.status("ham").dropped
            assert 300 < dropped < 600
            await it.until(lambda: it.status("ham").received == 601 - dropped)
            sent = [data for data in it.sent() if not isinstance(data, bytes)]
            reason = f"{dropped} messages were dropped: they came faster than the package processes them"
            assert sent[:2] == [0, {"after": 0, "next": 0, "reason": reason}]
            rest = range(1 + dropped // 3, 201)
            assert sent[2:] == [number for number in rest for _ in range(2)]

    asyncio.run(scenario())


# ---- flush ---------------------------------------------------------------------------------------------

FLUSHES = """
import threading
class X_Ham(plugin.Co2Plugin):
    def x_flush(self, data_dict):
        self.send({"data": "sent"})
        timeout = data_dict["data"]
        try:
            self.flush(timeout) if timeout else self.flush()
        except TimeoutError as error:
            return [type(error).__name__, str(error)]
        return "flushed"
    def x_flush_from_thread(self, data_dict):
        def run():
            self.send({"data": "before"})
            self.flush()
            self.send({"data": "after"})
        threading.Thread(target=run).start()
    def __exit__(self):
        self.send({"data": "goodbye"})
        self.flush()
        self.send({"data": "flushed"})
"""


@pytest.mark.parametrize("timeout", [float("nan"), -1, "1"])
def test_flush_takes_only_a_number_of_seconds(tmp_path: Path, settings: Settings, timeout: Any) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=FLUSHES)], settings) as it:
            with pytest.raises(PluginFailed, match="ValueError: timeout: expected a number of seconds from 0 up"):
                await it.call("ham.spam.flush", timeout)

    asyncio.run(scenario())


@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_flush_may_wait_for_very_long(tmp_path: Path, settings: Settings, timeout: float) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=FLUSHES)], settings) as it:
            assert await it.call("ham.spam.flush", timeout) == "flushed"

    asyncio.run(scenario())


def test_flush_returns_when_the_satellite_says_so(tmp_path: Path, settings: Settings) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=FLUSHES)], settings) as it:
            assert await it.call("ham.spam.flush", 0) == "flushed"
            assert it.sent() == ["sent"], "what was sent is there before the flush is asked for"
            it.acknowledged.clear()
            [error, text] = await it.call("ham.spam.flush", 0.05)
            assert error == "FlushTimeout"
            assert "0.05 s" in text
            assert "do not send them again" in text
            await it.call("ham.spam.flush_from_thread")
            await it.until(lambda: it.sent()[-1] == "before")
            assert await it.call("ham.spam.flush", 0.05) == [error, text]
            assert "after" not in it.sent()
            it.acknowledged.set()
            await it.until(lambda: it.sent()[-1] == "after")
            await it.stop()
            assert it.sent()[-2:] == ["goodbye", "flushed"]

    asyncio.run(scenario())


def test_a_flush_while_sending_is_paused_waits_with_what_was_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=FLUSHES)]) as it:
            it.supervisor.pause_sending()
            assert (await it.call("ham.spam.flush", 0.05))[0] == "FlushTimeout"
            await it.call("ham.spam.flush_from_thread")
            assert it.sent() == []
            it.supervisor.resume_sending()
            await it.until(lambda: it.sent() == ["sent", "before", "after"])

    asyncio.run(scenario())


def test_a_flush_that_the_satellite_refuses_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=FLUSHES)]) as it:
            answers: list[Exception] = [PluginFailed("the disk is full"), RuntimeError("our own bug")]

            async def refused(_package: str) -> None:
                raise answers.pop(0)

            monkeypatch.setattr(it.supervisor, "_flushed", refused)
            assert "the disk is full" in (await it.call("ham.spam.flush", 5))[1]
            assert "the satellite failed: RuntimeError" in (await it.call("ham.spam.flush", 5))[1]
            monkeypatch.undo()

    asyncio.run(scenario())


def test_a_dead_child_leaves_no_flush_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=FLUSHES)]) as it:
            it.acknowledged.clear()
            await it.call("ham.spam.flush_from_thread")
            await it.until(lambda: it.sent() == ["before"])
            pid = it.status("ham").pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await it.until(lambda: it.status("ham").restarts == 1 and it.state("ham") == "running")
            it.acknowledged.set()
            assert await it.call("ham.spam.flush", 0) == "flushed"
            assert it.sent() == ["before", "sent"]

    asyncio.run(scenario())


def test_a_message_of_a_sibling_has_our_envelope_also_in_a_batch(tmp_path: Path) -> None:
    code = """
    class X_Talks(plugin.Co2Plugin):
        def x_talk(self, data_dict):
            for number in range(3000):
                self.send({"data": number, "host_id": "evil"})
    class X_Hears(plugin.Co2Plugin):
        def __init__(self, var_dict):
            super().__init__(var_dict)
            self.heard = []
        def receive(self, data_dict):
            self.heard.append([data_dict["data"], data_dict["host_id"]])
        def x_heard(self, data_dict):
            return self.heard
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))]) as it:
            await it.call("ham.spam.talk")
            await it.until(lambda: it.status("ham").received == 3000)
            heard: Any = await it.call("ham.spam.heard")
            assert heard == [[number, HOST_ID] for number in range(3000)]
            assert sum(len(split_batch(frame[3])) for frame in it.frames) == 3000

    asyncio.run(scenario())


def test_a_plugin_may_override_send(tmp_path: Path) -> None:
    code = """
    class X_Ham(plugin.Co2Plugin):
        def __init__(self, var_dict):
            super().__init__(var_dict)
            self.send({"data": "begin"})
        def send(self, data_dict):
            super().send({**data_dict, "channel": "own"})
        def x_send(self, data_dict):
            self.send(data_dict)
    class X_Plain(plugin.Co2Plugin):
        def x_send_plain(self, data_dict):
            self.send(data_dict)
            plugin.Co2Plugin.send(self, data_dict)
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=textwrap.dedent(code))]) as it:
            await it.call("ham.spam.send", 1)
            await it.call("ham.spam.send_plain", 2)
            await it.until(lambda: len(it.published) == 4)
            sent = [(message["data"], message.get("channel")) for message in it.published]
            assert sorted(sent, key=str) == [("begin", "own"), (1, "own"), (2, None), (2, None)]

    asyncio.run(scenario())


def test_where_memory_runs_out_while_a_batch_is_decoded_only_what_does_not_fit_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(_batch: bytes) -> Any:
        raise MemoryError

    batch = make_batch([pack({"data": number}) for number in range(3)])
    monkeypatch.setattr(decoding, "unpack_batch", no_memory)
    assert open_batch(batch) == [{"data": 0}, {"data": 1}, {"data": 2}]
    monkeypatch.setattr(decoding, "unpack", no_memory)
    assert [type(message) for message in open_batch(batch)] == [Unreadable] * 3
    monkeypatch.setattr(decoding, "split_batch", no_memory)
    assert [type(message) for message in open_batch(batch)] == [Unreadable] * 3


FORGING = """
    import os, sys
    from co2.protocol.wire.plugin_frames.frames import Publish, encode_frame

    class X_Spam(plugin.Co2Plugin):
        def receive(self, data_dict):
            for batch in (b"", b"\\xdd\\0\\0\\0\\0", b"\\xdd\\0\\0\\x08\\1" + bytes(2049)):
                os.write(int(sys.argv[1]), encode_frame(Publish("ham.spam.X_Spam", [""], batch)))
            self.send({"data": "after"})
"""


def test_a_plugin_host_that_sends_malformed_batches_sends_nothing_with_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=FORGING)]) as it:
            it.deliver("now")
            await it.until(it.sent, "sent")
            assert it.sent() == ["after"]
            assert it.status("ham").sent == 1
            assert it.log.text.count("could not be processed") == 3

    asyncio.run(scenario())
