"""Satellites that mean well: each sends numbered messages and accounts for all that it gets."""

import asyncio
import random
import time
from array import array
from collections.abc import Sequence
from typing import Any

import msgspec

from co2.host_id import HostId
from co2.protocol.satellite.core import Delivered, SnapshotCame
from co2.protocol.satellite.outbox import Outbox
from co2.protocol.wire.batch import make_batch, split_batch
from co2.protocol.wire.link_frames import Gap
from co2.protocol.wire.plugin_frames.frames import Host, Publish
from co2.satellite.link import Link

__all__ = ["CHANNEL", "Satellite", "Satellites"]

CHANNEL = "honest.fader"


class Satellite:
    """A link as satellites have it, with one package that counts.

    Attributes:
        sent: messages sent.
        got: number of the last message by sender.
        wrong: what should not have come: lost or repeated messages, gaps.
        latencies: seconds from send to receive, since they were taken last.
    """

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.sent = 0
        self.got: dict[str, int] = {}
        self.wrong: list[str] = []
        self.latencies = array("d")
        self.outbox = Outbox(random.getrandbits(62) + 1, 2**25, lambda: None, lambda: None)
        self.link = Link(
            url=url,
            host_id=HostId(name, "127.0.0.1", 2004),
            outbox=self.outbox,
            receiver=self,
            names=lambda: ([f"{name}.rec.call_me"], [f"{name}.rec.X_Rec"]),
            load=lambda segment: None,
            token=f"{random.getrandbits(128):032x}",
        )
        self.link.core.subscribe("rec", ("honest.>",))
        self._running = asyncio.ensure_future(self.link.run())

    async def stop(self) -> None:
        """Say goodbye."""
        await self.link.leave(1.0)
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def send(self) -> None:
        """Send the next message."""
        self.sent += 1
        message = msgspec.msgpack.encode({"data": [self.name, self.sent, time.perf_counter()], "channel": CHANNEL})
        self.link.driver.publish("rec", Publish("rec.rec.X_Rec", [CHANNEL], make_batch([message])), 1)

    def deliver(self, package: str, delivered: Delivered) -> bool:
        """Account for what has come."""
        now = time.perf_counter()
        for message in split_batch(delivered.frame.batch)[delivered.skip :]:
            sender, number, sent_at = msgspec.msgpack.decode(message)["data"]
            last = self.got.get(sender, 0)
            if number != last + 1:
                self.wrong.append(f"{self.name}: {number} of {sender} after {last}")
            self.got[sender] = max(number, last)
            self.latencies.append(now - sent_at)
        return True

    def snapshot(self, came: SnapshotCame) -> bool:
        """No package here wants last values."""
        raise AssertionError(came)

    def gap(self, package: str, gap: Gap) -> None:
        """No message of ours may be missing, so no gap may be told."""
        self.wrong.append(f"{self.name}: a gap, {gap.reason}")

    def hosts_changed(self, joined: Sequence[Host], left: Sequence[Host]) -> None:
        """Who comes and goes is the attackers' business."""

    async def called(self, method: str, argument: Any) -> Any:
        """Answer a call."""
        return argument

    async def asked(self, asker: str, method: str, argument: Any) -> Any:
        """Answer a request of the relay."""
        return argument


class Satellites:
    """All of them.

    Args:
        url: of the relay.
        count: how many.
        rate: messages a second, of all together.
    """

    def __init__(self, url: str, count: int, rate: float) -> None:
        self.all = [Satellite(url, f"honest{n}{random.getrandbits(32):08x}") for n in range(count)]
        self._pause = count / rate
        self._sending = [asyncio.ensure_future(self._send(satellite)) for satellite in self.all]

    async def _send(self, satellite: Satellite) -> None:
        await satellite.link.joined.wait()
        await asyncio.sleep(random.uniform(0.5, 0.5 + self._pause))
        due = time.perf_counter()
        while True:
            satellite.send()
            due += self._pause
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    def latencies(self) -> list[float]:
        """Take what has been measured since the last time, sorted."""
        found: list[float] = []
        for satellite in self.all:
            found += satellite.latencies
            del satellite.latencies[:]
        return sorted(found)

    def wrong(self) -> list[str]:
        """Return what should not have come."""
        return [text for satellite in self.all for text in satellite.wrong]

    def missing(self) -> int:
        """Return how many messages have been sent and have not come, over all receivers."""
        sent = {satellite.name: satellite.sent for satellite in self.all}
        return sum(
            number - satellite.got.get(sender, 0)
            for satellite in self.all
            for sender, number in sent.items()
            if sender != satellite.name
        )

    async def send_no_more(self) -> None:
        """Stop sending."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def stop(self) -> None:
        """End all of them."""
        await self.send_no_more()
        await asyncio.gather(*(satellite.stop() for satellite in self.all))
