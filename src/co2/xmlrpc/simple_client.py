"""The blocking client of the short commands: it uses http.client, so that they start at once."""

import http.client
import select
import time
from typing import Any, Self

from co2.errors import CallTimeout, NothingListens, ParseError, Unreachable
from co2.xmlrpc.answers import CONTENT_TYPE, MAX_RESPONSE_SIZE, check_answer, split_url, too_big
from co2.xmlrpc.reader import read_response
from co2.xmlrpc.writer import write_call, write_value

__all__ = ["SimpleClient"]

_HEADERS = {"Content-Type": CONTENT_TYPE, "Accept-Encoding": "identity", "User-Agent": "co2"}
_READ_SIZE = 64 * 1024


class SimpleClient:
    """Calls methods of one host, one after the other, over a persistent connection.

    Args:
        url: of the host, ``http://<address>:<port>``.
        timeout: seconds that one call may take.
        max_response: bytes of an answer.

    Attributes:
        url: of the host.

    Raises:
        Unreachable: not the URL of a host.
    """

    def __init__(self, url: str, timeout: float, max_response: int = MAX_RESPONSE_SIZE) -> None:
        host, port, self._path = split_url(url)
        self.url = url
        self._timeout = timeout
        self._max_response = max_response
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, *params: Any, timeout: float | None = None) -> Any:
        """Call a method.

        Args:
            method: its name.
            params: one value each.
            timeout: seconds, where this call has another timeout than the others.

        Raises:
            RemoteFault: the host answered with a Fault.
            Unreachable: there is no host, or it takes no calls.
            CallTimeout: no answer in time.
            ParseError: the answer is not XML-RPC, or too big.
            ValueRefused: a parameter that cannot be written.
        """
        body = write_call(method, [write_value(param) for param in params])
        allowed = self._timeout if timeout is None else timeout
        try:
            answer = self._post(body, time.monotonic() + allowed)
        except TimeoutError:
            raise CallTimeout(method, allowed) from None
        except ConnectionRefusedError as error:
            self.close()
            raise NothingListens(self.url, error.strerror or "refused") from None
        except OSError as error:
            self.close()
            raise Unreachable(f"{self.url} does not answer: {error.strerror or 'no connection'}") from None
        except http.client.HTTPException:
            self.close()
            raise Unreachable(f"{self.url} does not speak HTTP, or closed the connection") from None
        return read_response(*answer)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()

    def _post(self, body: bytes, deadline: float) -> tuple[bytes, str]:
        connection = self._connection
        if connection.sock is not None and select.select((connection.sock,), (), (), 0)[0]:
            connection.close()  # the host closed it meanwhile; the check first saves sending a call twice
        connection.timeout = _left(deadline)
        if connection.sock is not None:
            connection.sock.settimeout(connection.timeout)
        try:
            connection.request("POST", self._path, body, _HEADERS)
            self._set_timeout(deadline)
            with connection.getresponse() as response:
                return self._read(response, deadline)
        except BaseException:
            connection.close()  # on any error, Ctrl-C too: the next call must not read the rest of this answer
            raise

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> tuple[bytes, str]:
        charset = check_answer(
            self.url,
            response.status,
            response.headers.get("Content-Type", ""),
            response.headers.get("Content-Encoding", ""),
        )
        if (response.length or 0) > self._max_response:
            raise too_big(self.url, self._max_response)
        chunks: list[bytes] = []
        size = 0
        while True:
            self._set_timeout(deadline)
            chunk = response.read1(_READ_SIZE)
            if not chunk:
                break
            size += len(chunk)
            if size > self._max_response:
                raise too_big(self.url, self._max_response)
            chunks.append(chunk)
        if response.length:
            raise ParseError(f"{self.url} closed the connection in the middle of its answer")
        return b"".join(chunks), charset

    def _set_timeout(self, deadline: float) -> None:
        # A connection that ends with the answer belongs to the response at this point.
        if self._connection.sock is not None:
            self._connection.sock.settimeout(_left(deadline))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
