"""The asynchronous client of the hosts: many calls at once, each with a deadline and a limit on the answer."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from co2.errors import BadRequest, CallTimeout, ParseError, RemoteFault
from co2.thread_priority import short_turns
from co2.xmlrpc.answers import MAX_UNDER_WAY, RESULT, AnswerLimit, too_much
from co2.xmlrpc.introspection import MAX_MULTICALL
from co2.xmlrpc.reader import MAX_FAULT_TEXT, read_response
from co2.xmlrpc.writer import Written, WrittenValue, write_call, write_value

if TYPE_CHECKING:
    from co2.xmlrpc.http_session import HttpAnswer, HttpSession

__all__ = ["PARSED_BESIDE", "RpcClient"]


PARSED_BESIDE = 256 * 1024
"""Bytes of an answer above which a thread parses it: parsing would block the event loop."""


class RpcClient:
    """Calls methods of other hosts. Can be made anywhere; used in one event loop.

    Args:
        max_under_way: bytes of all answers together, see :data:`co2.xmlrpc.answers.MAX_UNDER_WAY`.
    """

    def __init__(self, max_under_way: int = MAX_UNDER_WAY) -> None:
        self._max_under_way = max_under_way
        self._session: HttpSession | None = None
        self._parser: ThreadPoolExecutor | None = None

    async def call(self, url: str, method: str, *params: Any, timeout: float, limit: AnswerLimit) -> Any:
        """Call a method.

        Args:
            url: of the host, ``http://<address>:<port>``.
            method: its name.
            params: one value each.
            timeout: seconds for the whole call.
            limit: on the answer.

        Returns:
            The result; a long one as a :class:`~co2.xmlrpc.writer.WrittenValue`.

        Raises:
            RemoteFault: the host answered with a Fault.
            Unreachable: there is no host, or it takes no calls.
            CallTimeout: no answer in time.
            AnswerTooBig: the answer is over its limit, or it is the largest when all answers together are too
                large.
            ParseError: the answer is not XML-RPC.
            ValueRefused: a parameter that cannot be written.
        """
        body = write_call(method, [write_value(param) for param in params])
        return await self.call_written(url, body, timeout, limit)

    async def call_written(self, url: str, body: bytes, timeout: float, limit: AnswerLimit) -> Any:
        """Send an encoded ``methodCall``; for the rest see :meth:`call`."""
        try:
            async with asyncio.timeout(timeout):
                session = await self._open()
                answer = await session.post(url, body, limit.size)
                try:
                    if len(answer.body) > PARSED_BESIDE:
                        return await self._parsed_beside(url, answer, limit)
                    return read_response(answer.body, answer.charset, limit.values)
                finally:
                    session.release(answer)
        except TimeoutError:
            raise CallTimeout(url, timeout) from None

    async def _parsed_beside(self, url: str, answer: "HttpAnswer", limit: AnswerLimit) -> WrittenValue:
        """Parse a long answer in a thread, one at a time: several threads would only take turns."""

        def parse() -> WrittenValue:
            if answer.given_up:
                raise too_much(url)
            with short_turns():
                value = read_response(answer.body, answer.charset, limit.values)
                return WrittenValue(write_value(value), value)

        if self._parser is None:
            self._parser = ThreadPoolExecutor(1, "co2-answers")
        return await asyncio.get_running_loop().run_in_executor(self._parser, parse)

    async def call_many(
        self, url: str, calls: Sequence[tuple[str, bytes]], timeout: float
    ) -> list[Any | RemoteFault]:
        """Make several calls in one ``system.multicall``.

        Args:
            url: of the host.
            calls: at most 64 pairs of a method and its one written parameter.
            timeout: seconds for all of them.

        Returns:
            One result per call, a RemoteFault for each that failed.

        Raises:
            BadRequest: more than 64 calls.
            PeerError: as in :meth:`call`, for all calls together.
        """
        if len(calls) > MAX_MULTICALL:
            raise BadRequest(f"{len(calls)} calls in one; at most {MAX_MULTICALL}")
        inner = [{"methodName": method, "params": [Written(param)]} for method, param in calls]
        answers = await self.call(url, "system.multicall", inner, timeout=timeout, limit=RESULT)
        answers = answers.value if isinstance(answers, WrittenValue) else answers
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise ParseError(f"{url} did not return one result for each of {len(calls)} calls")
        return [_one_of_many(url, answer) for answer in answers]

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._parser is not None:
            self._parser.shutdown(wait=False, cancel_futures=True)
            self._parser = None

    async def _open(self) -> "HttpSession":
        if self._session is None:
            # At the first call and in a thread: importing aiohttp would take a quarter of a host's start time, and
            # most hosts call nobody this way.
            make = await asyncio.to_thread(_http_session)
            self._session = self._session or make(self._max_under_way)
        return self._session


def _http_session() -> "type[HttpSession]":
    from co2.xmlrpc.http_session import HttpSession

    return HttpSession


def _one_of_many(url: str, answer: Any) -> Any | RemoteFault:
    if isinstance(answer, list) and len(answer) == 1:
        return answer[0]
    if isinstance(answer, dict):
        code, text = answer.get("faultCode"), answer.get("faultString")
        if isinstance(code, int) and isinstance(text, str):
            return RemoteFault(code, text[:MAX_FAULT_TEXT])
    raise ParseError(f"{url} returned a malformed result in system.multicall")
