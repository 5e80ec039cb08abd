"""What a relay shows of itself, and that it costs no more than is shown."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from co2.host_id import HostId
from co2.protocol.relay.away import Away, AwayBook
from co2.protocol.relay.names import NameBook
from co2.relay.members import Members
from co2.relay.view import RelayView
from co2.server.rpc.answer_turns import AnswerTurns
from co2.web.view import SatelliteRow
from tests.protocol.network import Network


def test_of_ten_thousand_that_are_away_only_those_are_looked_at_that_are_shown() -> None:
    looks = 0

    def now() -> float:
        nonlocal looks
        looks += 1
        return 5.0

    known = [Away(f"{n:x}", f"{n:x}@10.0.{n % 100}.9:2004", 1.0, stopped=n < 3) for n in range(10_000)]
    relay: Any = SimpleNamespace(away=AwayBook(known, now=now), core=SimpleNamespace(names=NameBook()))
    host: Any = None
    view = RelayView(host, relay, "10.0.0.1")
    looks = 0
    assert [row.host_id for row in view.away(2)] == ["270f@10.0.99.9:2004", "270e@10.0.98.9:2004"]
    assert view.away_states() == {"away": 9_997, "stopped": 3}
    assert looks == 2


def test_the_row_of_a_satellite_has_what_its_link_got_and_that_of_a_client_what_it_fetched() -> None:
    net = Network()
    ham, _ = net.satellite("ham"), net.satellite("spam", "b")
    for number in range(3):
        ham.send(number)
    net.run()
    peer = net.relay.peers["spam"]
    members = Members(10)
    linked = members.add(peer.host_id, "co2", 0, 40.0, resume=False)
    linked.peer = peer
    fetching = members.add(HostId("eggs", "10.0.0.9", 2010), "watcher", net.log.last - 1, 90.0, resume=False)
    fetching.sent, fetching.last_error = 5, "too long an answer"
    relay: Any = SimpleNamespace(
        members=members,
        log=net.log,
        now=lambda: 100.0,
        state_of=lambda member: member.state,
        silence_of=lambda member: member.silence(100.0),
    )

    async def rows(*, here: bool = False) -> Sequence[SatelliteRow]:
        host: Any = SimpleNamespace(turns=AnswerTurns(asyncio.get_running_loop()), host_id="us@10.0.0.1:2003")
        return await RelayView(host, relay, "10.0.0.1").satellites(here=here)

    assert [row.through_relay for row in asyncio.run(rows(here=True))] == ["/satellites/spam/", ""]
    linked.name = "foyer-pi"
    here = asyncio.run(rows(here=True))
    assert [row.through_relay for row in here] == ["/satellites/foyer-pi/", ""]
    assert [row.reach for row in here] == ["--host foyer-pi", ""]
    of_link, of_client = asyncio.run(rows())
    assert (of_link.through_relay, of_client.through_relay) == ("", "")
    assert (of_link.reach, of_client.reach) == ("", "")
    assert (of_link.host_id, of_link.kind, of_link.port) == (str(peer.host_id), "co2", peer.host_id.port)
    assert (of_link.sent, of_link.lag, of_link.age, of_link.silence) == (3, 0, 60.0, 0.0)
    assert (of_client.host_id, of_client.kind, of_client.port) == ("eggs@10.0.0.9:2010", "watcher", 0)
    assert (of_client.sent, of_client.lag, of_client.age, of_client.silence) == (5, 1, 10.0, 10.0)
    assert (of_client.last_error, of_client.page, of_client.packages) == ("too long an answer", "", None)
