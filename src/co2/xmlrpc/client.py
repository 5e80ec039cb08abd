"""The client of the hosts: many calls at once, each with a deadline and a limit on the answer."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from co2.errors import BadRequest, CallTimeout, ParseError, RemoteFault
from co2.xmlrpc.answers import MAX_RESPONSE_SIZE
from co2.xmlrpc.introspection import MAX_MULTICALL
from co2.xmlrpc.reader import MAX_FAULT_TEXT, read_response
from co2.xmlrpc.writer import Written, write_call, write_value

if TYPE_CHECKING:
    from co2.xmlrpc.http_session import HttpSession

__all__ = ["RpcClient"]


class RpcClient:
    """Calls methods of other hosts. Made anywhere, used in one event loop.

    Args:
        max_response: bytes of one answer.
    """

    def __init__(self, max_response: int = MAX_RESPONSE_SIZE) -> None:
        self._max_response = max_response
        self._session: HttpSession | None = None

    async def call(self, url: str, method: str, *params: Any, timeout: float) -> Any:
        """Call a method.

        Args:
            url: of the host, ``http://<address>:<port>``.
            method: its name.
            params: one value each.
            timeout: seconds for all of it.

        Raises:
            RemoteFault: the host answered with a Fault.
            Unreachable: there is no host, or it takes no calls.
            CallTimeout: no answer in time.
            ParseError: the answer is no XML-RPC, or too big.
            ValueRefused: a parameter that cannot be written.
        """
        body = write_call(method, [write_value(param) for param in params])
        return await self.call_written(url, body, timeout)

    async def call_written(self, url: str, body: bytes, timeout: float) -> Any:
        """Send a ``methodCall`` that is written already; the rest as in :meth:`call`."""
        return read_response(await self._post(url, body, timeout))

    async def call_many(
        self, url: str, calls: Sequence[tuple[str, bytes]], timeout: float
    ) -> list[Any | RemoteFault]:
        """Make several calls in one ``system.multicall``.

        Args:
            url: of the host.
            calls: at most 64 pairs of a method and its one written parameter.
            timeout: seconds for all of them.

        Returns:
            One result each, a RemoteFault in the place of those that failed.

        Raises:
            BadRequest: more than 64 calls.
            PeerError: as in :meth:`call`, for all of them together.
        """
        if len(calls) > MAX_MULTICALL:
            raise BadRequest(f"{len(calls)} calls in one; at most {MAX_MULTICALL}")
        inner = [{"methodName": method, "params": [Written(param)]} for method, param in calls]
        answers = await self.call(url, "system.multicall", inner, timeout=timeout)
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise ParseError(f"{url} answers {len(calls)} calls with something else")
        return [_one_of_many(url, answer) for answer in answers]

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, url: str, body: bytes, timeout: float) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                return await (await self._open()).post(url, body)
        except TimeoutError:
            raise CallTimeout(url, timeout) from None

    async def _open(self) -> "HttpSession":
        if self._session is None:
            # At the first call, and beside the event loop: to import aiohttp would take a quarter of a host's
            # start, and most hosts call nobody this way.
            make = await asyncio.to_thread(_http_session)
            self._session = self._session or make(self._max_response)
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
    raise ParseError(f"{url} gives an answer in system.multicall that is none")
