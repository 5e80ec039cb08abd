"""The express at a relay whose log takes a message, and at one whose log did not when it came to it."""

import asyncio
import socket
from typing import Any

import msgspec
import pytest

from co2.errors import StorageFull
from co2.protocol.relay.filter_chain import InFlight
from co2.server.express import loop as express
from co2.server.express import relay_forecast
from co2.server.express.frame_template import Outline
from co2.server.express.loop import COUNTED, Expected, ExpressLoop, Way
from co2.server.express.relay_forecast import RelayForecast
from co2.server.express.satellite_forecast import SatelliteForecast
from co2.server.express.ways import link_way_out
from tests.needs import needs
from tests.protocol.network import batch_of
from tests.relay.linked import Relay, Satellite, network, until

pytestmark = needs(express.AVAILABLE, "the express is not compiled here (gcc, Python's headers; then make venv)")


def passed() -> int:
    return express.counts().express


async def warm(relay: Relay, ham: Satellite, *receivers: Satellite) -> None:
    """Send until a message takes the express."""
    express.use(lambda: RelayForecast(relay.core, relay.links.wires, relay.log.pass_over), relay.clock)
    for number in range(1000):
        ham.send(number)
        await until(lambda: all(one.got.get("p", [])[-1:] == [number] for one in receivers))  # noqa: B023
        if passed():
            return
    raise AssertionError("nothing took the express")


def test_every_receiver_gets_it_once() -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite, eggs: Satellite) -> None:
        await warm(relay, ham, spam, eggs)
        before, sent = passed(), len(spam.got["p"])
        for number in range(200):
            ham.send("more", number)
            await until(lambda: spam.got["p"][-1] == eggs.got["p"][-1] == number)  # noqa: B023
        assert passed() > before
        wanted = [value for number in range(200) for value in ("more", number)]
        assert spam.got["p"][sent:] == eggs.got["p"][sent:] == wanted
        assert "p" not in ham.got
        assert express.counts().express_failed == 0

    network(test, "ham", "spam", "eggs", loop=ExpressLoop)


def test_a_position_that_was_told_for_what_the_log_refused_is_given_to_nothing_else() -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        await warm(relay, ham, spam)
        append, refused, seen = relay.log.append, [], [passed()]

        def full(**fields: Any) -> Any:
            on_its_way, seen[0] = passed() > seen[0], passed()
            if on_its_way and not refused:
                refused.append(relay.log.next)
                raise StorageFull("the disk has got full since it was looked at")
            return append(**fields)

        before = len(spam.got["p"])
        relay.log.append = full  # type: ignore[method-assign]
        for number in range(1000):
            ham.send(f"message {number}")
            await until(lambda: refused or spam.got["p"][-1] == f"message {number}")  # noqa: B023
            if refused:
                break
        ham.send("after it")
        await until(lambda: spam.got["p"][-1:] == ["after it"], timeout=20)
        await asyncio.wait_for(ham.link.flushed(), 10)
        assert express.counts().express_failed == 1, "the log takes what comes: so it was internal error"
        assert refused[0] not in {entry.position for entry in relay.log.entries}
        got = spam.got["p"][before:]
        assert got == [*(f"message {number}" for number in range(len(got) - 1)), "after it"], "each once, in order"

    network(test, "ham", "spam", loop=ExpressLoop)


def test_nothing_is_written_between_frames_that_come_in_one_run() -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        relay.commits = False
        ham.send("one")
        await until(lambda: spam.got.get("p") == ["one"])
        (peer,) = (peer for peer in relay.present if peer.origin == ham.link.host_id.origin)
        looked: list[int] = []
        committed, relay.on_committed = relay.on_committed, looked.append
        relay.log.committed = relay.log.last
        relay.links.reader.received(peer, [], True)
        assert not looked, "an Ack would stand before what is written already"
        relay.links.reader.received(peer, [])
        assert looked == [relay.log.last]
        relay.on_committed = committed
        relay.committed(relay.log.last)
        await asyncio.wait_for(ham.link.flushed(), 10)

    network(test, "ham", "spam", loop=ExpressLoop)


def test_where_many_listen_nothing_is_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        await warm(relay, ham, spam)
        monkeypatch.setattr(relay_forecast, "MAX_LIVE_STREAMS", 1)
        before = passed()
        for number in range(50):
            ham.send("more", number)
            await until(lambda: spam.got["p"][-1] == number)  # noqa: B023
        assert passed() == before

    network(test, "ham", "spam", loop=ExpressLoop)


def test_what_a_full_log_refuses_on_its_way_costs_receivers_their_link_and_nothing_else() -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        await warm(relay, ham, spam)
        append, seen = relay.log.append, [passed()]

        def full(**fields: Any) -> Any:
            on_its_way, seen[0] = passed() > seen[0], passed()
            if on_its_way and relay.log.takes:
                relay.log.takes = False
                asyncio.get_running_loop().call_later(0.05, setattr, relay.log, "takes", True)
            if not relay.log.takes:
                raise StorageFull("full, for a while")
            return append(**fields)

        before = len(spam.got["p"])
        relay.log.append = full  # type: ignore[method-assign]
        for number in range(1000):
            # Three at a time: so many positions are told with them.
            ham.send(*(f"{number} {part}" for part in "abc"))
            await until(lambda: not relay.log.takes or spam.got["p"][-1] == f"{number} c")  # noqa: B023
            if not relay.log.takes:
                break
        told = relay.log.last + 3
        await until(lambda: relay.log.takes)
        relay.log.append = append  # type: ignore[method-assign]
        for number in range(4):  # they would get the positions that were told
            message = InFlight("x@127.0.0.1:1", ("127.0.0.1", 1), batch_of(f"X{number}"), 1, ("",))
            relay.core.append_unnumbered("x", message)
        relay.links.driver.flush()
        ham.send("last")
        await until(lambda: {"X0", "X1", "X2", "X3", "last"} <= set(spam.got["p"][before:]), timeout=20)
        got = spam.got["p"][before:]
        own = [one for one in got if not one.startswith("X")]
        assert len(got) == len(set(got))
        assert own == [*(f"{number} {part}" for number in range(len(own) // 3) for part in "abc"), "last"]
        assert min(entry.position for entry in relay.log.entries if entry.origin == "x") > told
        assert not spam.gaps
        assert express.counts().express_failed == 0, "it is known why"

    network(test, "ham", "spam", loop=ExpressLoop)


class Child:
    """A plugin host on whose frame the work fails once, after the link has got it."""

    def __init__(self) -> None:
        self.failed = 0

    def take_ahead(self, data: bytes, more: bool = False) -> None:
        self.failed += 1
        raise MemoryError

    def written_ahead(self, data: bytes) -> None: ...

    def left_ahead(self) -> int:
        return 0

    def break_off(self, why: str) -> None: ...


def test_a_number_that_the_relay_got_and_the_outbox_did_not_is_given_to_nothing_else() -> None:
    async def test(relay: Relay, ham: Satellite, spam: Satellite) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        child, plain = Child(), Outline(b"H", False, b"")
        at_ham = SatelliteForecast(ham.link.core, {}, lambda: None, ham.link.renumber)

        def forecast() -> list[Expected]:
            published = at_ham.next_publish("p", "p.m.X_P", [""])
            out = published and ham.link.driver.wire and link_way_out(ham.link.driver.wire, published)
            if not out or child.failed:
                return []
            return [Expected(Way(child, ours.fileno(), COUNTED, plain), [out], lambda: bool(ham.link.renumber()))]

        ham.send("one")
        await until(lambda: spam.got.get("p") == ["one"])
        await ham.link.flushed()
        express.use(lambda: forecast, relay.clock)
        body = b"H" + msgspec.msgpack.encode(batch_of("two"))
        theirs.sendall(len(body).to_bytes(4, "big") + body)
        await until(lambda: child.failed)
        ham.send("three")
        await until(lambda: spam.got["p"] == ["one", "two", "three"])
        await asyncio.wait_for(ham.link.flushed(), 10)
        assert len(ham.outbox) == 0
        for end in (ours, theirs):
            end.close()

    network(test, "ham", "spam", loop=ExpressLoop)
