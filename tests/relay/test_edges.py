"""The smallest and the biggest of everything, with the real log beneath the real link."""

import asyncio
import time
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest

from co2.protocol.satellite.core import Delivered
from co2.protocol.wire.batch import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, batch_count, make_batch, split_batch
from co2.protocol.wire.channel_patterns import MAX_CHANNEL
from co2.protocol.wire.plugin_frames.frames import Publish
from co2.store.relay_log import RelayLog
from tests.harness import wait_for
from tests.relay.linked import Relay, Satellite, until

READ_BACK = 500_000
"""Messages per second that are read back from the log and taken apart, at least."""


def open_log(path: Path) -> RelayLog:
    return RelayLog.open(
        path, max_bytes=2**30, max_age=1e9, now=time.monotonic, wall=time.time, on_commit=lambda position: None
    )


class DurableRelay(Relay):
    """A relay for links with a log on disk."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.log: Any = open_log(path)

    async def _commit(self) -> None:
        told = 0
        while True:
            await asyncio.sleep(0.001)
            if self.log.committed != told:
                told = self.log.committed
                self.links.driver.committed(told)


class Sized(Satellite):
    """Writes down whole batches."""

    def deliver(self, package: str, delivered: Delivered) -> bool:
        self.got.setdefault(package, []).append((delivered.frame.channels, delivered.frame.batch))
        return True


def message_of(size: int) -> bytes:
    """An encoded message of exactly so many bytes."""
    empty = msgspec.msgpack.encode({"data": b"x" * 70_000})
    message = msgspec.msgpack.encode({"data": b"x" * (size - len(empty) + 70_000)})
    assert len(message) == size
    return message


def frame_of(size: int) -> bytes:
    """A batch with exactly so many bytes of messages."""
    return make_batch([message_of(700_000), message_of(size - 700_000)])


def carried(path: Path, channels: list[str], batch: bytes) -> None:
    """Send one frame; it arrives with a live package and a durable one, and is in the log."""

    async def run() -> None:
        relay = DurableRelay(path)
        await relay.start()
        ham, spam = Sized(relay, "ham"), Sized(relay, "spam")
        try:
            spam.link.core.subscribe("live")
            spam.link.core.subscribe("durable", durable=True)
            await until(lambda: ham.link.joined.is_set() and spam.link.joined.is_set())
            ham.link.driver.publish("p", Publish("p.m.X", channels, batch), batch_count(batch))
            await asyncio.wait_for(ham.link.flushed(), 10)
            await until(lambda: len(spam.got) == 2)
            assert spam.got == {"live": [(channels, batch)], "durable": [(channels, batch)]}
        finally:
            for satellite in (ham, spam):
                await satellite.stop()
            await relay.stop()
            relay.log.close()

    asyncio.run(run())
    log = open_log(path)
    try:
        assert [(entry.channels, entry.batch) for entry in log.read_disk(0, 2**20).entries] == [
            (tuple(channels), batch)
        ]
    finally:
        log.close()


def test_a_frame_of_exactly_1_mib_passes(tmp_path: Path) -> None:
    carried(tmp_path / "log.db", [""], frame_of(MAX_BATCH_BYTES))


def test_a_frame_of_one_byte_more_is_refused_where_it_comes_in(tmp_path: Path) -> None:
    async def run() -> None:
        relay = DurableRelay(tmp_path / "log.db")
        await relay.start()
        ham = Sized(relay, "ham")
        try:
            await until(lambda: ham.link.joined.is_set())
            ham.link.driver.publish("p", Publish("p.m.X", [""], frame_of(MAX_BATCH_BYTES + 1)), 2)
            await until(lambda: "bytes" in ham.link.last_error)
            assert relay.log.last == 1
        finally:
            await ham.stop()
            await relay.stop()
            relay.log.close()

    asyncio.run(run())


@pytest.mark.parametrize("count", [1, MAX_BATCH_MESSAGES])
def test_a_frame_of_one_message_and_of_2048_pass(tmp_path: Path, count: int) -> None:
    carried(tmp_path / "log.db", [""], make_batch([msgspec.msgpack.encode({"data": n}) for n in range(count)]))


@pytest.mark.parametrize("channel", ["a", "x" * MAX_CHANNEL, "ä" * (MAX_CHANNEL // 2)])
def test_a_channel_of_1_and_of_256_bytes_pass(tmp_path: Path, channel: str) -> None:
    carried(tmp_path / "log.db", [channel], make_batch([msgspec.msgpack.encode({"channel": channel, "data": 1})]))


def test_a_log_without_messages(tmp_path: Path) -> None:
    async def run() -> None:
        relay = DurableRelay(tmp_path / "log.db")
        await relay.start()
        spam = Sized(relay, "spam")
        try:
            spam.link.core.subscribe("live")
            spam.link.core.subscribe("durable", durable=True, position=None)
            await until(lambda: spam.link.joined.is_set())
            spam.link.core.fell_behind("live")
            spam.link.core.catch_up("live")
            await until(lambda: relay.present)
            assert (spam.got, spam.gaps) == ({}, [])
        finally:
            await spam.stop()
            await relay.stop()
            relay.log.close()

    asyncio.run(run())
    log = open_log(tmp_path / "log.db")
    try:
        for after in (0, 1, log.last):
            assert (log.read_disk(after, 2**20).entries, log.read_disk(after, 2**20).gap) == ((), None)
        assert (log.size, log.gone) == (0, 1)
        assert not log.marks  # a run of which there is no message
    finally:
        log.close()


def test_a_million_messages_are_read_back_half_a_million_a_second(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log.db")
    try:
        batch = make_batch([msgspec.msgpack.encode({"data": [n, "shrubbery", 0.815]}) for n in range(2000)])
        for _ in range(500):
            log.append(origin="ham", host_id="ham@127.0.0.1:1", client_address=("127.0.0.1", 1), batch=batch,
                       count=2000, crc=crc32(batch))  # fmt: skip
        wait_for(lambda: log.committed == log.last, "on disk", 60)
        rates = []
        for _ in range(3):
            began, used = time.monotonic(), time.process_time()
            count, after = 0, 0
            while (reading := log.read_disk(after, 2**20)).entries:
                count += sum(len(split_batch(entry.batch)) for entry in reading.entries)
                after = reading.next
            assert count == 1_000_000
            # Processor time, where others use the machine too: waiting for them says nothing.
            rates.append(count / min(time.monotonic() - began, time.process_time() - used))
        print(f"{max(rates):,.0f} messages/s")
        assert max(rates) >= READ_BACK
    finally:
        log.close()
