"""The driver: what results of a frame is written once for all who get the same, and before its link closes."""

from typing import Any

import pytest

from co2.protocol.relay.core import OriginClaimed, RelayCore
from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.driver import RelayDriver
from co2.protocol.relay.events import DiskWanted, Event, Left
from co2.protocol.wire import close_reasons
from tests.protocol.network import FakeLog, FakeSatellite
from tests.protocol.relay.test_filter_chain import FakeFilter


class FakeWire:
    """A connection that keeps what is written to it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = 0

    def write(self, messages: list[bytes], /) -> None:
        assert not self.closed
        self.written += messages

    def close(self) -> None:
        self.closed += 1


class Driven:
    """A relay with its driver, and satellites whose frames the test carries."""

    def __init__(self) -> None:
        self.log = FakeLog()
        self.core = RelayCore(
            self.log, "relay@10.0.0.1:2003", max_peers=lambda: 100, now=lambda: 0.0, wall=lambda: 0.0
        )
        self.wires: dict[Peer, FakeWire] = {}
        self.satellites: list[FakeSatellite] = []
        self.events: list[Event] = []
        self.failed: list[Peer] = []
        self.joins = 0
        self.read_ons = 0
        self.driver = RelayDriver(
            self.core, self.wires, handle=self.events.append, join=self._join, failed=self.failed.append,
            read_on=self._read_on,
        )  # fmt: skip

    def _join(self, frames: list[bytes]) -> list[bytes]:
        self.joins += 1
        return list(frames)

    def _read_on(self) -> None:
        self.read_ons += 1

    def satellite(self, name: str, *packages: str, position: int | None = None) -> tuple[FakeSatellite, Peer]:
        satellite = FakeSatellite(name, 7, len(self.satellites) + 2)
        for package in packages:
            satellite.core.subscribe(package, position=position)
        self.satellites.append(satellite)
        peer = satellite.peer = self.core.opened(satellite.address)
        self.wires[peer] = FakeWire()
        satellite.core.connected()
        self.carry(satellite)
        return satellite, peer

    def carry(self, satellite: FakeSatellite) -> int:
        """Bring a satellite's frames to the relay, and what all satellites get to them."""
        assert satellite.peer is not None
        count = self.driver.received(satellite.peer, satellite.core.taken())
        self.hand_over()
        return count

    def hand_over(self) -> None:
        for one in self.satellites:
            if one.peer is not None:
                wire = self.wires[one.peer]
                written, wire.written = wire.written, []
                for data in written:
                    one.core.receive(data)
                one.take_events()

    def commit(self) -> None:
        self.log.committed = self.log.last
        self.driver.committed(self.log.last)
        self.hand_over()

    def left(self) -> list[tuple[Peer, str]]:
        return [(event.peer, event.reason) for event in self.events if isinstance(event, Left)]


def test_frames_that_several_links_get_are_joined_once_and_acknowledged_behind_the_commit() -> None:
    driven = Driven()
    ham, _ = driven.satellite("ham")
    spam, _ = driven.satellite("spam", "p")
    eggs, _ = driven.satellite("eggs", "q")
    before = driven.joins
    ham.send(1)
    ham.send(2)
    assert driven.carry(ham) == 2
    assert (spam.got, eggs.got) == ({"p": [1, 2]}, {"q": [1, 2]})
    assert driven.joins - before == 1
    assert (len(ham.outbox), driven.read_ons) == (2, 0)
    driven.commit()
    assert (len(ham.outbox), driven.read_ons) == (0, 1)


def test_a_goodbye_is_written_before_the_connection_closes() -> None:
    driven = Driven()
    ham, peer = driven.satellite("ham")
    driven.driver.received(peer, [b"\xc1"])
    assert driven.wires[peer].closed == 1
    driven.hand_over()
    assert [ended.reason for ended in ham.ended] == [close_reasons.GARBAGE]
    assert driven.left() == [(peer, close_reasons.GARBAGE)]


def test_an_error_of_ours_ends_the_link_whose_frames_caused_it_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driven = Driven()
    ham, ham_peer = driven.satellite("ham")
    _, spam_peer = driven.satellite("spam", "p")
    receive_some = driven.core.receive_some

    def fails(peer: Peer, frames: Any) -> int:
        if peer is spam_peer:
            raise RuntimeError("a bug")
        return receive_some(peer, frames)

    monkeypatch.setattr(driven.core, "receive_some", fails)
    assert driven.driver.received(spam_peer, [b"", b""]) == 2, "none of its frames comes again"
    assert driven.failed == [spam_peer]
    assert driven.wires[spam_peer].closed == 1
    [left] = [event for event in driven.events if isinstance(event, Left)]
    assert (left.peer, left.text) == (spam_peer, "internal error: RuntimeError")
    ham.send(1)
    driven.carry(ham)
    driven.commit()
    assert (ham_peer.state, len(ham.outbox)) == ("open", 0)


def test_a_lost_link_is_closed_and_what_waited_for_it_goes_nowhere() -> None:
    driven = Driven()
    ham, _ = driven.satellite("ham")
    spam, peer = driven.satellite("spam", "p")
    wire = driven.wires[peer]
    driven.driver.lost(peer, "cut")
    assert (wire.closed, driven.left()) == (1, [(peer, "")])
    del driven.wires[peer]
    spam.peer = None
    peer.write(b"too late")
    ham.send(1)
    driven.carry(ham)
    driven.commit()
    assert (wire.written, len(ham.outbox)) == ([], 0)
    driven.driver.lost(peer, "cut again")
    assert len(driven.left()) == 1


def test_a_first_welcome_is_written_when_the_claim_is_on_disk() -> None:
    driven = Driven()
    driven.core.keeps = True
    ham, peer = driven.satellite("ham")
    assert ham.core.state == "hello"
    [claim] = driven.events
    assert isinstance(claim, OriginClaimed)
    driven.driver.claimed(claim)
    driven.hand_over()
    assert (ham.core.state, peer.state) == ("open", "open")


def test_a_link_whose_transport_was_full_gets_the_rest() -> None:
    driven = Driven()
    ham, _ = driven.satellite("ham")
    spam, peer = driven.satellite("spam", "p")
    driven.core.pause(peer)
    ham.send(1)
    driven.carry(ham)
    assert spam.got == {}
    driven.driver.resume(peer)
    driven.hand_over()
    assert spam.got == {"p": [1]}


def test_what_was_read_from_disk_is_passed_on() -> None:
    driven = Driven()
    ham, _ = driven.satellite("ham")
    ham.send(1)
    driven.carry(ham)
    driven.commit()
    driven.log.in_memory_from = driven.log.last
    spam, _ = driven.satellite("spam", "p", position=1)
    assert spam.got == {}
    [wanted] = [event for event in driven.events if isinstance(event, DiskWanted)]
    driven.driver.disk_read(wanted.stream, driven.log.read_disk(wanted.stream.position, 2**20))
    driven.hand_over()
    assert spam.got == {"p": [1]}


def test_who_waits_for_room_on_disk_is_told_of_it() -> None:
    driven = Driven()
    ham, _ = driven.satellite("ham")
    driven.log.takes = False
    ham.send(1)
    driven.carry(ham)
    assert ham.core.held
    driven.log.takes = True
    driven.driver.has_room()
    driven.hand_over()
    assert not ham.core.held
    driven.carry(ham)
    driven.commit()
    assert len(ham.outbox) == 0


def test_what_a_relay_plugin_lets_through_later_is_passed_on_and_links_are_read_on() -> None:
    driven = Driven()
    ham, _ = driven.satellite("ham")
    spam, _ = driven.satellite("spam", "p")
    held = FakeFilter(b"")
    driven.core.filter_chain.set_filters([held])
    ham.send(1)
    driven.carry(ham)
    assert (spam.got, driven.read_ons) == ({}, 0)
    held.answer(as_it_came=True)
    driven.hand_over()
    assert (spam.got, driven.read_ons) == ({"p": [1]}, 1)
