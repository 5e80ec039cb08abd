"""Answers share a little time of each turn of the loop, and what takes long pauses."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial

from co2.server.rpc.answer_turns import AT_ONCE, STEP, AnswerTurns
from co2.server.rpc.long_list import LongList


def work(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_what_takes_long_pauses_and_others_go_on_in_between() -> None:
    async def test() -> None:
        turns = AnswerTurns(asyncio.get_running_loop())
        order: list[str] = []

        async def long(name: str) -> None:
            began = time.monotonic()
            for _ in range(4):
                work(AT_ONCE)
                order.append(name)
                began = await turns.pause(began)

        async def other() -> None:
            while order.count("ham") + order.count("spam") < 8:
                order.append("other")
                await asyncio.sleep(0)

        await asyncio.gather(long("ham"), long("spam"), other())
        longs = [name for name in order if name != "other"]
        assert longs.count("ham") == longs.count("spam") == 4
        assert "spam" in longs[:4], "they take turns"
        first, last = order.index("ham"), len(order) - order[::-1].index("ham")
        assert order[first:last].count("other") >= 3

    asyncio.run(test())


def test_a_short_part_does_not_wait() -> None:
    async def test() -> None:
        turns = AnswerTurns(asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(lambda: order.append("next turn"))
        order: list[str] = []
        await turns.pause(time.monotonic())
        order.append("went on")
        await asyncio.sleep(0)
        assert order == ["went on", "next turn"]

    asyncio.run(test())


def test_the_rest_of_a_long_answer_comes_after_short_ones() -> None:
    async def test() -> None:
        turns = AnswerTurns(asyncio.get_running_loop())
        order: list[str] = []

        def begin() -> None:
            order.append("begun")
            work(AT_ONCE)
            assert not turns.go_on(lambda: order.append("ended"), is_new=True)

        turns.do(begin)
        turns.do(lambda: order.append("another"))
        while len(turns):
            await asyncio.sleep(0)
        assert order == ["begun", "another", "ended"], "short ones first"

    asyncio.run(test())


def test_one_who_gives_up_while_it_waits_takes_no_turn() -> None:
    async def test() -> None:
        turns = AnswerTurns(asyncio.get_running_loop())
        waiting = asyncio.ensure_future(turns.pause(time.monotonic()))
        turns.use_up()
        await asyncio.sleep(0)
        waiting.cancel()
        await turns.pause(time.monotonic() - AT_ONCE)  # comes behind it, and has its turn all the same
        assert waiting.cancelled()

    asyncio.run(test())


def test_behind_a_task_whose_time_is_unknown_other_answers_wait_for_the_next_turn() -> None:
    async def test() -> None:
        turns = AnswerTurns(asyncio.get_running_loop())
        order: list[str] = []
        turns.use_up()
        turns.do(lambda: order.append("answered"))
        assert (order, len(turns)) == ([], 1)
        await asyncio.sleep(0)
        assert (order, len(turns)) == (["answered"], 0)

    asyncio.run(test())


def test_of_long_lists_one_is_produced_at_a_time_and_others_go_on_meanwhile() -> None:
    async def test() -> None:
        turns = AnswerTurns(asyncio.get_running_loop())
        lock = asyncio.Lock()
        under_way = most = 0

        def produce() -> Iterator[int]:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            for number in range(5):
                work(STEP)
                yield number
            under_way -= 1

        rounds = 0

        async def others() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(others())
        lists = await asyncio.gather(*(_list(LongList(produce, turns, lock)) for _ in range(3)))
        counting.cancel()
        assert lists == [[0, 1, 2, 3, 4]] * 3
        assert most == 1
        assert rounds >= 5
        assert list(LongList(produce, turns, lock)) == [0, 1, 2, 3, 4], "for who encodes it as it is produced"

    asyncio.run(test())


async def _list(one: LongList) -> list[int]:
    return await one


def test_a_short_answer_does_not_wait_for_long_ones_and_these_come_one_after_the_other() -> None:
    async def test() -> None:
        turns = AnswerTurns(asyncio.get_running_loop())
        done: list[str] = []
        steps: list[str] = []

        def long(name: str, left: int, is_new: bool = True) -> None:
            work(STEP)
            steps.append(name)
            if left:
                turns.go_on(partial(long, name, left - 1, False), is_new=is_new)

        for number in range(20):
            turns.do(partial(long, f"long {number}", 10))
        turns.do(partial(done.append, "short"))
        waited = 0
        while not done:
            await asyncio.sleep(0)
            waited += 1
        assert waited <= 25, "at most one turn for each first step"
        while len(turns):
            await asyncio.sleep(0)
        assert len(steps) == 20 * 11
        rests = steps[-20 * 10 :]
        assert len({*rests[-10:]}) == 1, "the last one is alone at the end"

    asyncio.run(test())


def test_what_pauses_goes_on_though_there_are_always_short_and_long_answers() -> None:
    async def test() -> None:
        turns = AnswerTurns(asyncio.get_running_loop())
        ended = False

        def short() -> None:
            work(STEP)
            if not ended:
                asyncio.get_running_loop().call_soon(turns.do, short)

        def long(is_new: bool = True) -> None:
            work(STEP)
            if not ended:
                turns.go_on(partial(long, False), is_new=is_new)

        for _ in range(5):
            turns.do(short)
        turns.do(long)
        async with asyncio.timeout(10):
            began = time.monotonic()
            for _ in range(5):
                began = await turns.pause(began - AT_ONCE)
        ended = True

    asyncio.run(test())
