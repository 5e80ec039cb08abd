"""Which frames of a link are decoded, and which are refused before that."""

import tracemalloc

import msgspec
import pytest

from co2.errors import BadRequest
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.checksum import crc32
from co2.protocol.wire.link_frames import (
    MAX_FIRST_FRAME,
    MAX_LINK_FRAME,
    Call,
    Interest,
    Publish,
    Result,
    decode_satellite_frame,
    encode_link_frame,
)


def test_a_long_frame_without_messages_is_refused_before_it_is_taken_apart() -> None:
    """To decode the names in 4 MiB took a relay's event loop 40 ms."""
    many = [f"p.{n:06}.{'x' * 100}" for n in range(20_000)]
    interest = encode_link_frame(Interest([], many, []))
    other_form = interest[:1] + b"\xd9\x08" + interest[2:]  # the same, as no sender of co2 writes it
    for data in (interest, other_form):
        tracemalloc.start()
        try:
            with pytest.raises(BadRequest, match="without messages"):
                decode_satellite_frame(data)
            assert tracemalloc.get_traced_memory()[1] < 2**16
        finally:
            tracemalloc.stop()


def test_frames_with_messages_and_values_may_be_longer() -> None:
    batch = make_batch([msgspec.msgpack.encode({"data": "x" * MAX_FIRST_FRAME})])
    for frame in (
        Publish(7, 1, "p", "p.m.X", [""], crc32(batch), batch),
        Call(1, "a.b.c", bytes(2 * MAX_FIRST_FRAME), 1.0),
        Result(1, bytes(2 * MAX_FIRST_FRAME), 0, ""),
    ):
        assert decode_satellite_frame(encode_link_frame(frame)) == frame


def test_a_frame_that_no_relay_takes_is_not_encoded() -> None:
    batch = make_batch([msgspec.msgpack.encode(b"x" * MAX_LINK_FRAME)])
    with pytest.raises(BadRequest, match=f"the limit is {MAX_LINK_FRAME}"):
        encode_link_frame(Publish(7, 1, "p", "x", [""], crc32(batch), batch))
