"""What the parent of plugin hosts foresees is what it does then: who is given what, with which number."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.plugin.parent.delivery import NETWORK, Delivery
from co2.plugin.parent.delivery_queue import WINDOW, Envelope, QueuedBatch
from co2.plugin.parent.filter_stage import FilterStage, PackageFilters
from co2.plugin.parent.supervisor import Supervisor
from co2.protocol.relay.filter_chain import InFlight
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.plugin_frames.frames import Deliver, Gap, PluginInfo, Publish, Transited, encode_frame
from co2.satellite import forecast
from co2.server.express.loop import Way
from tests.simulation.foresight import filled

ENVELOPE = Envelope("a@1.2.3.4:5", ("1.2.3.4", 5))

steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.sampled_from([NETWORK, "ham"]), st.sampled_from([10, 1000, WINDOW])),
        st.tuples(st.just("done"), st.integers(0, 30)),
        st.sampled_from([("hold",), ("begin",), ("resume",)]),
    ),
    max_size=30,
)


@given(steps)
def test_the_number_of_what_is_delivered_next(todo: list[tuple[Any, ...]]) -> None:
    given: list[Deliver | Gap] = []
    delivery = Delivery(lambda: None)
    for what, *rest in todo:
        if what == "deliver":
            source, size = rest
            number, before = delivery.next_number, len(given)
            queued = QueuedBatch(ENVELOPE, make_batch([bytes(size)]), 1)
            delivery.deliver(source, queued)
            told = [frame for frame in given[before:] if isinstance(frame, Deliver)]
            assert [frame.first for frame in told] == ([number] if number else [])
            assert not told or told[0].batch is queued.batch
        elif what == "done":
            delivery.done(min(rest[0], delivery.window.last))
        elif what == "hold":
            delivery.hold()
        else:
            getattr(delivery, what)(given.append)


class Stub:
    """A package, as its supervisor sees it when something is published or comes."""

    def __init__(self, name: str, wants: bool, durable: bool, number: int) -> None:
        self.name, self.durable, self.number = name, durable, number
        self.next_delivery = (self, number) if number else None
        self.sender = self
        self.receives = wants
        self.got: list[bytes] = []

    def wants(self, channels: Any, sender: str = "") -> bool:
        return self.receives and sender != "ham.m.X_Alone"

    def deliver(self, source: str, queued: QueuedBatch) -> None:
        if self.number:
            envelope = queued.envelope
            frame = Deliver(self.number, envelope.host_id, envelope.client_address, queued.batch, envelope.sender)
            self.got.append(encode_frame(frame)[4:])

    def deliver_from_network(self, queued: QueuedBatch) -> bool:
        self.deliver(NETWORK, queued)
        return True


def supervisor(*packages: Stub) -> Supervisor:
    made: Any = Supervisor(
        [],
        settings=None,  # type: ignore[arg-type]
        var_dict={},
        host_id=lambda: "me@1.2.3.4:6",
        address=lambda: ("1.2.3.4", 6),
        on_publish=lambda *args: None,
        flushed=None,  # type: ignore[arg-type]
        on_methods_changed=lambda: None,
    )
    made._packages = {package.name: package for package in packages}
    found: Supervisor = made
    return found


stubs = st.tuples(st.booleans(), st.booleans(), st.sampled_from([0, 1, 7]))
BATCH = make_batch([b"\x81\xa4data\x01"])


@given(st.lists(stubs, min_size=1, max_size=4), st.sampled_from(["ham.m.X_Ham", "ham.m.X_Alone"]))
def test_what_siblings_get_of_what_a_plugin_sends(rows: list[tuple[bool, bool, int]], plugin: str) -> None:
    packages = [Stub(name, *row) for name, row in zip(("ham", "eggs", "spam", "bacon"), rows, strict=False)]
    carrying = supervisor(*packages)
    found = carrying.next_published("ham", plugin, [""])
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
        foreseen.setdefault(id(sibling), []).append(filled(gets, BATCH))
    assert {id(one): one.got for one in packages if one.got} == foreseen


@given(stubs)
def test_what_a_package_gets_of_what_comes(row: tuple[bool, bool, int]) -> None:
    package = Stub("ham", *row)
    carrying = supervisor(package)
    found = carrying.next_delivered("ham", "a@1.2.3.4:5", ("1.2.3.4", 5))
    carrying.deliver_to("ham", QueuedBatch(Envelope("a@1.2.3.4:5", ("1.2.3.4", 5)), BATCH, 1))
    if found is not None:
        assert [filled(found[1], BATCH)] == package.got
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
    carrying, sender = supervisor(*packages), ("a@1.2.3.4:5", ("1.2.3.4", 5))
    for package in packages:
        for stage in package.filters.stages:
            for changes in (0, 1):
                found: Any = carrying.next_passed(stage, *sender, ("stage.left",))
                child, gets, answers = found
                assert child is package
                stage.take(InFlight(*sender, BATCH, 1, None), lambda passed: None)
                assert filled(gets, BATCH) == package.got.pop()
                assert carrying.next_passed(stage, *sender, None) is None, "it has not answered"
                answer = Transited(package.filters.next_number - 1, BATCH, ["stage.left"], 0, stage.changes)
                assert filled(answers, BATCH) == encode_frame(answer)[4:]
                stage.answered(msgspec.structs.replace(answer, changed=changes))
    assert carrying.next_passed(FilterStage("gone", PackageFilters()), *sender, None) is None


def test_what_is_not_known_of_a_package_that_is_not_there() -> None:
    carrying = supervisor()
    assert carrying.next_published("ham", "ham.m.X_Ham", [""]) is None
    assert carrying.next_delivered("ham", "a@1.2.3.4:5", ("1.2.3.4", 5)) is None


@pytest.mark.parametrize("known", [(True, True), (True, False), (False, True)])
def test_a_part_of_what_a_frame_becomes_is_not_enough(known: tuple[bool, bool]) -> None:
    way: Any = Way(None, 3, 0, None)  # type: ignore[arg-type]
    comes, becomes = (way if one else None for one in known)
    assert (forecast._expected(comes, [way, becomes]) is not None) == all(known)
