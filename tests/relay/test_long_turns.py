"""Long messages take turns on their way to the disk, and rest if they have delayed others."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest

from co2.errors import Busy
from co2.relay import long_turns
from co2.relay.long_turns import LONG, MAX_WAITING, MAX_WAITING_BYTES, LongTurns


class Disk:
    """A disk on which a message is once the test says so; the messages of others come meanwhile."""

    def __init__(self) -> None:
        self.last = 0
        self.begun: list[str] = []
        self.done: dict[str, asyncio.Event] = {}
        self.turns = LongTurns(lambda: self.last)

    def send(self, name: str, source: str = "a", size: int = LONG + 1) -> "asyncio.Task[int]":
        self.done[name] = asyncio.Event()

        async def work() -> int:
            self.begun.append(name)
            self.last += 1
            position = self.last
            await self.done[name].wait()
            return position

        return asyncio.ensure_future(self.turns.through(source, size, 1, work))


async def until(what: Callable[[], bool]) -> None:
    while not what():
        await asyncio.sleep(0)


def run(test: Callable[[Disk], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await test(Disk())

    asyncio.run(main())


def test_one_long_message_is_under_way_at_a_time_and_short_ones_at_once() -> None:
    async def test(disk: Disk) -> None:
        first, second = disk.send("first"), disk.send("second")
        await until(lambda: bool(disk.begun))
        short = disk.send("short", size=LONG)
        await until(lambda: "short" in disk.begun)
        assert disk.begun == ["first", "short"]
        disk.done["short"].set()
        disk.done["first"].set()
        assert (await first, await short) == (1, 2)
        await until(lambda: "second" in disk.begun)
        disk.done["second"].set()
        assert await second == 3

    run(test)


def test_sources_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_turns, "REST", 0)

    async def test(disk: Disk) -> None:
        sent = [disk.send(f"a{number}", "a") for number in range(4)] + [disk.send("b", "b")]
        await until(lambda: len(disk.turns) == 4)
        for done in disk.done.values():
            done.set()
        await asyncio.gather(*sent)
        assert disk.begun == ["a0", "a1", "b", "a2", "a3"]

    run(test)


def test_the_next_one_rests_only_if_messages_came_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_turns, "REST", 1_000_000)
    monkeypatch.setattr(long_turns, "MAX_REST", 0.2)

    async def ended(disk: Disk, name: str) -> float:
        await until(lambda: name in disk.begun)
        disk.done[name].set()
        return monotonic()

    async def test(disk: Disk) -> None:
        sent = [disk.send(name) for name in ("first", "second", "third")]
        await ended(disk, "first")
        await until(lambda: "second" in disk.begun)
        disk.last += 1  # of somebody else
        began = await ended(disk, "second")
        await until(lambda: "third" in disk.begun)
        assert monotonic() - began >= 0.2
        disk.done["third"].set()
        await asyncio.gather(*sent)

    run(test)


def test_of_too_many_that_wait_the_newest_is_refused() -> None:
    async def test(disk: Disk) -> None:
        sent = [disk.send(f"{number}") for number in range(MAX_WAITING + 1)]
        await until(lambda: len(disk.turns) == MAX_WAITING)
        with pytest.raises(Busy, match="32 messages of over 64 KiB wait for the relay's disk; try again"):
            await disk.send("more")
        for one in sent:
            one.cancel()
        await asyncio.gather(*sent, return_exceptions=True)
        disk.done["0"].set()
        await until(lambda: not len(disk.turns))

        last = disk.send("one")
        await until(lambda: "one" in disk.begun)
        few = [disk.send(f"large {number}", size=MAX_WAITING_BYTES // 2) for number in range(2)]
        await until(lambda: len(disk.turns) >= 2)
        with pytest.raises(Busy):
            await disk.send("too many bytes")
        for done in disk.done.values():
            done.set()
        await asyncio.gather(last, *few)

    run(test)


def test_who_leaves_gives_its_turn_to_the_next_one_once_its_message_is_on_disk() -> None:
    async def test(disk: Disk) -> None:
        gone, waits, last = disk.send("gone"), disk.send("waits"), disk.send("last")
        await until(lambda: disk.begun == ["gone"] and len(disk.turns) == 2)
        gone.cancel()
        waits.cancel()
        await asyncio.gather(gone, waits, return_exceptions=True)
        assert disk.begun == ["gone"]  # it still delays others
        disk.done["gone"].set()
        await until(lambda: "last" in disk.begun)
        disk.done["last"].set()
        await last
        assert disk.begun == ["gone", "last"]

    run(test)


def test_a_turn_that_comes_as_its_sender_leaves_is_the_next_ones() -> None:
    async def test(disk: Disk) -> None:
        first, gone, last = disk.send("first"), disk.send("gone"), disk.send("last")
        await until(lambda: len(disk.turns) == 2)
        disk.turns._next()
        gone.cancel()  # in the same turn of the loop
        await until(lambda: "last" in disk.begun)
        assert gone.cancelled()
        for done in disk.done.values():
            done.set()
        await asyncio.gather(first, last)

    run(test)


def test_a_failure_is_told_and_ends_the_turn() -> None:
    async def test(disk: Disk) -> None:
        async def work() -> int:
            raise Busy("the disk is full")

        with pytest.raises(Busy, match="the disk is full"):
            await disk.turns.through("a", LONG + 1, 1, work)
        sent = disk.send("next")
        await until(lambda: "next" in disk.begun)
        disk.done["next"].set()
        await sent

    run(test)
