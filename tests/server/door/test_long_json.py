"""Long JSON: short texts at once, long bodies one after the other, long results in a thread; limits of each."""

import asyncio
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from co2.errors import Busy, ParseError, ValueRefused
from co2.exact_json.writer import write
from co2.server.door import long_json
from co2.server.door.long_json import LONG_BODY, MAX_RESULTS, SHORT_RESULT, LongJson
from co2.server.rpc.answer_turns import AT_ONCE, AnswerTurns


def made() -> LongJson:
    return LongJson(AnswerTurns(asyncio.get_running_loop()))


def of_size(size: int) -> bytes:
    return b'"' + b"x" * (size - 2) + b'"'


def take_time() -> None:
    """Use up a turn of the loop, so that what waits for its turn waits."""
    end = time.monotonic() + 2 * AT_ONCE
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("size", [2, LONG_BODY, LONG_BODY + 1, 100_000])
def test_a_body_is_read_whatever_its_size(size: int) -> None:
    async def test() -> None:
        assert await made().read(of_size(size)) == "x" * (size - 2)
        with pytest.raises(ParseError):
            await made().read(b" " * (size - 1) + b"[")

    asyncio.run(test())


def test_only_bodies_over_the_limit_are_read_in_steps() -> None:
    """One at the limit is read before anything else runs; with one byte more, others have turns in between."""

    async def test(size: int) -> list[str]:
        order: list[str] = []

        def slow(body: bytes) -> Generator[None, None, int]:
            for number in range(3):
                order.append(f"step {number}")
                take_time()
                yield
            return len(body)

        async def other() -> None:
            while len(order) < 4:
                order.append("other")
                await asyncio.sleep(0)

        read, _ = await asyncio.gather(made().through(b"x" * size, slow), other())
        assert read == size
        return order

    assert asyncio.run(test(LONG_BODY))[:3] == ["step 0", "step 1", "step 2"]
    assert asyncio.run(test(LONG_BODY + 1))[:2] == ["step 0", "other"]


def test_long_bodies_are_read_one_after_the_other_and_wait_only_up_to_their_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(long_json, "MAX_BODIES", 4 * LONG_BODY)

    async def test() -> None:
        long = made()
        under_way: list[str] = []
        most = 0

        def watched(body: bytes) -> Generator[None, None, bytes]:
            nonlocal most
            under_way.append("one")
            most = max(most, len(under_way))
            take_time()
            yield
            under_way.pop()
            return body

        async def read(size: int) -> int:
            return len(await long.through(b"x" * size, watched))

        for _ in range(2):  # what was read does not count any more
            reads = [asyncio.create_task(read(2 * LONG_BODY)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Busy, match="too many long requests are waiting; try again"):
                await read(LONG_BODY + 1)
            assert await long.read(of_size(LONG_BODY)), "a short one waits for nobody"
            assert await asyncio.gather(*reads) == [2 * LONG_BODY] * 2, "as many bytes as there is room for"
        assert most == 1
        assert await read(5 * LONG_BODY) == 5 * LONG_BODY, "one alone has room, whatever its size"

    asyncio.run(test())


def test_a_body_that_is_refused_takes_no_room_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_json, "MAX_BODIES", 3 * LONG_BODY)

    async def test() -> None:
        long = made()
        for _ in range(4):
            with pytest.raises(ParseError):
                await long.read(b"[" + b" " * 2 * LONG_BODY)
        assert len(await asyncio.gather(long.read(of_size(LONG_BODY + 1)), long.read(of_size(LONG_BODY + 1)))) == 2

    asyncio.run(test())


class ThreadsOf:
    """Notes which threads write results; ``go_on`` lets them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.go_on = threading.Event()
        monkeypatch.setattr(long_json, "write", self._noted)

    def _noted(self, value: Any) -> bytes:
        self.names.append(threading.current_thread().name)
        if threading.current_thread() is not threading.main_thread():
            assert self.go_on.wait(10)
        return write(value)


def test_only_results_over_the_limit_are_written_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = ThreadsOf(monkeypatch)
    threads.go_on.set()

    async def test() -> None:
        long = made()
        for value in ("x" * (SHORT_RESULT - 1), "x" * 3 * SHORT_RESULT):
            assert await long.write(value) == b'"' + value.encode() + b'"'
        long.close()

    asyncio.run(test())
    assert [name.rpartition("_")[0] or name for name in threads.names] == ["MainThread", "co2-json"]


def test_so_many_long_results_wait_for_one_thread_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = ThreadsOf(monkeypatch)
    value = "x" * 3 * SHORT_RESULT

    async def test() -> None:
        long = made()
        try:
            for _ in range(2):  # what was written does not count any more
                threads.go_on.clear()
                writes = [asyncio.create_task(long.write(value)) for _ in range(MAX_RESULTS)]
                await asyncio.sleep(0)
                with pytest.raises(Busy, match="too many long results are waiting; try again"):
                    await long.write(value)
                assert await long.write(1) == b"1", "a short one waits for nobody"
                threads.go_on.set()
                assert await asyncio.gather(*writes) == [b'"' + value.encode() + b'"'] * MAX_RESULTS
        finally:
            threads.go_on.set()
            long.close()

    asyncio.run(test())
    assert len(set(threads.names) - {"MainThread"}) == 1


def test_a_long_result_that_cannot_be_written_is_refused_and_the_next_is_written() -> None:
    async def test() -> None:
        long = made()
        for _ in range(MAX_RESULTS + 1):
            with pytest.raises(ValueRefused, match="no form in JSON"):
                await long.write(["x" * 3 * SHORT_RESULT, object()])
        assert await long.write("ham") == b'"ham"'
        long.close()

    asyncio.run(test())


def test_the_end_drops_results_that_wait_and_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = ThreadsOf(monkeypatch)

    async def test() -> None:
        long = made()
        long.close()  # without a thread there is nothing to end
        writes = [asyncio.create_task(long.write("x" * 3 * SHORT_RESULT)) for _ in range(3)]
        while not threads.names:
            await asyncio.sleep(0.001)
        long.close()
        threads.go_on.set()
        ended = await asyncio.gather(*writes, return_exceptions=True)
        assert isinstance(ended[0], bytes), "the one under way is written"
        assert [type(one) for one in ended[1:]] == [asyncio.CancelledError] * 2
        assert await long.write("x" * 3 * SHORT_RESULT), "a new thread"
        long.close()
        long.close()

    asyncio.run(test())
    assert len(threads.names) == 2, "those that were dropped are not written"
