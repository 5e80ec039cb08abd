"""What comes next: an outline is a frame but for its checksum and messages; a stream is looked at for a while."""

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from co2.protocol.relay.losses import Loss
from co2.protocol.wire.frame_template import CRC, LOOKS, MAX_STREAMS, SMALL, Recent, host_outline, link_outline
from co2.protocol.wire.link_frames import MAX_NUMBER, Deliver, Publish, encode_link_frame
from co2.protocol.wire.plugin_frames import frames
from tests.protocol.network import FakeSatellite, Network, sent
from tests.simulation.foresight import filled

names = st.text(max_size=20)
numbers = st.integers(0, 2**63 - 1)
channels = st.none() | st.lists(names, max_size=3)
batches = st.binary(max_size=600)
addresses = st.tuples(names, st.integers(0, 65_535))


@given(numbers, numbers, names, names, channels, batches)
def test_a_publish_of_the_link(
    epoch: int, seq: int, package: str, plugin: str, of: list[str] | None, batch: bytes
):
    outline = link_outline(Publish(epoch, seq, package, plugin, of, CRC, b""))
    found = filled(outline, batch)
    crc = frames.msgspec.msgpack.decode(found)[6]
    assert found == encode_link_frame(Publish(epoch, seq, package, plugin, of, crc, batch))


@given(numbers, names, addresses, numbers, numbers, names, names, channels, batches)
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
):
    outline = link_outline(Deliver(position, "", host_id, address, epoch, seq, package, plugin, of, CRC, b""))
    found = filled(outline, batch)
    crc = frames.msgspec.msgpack.decode(found)[10]
    wanted = Deliver(position, "", host_id, address, epoch, seq, package, plugin, of, crc, batch)
    assert found == encode_link_frame(wanted)


@given(names, channels, batches, st.booleans())
def test_a_publish_of_a_plugin_host(plugin: str, of: list[str] | None, batch: bytes, live: bool):
    found = filled(host_outline(frames.Publish(plugin, of, b"", live)), batch)
    assert found == frames.encode_frame(frames.Publish(plugin, of, batch, live))[4:]


@given(numbers, names, addresses, batches, names, st.integers(0, 2048))
def test_a_deliver_to_a_plugin_host(
    first: int, host_id: str, address: tuple[str, int], batch: bytes, sender: str, skip: int
):
    found = filled(host_outline(frames.Deliver(first, host_id, address, b"", sender, skip)), batch)
    assert found == frames.encode_frame(frames.Deliver(first, host_id, address, batch, sender, skip))[4:]


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
    recent: Recent[str] = Recent()
    recent.note("fader", 1)
    assert [*recent] == ["fader"]
    recent.note("fader", 1)
    assert [[*recent] for _ in range(LOOKS + 1)] == [["fader"]] * LOOKS + [[]]
    assert not recent


def test_a_stream_that_sends_much_at_a_time_is_not_looked_at():
    recent: Recent[str] = Recent()
    recent.note("meter", SMALL + 1)
    assert not recent
    recent.note("meter", SMALL)
    assert recent
    recent.note("meter", SMALL + 1)
    assert not recent


def test_of_many_streams_the_latest_are_looked_at():
    recent: Recent[int] = Recent()
    for number in range(3 * MAX_STREAMS):
        recent.note(number, 1)
    recent.note(2 * MAX_STREAMS, 1)  # the oldest of those that are left becomes the latest
    assert [*recent] == [2 * MAX_STREAMS, *range(3 * MAX_STREAMS - 1, 2 * MAX_STREAMS, -1)]
    recent.note(0, 1)
    assert 2 * MAX_STREAMS in [*recent] and 2 * MAX_STREAMS + 1 not in [*recent]


# ---- numbers ----------------------------------------------------------------------------------------------------


def test_numbers_of_a_relay_go_on_with_each_frame_as_it_was_foreseen_before_the_first():
    net, ham, spam = spoken()
    eggs = net.satellite("eggs", "p")
    eggs.send("x")
    net.run()
    net.relay.ready.clear()
    stretches = {stretch[0].origin: stretch for stretch in net.relay.recent}
    ahead = {who: net.relay.next_publish(stretch) for who, stretch in stretches.items()}
    for who, count in (("ham", 1), ("ham", 3), ("eggs", 2), ("ham", 1), ("eggs", 1)):
        found = net.relay.next_publish(stretches[who])
        assert found == ahead[who] and found[2]
        (ham if who == "ham" else eggs).send(*range(count))
        net.run()
        net.relay.ready.clear()
        moved = {number.counter for outline in found[:2] for number in outline.numbers}
        ahead = {
            one: tuple(
                outline._replace(
                    numbers=tuple(
                        number._replace(value=number.value + count * (number.counter in moved))
                        for number in outline.numbers
                    )
                )
                for outline in outlines[:2]
            )
            + outlines[2:]
            for one, outlines in ahead.items()
        }
    assert len(spam.got["p"]) == 1 + 1 + 8


def test_numbers_of_an_outbox_go_on_with_each_frame_as_it_was_foreseen_before_the_first():
    _net, ham, _spam = spoken()
    ahead = ham.core.next_publish("p", "p.m.X_P", [""])
    for count in (1, 130, 2):
        assert ham.core.next_publish("p", "p.m.X_P", [""]) == ahead
        ham.core.outbox.put(*sent(*range(count)))
        ham.core.taken()
        ahead = ahead.after(count)


def test_a_satellite_foresees_messages_though_its_own_come_in_between():
    net, ham, spam = spoken()
    (stretch,) = spam.core.recent
    for number in range(2):
        spam.send("an answer")
        net.run()
        comes, packages = spam.core.next_deliver(stretch)
        assert packages == ["p"]
        position, seq = comes.numbers
        assert position.is_free and position.value <= net.relay.log.last + 1
        assert (seq.is_free, seq.value) == (True, 2 + number)
        ham.send(number)
        net.run()


# ---- when nothing is foreseen -----------------------------------------------------------------------------------


def spoken() -> tuple[Network, FakeSatellite, FakeSatellite]:
    """A network in which ham has sent spam a small message, and all is quiet."""
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "p")
    ham.send(1)
    net.run()
    net.relay.ready.clear()  # all that was out has been taken
    return net, ham, spam


def foreseen_at_relay(net: Network) -> int:
    return sum(net.relay.next_publish(stretch) is not None for stretch in net.relay.recent)


def test_a_relay_foresees_what_is_as_usual_only():
    net, _ham, _spam = spoken()
    assert foreseen_at_relay(net) == 1
    (stretch,) = net.relay.recent
    relay = net.relay
    for what, undo in (
        (lambda: setattr(relay, "closing", True), lambda: setattr(relay, "closing", False)),
        (lambda: setattr(relay.log, "takes", False), lambda: setattr(relay.log, "takes", True)),
        (lambda: relay.events.append(None), relay.events.clear),
        (lambda: relay.ready.update({stretch[0]: None}), relay.ready.clear),
        (
            lambda: relay.log.set_mark("ham", stretch[1], MAX_NUMBER),
            lambda: relay.log.set_mark("ham", stretch[1], 1),
        ),
    ):
        what()
        assert foreseen_at_relay(net) == 0
        undo()
        assert foreseen_at_relay(net) == 1
    with mock.patch.object(relay.filter_chain, "occupied", True):
        assert foreseen_at_relay(net) == 0
    relay.fan_out.add_loss("ham", "lost in a test")
    relay.ready.clear()
    assert foreseen_at_relay(net) == 1, "all that stand at the head were told of it at once"
    relay.log.add_loss(Loss(relay.log.last, "eggs", "told to nobody yet"))
    assert foreseen_at_relay(net) == 0


def test_a_satellite_foresees_what_is_as_usual_only():
    _net, _ham, spam = spoken()
    core = spam.core
    (stretch,) = core.recent
    assert core.next_deliver(stretch) is not None
    for what, undo in (
        (lambda: core.events.append(None), core.events.clear),
        (lambda: core._out.append(b""), core._out.clear),
        (lambda: setattr(core, "state", "away"), lambda: setattr(core, "state", "open")),
        (lambda: setattr(core, "live_position", MAX_NUMBER), lambda: setattr(core, "live_position", 2)),
    ):
        what()
        assert core.next_deliver(stretch) is None
        undo()
        assert core.next_deliver(stretch) is not None
    own = (str(core.host_id), *stretch[1:])
    assert core.next_deliver(own) is None, "what it has sent itself does not come on the live stream"
    core.fell_behind("p")
    assert core.next_deliver(stretch) is None


def test_an_outbox_foresees_what_goes_out_at_once_only():
    _net, ham, _spam = spoken()
    core = ham.core
    assert core.next_publish("p", "p.m.X_P", [""]) is not None
    core.paused = True
    assert core.next_publish("p", "p.m.X_P", [""]) is None
    core.paused = False
    core.outbox.put(*sent(2))
    assert core.next_publish("p", "p.m.X_P", [""]) is None
    core.taken()
    assert core.next_publish("p", "p.m.X_P", [""]) is not None
    core.outbox.renew(12345)
    core.publish(*sent(3))
    core.taken()
    assert core.next_publish("p", "p.m.X_P", [""]) is None, "what is left of the run before goes first"
