"""Somebody speaks for another satellite: with its origin, which every message tells, and numbers far ahead."""

import asyncio
import contextlib
import xmlrpc.client
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import aiohttp
import apsw
import pytest

from co2.protocol.wire import close_reasons
from co2.protocol.wire.link_frames import (
    SUBPROTOCOL,
    Hello,
    Publish,
    Subscription,
    decode_relay_frame,
    encode_link_frame,
)
from co2.satellite.satellite import OUTBOX_FILE
from co2.store.member_store import MEMBERS_FILE
from tests.attacks.hosts import running
from tests.harness import RECORDER, HostProcess, Proxy, wait_for, write_plugin
from tests.protocol.network import batch_of

__all__ = ["Hostile", "heard", "hello", "linked"]


def hello(host_id: str, **fields: Any) -> bytes:
    """Encode a Hello; fields as in the frame."""
    known = {"log_id": "", "run": "", "subscriptions": [], "outbox": [(7, 1)], "methods": [], "plugins": []}
    return encode_link_frame(Hello(host_id=host_id, **{**known, **fields}))


class Hostile:
    """A link that says what it likes."""

    def __init__(self, link: aiohttp.ClientWebSocketResponse) -> None:
        self.link = link

    async def say(self, *frames: bytes) -> None:
        for data in frames:
            await self.link.send_bytes(data)

    async def next(self, kind: str, timeout: float = 20) -> Any:
        """Return the next frame of a kind; a Goodbye in its stead fails."""
        async with asyncio.timeout(timeout):
            async for message in self.link:
                frame = decode_relay_frame(message.data)
                name = type(frame).__name__
                if name == kind:
                    return frame
                assert name != "Goodbye", frame
        raise AssertionError(f"the link has ended without a {kind}")


@contextlib.asynccontextmanager
async def linked(relay: HostProcess) -> AsyncIterator[Hostile]:
    """Open a link to a relay."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{relay.url}/link", protocols=(SUBPROTOCOL,), max_msg_size=0) as link,
    ):
        yield Hostile(link)


def heard(folder: Path) -> list[Any]:
    """Return the data of all that a recorder has received."""
    import json

    path = folder / "received.jsonl"
    return [json.loads(line)["data"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Path, HostProcess, HostProcess]]:
    """A relay, a victim that sends and a witness in ``<folder>/witness`` that hears."""
    for name in ("victim", "witness"):
        write_plugin(tmp_path / name, "recorder", rec=RECORDER)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "victim", "satellite", "--relay", relay.url) as victim,
        running(tmp_path / "witness", "satellite", "--relay", relay.url) as witness,
        Proxy(victim.url) as one,
        Proxy(witness.url) as other,
    ):
        wait_for(lambda: all(p.co2.get_properties()["registered"] for p in (one, other)), "both links")
        yield tmp_path, relay, victim


def test_nobody_takes_an_origin_that_is_not_his(places: tuple[Path, HostProcess, HostProcess]) -> None:
    folder, relay, victim = places
    with Proxy(victim.url) as at_victim, Proxy(relay.url) as at_relay:
        at_victim.recorder.rec.send({"data": {"data": 1}})
        wait_for(lambda: heard(folder / "witness") == [1], "the first message")

        async def attack() -> list[Any]:
            async with linked(relay) as watcher:
                await watcher.say(hello("watcher@127.0.0.1:1", subscriptions=[Subscription("p", 1)], token="w"))
                told = await watcher.next("Deliver")
            goodbyes_said = []
            for token in ("", "guessed", "w"):
                async with linked(relay) as mallory:
                    ahead = [(told.epoch, told.seq + 1001)]
                    await mallory.say(hello(told.host_id, outbox=ahead, token=token))
                    goodbyes_said.append(await mallory.next("Goodbye"))
            return [told.host_id, *goodbyes_said]

        host_id, *said = asyncio.run(attack())
        assert [one.reason for one in said] == [close_reasons.IDENTITY] * 3
        assert all("co2 forget" in one.text for one in said)
        for method in ("register", "relay", "unregister"):
            with pytest.raises(xmlrpc.client.Fault) as refused:
                getattr(at_relay.relay, method)({"host_id": host_id, "data": "forged"})
            assert refused.value.faultCode == 1001
        counters = at_relay.co2.get_properties()["counters"]
        assert (counters["impostors"], counters["takeovers"]) == (3, 0)
        for number in range(2, 5):
            at_victim.recorder.rec.send({"data": {"data": number}})
        wait_for(lambda: heard(folder / "witness") == [1, 2, 3, 4], "all that the victim has sent, and no more")
        wait_for(lambda: at_victim.co2.get_properties()["counters"]["waiting"] == 0, "acknowledgements")
        assert "no link to" not in victim.stderr


def test_whose_an_origin_is_outlives_the_relay_and_the_absence_of_its_owner(
    places: tuple[Path, HostProcess, HostProcess],
) -> None:
    folder, relay, victim = places
    host_id = victim.host_id
    victim.stop()
    relay.kill()
    # The log may be lost: whose an origin is lies elsewhere.
    for path in (folder / "relay" / "state").glob("log.db*"):
        path.unlink()
    with running(folder / "relay", "relay", "--port", relay.url.rpartition(":")[2]) as again:

        async def attack() -> Any:
            async with linked(again) as mallory:
                await mallory.say(hello(host_id, token="guessed"))
                return await mallory.next("Goodbye")

        assert asyncio.run(attack()).reason == close_reasons.IDENTITY
        with running(folder / "victim", "satellite", "--relay", again.url) as back, Proxy(back.url) as proxy:
            wait_for(lambda: proxy.co2.get_properties()["registered"], "the owner's link")


def on_disk(satellite: HostProcess) -> int:
    """Return how many messages wait on its disk."""
    with contextlib.closing(apsw.Connection(str(satellite.state / OUTBOX_FILE), apsw.SQLITE_OPEN_READONLY)) as db:
        return int(db.execute("SELECT coalesce(sum(last - first + 1), 0) FROM frame").fetchone()[0])


def test_what_waits_on_disk_arrives_though_the_relay_has_numbers_that_were_never_sent(
    places: tuple[Path, HostProcess, HostProcess],
) -> None:
    """Somebody has come with the origin before, to a relay that does not know whose it is, with numbers ahead."""
    folder, relay, victim = places
    forged = batch_of("forged")

    async def learned() -> Any:
        async with linked(relay) as watcher:
            await watcher.say(hello("watcher@127.0.0.1:1", subscriptions=[Subscription("p", 1)], token="w"))
            return await watcher.next("Deliver")

    with Proxy(victim.url) as at_victim:
        at_victim.recorder.rec.send({"data": {"data": 1}})
        wait_for(lambda: heard(folder / "witness") == [1], "the first message")
        told = asyncio.run(learned())
        wait_for(lambda: at_victim.co2.get_properties()["counters"]["waiting"] == 0, "its acknowledgement")
        relay.stop()
        for number in range(2, 7):
            at_victim.recorder.rec.send({"data": {"data": number}})
        wait_for(lambda: on_disk(victim) == 5, "messages on the satellite's disk")
    victim.stop()
    (folder / "relay" / "state" / MEMBERS_FILE).unlink()

    async def attack(at: HostProcess) -> int:
        ahead = told.seq + 1001
        async with linked(at) as mallory:
            await mallory.say(hello(told.host_id, outbox=[(told.epoch, ahead)]))
            await mallory.next("Welcome")
            await mallory.say(
                encode_link_frame(Publish(told.epoch, ahead, "p", "p.m.X", [""], crc32(forged), forged))
            )
            return int((await mallory.next("Ack")).seq)

    with running(folder / "relay", "relay", "--port", str(relay.port)) as again:
        assert asyncio.run(attack(again)) == told.seq + 1001, "the relay has a number that was never sent"
        wait_for(lambda: heard(folder / "witness") == [1, "forged"], "what was forged", 40)
        with running(folder / "victim", "satellite", "--relay", again.url) as back, Proxy(back.url) as proxy:
            wait_for(lambda: len(heard(folder / "witness")) >= 7, "all that waited", 40)
            assert heard(folder / "witness") == [1, "forged", 2, 3, 4, 5, 6]
            wait_for(lambda: not proxy.co2.get_properties()["counters"]["waiting"], "its acknowledgement")
            assert "was never sent" in back.stderr + back.log()
            proxy.recorder.rec.send({"data": {"data": 7}})
            wait_for(lambda: heard(folder / "witness")[-1] == 7, "what is sent after it")
