"""Datagrams: what is built is parsed again, what is broken is refused and never hangs."""

import contextlib
import math
import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_message_builder import OscMessageBuilder

from co2.plugins.osc.packets import (
    IMMEDIATELY,
    MAX_ARRAY_DEPTH,
    MAX_BUNDLE_DEPTH,
    MalformedPacket,
    OscBundle,
    OscMessage,
    Unsendable,
    build,
    fits,
    infer_types,
    parse,
)

uint32 = st.integers(0, 2**32 - 1)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
typed = st.one_of(
    st.tuples(st.just("i"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("h"), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just("f"), st.floats(width=32, allow_nan=False)),
    st.tuples(st.just("d"), st.floats(allow_nan=False)),
    st.tuples(st.sampled_from("sS"), text),
    st.tuples(st.just("b"), st.binary(max_size=20)),
    st.tuples(st.just("c"), st.characters(exclude_categories=["Cs"])),
    st.tuples(st.just("r"), uint32),
    st.tuples(st.just("m"), st.lists(st.integers(0, 255), min_size=4, max_size=4)),
    st.tuples(st.just("t"), st.lists(uint32, min_size=2, max_size=2)),
    st.sampled_from([("T", True), ("F", False), ("N", None), ("I", True)]),
)


def as_array(items):
    return "[" + "".join(tag for tag, _ in items) + "]", [value for _, value in items]


arguments = st.lists(st.recursive(typed, lambda inner: st.lists(inner, max_size=3).map(as_array)), max_size=6)
messages = st.builds(
    lambda address, items: OscMessage("/" + address, "".join(t for t, _ in items), [v for _, v in items]),
    text,
    arguments,
)
packets = st.recursive(
    messages,
    lambda inner: st.builds(
        lambda time, elements: OscBundle(time, tuple(elements)),
        st.tuples(uint32, uint32),
        st.lists(inner, max_size=3),
    ),
    max_leaves=5,
)


@given(packets)
def test_what_is_built_is_parsed_again(packet):
    datagram = build(packet)
    assert len(datagram) % 4 == 0
    assert parse(datagram) == packet


@given(packets, st.data())
def test_a_damaged_datagram_is_osc_or_malformed(packet, data):
    datagram = bytearray(build(packet))
    cut = data.draw(st.integers(0, len(datagram)))
    datagram = datagram[:cut]
    for _ in range(data.draw(st.integers(0, 3)) if datagram else 0):
        datagram[data.draw(st.integers(0, len(datagram) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedPacket):
        parse(bytes(datagram))


@given(st.binary(max_size=60))
def test_noise_is_osc_or_malformed(noise):
    for datagram in (noise, b"/" + noise, b"#bundle\0" + noise):
        with contextlib.suppress(MalformedPacket):
            parse(datagram)


@given(st.floats(width=32, allow_nan=False))
def test_a_32_bit_float_comes_back_exactly_with_inferred_types(value):
    assert parse(build(OscMessage("/x", infer_types([value]), [value]))).args == [value]


def test_python_osc_agrees_with_us():
    builder = OscMessageBuilder("/stage/fader1")
    for value in (3, 0.5, "nih", b"\x00\xff", True, False, None, [1, "a"], 2**40):
        builder.add_arg(value)
    ours = OscMessage(
        "/stage/fader1", "ifsbTFN[is]h", [3, 0.5, "nih", b"\x00\xff", True, False, None, [1, "a"], 2**40]
    )
    assert build(ours) == builder.build().dgram
    assert parse(builder.build().dgram) == ours


@pytest.mark.parametrize(
    ("name", "datagram"),
    [
        ("empty", b""),
        ("neither message nor bundle", b"hello\0\0\0"),
        ("address without end", b"/abc"),
        ("tags without comma", b"/a\0\0if\0\0"),
        ("tags without end", b"/a\0\0,iii"),
        ("argument missing", b"/a\0\0,i\0\0"),
        ("argument cut", b"/a\0\0,i\0\0\0\0"),
        ("unknown tag", b"/a\0\0,q\0\0\0\0\0\1"),
        ("not UTF-8", b"/\xff\0\0,\0\0\0"),
        ("blob of negative size", b"/a\0\0,b\0\0\xff\xff\xff\xff"),
        ("blob longer than the datagram", b"/a\0\0,b\0\0\x7f\xff\xff\xff"),
        ("character out of range", b"/a\0\0,c\0\0\x7f\xff\xff\xff"),
        ("half a surrogate", b"/a\0\0,c\0\0\0\0\xd8\0"),
        ("array that does not begin", b"/a\0\0,]\0\0"),
        ("array that does not end", b"/a\0\0,[\0\0"),
        ("bundle without time", b"#bundle\0\0\0"),
        ("element of negative size", b"#bundle\0" + bytes(8) + b"\xff\xff\xff\xfc" + b"/a\0\0,\0\0\0"),
        ("element of size 0", b"#bundle\0" + bytes(8) + bytes(4)),
        ("element longer than the bundle", b"#bundle\0" + bytes(8) + b"\0\0\1\0/a\0\0,\0\0\0"),
        ("element that is no packet", b"#bundle\0" + bytes(8) + b"\0\0\0\4abcd"),
    ],
)
def test_malformed(name, datagram):
    with pytest.raises(MalformedPacket):
        parse(datagram)


def test_nesting_has_a_limit():
    inner = build(OscMessage("/a", "", []))
    for _ in range(MAX_BUNDLE_DEPTH + 1):
        inner = b"#bundle\0" + bytes(8) + len(inner).to_bytes(4, "big") + inner
    with pytest.raises(MalformedPacket, match="nested deeper"):
        parse(inner)
    tags = b"," + b"[" * 5000 + b"]" * 5000
    with pytest.raises(MalformedPacket, match="nested deeper"):
        parse(b"/a\0\0" + tags + bytes(4 - len(tags) % 4))
    deep: list = []
    for _ in range(MAX_ARRAY_DEPTH + 1):
        deep = [deep]
    with pytest.raises(Unsendable):
        infer_types([deep])


def test_a_sender_that_leaves_out_type_tags_or_trailing_zeros():
    assert parse(b"/a\0\0") == OscMessage("/a", "", [])
    assert parse(b"/a\0\0,f\0\0" + struct.pack(">f", 0.5)[:2]).args == [0.5]


@pytest.mark.parametrize(
    ("value", "types"),
    [
        (True, "T"),
        (False, "F"),
        (None, "N"),
        (2**31 - 1, "i"),
        (2**31, "h"),
        (-(2**63), "h"),
        (0.1, "f"),
        (1e300, "d"),
        (1893456000.25, "d"),
        (-(2.0**24), "d"),
        (2.0**24 - 1, "f"),
        (math.inf, "f"),
        ("nih", "s"),
        (b"", "b"),
        ([1, [2.0]], "[i[f]]"),
        (datetime(2003, 8, 28, tzinfo=UTC), "t"),
    ],
)
def test_types_are_inferred(value, types):
    assert infer_types([value]) == types
    assert fits([value], types)


def test_a_time_is_written_as_ntp():
    moment = datetime(1900, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert parse(build(OscMessage("/t", "t", [moment]))).args == [[1, 2**31]]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, object(), {"a": 1}])
def test_what_osc_has_no_type_for(value):
    with pytest.raises(Unsendable):
        infer_types([value])


@pytest.mark.parametrize(
    ("args", "types"),
    [
        ([1], ""),
        ([], "i"),
        ([1.5], "i"),
        ([True], "i"),
        ([2**31], "i"),
        ([1e300], "f"),
        (["a\0b"], "s"),
        (["\ud800"], "s"),
        (["ab"], "c"),
        ([[1, 2, 3]], "m"),
        ([[1, 2, 3, 256]], "m"),
        ([[1]], "t"),
        ([1], "T"),
        ([1], "q"),
        ([1], "[i]"),
        ([[1, 2]], "[i]"),
        ([[1]], "[i"),
        ([1], "i]"),
        ([-1], "r"),
        (["x"], "b"),
    ],
)
def test_types_that_do_not_fit(args, types):
    assert not fits(args, types)
    with pytest.raises(Unsendable):
        build(OscMessage("/a", types, args))


def test_a_packet_that_is_too_big_or_has_no_address():
    with pytest.raises(Unsendable, match="65507"):
        build(OscMessage("/a", "b", [bytes(66_000)]))
    with pytest.raises(Unsendable, match="starts with"):
        build(OscMessage("a", "", []))
    assert parse(build(OscBundle(IMMEDIATELY, ()))) == OscBundle((0, 1), ())
