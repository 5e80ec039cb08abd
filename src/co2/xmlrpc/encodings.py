"""The encoding of a document, and its conversion to UTF-8, the only encoding that the parser reads.

A byte order mark decides; else the charset of the Content-Type; else the XML declaration; else it is UTF-8 (RFC
7303, 3: the declaration counts least). Supported are UTF-8 and single-byte encodings in which every byte below
0x80 is ASCII, so that markup has the same bytes in all of them.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from co2.errors import ParseError, WrongEncoding

__all__ = ["UTF_8", "UTF_8_MARK", "as_utf8", "charset_of", "codec_of"]

UTF_8: Final = "utf-8"

UTF_8_MARK = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8."""

_NAMES = {
    # US-ASCII is a part of UTF-8, and Perl's RPC::XML sends UTF-8 under its name.
    UTF_8: ("utf-8", "utf8", "us-ascii", "ascii", "ansi_x3.4-1968", "iso646-us", "iso-ir-6", "cp367", "us"),
    "iso-8859-1": ("iso-8859-1", "iso_8859-1", "iso8859-1", "latin1", "latin-1", "l1", "iso-ir-100", "cp819"),
    "cp1252": ("windows-1252", "cp1252"),
}
_CODECS: Mapping[str, str] = MappingProxyType({name: codec for codec, names in _NAMES.items() for name in names})

_CHARSET = re.compile(r'charset\s*=\s*(?:"([^"]*)"|([^\s;"]*))', re.IGNORECASE)


def codec_of(name: str) -> str:
    """Return Python's codec for an encoding.

    Args:
        name: as in a declaration or a charset.

    Raises:
        WrongEncoding: an unsupported encoding.
    """
    codec = _CODECS.get(name.strip().lower())
    if codec is None:
        shown = repr(name if len(name) <= 40 else name[:40] + "…")
        raise WrongEncoding(
            f"unsupported encoding {shown}; supported are UTF-8, US-ASCII, ISO-8859-1 and windows-1252"
        )
    return codec


def charset_of(content_type: str) -> str:
    """Return the codec that a Content-Type names, '' if it names none.

    Raises:
        WrongEncoding: an unsupported encoding, or two.
    """
    found = {codec_of(quoted or plain) for quoted, plain in _CHARSET.findall(content_type.partition(";")[2])}
    if len(found) > 1:
        raise WrongEncoding("two charsets in one Content-Type")
    return found.pop() if found else ""


def as_utf8(body: bytes, codec: str) -> bytes:
    """Convert a document to UTF-8.

    Args:
        body: without a byte order mark.
        codec: as returned by :func:`codec_of`.

    Raises:
        ParseError: a byte that is not a character in this encoding.
    """
    if codec == UTF_8:
        return body
    try:
        return body.decode(codec).encode()
    except UnicodeDecodeError as error:
        raise ParseError(
            f"not well-formed: byte 0x{body[error.start]:02x} at {error.start} is not valid in {codec}"
        ) from None
