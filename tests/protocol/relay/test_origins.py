"""Whose an origin is: the book, case by case; and what somebody else comes to who says it is his."""

from typing import Any

import msgspec
import pytest

from co2.host_id import HostId
from co2.protocol.relay import origins
from co2.protocol.relay.core import AdmissionWanted, OriginClaimed
from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.origins import KnownOrigin, OriginBook, hash_of_token
from co2.protocol.wire import close_reasons
from co2.protocol.wire.link_frames import Hello, decode_relay_frame, decode_satellite_frame, encode_link_frame
from tests.protocol.network import Network

OURS, THEIRS = hash_of_token("ours"), hash_of_token("theirs")


def at(address: str, origin: str = "ham") -> HostId:
    return HostId(origin, address, 2004)


def test_an_origin_is_its_first_owners() -> None:
    book = OriginBook(wall=lambda: 7.0)
    assert book.is_owner("ham", THEIRS)  # nobody's yet
    assert book.claim(at("10.0.0.2"), OURS)
    assert not book.claim(at("10.0.0.3"), OURS), "nothing new: it has moved"
    assert book.has_owner("ham")
    assert [book.is_owner("ham", token) for token in (OURS, THEIRS, b"")] == [True, False, False]
    assert book.take_changes() == {"ham": KnownOrigin("ham", OURS, "10.0.0.2", 7.0, name="host-ham")}
    assert not book.has_changes


@pytest.mark.parametrize(("address", "upgraded"), [("10.0.0.2", True), ("10.0.0.66", False)])
def test_one_of_before_tokens_gets_its_own_where_it_was_first_seen_only(address: str, upgraded: bool) -> None:
    book = OriginBook()
    book.claim(at("10.0.0.2"), b"")
    book.claim(at("10.0.0.66"), b"")  # comes without: that moves nothing
    assert book.claim(at(address), THEIRS) is upgraded
    assert book.has_owner("ham") is upgraded
    assert book.is_owner("ham", b"") is not upgraded


@pytest.mark.parametrize(("address", "owned"), [("10.0.0.2", True), ("10.0.0.66", False)])
def test_one_whose_messages_are_in_the_log_is_taken_from_where_they_came_only(address: str, owned: bool) -> None:
    book = OriginBook(seen_before={"ham": "10.0.0.2"}.get)  # type: ignore[arg-type]
    book.claim(at(address), THEIRS)
    assert book.has_owner("ham") is owned
    assert book.claim(at("10.0.0.2"), OURS) is not owned


def test_a_flood_takes_no_room_from_those_that_have_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "MAX_KNOWN", 100)
    monkeypatch.setattr(origins, "MAX_AT_ONE_ADDRESS", 100)
    book = OriginBook()
    honest = [f"honest{number}" for number in range(40)]
    for origin in honest:
        book.claim(at("10.0.0.2", origin), OURS)
        assert book.has_published(origin)
        assert not book.has_published(origin)
    for number in range(1000):
        book.claim(at(f"10.1.0.{number % 250}", f"flood{number}"), THEIRS)
    assert len(book) == 100
    assert all(book.has_owner(origin) for origin in honest)
    assert [book.has_owner(f"flood{number}") for number in (0, 999)] == [False, True]
    for number in range(1000):  # now they publish, too
        book.claim(at("10.1.0.1", f"more{number}"), THEIRS)
        book.has_published(f"more{number}")
    assert len(book) == 100
    assert all(book.has_owner(origin) for origin in honest)
    assert book.unrecorded > 0


@pytest.mark.parametrize("addresses", ["10.1.0.1", "2001:db8::{:x}", "127.0.0.{}"])
def test_one_address_has_a_part_of_the_room(monkeypatch: pytest.MonkeyPatch, addresses: str) -> None:
    monkeypatch.setattr(origins, "MAX_AT_ONE_ADDRESS", 10)
    book = OriginBook()
    book.claim(at("10.0.0.2", "quiet"), OURS)
    for number in range(100):
        book.claim(at(addresses.format(number + 1), f"flood{number}"), THEIRS)
    assert len(book) == 11
    assert book.has_owner("quiet")


def test_who_was_heard_of_lately_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "MAX_KNOWN", 3)
    book = OriginBook([KnownOrigin(name, OURS, "10.0.0.2", 0.0) for name in ("a", "b", "c")])
    book.claim(at("10.0.0.2", "a"), OURS)
    book.claim(at("10.0.0.3", "d"), OURS)
    assert [name for name in "abcd" if book.get(name)] == ["a", "c", "d"]
    assert book.take_changes().keys() == {"b", "d"}


def test_what_the_disk_did_not_take_is_tried_again() -> None:
    book = OriginBook()
    book.claim(at("10.0.0.2", "a"), OURS)
    book.claim(at("10.0.0.2", "b"), OURS)
    changes = book.take_changes()
    book.forget("b")
    book.give_back(changes)
    taken = book.take_changes()
    assert "b" not in taken, "it never came to the disk"
    assert taken["a"] is not None


# ---- on links -----------------------------------------------------------------------------------------------


def hello(origin: str, token: str, outbox: list[tuple[int, int]] | None = None) -> bytes:
    return encode_link_frame(Hello(f"{origin}@10.0.0.2:2004", "", "", [], outbox or [(7, 1)], [], [], token))


def said(net: Network, *frames: bytes, address: str = "10.0.0.66") -> tuple[Peer, list[Any]]:
    peer = net.relay.opened((address, 1))
    net.relay.receive(peer, *frames)
    return peer, [decode_relay_frame(data) for data in peer.taken()]


@pytest.mark.parametrize("token", ["", "theirs"])
def test_who_comes_with_somebody_elses_origin_is_sent_away_and_the_owner_notices_nothing(token: str) -> None:
    net = Network()
    ham, spam = net.satellite("ham", token="ours"), net.satellite("spam", "b")
    ham.send(1)
    net.run()
    before = dict(net.log.marks)
    for _ in range(10):  # more would be "cloned" for both
        peer, [goodbye] = said(net, hello("ham", token, [(7, 1002)]))
        assert (peer.state, goodbye.reason) == ("closed", close_reasons.IDENTITY)
    assert "co2 forget ham" in goodbye.text
    assert len(goodbye.text) < 512
    assert (net.log.marks, net.relay.takeovers.count, net.relay.impostors) == (before, 0, 10)
    ham.send(2, 3)
    net.run()
    assert (spam.got, ham.ended, len(ham.outbox)) == ({"b": [1, 2, 3]}, [], 0)
    net.cut(ham)
    assert said(net, hello("ham", token))[1][0].reason == close_reasons.IDENTITY, "nor while it is away"
    net.connect(ham)
    ham.send(4)
    net.run()
    assert spam.got == {"b": [1, 2, 3, 4]}


def test_an_owner_takes_its_own_older_link_over_from_anywhere() -> None:
    net = Network()
    ham = net.satellite("ham", token="ours")
    peer, frames = said(net, hello("ham", "ours"))
    assert (peer.state, type(frames[0]).__name__) == ("open", "Welcome")
    ham.take_events()
    assert net.relay.takeovers.count == 1


def test_satellites_of_before_tokens_go_on_as_they_did() -> None:
    net = Network()
    net.satellite("ham", token="")
    peer, _ = said(net, hello("ham", ""))
    assert peer.state == "open"
    peer, _ = said(net, hello("ham", "theirs"))  # from elsewhere: let in, as it was, and no owner for that
    assert (peer.state, net.relay.origins.has_owner("ham")) == ("open", False)
    assert said(net, hello("ham", ""))[0].state == "open"


def test_one_for_whom_there_is_no_room_holds_its_origin_while_it_is_linked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(origins, "MAX_KNOWN", 0)
    net = Network()
    ham = net.satellite("ham", token="ours")
    assert said(net, hello("ham", "theirs"))[1][0].reason == close_reasons.IDENTITY
    net.cut(ham)
    assert said(net, hello("ham", "theirs"))[0].state == "open"


def test_origins_without_end_leave_nothing_that_waits_for_a_disk_that_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(origins, "MAX_AT_ONE_ADDRESS", 5)
    book = OriginBook([KnownOrigin("old", OURS, "10.0.0.2", 1.0)])
    for number in range(1000):
        assert book.claim(at("10.0.0.2", f"o{number}"), THEIRS)
        if number % 5 == 0:
            book.give_back(book.take_changes())  # the disk takes nothing
    assert len(book) == 5
    changes = book.take_changes()
    assert [origin for origin, known in changes.items() if known is None] == ["old"]
    assert len(changes) == 6


def test_the_first_hello_waits_for_the_disk_and_what_has_changed_meanwhile_counts() -> None:
    net = Network()
    net.relay.keeps = True
    first, nothing = said(net, hello("ham", "ours"))
    assert (first.state, nothing) == ("asked", [])
    [claim] = net.relay.events
    assert isinstance(claim, OriginClaimed)
    assert said(net, hello("ham", "theirs"))[1][0].reason == close_reasons.IDENTITY
    net.relay.claimed(claim)
    assert first.state == "open"
    net.relay.lost(first, "cut")
    net.relay.claimed(claim)
    assert first.state == "closed"
    assert said(net, hello("ham", "ours"))[0].state == "open", "what is known is not waited for"


def test_an_origin_that_is_registered_without_a_link_elsewhere_is_not_taken() -> None:
    net = Network()
    net.relay.elsewhere = lambda origin: "10.0.0.9" if origin == "foreign" else ""
    assert said(net, hello("foreign", "theirs"))[1][0].reason == close_reasons.IDENTITY
    assert said(net, hello("foreign", "theirs"), address="10.0.0.9")[0].state == "open"


def test_a_hello_of_before_tokens_is_read_and_one_of_later_ones_too() -> None:
    fields = msgspec.msgpack.decode(hello("ham", "ours"))
    assert decode_satellite_frame(msgspec.msgpack.encode(fields[:8])).token == ""
    assert decode_satellite_frame(msgspec.msgpack.encode([*fields, None, {"more": 1}])).token == "ours"
    with pytest.raises(Exception, match="not a frame"):
        decode_satellite_frame(msgspec.msgpack.encode([*fields[:8], "x" * 129]))


def test_a_number_that_was_claimed_by_an_impostor_is_not_marked() -> None:
    net = Network()
    ham = net.satellite("ham", token="ours")
    ham.send(*range(3))
    net.run()
    said(net, hello("ham", "theirs", [(7, 1004)]))
    assert net.log.marks["ham", 7] == 3


def test_an_origin_that_is_forgotten_belongs_to_the_next_who_comes() -> None:
    book = OriginBook(wall=lambda: 7.0)
    assert not book.forget("ham")
    assert book.claim(at("10.0.0.2"), OURS)
    assert book.forget("ham")
    assert not book.has_owner("ham")
    assert not book.forget("ham")
    assert book.is_owner("ham", THEIRS)


def test_a_relay_plugin_is_asked_about_satellites_that_own_their_origin_only() -> None:
    net = Network()
    net.satellite("ham", token="ours")
    net.relay.asks = True
    assert said(net, hello("ham", "theirs"))[1][0].reason == close_reasons.IDENTITY
    assert not [event for event in net.relay.events if isinstance(event, AdmissionWanted)]
    spam, nothing = said(net, hello("spam", "ours"))
    assert (spam.state, nothing) == ("asked", [])
    [asked] = [event for event in net.relay.events if isinstance(event, AdmissionWanted)]
    net.relay.admit(asked)
    assert spam.state == "open"
    net.relay.lost(spam, "cut")
    net.relay.admit(asked)  # an answer that comes too late
    assert spam.state == "closed"


def test_one_that_was_asked_about_waits_for_the_disk_too() -> None:
    net = Network()
    net.relay.asks = net.relay.keeps = True
    spam, _ = said(net, hello("spam", "ours"))
    [asked] = net.relay.events
    assert isinstance(asked, AdmissionWanted)
    net.relay.admit(asked)
    assert (spam.state, net.relay.peers) == ("asked", {})
    claim = net.relay.events[-1]
    assert isinstance(claim, OriginClaimed)
    net.relay.claimed(claim)
    assert spam.state == "open"


def test_a_place_that_was_taken_while_the_disk_wrote_is_refused() -> None:
    net = Network(max_peers=1)
    net.relay.keeps = True
    first, _ = said(net, hello("ham", "ours"))
    second, _ = said(net, hello("spam", "theirs"))
    claims = [event for event in net.relay.events if isinstance(event, OriginClaimed)]
    for claim in claims:
        net.relay.claimed(claim)
    assert (first.state, second.state) == ("open", "closed")
    assert decode_relay_frame(second.taken()[-1]).reason == close_reasons.FULL


def test_who_has_sent_something_keeps_its_origin_while_it_is_linked_and_afterwards() -> None:
    net = Network()
    ham, spam = net.satellite("ham", token="ours"), net.satellite("spam", token="theirs")
    ham.send(1)
    net.run()
    net.relay.note_publishers(net.relay.peers.values())
    assert [net.relay.origins.get(origin).published for origin in ("ham", "spam")] == [True, False]
    spam.send(2)
    net.run()
    net.cut(spam)
    assert net.relay.origins.get("spam").published
