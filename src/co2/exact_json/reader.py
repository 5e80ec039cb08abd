"""Read JSON within limits. Everything that another reader could understand differently is refused.

msgspec decodes it, and refuses what is no JSON: NaN, lone surrogates, invalid UTF-8, numbers beyond a double. It
takes the last of several equal keys, integers of any length and any number of values, so these are looked for in
the text before and after. That is done by the C of ``bytes``: a loop in Python over one MiB would take a second.
"""

from collections.abc import Generator
from typing import Any

import msgspec

from co2.errors import BadParams, ParseError, ValueRefused
from co2.exact_json.marks import HIGHEST, LOWEST, is_marked, unmark

__all__ = ["MAX_DEPTH", "MAX_DIGITS", "MAX_VALUES", "parts_steps", "read", "read_steps"]

MAX_DEPTH = 32
"""Levels of nested values, the outermost included; as in XML."""

MAX_VALUES = 10_000
"""Values, all levels together; as in XML."""

MAX_DIGITS = 400
"""Digits in a row in a number; a floating point number written in full has no more than 325."""

_STEP = 500
"""Containers that are looked through at once for marks and integers."""

_LONG_NUMBER = 19
"""Digits of the shortest integer that may be beyond 64 bits."""

_ONE_DIGIT = bytes.maketrans(b"123456789", b"0" * 9)
_ONE_BRACKET = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"{}[]")
_decode = msgspec.json.Decoder().decode
_decode_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def read(text: bytes | memoryview, max_values: int = MAX_VALUES) -> Any:
    """Return the value of a JSON text.

    Raises:
        ParseError: it is no JSON, or has equal keys in one dictionary.
        BadParams: over a limit, or a value that cannot travel; the text says which.
    """
    steps = read_steps(text, max_values)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def read_steps(text: bytes | memoryview, max_values: int = MAX_VALUES) -> Generator[None, None, Any]:
    """Read a long JSON text in steps, as :func:`read`; an event loop can do other work in between."""
    text = bytes(text)
    flat, structure = yield from _structure(text, max_values)
    yield
    _check_depth(structure)
    digits = structure.translate(_ONE_DIGIT)
    has_long = b"0" * _LONG_NUMBER in digits
    if has_long and b"0" * (MAX_DIGITS + 1) in digits:
        raise BadParams(f"a number with more than {MAX_DIGITS} digits in a row")
    yield
    value = _decoded(text)
    yield
    if structure.count(b":") > 1:
        _check_keys(value, flat, has_long=has_long)
        yield
    if has_long or b"$" in text or b"\\u0024" in text:
        return (yield from _converted(value))
    return value


def parts_steps(text: bytes, max_values: int) -> Generator[None, None, list[bytes]]:
    """Split a JSON array into its elements as text, each to be read by itself.

    Raises:
        ParseError: it is no JSON array.
        BadParams: more values, or nested too deep.
    """
    _, structure = yield from _structure(text, max_values)
    yield
    _check_depth(structure, MAX_DEPTH + 1)
    try:
        return [*map(bytes, _decode_parts(text))]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error) from None


def _structure(text: bytes, max_values: int) -> Generator[None, None, tuple[bytes, bytes]]:
    """Return the text without escaped backslashes and quotes, and what of that is outside of strings.

    Raises:
        BadParams: it has more values.
    """
    flat = text
    if b"\\" in text:
        flat = flat.replace(b"\\\\", b"")
        yield
        flat = flat.replace(b'\\"', b"")
        yield
    # Each value and each key is one string at most, and each string has two quotes.
    if flat.count(b'"') > 4 * max_values:
        raise _too_many(max_values)
    structure = b"".join(flat.split(b'"')[::2])
    if structure.count(b",") + structure.count(b"[") + structure.count(b"{") >= max_values:
        raise _too_many(max_values)
    return flat, structure


def _check_depth(structure: bytes, max_depth: int = MAX_DEPTH) -> None:
    nested = structure.translate(_ONE_BRACKET, _NO_BRACKETS)
    for _ in range(max_depth):
        if not nested:
            return
        nested = nested.replace(b"[]", b"")  # the innermost level, and no other
    if b"[]" in nested:
        raise BadParams(f"JSON nested too deep: more than {max_depth} levels of lists and dictionaries")


def _decoded(text: bytes) -> Any:
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error) from None


def _no_json(error: Exception) -> ParseError:
    if isinstance(error, UnicodeDecodeError):
        return ParseError(f"not JSON: invalid UTF-8 ({error.reason})")
    if isinstance(error, RecursionError):
        return ParseError("not JSON: nested too deep")
    return ParseError(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}")


def _check_keys(value: Any, flat: bytes, *, has_long: bool) -> None:
    """Refuse equal keys: a colon of the text, in a string or behind a key, is missing in what was read."""
    colons = flat.count(b":") + flat.count(b"\\u003a") + flat.count(b"\\u003A")
    if has_long:
        _check_integers(value)
    if _encode(value).count(b":") != colons:
        raise ParseError("the same key twice in one dictionary: readers would differ in which one counts")


def _check_integers(value: Any) -> None:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if type(one) is int:
            _check_integer(one)
        elif type(one) is list:
            waiting += one
        elif type(one) is dict:
            waiting += one.values()


def _check_integer(value: int) -> None:
    if not LOWEST <= value <= HIGHEST:
        raise BadParams(
            f"an integer beyond 64 bits: {str(value)[:24]}… with {len(str(abs(value)))} digits; send it as text"
        )


def _converted(value: Any) -> Generator[None, None, Any]:
    """Return a value with its marked dictionaries replaced, innermost first."""
    outermost = [value]
    waiting: list[tuple[Any, Any]] = [(outermost, 0)]
    marked: list[tuple[Any, Any]] = []
    count = 0
    while waiting:
        holder, key = waiting.pop()
        one = holder[key]
        kind = type(one)
        if kind is int:
            _check_integer(one)
        elif kind is list:
            waiting += [(one, index) for index in range(len(one))]
        elif kind is dict:
            if is_marked(one):
                marked.append((holder, key))
                if type(inner := one.get("$d")) is dict:
                    one = inner  # its own key is no mark
            waiting += [(one, name) for name in one]
        count += 1
        if not count % _STEP:
            yield
    for holder, key in reversed(marked):
        try:
            holder[key] = unmark(holder[key])
        except ValueRefused as error:
            raise BadParams(str(error)) from None
    return outermost[0]


def _too_many(max_values: int) -> BadParams:
    return BadParams(f"more than {max_values} values in one JSON text: send fewer at once")
