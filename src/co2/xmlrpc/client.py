"""The client of the hosts, on aiohttp: many calls at once, each with a deadline and a limit on the answer.

It dials what it is told to and nothing else: no redirects, no proxies of the environment, no cookies, no
compression.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import aiohttp

from co2.errors import BadRequest, CallTimeout, ParseError, RemoteFault, Unreachable
from co2.xmlrpc.answers import CONTENT_TYPE, MAX_RESPONSE_SIZE, check_answer, split_url, too_big
from co2.xmlrpc.introspection import MAX_MULTICALL
from co2.xmlrpc.reader import MAX_FAULT_TEXT, read_response
from co2.xmlrpc.writer import Written, write_call, write_value

__all__ = ["KEEP_ALIVE", "RpcClient"]

KEEP_ALIVE = 30.0
"""Seconds that an idle connection is kept; less than any host keeps it, so a call meets no closed one."""

_HEADERS = {
    "Content-Type": CONTENT_TYPE,
    "Accept-Encoding": "identity",
    "Accept": CONTENT_TYPE,
    "User-Agent": "co2",
}


class RpcClient:
    """Calls methods of other hosts. Made anywhere, used in one event loop.

    Args:
        max_response: bytes of one answer.
    """

    def __init__(self, max_response: int = MAX_RESPONSE_SIZE) -> None:
        self._max_response = max_response
        self._session: aiohttp.ClientSession | None = None

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
        host, port, path = split_url(url)
        target = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
        try:
            async with (
                asyncio.timeout(timeout),
                self._open().post(target, data=body, headers=_HEADERS, allow_redirects=False) as response,
            ):
                headers = response.headers
                check_answer(
                    url, response.status, headers.get("Content-Type", ""), headers.get("Content-Encoding", "")
                )
                return await self._read(url, response)
        except TimeoutError:
            raise CallTimeout(url, timeout) from None
        except aiohttp.ClientPayloadError:
            raise ParseError(f"{url} ends in the middle of its answer") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f"{url} does not answer: {_reason(error)}") from None

    async def _read(self, url: str, response: aiohttp.ClientResponse) -> bytes:
        if (response.content_length or 0) > self._max_response:
            response.close()
            raise too_big(url, self._max_response)
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._max_response:
                response.close()
                raise too_big(url, self._max_response)
            chunks.append(chunk)
        return b"".join(chunks)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Who calls limits how many calls are under way; one hanging host must not take the others' places.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


def _one_of_many(url: str, answer: Any) -> Any | RemoteFault:
    if isinstance(answer, list) and len(answer) == 1:
        return answer[0]
    if isinstance(answer, dict):
        code, text = answer.get("faultCode"), answer.get("faultString")
        if isinstance(code, int) and isinstance(text, str):
            return RemoteFault(code, text[:MAX_FAULT_TEXT])
    raise ParseError(f"{url} gives an answer in system.multicall that is none")


def _reason(error: Exception) -> str:
    """Say in few words why a connection failed."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # its own text names the address once more
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    if isinstance(error, aiohttp.ClientResponseError):
        return "it does not speak HTTP"
    return "no connection"
