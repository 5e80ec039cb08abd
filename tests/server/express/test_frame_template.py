"""An outline is a frame but for its numbers, checksum and messages; a stream is looked at for a while."""

from hypothesis import given
from hypothesis import strategies as st

from co2.protocol.wire.link_frames import Deliver, Publish, encode_link_frame
from co2.protocol.wire.plugin_frames import frames
from co2.server.express.frame_template import CRC, host_outline, link_outline
from co2.server.express.recent_streams import LOOKS, MAX_STREAMS, SMALL, RecentStreams
from tests.simulation.foresight import filled

names = st.text(max_size=20)
numbers = st.integers(0, 2**63 - 1)
channels = st.none() | st.lists(names, max_size=3)
batches = st.binary(max_size=600)
times = st.floats(0, allow_nan=False)
addresses = st.tuples(names, st.integers(0, 65_535))


@given(numbers, numbers, names, names, channels, batches)
def test_a_publish_of_the_link(
    epoch: int, seq: int, package: str, plugin: str, of: list[str] | None, batch: bytes
):
    outline = link_outline(Publish(epoch, seq, package, plugin, of, CRC, b""))
    found = filled(outline, batch)
    crc = frames.msgspec.msgpack.decode(found)[6]
    assert found == encode_link_frame(Publish(epoch, seq, package, plugin, of, crc, batch))


@given(numbers, names, addresses, numbers, numbers, names, names, channels, batches, times)
def test_a_deliver_of_the_link(
    position: int,
    host_id: str,
    address: tuple[str, int],
    epoch: int,
    seq: int,
    package: str,
    plugin: str,
    of: list[str] | None,
    batch: bytes,
    at: float,
):
    outline = link_outline(Deliver(position, "", host_id, address, epoch, seq, package, plugin, of, CRC, b""))
    found = filled(outline, batch, at)
    crc = frames.msgspec.msgpack.decode(found)[10]
    wanted = Deliver(position, "", host_id, address, epoch, seq, package, plugin, of, crc, batch, at)
    assert found == encode_link_frame(wanted)


@given(names, channels, batches, st.booleans())
def test_a_publish_of_a_plugin_host(plugin: str, of: list[str] | None, batch: bytes, live: bool):
    found = filled(host_outline(frames.Publish(plugin, of, b"", live)), batch)
    assert found == frames.encode_frame(frames.Publish(plugin, of, batch, live))[4:]


@given(
    numbers, names, addresses, batches, names, st.integers(0, 2048), times, st.booleans(), numbers, numbers
)  # fmt: skip
def test_a_deliver_to_a_plugin_host(
    first: int,
    host_id: str,
    address: tuple[str, int],
    batch: bytes,
    sender: str,
    skip: int,
    at: float,
    timed: bool,
    position: int,
    run: int,
):
    outline = host_outline(frames.Deliver(first, position, run, host_id, address, b"", sender, skip), timed=timed)
    assert outline.timed == timed
    wanted = frames.Deliver(first, position, run, host_id, address, batch, sender, skip, at if timed else 0.0)
    assert filled(outline, batch, at) == frames.encode_frame(wanted)[4:]


@given(numbers, names, names, addresses, batches)
def test_what_a_relay_plugin_gets(number: int, plugin: str, host_id: str, address: tuple[str, int], batch: bytes):
    found = filled(host_outline(frames.Transit(number, plugin, host_id, address, b"")), batch)
    assert found == frames.encode_frame(frames.Transit(number, plugin, host_id, address, batch))[4:]


@given(numbers, channels, batches, st.tuples(*[st.integers(0, 2048)] * 3))
def test_what_a_relay_plugin_answers(
    number: int, of: list[str] | None, batch: bytes, counts: tuple[int, int, int]
):
    found = filled(host_outline(frames.Transited(number, b"", of, *counts)), batch)
    assert found == frames.encode_frame(frames.Transited(number, batch, of, *counts))[4:]


def test_a_stream_is_looked_at_so_often_until_another_frame_of_it_comes():
    recent: RecentStreams[str] = RecentStreams()
    recent.note("fader", 1)
    assert [*recent] == ["fader"]
    recent.note("fader", 1)
    assert [[*recent] for _ in range(LOOKS + 1)] == [["fader"]] * LOOKS + [[]]
    assert not recent


def test_a_stream_that_sends_much_at_a_time_is_not_looked_at():
    recent: RecentStreams[str] = RecentStreams()
    recent.note("meter", SMALL + 1)
    assert not recent
    recent.note("meter", SMALL)
    assert recent
    recent.note("meter", SMALL + 1)
    assert not recent


def test_of_many_streams_the_latest_are_looked_at():
    recent: RecentStreams[int] = RecentStreams()
    for number in range(3 * MAX_STREAMS):
        recent.note(number, 1)
    recent.note(2 * MAX_STREAMS, 1)  # the oldest of those that are left becomes the latest
    assert [*recent] == [2 * MAX_STREAMS, *range(3 * MAX_STREAMS - 1, 2 * MAX_STREAMS, -1)]
    recent.note(0, 1)
    assert 2 * MAX_STREAMS in [*recent] and 2 * MAX_STREAMS + 1 not in [*recent]
