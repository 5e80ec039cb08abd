"""Any bytes lead to a frame or a documented error, on the link and on the socket pair; nobody else notices."""

import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from co2.errors import BadRequest
from co2.protocol.relay.core import Left
from co2.protocol.wire.link_frames import MAX_LINK_FRAME, encode_link_frame
from co2.protocol.wire.plugin_frames import frames as f
from tests.protocol.network import FakeSatellite, Network
from tests.protocol.test_transitions import OF_RELAY, OF_SATELLITE
from tests.protocol.wire.test_plugin_frames import CHILD, HOST

EXAMPLES = settings(max_examples=3 * settings().max_examples, deadline=None)
FROM_SATELLITE = [encode_link_frame(frame) for frame in OF_SATELLITE.values()]
FROM_RELAY = [encode_link_frame(frame) for frame in OF_RELAY.values()]
ON_SOCKET_PAIR = {
    "host": [f.encode_frame(frame) for frame in HOST],  # type: ignore[arg-type]
    "child": [f.encode_frame(frame) for frame in CHILD],  # type: ignore[arg-type]
}

# What MessagePack has at its edges: numbers beyond 63 bits, NaN, empty and huge strings, deep nesting.
ODD_NUMBERS = [-1, 0, 1, 2**31, 2**62, 2**62 + 1, 2**63 - 1, 2**63, 2**64 - 1, float("nan"), float("inf"), -0.5]
ODD_OTHERS = [
    "",
    "x" * 600,
    b"",
    b"\xdd\xff\xff\xff\xff",
    b"\xdd\x00\x00\x00\x01\xc0",
    None,
    True,
    [],
    {},
    [[[[]]]],
]
ODD = st.sampled_from([*ODD_NUMBERS, *ODD_OTHERS, {"a": 2**64 - 1}])


def mutated(data: bytes, draw: Callable[..., Any]) -> bytes:
    """Change some bytes of a frame, cut it off, or put more behind it."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(0, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    end = draw(st.integers(0, len(changed)))
    cut = changed if draw(st.booleans()) else changed[:end]
    return bytes(cut) + (draw(st.binary(max_size=20)) if draw(st.integers(0, 4)) == 0 else b"")


@st.composite
def hostile(draw: Callable[..., Any], valid: list[bytes]) -> bytes:
    """Bytes, a frame that was changed, or one whose fields hold something else."""
    match draw(st.sampled_from(("bytes", "mutated", "fields", "valid"))):
        case "bytes":
            return bytes(draw(st.binary(max_size=200)))
        case "mutated":
            return mutated(draw(st.sampled_from(valid)), draw)
        case "fields":
            fields = msgspec.msgpack.decode(draw(st.sampled_from(valid)))
            for _ in range(draw(st.integers(1, 2))):
                fields[draw(st.integers(0, len(fields) - 1))] = draw(ODD)
            return msgspec.msgpack.encode(fields)
        case _:
            return bytes(draw(st.sampled_from(valid)))


# ---- the link ----------------------------------------------------------------------------------------------


@EXAMPLES
@given(frames=st.lists(hostile(FROM_SATELLITE), max_size=12), hello=st.booleans())
def test_the_relay_survives_any_frames_and_others_do_not_notice(frames: list[bytes], hello: bool) -> None:
    net = Network()
    ham, spam = net.satellite("eggs"), net.satellite("spam", "b")
    peer = net.relay.opened(("10.0.0.9", 1))
    if hello:
        net.relay.receive(peer, FROM_SATELLITE[0])
    for data in frames:
        net.relay.receive(peer, data)
    left = [event.reason for event in net.relay.events if isinstance(event, Left) and event.peer is peer]
    assert len(left) == (peer.state == "closed")
    net.relay.taken(peer)
    ham.send("still there")
    net.run()
    assert spam.got["b"][-1] == "still there"
    assert all(seq < 2**63 and epoch < 2**63 for (_, epoch), seq in net.log.marks.items())


@EXAMPLES
@given(frames=st.lists(hostile(FROM_RELAY), max_size=12), welcome=st.booleans())
def test_the_satellite_survives_any_frames_and_can_connect_again(frames: list[bytes], welcome: bool) -> None:
    net = Network()
    satellite = FakeSatellite("ham", 7, 2)
    satellite.core.subscribe("b")
    satellite.core.subscribe("d", durable=True)
    satellite.send(1)
    satellite.core.connected()
    if welcome:
        satellite.core.receive(FROM_RELAY[0])
    for data in frames:
        satellite.core.receive(data)
    satellite.core.taken()
    satellite.core.lost("the connection is gone")
    satellite.core.events.clear()
    net.satellites.append(satellite)
    net.connect(satellite)
    other = net.satellite("spam", "b")
    satellite.send(2)
    net.run()
    assert satellite.core.state == "open"
    assert other.got["b"][-1] == 2


@pytest.mark.parametrize("receive", ["relay", "satellite"])
def test_a_frame_over_the_limit_is_refused_without_being_decoded(receive: str) -> None:
    data = msgspec.msgpack.encode(["Applied", {str(n): n for n in range(400_000)}])
    assert len(data) > MAX_LINK_FRAME
    net = Network()
    tracemalloc.start()
    try:
        if receive == "relay":
            peer = net.relay.opened(("10.0.0.9", 1))
            net.relay.receive(peer, data)
            assert peer.state == "closed"
        else:
            core = FakeSatellite("ham", 7, 2).core
            core.connected()
            core.receive(data)
            assert core.state == "away"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_lengths_of_4_gib_inside_a_frame_take_no_memory() -> None:
    for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\x98\xa7Publish\xcf" + b"\xff" * 8 + b"\xdd"):
        net = Network()
        peer = net.relay.opened(("10.0.0.9", 1))
        tracemalloc.start()
        try:
            net.relay.receive(peer, head + b"\xff\xff\xff\xff")
            assert peer.state == "closed"
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()


# ---- the socket pair ---------------------------------------------------------------------------------------


def outcome(sender: str, stream: bytes, sizes: list[int]) -> tuple[list[bytes], bool]:
    """Feed a stream in pieces; give the frames that came out, encoded, and whether it was refused."""
    reader = f.FrameReader(sender)
    out: list[bytes] = []
    at = 0
    for size in [*sizes, len(stream)]:
        piece = stream[at : at + size]
        at += size
        try:
            out += map(f.encode_frame, reader.feed(piece))
        except BadRequest:
            return out, True
    return out, False


@EXAMPLES
@given(data=st.data(), sender=st.sampled_from(("host", "child")))
def test_any_stream_gives_frames_or_is_refused_however_it_is_cut(data: st.DataObject, sender: str) -> None:
    valid = [frame[4:] for frame in ON_SOCKET_PAIR[sender]]
    stream = b""
    for body in data.draw(st.lists(hostile(valid), max_size=6)):
        size = data.draw(st.sampled_from([len(body)] * 8 + [0, 1, 2**31, 2**32 - 1, len(body) + 1]))
        stream += size.to_bytes(4, "big") + body
    whole, refused = outcome(sender, stream, [])
    sizes = data.draw(st.lists(st.integers(1, 50), max_size=20))
    for pieces in (sizes, [1] * len(stream)):
        cut, also_refused = outcome(sender, stream, pieces)
        assert also_refused == refused
        assert cut[: len(whole)] == whole or refused  # one that is refused may have given the frames before


@pytest.mark.parametrize("sender", ["host", "child"])
def test_a_length_of_4_gib_is_refused_at_once_and_one_below_the_limit_takes_what_has_come(sender: str) -> None:
    reader = f.FrameReader(sender)
    assert reader.feed(b"\xff\xff\xff") == []
    with pytest.raises(BadRequest, match="limit"):
        reader.feed(b"\xff")
    reader = f.FrameReader(sender)
    tracemalloc.start()
    try:
        assert reader.feed(f.MAX_FRAME_SIZE.to_bytes(4, "big")) == []
        for _ in range(100):
            assert reader.feed(bytes(100)) == []
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_long_stream_is_read_in_bounded_memory() -> None:
    frames = ON_SOCKET_PAIR["child"]
    dice = random.Random(3)
    reader = f.FrameReader("child")
    stream = b"".join(dice.choice(frames) for _ in range(2_000))
    count = 0
    for at in range(0, len(stream), 777):
        count += len(reader.feed(stream[at : at + 777]))
        assert len(reader._buffer) < 2_000
    assert count == 2_000
