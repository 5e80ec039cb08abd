"""HTTP for the client of the hosts, on aiohttp.

It connects only to the given address: no redirects, no proxies of the environment, no cookies, no compression.
"""

import os

import aiohttp

from co2.errors import ParseError, Unreachable
from co2.xmlrpc.answers import CONTENT_TYPE, RELAYED_HEADER, check_answer, split_url, too_big, too_much

__all__ = ["KEEP_ALIVE", "UNCOUNTED", "HttpAnswer", "HttpSession"]

KEEP_ALIVE = 1.0
"""Seconds that an idle connection is kept. Many a script's server serves one connection at a time: while it waits
for our idle one, it answers no other call."""

_HEADERS = {
    "Content-Type": CONTENT_TYPE,
    "Accept-Encoding": "identity",
    "Accept": CONTENT_TYPE,
    "User-Agent": "co2",
    RELAYED_HEADER: "1",
}


UNCOUNTED = 64 * 1024
"""Bytes up to which an answer does not count: there are as few as there are calls, and most are that short."""


class HttpAnswer:
    """An answer that is being read or parsed.

    Attributes:
        body: the bytes read.
        charset: codec that the head names, '' for none.
        given_up: all answers together were too large, and this was the largest.
    """

    __slots__ = ("_response", "body", "charset", "given_up")

    def __init__(self, response: aiohttp.ClientResponse, charset: str) -> None:
        self.body = b""
        self.charset = charset
        self.given_up = False
        self._response = response

    def give_up(self) -> None:
        """Stop reading."""
        self.given_up = True
        self._response.close()


class HttpSession:
    """Connections to other hosts. Made and used in one event loop.

    Args:
        max_under_way: bytes of all answers that are being read, or not yet parsed.
    """

    def __init__(self, max_under_way: int) -> None:
        self._max_under_way = max_under_way
        self._under_way: dict[HttpAnswer, int] = {}
        self._total = 0
        self._session = aiohttp.ClientSession(
            # The callers limit the number of calls; a host that hangs must not use up the others' connections.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,
        )

    async def post(self, url: str, body: bytes, max_size: int) -> HttpAnswer:
        """Post a call and return the answer, which must be released; the caller sets the time limit.

        Args:
            url: of the host.
            body: the call.
            max_size: bytes of the answer.

        Raises:
            Unreachable: there is no host, or it takes no calls.
            AnswerTooBig: the answer has more bytes, or is the largest of too many.
            ParseError: the answer is not XML-RPC.
            TimeoutError: the network gave up.
        """
        host, port, path = split_url(url)
        target = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
        try:
            async with self._session.post(target, data=body, headers=_HEADERS, allow_redirects=False) as response:
                headers = response.headers
                charset = check_answer(
                    url, response.status, headers.get("Content-Type", ""), headers.get("Content-Encoding", "")
                )
                answer = HttpAnswer(response, charset)
                try:
                    await self._read(url, response, answer, max_size)
                except BaseException:
                    self.release(answer)
                    if answer.given_up:
                        raise too_much(url) from None
                    raise
                return answer
        except TimeoutError:  # an OSError too, but one that the caller reports
            raise
        except aiohttp.ClientPayloadError:
            raise ParseError(f"{url} closed the connection in the middle of its answer") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f"{url} does not answer: {_reason(error)}") from None

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def release(self, answer: HttpAnswer) -> None:
        """Stop counting an answer: it has been parsed or given up."""
        self._total -= self._under_way.pop(answer, 0)

    async def _read(self, url: str, response: aiohttp.ClientResponse, answer: HttpAnswer, max_size: int) -> None:
        if (response.content_length or 0) > max_size:
            response.close()
            raise too_big(url, max_size)
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > max_size:
                response.close()
                raise too_big(url, max_size)
            chunks.append(chunk)
            if size > UNCOUNTED:
                self._count(answer, size)
            if answer.given_up:
                raise too_much(url)
        answer.body = b"".join(chunks)

    def _count(self, answer: HttpAnswer, size: int) -> None:
        """Count the bytes of an answer; if all together are too many, give up the largest."""
        self._total += size - self._under_way.get(answer, 0)
        self._under_way[answer] = size
        while self._total > self._max_under_way:
            largest = max(self._under_way, key=self._under_way.__getitem__)
            self.release(largest)
            largest.give_up()


def _reason(error: Exception) -> str:
    """Describe in a few words why a connection failed."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return error.strerror or "no such name"  # its number is none of the system's errors
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # its own text repeats the address
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    if isinstance(error, aiohttp.ClientResponseError):
        return "it does not speak HTTP"
    return "no connection"
