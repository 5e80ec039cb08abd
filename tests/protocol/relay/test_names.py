"""Names of hosts at the relay: one for each, steady, found by a beginning, and never another's."""

import random
import time

import pytest

from co2.errors import Ambiguous, UnknownHost
from co2.host_id import HostId
from co2.host_name import is_host_name
from co2.protocol.relay import names
from co2.protocol.relay.names import MAX_COMPARED, MAX_FORMER, MAX_LISTED, NameBook
from co2.protocol.relay.origins import MAX_AT_ONE_ADDRESS, KnownOrigin, OriginBook, hash_of_token
from co2.protocol.satellite.core import SatelliteCore
from co2.protocol.wire.link_frames import Goodbye, Hello, Welcome, decode_relay_frame, encode_link_frame
from tests.protocol.network import FakeSatellite, Network

ONE, TWO, THREE = "1111aaaa1111aaaa", "2222bbbb2222bbbb", "1111cccc3333cccc"


def book(**names: str) -> NameBook:
    """Return a book with these wishes, by origin, in this order."""
    made = NameBook()
    for origin, wish in names.items():
        made.arrived(origin)
        made.give(origin, wish)
    return made


# ---- who has which name --------------------------------------------------------------------------------


def test_the_second_of_a_name_gets_a_number() -> None:
    names = NameBook()
    assert [names.give(origin, "foyer-pi") for origin in (ONE, TWO, THREE)] == [
        "foyer-pi",
        "foyer-pi-2",
        "foyer-pi-3",
    ]
    assert [names.give(origin, "foyer-pi") for origin in (THREE, ONE, TWO)] == [
        "foyer-pi-3",
        "foyer-pi",
        "foyer-pi-2",
    ]
    assert names.owner("foyer-pi-2") == TWO
    assert names.get("stranger") == names.owner("stranger") == ""


def test_a_name_with_a_number_keeps_to_the_limit() -> None:
    names = book(one="x" * 32)
    assert names.give("two", "x" * 32) == "x" * 30 + "-2"
    assert names.give("two", "x" * 32) == "x" * 30 + "-2"


def test_who_wishes_for_no_name_gets_one_of_its_origin_and_keeps_a_better_one() -> None:
    names = NameBook()
    assert names.give(ONE, "") == "host-1111aaaa"
    assert names.give(ONE, "foyer-pi") == "foyer-pi"
    assert names.give(ONE, "") == "foyer-pi", "an older program runs in its folder"


def test_another_wish_gives_the_old_name_free() -> None:
    names = book(one="foyer-pi", two="foyer-pi")
    assert names.give("one", "bar-pi") == "bar-pi"
    assert names.give("two", "foyer-pi") == "foyer-pi", "it is free now"


def test_a_name_is_free_when_its_origin_is_unknown_and_away() -> None:
    names = book(one="foyer-pi")
    names.keep("one")
    names.left("one")
    assert names.give("two", "foyer-pi") == "foyer-pi-2"
    names.drop("one")
    assert names.give("three", "foyer-pi") == "foyer-pi"
    assert names.get("one") == ""
    assert names.shown("one") == "foyer-pi", "its last messages may still be shown"
    names.arrived("three")
    names.drop("three")
    assert names.get("three") == "foyer-pi", "it is connected, though its origin was forgotten"


def test_the_names_of_those_that_have_left_are_limited() -> None:
    names = NameBook()
    for number in range(MAX_FORMER + 5):
        names.give(f"origin{number}", f"one-{number}x")
        names.left(f"origin{number}")
    assert len(names) == 0
    assert names.shown("origin4") == ""
    assert names.shown("origin5") == "one-5x"


@pytest.mark.parametrize("wish", ["foyer", "f", "foyer-p"])
def test_nobody_is_called_like_the_beginning_of_another_s_name(wish: str) -> None:
    """Its owner's friends may type that."""
    names = book(one="foyer-pi")
    assert names.give("evil", wish) == f"{wish}-2"
    with pytest.raises(Ambiguous):
        names.find(wish)
    assert names.find("foyer-pi") == "one"


def test_numbers_are_no_beginnings_of_each_other() -> None:
    names = book(ten="pi-10", eleven="pi-11", second="laptop-2")
    assert names.give("one", "pi-1") == "pi-1"
    assert names.give("first", "laptop") == "laptop", "laptop-2 is the second of that name"
    assert names.find("pi-1") == "one"


def test_nobody_is_called_like_another_s_origin() -> None:
    names = book(stage="foyer-pi")
    assert names.give("evil", "stage") == "stage-2"


def test_a_flood_of_one_wish_costs_little() -> None:
    names = NameBook()
    began = time.process_time()
    for number in range(5_000):
        names.give(f"origin{number}", "raspberrypi")
    assert time.process_time() - began < 2.5
    assert names.give("origin7", "raspberrypi") == "raspberrypi-8"


def test_any_order_of_steps_leaves_each_with_one_name_of_its_own() -> None:
    for seed in range(200):
        dice = random.Random(seed)
        names = NameBook()
        wishes = ["pi", "pi-2", "pi-kitchen", "stage", "x" * 32, "x" * 31, "o1", ""]
        for _ in range(60):
            origin = f"o{dice.randrange(8)}"
            step = dice.choice((names.keep, names.drop, names.arrived, names.left, None))
            if step is not None:
                step(origin)
            else:
                wish = dice.choice(wishes)
                name = names.give(origin, wish)
                assert is_host_name(name)
                assert names.find(name) == origin == names.owner(name)
                assert names.give(origin, wish) == name
        given = [names.get(f"o{number}") for number in range(8)]
        there = [name for name in given if name]
        assert len(set(there)) == len(there) == len(names)


# ---- who is meant --------------------------------------------------------------------------------------


def test_a_host_is_found_by_its_name_its_origin_or_a_beginning() -> None:
    names = book(**{ONE: "foyer-pi", TWO: "stage-pi", THREE: "bar"})
    assert [names.find(text) for text in ("foyer-pi", ONE, "fo", "1111a")] == [ONE] * 4
    assert [names.find(text) for text in ("stage-pi", "s", "2222")] == [TWO] * 3


def test_a_beginning_of_several_lists_them() -> None:
    names = book(**{ONE: "foyer-pi", TWO: "foyer-desk", THREE: "bar"})
    with pytest.raises(Ambiguous) as caught:
        names.find("foyer")
    assert str(caught.value) == (
        f"'foyer' can mean several hosts: foyer-desk ({TWO}), foyer-pi ({ONE}); type more of one"
    )
    with pytest.raises(Ambiguous, match=rf"foyer-pi \({ONE}\), bar \({THREE}\)"):
        names.find("1111")
    many = book(**{f"origin{n}": f"pi-{n}" for n in range(20)})
    with pytest.raises(Ambiguous) as caught:
        many.find("pi")
    assert str(caught.value).count("(origin") == MAX_LISTED
    assert ", …;" in str(caught.value)


def test_too_little_of_an_origin_is_not_enough() -> None:
    with pytest.raises(UnknownHost):
        book(**{ONE: "foyer-pi"}).find("111")


def test_an_unknown_name_has_the_nearest() -> None:
    names = book(**{ONE: "foyer-pi", TWO: "stage-pi"})
    with pytest.raises(UnknownHost, match="there is no host 'foyr-pi'; did you mean 'foyer-pi'\\?"):
        names.find("foyr-pi")
    with pytest.raises(UnknownHost, match=r"there is no host 'kitchen' \(co2 ps"):
        names.find("kitchen")


def test_a_number_is_not_cut() -> None:
    """Otherwise whoever types pi-1 for a host that was forgotten would reach pi-10."""
    names = book(**{ONE: "pi-10"})
    with pytest.raises(UnknownHost):
        names.find("pi-1")
    assert names.find("pi") == ONE


def test_who_chooses_its_origin_gets_no_calls_of_others() -> None:
    names = book(one="foyer-pi")
    for origin in ("foyer-pi", "foyer"):  # a member without a link chooses it
        names.arrived(origin)
        names.give(origin, "")
    assert names.find("foyer-pi") == "one"
    with pytest.raises(Ambiguous):
        names.find("foyer")


# ---- with the owners of origins ------------------------------------------------------------------------


def at(origin: str, ip: str = "10.0.0.2") -> HostId:
    return HostId(origin, ip, 2004)


def test_a_name_stays_with_its_origin_across_a_restart() -> None:
    first = OriginBook()
    for origin in (ONE, TWO):
        first.claim(at(origin), hash_of_token(origin), "foyer-pi")
    changes = first.take_changes()
    assert {origin: one and one.name for origin, one in changes.items()} == {ONE: "foyer-pi", TWO: "foyer-pi-2"}
    second = OriginBook(one for one in reversed(changes.values()) if one is not None)
    assert second.names.give(THREE, "foyer-pi") == "foyer-pi-3"
    assert [second.name(origin, "foyer-pi") for origin in (TWO, ONE)] == ["foyer-pi-2", "foyer-pi"]
    assert not second.has_changes


def test_a_known_origin_of_an_older_relay_gets_its_name_on_disk() -> None:
    known = OriginBook([KnownOrigin(ONE, b"t", "10.0.0.2", 0.0, published=True)])
    assert known.name(ONE, "foyer-pi") == "foyer-pi"
    assert known.take_changes() == {ONE: KnownOrigin(ONE, b"t", "10.0.0.2", 0.0, True, "foyer-pi")}


@pytest.mark.parametrize("name", ["", "No Name", "8f3a61c29b04d7e5", "foyer-pi", "x" * 999])
def test_a_damaged_name_is_none(name: str) -> None:
    """Two rows with one name, for instance."""
    known = OriginBook(
        [KnownOrigin(ONE, b"", "", 0.0, name="foyer-pi"), KnownOrigin(TWO, b"", "", 0.0, name=name)]
    )
    assert [known.names.get(origin) for origin in (ONE, TWO)] == ["foyer-pi", ""]
    assert known.name(TWO, "foyer-pi") == "foyer-pi-2"


def test_a_forgotten_origin_leaves_its_name() -> None:
    known = OriginBook()
    known.claim(at(ONE), b"", "foyer-pi")
    known.forget(ONE)
    known.claim(at(TWO), b"", "foyer-pi")
    assert known.names.get(TWO) == "foyer-pi"


def test_a_flood_of_origins_leaves_no_names_behind() -> None:
    known = OriginBook()
    for number in range(MAX_AT_ONE_ADDRESS + 50):
        known.claim(at(f"o{number}"), b"", f"n-{number}x")
    assert len(known.names) == len(known) == MAX_AT_ONE_ADDRESS


# ---- over the link -------------------------------------------------------------------------------------


def named(net: Network, origin: str, wish: str, *, epoch: int = 7, token: str | None = None) -> FakeSatellite:
    """Add a connected satellite that wishes for a name."""
    satellite = FakeSatellite(origin, epoch, len(net.satellites) + 2, token)
    host_id, outbox = satellite.core.host_id, satellite.outbox
    satellite.core = SatelliteCore(host_id, outbox, lambda: ([], []), token or f"token of {origin}", wish)
    net.satellites.append(satellite)
    net.connect(satellite)
    return satellite


def test_two_satellites_that_wish_for_one_name() -> None:
    net = Network()
    first, second = (named(net, origin, "foyer-pi") for origin in (ONE, TWO))
    assert (first.core.name, second.core.name) == ("foyer-pi", "foyer-pi-2")
    net.cut(first)
    net.cut(second)
    net.connect(second)
    assert second.core.name == "foyer-pi-2", "the first one is only away"
    net.connect(first)
    assert (first.core.name, net.relay.names.find("foyer-pi")) == ("foyer-pi", ONE)


def test_a_satellite_older_than_names_gets_one_of_its_origin() -> None:
    net = Network()
    satellite = net.satellite(ONE, "p")
    assert satellite.core.name == "host-1111aaaa"
    assert net.relay.peers[ONE].label == "host-1111aaaa (1111aaaa1111aaaa@10.0.0.2:2004)"


def test_a_satellite_of_a_relay_older_than_names_has_its_own_wish() -> None:
    satellite = FakeSatellite(ONE, 7, 2)
    core = SatelliteCore(satellite.core.host_id, satellite.outbox, lambda: ([], []), "", "foyer-pi")
    for given, name in (("", "foyer-pi"), ("foyer-pi-2", "foyer-pi-2"), ("", "foyer-pi"), ("<b>", "foyer-pi")):
        core.lost("cut")
        core.connected()
        core.taken()
        core.receive(
            encode_link_frame(Welcome(str(core.host_id), "relay@10.0.0.1:2003", "log", "run", 1, [], name=given))
        )
        assert (core.state, core.name) == ("open", name)


def test_older_ends_of_a_link_understand_newer_frames() -> None:
    """What is new stands at the end, where a decoder that does not know it passes over it."""
    import msgspec

    hello = Hello("ham@10.0.0.2:2004", "", "", [], [(7, 1)], [], [], name="foyer-pi")
    fields = msgspec.msgpack.decode(encode_link_frame(hello))
    assert fields[-1] == "foyer-pi"
    assert decode_relay_frame(
        msgspec.msgpack.encode(["Welcome", "ham@10.0.0.2:2004", "relay@10.0.0.1:2003", "log", "run", 1, []])
    ) == Welcome("ham@10.0.0.2:2004", "relay@10.0.0.1:2003", "log", "run", 1, [])


@pytest.mark.parametrize("wish", ["Foyer", "8f3a61c29b04d7e5", "a@b", "-", "\x1b[2J", "x" * 33, "x" * 100_000])
def test_a_wish_that_is_no_name_ends_the_link(wish: str) -> None:
    net = Network()
    peer = net.relay.opened(("10.0.0.9", 1))
    net.relay.receive(peer, encode_link_frame(Hello(f"{ONE}@10.0.0.9:1", "", "", [], [(7, 1)], [], [], name=wish)))
    (frame,) = (decode_relay_frame(data) for data in peer.taken())
    assert isinstance(frame, Goodbye)
    assert frame.reason == "garbage"
    assert len(net.relay.names) == 1, "the relay's own"


def test_nobody_takes_the_relay_s_name() -> None:
    net = Network()
    assert named(net, ONE, net.relay.name).core.name == f"{net.relay.name}-2"


def test_a_satellite_that_takes_over_from_itself_keeps_its_name() -> None:
    net = Network()
    satellite = named(net, ONE, "foyer-pi")
    for _ in range(5):  # the relay has not noticed that the connection is lost
        satellite.core.lost("cable")
        net.connect(satellite)
        assert satellite.core.name == "foyer-pi"


def test_who_has_another_token_neither_gets_nor_changes_the_name() -> None:
    net = Network()
    owner = named(net, ONE, "foyer-pi")
    impostor = named(net, ONE, "evil", token="another")
    assert impostor.ended
    net.cut(owner)
    net.connect(impostor)
    assert (impostor.peer, net.relay.names.get(ONE)) == (None, "foyer-pi")
    net.connect(owner)
    assert owner.core.name == "foyer-pi"


def test_clones_are_one_host_with_one_name() -> None:
    net = Network()
    first = named(net, ONE, "foyer-pi", epoch=7)
    clone = named(net, ONE, "foyer-pi", epoch=8)
    assert clone.core.name == "foyer-pi"
    net.connect(first)  # it was displaced and returns: both are refused
    assert [one.ended[-1].reason for one in (first, clone)] == ["cloned", "cloned"]
    assert (len(net.relay.names), net.relay.names.get(ONE)) == (2, "foyer-pi")


def test_a_refused_clone_does_not_rename() -> None:
    net = Network()
    first = named(net, ONE, "foyer-pi", epoch=7)
    second = named(net, ONE, "foyer-pi", epoch=8)
    first.core = SatelliteCore(first.core.host_id, first.outbox, lambda: ([], []), f"token of {ONE}", "evil")
    net.connect(first)
    assert [one.ended[-1].reason for one in (first, second)] == ["cloned", "cloned"]
    assert net.relay.names.get(ONE) == "foyer-pi"


def test_few_names_are_compared_with_an_unknown_one(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[list[str]] = []
    monkeypatch.setattr(names, "nearest", lambda _text, known: compared.append([*known]) or "")
    book = NameBook()
    for number in range(1_000):
        book.give(f"{number:016x}", f"host{number:03}")
    book.similar("host5000")
    [around] = compared
    assert len(around) == MAX_COMPARED
    assert {"host499", "host500"} <= {*around}
    book.similar("host0000")
    assert len(compared[1]) <= MAX_COMPARED
