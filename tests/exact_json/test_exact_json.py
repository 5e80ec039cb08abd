"""JSON in and out: exact both ways, and nothing in it that two readers could understand differently."""

import json
import math
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from co2.errors import BadParams, ParseError, PeerError, ValueRefused
from co2.exact_json.messages import PROTOCOL_KEYS, message_in, message_out
from co2.exact_json.reader import MAX_DEPTH, MAX_VALUES, parts_steps, read, read_steps
from co2.exact_json.statuses import STATUSES, status_of
from co2.exact_json.writer import is_short, write, write_exact
from co2.values import pack, pack_value, unpack, unpack_value

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "json.md"

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.just(math.nan)  # its sign and payload do not travel
    | st.text()
    | st.binary(max_size=20)
    | st.datetimes(timezones=st.just(UTC))
)
keys = st.text() | st.sampled_from(["$b", "$d", "$", "$x"])
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Whether two decoded values are the same, types included; NaN is NaN here, and 0.0 not -0.0."""
    return pack_value(one) == pack_value(other)


@settings(deadline=None)
@given(values)
def test_what_can_travel_is_the_same_after_json(value: Any) -> None:
    value = unpack_value(pack_value(value))
    text = write(value)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert same(read(text), value)


@settings(deadline=None)
@given(values)
def test_what_another_encoder_writes_is_read_as_it_meant_it(value: Any) -> None:
    """Escapes instead of UTF-8, spaces, and keys in another order change nothing."""
    value = unpack_value(pack_value(value))
    assert same(read(json.dumps(json.loads(write(value)), indent=1).encode()), value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"$b": "aGFt"}', b"ham"),
        ('{"$f": "-inf"}', -math.inf),
        ('{"$i": "18446744073709551615"}', 2**64 - 1),
        ('{"$t": "2026-12-01T08:00:00+01:00"}', datetime(2026, 12, 1, 8, tzinfo=timezone(timedelta(hours=1)))),
        ('{"$m": [[1, "a"], [{"$b": "aGFt"}, {"$f": "inf"}]]}', {1: "a", b"ham": math.inf}),
        ('{"$d": {"$b": 1}}', {"$b": 1}),
        ('{"$d": {"$d": {"$b": "aGFt"}}}', {"$d": {"$b": "aGFt"}}),
        ('{"$d": {"$q": {"$b": "aGFt"}}}', {"$q": b"ham"}),
        ('{"$b": 1, "$f": 2}', {"$b": 1, "$f": 2}),
        ('{"\\u0024b": "aGFt"}', b"ham"),
        ("-0.0", -0.0),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ('{"a:\\u003a\\\\u003a": ":", "b": "\\":"}', {"a::\\u003a": ":", "b": '":'}),
    ],
)
def test_marked_and_other_values(text: str, value: Any) -> None:
    found = read(text.encode())
    if text == '{"$d": {"$d": {"$b": "aGFt"}}}':  # the inner one is a mark again: it holds a dictionary, too
        value = {"$d": b"ham"}
    assert found == value
    assert type(found) is type(value)


def test_an_extension() -> None:
    found = read(b'{"$x": [5, "aGFt"]}')
    assert (found.code, found.data) == (5, b"ham")
    assert write(msgspec.msgpack.Ext(-1, b"ham")) == b'{"$x":[-1,"aGFt"]}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not JSON"),
        (b"NaN", "not JSON"),
        (b"[Infinity]", "not JSON"),
        (b"1e400", "not JSON"),
        (b"01", "not JSON"),
        (b"'a'", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"1 2", "not JSON"),
        (b"// a\n1", "not JSON"),
        (b"\xef\xbb\xbf1", "not JSON"),
        (b'"\x01"', "not JSON"),
        (b'"\\ud800"', "not JSON"),
        (b'"\\udc00\\ud800"', "not JSON"),
        (b'"\xed\xa0\x80"', "invalid UTF-8"),
        (b'"\xff"', "invalid UTF-8"),
        (b'{"a": 1, "a": 1}', "the same key twice"),
        (b'{"a": 1, "\\u0061": 2}', "the same key twice"),
        (b'[{"b": {"a:": 1, "c": {}, "a:": ":"}}]', "the same key twice"),
    ],
)
def test_no_json(text: bytes, says: str) -> None:
    with pytest.raises(ParseError, match=says):
        read(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"18446744073709551616", "beyond 64 bits"),
        (b'{"a": [-9223372036854775809]}', "beyond 64 bits"),
        (b'{"a": 1, "b": ' + b"9" * 400 + b"}", "beyond 64 bits"),
        (b"0." + b"1" * 401, "more than 400 digits"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested too deep"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "nested too deep"),
        (b"[" + b"[],1," * MAX_VALUES + b"1]", f"more than {MAX_VALUES} values"),
        (b"[" + b'"",' * MAX_VALUES + b'""]', f"more than {MAX_VALUES} values"),
        (b'{"$q": 1}', "no such mark"),
        (b'[{"$": {}}]', "no such mark"),
        (b'{"$b": "a"}', r"\$b"),
        (b'{"$b": "aGF0\xc3\xa9"}', r"\$b"),
        (b'{"$b": 1}', r"\$b"),
        (b'{"$f": "1.5"}', r"\$f"),
        (b'{"$i": "1_0"}', r"\$i"),
        (b'{"$i": "18446744073709551616"}', r"\$i"),
        (b'{"$t": "2026-12-01T08:00:00"}', r"\$t"),
        (b'{"$t": "yesterday"}', r"\$t"),
        (b'{"$m": [[1, 2], [1, 3]]}', r"\$m"),
        (b'{"$m": [[{}, 2]]}', r"\$m"),
        (b'{"$x": [128, ""]}', r"\$x"),
        (b'{"$d": 1}', r"\$d"),
    ],
)
def test_json_that_cannot_travel(text: bytes, says: str) -> None:
    with pytest.raises(BadParams, match=says):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH,
        b"[" + b"1," * (MAX_VALUES - 2) + b"1]",
        b'["' + b",[{:" * 100_000 + b'"]',
        b'["' + b'\\"' * 100_000 + b'"]',
        b'["' + b"\\\\" * 100_000 + b'"]',
    ],
)
def test_just_within_the_limits(text: bytes) -> None:
    assert read(text) == json.loads(text)


@settings(deadline=None)
@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\$bu0a1 ', max_size=40).map(str.encode))
def test_a_text_is_read_as_the_standard_library_does_or_refused(text: bytes) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    try:
        found = read(text)
    except PeerError:
        return
    assert b"$" in text or b"u0024" in text or found == json.loads(text, object_pairs_hook=unique)


def test_a_long_text_is_read_in_steps() -> None:
    steps = read_steps(b'{"a": "' + b"\\n" * 500_000 + b'", "b": 1}')
    assert len([*steps]) >= 3


def test_a_list_is_split_into_its_elements() -> None:
    def parts(text: bytes) -> list[bytes]:
        steps = parts_steps(text, 10)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    assert parts(b' [1, {"a": [2]} ,"b"] ') == [b"1", b'{"a": [2]}', b'"b"']
    with pytest.raises(BadParams):
        parts(b"[1,2,3,4,5,6,7,8,9,0,1]")
    with pytest.raises(ParseError):
        parts(b'{"a": 1}')


def test_short_values() -> None:
    assert is_short({"a": ["b"] * 10}, 100)
    assert not is_short({"a": ["b"] * 100}, 100)
    assert not is_short("x" * 101, 100)
    assert not is_short([[[]] * 30] * 30, 100)


def test_the_depth_of_what_is_written_has_no_other_limit_than_that_of_the_stack() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueRefused):
        write(deep)


def test_a_message() -> None:
    found = message_in({"channel": "a.b", "data": 1, "live": True, "ham": 2, "keys": {"id": 3}})
    assert (found.channel, found.is_live) == ("a.b", True)
    assert unpack(found.packed) == {"channel": "a.b", "data": 1, "ham": 2, "id": 3}
    told = message_out(found.packed, {"position": 7, "host_id": "x", "plugin": ""})
    assert [*told.items()] == [
        *(("position", 7), ("host_id", "x"), ("plugin", ""), ("channel", "a.b"), ("data", 1), ("ham", 2)),
        ("keys", {"id": 3}),
    ]


def test_what_came_out_goes_in_again_without_the_envelope() -> None:
    packed = pack({"data": {"$b": 1}, "live": False, "keys": 2, "position": 3, "spam": b"x"})
    told = json.loads(write_exact(message_out(packed, {})))
    assert unpack(message_in(read(json.dumps(told).encode())).packed) == unpack(packed)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (1, "a message must be a dictionary"),
        ({}, "'data' is mandatory"),
        ({1: 2, "data": 1}, "must be text"),
        *(({key: 1, "data": 1}, f"'{key}'") for key in sorted(PROTOCOL_KEYS)),
        ({"data": 1, "live": True}, "needs a channel"),
        ({"data": 1, "channel": "x" * 257}, "at most 256 bytes"),
        ({"data": "x" * 800_000}, "the limit is"),
    ],
)
def test_no_message(value: Any, says: str) -> None:
    with pytest.raises(BadParams, match=says):
        message_in(value)


def test_the_page_has_every_status() -> None:
    rows = re.findall(r"^\| (\d{3}) \|[^|]*\| ([^|]*) \|", DOCS.read_text(), re.M)
    told = {int(code): int(status) for status, codes in rows for code in re.findall(r"-?\d{4,5}", codes)}
    assert told == STATUSES
    assert status_of(4711) == 502
