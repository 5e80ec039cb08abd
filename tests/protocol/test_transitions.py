"""Both state machines do what the table says, in every state with every frame; and the docs show that table."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any, get_args
from zlib import crc32

import pytest

from co2.protocol.transitions import (
    NO_FRAMES,
    RELAY,
    SATELLITE,
    Lost,
    Table,
    drawn,
    in_place,
    next_state,
)
from co2.protocol.wire import close_reasons
from co2.protocol.wire.link_frames import (
    Ack,
    Applied,
    Call,
    Deliver,
    Gap,
    Goodbye,
    Hello,
    Hold,
    Interest,
    Publish,
    Receipt,
    RelayFrame,
    Replay,
    Result,
    Roster,
    SatelliteFrame,
    Snapshot,
    Subscription,
    Welcome,
    decode_relay_frame,
    decode_satellite_frame,
    encode_link_frame,
)
from tests.protocol.network import FakeSatellite, Network, batch_of

ROOT = Path(__file__).parent.parent.parent

HELLO = Hello("ham@10.0.0.2:2004", "", "", [Subscription("p")], [(7, 1)], [], [])
OF_SATELLITE: dict[type, Any] = {
    Hello: HELLO,
    Publish: Publish(7, 1, "p", "p.m.X", [""], crc32(batch_of(1)), batch_of(1)),
    Hold: Hold(),
    Interest: Interest([], [], []),
    Replay: Replay("p", 1, 1),
    Applied: Applied({}),
    Call: Call(1, "ping", b"\xc0", 1.0),
    Result: Result(1),
    Goodbye: Goodbye("stopping", ""),
}
OF_RELAY: dict[type, Any] = {
    Welcome: Welcome("ham@10.0.0.2:2004", "relay@10.0.0.1:2003", "log-1", "run-1", 1, []),
    Ack: Ack(7, 0),
    Hold: Hold(),
    Receipt: Receipt("log-1", "run-1", 1, b""),
    Deliver: Deliver(2, "", "x@10.0.0.3:2004", ("10.0.0.3", 1), 1, 1, "p", "p.m.X", [""],
                     crc32(batch_of(1)), batch_of(1)),
    Snapshot: Snapshot("p", 1, 1, [], True, 0, 0),
    Replay: Replay("p", 1, 1),
    Gap: Gap("", 1, 2, "retention"),
    Roster: Roster([]),
    Call: Call(1, "ping", b"\xc0", 1.0),
    Result: Result(1),
    Goodbye: Goodbye("stopping", ""),
}  # fmt: skip

EVENTS = {
    Hello: "Joined",
    Interest: "Joined",
    Call: "CallReceived",
    Result: "ResultReceived",
    Welcome: "Welcomed",
    Deliver: "Delivered",
    Gap: "GapTold",
    Roster: "RosterTold",
}
"""What some frames must lead to, so that "in place" is more than "not refused"."""


def test_every_frame_of_either_side_is_tried_and_has_its_place() -> None:
    assert set(OF_SATELLITE) == set(get_args(SatelliteFrame))
    assert set(OF_RELAY) == set(get_args(RelayFrame))
    for table, frames in ((RELAY, OF_SATELLITE), (SATELLITE, OF_RELAY)):
        placed = {what for moves in table.values() for what in moves} - NO_FRAMES
        assert placed == set(frames)
        assert {state for moves in table.values() for state in moves.values()} <= set(table)


@pytest.mark.parametrize("frame", OF_SATELLITE)
@pytest.mark.parametrize("state", RELAY)
def test_the_relay_in_each_state_with_each_frame(state: str, frame: type) -> None:
    net = Network()
    peer = net.relay.opened(("10.0.0.2", 1))
    net.relay.asks = state == "asked"
    if state != "opening":
        net.relay.receive(peer, encode_link_frame(HELLO))
    if state == "closed":
        net.relay.lost(peer, "cut")
    assert peer.state == state
    net.relay.taken(peer)
    net.relay.events.clear()
    net.relay.receive(peer, encode_link_frame(OF_SATELLITE[frame]))
    following = RELAY[state].get(frame)
    assert peer.state == (following or "closed")
    said = [decode_relay_frame(data) for data in peer.taken()]
    refused = [goodbye.reason for goodbye in said if isinstance(goodbye, Goodbye)]
    assert refused == ([close_reasons.OUT_OF_PLACE] if following is None and state != "closed" else [])
    if following == "open" and frame in EVENTS:
        assert [type(event).__name__ for event in net.relay.events] == [EVENTS[frame]]


@pytest.mark.parametrize("frame", OF_RELAY)
@pytest.mark.parametrize("state", SATELLITE)
def test_the_satellite_in_each_state_with_each_frame(state: str, frame: type) -> None:
    core = FakeSatellite("ham", 7, 2).core
    core.subscribe("b")
    if state != "away":
        core.connected()
    if state == "open":
        core.receive(encode_link_frame(OF_RELAY[Welcome]))
    assert core.state == state
    core.taken()
    core.events.clear()
    core.receive(encode_link_frame(OF_RELAY[frame]))
    following = SATELLITE[state].get(frame)
    assert core.state == (following or "away")
    said = [decode_satellite_frame(data) for data in core.taken()]
    refused = [goodbye.reason for goodbye in said if isinstance(goodbye, Goodbye)]
    assert refused == ([close_reasons.OUT_OF_PLACE] if following is None and state != "away" else [])
    if following == "open" and frame in EVENTS:
        assert [type(event).__name__ for event in core.events] == [EVENTS[frame]]


@pytest.mark.parametrize("state", RELAY)
def test_the_relay_in_each_state_when_the_connection_is_lost(state: str) -> None:
    net = Network()
    peer = net.relay.opened(("10.0.0.2", 1))
    if state != "opening":
        net.relay.receive(peer, encode_link_frame(HELLO))
    net.relay.events.clear()
    for _ in range(2 if state == "closed" else 1):
        net.relay.lost(peer, "cut")
    assert peer.state == RELAY[state].get(Lost, "closed")
    assert [type(event).__name__ for event in net.relay.events] == ["Left"]


@pytest.mark.parametrize("state", SATELLITE)
def test_the_satellite_in_each_state_when_the_connection_is_lost(state: str) -> None:
    core = FakeSatellite("ham", 7, 2).core
    if state != "away":
        core.connected()
    if state == "open":
        core.receive(encode_link_frame(OF_RELAY[Welcome]))
    core.events.clear()
    core.lost("cut")
    assert core.state == SATELLITE[state].get(Lost, "away")
    assert [type(event).__name__ for event in core.events] == (["Ended"] if state != "away" else [])


def test_a_table_and_its_handlers_must_fit() -> None:
    table: Table = {"one": {Ack: "two", Lost: "two"}, "two": {Gap: "one"}}
    handlers: dict[type, Any] = {Ack: print, Gap: repr}
    assert in_place(table, handlers) == {"one": {Ack: print}, "two": {Gap: repr}}
    with pytest.raises(ValueError, match="Gap"):
        in_place(table, {Ack: print})
    with pytest.raises(ValueError, match="Call"):
        in_place(table, {**handlers, Call: print})
    assert next_state(table, "one", Lost) == "two"
    with pytest.raises(KeyError):
        next_state(table, "two", Lost)


# ---- the docs ----------------------------------------------------------------------------------------------


@pytest.fixture
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_states", ROOT / "tools" / "draw_states.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_docs_show_the_table_as_it_is(drawing: ModuleType) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert drawing.with_diagrams(page) == page, "run: make diagrams"
    _, _, place = page.partition("src/co2/protocol/transitions.py -->")
    shown = re.findall(r"^    (\w+) --> (\w+): (.*)$", place.partition(drawing.END)[0], re.M)
    arrows = {(state, name, following) for state, following, names in shown for name in names.split(", ")}
    assert arrows == {
        (state, what.__name__.lower() if what in NO_FRAMES else what.__name__, following)
        for table in (RELAY, SATELLITE)
        for state, moves in table.items()
        for what, following in moves.items()
    }


def test_a_diagram_begins_at_the_first_state_and_has_an_arrow_for_each_pair_of_states(drawing: ModuleType) -> None:
    text = drawn({"one": {Ack: "two", Gap: "one", Lost: "two"}, "two": {}})
    assert text == (
        "stateDiagram-v2\n    direction LR\n    [*] --> one\n    one --> two: Ack, lost\n    one --> one: Gap\n"
    )
    with pytest.raises(ValueError, match="0 places"):
        drawing.with_diagrams("no marks")
