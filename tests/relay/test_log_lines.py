"""The log as JSON Lines: order, gaps in their place, filters, and what is read for it."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from co2.errors import BadParams, Busy
from co2.protocol.relay.log import Entry, LogGap, Reading
from co2.protocol.wire.batch import DROPPED, make_batch
from co2.relay import log_lines
from co2.relay.commit_waiters import CommitWaiters
from co2.relay.durable_log import DurableLog
from co2.relay.log_lines import MAX_HELD, MAX_READERS, MAX_READERS_OF_ADDRESS, PIECE, LogLines, read_query
from co2.relay.message_reader import MessageReader
from co2.server.rpc.answer_turns import AnswerTurns
from co2.values import pack

END = ("127.0.0.1", 5)


def entry(
    position: int, *data: Any, channels: Sequence[str] | None = ("",), raw: bytes = b"", at: float = 0.0
) -> Entry:
    """An entry; data may be a pair of channel and data."""
    packed = [
        pack({"channel": one[0], "data": one[1]} if isinstance(one, tuple) else {"data": one})
        if one is not None
        else DROPPED
        for one in data
    ]
    batch = raw or make_batch(packed)
    told = None if channels is None else tuple(channels)
    return Entry(
        position,
        len(data) or 1,
        "ham",
        "ham@127.0.0.1:1",
        ("127.0.0.1", 1),
        7,
        position,
        "p",
        "p.m.X",
        told,
        0,
        batch,
        at,
    )


class Log:
    """A log on disk: entries and gaps in order."""

    def __init__(self, *content: Entry | LogGap, at_once: int = 3) -> None:
        self._content = list(content)
        self._at_once = at_once
        self.lease = 1_000_000
        self.reads = 0

    @property
    def committed(self) -> int:
        last = self._content[-1] if self._content else None
        return 1 if last is None else last.end if isinstance(last, Entry) else last.next

    def append(self, one: Entry) -> None:
        self._content.append(one)

    def read(self, after: int, max_bytes: int) -> Reading:
        return Reading((), after, None, on_disk=True)

    async def read_disk(self, reader: str, after: int, max_bytes: int) -> Reading:
        self.reads += 1
        await asyncio.sleep(0)
        found: list[Entry] = []
        for one in self._content:
            end = one.end if isinstance(one, Entry) else one.next
            if end <= after:
                continue
            if isinstance(one, LogGap):
                if found:
                    break
                return Reading((), one.next, LogGap(after, one.next, one.reason))
            found.append(one)
            if len(found) == self._at_once:
                break
        return Reading(found, found[-1].end if found else after)


class Lines:
    """A reader of a log."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.waiters = CommitWaiters()
        self.waiters.committed = log.committed
        self.reader = MessageReader(cast(DurableLog, log), log.read_disk)
        turns = AnswerTurns(asyncio.get_running_loop())
        self.lines = LogLines(cast(DurableLog, log), self.reader, self.waiters, turns)

    async def pieces(self, **query: str) -> list[bytes]:
        asked = {{"begin": "from"}.get(key, key): value for key, value in query.items()}
        found = [piece async for piece in self.lines.read(read_query(asked), END)]
        assert found.pop(0) == b""
        return found

    async def __call__(self, **query: str) -> list[Any]:
        """Return each line: the data of a message, or a gap."""
        told = [json.loads(line) for line in b"".join(await self.pieces(**query)).splitlines()]
        return [one["data"] if "data" in one else (*one["gap"].values(),) for one in told]


def run(log: Log, test: Any) -> None:
    async def main() -> None:
        lines = Lines(log)
        try:
            async with asyncio.timeout(20):
                await test(lines)
        finally:
            lines.lines.close()
            lines.reader.close()

    asyncio.run(main())


def test_a_line_has_what_the_relay_knows_and_what_was_sent() -> None:
    async def test(lines: Lines) -> None:
        (piece,) = await lines.pieces()
        assert json.loads(piece) == {
            "position": 2, "host_id": "ham@127.0.0.1:1", "plugin": "p.m.X", "channel": "a.b", "data": 1,
        }  # fmt: skip

    run(Log(entry(2, ("a.b", 1), channels=("a.b",))), test)


def test_gaps_are_told_in_their_place() -> None:
    log = Log(
        LogGap(0, 4, "retention"),
        entry(5, "a", "b"),
        LogGap(6, 9, "damaged"),
        entry(10, raw=b"\xdd\x00\x00\x00\x01\xc1"),
        entry(11, None, "c"),
        entry(13, raw=make_batch([b"\x93\xc1\xc1\xc1"])),
        entry(14, "d"),
    )

    async def test(lines: Lines) -> None:
        unreadable = "the messages cannot be read"
        everything = [
            (0, 4, "retention"), "a", "b", (6, 9, "damaged"), (9, 10, unreadable), "c", (12, 13, unreadable), "d",
        ]  # fmt: skip
        assert await lines() == everything
        assert await lines(begin="6") == everything[2:]
        assert await lines(begin="6", to="11") == everything[2:5]
        assert await lines(to="5") == everything[:2]
        assert await lines(max="2") == everything[:3]
        assert await lines(max="0") == []
        assert await lines(begin="15") == []
        assert await lines(begin="2000000") == [
            (1_999_999, 1, "log replaced"),
            (1, 4, "retention"),
            *everything[1:],
        ]

    run(log, test)


def test_only_wanted_channels_are_told() -> None:
    log = Log(
        entry(2, ("stage.a", 1), ("light.b", 2), channels=("light.b", "stage.a")),
        entry(4, ("stage.a.b", 3), channels=("stage.a.b",)),
        entry(5, ("light.b", 4), channels=("light.b",), raw=b"is not decoded"),
        entry(6, ("light.b", 5), ("stage.c", 6), channels=None),
        entry(8, 7),
    )

    async def test(lines: Lines) -> None:
        assert await lines(channel="stage.>") == [1, 3, 6]
        assert await lines(channel="stage.*,light.none") == [1, 6]
        assert await lines(channel="none") == []

    run(log, test)


def test_many_lines_come_in_pieces() -> None:
    async def test(lines: Lines) -> None:
        pieces = await lines.pieces()
        assert len(pieces) > 30
        assert max(map(len, pieces)) < 2 * PIECE
        assert b"".join(pieces).count(b"\n") == 20_000

    run(Log(*(entry(2 + 100 * number, *["x" * 50] * 100) for number in range(200))), test)


def test_large_messages_are_written_beside_the_loop() -> None:
    async def test(lines: Lines) -> None:
        assert await lines() == [["x" * 100] * 1000, "y"]

    run(Log(entry(2, ["x" * 100] * 1000, "y")), test)


@pytest.mark.parametrize("most", [MAX_HELD, 0])
def test_long_lines_come_in_pieces_whether_they_are_kept_or_not(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(log_lines, "MAX_HELD", most)
    long = "".join(map(str, range(50_000)))

    async def test(lines: Lines) -> None:
        pieces = await lines.pieces()
        assert max(map(len, pieces)) < 2 * PIECE
        assert [json.loads(line)["data"] for line in b"".join(pieces).splitlines()] == ["a", long, "b", long]
        assert [json.loads(line)["data"] for line in b"".join(await lines.pieces(max="2")).splitlines()] == [
            "a",
            long,
        ]

    run(Log(entry(2, "a", long, "b"), entry(5, long)), test)


def test_who_follows_gets_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "HEARTBEAT", 0.05)

    async def test(lines: Lines) -> None:
        pieces = lines.lines.read(read_query({"follow": "1"}), END)
        assert await anext(pieces) == b""
        assert await anext(pieces) == b"\n"
        lines.log.append(entry(3, "new"))
        lines.waiters.on_commit(3)
        while (piece := await anext(pieces)) == b"\n":
            pass
        assert json.loads(piece)["data"] == "new"
        await pieces.aclose()

    run(Log(entry(2, "old")), test)


def test_who_follows_ends_where_its_connection_gives_way_or_the_relay_stops() -> None:
    async def test(lines: Lines) -> None:
        for end in (lambda: lines.waiters.give_way("loopback"), lines.waiters.end):
            pieces = lines.lines.read(read_query({"follow": "1"}), END)
            assert await anext(pieces) == b""
            waiting = asyncio.ensure_future(anext(pieces, None))
            while not len(lines.waiters):
                await asyncio.sleep(0)
            end()
            assert await waiting is None

    run(Log(entry(2, "old")), test)


def test_who_follows_up_to_a_position_ends_there() -> None:
    async def test(lines: Lines) -> None:
        assert await lines(begin="2", to="2", follow="1") == ["old"]
        assert await lines(begin="2", max="1", follow="1") == ["old"]

    run(Log(entry(2, "old")), test)


def test_there_are_only_so_many_readers() -> None:
    async def test(lines: Lines) -> None:
        def reader(address: str) -> Any:
            return lines.lines.read(read_query({"follow": "1"}), (address, 1))

        first = [reader("192.0.2.1") for _ in range(MAX_READERS_OF_ADDRESS)]
        for one in first:
            await anext(one)
        with pytest.raises(Busy):
            await anext(reader("192.0.2.1"))
        others = [reader("127.0.0.1") for _ in range(MAX_READERS - MAX_READERS_OF_ADDRESS)]
        for one in others:
            await anext(one)
        with pytest.raises(Busy):
            await anext(reader("127.0.0.1"))
        await first.pop().aclose()
        await anext(last := reader("127.0.0.1"))
        for one in (*first, *others, last):
            await one.aclose()

    run(Log(entry(2, "old")), test)


def test_a_time_is_found_however_the_log_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "time", lambda: 1000.0)
    log = Log(
        LogGap(0, 40, "retention"),
        *(entry(41 + 3 * number, number, number, number, at=900.0 + number) for number in range(50)),
        LogGap(190, 200, "damaged"),
        entry(201, "late", at=990.0),
    )

    async def test(lines: Lines) -> None:
        everything = [(0, 40, "retention"), *(one for number in range(50) for one in [number] * 3)]
        everything += [(190, 200, "damaged"), "late"]
        assert await lines(begin="-90s") == everything[1 + 3 * 10 :]
        assert await lines(begin="-51500ms") == everything[1 + 3 * 49 :]
        assert await lines(begin="-51s") == everything[1 + 3 * 49 :]
        assert (await lines(begin="-50s"))[-1] == "late"
        assert (await lines(begin="-10s"))[-1] == "late"
        assert await lines(begin="-9s") == []
        assert await lines(begin="-0s", follow="0") == []
        assert (await lines(begin="-5m"))[1:] == everything[1:]
        assert (await lines(begin="-1d", channel="none")) == [(0, 40, "retention"), (190, 200, "damaged")]

    run(log, test)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"form": "1"}, "'form'"),
        ({"from": "x"}, "'from'"),
        ({"from": "-1"}, "'from'"),
        ({"from": "-5y"}, "such as -5m"),
        ({"to": "-5m"}, "'to'"),
        ({"from": "²"}, "'from'"),
        ({"to": "9999999999999999999"}, "'to'"),
        ({"max": ""}, "'max'"),
        ({"max": "1e3"}, "'max'"),
        ({"follow": "yes"}, "'follow'"),
        ({"channel": ""}, "'channel'"),
        ({"channel": "a.>.b"}, "'channel'"),
        ({"channel": "a," * 300}, "'channel'"),
    ],
)
def test_a_malformed_query_is_refused(query: dict[str, str], says: str) -> None:
    with pytest.raises(BadParams, match=says):
        read_query(query)
