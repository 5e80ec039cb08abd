"""Long answers take turns, and nobody waits for those who do not read."""

import asyncio
import time

import pytest

from co2.errors import BadRequest
from co2.server.rpc import long_answers
from co2.server.rpc.long_answers import PATIENCE, LongAnswers, written_parts
from co2.xmlrpc.writer import Written

LIMIT = 1000


async def many(answers: LongAnswers, came: list[int], count: int) -> list[asyncio.Task[None]]:
    async def one(number: int) -> None:
        await answers.turn({})
        came.append(number)

    waiting = [asyncio.ensure_future(one(number)) for number in range(count)]
    await asyncio.sleep(0)
    return waiting


def test_they_come_one_at_a_time_and_in_order() -> None:
    async def run() -> None:
        answers, came = LongAnswers(asyncio.get_running_loop(), lambda: 0, LIMIT), list[int]()
        waiting = await many(answers, came, 20)
        most = before = 0
        async with asyncio.timeout(5):
            while not all(one.done() for one in waiting):
                await asyncio.sleep(0)
                most, before = max(most, len(came) - before), len(came)
        assert came == [*range(20)]
        assert most == 1
        assert len(answers) == 0

    asyncio.run(run())


def test_they_wait_while_much_is_unsent_but_not_for_ever() -> None:
    async def run() -> None:
        unsent = LIMIT
        answers, came = LongAnswers(asyncio.get_running_loop(), lambda: unsent, LIMIT), list[int]()
        start = time.monotonic()
        waiting = await many(answers, came, 3)
        assert len(answers) == 3
        async with asyncio.timeout(5):
            await waiting[1]
            assert time.monotonic() - start >= 2 * PATIENCE
            assert came == [0, 1]
            unsent = LIMIT // 2
            await waiting[2]

    asyncio.run(run())


def test_who_has_hung_up_takes_no_turn() -> None:
    async def run() -> None:
        answers, came = LongAnswers(asyncio.get_running_loop(), lambda: LIMIT, LIMIT), list[int]()
        waiting = await many(answers, came, 3)
        waiting[0].cancel()
        waiting[1].cancel()
        await asyncio.gather(*waiting[:2], return_exceptions=True)
        assert len(answers) == 1
        async with asyncio.timeout(5):
            await waiting[2]
        assert came == [2]

    asyncio.run(run())


def test_answers_that_wait_are_bounded_and_what_they_share_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_answers, "MAX_WAITING", 1_000)

    async def run() -> None:
        answers = LongAnswers(asyncio.get_running_loop(), lambda: LIMIT, LIMIT)
        shared, *own = (bytes([number]) * 300 for number in range(6))
        waiting = [
            asyncio.ensure_future(answers.turn({0: shared, 1 + number % 2: own[number % 2]}))
            for number in range(20)
        ]
        await asyncio.sleep(0)
        assert not any(one.done() for one in waiting)
        with pytest.raises(BadRequest, match="try again"):
            await answers.turn({3: own[2]})
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        async with asyncio.timeout(5):
            await answers.turn({3: own[2], 4: own[3] * 100})  # one alone may be of any length

    asyncio.run(run())


def test_what_is_written_already_counts_wherever_it_is() -> None:
    one, other = Written(b"<value>12</value>"), Written(b"<value>34</value>")
    assert list(written_parts(one).values()) == [one.xml]
    assert list(written_parts({"messages": [one, one, other], "next": 7}).values()) == [one.xml, other.xml]
    assert list(written_parts([[{"messages": [one]}], [{"messages": []}]]).values()) == [one.xml]
    assert written_parts("a text") == {}
