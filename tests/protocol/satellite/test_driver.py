"""The satellite's driver: frames are written as far as the connection takes them, and before it closes."""

import msgspec

from co2.protocol.satellite.core import Ended, Welcomed
from co2.protocol.satellite.driver import SatelliteDriver
from co2.protocol.satellite.events import Event
from co2.protocol.satellite.outbox import Cut, Outbox, Segment
from co2.protocol.wire import close_reasons
from tests.protocol.network import FakeSatellite, Network, sent


class FakeWire:
    """A connection that keeps what is written to it, and is full when the test says so."""

    def __init__(self) -> None:
        self.is_full = False
        self.written: list[bytes] = []
        self.closed = 0

    def write(self, messages: list[bytes], /) -> None:
        assert not self.closed
        self.written += messages

    def close(self) -> None:
        self.closed += 1


class Driven:
    """A satellite with its driver, on a relay whose frames the test carries."""

    def __init__(self) -> None:
        self.net = Network()
        self.spam = self.net.satellite("spam", "p")
        self.ham = FakeSatellite("ham", 7, 9)
        self.events: list[Event] = []
        self.wanted: list[Segment] = []
        self.wire = FakeWire()
        self.driver: SatelliteDriver[FakeWire] = SatelliteDriver(
            self.ham.core, handle=self.events.append, join=list, load=self.wanted.append
        )
        self.peer = self.net.relay.opened(self.ham.address)

    def connect(self) -> None:
        self.driver.connected(self.wire)
        self.driver.flush()
        self.carry()

    def carry(self) -> None:
        """Bring what is written to the relay, and its answers back."""
        while self.wire.written:
            frames, self.wire.written = self.wire.written, []
            self.net.relay.receive(self.peer, *frames)
            self.net.run()
            self.driver.received(self.net.relay.taken(self.peer))


def test_messages_go_out_at_once_and_are_acknowledged() -> None:
    driven = Driven()
    driven.driver.publish(*sent(0))  # there is no connection yet
    driven.connect()
    assert any(isinstance(event, Welcomed) for event in driven.events)
    driven.driver.publish(*sent(1))
    driven.carry()
    assert driven.spam.got == {"p": [0, 1]}
    assert len(driven.ham.outbox) == 0


def test_live_messages_are_not_kept() -> None:
    driven = Driven()
    package, frame, count = sent("live")
    live = msgspec.structs.replace(frame, live=True)
    driven.driver.publish(package, live, count)
    assert (len(driven.ham.outbox), driven.ham.core.live_dropped) == (0, 1)
    driven.connect()
    driven.driver.publish(package, live, count)
    driven.carry()
    assert driven.spam.got == {"p": ["live"]}


def test_what_a_full_connection_does_not_take_goes_out_later_in_order() -> None:
    driven = Driven()
    driven.connect()
    driven.wire.is_full = True
    for value in range(3):
        driven.driver.publish(*sent(value))
    assert driven.wire.written == []
    driven.wire.is_full = False
    driven.driver.flush()
    driven.carry()
    assert driven.spam.got == {"p": [0, 1, 2]}


def test_a_goodbye_is_written_before_the_connection_closes() -> None:
    driven = Driven()
    driven.connect()
    driven.driver.received([b"\xc1"])
    assert driven.wire.closed == 1
    driven.net.relay.receive(driven.peer, *driven.wire.written)
    assert driven.peer.state == "closed"
    [ended] = [event for event in driven.events if isinstance(event, Ended)]
    assert ended.reason == close_reasons.GARBAGE


def test_a_lost_connection_is_written_to_no_more_and_the_messages_wait() -> None:
    driven = Driven()
    driven.connect()
    driven.driver.lost("cut")
    assert [event.text for event in driven.events if isinstance(event, Ended)] == ["cut"]
    driven.driver.publish(*sent(1))
    assert (driven.wire.written, driven.driver.wire, len(driven.ham.outbox)) == ([], None, 1)


def test_messages_on_disk_are_loaded_when_their_turn_comes() -> None:
    driven = Driven()
    other = Outbox(7, 10**6, lambda: None, lambda: None)
    other.put(*sent(1))
    cut = Cut(7, 1, 1, other.give(10**6)[0])
    driven.ham.outbox.renew(8)
    driven.ham.outbox.found([Segment(7, 1, 1, cut.size, None, "stored", (1, 1))])
    driven.connect()
    [segment] = driven.wanted
    driven.ham.outbox.loaded(segment, [cut])
    driven.driver.flush()
    driven.carry()
    assert driven.spam.got == {"p": [1]}
    assert len(driven.ham.outbox) == 0
