"""What relay and satellite expect next is what they do then: who gets what, with which numbers."""

from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.host_id import HostId
from co2.plugin.parent.delivery import NETWORK
from co2.plugin.parent.delivery_queue import Envelope, QueuedBatch
from co2.plugin.parent.filter_stage import FilterStage, PackageFilters
from co2.plugin.parent.supervisor import Supervisor
from co2.protocol.relay.filter_chain import InFlight, Passed
from co2.protocol.relay.losses import Loss
from co2.protocol.satellite.core import SatelliteCore
from co2.protocol.satellite.outbox import Outbox
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.link_frames import MAX_NUMBER
from co2.protocol.wire.plugin_frames.frames import Deliver, PluginInfo, Publish, Transited, encode_frame
from co2.server.express import relay_forecast
from co2.server.express.loop import COUNTED, FROM_CLIENT, FROM_SERVER, MAX_RUN_MESSAGES, Way
from co2.server.express.relay_forecast import RelayForecast, Stretch
from co2.server.express.satellite_forecast import SatelliteForecast
from co2.server.express.ways import expected_or_none
from tests.protocol.network import FakeSatellite, Network, batch_of, sent
from tests.protocol.relay.test_filter_chain import FakeFilter, Held
from tests.protocol.relay.test_filter_chain import sent as sent_and_numbered
from tests.simulation.foresight import filled

ME = HostId("me", "1.2.3.4", 6)


class Spoken(NamedTuple):
    """A network in which ham has sent spam a small message, and all is quiet; with what each expects next."""

    net: Network
    ham: FakeSatellite
    spam: FakeSatellite
    at_relay: RelayForecast
    at_ham: SatelliteForecast
    at_spam: SatelliteForecast


def at(satellite: FakeSatellite) -> SatelliteForecast:
    return SatelliteForecast(satellite.core, {}, lambda: None, lambda: None)


def spoken() -> Spoken:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "p")
    all_is_quiet = Spoken(net, ham, spam, RelayForecast(net.relay, {}, net.log.pass_over), at(ham), at(spam))
    ham.send(1)
    net.run()
    net.relay.ready.clear()  # all that was out has been taken
    return all_is_quiet


# ---- numbers ----------------------------------------------------------------------------------------------------


def test_numbers_of_a_relay_go_on_with_each_frame_as_it_was_foreseen_before_the_first():
    net, ham, spam, forecast, *_ = spoken()
    eggs = net.satellite("eggs", "p")
    eggs.send("x")
    net.run()
    net.relay.ready.clear()
    stretches = {stretch[0].origin: stretch for stretch in forecast.recent}
    ahead = {who: forecast.next_publish(stretch) for who, stretch in stretches.items()}
    for who, count in (("ham", 1), ("ham", 3), ("eggs", 2), ("ham", 1), ("eggs", 1)):
        found = forecast.next_publish(stretches[who])
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
    _, ham, _, _, forecast, _ = spoken()
    ahead = forecast.next_publish("p", "p.m.X_P", [""])
    for count in (1, 130, 2):
        assert forecast.next_publish("p", "p.m.X_P", [""]) == ahead
        ham.core.outbox.put(*sent(*range(count)))
        ham.core.taken()
        ahead = ahead.after(count)


def test_a_satellite_foresees_messages_though_its_own_come_in_between():
    net, ham, spam, _, _, forecast = spoken()
    (stretch,) = forecast.recent
    for number in range(2):
        spam.send("an answer")
        net.run()
        comes, packages = forecast.next_deliver(stretch)
        assert packages == ["p"]
        position, seq = comes.numbers
        assert position.is_free and position.value <= net.relay.log.last + 1
        assert (seq.is_free, seq.value) == (True, 2 + number)
        ham.send(number)
        net.run()


# ---- when nothing is foreseen -----------------------------------------------------------------------------------


def foreseen(forecast: RelayForecast) -> int:
    return sum(forecast.next_publish(stretch) is not None for stretch in forecast.recent)


def test_a_relay_foresees_what_is_as_usual_only():
    net, _, _, forecast, *_ = spoken()
    assert foreseen(forecast) == 1
    (stretch,) = forecast.recent
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
        assert foreseen(forecast) == 0
        undo()
        assert foreseen(forecast) == 1
    with mock.patch.object(relay.filter_chain, "occupied", True):
        assert foreseen(forecast) == 0
    relay.fan_out.add_loss("ham", "lost in a test")
    relay.ready.clear()
    assert foreseen(forecast) == 1, "all that stand at the head were told of it at once"
    relay.log.add_loss(Loss(relay.log.last, "eggs", "told to nobody yet"))
    assert foreseen(forecast) == 0


def test_a_satellite_foresees_what_is_as_usual_only():
    _, _, spam, _, _, forecast = spoken()
    core = spam.core
    (stretch,) = forecast.recent
    assert forecast.next_deliver(stretch) is not None
    for what, undo in (
        (lambda: core.events.append(None), core.events.clear),
        (lambda: core._out.append(b""), core._out.clear),
        (lambda: setattr(core, "state", "away"), lambda: setattr(core, "state", "open")),
        (lambda: setattr(core, "live_position", MAX_NUMBER), lambda: setattr(core, "live_position", 2)),
    ):
        what()
        assert forecast.next_deliver(stretch) is None
        undo()
        assert forecast.next_deliver(stretch) is not None
    own = (str(core.host_id), *stretch[1:])
    assert forecast.next_deliver(own) is None, "what it has sent itself does not come on the live stream"
    core.fell_behind("p")
    assert forecast.next_deliver(stretch) is None


def test_an_outbox_foresees_what_goes_out_at_once_only():
    _, ham, _, _, forecast, _ = spoken()
    core = ham.core
    assert forecast.next_publish("p", "p.m.X_P", [""]) is not None
    core.paused = True
    assert forecast.next_publish("p", "p.m.X_P", [""]) is None
    core.paused = False
    core.outbox.put(*sent(2))
    assert forecast.next_publish("p", "p.m.X_P", [""]) is None
    core.taken()
    assert forecast.next_publish("p", "p.m.X_P", [""]) is not None
    core.outbox.renew(12345)
    core.publish(*sent(3))
    core.taken()
    assert forecast.next_publish("p", "p.m.X_P", [""]) is None, "what is left of the run before goes first"


# ---- what plugin hosts get --------------------------------------------------------------------------------------


class Stub:
    """A package, as its supervisor sees it when something is published or comes."""

    def __init__(self, name: str, wants: bool, durable: bool, number: int, times: bool = False) -> None:
        self.name, self.durable, self.number, self.times = name, durable, number, times
        self.sender = self
        self.receives = wants
        self.got: list[bytes] = []

    def next_delivery(self, room: int) -> Any:
        return (self, self.number) if self.number else None

    def wants(self, channels: Any, sender: str = "") -> bool:
        return self.receives and sender != "ham.m.X_Alone"

    def deliver(self, source: str, queued: QueuedBatch) -> None:
        if self.number:
            envelope = queued.envelope
            address = envelope.client_address
            frame = Deliver(
                self.number, queued.cause, queued.run,
                envelope.host_id, address, queued.batch, envelope.sender, at=envelope.at,
            )  # fmt: skip
            self.got.append(encode_frame(frame)[4:])

    def deliver_from_network(self, queued: QueuedBatch) -> bool:
        self.deliver(NETWORK, queued)
        return True


def supervisor(*packages: Stub, number: tuple[int, int] = (0, 0)) -> Supervisor:
    made: Any = Supervisor(
        [],
        settings=None,  # type: ignore[arg-type]
        var_dict={},
        host_id=lambda: str(ME),
        address=lambda: (ME.ip, ME.port),
        on_publish=lambda *args: None,
        flushed=None,  # type: ignore[arg-type]
        on_methods_changed=lambda: None,
        clock=lambda: AT,
        next_number=lambda: number,
    )
    made._packages = {package.name: package for package in packages}
    found: Supervisor = made
    return found


def forecast_of(carrying: Supervisor, *, causes: bool = False) -> SatelliteForecast:
    core = SatelliteCore(ME, Outbox(7, 10**6, lambda: None, lambda: None), lambda: ([], []))
    core.causes = causes
    core.live_position = 48_208
    return SatelliteForecast(core, carrying.packages, lambda: None, lambda: None)


stubs = st.tuples(st.booleans(), st.booleans(), st.sampled_from([0, 1, 7]), st.booleans())
AT = 1.7e9 + 0.25
BATCH = make_batch([b"\x81\xa4data\x01"])


@given(st.lists(stubs, min_size=1, max_size=4), st.sampled_from(["ham.m.X_Ham", "ham.m.X_Alone"]), st.booleans())
def test_what_siblings_get_of_what_a_plugin_sends(
    rows: list[tuple[bool, bool, int, bool]], plugin: str, causes: bool
) -> None:
    packages = [Stub(name, *row) for name, row in zip(("ham", "eggs", "spam", "bacon"), rows, strict=False)]
    carrying = supervisor(*packages, number=(7, 1) if causes else (0, 0))
    found = forecast_of(carrying, causes=causes).next_published("ham", plugin, [""])
    carrying.published(packages[0], Publish(plugin, [""], BATCH), 1)  # type: ignore[arg-type]
    if found is None:
        concerned = [one for one in packages if not one.durable and not one.number]
        assert any(one.wants([""], plugin if one is packages[0] else "") for one in concerned)
        return
    child, comes, siblings = found
    assert child is packages[0]
    assert filled(comes, BATCH) == encode_frame(Publish(plugin, [""], BATCH))[4:]
    foreseen: dict[int, list[bytes]] = {}
    for sibling, gets in siblings:
        foreseen.setdefault(id(sibling), []).append(filled(gets, BATCH, AT))
    assert {id(one): one.got for one in packages if one.got} == foreseen


@given(stubs, st.booleans())
def test_what_a_package_gets_of_what_comes(row: tuple[bool, bool, int, bool], causes: bool) -> None:
    package = Stub("ham", *row)
    carrying = supervisor(package)
    found = forecast_of(carrying, causes=causes).next_delivered("ham", "a@1.2.3.4:5", ("1.2.3.4", 5))
    at = AT if carrying.wants_times("ham") else 0.0
    envelope = Envelope("a@1.2.3.4:5", ("1.2.3.4", 5), "", at)
    carrying.deliver_to("ham", QueuedBatch(envelope, BATCH, 1, cause=48_209 if causes else 0))
    if found is not None:
        assert [filled(found[1], BATCH, AT)] == package.got
    assert (found is not None) == bool(package.got)


class Filtering(Stub):
    """A package with relay plugins; it answers as it did last."""

    def __init__(self, name: str, *plugins: str) -> None:
        super().__init__(name, False, False, 1)
        self.filters = PackageFilters()
        self.filters.begin(
            lambda frame: self.got.append(encode_frame(frame)[4:]),
            [PluginInfo(plugin, plugin, False, "", [], False, True) for plugin in plugins],
        )

    def next_passed(self, stage: FilterStage) -> "tuple[Filtering, int] | None":
        return (self, stage.next_number) if stage.next_number else None


def test_what_a_relay_plugin_gets_of_what_comes_and_its_answer() -> None:
    packages = [Filtering("ham", "ham.m.X_Ham"), Filtering("eggs", "eggs.m.X_One", "eggs.m.X_Other")]
    net, sender = Network(), ("a@1.2.3.4:5", ("1.2.3.4", 5))
    carried: Any = {package.name: package for package in packages}
    forecast = RelayForecast(net.relay, {}, net.log.pass_over, carried)
    for package in packages:
        for stage in package.filters.stages:
            for changes in (0, 1):
                found: Any = forecast.next_passed(stage, *sender, ("stage.left",))
                child, gets, answers = found
                assert child is package
                stage.take(InFlight(*sender, BATCH, 1, None), lambda passed: None)
                assert filled(gets, BATCH) == package.got.pop()
                assert forecast.next_passed(stage, *sender, None) is None, "it has not answered"
                answer = Transited(package.filters.next_number - 1, BATCH, ["stage.left"], 0, stage.changes)
                assert filled(answers, BATCH) == encode_frame(answer)[4:]
                stage.answered(msgspec.structs.replace(answer, changed=changes))
    assert forecast.next_passed(FilterStage("gone", PackageFilters()), *sender, None) is None


def test_what_is_not_known_of_a_package_that_is_not_there() -> None:
    forecast = forecast_of(supervisor())
    assert forecast.next_published("ham", "ham.m.X_Ham", [""]) is None
    assert forecast.next_delivered("ham", "a@1.2.3.4:5", ("1.2.3.4", 5)) is None


@pytest.mark.parametrize("known", [(True, True), (True, False), (False, True)])
def test_a_part_of_what_a_frame_becomes_is_not_enough(known: tuple[bool, bool]) -> None:
    way: Any = Way(None, 3, 0, None)  # type: ignore[arg-type]
    comes, becomes = (way if one else None for one in known)
    assert (expected_or_none(comes, [way, becomes]) is not None) == all(known)


def test_what_comes_over_a_link_is_foreseen_for_all_packages_that_want_it_or_not_at_all() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "p", "q")
    packages: Any = {name: Stub(name, True, False, 1) for name in "pq"}
    packages["p"].descriptor, packages["q"].descriptor = 7, 8
    wire = mock.Mock(is_client=True, read_descriptor=5, write_descriptor=6)
    forecast = SatelliteForecast(spam.core, packages, lambda: wire, lambda: None)
    assert forecast() == []
    ham.send(1)
    net.run()
    [expected] = forecast()
    assert (expected.comes.end, expected.comes.descriptor) == (wire, 5)
    assert [(way.end, way.descriptor) for way in expected.becomes] == [(packages["p"], 7), (packages["q"], 8)]
    packages["q"].number = 0
    assert forecast() == [], "one of them cannot take it now"


def test_what_a_plugin_sends_is_foreseen_for_the_link_and_all_packages_beside_it_or_not_at_all() -> None:
    net = Network()
    ham = net.satellite("ham")
    packages: Any = {name: Stub(name, name != "p", False, 1) for name in "pqr"}
    for descriptor, package in enumerate(packages.values(), 7):
        package.descriptor = descriptor
    wire = mock.Mock(is_client=True, read_descriptor=5, write_descriptor=6)
    wires = [wire]
    given_up: list[str] = []
    forecast = SatelliteForecast(ham.core, packages, lambda: wires[-1], lambda: given_up.append("numbers"))
    assert forecast() == []
    ham.send(1)
    net.run()
    [expected] = forecast()
    assert (expected.comes.end, expected.comes.descriptor, expected.comes.framing) == (packages["p"], 7, COUNTED)
    assert [(way.end, way.descriptor, way.framing) for way in expected.becomes] == [
        (packages["q"], 8, COUNTED),
        (packages["r"], 9, COUNTED),
        (wire, 6, FROM_CLIENT),
    ]
    for end, name in ((packages["p"], "descriptor"), (packages["r"], "descriptor"), (wire, "write_descriptor")):
        with mock.patch.object(end, name, -1):
            assert forecast() == [], "one of them cannot take it now"
    with mock.patch.object(packages["q"], "number", 0):
        assert forecast() == []
    wires.append(None)
    assert forecast() == []
    wires.pop()
    assert forecast() == [expected]
    assert (expected.failed(), given_up) == (False, ["numbers"]), (
        "a bug of ours, and its numbers are not used again"
    )


class Wired(NamedTuple):
    """A relay with connections, to which ham has sent a small message that spam and eggs got, and all is quiet."""

    net: Network
    wires: Any
    forecast: RelayForecast
    passed_over: list[int]


def wired() -> Wired:
    net, passed_over = Network(), []
    ham, spam, eggs = net.satellite("ham"), net.satellite("spam", "p"), net.satellite("eggs", "p")
    wires: Any = {
        one.peer: mock.Mock(is_client=False, read_descriptor=at, write_descriptor=at + 10)
        for at, one in enumerate((ham, spam, eggs), 5)
    }
    forecast = RelayForecast(net.relay, wires, passed_over.append)
    assert forecast() == []
    ham.send(1)
    net.run()
    net.relay.ready.clear()
    return Wired(net, wires, forecast, passed_over)


def test_what_comes_over_a_link_is_foreseen_for_all_links_that_get_it_or_not_at_all() -> None:
    _, wires, forecast, _ = wired()
    ham, spam, eggs = wires.values()
    [expected] = forecast()
    assert (expected.comes.end, expected.comes.descriptor, expected.comes.framing) == (ham, 5, FROM_CLIENT)
    assert [(way.end, way.descriptor, way.framing) for way in expected.becomes] == [
        (spam, 16, FROM_SERVER),
        (eggs, 17, FROM_SERVER),
    ]
    assert expected.answers is None
    for end, name in ((ham, "read_descriptor"), (spam, "write_descriptor"), (eggs, "write_descriptor")):
        with mock.patch.object(end, name, -1):
            assert forecast() == [], "one of them is busy"
    assert forecast()
    del wires[next(iter(wires))]
    assert forecast() == [], "its connection is gone"


def test_where_nobody_receives_nothing_is_foreseen() -> None:
    net = Network()
    ham = net.satellite("ham")
    wires: Any = {ham.peer: mock.Mock(is_client=False, read_descriptor=5, write_descriptor=6)}
    forecast = RelayForecast(net.relay, wires, net.log.pass_over)
    ham.send(1)
    net.run()
    net.relay.ready.clear()
    assert foreseen(forecast) == 1
    assert forecast() == []


def test_positions_of_what_was_passed_on_and_refused_are_passed_over() -> None:
    net, _, forecast, passed_over = wired()
    [expected] = forecast()
    last = net.log.last
    assert not expected.failed(), "a bug of ours"
    net.log.takes = False
    assert expected.failed(), "the disk is full"
    assert passed_over == [last + MAX_RUN_MESSAGES] * 2


def test_a_relay_foresees_a_number_of_ways_only(monkeypatch: pytest.MonkeyPatch) -> None:
    net, _, forecast, _ = wired()
    net.satellites[1].send(1)
    net.run()
    net.relay.ready.clear()
    assert [len(expected.becomes) for expected in forecast()] == [1, 2], "the latest first"
    for most, foreseen_ways in ((3, [1, 2]), (2, [1, 2]), (1, [1])):
        monkeypatch.setattr(relay_forecast, "MAX_WAYS", most)
        assert [len(expected.becomes) for expected in forecast()] == foreseen_ways


# ---- through a relay plugin -----------------------------------------------------------------------------------


def quiet() -> tuple[Held, RelayForecast, Stretch]:
    """A relay through whose filter a small message has gone, and all is quiet."""
    held = Held()
    forecast = RelayForecast(held.net.relay, {}, held.net.log.pass_over)
    sent_and_numbered(held.net, held.spam, 1)
    held.answer(None)
    held.net.relay.ready.clear()
    (stretch,) = forecast.recent
    return held, forecast, stretch


def test_what_comes_and_what_leaves_is_foreseen_also_where_several_are_on_their_way() -> None:
    held, forecast, stretch = quiet()
    core = held.net.relay
    sender, receiver = held.spam.peer, held.ham.peer
    assert forecast.next_publish(stretch) is None
    found = forecast.next_filtered(stretch)
    assert found is not None and sender is not None and receiver is not None
    through, comes, becomes, receivers = found
    assert (through, receivers) == (held.filter, [receiver])
    for count in (1, 3, 2):
        core.receive(sender, filled(comes, batch_of(*range(count))))
        comes = comes.after(count)
        assert forecast.next_filtered(stretch) is None, "something is on its way"
    for count in (1, 3, 2):
        changed = batch_of(*range(7, 7 + count))
        held.filter.asked.popleft()[1](Passed(changed, ("",)))
        core.come_through()
        assert core.taken(receiver) == [filled(becomes, changed, core.wall())]
        becomes = becomes.after(count)
    core.ready.clear()
    assert forecast.next_filtered(stretch) == (held.filter, comes, becomes, receivers)


def test_with_other_filters_nothing_is_foreseen() -> None:
    held, forecast, stretch = quiet()
    core = held.net.relay
    for filters, is_foreseen in (
        ([], False),
        ([held.filter], True),
        ([held.filter, FakeFilter(b"")], False),
        ([FakeFilter(b"", wanted="another channel")], False),
    ):
        core.filter_chain.set_filters(filters)
        assert (forecast.next_filtered(stretch) is not None) == is_foreseen
    held.filter_chain.set_filters([held.filter])
    core.closing = True
    assert forecast.next_filtered(stretch) is None


def test_what_a_relay_plugin_gets_and_its_answer_are_foreseen_together_or_not_at_all() -> None:
    held = Held()
    child = mock.Mock(descriptor=7)
    package: Any = SimpleNamespace(
        name="p", filters=SimpleNamespace(stages=[held.filter]), next_passed=lambda stage: (child, 3)
    )
    sender: Any = mock.Mock(is_client=False, read_descriptor=5, write_descriptor=15)
    receiver: Any = mock.Mock(is_client=False, read_descriptor=6, write_descriptor=16)
    assert held.spam.peer is not None and held.ham.peer is not None
    wires = {held.spam.peer: sender, held.ham.peer: receiver}
    held.filter.plugin, held.filter.changes = "p.m.X_P", 0  # type: ignore[attr-defined]
    forecast = RelayForecast(held.net.relay, wires, held.net.log.pass_over, {"p": package})
    sent_and_numbered(held.net, held.spam, 1)
    assert forecast() == [], "it has not answered"
    held.answer(None)
    held.net.relay.ready.clear()
    given, answer = forecast()
    assert (given.comes.end, given.comes.descriptor, given.comes.framing) == (sender, 5, FROM_CLIENT)
    assert [(way.end, way.descriptor, way.framing) for way in given.becomes] == [(child, 7, COUNTED)]
    assert (answer.comes.end, answer.comes.descriptor, answer.comes.framing) == (child, 7, COUNTED)
    assert [(way.end, way.descriptor, way.framing) for way in answer.becomes] == [(receiver, 16, FROM_SERVER)]
    assert (given.answers, answer.answers) == (None, given)
    for end, name in ((sender, "read_descriptor"), (receiver, "write_descriptor"), (child, "descriptor")):
        with mock.patch.object(end, name, -1):
            assert forecast() == [], "one of them is busy"
    assert len(forecast()) == 2
    package.next_passed = lambda stage: None
    assert forecast() == [], "its package cannot take it now"
