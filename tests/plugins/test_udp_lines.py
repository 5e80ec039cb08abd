"""Lines of datagrams: what is read, what is refused, what a message looks like."""

import contextlib
import json
import math
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.plugins.udp.lines import (
    MAX_DATAGRAM_SIZE,
    MAX_DEPTH,
    MAX_DEPTH_OUT,
    MAX_LINES,
    MAX_PATTERNS,
    MalformedLine,
    NetworkMessage,
    Ping,
    Subscribe,
    Unwritable,
    lines_of,
    parse,
    write,
)
from co2.plugins.udp.settings import name_of
from co2.plugins.udp.udp import MAX_ERROR
from co2.values import pack, unpack

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(texts, inner, max_size=3),
    ),
    max_leaves=8,
)


@given(values, texts)
def test_what_json_can_say_comes_in_and_goes_out_again(value, channel):
    line = json.dumps({"data": value, "channel": channel}).encode()
    said = parse(line)
    assert said == NetworkMessage({"data": value, "channel": channel})
    arrived = unpack(pack(said.message))
    assert json.loads(write(arrived)) == {"data": value, "channel": channel}
    assert write(arrived).endswith(b"\n") and write(arrived).count(b"\n") == 1


@given(st.binary(max_size=60))
def test_noise_is_a_line_or_malformed(noise):
    for datagram in (noise, b"{" + noise + b"}", b'{"data":' + noise + b"}", b'{"subscribe":' + noise + b"}"):
        with contextlib.suppress(MalformedLine):
            for line in lines_of(datagram):
                with contextlib.suppress(MalformedLine):
                    parse(line)


@given(values, st.sampled_from(["data", "subscribe", "ping"]), st.data())
def test_a_damaged_line_is_a_line_or_malformed(value, key, data):
    line = bytearray(json.dumps({key: value}).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedLine):
        read = parse(bytes(line))
        assert isinstance(read, NetworkMessage | Subscribe | Ping)


@given(values)
def test_a_pong_says_what_the_ping_said_and_is_no_longer(value):
    line = json.dumps({"ping": value}, separators=(",", ":")).encode()
    pong = b'{"pong":' + parse(line).token + b"}"
    assert json.loads(pong) == {"pong": value}
    assert len(pong) <= len(line)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"7", "object"),
        (b"{}", "exactly one"),
        (b'{"date": 1}', "exactly one"),
        (b'{"data": 1, "ping": 1}', "exactly one"),
        (b'{"data": 1, "channel": 7}', "channel"),
        (b'{"data": NaN}', "JSON"),
        (b'{"data": "\xff"}', "JSON"),
        (b'{"data": "\\ud800"}', "JSON"),
        (b'{"data": 1} x', "JSON"),
        (b'{"subscribe": "a"}', "list"),
        (b'{"subscribe": [1]}', "list"),
        (b'{"subscribe": ["a..b"]}', "pattern"),
        (b'{"subscribe": [">.a"]}', "pattern"),
        (b'{"subscribe": [""]}', "pattern"),
        (json.dumps({"subscribe": ["a"] * (MAX_PATTERNS + 1)}).encode(), "list"),
        (json.dumps({"subscribe": ["a" * 257]}).encode(), "list"),
        (b'{"data": ' + b"[" * (MAX_DEPTH) + b"]" * (MAX_DEPTH) + b"}", "nested"),
        (b'{"data": ' + b"[" * 4000 + b"]" * 4000 + b"}", "nested"),
        (b'{"data": ' + b'{"a":' * 1500 + b"1" + b"}" * 1500 + b"}", "nested"),
    ],
)
def test_malformed(line, why):
    with pytest.raises(MalformedLine, match=why) as caught:
        parse(line)
    assert len(str(caught.value)) <= 200


INTEGERS = "integers must be from -9223372036854775808 to 18446744073709551615; send it as text, in quotes"
FLOATS = "numbers must be from -1.79e308 to 1.79e308; send it as text, in quotes"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("18446744073709551616", f"18446744073709551616 is out of range: {INTEGERS}"),
        ("-9223372036854775809", f"-9223372036854775809 is out of range: {INTEGERS}"),
        ("7" * 5000, f"{'7' * 24}… is out of range: {INTEGERS}"),
        ("1e999", f"1e999 is out of range: {FLOATS}"),
        (f"-{'8' * 400}.5", f"-{'8' * 23}… is out of range: {FLOATS}"),
    ],
)
@pytest.mark.parametrize("line", ['{"data": %s}', '{"data": ["1e999", "\\"18446744073709551617", 1, {"a": %s}]}'])
def test_a_number_out_of_range_is_told_with_its_bounds(line, number, told):
    with pytest.raises(MalformedLine) as caught:
        parse((line % number).encode())
    assert str(caught.value) == told
    assert len(told) <= MAX_ERROR


def test_numbers_in_range_and_those_in_texts_pass():
    said = {"data": [2**64 - 1, -(2**63), 1.5e300, "9" * 5000, '"' + "9" * 30], "9" * 40: "1e999"}
    assert parse(json.dumps(said).encode()) == NetworkMessage(said)
    assert json.loads(parse(b'{"ping": 18446744073709551616}').token) == 2**64


def test_nesting_up_to_the_limit():
    line = b'{"data": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    assert isinstance(parse(line), NetworkMessage)


def test_nobody_says_who_a_message_is_from():
    line = b'{"data":1,"host_id":"a","client_address":"b","origin_host_id":"c","udp":"d","unit":"dB"}'
    assert parse(line) == NetworkMessage({"data": 1, "unit": "dB"})


def test_a_datagram_holds_one_or_several_lines():
    assert [*lines_of(b'{"data":1}')] == [b'{"data":1}']
    assert [*lines_of(b' {"data":1} \r\n\n{"data":2}\n')] == [b'{"data":1}', b'{"data":2}']
    given_before = []
    with pytest.raises(MalformedLine, match="lines"):
        given_before += [*lines_of(b"{}\n" * MAX_LINES)]
        for line in lines_of(b"{}\n" * (MAX_LINES + 1)):
            given_before.append(line)
    assert len(given_before) == 2 * MAX_LINES
    with pytest.raises(MalformedLine, match="bytes"):
        next(lines_of(b" " * (MAX_DATAGRAM_SIZE + 1)))


def test_what_json_has_no_form_for():
    message = {
        "data": [math.nan, math.inf, b"\0\xff", datetime(2003, 8, 28, tzinfo=UTC)],
        "client_address": ("127.0.0.1", 1),
    }
    assert json.loads(write(message)) == {"data": [None, None, "AP8=", "2003-08-28T00:00:00Z"]}
    odd = {"data": {None: 1, True: [2], b"\0": 3, 4: msgspec.msgpack.Ext(1, b"\xff")}}
    assert json.loads(write(odd)) == {"data": {"None": 1, "True": [2], "AA==": 3, "4": "/w=="}}


def test_what_is_too_long_or_too_deep_does_not_go_out():
    assert len(write({"data": "x" * (MAX_DATAGRAM_SIZE - 12)})) == MAX_DATAGRAM_SIZE
    with pytest.raises(Unwritable, match="bytes"):
        write({"data": "x" * (MAX_DATAGRAM_SIZE - 11)})
    for depth in (MAX_DEPTH_OUT + 1, 2000, 3000, 5000):
        with pytest.raises(Unwritable, match="deep"):
            write({"data": nested(depth - 1)})
    assert write({"data": nested(MAX_DEPTH_OUT - 1)}) == b'{"data":' + b"[" * 255 + b"]" * 255 + b"}\n"
    assert len(write({"data": ["[" * 1000, {}, []] * 7})) > 7000  # many brackets are no depth


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_a_subscription_is_to_patterns_of_the_network():
    wanted = parse(b'{"subscribe": ["stage.*", "lab.>"]}')
    assert isinstance(wanted, Subscribe)
    assert [
        channel for channel in ("stage.a", "stage.a.b", "lab.a.b", "lab", "") if channel in wanted.channels
    ] == [
        "stage.a",
        "lab.a.b",
    ]
    with pytest.raises(MalformedLine, match="'f\\*' would match only literally"):
        parse(b'{"subscribe": ["stage.f*"]}')


def test_names_of_addresses():
    assert name_of(("127.0.0.1", 7)) == "127.0.0.1:7"
    assert name_of(("fe80::1%eth0", 7, 0, 2)) == "[fe80::1%eth0]:7"
