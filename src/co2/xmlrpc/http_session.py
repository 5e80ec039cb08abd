"""HTTP for the client of the hosts, on aiohttp.

It dials what it is told to and nothing else: no redirects, no proxies of the environment, no cookies, no
compression.
"""

import os

import aiohttp

from co2.errors import ParseError, Unreachable
from co2.xmlrpc.answers import CONTENT_TYPE, RELAYED_HEADER, check_answer, split_url, too_big, too_much

__all__ = ["KEEP_ALIVE", "UNCOUNTED", "HttpAnswer", "HttpSession"]

KEEP_ALIVE = 1.0
"""Seconds that an idle connection is kept. Many a server of a script serves one connection after the other: while
it waits on an idle one of ours, it answers no other call."""

_HEADERS = {
    "Content-Type": CONTENT_TYPE,
    "Accept-Encoding": "identity",
    "Accept": CONTENT_TYPE,
    "User-Agent": "co2",
    RELAYED_HEADER: "1",
}


UNCOUNTED = 64 * 1024
"""Bytes up to which an answer does not count: they are as few as there are calls, and most are no longer."""


class HttpAnswer:
    """An answer while it is read, and until it has been parsed.

    Attributes:
        body: what has been read.
        charset: the codec that its head names, '' for none.
        given_up: too much was under way, and this was the largest of it.
    """

    __slots__ = ("_response", "body", "charset", "given_up")

    def __init__(self, response: aiohttp.ClientResponse, charset: str) -> None:
        self.body = b""
        self.charset = charset
        self.given_up = False
        self._response = response

    def give_up(self) -> None:
        """Read no further."""
        self.given_up = True
        self._response.close()


class HttpSession:
    """Connections to other hosts. Made and used in one event loop.

    Args:
        max_under_way: bytes of answers that are read, or not yet parsed, all together.
    """

    def __init__(self, max_under_way: int) -> None:
        self._max_under_way = max_under_way
        self._under_way: dict[HttpAnswer, int] = {}
        self._total = 0
        self._session = aiohttp.ClientSession(
            # Who calls limits how many calls are under way; one hanging host must not take the others' places.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,
        )

    async def post(self, url: str, body: bytes, max_size: int) -> HttpAnswer:
        """Post a call and return the answer, to be released; the caller sees to the time that this takes.

        Args:
            url: of the host.
            body: the call.
            max_size: bytes of the answer.

        Raises:
            Unreachable: there is no host, or it takes no calls.
            AnswerTooBig: the answer has more bytes, or is the largest of too many.
            ParseError: the answer is no XML-RPC.
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
        except TimeoutError:  # an OSError, too, but the caller's to tell
            raise
        except aiohttp.ClientPayloadError:
            raise ParseError(f"{url} ends in the middle of its answer") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f"{url} does not answer: {_reason(error)}") from None

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def release(self, answer: HttpAnswer) -> None:
        """Count an answer no more: it has been parsed, or is given up."""
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
        """Count what an answer holds; where that is too much together the largest of all goes."""
        self._total += size - self._under_way.get(answer, 0)
        self._under_way[answer] = size
        while self._total > self._max_under_way:
            largest = max(self._under_way, key=self._under_way.__getitem__)
            self.release(largest)
            largest.give_up()


def _reason(error: Exception) -> str:
    """Say in few words why a connection failed."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # its own text names the address once more
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    if isinstance(error, aiohttp.ClientResponseError):
        return "it does not speak HTTP"
    return "no connection"
