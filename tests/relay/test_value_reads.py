"""The reads of last values: the index at the start, step by step and within its time; what callers may ask."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from co2.errors import BadParams, Denied, Unreachable
from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.filter_chain import InFlight
from co2.protocol.wire.batch import make_batch
from co2.relay import value_reads
from co2.relay.commit_waiters import CommitWaiters
from co2.relay.message_reader import MessageReader
from co2.relay.value_methods import ValueMethods
from co2.relay.value_reads import ValueReads
from co2.server.rpc.answer_turns import AnswerTurns
from co2.xmlrpc.registry import Caller
from tests.protocol.network import FakeLog

HERE = Caller("127.0.0.1", 40_000)
FAR = Caller("192.168.1.9", 40_000)


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        asyncio.run(main())

    return run


class Relay:
    """A core with its methods about last values, over a log that has messages from an earlier run."""

    def __init__(self, *channels: str) -> None:
        self.log = FakeLog()
        self._append(
            RelayCore(self.log, "r@10.0.0.1:1", max_peers=lambda: 1, now=lambda: 0.0, wall=lambda: 5.0), channels
        )
        self.core = RelayCore(self.log, "r@10.0.0.1:1", max_peers=lambda: 1, now=lambda: 0.0, wall=lambda: 9.0)
        self.told = 0
        self.reads = ValueReads(self.log, self.core.fan_out.last_values, restored=self._restored)
        waiters = CommitWaiters()
        waiters.committed = self.log.committed

        async def never(*_args: Any) -> Any:
            raise AssertionError

        turns = AnswerTurns(asyncio.get_running_loop())
        reader = MessageReader(self.log, never)
        self.methods = ValueMethods(
            self.core, self.log, reads=self.reads, waiters=waiters, reader=reader, turns=turns
        )

    def _append(self, core: RelayCore, channels: tuple[str, ...]) -> None:
        for channel in channels:
            batch = make_batch([msgspec.msgpack.encode({"channel": channel, "data": channel.upper()})])
            core.append_unnumbered("o", InFlight("o@10.0.0.9:1", ("10.0.0.9", 1), batch, 1, (channel,)))
        self.log.committed = self.log.last

    def _restored(self) -> None:
        self.told += 1

    async def last(self, **argument: Any) -> dict[str, float]:
        found = await self.methods.last([argument], HERE)
        return {row["channel"]: row["age"] for row in found["values"]}


@in_a_loop
async def test_callers_wait_until_the_index_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_reads, "HEADS_AT_ONCE", 2)
    relay = Relay("a", "b", "c", "a", "d")
    asking = asyncio.ensure_future(relay.last())
    await asyncio.sleep(0)
    assert not asking.done()
    await relay.reads.restore()
    assert await asking == {"a": 4.0, "b": 4.0, "c": 4.0, "d": 4.0}
    assert relay.told == 1
    relay.reads.close()


@in_a_loop
async def test_the_start_ends_in_time_and_says_what_it_did_not_look_at(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(value_reads, "HEADS_AT_ONCE", 2)
    monkeypatch.setattr(value_reads, "MAX_RESTORE", 0.0)
    relay = Relay("a", "b", "c", "d")
    with caplog.at_level(logging.WARNING, "co2.relay"):
        await relay.reads.restore()
    assert set(await relay.last()) == {"c", "d"}
    assert "before position 4 of the log have no last value" in caplog.text
    relay.reads.close()


@in_a_loop
async def test_a_relay_that_stops_answers_nobody() -> None:
    relay = Relay("a")
    await relay.reads.restore()
    relay.reads.close()
    with pytest.raises(Unreachable, match="is stopping"):
        await relay.last()


@pytest.mark.parametrize("channels", ["a", [1], ["a..b"], [">.a"], {}, None, ["x" * 300], ["a"] * 300])
@in_a_loop
async def test_wrong_channels_are_refused(channels: Any) -> None:
    relay = Relay("a")
    await relay.reads.restore()
    with pytest.raises(BadParams):
        await relay.last(channels=channels)
    relay.reads.close()


@in_a_loop
async def test_only_somebody_here_makes_it_forget_and_only_patterns() -> None:
    relay = Relay("a", "b.x", "b.y")
    await relay.reads.restore()
    for caller in (FAR, Caller("127.0.0.1", 1, relayed=True)):
        with pytest.raises(Denied):
            await relay.methods.forget_last([{"channel": "a"}], caller)
    for wrong in ({}, {"channel": ""}, {"channel": 1}, {"channel": "b..x"}):
        with pytest.raises(BadParams):
            await relay.methods.forget_last([wrong], HERE)
    assert await relay.methods.forget_last([{"channel": "b.*"}], HERE) == 2
    assert await relay.methods.forget_last([{"channel": "b.*"}], HERE) == 0
    assert set(await relay.last()) == {"a"}
    relay.reads.close()


@in_a_loop
async def test_too_many_callers_are_refused_and_too_much_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = Relay(*(f"c{n}" for n in range(6)))
    monkeypatch.setattr("co2.relay.value_methods.MAX_ASKING", 3)
    monkeypatch.setattr("co2.protocol.relay.core.MAX_FORGOTTEN", 4)
    asking = [asyncio.ensure_future(relay.last()) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Unreachable, match=r"3 calls of relay\.last"):
        await relay.last()
    await relay.reads.restore()
    assert [len(found) for found in await asyncio.gather(*asking)] == [6, 6, 6]
    with pytest.raises(BadParams, match="6 channels would be forgotten"):
        await relay.methods.forget_last([{"channel": "*"}], HERE)
    assert len(await relay.last()) == 6
    assert await relay.methods.forget_last([{"channel": "c1"}], HERE) == 1
    relay.reads.close()
