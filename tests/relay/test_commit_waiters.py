"""Waiting for what comes next: nothing is missed between looking and waiting."""

import asyncio

import pytest

from co2.relay.commit_waiters import WOKEN_AT_ONCE, CommitWaiters


async def wait(waiters: CommitWaiters, seen: int) -> bool:
    async with asyncio.timeout(5):
        return await waiters.appended(seen, 60)


def test_what_came_while_one_looked_counts() -> None:
    waiters = CommitWaiters()
    seen = waiters.committed
    waiters.on_commit(7)
    assert asyncio.run(wait(waiters, seen)) is True


def test_a_waiter_is_woken_by_the_next_commit() -> None:
    async def both() -> bool:
        waiters = CommitWaiters()
        waiting = asyncio.ensure_future(wait(waiters, 0))
        await asyncio.sleep(0)
        assert len(waiters) == 1
        waiters.on_commit(1)
        return await waiting

    assert asyncio.run(both()) is True


async def many(waiters: CommitWaiters, woken: list[bool]) -> list[asyncio.Task[None]]:
    async def one() -> None:
        woken.append(await wait(waiters, 0))

    waiting = [asyncio.ensure_future(one()) for _ in range(10 * WOKEN_AT_ONCE)]
    await asyncio.sleep(0)
    assert len(waiters) == len(waiting)
    return waiting


def test_many_are_woken_some_at_a_time_so_that_others_have_their_turn() -> None:
    async def run() -> None:
        waiters, woken = CommitWaiters(), list[bool]()
        waiting = await many(waiters, woken)
        waiters.on_commit(1)
        most = before = 0
        while not all(one.done() for one in waiting):
            await asyncio.sleep(0)
            most, before = max(most, len(woken) - before), len(woken)
        assert woken == [True] * len(waiting)
        assert most <= 2 * WOKEN_AT_ONCE

    asyncio.run(run())


def test_the_relay_stops_while_many_are_woken() -> None:
    async def run() -> None:
        waiters, woken = CommitWaiters(), list[bool]()
        waiting = await many(waiters, woken)
        waiters.on_commit(1)
        waiters.end()
        async with asyncio.timeout(5):
            await asyncio.gather(*waiting)
        assert len(woken) == len(waiting)

    asyncio.run(run())


def test_nothing_came_in_time() -> None:
    waiters = CommitWaiters()
    assert asyncio.run(waiters.appended(0, 0.01)) is False
    assert len(waiters) == 0


def test_the_relay_stops() -> None:
    async def both() -> bool:
        waiters = CommitWaiters()
        waiting = asyncio.ensure_future(wait(waiters, 0))
        await asyncio.sleep(0)
        waiters.end()
        return await waiting

    assert asyncio.run(both()) is False


def test_a_position_on_disk_is_waited_for_and_fails_with_the_disk() -> None:
    async def both() -> None:
        waiters = CommitWaiters()
        first, second = asyncio.ensure_future(waiters.on_disk(3)), asyncio.ensure_future(waiters.on_disk(9))
        await asyncio.sleep(0)
        waiters.on_commit(3)
        async with asyncio.timeout(5):
            await first
        waiters.fail(OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            await second

    asyncio.run(both())


def test_what_is_on_disk_stays_there_though_older_news_comes_later() -> None:
    async def scenario() -> None:
        waiters = CommitWaiters()
        waiters.on_commit(20)
        waiters.on_commit(10)
        await asyncio.wait_for(waiters.on_disk(15), 10)
        assert waiters.committed == 20

    asyncio.run(scenario())


def test_the_longest_waiting_of_a_source_gives_way() -> None:
    async def run() -> None:
        waiters = CommitWaiters()
        addresses = ("192.0.2.1", "192.0.2.2", "192.0.2.2")
        first, second, third = (
            asyncio.ensure_future(waiters.appended(0, 60, (ip, n))) for n, ip in enumerate(addresses)
        )
        await asyncio.sleep(0)
        assert waiters.give_way("192.0.2.2") == ("192.0.2.2", 1)
        assert await second is False
        assert waiters.give_way("192.0.2.3") is None
        waiters.on_commit(1)
        assert (await first, await third) == (True, True)
        assert waiters.give_way("192.0.2.1") is None

    asyncio.run(run())
