"""Limits and checks for the answers to both clients. A server is not trusted more than a caller."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from co2.errors import AnswerTooBig, FailedInside, ParseError, Unreachable
from co2.xmlrpc.encodings import charset_of

__all__ = [
    "BRIEF",
    "CONTENT_TYPE",
    "MAX_RESPONSE_SIZE",
    "MAX_UNDER_WAY",
    "NAMES",
    "RELAYED_HEADER",
    "RESULT",
    "AnswerLimit",
    "check_answer",
    "split_url",
    "too_big",
    "too_much",
]

CONTENT_TYPE = "text/xml"

MAX_RESPONSE_SIZE = 32 * 1024 * 1024
"""Bytes of an answer to a short command. A message of 720 KiB in MessagePack can be 20 MiB in XML."""

MAX_UNDER_WAY = 64 * 1024 * 1024
"""Bytes of all answers that a host is reading, or has read and not yet parsed; small ones do not count."""


@dataclass(frozen=True, slots=True)
class AnswerLimit:
    """The largest answer that a host accepts for a call.

    Attributes:
        size: bytes.
        values: number of values at all levels together.
    """

    size: int
    values: int


BRIEF = AnswerLimit(64 * 1024, 1_000)
"""For ``ping`` and ``notify``, which return true."""

NAMES = AnswerLimit(1024 * 1024, 20_000)
"""For ``system.listMethods``."""

RESULT = AnswerLimit(8 * 1024 * 1024, 200_000)
"""For all other calls."""

RELAYED_HEADER = "x-co2-relayed"
"""Header of a co2 host's calls: the call may be for somebody else, at another address than the host's."""

_XML_TYPES = frozenset(("text/xml", "application/xml"))


def check_answer(url: str, status: int, content_type: str, content_encoding: str) -> str:
    """Check the head of an answer; return the codec that it names, '' for none.

    Raises:
        Unreachable: the status means that nobody accepts calls there; redirects are not followed.
        FailedInside: the server failed in this call.
        ParseError: the answer is not XML-RPC.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if content_encoding.strip().lower() not in ("", "identity"):
        raise ParseError(f"{url} sent a compressed answer ({content_encoding[:40]!r}), which was not requested")
    if media_type in _XML_TYPES and status in (200, 400, 415):
        return charset_of(content_type)  # 400 and 415 of hosts before 0.10 come with a Fault that explains them
    if status in (200, 400, 413):
        raise ParseError(f"{url} answered {status} with {media_type[:80]!r} instead of {CONTENT_TYPE}")
    if 300 <= status < 400:
        raise Unreachable(f"{url} redirects (HTTP {status}), which is not followed")
    if status == 500:
        raise FailedInside(f"{url} failed: HTTP {status}")
    raise Unreachable(f"{url} accepts no calls: HTTP {status}")


def too_big(url: str, limit: int) -> AnswerTooBig:
    """Return the error for an answer of more than that many bytes."""
    return AnswerTooBig(f"{url} answered with more than {limit} bytes")


def too_much(url: str) -> AnswerTooBig:
    """Return the error for the largest answer when all together exceed :data:`MAX_UNDER_WAY`."""
    return AnswerTooBig(f"{url} sent the longest of several answers, which together are too long")


def split_url(url: str) -> tuple[str, int, str]:
    """Split the URL of a host into host, port and path; the path is ``/RPC2`` if the URL has none.

    Raises:
        Unreachable: not an ``http://`` URL with a host.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = None
    if parts is None or parts.scheme != "http" or not host or parts.username is not None:
        raise Unreachable(f"not the URL of a host: {url[:200]!r}; expected http://<address>:<port>")
    return host, port if port is not None else 80, parts.path if parts.path not in ("", "/") else "/RPC2"
