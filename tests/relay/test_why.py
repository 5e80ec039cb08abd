"""Why a message was sent: as far back as the log reaches, and no further than the limits."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from co2.errors import BadParams, Unreachable
from co2.protocol.relay.core import RelayCore
from co2.protocol.relay.log import LogGap, Reading
from co2.protocol.wire.batch import DROPPED, make_batch
from co2.relay import why_methods
from co2.relay.cause_chain import MAX_STEPS
from co2.relay.commit_waiters import CommitWaiters
from co2.relay.message_reader import MessageReader
from co2.relay.why_methods import MAX_SHOWN, WHY_BYTES, WhyMethods
from co2.server.rpc.answer_turns import AnswerTurns
from co2.xmlrpc.registry import Caller
from tests.protocol.network import FakeLog

HERE = Caller("127.0.0.1", 40_000)
EPOCH, RUN = 2**62 + 2**31 + 7, 7


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        asyncio.run(main())

    return run


class Log(FakeLog):
    """A log some of which is gone or damaged."""

    gone = 0
    damaged: LogGap | None = None

    def read_disk(self, after: int, max_bytes: int) -> Reading:
        if after < self.gone:
            return Reading([], self.gone, LogGap(after, self.gone, "retention"))
        if self.damaged is not None and self.damaged.after <= after < self.damaged.next:
            return Reading([], self.damaged.next, self.damaged)
        return super().read_disk(after, max_bytes)


class Relay:
    """What relay.why needs, over a log in memory."""

    def __init__(self) -> None:
        self.log = Log()
        self.core = RelayCore(self.log, "r@10.0.0.1:1", max_peers=lambda: 1, now=lambda: 0.0, wall=lambda: 5.0)
        self.waiters = CommitWaiters()
        self.reads = 0

        async def read_disk(_reader: str, after: int, max_bytes: int) -> Reading:
            self.reads += 1
            return self.log.read_disk(after, max_bytes)

        reader = MessageReader(self.log, read_disk)
        turns = AnswerTurns(asyncio.get_running_loop())
        self.methods = WhyMethods(self.core, self.log, reader=reader, waiters=self.waiters, turns=turns)
        self.seq = 1

    def append(self, *causes: Any, data: Any = 1, origin: str = "ham", epoch: int = EPOCH) -> int:
        """Append an entry with a message for each cause, None for none; return its last position."""
        packed = []
        for cause in causes:
            message = {"channel": "a.b", "data": data, **({} if cause is None else {"cause": cause})}
            packed.append(DROPPED if cause == "dropped" else msgspec.msgpack.encode(message))
        return self.add(make_batch(packed), len(causes), origin, epoch)

    def add(self, batch: bytes, count: int = 1, origin: str = "ham", epoch: int = EPOCH) -> int:
        entry = self.log.append(
            origin=origin, host_id=f"{origin}@10.0.0.9:1", client_address=("10.0.0.9", 1), batch=batch,
            count=count, epoch=epoch, seq=self.seq, package="p", plugin="p.m.X_P", channels=("a.b",), at=7.5,
        )  # fmt: skip
        self.seq += count
        self.log.committed = self.log.last
        self.waiters.on_commit(self.log.last)
        return entry.end

    async def why(self, position: Any) -> tuple[list[int], str]:
        """Return the positions of the chain, and the kind of its end."""
        found = await self.methods.why([{"position": position}], HERE)
        return [row["message"]["position"] for row in found["chain"]], found["end"]["kind"]


@in_a_loop
async def test_the_chain_goes_back_to_the_message_without_a_cause() -> None:
    relay = Relay()
    relay.core.names.give("ham", "stage")
    first = relay.append(None)
    second = relay.append(None, first, None) - 1
    third = relay.append(second)
    found = await relay.methods.why([{"position": third}], HERE)
    assert [row["message"] for row in found["chain"]] == [
        {
            "channel": "a.b", "data": 1, "host_id": "ham@10.0.0.9:1", "client_address": ["10.0.0.9", 1],
            "position": position, "at": 7.5, **cause,
        }
        for position, cause in ((third, {"cause": second}), (second, {"cause": first}), (first, {}))
    ]  # fmt: skip
    assert {(row["name"], row["plugin"]) for row in found["chain"]} == {("stage", "p.m.X_P")}
    assert (found["end"]["kind"], found["end"]["position"]) == ("no cause", 0)
    assert await relay.why(relay.append(0)) == ([relay.log.last], "no cause")


@in_a_loop
async def test_a_number_of_a_run_is_found_among_the_messages_of_the_same_sender_only() -> None:
    relay = Relay()
    begun = relay.append(None, None, None)
    found = relay.append([RUN, 2])
    assert await relay.why(found) == ([found, begun - 1], "no cause")
    for cause in ([RUN, 2**63 - 1], [RUN + 1, 2], [RUN, relay.seq + 100]):
        position = relay.append(cause)
        assert await relay.why(position) == ([position], "unknown")
    other = relay.append([RUN, 2], origin="eggs")
    assert await relay.why(other) == ([other], "unknown"), "nobody points into the runs of others"
    own = relay.append([RUN, relay.seq])
    assert await relay.why(own) == ([own], "later"), "a message that claims to be its own cause"


@in_a_loop
async def test_a_cause_that_is_not_before_its_message_is_told_as_such() -> None:
    relay = Relay()
    relay.append(None)
    for ahead in (0, 1, 10**12):
        position = relay.append(relay.log.last + 1 + ahead)
        assert await relay.why(position) == ([position], "later")


@pytest.mark.parametrize("cause", ["x", -1, True, 1.5, [], [1], [1, 2, 3], ["a", 2], {"a": 1}, [0, 1], 2**64 - 1])
def test_what_is_no_cause_is_told_as_such(cause: Any) -> None:
    @in_a_loop
    async def test() -> None:
        relay = Relay()
        position = relay.append(cause)
        assert await relay.why(position) == ([position], "malformed")

    test()


@in_a_loop
async def test_the_end_says_why_the_log_does_not_have_a_cause() -> None:
    relay = Relay()
    old = relay.append(None, None)
    dropped = relay.append("dropped")
    bad = relay.add(b"\xdd\x00\x00\x00\x01\xc1")
    lost = relay.append(None)
    relay.log.damaged = LogGap(lost - 1, lost, "damaged: a test")
    claims = {kind: relay.append(of) for kind, of in (("gone", old), ("dropped", dropped), ("damaged", bad))}
    again = relay.append(lost)
    hole = relay.append(1)
    relay.log.in_memory_from = relay.log.last + 1
    relay.log.gone = old
    for kind, position in claims.items():
        assert await relay.why(position) == ([position], kind)
    assert await relay.why(again) == ([again], "damaged")
    assert (await relay.why(hole))[0] == [hole]
    for position, says in ((old, "too old"), (10**15, "no message 1000000000000000 yet"), (dropped, "dropped")):
        with pytest.raises(BadParams, match=says):
            await relay.why(position)
    for position in (0, 1, -1, 2**63, "7", None, True, 1.5):
        with pytest.raises(BadParams, match="position"):
            await relay.why(position)
    with pytest.raises(BadParams):
        await relay.methods.why([], HERE)


@in_a_loop
async def test_a_chain_has_a_limit_and_goes_on_from_there() -> None:
    relay = Relay()
    relay.append(None)
    for _ in range(MAX_STEPS + 9):
        relay.append(relay.log.last)
    relay.log.in_memory_from = relay.log.last + 1
    found = await relay.methods.why([{"position": relay.log.last}], HERE)
    assert (len(found["chain"]), found["end"]["kind"]) == (MAX_STEPS, "limit")
    assert relay.reads == MAX_STEPS
    rest, kind = await relay.why(found["end"]["position"])
    assert (len(rest), kind) == (10, "no cause")


@in_a_loop
async def test_large_messages_are_shown_without_their_keys_and_only_so_many() -> None:
    relay = Relay()
    large = relay.append(None, data="x" * MAX_SHOWN)
    small = relay.append(large, data="x" * (MAX_SHOWN - 100))
    found = await relay.methods.why([{"position": small}], HERE)
    first, second = found["chain"]
    assert ("size" in first, second["size"] > MAX_SHOWN) == (False, True)
    assert ("data" in second["message"], second["message"]["channel"]) == (False, "a.b")
    assert second["message"]["position"] == large
    for _ in range(MAX_STEPS):
        relay.append(relay.log.last, data="x" * (MAX_SHOWN - 100))
    positions, kind = await relay.why(relay.log.last)
    assert kind == "limit"
    assert len(positions) == WHY_BYTES // (MAX_SHOWN - 60)


@in_a_loop
async def test_a_chain_of_long_messages_holds_nobody_up() -> None:
    relay = Relay()
    numbers = b"\xdd" + (500_000).to_bytes(4, "big") + b"\x01" * 500_000
    packed = b"\x82\xa4data" + numbers + b"\xa5cause"
    relay.append(None)
    for _ in range(MAX_STEPS):
        relay.add(make_batch([packed + msgspec.msgpack.encode(relay.log.last)]))
    asking = asyncio.ensure_future(relay.why(relay.log.last))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > MAX_STEPS // 4, "others have their turns in between"
    assert len((await asking)[0]) == WHY_BYTES // MAX_SHOWN


@in_a_loop
async def test_a_message_that_cannot_be_shown_keeps_its_place() -> None:
    relay = Relay()
    for size, is_shown in ((255, True), (0x2000, False)):
        text = b"\x82\xa7channel\xda" + size.to_bytes(2, "big") + b"x" * size
        packed = text + b"\xa4data\xda\x30\x00" + b"y" * 0x3000
        found = await relay.methods.why([{"position": relay.add(make_batch([packed]))}], HERE)
        assert ("channel" in found["chain"][0]["message"]) == is_shown
    odd = relay.add(make_batch([b"\x82\x01\x02\xa4data\x07"]))
    found = await relay.methods.why([{"position": relay.append(odd)}], HERE)
    assert (found["chain"][1]["size"], found["chain"][1]["message"]["position"]) == (9, odd)
    assert found["end"]["kind"] == "no cause"
    deep = relay.add(make_batch([b"\x82\xa4data" + b"\x91" * 5000 + b"\xc0" + b"\xa5cause\x07"]))
    position = relay.append(deep)
    assert await relay.why(position) == ([position], "damaged")


@in_a_loop
async def test_only_so_many_ask_at_a_time_and_a_message_on_its_way_to_disk_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(why_methods, "MAX_ASKING", 2)
    relay = Relay()
    position = relay.append(None)
    relay.waiters.committed = relay.log.committed = position - 1
    asking = [asyncio.ensure_future(relay.why(position)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unreachable, match="2 calls"):
        await relay.why(position)
    relay.log.committed = position
    relay.waiters.on_commit(position)
    assert await asyncio.gather(*asking) == [([position], "no cause")] * 2
    assert await relay.why(position) == ([position], "no cause")
