"""Answers that are being read count together, from a size on; the largest of too many is given up."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from co2.errors import AnswerTooBig, ParseError, Unreachable
from co2.xmlrpc.http_session import UNCOUNTED, HttpAnswer, HttpSession
from tests.xmlrpc.hostile import hostile, http

CALL = b"<methodCall></methodCall>"
NO_LIMIT = 10 * UNCOUNTED


def with_session(max_under_way: int, use: Callable[[HttpSession], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        session = HttpSession(max_under_way)
        try:
            async with asyncio.timeout(10):
                return await use(session)
        finally:
            await session.close()

    return asyncio.run(run())


def answer_of(size: int) -> bytes:
    return http(b"x" * size)


def too_early(size: int) -> bytes:
    return http(b"x" * size, f"Content-Length: {2 * size}")


@pytest.mark.parametrize(
    ("size", "max_under_way", "is_read"),
    [
        (UNCOUNTED, 1, True),  # short ones do not count
        (UNCOUNTED + 1, UNCOUNTED + 1, True),
        (UNCOUNTED + 1, UNCOUNTED, False),
    ],
)
def test_one_answer_at_its_limits(size: int, max_under_way: int, is_read: bool) -> None:
    async def use(session: HttpSession) -> bytes:
        return (await session.post(server.url, CALL, NO_LIMIT)).body

    with hostile(answer_of(size)) as server:
        if is_read:
            assert with_session(max_under_way, use) == b"x" * size
        else:
            with pytest.raises(AnswerTooBig, match="which together are too long"):
                with_session(max_under_way, use)


def test_answers_count_until_they_are_released() -> None:
    size = 2 * UNCOUNTED

    async def use(session: HttpSession) -> None:
        for _ in range(3):
            first = await session.post(server.url, CALL, NO_LIMIT)
            second = await session.post(server.url, CALL, NO_LIMIT)
            assert not first.given_up, "there is room for exactly two"
            session.release(second)
            session.release(second)  # once is enough
            third = await session.post(server.url, CALL, NO_LIMIT)
            assert not first.given_up
            session.release(first)
            session.release(third)

    with hostile(answer_of(size)) as server:
        with_session(2 * size, use)


def test_one_too_many_gives_up_the_largest() -> None:
    async def use(session: HttpSession) -> None:
        large = await session.post(big.url, CALL, NO_LIMIT)
        small = await session.post(server.url, CALL, NO_LIMIT)
        assert (large.given_up, small.given_up) == (True, False)
        more = await session.post(server.url, CALL, NO_LIMIT)
        assert not small.given_up, "what was given up does not count"
        session.release(small)
        session.release(more)

    with hostile(answer_of(3 * UNCOUNTED)) as big, hostile(answer_of(2 * UNCOUNTED)) as server:
        with_session(5 * UNCOUNTED - 1, use)


def test_an_answer_that_fails_does_not_count_afterwards() -> None:
    size = 2 * UNCOUNTED

    async def use(session: HttpSession) -> None:
        for _ in range(3):
            with pytest.raises(ParseError, match="in the middle of its answer"):
                await session.post(cut.url, CALL, NO_LIMIT)
        await session.post(server.url, CALL, NO_LIMIT)

    with hostile(too_early(size), close=True) as cut, hostile(answer_of(size)) as server:
        with_session(size, use)


def test_what_is_given_up_while_it_comes_is_read_no_further() -> None:
    """Its sender is not heard to the end: the connection is closed."""

    async def use(session: HttpSession) -> None:
        reading = asyncio.create_task(session.post(endless.url, CALL, NO_LIMIT))
        while not session._total:  # it counts now
            await asyncio.sleep(0.001)
        answer: HttpAnswer
        (answer,) = session._under_way
        answer.give_up()
        with pytest.raises(AnswerTooBig, match="which together are too long"):
            await reading
        assert session._total == 0

    with hostile(too_early(2 * UNCOUNTED)) as endless:
        with_session(NO_LIMIT, use)


def test_a_host_that_hangs_keeps_no_other_from_being_called() -> None:
    async def use(session: HttpSession) -> bytes:
        hangs = [asyncio.create_task(session.post(silent.url, CALL, NO_LIMIT)) for _ in range(3)]
        while len(silent.requests) < 3:
            await asyncio.sleep(0.001)
        answer = await session.post(server.url, CALL, NO_LIMIT)
        for task in hangs:
            task.cancel()
        await asyncio.wait(hangs)
        return answer.body

    with hostile(None) as silent, hostile(answer_of(7)) as server:
        assert with_session(NO_LIMIT, use) == b"x" * 7


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(111, "x"), "Connection refused"),
        (aiohttp.ServerDisconnectedError(), "it closed the connection"),
        (ValueError("canary"), "no connection"),
    ],
)
def test_why_a_host_does_not_answer(error: Exception, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def post(*_: object, **__: object) -> Any:
        raise error

    async def use(session: HttpSession) -> None:
        monkeypatch.setattr(session._session, "post", post)
        await session.post("http://127.0.0.1:1", CALL, NO_LIMIT)

    with pytest.raises(Unreachable, match=f"^http://127.0.0.1:1 does not answer: {text}$"):
        with_session(NO_LIMIT, use)


@pytest.mark.parametrize(
    ("answer", "text"), [(b"garbage\r\n\r\n", "it does not speak HTTP"), (b"", "it closed the connection")]
)
def test_what_is_no_http_server_is_told(answer: bytes, text: str) -> None:
    async def use(session: HttpSession) -> None:
        await session.post(server.url, CALL, NO_LIMIT)

    with hostile(answer, close=True) as server, pytest.raises(Unreachable, match=f"does not answer: {text}$"):
        with_session(NO_LIMIT, use)


@pytest.mark.parametrize(("said", "told"), [("nobody has it", "nobody has it"), ("", "no such name")])
def test_a_name_that_cannot_be_looked_up(said: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, said)

    async def use(session: HttpSession) -> None:
        await session.post("http://nobody.example", CALL, NO_LIMIT)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(Unreachable, match=f"does not answer: {told}$"):
        with_session(NO_LIMIT, use)
