"""What a plugin has, when its code is changed: the store stays, timers end and begin, nothing is done twice."""

import asyncio
import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from co2.errors import LoadError
from co2.plugin.packages.spec import PackageSpec
from co2.protocol.wire.plugin_frames.frames import Host
from tests.plugin.support import Carrier, carrying, in_loop, write_package

TICKING = """
    class X_Tick(plugin.Co2Plugin):
        def __init__(self, var_dict):
            super().__init__(var_dict)
            self.count = self.store.get("count", 0)
            self.greeted = []
            self.every(0.002, self.tick)

        def tick(self):
            self.count += 1
            self.send({"data": [VERSION, self.count]})

        def joined(self, host):
            self.greeted.append(host.host_id)

        def handover(self):
            return self.count

        def takeover(self, value):
            self.count = value

        def x_state(self, data_dict):
            return [VERSION, self.count, self.greeted]

        def __exit__(self):
            self.store["exit"] = VERSION

        def x_exits(self, data_dict):
            return self.store.get("exit")
"""


class Network:
    """Two are there."""

    async def call(self, method: str, host_id: str, argument: dict[str, Any], timeout: float) -> Any:
        raise AssertionError("nobody calls")

    def hosts(self) -> Sequence[Host]:
        return [Host("own@127.0.0.1:1", own=True), Host("a@10.0.0.7:1"), Host("b@10.0.0.8:1")]


def spec(folder: Path, version: int, code: str = TICKING) -> PackageSpec:
    made = write_package(folder, "ham", spam=f"VERSION = {version}\n" + textwrap.dedent(code))
    return replace(made, store=folder / "stores" / "ham.db")


async def ticked(it: Carrier, version: int) -> None:
    await it.until(lambda: [one for one in it.sent() if one[0] == version][3:], f"version {version} ticks")


@in_loop
async def test_timers_of_the_old_code_end_and_those_of_the_new_begin(tmp_path: Path) -> None:
    async with carrying([spec(tmp_path, 1)], network=Network()) as it:
        for version in range(1, 6):
            await ticked(it, version)
            await it.supervisor.reload(spec(tmp_path, version + 1))
        await ticked(it, 6)
        versions = [version for version, _ in it.sent()]
        assert versions == sorted(versions), "no tick of old code after the first of new code"
        counts = [count for _, count in it.sent()]
        assert counts == list(range(1, len(counts) + 1)), (
            "no tick between handover and takeover is lost or doubled"
        )
        assert await it.call("ham.spam.exits") == 5, (
            "the last __exit__ wrote into the store that the new code reads"
        )


@in_loop
async def test_new_code_is_told_of_all_who_are_there_and_of_changes_once(tmp_path: Path) -> None:
    async with carrying([spec(tmp_path, 1)], network=Network()) as it:

        async def greeted() -> list[str]:
            return list((await it.call("ham.spam.state"))[2])

        async def told(count: int) -> list[str]:
            async with asyncio.timeout(20):
                while len(found := await greeted()) < count:
                    await asyncio.sleep(0.005)
            return found

        assert await told(2) == ["a@10.0.0.7:1", "b@10.0.0.8:1"]
        await it.supervisor.reload(spec(tmp_path, 2))
        assert await told(2) == ["a@10.0.0.7:1", "b@10.0.0.8:1"]
        it.supervisor.hosts_changed([Host("c@10.0.0.9:1")], [])
        assert await told(3) == ["a@10.0.0.7:1", "b@10.0.0.8:1", "c@10.0.0.9:1"]


@in_loop
async def test_where_the_new_code_fails_the_timers_of_the_old_go_on(tmp_path: Path) -> None:
    broken = TICKING.replace("self.count = value", "raise ValueError('nih')")
    async with carrying([spec(tmp_path, 1)], network=Network()) as it:
        await ticked(it, 1)
        with pytest.raises(LoadError, match="takeover failed"):
            await it.supervisor.reload(spec(tmp_path, 2, broken))
        before = len(it.sent())
        await it.until(lambda: len(it.sent()) > before + 3, "it ticks on")
        assert {version for version, _ in it.sent()} == {1}
        assert [count for _, count in it.sent()] == list(range(1, len(it.sent()) + 1))


@in_loop
async def test_an_exclusive_one_that_comes_back_has_timers_and_store_afresh(tmp_path: Path) -> None:
    exclusive = TICKING.replace("def __init__", "exclusive = True\n        def __init__", 1)
    failing = exclusive.replace("self.greeted = []", "raise ValueError('nih')")
    async with carrying([spec(tmp_path, 1, exclusive)], network=Network()) as it:
        await ticked(it, 1)
        with pytest.raises(LoadError, match="nih"):
            await it.supervisor.reload(spec(tmp_path, 2, failing))
        before = len(it.sent())
        await it.until(lambda: len(it.sent()) > before + 3, "the old code, made afresh, ticks")
        assert {version for version, _ in it.sent()} == {1}
        assert await it.call("ham.spam.exits") == 1
        assert (await it.call("ham.spam.state"))[2] == ["a@10.0.0.7:1", "b@10.0.0.8:1"]


@in_loop
async def test_a_wrong_table_or_a_missing_requirement_leaves_the_old_code_running(tmp_path: Path) -> None:
    typed = """
    import msgspec
    class X_Ham(plugin.Co2Plugin):
        class Config(msgspec.Struct):
            loudness: int = 3
        def x_loudness(self, data_dict):
            return [VERSION, self.config.loudness]
    """
    async with carrying([spec(tmp_path, 1, typed)]) as it:
        with pytest.raises(LoadError, match=r"\[plugin\.ham\] loudness: expected 'int', got 'str'"):
            await it.supervisor.reload(replace(spec(tmp_path, 2, typed), config={"loudness": "11"}))
        assert await it.call("ham.spam.loudness") == [1, 3]
        third = replace(spec(tmp_path, 3, typed), config={"loudness": 11})
        (tmp_path / "ham" / "__init__.py").write_text("requires = ('no-such-thing',)")
        with pytest.raises(LoadError, match="requires 'no-such-thing'"):
            await it.supervisor.reload(third)
        assert await it.call("ham.spam.loudness") == [1, 3]
        await it.supervisor.reload(replace(spec(tmp_path, 4, typed), config={"loudness": 11}))
        assert await it.call("ham.spam.loudness") == [4, 11]


@in_loop
async def test_a_single_file_is_reloaded_however_quickly_it_is_edited(tmp_path: Path) -> None:
    def write(letter: str) -> PackageSpec:
        (tmp_path / "fader.py").write_text(
            "from co2 import plugin\nclass X_Fader(plugin.Co2Plugin):\n"
            f"    def x_letter(self, data_dict): return '{letter}'\n"
        )
        return PackageSpec("fader", tmp_path)

    async with carrying([write("a")]) as it:
        codes = set()
        for letter in itertools.chain("bcdef"):
            await it.supervisor.reload(write(letter))
            assert await it.call("fader.fader.letter") == letter
            codes.add(it.status("fader").code)
        assert len(codes) == 5
        assert not [*tmp_path.rglob("*.pyc")]
