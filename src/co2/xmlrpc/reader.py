"""Parse XML-RPC documents into plain values; anything else is one of our errors.

A strict grammar over expat. A document that is not XML-RPC is refused while it is parsed, before it exceeds a
limit: a DOCTYPE at its first character, nesting or a number of values at the first one too many. Python's lenient
conversions are never used, and no text of Python's exceptions reaches a caller.

Values are None, bool, int, float, str, bytes, datetime (aware, UTC), list and dict.
"""

import binascii
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isinf
from typing import Any, Final
from xml.parsers import expat

from co2.errors import (
    AnswerTooBig,
    BadParams,
    BadRequest,
    NoSuchMethod,
    ParseError,
    RemoteFault,
    WrongEncoding,
)
from co2.protocol.wire.host_names import is_method_name
from co2.xmlrpc.encodings import UTF_8, UTF_8_MARK, as_utf8, codec_of

__all__ = [
    "MAX_DEPTH",
    "MAX_FAULT_TEXT",
    "MAX_NUMBER_LENGTH",
    "MAX_RESPONSE_DEPTH",
    "MAX_RESPONSE_VALUES",
    "MAX_VALUES",
    "STEP",
    "MethodCall",
    "call_steps",
    "read_call",
    "read_response",
]

MAX_DEPTH = 32
"""Levels of nested values in a request, the parameter itself included."""

MAX_VALUES = 10_000
"""Values in a request, all levels together."""

MAX_NUMBER_LENGTH = 400
"""Characters of a number; a double written in full has no more than 327."""

MAX_RESPONSE_DEPTH = 4_000
"""Like :data:`MAX_DEPTH`, for an answer: a message is limited where it is sent."""

MAX_RESPONSE_VALUES = 2_000_000
"""Like :data:`MAX_VALUES`, for an answer; the client limits its bytes."""

MAX_FAULT_TEXT = 4_096
"""Characters that are kept of a Fault's text."""

MAX_TOKEN = 256 * 1024
"""Bytes of a tag, comment or instruction in a document that is parsed in pieces."""

PIECE = 64 * 1024
"""Bytes of an answer that are parsed at once; between two pieces another thread may run."""

STEP = 16 * 1024
"""Bytes of a long call that are parsed at once: half a millisecond if it has as many values as it may have."""

_INTEGER = re.compile(rf"-?[0-9]{{1,{MAX_NUMBER_LENGTH}}}")
_DOUBLE = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?")
_DATE = re.compile(r"([0-9]{4})(?:([0-9]{2})([0-9]{2})|-([0-9]{2})-([0-9]{2}))T([0-9]{2}):([0-9]{2}):([0-9]{2})Z?")
_XML_SPACE = " \t\r\n"
_UTF_16 = (b"\xfe\xff", b"\xff\xfe")


@dataclass(slots=True)
class MethodCall:
    """A parsed request.

    Attributes:
        method: 1 to 128 of ``A-Za-z0-9_.:/-``.
        params: one value each.
    """

    method: str
    params: list[Any]


def read_call(body: bytes, charset: str = "") -> MethodCall:
    """Parse a ``methodCall``.

    Args:
        body: the document.
        charset: the codec that its Content-Type names, '' for none.

    Raises:
        ParseError: not well-formed, or not XML-RPC.
        WrongEncoding: an unsupported encoding.
        NoSuchMethod: a name that no method can have.
        BadParams: an unsupported value, or one over a limit.
    """
    document = _Document(_CALL_DOCUMENT, MAX_DEPTH, MAX_VALUES)
    document.read(body, charset)
    return MethodCall(document.method, document.params)


def call_steps(body: bytes, charset: str = "") -> Generator[None, None, MethodCall]:
    """Parse a ``methodCall`` in steps, as :func:`read_call`; an event loop can do other work in between.

    Raises:
        ParseError: also for a tag or comment of more than :data:`MAX_TOKEN` bytes.
    """
    document = _Document(_CALL_DOCUMENT, MAX_DEPTH, MAX_VALUES, piece=STEP)
    yield from document.steps(body, charset)
    return MethodCall(document.method, document.params)


def read_response(body: bytes, charset: str = "", max_values: int = MAX_RESPONSE_VALUES) -> Any:
    """Parse a ``methodResponse`` and return its value.

    Args:
        body: the document.
        charset: the codec that its Content-Type names, '' for none.
        max_values: values in it, all levels together.

    Raises:
        RemoteFault: the response is a Fault.
        AnswerTooBig: more values.
        ParseError: not well-formed, not XML-RPC, or with an unsupported value.
    """
    document = _Document(_RESPONSE_DOCUMENT, MAX_RESPONSE_DEPTH, max_values, piece=PIECE)
    try:
        document.read(body, charset)
    except (BadParams, BadRequest) as error:
        if document.has_too_many:
            raise AnswerTooBig(f"an answer of more than {max_values} values") from None
        raise ParseError(str(error)) from None
    value = document.params[0]
    if not document.is_fault:
        return value
    code, text = (value.get("faultCode"), value.get("faultString")) if isinstance(value, dict) else (None, None)
    if not isinstance(code, int) or not isinstance(text, str):
        raise ParseError("a fault without faultCode and faultString")
    raise RemoteFault(code, text[:MAX_FAULT_TEXT])


# ---- scalars -------------------------------------------------------------------------------------------


def _read_integer(text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise BadParams(f"not an integer: {_quote(text)}; expected digits with an optional minus sign")
    value = int(text)
    if not -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        raise BadParams(f"an integer beyond 64 bits: {_quote(text)}")
    return value


def _read_double(text: str) -> float:
    if len(text) > MAX_NUMBER_LENGTH or _DOUBLE.fullmatch(text) is None:
        raise BadParams(f"not a double: {_quote(text)}; expected digits with an optional point and exponent")
    value = float(text)
    if isinf(value):
        raise BadParams(f"a double beyond 64 bits: {_quote(text)}")
    return value


def _read_boolean(text: str) -> bool:
    if text == "1":
        return True
    if text == "0":
        return False
    raise BadParams(f"not a boolean: {_quote(text)}; expected 0 or 1")


def _read_nil(text: str) -> None:
    if text:
        raise ParseError("nil is not empty")


def _read_date(text: str) -> datetime:
    found = _DATE.fullmatch(text)
    if found is not None:
        year, month, day, dashed_month, dashed_day, hour, minute, second = found.groups()
        try:
            return datetime(
                int(year), int(month or dashed_month), int(day or dashed_day),
                int(hour), int(minute), int(second), tzinfo=UTC,
            )  # fmt: skip
        except ValueError:
            pass  # a 31 February: refused like any text that is not a date
    raise BadParams(f"not a date: {_quote(text)}; expected YYYYMMDDTHH:MM:SS, in UTC")


def _read_base64(text: str) -> bytes:
    try:
        packed = text.encode("ascii").translate(None, b" \t\r\n")
        return binascii.a2b_base64(packed, strict_mode=True) if packed else b""
    except ValueError:  # binascii.Error and UnicodeEncodeError are ValueErrors
        raise BadParams(f"not base64: {_quote(text)}") from None


def _quote(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


_SCALARS: Final[dict[str, Callable[[str], Any]]] = {
    "int": _read_integer,
    "i4": _read_integer,
    "i8": _read_integer,
    "double": _read_double,
    "boolean": _read_boolean,
    "string": str,
    "nil": _read_nil,
    "dateTime.iso8601": _read_date,
    "base64": _read_base64,
}

# ---- grammar -------------------------------------------------------------------------------------------
# A state is the elements that may come next: name → (the state inside it, the state after it).

_State = dict[str, tuple[Any, Any]]
_TEXT: _State = {}
_DONE: _State = {}
_VALUE: _State = {}
_STRUCT: _State = {}
_DATA: _State = {}
_PARAMS: _State = {}
_MEMBER_VALUE: _State = {"value": (_VALUE, _DONE)}
_MEMBER: _State = {"name": (_TEXT, _MEMBER_VALUE)}
_ARRAY: _State = {"data": (_DATA, _DONE)}
_PARAM: _State = {"value": (_VALUE, _DONE)}
_STRUCT["member"] = (_MEMBER, _STRUCT)
_DATA["value"] = (_VALUE, _DATA)
_PARAMS["param"] = (_PARAM, _PARAMS)
_VALUE.update(dict.fromkeys(_SCALARS, (_TEXT, _DONE)))
_VALUE.update(struct=(_STRUCT, _DONE), array=(_ARRAY, _DONE))
_CALL_END: _State = {"params": (_PARAMS, _DONE)}
_CALL: _State = {"methodName": (_TEXT, _CALL_END)}
_CALL_DOCUMENT: _State = {"methodCall": (_CALL, _DONE)}
_ONE_PARAM: _State = {"param": (_PARAM, _DONE)}
_RESPONSE: _State = {"params": (_ONE_PARAM, _DONE), "fault": (_PARAM, _DONE)}
_RESPONSE_DOCUMENT: _State = {"methodResponse": (_RESPONSE, _DONE)}

_UNFINISHED = (_CALL, _RESPONSE, _ONE_PARAM, _PARAM, _ARRAY, _MEMBER, _MEMBER_VALUE)
"""States in which an element must not end: something mandatory is missing."""

_INCOMPLETE = frozenset(map(id, _UNFINISHED))


class _Declared(Exception):
    """The XML declaration names an encoding other than UTF-8.

    It never leaves the reader, which catches it and parses the document again, converted to UTF-8.
    """

    def __init__(self, codec: str) -> None:
        super().__init__(codec)
        self.codec = codec


class _Document:
    """Parser of one document."""

    __slots__ = (
        "_after",
        "_container",
        "_containers",
        "_decided",
        "_depth",
        "_keys",
        "_max_depth",
        "_piece",
        "_state",
        "_text",
        "_value",
        "_values_left",
        "is_fault",
        "method",
        "params",
    )

    def __init__(self, state: _State, max_depth: int, max_values: int, *, piece: int = 0) -> None:
        self.method = ""
        self.params: list[Any] = []
        self.is_fault = False
        self._state = state
        self._after: list[_State] = []
        self._container: Any = self.params
        self._containers: list[Any] = [self.params]
        self._keys: list[str] = []
        self._text: list[str] = []
        self._value: Any = None
        self._depth = 0
        self._decided = False
        self._piece = piece
        self._max_depth = max_depth
        self._values_left = max_values

    @property
    def has_too_many(self) -> bool:
        """Whether the document has more values than allowed."""
        return self._values_left < 0

    def read(self, body: bytes, charset: str) -> None:
        """Parse the whole document."""
        for _ in self.steps(body, charset):
            pass

    def steps(self, body: bytes, charset: str) -> Generator[None, None, None]:
        """Parse the whole document in steps of one piece."""
        if body.startswith(_UTF_16) or b"\x00" in body[:2]:  # expat would detect UTF-16 without a mark by itself
            raise WrongEncoding(
                "unsupported encoding UTF-16; supported are UTF-8, US-ASCII, ISO-8859-1 and windows-1252"
            )
        if body.startswith(UTF_8_MARK):
            self._decided = True
        elif charset:
            self._decided = True
            body = as_utf8(body, charset)
        try:
            yield from self._parse(body)
        except _Declared as declared:  # before the first element
            self._decided = True
            yield from self._parse(as_utf8(body, declared.codec))

    def _parse(self, body: bytes) -> Generator[None, None, None]:
        parser = expat.ParserCreate(UTF_8)
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.XmlDeclHandler = self._declaration
        try:
            if 0 < self._piece < len(body):
                yield from self._parse_pieces(parser, body)
            else:
                parser.Parse(body, True)
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            raise ParseError(f"not well-formed: {what}, line {error.lineno}, column {error.offset}") from None

    def _parse_pieces(self, parser: expat.XMLParserType, body: bytes) -> Generator[None, None, None]:
        """Parse piece by piece: otherwise one long comment, say, would block all threads."""
        piece = self._piece
        for start in range(0, len(body), piece):
            parser.Parse(body[start : start + piece], False)
            if start + piece - parser.CurrentByteIndex > MAX_TOKEN:
                raise ParseError(f"a tag or comment of more than {MAX_TOKEN} bytes")
            yield
        parser.Parse(b"", True)

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is None or self._decided:
            return
        codec = codec_of(encoding)
        if codec != UTF_8:
            raise _Declared(codec)

    # These three run for every element. Some code that looks like a function of its own is inlined where the call
    # would cost as much as the work.

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if attributes and self._after:  # the outermost element may declare namespaces; others have no attributes
            raise ParseError(f"element {_quote(tag)} has attributes; XML-RPC has none")
        if self._text:
            self._only_space()
        try:
            self._state, after = self._state[tag]
        except KeyError:
            raise ParseError(f"element {_quote(tag)} is not expected here") from None
        self._after.append(after)
        if tag == "value":
            self._depth += 1
            self._values_left -= 1
            if self._depth > self._max_depth:
                raise BadParams(f"values nested deeper than {self._max_depth}")
            if self._values_left < 0:
                raise BadParams("too many values")
        elif tag == "struct":
            self._container = {}
            self._containers.append(self._container)
        elif tag == "data":
            self._container = []
            self._containers.append(self._container)

    def _end(self, tag: str) -> None:
        inside = self._state
        self._state = self._after.pop()
        texts = self._text
        if inside is _TEXT:
            text = texts[0] if len(texts) == 1 else "".join(texts)
            texts.clear()
            self._end_text(tag, text)
        elif tag == "value":
            if inside is _VALUE:
                self._value = "".join(texts)
                texts.clear()
            elif texts:
                self._only_space()
            self._depth -= 1
            container = self._container
            if container.__class__ is dict:
                container[self._keys.pop()] = self._value
            else:
                container.append(self._value)
        else:
            if texts:
                self._only_space()
            if id(inside) in _INCOMPLETE:
                raise ParseError(f"element {_quote(tag)} is not complete")
            if tag in ("struct", "data"):
                self._value = self._containers.pop()
                self._container = self._containers[-1]
            elif tag == "fault":
                self.is_fault = True

    def _end_text(self, tag: str, text: str) -> None:
        read = _SCALARS.get(tag)
        if read is not None:
            self._value = read(text)
        elif tag == "name":
            if text in self._container:
                raise BadParams(f"a struct has two members with the name {_quote(text)}")
            self._keys.append(text)
        else:
            if not is_method_name(text):
                raise NoSuchMethod(text)
            self.method = text

    def _only_space(self) -> None:
        texts = self._text
        if len(texts) != 1 or texts[0] != "\n":
            text = "".join(texts).strip(_XML_SPACE)
            if text:
                raise ParseError(f"text where none is expected: {_quote(text)}")
        texts.clear()


def _refuse_doctype(_name: str, _system: str | None, _public: str | None, _internal: bool) -> None:
    raise ParseError("a DOCTYPE is not allowed")
