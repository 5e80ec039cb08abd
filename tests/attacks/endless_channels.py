"""``python -m tests.attacks.endless_channels FOLDER``: satellites with ever new channels, at several addresses.

It is run in a network of its own, as :mod:`tests.attacks.from_many` is; it prints what it saw as JSON.
"""

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import psutil

from co2.protocol.relay.last_values import MAX_OF_SOURCE
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.link_frames import Ack, Publish, encode_link_frame
from co2.protocol.wire.plugin_frames.frames import MAX_CHANNELS
from co2.values import pack
from tests.attacks.hosts import guard, running
from tests.attacks.raw import call, ping_within
from tests.attacks.raw_link import RawLink
from tests.harness import HostProcess
from tests.needs import raise_loopback

__all__ = ["HONEST", "MAY_GROW"]

HERE = "127.0.0.1"

HOSTILE = [f"10.9.0.{number}" for number in range(1, 6)]
"""Addresses that together may have as many channels as there may be of all."""

MORE = 2 * MAX_CHANNELS
"""Channels that each of them has beyond its limit."""

HONEST = 100
"""Channels of those that mean well."""

MAY_GROW = 128 * 2**20
"""Bytes that the index, the end of the log and what is read for an answer may make the relay bigger by."""

IN_FRAME = 2_000
"""Channels of a frame that names none."""


async def honest(port: int, number: int) -> None:
    """Send a value on each of the honest channels, over a link of an address of its own."""
    names = [f"honest.fader{n}" for n in range(HONEST)]
    await told(await joined(port, HERE), [names[at : at + 20] for at in range(0, HONEST, 20)], number)


async def joined(port: int, source: str) -> RawLink:
    return await RawLink.joined_as(port, f"sat{random.getrandbits(40):x}", source, subscriptions=[])


async def told(link: RawLink, frames: list[list[str]], data: Any) -> None:
    """Send a message on each channel, those of a list in one frame, until all of them are on disk."""
    seq = 1
    for channels in frames:
        batch = make_batch([pack({"channel": channel, "data": data}) for channel in channels])
        named = channels if len(channels) <= MAX_CHANNELS else None
        await link.told(encode_link_frame(Publish(7, seq, "p", "p.m.X", named, crc32(batch), batch)))
        seq += len(channels)
    while (await link.next(Ack)).seq < seq - 1:
        pass
    link.abort()


def endless(count: int, in_frame: int) -> list[list[str]]:
    """Return lists of channels that nobody has used yet."""
    whose = f"mallory.{random.getrandbits(60):015x}"
    names = [f"{whose}.{n}" for n in range(count)]
    return [names[at : at + in_frame] for at in range(0, count, in_frame)]


def kept(relay: HostProcess, *patterns: str) -> dict[str, Any]:
    """Return the last values that the relay tells."""
    told = call(relay.port, "relay.last", {"channels": list(patterns)})
    return {row["channel"]: row["message"]["data"] for row in told["values"]}


def counters(relay: HostProcess) -> dict[str, int]:
    return dict(call(relay.port, "co2.get_properties")["counters"])


async def attack(relay: HostProcess, in_frame: int, seen: dict[str, Any]) -> None:
    """Use all channels that may be from several addresses; the honest ones are older than all of these."""
    process = psutil.Process(relay.pid)
    await honest(relay.port, 1)
    before = process.memory_info().rss
    for source in HOSTILE:
        await told(await joined(relay.port, source), endless(MAX_OF_SOURCE + MORE, in_frame), "x")
        await asyncio.to_thread(ping_within, relay.port, 2)
    seen["honest"] = len(await asyncio.to_thread(kept, relay, "honest.>"))
    seen["grown"] = process.memory_info().rss - before
    seen["counters"] = await asyncio.to_thread(counters, relay)


async def same_address(relay: HostProcess, seen: dict[str, Any]) -> None:
    """Do the same from the address of those that mean well: they lose theirs until the next message."""
    await honest(relay.port, 1)
    await told(await joined(relay.port, HERE), endless(MAX_OF_SOURCE, MAX_CHANNELS), "x")
    seen["honest"] = len(await asyncio.to_thread(kept, relay, "honest.>"))
    seen["counters"] = await asyncio.to_thread(counters, relay)
    await honest(relay.port, 2)
    seen["honest again"] = set((await asyncio.to_thread(kept, relay, "honest.>")).values()) == {2}
    seen["told"] = f"senders at {HERE} use more than {MAX_OF_SOURCE} channels" in relay.log()


def main(folder: Path) -> dict[str, Any]:
    """Return what was seen."""
    raise_loopback(HOSTILE)
    guard.begin(MAY_GROW)
    seen: dict[str, Any] = {}
    for name, in_frame in (("named", MAX_CHANNELS), ("unnamed", IN_FRAME)):
        seen[name] = {}
        with running(folder / name, "relay") as relay:
            asyncio.run(attack(relay, in_frame, seen[name]))
        with running(folder / name, "relay") as relay:
            seen[name]["honest after a restart"] = len(kept(relay, "honest.>"))
            seen[name]["counters after a restart"] = counters(relay)
    seen["same"] = {}
    with running(folder / "same", "relay") as relay:
        asyncio.run(same_address(relay, seen["same"]))
    return seen


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
