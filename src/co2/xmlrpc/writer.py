"""Encode plain values as XML-RPC. Total over the decoded form: any accepted value can be encoded.

Values without a type in XML-RPC are encoded as documented: integers beyond 64 bits as strings, NaN and infinities
as nil, text with characters that XML cannot carry as base64 of its UTF-8, other keys as strings
(:func:`co2.values.key_text`), with such characters as ``\\xNN`` and ``\\uNNNN``. Dates are UTC, to the second. The
list of types is closed: no value is ever encoded by its attributes.

The encoder is iterative, so depth costs no stack. It works in steps: an event loop can do other work in between.
Its output can be read by ``reader.py`` and by the standard library's ``xmlrpc.client``.
"""

import base64
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final, cast

from co2.errors import ValueRefused

__all__ = [
    "LONG",
    "LazyArray",
    "Steps",
    "Written",
    "WrittenValue",
    "response_steps",
    "value_steps",
    "write_call",
    "write_fault",
    "write_response",
    "write_value",
]

# Characters that XML 1.0 cannot carry, not even as references. Listed one by one: for a negated set `re` makes a
# table of all Unicode, which takes longer than the rest of this module.
_NEVER = "\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff"
_NOT_XML = re.compile(f"[{_NEVER}]")
# Those, and the ones that must be written as references. CR is one: a parser would turn it into LF.
_SPECIAL = re.compile(f"[{_NEVER}\r&<>]")
_SPECIAL_ONES = [*(chr(code) for code in range(128) if _SPECIAL.match(chr(code))), "\ufffe", "\uffff"]

_NIL = "<value><nil/></value>"
_DECLARATION = b"<?xml version='1.0'?>\n"
_BEFORE_RESULT = _DECLARATION + b"<methodResponse><params><param>"
_BEHIND_RESULT = b"</param></params></methodResponse>"

LONG = 64 * 1024
"""Bytes from which an encoded value is a piece itself."""

LONG_TEXT = 1_000
"""Characters from which a text is searched for one special character after the other."""

STEP = 2_000
"""Scalars, names and brackets that are encoded in one step: about half a millisecond."""


Steps = Generator[None, None, list[bytes]]
"""An encoding that pauses after each step, and returns pieces."""


class Written:
    """An encoded value; it may stand inside a value given to :func:`write_value`.

    Args:
        xml: ``<value>…</value>``, as returned by :func:`write_value`.
    """

    __slots__ = ("xml",)

    def __init__(self, xml: bytes) -> None:
        self.xml = xml


class WrittenValue(Written):
    """A value together with its encoded form, so that either can be passed on without a long pause to encode it.

    Args:
        xml: as for :class:`Written`.
        value: the same value, not encoded.
    """

    __slots__ = ("value",)

    def __init__(self, xml: bytes, value: Any) -> None:
        super().__init__(xml)
        self.value = value


class LazyArray(ABC):
    """An array whose elements are produced while it is encoded, so that they are never all in memory."""

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """Produce the elements; again from the first one at each call."""


def write_value(value: Any, most: int = 0) -> bytes:
    """Encode ``<value>…</value>``.

    Args:
        value: to encode.
        most: bytes; a value with so many members that it must be longer is refused before it costs memory. 0 for
            no limit.

    Raises:
        ValueRefused: a type outside the closed list; or certainly longer than ``most``.
    """
    if value.__class__ is WrittenValue:
        return value.xml
    steps = value_steps(value, most)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            pieces: list[bytes] = end.value
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def value_steps(value: Any, most: int = 0) -> Steps:
    """Encode a value in steps; return it as pieces.

    A long value that is already encoded is a piece itself, and is not copied.
    """
    pieces: list[bytes] = []
    out: list[str | bytes] = []
    emit = out.append
    scalars = _SCALARS
    waiting: list[tuple[Iterator[Any], str]] = []
    items: Iterator[Any] = iter((value,))
    closing = ""
    values = 0
    while True:
        for item in items:
            if len(out) > STEP:
                pieces += _joined(out)
                out.clear()
                yield
            write = scalars.get(item.__class__)
            if write is not None:
                emit(write(item))
                continue
            if most and isinstance(item, Sized):
                values += len(item)
                if values * len(_NIL) > most:
                    raise ValueRefused(f"{values} values, which take more than {most} bytes in XML")
            waiting.append((items, closing))
            items, opening, closing = _contents(item, emit)
            emit(opening)
            break
        else:
            emit(closing)
            if not waiting:
                return pieces + _joined(out)
            items, closing = waiting.pop()


def write_call(method: str, params: Sequence[bytes]) -> bytes:
    """Encode a ``methodCall``. ``params`` are encoded values."""
    inner = b"".join(b"<param>%b</param>" % param for param in params)
    name = _escaped(method).encode()
    return b"%b<methodCall><methodName>%b</methodName><params>%b</params></methodCall>" % (
        _DECLARATION,
        name,
        inner,
    )


def write_response(value: bytes) -> bytes:
    """Encode a ``methodResponse`` around an encoded value."""
    return b"%b%b%b" % (_BEFORE_RESULT, value, _BEHIND_RESULT)


def response_steps(value: Any) -> Steps:
    """Encode a ``methodResponse`` with a value in steps; return it as pieces, to be joined.

    A long encoded value (:class:`Written`) is a piece itself: one message that ends hundreds of calls is copied
    for none of them.

    Raises:
        ValueRefused: a type outside the closed list.
    """
    pieces = [value.xml] if value.__class__ is WrittenValue else (yield from value_steps(value))
    if len(pieces) == 1 and len(pieces[0]) < LONG:
        return [write_response(pieces[0])]
    return [_BEFORE_RESULT, *pieces, _BEHIND_RESULT]


def write_fault(code: int, text: str) -> bytes:
    """Encode a ``methodResponse`` with a Fault."""
    fault = write_value({"faultCode": code, "faultString": _without_not_xml(text)})
    return b"%b<methodResponse><fault>%b</fault></methodResponse>" % (_DECLARATION, fault)


# ---- scalars -------------------------------------------------------------------------------------------


def _write_bool(value: bool) -> str:
    return "<value><boolean>1</boolean></value>" if value else "<value><boolean>0</boolean></value>"


def _write_int(value: int) -> str:
    if -0x80000000 <= value <= 0x7FFFFFFF:
        return f"<value><int>{value}</int></value>"
    if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        return f"<value><i8>{value}</i8></value>"
    # No received value has more than 64 bits unsigned; Python refuses decimals over 4,300 digits.
    return f"<value><string>{value if value.bit_length() <= 10_000 else hex(value)}</string></value>"


def _write_float(value: float) -> str:
    if value - value == 0.0:  # neither NaN nor an infinity: those minus themselves are NaN
        return f"<value><double>{value!r}</double></value>"
    return _NIL


def _write_str(value: str) -> str | bytes:
    if _is_plain(value):
        if len(value) >= LONG:  # as text it would be copied two more times
            return b"<value><string>%b</string></value>" % value.encode()
        return f"<value><string>{value}</string></value>"
    if _NOT_XML.search(value) is None:
        return f"<value><string>{_escaped(value)}</string></value>"
    return _write_bytes(value.encode("utf-8", "surrogatepass"))


def _is_plain(text: str) -> bool:
    """Return whether a text can be written as it is."""
    if (
        len(text) > LONG_TEXT
    ):  # a search for one character is memchr: all of these are 9 times as fast as what follows
        return not any(map(text.__contains__, _SPECIAL_ONES)) and (text.isascii() or _has_no_surrogate(text))
    # Letters and digits of any script need no escapes; this check first is three times as fast.
    return text.isalnum() or _SPECIAL.search(text) is None


def _has_no_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_bytes(value: bytes | bytearray | memoryview) -> str:
    return f"<value><base64>{base64.b64encode(value).decode('ascii')}</base64></value>"


def _write_datetime(value: datetime) -> str:
    if value.tzinfo is not None:
        try:
            value = value.astimezone(UTC)
        except OverflowError:  # within a day of the first or last year
            return f"<value><string>{value.isoformat()}</string></value>"
    return (
        f"<value><dateTime.iso8601>{value.year:04}{value.month:02}{value.day:02}"
        f"T{value.hour:02}:{value.minute:02}:{value.second:02}</dateTime.iso8601></value>"
    )


def _write_written(value: Written) -> str | bytes:
    return value.xml if len(value.xml) >= LONG else value.xml.decode()


def _write_none(_value: None) -> str:
    return _NIL


_SCALARS: Final[dict[type, Callable[[Any], str | bytes]]] = {
    str: _write_str,
    int: _write_int,
    float: _write_float,
    bool: _write_bool,
    type(None): _write_none,
    bytes: _write_bytes,
    bytearray: _write_bytes,
    memoryview: _write_bytes,
    datetime: _write_datetime,
    Written: _write_written,
    WrittenValue: _write_written,
}

_BASES: Final[tuple[tuple[type, Callable[[Any], str | bytes]], ...]] = (
    (bool, _write_bool),
    (int, lambda value: _write_int(int(value))),
    (float, lambda value: _write_float(float(value))),
    (str, lambda value: _write_str(str.__str__(value))),
    (bytes, _write_bytes),
    (datetime, _write_datetime),
)

# ---- containers ----------------------------------------------------------------------------------------


def _joined(out: list[str | bytes]) -> list[bytes]:
    """Join the text between the pieces that are bytes."""
    try:
        return ["".join(cast(list[str], out)).encode()]
    except TypeError:  # not all of it is text
        pieces: list[bytes] = []
        for is_text, parts in groupby(out, lambda part: part.__class__ is str):
            if is_text:
                pieces.append("".join(cast(Iterable[str], parts)).encode())
            else:
                pieces.extend(cast(Iterable[bytes], parts))
        return pieces


def _contents(item: Any, emit: Callable[[str], None]) -> tuple[Iterator[Any], str | bytes, str]:
    """Return a container's values, and the text before and after them."""
    if isinstance(item, list | tuple | LazyArray):
        return iter(item), "<value><array><data>", "</data></array></value>"
    if isinstance(item, Mapping):
        return _members(item, emit), "<value><struct>", "</struct></value>"
    for base, write in _BASES:
        if isinstance(item, base):
            return iter(()), write(item), ""
    # Imported late: the short commands never come here and start faster without it.
    from msgspec.msgpack import Ext

    if isinstance(item, Ext):
        return iter(()), _write_bytes(bytes(item.data)), ""
    raise ValueRefused(f"cannot be written as XML-RPC: {type(item).__name__}")


def _members(struct: Mapping[Any, Any], emit: Callable[[str], None]) -> Iterator[Any]:
    """Emit the names around the values; the caller encodes the values between two steps."""
    for name, value in struct.items() if all(map(_is_plain_key, struct)) else _named(struct.items()):
        emit(f"<member><name>{name if name.isidentifier() else _escaped(name)}</name>")
        yield value
        emit("</member>")


def _is_plain_key(key: Any) -> bool:
    return key.__class__ is str and (key.isidentifier() or _NOT_XML.search(key) is None)


def _named(items: Iterable[tuple[Any, Any]]) -> Iterator[tuple[str, Any]]:
    """Convert all keys to names; keys with equal names keep their values under numbered names."""
    from co2.values import key_text, unused_key  # late, as above: values.py imports msgspec

    taken: set[str] = set()
    numbers: dict[str, int] = {}
    for key, value in items:
        name = unused_key(_without_not_xml(key_text(key)), taken, numbers)
        taken.add(name)
        yield name, value


def _escaped(text: str) -> str:
    if _SPECIAL.search(text) is None:
        return text
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


def _without_not_xml(text: str) -> str:
    return _NOT_XML.sub(_code_point, text)


def _code_point(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
