"""HTTP for the client of the hosts, on aiohttp.

It dials what it is told to and nothing else: no redirects, no proxies of the environment, no cookies, no
compression.
"""

import os

import aiohttp

from co2.errors import ParseError, Unreachable
from co2.xmlrpc.answers import CONTENT_TYPE, RELAYED_HEADER, check_answer, split_url, too_big

__all__ = ["KEEP_ALIVE", "HttpSession"]

KEEP_ALIVE = 30.0
"""Seconds that an idle connection is kept; less than any host keeps it, so a call meets no closed one."""

_HEADERS = {
    "Content-Type": CONTENT_TYPE,
    "Accept-Encoding": "identity",
    "Accept": CONTENT_TYPE,
    "User-Agent": "co2",
    RELAYED_HEADER: "1",
}


class HttpSession:
    """Connections to other hosts. Made and used in one event loop.

    Args:
        max_response: bytes of one answer.
    """

    def __init__(self, max_response: int) -> None:
        self._max_response = max_response
        self._session = aiohttp.ClientSession(
            # Who calls limits how many calls are under way; one hanging host must not take the others' places.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,
        )

    async def post(self, url: str, body: bytes) -> bytes:
        """Post a call and give the answer's body; the caller sees to the time that this takes.

        Raises:
            Unreachable: there is no host, or it takes no calls.
            ParseError: the answer is no XML-RPC, or too big.
            TimeoutError: the network gave up.
        """
        host, port, path = split_url(url)
        target = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
        try:
            async with self._session.post(target, data=body, headers=_HEADERS, allow_redirects=False) as response:
                headers = response.headers
                check_answer(
                    url, response.status, headers.get("Content-Type", ""), headers.get("Content-Encoding", "")
                )
                return await self._read(url, response)
        except TimeoutError:  # an OSError, too, but the caller's to tell
            raise
        except aiohttp.ClientPayloadError:
            raise ParseError(f"{url} ends in the middle of its answer") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f"{url} does not answer: {_reason(error)}") from None

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

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


def _reason(error: Exception) -> str:
    """Say in few words why a connection failed."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # its own text names the address once more
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    if isinstance(error, aiohttp.ClientResponseError):
        return "it does not speak HTTP"
    return "no connection"
