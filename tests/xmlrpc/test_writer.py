"""The writer is total, and what it writes can be read by us and by the standard library."""

import enum
import itertools
import time
import xmlrpc.client
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from msgspec.msgpack import Ext

from co2.errors import RemoteFault, ValueRefused
from co2.xmlrpc.reader import read_call, read_response
from co2.xmlrpc.writer import (
    LONG,
    LONG_TEXT,
    STEP,
    LazyArray,
    Written,
    WrittenValue,
    response_steps,
    write_call,
    write_fault,
    write_response,
    write_value,
)
from tests.xmlrpc.strategies import decoded, exact


def pieces_of(value: Any) -> list[bytes]:
    """Return the pieces of an answer, however many steps they take."""
    steps = response_steps(value)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def echo(value: Any) -> Any:
    return read_response(write_response(write_value(value)))


def stdlib(document: bytes) -> Any:
    return xmlrpc.client.loads(document, use_builtin_types=True)


def naive(value: Any) -> Any:
    """The standard library knows no zones."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, list):
        return [naive(item) for item in value]
    return {key: naive(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(exact)
@example("\r\n \r")
@example("]]>")
@example({"\r": "&amp;"})
def test_what_xml_rpc_can_carry_comes_back_as_it_was(value: Any) -> None:
    assert echo(value) == value
    assert repr(echo(value)) == repr(value)


@given(decoded)
@example(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))))
@example({1: "a", "1": "b", "1#2": "c", b"1": "d", None: 1, "None": 2})
def test_everything_can_be_written_and_read_by_both(value: Any) -> None:
    document = write_response(write_value(value))
    ours = read_response(document)
    ((theirs,), _) = stdlib(document)
    assert repr(theirs) == repr(naive(ours))


@given(decoded)
def test_no_key_is_lost(value: Any) -> None:
    def count(item: Any) -> int:
        if isinstance(item, dict):
            return len(item) + sum(map(count, item.values()))
        return sum(map(count, item)) if isinstance(item, list | tuple) else 0

    assert count(echo(value)) == count(value)


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (2**31, 2**31),
        (2**63, str(2**63)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (float("nan"), None),
        (float("-inf"), None),
        ("a\x00b", b"a\x00b"),
        ("\ud800", b"\xed\xa0\x80"),
        ("\ufffe", "\ufffe".encode()),
        (bytearray(b"ni"), b"ni"),
        ((1, 2), [1, 2]),
        (Ext(5, b"\x01"), b"\x01"),
        (datetime(2003, 8, 28, 12, tzinfo=timezone(timedelta(hours=2))), datetime(2003, 8, 28, 10, tzinfo=UTC)),
        (datetime(2003, 8, 28, 12, 0, 1, 999), datetime(2003, 8, 28, 12, 0, 1, tzinfo=UTC)),
        ({"a\x00": 1, "a\\x00": 2}, {"a\\x00": 1, "a\\x00#2": 2}),
        ({"\ud800": 1}, {"\\ud800": 1}),
        ({b"\x00": 1, 7: 2}, {"AA==": 1, "7": 2}),
    ],
)
def test_documented_forms_of_what_xml_rpc_has_no_word_for(value: Any, arrives: Any) -> None:
    assert echo(value) == arrives
    assert type(echo(value)) is type(arrives)


@pytest.mark.parametrize("length", [LONG_TEXT, LONG_TEXT + 1, LONG + 1])
@pytest.mark.parametrize("letter", ["x", "\u00fc", "\u20ac", "\U0001f3b9"])
@pytest.mark.parametrize(
    "special", ["", " ", "<", "&", "\r", "\x00", "\x1f", "\x7f", "\ufffe", "\uffff", "\ud800"]
)
def test_a_long_text_arrives_as_a_short_one_does(length: int, letter: str, special: str) -> None:
    short, long = letter + special, letter * length + special
    arrived = echo(long)
    assert type(arrived) is type(echo(short))
    assert (arrived if isinstance(arrived, str) else arrived.decode("utf-8", "surrogatepass")) == long


def test_subclasses_are_written_as_what_they_are() -> None:
    class Number(enum.IntEnum):
        ONE = 1

    class Text(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "something else"

    assert echo([Number.ONE, Text("a")]) == [1, "a"]


class Anything:
    def __init__(self) -> None:
        self.secret = "canary"


@pytest.mark.parametrize("value", [Anything(), object, {1, 2}, 1j, lambda: 0])
def test_the_list_of_types_is_closed(value: Any) -> None:
    with pytest.raises(ValueRefused) as caught:
        write_value([{"a": value}])
    assert "canary" not in str(caught.value)


def test_depth_costs_no_stack() -> None:
    value: Any = "core"
    for number in range(3000):
        value = [value] if number % 2 else {"a": value}
    found = echo(value)
    for number in reversed(range(3000)):
        found = found[0] if number % 2 else found["a"]
    assert found == "core"


def test_many_keys_of_one_text_are_not_searched_one_by_one() -> None:
    keys = ["".join(parts) for parts in itertools.product(("\x00", "\\x00"), repeat=13)]
    start = time.process_time()
    assert len(echo(dict.fromkeys(keys, 1))) == 2**13
    assert time.process_time() - start < 3


def test_what_is_written_already_stands_for_itself() -> None:
    written = Written(write_value({"a": "\u20ac"}))
    assert echo({"list": [written, 1], "own": written}) == {"list": [{"a": "\u20ac"}, 1], "own": {"a": "\u20ac"}}
    assert echo(written) == {"a": "\u20ac"}


def test_calls_are_read_by_both() -> None:
    document = write_call("ham.spam", [write_value(1), write_value("x")])
    assert stdlib(document) == ((1, "x"), "ham.spam")
    assert (read_call(document).method, read_call(document).params) == ("ham.spam", [1, "x"])


@pytest.mark.parametrize("text", ["", "no", "<&>\r\n\u20ac", "bad \x00\x1b[2J\ud800"])
def test_faults_are_read_by_both(text: str) -> None:
    document = write_fault(-32601, text)
    with pytest.raises(RemoteFault) as ours:
        read_response(document)
    with pytest.raises(xmlrpc.client.Fault) as theirs:
        stdlib(document)
    assert (ours.value.code, ours.value.text) == (theirs.value.faultCode, theirs.value.faultString)
    assert "\x00" not in ours.value.text


@pytest.mark.parametrize("kind", [Written, lambda xml: WrittenValue(xml, None)])
def test_what_is_long_and_written_already_is_copied_for_no_answer(kind: Any) -> None:
    long = write_value("x" * LONG)
    value = {"before": 1, "messages": [Written(write_value(2)), kind(long), "\u00fc", kind(long)], "next": 3}
    pieces = pieces_of(value)
    assert [piece is long for piece in pieces].count(True) == 2
    plain = {"before": 1, "messages": [2, "x" * LONG, "\u00fc", "x" * LONG], "next": 3}
    assert b"".join(pieces) == write_response(write_value(plain)) == write_response(write_value(value))


def test_a_long_result_that_is_written_already_is_a_piece_of_its_answer() -> None:
    long = write_value(["x" * LONG])
    pieces = pieces_of(WrittenValue(long, ["x" * LONG]))
    assert any(piece is long for piece in pieces)
    assert read_response(b"".join(pieces)) == ["x" * LONG]


@given(decoded)
def test_the_pieces_of_any_answer_are_the_answer(value: Any) -> None:
    assert b"".join(pieces_of(value)) == write_response(write_value(value))


def test_a_long_answer_is_encoded_in_steps_of_half_a_millisecond() -> None:
    value = [{"name": f"n{n}", "values": [1, None, "<&>", b"x"]} for n in range(5_000)]
    assert len(list(response_steps(value))) >= 5_000 * 8 // STEP
    assert read_response(b"".join(pieces_of(value))) == value


class Counted(LazyArray):
    """An array that counts how many of its elements were produced."""

    def __init__(self) -> None:
        self.produced = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(10_000):
            self.produced += 1
            yield number


def test_a_lazy_array_is_produced_while_it_is_encoded() -> None:
    array = Counted()
    steps = response_steps({"rows": array})
    next(steps)
    assert 0 < array.produced < 2 * STEP
    assert read_response(b"".join(pieces_of({"rows": Counted()}))) == {"rows": [*range(10_000)]}


def test_a_value_that_must_be_longer_than_allowed_is_refused_before_it_is_written() -> None:
    assert write_value([None] * 10, 1000) == write_value([None] * 10)
    with pytest.raises(ValueRefused, match="100 values, which take more than 1000 bytes"):
        write_value([None] * 100, 1000)
    with pytest.raises(ValueRefused, match="more than 1000 bytes"):
        write_value([[None] * 30] * 30, 1000)
