"""Requests of the relay at the satellite: an exact table, the owner's word, parts of bounded size, limits."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from co2.errors import BadParams, Denied, NoSuchMethod, NotLoadable, PluginFailed, Unreachable
from co2.plugin.parent.status import PackageStatus
from co2.protocol.wire.plugin_frames.frames import DeadLetter, PluginInfo
from co2.protocol.wire.relay_requests import (
    MAX_ANSWER,
    MAX_LETTER,
    MAX_LINE,
    MAX_PART,
    REQUESTS,
    LetterPart,
    LogPart,
    PackageList,
    PackageReport,
)
from co2.satellite.dead_letters import DeadLetters
from co2.satellite.relay_requests import MAX_AT_ONCE, RelayRequests
from co2.values import pack, pack_value, unpack_value

ASKER = "127.0.0.1:4711"


class Fake:
    """Packages, their log and their dead letters, and the requests over them."""

    def __init__(self, path: Path, managed: bool | str = True) -> None:
        self.reloads: list[tuple[str, bool]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.error: Exception | None = None
        self.rows = [PackageStatus(name="ham", state="parked", load=3)]
        self.lines: list[dict[str, Any]] = []
        self.letters = DeadLetters(path / "dead_letters.db", self._repeat)
        self.requests = RelayRequests(
            managed, control=self, status=lambda: self.rows, log=self._log, letters=self.letters
        )

    async def reload(self, name: str, *, fresh: bool = False) -> PackageStatus:
        self.reloads.append((name, fresh))
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return msgspec.structs.replace(self.rows[0], load=4, state="running")

    def _log(self, name: str, after: int, maximum: int) -> list[dict[str, Any]] | None:
        if name != "ham":
            return None
        return [line for line in self.lines if line["number"] > after][-maximum:]

    async def _repeat(self, package: str, letter: DeadLetter) -> None:
        if self.error is not None:
            raise self.error

    async def ask(self, method: str, **argument: Any) -> Any:
        """Return the answer as the relay gets it."""
        found = await self.requests.answer(ASKER, method, argument)
        packed = pack_value(found)
        assert len(packed) <= MAX_ANSWER
        return unpack_value(packed)

    def letter(self, data: Any, package: str = "ham") -> None:
        sender = ("a@10.0.0.7:2004", ("10.0.0.7", 5))
        self.letters.take(package, DeadLetter(f"{package}.spam.X_Spam", *sender, "E: no", pack({"data": data})))


def carried(path: Path, scenario: Callable[[Fake], Awaitable[None]], managed: bool | str = True) -> None:
    async def run() -> None:
        fake = Fake(path, managed)
        await fake.letters.start()
        try:
            await scenario(fake)
        finally:
            await fake.requests.stop()
            await fake.letters.close()

    asyncio.run(run())


async def kept(fake: Fake, count: int) -> None:
    async with asyncio.timeout(10):
        while fake.letters.kept != count:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("name", ["", "co2.plugin.reload", "load", "unload", "ham.spam.x", "_reload", "answer"])
def test_nothing_but_the_table_is_answered(tmp_path: Path, name: str) -> None:
    async def scenario(fake: Fake) -> None:
        with pytest.raises(NoSuchMethod):
            await fake.ask(name, package="ham")
        with pytest.raises(NoSuchMethod):
            await fake.requests.answer(ASKER, "reload", ["ham"])
        assert fake.reloads == []

    carried(tmp_path, scenario)


@pytest.mark.parametrize(("managed", "may_read"), [(False, False), ("read", True)])
def test_the_owner_decides(
    tmp_path: Path, managed: bool | str, may_read: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(fake: Fake) -> None:
        for request in REQUESTS.values():
            if may_read and not request.controls:
                await fake.ask(request.name, package="ham")
            else:
                with pytest.raises(Denied, match=r"managed = .* in the satellite's co2\.toml"):
                    await fake.ask(request.name, package="ham", id=1, up_to=1)
        assert fake.reloads == []

    with caplog.at_level(logging.INFO, "co2.satellite"):
        carried(tmp_path, scenario, managed)
    value = '"read"' if managed else "false"
    told = f"refused to {ASKER} at the relay's machine, as managed = {value}: reload package 'ham'"
    assert told in caplog.text


def test_a_reload_is_done_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(fake: Fake) -> None:
        report = msgspec.convert(await fake.ask("reload", package="ham", fresh=True), PackageReport)
        assert (report.name, report.load, report.state) == ("ham", 4, "running")
        assert fake.reloads == [("ham", True)]
        with pytest.raises(BadParams, match="fresh"):
            await fake.ask("reload", package="ham", fresh=1)
        with pytest.raises(NotLoadable, match="'spam': it is not loaded"):
            await fake.ask("reload", package="spam")
        assert len(fake.reloads) == 1
        fake.error = NotLoadable("plugin package 'ham': SyntaxError")
        with pytest.raises(NotLoadable, match="SyntaxError"):
            await fake.ask("reload", package="ham")

    with caplog.at_level(logging.INFO, "co2.satellite"):
        carried(tmp_path, scenario)
    assert f"{ASKER} at the relay's machine asks: reload package 'ham' fresh True" in caplog.text
    assert "reload package 'ham' failed for the relay: plugin package 'ham': SyntaxError" in caplog.text
    assert "internal error" not in caplog.text


def test_reading_the_same_again_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(fake: Fake) -> None:
        for _ in range(3):
            await fake.ask("log", package="ham")
        for _ in range(2):
            await fake.ask("reload", package="ham")

    with caplog.at_level(logging.INFO, "co2.satellite"):
        carried(tmp_path, scenario)
    assert caplog.text.count("asks: log package 'ham'") == 1
    assert caplog.text.count("asks: reload package 'ham'") == 2


def test_a_reload_goes_on_without_the_relay_and_alone(tmp_path: Path) -> None:
    async def scenario(fake: Fake) -> None:
        fake.go_on.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await fake.ask("reload", package="ham")
        for name, argument in (("reload", {"package": "ham"}), ("drop_dead_letters", {"up_to": 1})):
            with pytest.raises(Unreachable, match="still under way here: reload package 'ham'"):
                await fake.ask(name, **argument)
        assert (await fake.ask("packages"))["packages"][0]["name"] == "ham", "reading goes on"
        fake.go_on.set()
        async with asyncio.timeout(10):
            while len(fake.reloads) < 2:
                try:
                    await fake.ask("reload", package="ham")
                except Unreachable:
                    await asyncio.sleep(0.005)

    carried(tmp_path, scenario)


def test_only_a_few_at_once(tmp_path: Path) -> None:
    async def scenario(fake: Fake) -> None:
        fake.letter(1)
        await kept(fake, 1)
        asks = [asyncio.ensure_future(fake.ask("dead_letters")) for _ in range(MAX_AT_ONCE + 1)]
        told = await asyncio.gather(*asks, return_exceptions=True)
        assert [type(one) for one in told] == [dict] * MAX_AT_ONCE + [Unreachable]
        assert await fake.ask("dead_letters")

    carried(tmp_path, scenario)


def test_a_log_is_read_in_parts_and_none_is_missed(tmp_path: Path) -> None:
    async def scenario(fake: Fake) -> None:
        fake.lines = [
            {"number": number, "at": 1.5, "level": "INFO", "source": "ham", "text": "\u20ac" * 4000 + str(number)}
            for number in range(1, 301)
        ]
        fake.lines[10]["text"] = "x" * (MAX_LINE + 5)
        got, after, left, parts = [], 0, 200, 0
        while True:
            part = msgspec.convert(await fake.ask("log", package="ham", after=after, max=left), LogPart)
            got += part.lines
            after, left, parts = got[-1].number, left - len(part.lines), parts + 1
            if not part.more:
                break
        assert [line.number for line in got] == list(range(101, 301))
        assert parts > 4
        one = msgspec.convert(await fake.ask("log", package="ham", after=10, max=290), LogPart).lines[0]
        assert one.text.endswith("x… (5 more characters)")
        with pytest.raises(NotLoadable):
            await fake.ask("log", package="spam")

    carried(tmp_path, scenario)


def test_packages_are_listed_in_parts_with_bounded_texts(tmp_path: Path) -> None:
    async def scenario(fake: Fake) -> None:
        plugin = PluginInfo("p.m.X_P", "t" * 9999, True, "h" * 9999)
        fake.rows = [
            PackageStatus(name=f"p{number:03}", state="running", plugins=[plugin], last_error="e" * 9999)
            for number in range(300)
        ]
        names, after, parts = [], {}, 0
        while True:
            part = msgspec.convert(await fake.ask("packages", **after), PackageList)
            names += [report.name for report in part.packages]
            after, parts = {"after": names[-1]}, parts + 1
            if not part.more:
                break
        assert names == [row.name for row in fake.rows]
        assert parts > 2

    carried(tmp_path, scenario)


def test_dead_letters_are_read_in_parts_repeated_and_dropped(tmp_path: Path) -> None:
    async def scenario(fake: Fake) -> None:
        big = "x" * (MAX_LETTER + 1)
        for data in ("first", "y" * (MAX_PART // 2), "z" * (MAX_PART // 2), big, b"\x00\xff"):
            fake.letter(data)
        fake.letter("other", "eggs")
        await kept(fake, 6)
        got, after = [], 0
        while True:
            part = msgspec.convert(await fake.ask("dead_letters", after=after, package="ham"), LetterPart)
            got += part.letters
            if not part.more:
                break
            after = got[-1].id
        assert [letter.id for letter in got] == [1, 2, 3, 4, 5]
        assert got[0].message["data"] == "first"
        assert isinstance(got[3].message, str), "too long: its beginning as text"
        assert got[4].message["data"] == b"\x00\xff"
        newest = msgspec.convert(await fake.ask("dead_letters", package="ham", max=2, newest=True), LetterPart)
        assert [letter.id for letter in newest.letters] == [4, 5]

        assert await fake.ask("repeat_dead_letter", id=1) is True
        fake.error = PluginFailed("again no")
        with pytest.raises(PluginFailed):
            await fake.ask("repeat_dead_letter", id=2)
        assert await fake.ask("drop_dead_letters", up_to=4, package="ham") == 3
        assert fake.letters.kept == 2

    carried(tmp_path, scenario)
