"""What a plugin does not take: handed out as it came, bounded, counted, and given once more on demand."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from co2.errors import PluginFailed
from co2.plugin.child import writer
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.plugin_frames.frames import DeadLetter
from co2.values import pack, unpack
from tests.plugin.support import OTHER, OTHER_ADDRESS, Settings, carrying, write_package

PICKY = """
import os
class X_Ham(plugin.Co2Plugin):
    def receive(self, data_dict):
        if "repeat" in data_dict and not self.config.get("stubborn"):
            self.send({"data": ["repeated", {**data_dict, "client_address": list(data_dict["client_address"])}]})
            return
        if data_dict["data"] == "bad":
            data_dict["data"] = "spoilt"
            raise ValueError("not this one\\nand more")
        if data_dict["data"] == "die":
            os._exit(3)
        if data_dict["data"] == "half":
            raise OSError("no such file: \\udcff")
"""

HEARS = """
class X_Eggs(plugin.Co2Plugin):
    heard = 0
    def receive(self, data_dict):
        self.heard += 1
    def x_heard(self, data_dict):
        return self.heard
"""


def letter(data: Any, plugin: str = "ham.spam.X_Ham") -> DeadLetter:
    return DeadLetter(plugin, OTHER, OTHER_ADDRESS, "why", pack({"data": data}))


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_what_receive_raises_on_becomes_a_letter_with_the_very_message(tmp_path: Path, isolation: str) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=PICKY)], Settings(isolation=isolation)) as it:
            it.deliver("good", "bad", "good", channel="a.b", more=[1, 2])
            await it.until(lambda: it.letters and it.status("ham").received == 3)
            ((package, found),) = it.letters
            assert (package, found.plugin, found.host_id) == ("ham", "ham.spam.X_Ham", OTHER)
            assert (found.client_address, found.reason) == (OTHER_ADDRESS, "ValueError: not this one")
            assert found.message == pack({"data": "bad", "channel": "a.b", "more": [1, 2]})
            await it.until(lambda: it.status("ham").failed == 1)
            assert (it.status("ham").dead_letters, it.status("ham").letters_unkept) == (1, 0)

    asyncio.run(scenario())


def test_every_plugin_that_raises_makes_a_letter_of_its_own_and_the_others_miss_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        specs = [
            write_package(tmp_path, "ham", spam=PICKY, more=PICKY.replace("X_Ham", "X_Too"), eggs=HEARS),
            write_package(tmp_path, "beside", eggs=HEARS),
        ]
        async with carrying(specs) as it:
            it.deliver(*(["good"] * 999 + ["bad"]) * 4)
            await it.until(lambda: len(it.letters) == 8, "two plugins, four messages")
            assert {found.plugin for _, found in it.letters} == {"ham.spam.X_Ham", "ham.more.X_Too"}
            await it.until(lambda: it.status("ham").received == it.status("beside").received == 4000)
            assert await it.call("ham.eggs.heard") == await it.call("beside.eggs.heard") == 4000
            assert (it.status("beside").dead_letters, it.status("ham").restarts) == (0, 0)

    asyncio.run(scenario())


def test_a_message_that_kills_three_times_becomes_a_letter(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying(
            [write_package(tmp_path, "ham", spam=PICKY.replace('"repeat" in', "False and"))]
        ) as it:
            it.deliver("good", "die", "good")
            await it.until(lambda: it.status("ham").received == 3)
            ((_, found),) = it.letters
            assert unpack(found.message) == {"data": "die"}
            assert found.reason == "the plugin host died 3 times in this message: it ended with exit status 3"
            assert (it.status("ham").dead_letters, it.status("ham").restarts) == (1, 3)

    asyncio.run(scenario())


def test_an_error_whose_text_is_no_unicode_ends_nothing(tmp_path: Path) -> None:
    code = PICKY + "        self.log(str(data_dict['data']) + ' logged \\udcff')\n"

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=code)]) as it:
            it.deliver("half", "good")
            await it.until(lambda: it.status("ham").received == 2 and "good logged" in it.log.text)
            assert [found.reason for _, found in it.letters] == ["OSError: no such file: \\udcff"]
            assert it.status("ham").restarts == 0
            assert "OSError: no such file: \\udcff" in it.log.text

    asyncio.run(scenario())


def test_messages_that_cannot_be_decoded_are_letters_too(tmp_path: Path) -> None:
    broken = pack({"data": "x"}).replace(b"\xa1x", b"\xa1\xff")

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=PICKY)]) as it:
            batch = make_batch([pack({"data": "good"}), broken, pack({"data": "bad"})])
            it.supervisor.deliver(OTHER, OTHER_ADDRESS, None, batch)
            it.supervisor.deliver(OTHER, OTHER_ADDRESS, None, b"\xdd\x00\x00\x00\x02\xc1")
            await it.until(lambda: len(it.letters) == 4)
            assert [found.message for _, found in it.letters] == [broken, pack({"data": "bad"}), b"", b""]
            assert it.letters[0][1].reason.startswith("ValueRefused: ")

    asyncio.run(scenario())


def test_a_flood_of_letters_is_bounded_counted_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_LETTERS", 3)

    async def scenario() -> None:
        settings = Settings(isolation="thread")
        async with carrying([write_package(tmp_path, "ham", spam=PICKY)], settings) as it:
            count = 4000
            it.deliver(*["bad"] * count)
            await it.until(lambda: it.status("ham").received == count)
            await it.until(lambda: it.status("ham").failed == count)
            await it.until(lambda: it.status("ham").dead_letters == count, "each is counted")
            unkept = it.status("ham").letters_unkept
            assert 0 < unkept == count - len(it.letters)

            def told() -> int:
                return sum(map(int, re.findall(r"(\d+) dead letters were not kept: too many", it.log.text)))

            await it.until(lambda: told() == unkept, "all of them are told, in a few lines")

    asyncio.run(scenario())


def test_letters_that_go_down_with_their_plugin_host_are_counted(tmp_path: Path) -> None:
    code = """
    import os
    class X_Ham(plugin.Co2Plugin):
        def receive(self, data_dict):
            if "repeat" in data_dict:
                return
            if data_dict["data"] == "die":
                os._exit(3)
            raise ValueError("not this one")
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=code)]) as it:
            for turn in range(1, 4):
                it.deliver(*["bad"] * 50, "die")
                received = 51 * turn
                await it.until(lambda received=received: it.status("ham").received == received)
                status = it.status("ham")
                assert status.restarts == turn
                assert status.dead_letters == 50 * turn == len(it.letters) + status.letters_unkept

    asyncio.run(scenario())


def test_a_letter_is_given_once_more_with_all_that_it_had(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=PICKY, eggs=HEARS)]) as it:
            it.deliver("bad", key=5)
            await it.until(lambda: it.letters)
            await it.supervisor.repeat(*it.letters[0])
            await it.until(it.sent)
            (sent,) = it.sent()
            assert sent == [
                "repeated",
                {
                    "data": "bad",
                    "key": 5,
                    "repeat": True,
                    "host_id": OTHER,
                    "client_address": list(OTHER_ADDRESS),
                },
            ]
            async with asyncio.timeout(20):
                while await it.call("ham.eggs.heard") < 2:  # a call may go before a message that waits
                    await asyncio.sleep(0.01)
            assert await it.call("ham.eggs.heard") == 2, "the message once, and what its sibling has sent"

    asyncio.run(scenario())


def test_a_repeat_that_does_not_succeed_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        specs = [
            write_package(tmp_path, "ham", {"stubborn": True}, spam=PICKY),
            write_package(tmp_path, "sends", spam="class X_Sends(plugin.Co2Plugin):\n    pass\n"),
            write_package(tmp_path, "broken", spam="raise ValueError\n"),
        ]
        async with carrying(specs) as it:
            for package, given, why in (
                ("ham", letter("bad"), r"ham.spam.X_Ham.receive: ValueError: not this one \(log id"),
                ("ham", letter("die"), "ham.spam.X_Ham.receive: the plugin host of ham died"),
                ("ham", letter("bad", "ham.spam.X_Gone"), "has no such receiver"),
                ("sends", letter("bad", "sends.spam.X_Sends"), "has no such receiver"),
                ("broken", letter("bad", "broken.spam.X_A"), "the plugin package broken is failed"),
                ("gone", letter("bad", "gone.spam.X_A"), "no plugin package gone is loaded"),
            ):
                await it.until(lambda: it.state("ham") == "running")
                with pytest.raises(PluginFailed, match=why):
                    await it.supervisor.repeat(package, given)
            assert it.letters == [], "a letter that fails again is the same letter"
            await it.until(lambda: it.state("ham") == "running")
            await it.supervisor.repeat("ham", letter("good"))

    asyncio.run(scenario())


def test_a_repeat_that_hangs_is_ended_at_the_deadline(tmp_path: Path) -> None:
    code = """
    import time
    class X_Ham(plugin.Co2Plugin):
        def receive(self, data_dict):
            time.sleep(1000)
    """

    async def scenario() -> None:
        settings = Settings(receive_deadline=0.3, receive_warning=0.1)
        async with carrying([write_package(tmp_path, "ham", spam=code)], settings) as it:
            with pytest.raises(PluginFailed, match="died"):
                await it.supervisor.repeat("ham", letter("x"))
            assert "ham.spam.X_Ham: ham.spam.X_Ham.receive took longer than 0.3 s" in it.log.text
            await it.until(lambda: it.state("ham") == "running")

    asyncio.run(scenario())
