"""Datagrams: what is built is parsed again, what is broken is refused and never hangs."""

import contextlib
import math
import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc import osc_bundle, osc_message
from pythonosc.osc_bundle_builder import OscBundleBuilder
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


# What python-osc speaks: not S, c, t and I, and it writes no empty blob. An array's type is a list of types.
spoken = st.recursive(
    typed.filter(lambda item: item[0] in "ihfdsbrmTFN" and item[1] != b""),
    lambda inner: st.lists(inner, max_size=3).map(
        lambda items: ([kind for kind, _ in items], [value for _, value in items])
    ),
)
spoken_messages = st.tuples(text, st.lists(spoken, max_size=6))


def tags_of(kind: str | list) -> str:
    return kind if isinstance(kind, str) else "[" + "".join(map(tags_of, kind)) + "]"


def ours(address: str, items: list) -> OscMessage:
    return OscMessage("/" + address, "".join(tags_of(kind) for kind, _ in items), [value for _, value in items])


def theirs(address: str, items: list) -> osc_message.OscMessage:
    builder = OscMessageBuilder("/" + address)
    for kind, value in items:
        builder.add_arg(value, kind)
    return builder.build()


def plain(value):
    """python-osc gives MIDI as a tuple."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


@given(spoken_messages)
def test_a_message_of_python_osc_is_read_and_written_alike(message):
    datagram = theirs(*message).dgram
    assert parse(datagram) == ours(*message)
    assert build(ours(*message)) == datagram


@given(spoken_messages)
def test_python_osc_reads_a_message_of_ours(message):
    read = osc_message.OscMessage(build(ours(*message)))
    assert (read.address, plain(read.params)) == ("/" + message[0], [value for _, value in message[1]])


@given(st.lists(spoken_messages, max_size=3), st.lists(spoken_messages, max_size=3), st.integers(1, 2**31 - 2**26))
def test_a_bundle_of_python_osc_is_read_and_written_alike(outer, inner, seconds):
    inside = OscBundleBuilder(0)  # at once
    around = OscBundleBuilder(seconds)
    for message in inner:
        inside.add_content(theirs(*message))
    for message in outer:
        around.add_content(theirs(*message))
    around.add_content(inside.build())
    datagram = around.build().dgram
    at_once = OscBundle(IMMEDIATELY, tuple(ours(*message) for message in inner))
    bundle = OscBundle((seconds + 2_208_988_800, 0), (*(ours(*message) for message in outer), at_once))
    assert parse(datagram) == bundle
    assert build(bundle) == datagram
    assert osc_bundle.OscBundle(build(bundle)).num_contents == len(outer) + 1


@given(st.text("ihdsrmTFN[]", max_size=6), st.binary(max_size=40))
def test_noise_is_read_as_python_osc_reads_it(tags, noise):
    """But for two types: it takes a blob without padding, and no second float that is missing."""
    datagram = b"/a\0\0" + f",{tags}".encode() + bytes(4 - len(f",{tags}") % 4) + noise
    try:
        expected = osc_message.OscMessage(datagram).params
    except (osc_message.ParseError, UnicodeDecodeError):
        with pytest.raises(MalformedPacket):
            parse(datagram)
        return
    assert repr(parse(datagram).args) == repr(plain(expected))  # nan is not nan


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
        ("64 bit integer cut", b"/a\0\0,h\0\0\0\0\0\0"),
        ("double cut", b"/a\0\0,d\0\0\0\0\0\0"),
        ("colour cut", b"/a\0\0,r\0\0\0\0"),
        ("MIDI cut", b"/a\0\0,m\0\0\0\0\0"),
        ("time cut", b"/a\0\0,t\0\0\0\0\0\0"),
        ("character cut", b"/a\0\0,c\0\0\0\0"),
        ("string missing", b"/a\0\0,s\0\0"),
        ("string without end", b"/a\0\0,s\0\0nih!"),
        ("string without padding", b"/a\0\0,s\0\0nih!\0"),
        ("argument behind a float that is missing", b"/a\0\0,fs\0"),
        ("unknown tag", b"/a\0\0,q\0\0\0\0\0\1"),
        ("tag that is not ASCII", b"/a\0\0,\xc3\xa9\0\0\0\0\0"),
        ("not UTF-8", b"/\xff\0\0,\0\0\0"),
        ("tags that are not UTF-8", b"/a\0\0,\xff\0\0"),
        ("string that is not UTF-8", b"/a\0\0,s\0\0\xff\0\0\0"),
        ("blob of negative size", b"/a\0\0,b\0\0\xff\xff\xff\xff"),
        ("blob longer than the datagram", b"/a\0\0,b\0\0\x7f\xff\xff\xff"),
        ("blob without size", b"/a\0\0,b\0\0\0\0"),
        ("blob without padding", b"/a\0\0,b\0\0\0\0\0\1x"),
        ("negative character", b"/a\0\0,c\0\0\xff\xff\xff\xff"),
        ("character out of range", b"/a\0\0,c\0\0\x7f\xff\xff\xff"),
        ("half a surrogate", b"/a\0\0,c\0\0\0\0\xd8\0"),
        ("array that does not begin", b"/a\0\0,]\0\0"),
        ("array that does not end", b"/a\0\0,[\0\0"),
        ("bundle without time", b"#bundle\0\0\0"),
        ("element of negative size", b"#bundle\0" + bytes(8) + b"\xff\xff\xff\xfc" + b"/a\0\0,\0\0\0"),
        ("element of size 0", b"#bundle\0" + bytes(8) + bytes(4)),
        ("element without size", b"#bundle\0" + bytes(8) + bytes(3)),
        ("element of a size that is no multiple of 4", b"#bundle\0" + bytes(8) + b"\0\0\0\7/a\0\0,\0\0\0"),
        ("element of the largest size", b"#bundle\0" + bytes(8) + b"\x7f\xff\xff\xfc/a\0\0,\0\0\0"),
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


def test_a_sender_that_leaves_out_type_tags():
    assert parse(b"/a\0\0") == OscMessage("/a", "", [])


@given(st.binary(max_size=12))
def test_a_sender_that_leaves_out_zeros_of_floats_at_the_end(floats):
    read = parse(b"/a\0\0,fff\0\0\0\0" + floats).args
    assert struct.pack(">3f", *read) == struct.pack(">3f", *struct.unpack(">3f", floats.ljust(12, b"\0")))


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
        ([2**63], "h"),
        ([10**400], "d"),
        ([[-1, 0]], "t"),
        ([datetime(1899, 12, 31, tzinfo=UTC)], "t"),
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
    with pytest.raises(Unsendable, match="begin with"):
        build(OscMessage("a", "", []))
    with pytest.raises(Unsendable, match="not Unicode"):
        build(OscMessage("/\ud800", "", []))
    assert parse(build(OscBundle(IMMEDIATELY, ()))) == OscBundle((0, 1), ())
