"""The relay's methods and couriers, in one process, with a client that needs no network."""

import asyncio
import xmlrpc.client
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from co2.config import RelayConfig
from co2.errors import (
    BadParams,
    FailedInside,
    IdentityRefused,
    NoSuchMethod,
    ParseError,
    RemoteFault,
    StorageFull,
    TooManySatellites,
    Unreachable,
)
from co2.exact_json.messages import SentMessage
from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.log import Entry
from co2.protocol.wire.batch import make_batch
from co2.relay.long_turns import LONG
from co2.relay.member_methods import MemberMethods
from co2.relay.members import MAX_GAPS
from co2.relay.message_methods import MessageMethods
from co2.relay.notifier import MAX_TRIES
from co2.relay.relay import RelayRole
from co2.server.rpc.answer_turns import AnswerTurns
from co2.values import pack
from co2.xmlrpc.answers import BRIEF, AnswerLimit
from co2.xmlrpc.registry import Caller
from tests.attacks.raw_link import RawLink
from tests.protocol.network import FakeLog

HERE = Caller("127.0.0.1", 40_000)
CONFIG = RelayConfig(
    role="relay",
    bind="127.0.0.1",
    port=0,
    port_given=True,
    state=None,
    plugin_dir=Path("plugins"),
    plugin_list=None,
    plugin_config={},
    allowed_hosts=(),
    config_file=None,
    check_interval=0.02,
    drop_after=0.1,
    fetch_timeout=0.1,
    notify_timeout=0.05,
)


class Client:
    """Takes the place of the HTTP client: remembers what each member was told."""

    def __init__(self) -> None:
        self.got: dict[str, list[dict[str, Any]]] = {}
        self.trouble: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.deaf: set[str] = set()

    async def call_written(self, url: str, body: bytes, timeout: float, limit: AnswerLimit) -> Any:
        params, method = xmlrpc.client.loads(body, use_builtin_types=True)
        assert method == "notify"
        message: Any = params[0]
        trouble = self.trouble.get(url)
        if trouble:
            trouble(message)
        self.got.setdefault(url, []).append(message)
        return True

    async def call_many(self, url: str, calls: Sequence[tuple[str, bytes]], timeout: float) -> list[Any]:
        results: list[Any] = []
        for method, value in calls:
            body = f"<methodCall><methodName>{method}</methodName><params><param>".encode() + value
            try:
                results.append(
                    await self.call_written(url, body + b"</param></params></methodCall>", timeout, BRIEF)
                )
            except RemoteFault as fault:
                results.append(fault)
        return results

    async def call(self, url: str, method: str, *params: Any, timeout: float, limit: AnswerLimit) -> Any:
        if url in self.deaf:
            raise Unreachable(url)
        return ["notify"] if method == "system.listMethods" else True


class FullRelay(RelayRole):
    """A relay with its methods."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        turns = AnswerTurns(asyncio.get_running_loop())
        self.methods = MemberMethods(self, self.members, self.links, self.core, self.log, turns=turns)
        self.messages = MessageMethods(
            self.core,
            self.links.driver.flush,
            self.log,
            members=self.members,
            reader=self.reader,
            live=self.live,
            waiters=self.waiters,
            now=self.now,
            turns=turns,
        )


async def until(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(10):
        while not (result := condition()):
            await asyncio.sleep(0.002)
    return result


async def commit(relay: FullRelay, log: FakeLog) -> None:
    """Be a disk that is as quick as memory."""
    while True:
        await asyncio.sleep(0.001)
        if log.committed < log.last:
            log.committed = log.last
            relay.committed(log.last)


async def no_methods(method: str, _argument: Any, _caller: Caller) -> Any:
    raise NoSuchMethod(method)


def make_relay(client: Client, log: FakeLog, **changes: Any) -> FullRelay:
    config = replace(CONFIG, **changes)
    return FullRelay(config, client, log, "relay@127.0.0.1:2003", no_methods)


def with_relay(test: Callable[[FullRelay, Client], Awaitable[None]], **changes: Any) -> None:
    async def run() -> None:
        client = Client()
        log = FakeLog()
        relay = make_relay(client, log, **changes)
        relay.start()
        committing = asyncio.create_task(commit(relay, log))
        try:
            await test(relay, client)
        finally:
            committing.cancel()
            await relay.stop()

    asyncio.run(run())


def member(relay: FullRelay, port: int, **more: Any) -> str:
    """Register a foreign satellite with a port; give its URL."""
    relay.methods.register([{"host_id": f"sat{port}@127.0.0.1:{port}", "port": port, **more}], HERE)
    return f"http://127.0.0.1:{port}/RPC2"


async def send(relay: FullRelay, data: Any, **more: Any) -> int:
    return await relay.messages.relay([{"host_id": "sender@127.0.0.1:0", "data": data, **more}], HERE)


def test_a_message_goes_to_every_other_member_in_order() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        urls = [member(relay, port) for port in (5001, 5002)]
        for number in range(50):
            await send(relay, number)
        for url in urls:
            await until(lambda url=url: len(client.got.get(url, ())) == 50)
            assert [m["data"] for m in client.got[url]] == list(range(50))

    with_relay(test)


def test_long_messages_come_to_disk_one_after_the_other_and_short_ones_at_once() -> None:
    async def test(relay: FullRelay, log: FakeLog) -> None:
        long = "x" * (LONG + 1)
        packed = pack({"channel": "a", "data": long})
        sent = [
            asyncio.create_task(send(relay, long)),
            asyncio.create_task(relay.messages.send([SentMessage(packed, "a", False)], HERE)),
            asyncio.create_task(send(relay, "short")),
        ]
        await until(lambda: len(log.entries) == 2)
        await asyncio.sleep(0)
        assert sum(len(entry.batch) > LONG for entry in log.entries) == 1
        log.committed = log.last
        relay.committed(log.last)
        await until(lambda: len(log.entries) == 3)
        log.committed = log.last
        relay.committed(log.last)
        assert {*await asyncio.gather(*sent)} == {entry.position for entry in log.entries}

    async def run() -> None:
        log = FakeLog()
        relay = make_relay(Client(), log)
        relay.start()
        try:
            await test(relay, log)
        finally:
            await relay.stop()

    asyncio.run(run())


def test_a_member_that_cannot_be_reached_gets_everything_later_and_delays_nobody() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        away, there = member(relay, 5001), member(relay, 5002)

        def fail(_message: dict[str, Any]) -> None:
            raise Unreachable("away")

        client.trouble[away] = fail
        for number in range(10):
            await send(relay, number)
        await until(lambda: len(client.got.get(there, ())) == 10)
        assert away not in client.got
        del client.trouble[away]
        await until(lambda: len(client.got.get(away, ())) == 10)
        assert [m["data"] for m in client.got[away]] == list(range(10))

    with_relay(test, drop_after=60)


def test_a_message_answered_with_a_fault_is_counted_and_not_sent_again() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        url = member(relay, 5001)

        def refuse(message: dict[str, Any]) -> None:
            if message["data"] == 1:
                raise RemoteFault(1, "no thanks")

        client.trouble[url] = refuse
        for number in range(3):
            await send(relay, number)
        await until(lambda: len(client.got.get(url, ())) == 2)
        row = next(iter(relay.methods.get_satellites([], HERE)))
        assert (row["refused"], row["sent"]) == (1, 2)
        assert "no thanks" in row["last_error"]

    with_relay(test)


def test_who_leaves_while_the_satellites_are_listed_is_not_listed() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        for port in (5001, 5002, 5003):
            member(relay, port)
        rows = iter(relay.methods.get_satellites([], HERE))
        listed = [next(rows)["host_id"]]
        (gone,) = [one for one in relay.members if one.host_id.port == 5002]
        relay.take_out(gone, keep_cursor=False)
        listed += [row["host_id"] for row in rows]
        assert [one.rpartition(":")[2] for one in listed] == ["5001", "5003"]

    with_relay(test)


def test_a_message_that_a_member_answers_with_nonsense_holds_up_no_later_ones() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        url = member(relay, 5001)
        tries: list[int] = []

        def nonsense(message: dict[str, Any]) -> None:
            if message["data"] == 0:
                tries.append(1)
                raise ParseError("not XML")

        client.trouble[url] = nonsense
        for number in range(3):
            await send(relay, number)
        await until(lambda: len(client.got.get(url, ())) == 2)
        assert len(tries) == MAX_TRIES
        assert next(iter(relay.methods.get_satellites([], HERE)))["refused"] == 1

    with_relay(test, drop_after=60)


def test_an_error_of_ours_with_one_message_holds_up_no_later_ones(caplog: pytest.LogCaptureFixture) -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        url = member(relay, 5001)

        def break_down(message: dict[str, Any]) -> None:
            if message["data"] == 0:
                raise RuntimeError("a bug")

        client.trouble[url] = break_down
        for number in range(3):
            await send(relay, number)
        await until(lambda: len(client.got.get(url, ())) == 2)
        assert [message["data"] for message in client.got[url]] == [1, 2]
        assert relay.members.totals().refused == 1

    with_relay(test, drop_after=60)
    assert "a bug" in caplog.text


@pytest.mark.parametrize("answers_pings", [True, False])
def test_a_message_in_which_a_foreign_server_fails_holds_up_no_later_ones_where_it_answers_pings(
    answers_pings: bool,
) -> None:
    """As some do with HTTP 500 where they meet a value that they do not know; one that is ill fails always."""

    async def test(relay: FullRelay, client: Client) -> None:
        url = member(relay, 5001)
        tries: list[int] = []

        def fail(message: dict[str, Any]) -> None:
            if message["data"] == 0:
                tries.append(1)
                raise FailedInside("HTTP 500")

        client.trouble[url] = fail
        if not answers_pings:
            client.deaf.add(url)
        for number in range(3):
            await send(relay, number)
        if answers_pings:
            await until(lambda: len(client.got.get(url, ())) == 2)
            assert len(tries) == MAX_TRIES
        else:
            await until(lambda: len(tries) > MAX_TRIES)
            assert url not in client.got
            client.trouble.clear()
            await until(lambda: [m["data"] for m in client.got.get(url, ())] == [0, 1, 2])

    with_relay(test, drop_after=60)


def test_the_silent_are_dropped_and_resume_where_they_were() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        url = member(relay, 5001)
        client.deaf.add(url)

        def fail(_message: dict[str, Any]) -> None:
            raise Unreachable("away")

        client.trouble[url] = fail
        await send(relay, "missed")
        await until(lambda: not len(relay.members))
        await send(relay, "missed too")
        client.deaf.clear()
        client.trouble.clear()
        member(relay, 5001)
        await until(lambda: len(client.got.get(url, ())) == 2)
        assert [m["data"] for m in client.got[url]] == ["missed", "missed too"]

    with_relay(test)


def test_an_error_of_ours_in_a_ping_ends_the_checks_of_no_others(caplog: pytest.LogCaptureFixture) -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        broken, silent = member(relay, 5001), member(relay, 5002)

        async def call(url: str, _method: str, *_params: Any, **_more: Any) -> Any:
            raise RuntimeError("a bug") if url == broken else Unreachable(f"{silent} is away")

        client.call = call  # type: ignore[method-assign]
        await until(lambda: not len(relay.members))

    with_relay(test)
    assert "a bug" in caplog.text


def test_who_fetches_without_a_host_id_is_told_where_to_get_one() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        for argument in ({}, {"host_id": None}):
            with pytest.raises(BadParams, match=r"relay\.register"):
                await relay.messages.fetch([argument], HERE)

    with_relay(test)


def test_one_that_fetches_no_more_is_dropped() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        relay.methods.register([{}], HERE)
        await until(lambda: not len(relay.members))

    with_relay(test)


def test_who_does_not_want_to_resume_starts_at_the_head() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        reply = relay.methods.register([{}], HERE)
        await send(relay, 1)
        again = relay.methods.register([{"host_id": reply["host_id"], "resume": False}], HERE)
        assert again["position"] == relay.log.committed

    with_relay(test, fetch_timeout=60)


def test_who_comes_from_another_log_is_told_the_gap_and_gets_all_of_this_one() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        await send(relay, "before it came back")
        url = member(relay, 5001, log_id="another")
        message = (await until(lambda: client.got.get(url)))[0]
        assert message["data"] == "before it came back"
        assert message["gaps"][0]["reason"] == "log replaced"

    with_relay(test)


def test_a_member_with_another_port_is_called_there() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        relay.methods.register([{"host_id": "mover@127.0.0.1:5001", "port": 5001}], HERE)
        relay.methods.register([{"host_id": "mover@127.0.0.1:5002", "port": 5002}], HERE)
        await send(relay, 1)
        await until(lambda: client.got.get("http://127.0.0.1:5002/RPC2"))
        assert list(client.got) == ["http://127.0.0.1:5002/RPC2"]
        assert len(relay.members) == 1

    with_relay(test)


def test_an_origin_belongs_to_the_address_that_registered_it() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        member(relay, 5001)
        elsewhere = Caller("127.0.0.9", 1)
        with pytest.raises(IdentityRefused):
            relay.methods.register([{"host_id": "sat5001@127.0.0.9:1"}], elsewhere)
        with pytest.raises(IdentityRefused):
            await relay.messages.relay([{"host_id": "sat5001@127.0.0.9:1", "data": 1}], elsewhere)

    with_relay(test)


def linked(relay: FullRelay, origin: str, address: str) -> Peer:
    """Join over a link, without a connection."""
    peer = relay.core.opened((address, 1))
    relay.core.receive(peer, RawLink.hello(origin))
    relay.links.driver.flush()
    return peer


def test_links_of_one_address_that_have_all_places_keep_no_member_out() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        peers = [linked(relay, f"greedy{n}", "10.0.0.2") for n in range(20)]
        for number in range(3):
            relay.methods.register([{}], Caller("10.0.0.3", number))
        relay.methods.register([{}], Caller("10.0.0.4", 1))
        assert [peer.state for peer in peers] == ["open"] * 16 + ["closed"] * 4
        assert len(relay.members) == 20
        # Whoever has as many gets no more: here that is the one with the links itself.
        with pytest.raises(TooManySatellites, match="max_sats is 20"):
            relay.methods.register([{}], Caller("10.0.0.2", 1))

    with_relay(test, max_sats=20, fetch_timeout=60.0)


def test_the_relay_carries_max_sats_and_no_more() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        member(relay, 5001)
        with pytest.raises(TooManySatellites, match="max_sats is 1"):
            member(relay, 5002)

    with_relay(test, max_sats=1)


def test_a_call_that_a_later_one_has_followed_takes_no_live_messages() -> None:
    """Whoever has hung up, and calls again, may have closed but one half of the connection, as far as we see."""

    async def test(relay: FullRelay, client: Client) -> None:
        me = relay.methods.register([{}], HERE)
        assert isinstance(me, dict)
        asked = {"host_id": me["host_id"], "wait": 20, "live": True}
        calls = []
        for number in (1, 2):
            calls.append(asyncio.create_task(relay.messages.fetch([asked], Caller("127.0.0.1", number))))
            while len(relay.waiters) < number:
                await asyncio.sleep(0)
        relay.live.take(
            Entry(
                0,
                1,
                "o",
                "o@192.0.2.1:0",
                ("192.0.2.1", 1),
                0,
                0,
                "p",
                "p.p",
                ("c",),
                0,
                make_batch([pack({"data": 7})]),
            )
        )
        async with asyncio.timeout(10):
            answer = await calls[1]
        assert [message.xml for message in answer["live"]] and answer["live_missed"] == 0
        assert not calls[0].done()
        calls[0].cancel()

    with_relay(test, fetch_timeout=60)


def test_fetch_waits_and_wakes_at_the_next_message() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        me = relay.methods.register([{}], HERE)
        waiting = asyncio.create_task(relay.messages.fetch([{"host_id": me["host_id"], "wait": 20}], HERE))
        await until(lambda: len(relay.waiters))
        await send(relay, "now")
        async with asyncio.timeout(5):
            answer = await waiting
        assert len(answer["messages"]) == 1
        assert answer["next"] == relay.log.committed

    with_relay(test, fetch_timeout=60)


def test_stopping_ends_waiting_fetches() -> None:
    async def run() -> None:
        relay = make_relay(Client(), FakeLog())
        relay.start()
        me = relay.methods.register([{}], HERE)
        waiting = asyncio.create_task(relay.messages.fetch([{"host_id": me["host_id"], "wait": 20}], HERE))
        await until(lambda: len(relay.waiters))
        await relay.stop()
        async with asyncio.timeout(5):
            assert (await waiting)["messages"] == []

    asyncio.run(run())


def test_a_gap_is_told_also_when_the_member_was_dropped_before_it_heard_of_it() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        url = member(relay, 5001)
        client.deaf.add(url)

        def fail(_message: dict[str, Any]) -> None:
            raise Unreachable("away")

        client.trouble[url] = fail
        log: Any = relay.log
        for number in range(5):
            await send(relay, number)
        log.entries = log.entries[3:]
        log.gone = log.entries[0].position - 1
        await until(lambda: not len(relay.members))
        client.deaf.clear()
        client.trouble.clear()
        member(relay, 5001)
        await until(lambda: len(client.got.get(url, ())) == 2)
        assert [m["data"] for m in client.got[url]] == [3, 4]
        assert client.got[url][0]["gaps"][0]["reason"] == "retention"

    with_relay(test)


def test_a_fetch_tells_a_gap_until_the_next_call_says_that_it_arrived() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        me = relay.methods.register([{"log_id": "another"}], HERE)
        await send(relay, 1)
        fetch = {"host_id": me["host_id"], "after": me["position"]}
        first = await relay.messages.fetch([fetch], HERE)
        again = await relay.messages.fetch([fetch], HERE)
        assert first["gaps"] == again["gaps"] != []
        after = await relay.messages.fetch([{**fetch, "after": first["next"]}], HERE)
        assert after["gaps"] == []

    with_relay(test, fetch_timeout=60)


def test_a_gap_that_comes_while_a_fetch_waits_is_told_by_the_next_one() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        me = relay.methods.register([{}], HERE)
        fetch = {"host_id": me["host_id"], "wait": 20}
        waiting = asyncio.create_task(relay.messages.fetch([fetch], HERE))
        await until(lambda: len(relay.waiters))
        relay.methods.register([{"host_id": me["host_id"], "log_id": "another"}], HERE)
        await send(relay, 1)
        first = await waiting
        assert [gap["reason"] for gap in first["gaps"]] == []
        second = await relay.messages.fetch([{**fetch, "wait": 0, "after": first["next"]}], HERE)
        assert [gap["reason"] for gap in second["gaps"]] == ["log replaced"]
        third = await relay.messages.fetch([{**fetch, "wait": 0, "after": second["next"]}], HERE)
        assert third["gaps"] == []

    with_relay(test, fetch_timeout=60)


def test_a_position_beyond_the_log_is_a_gap_that_counts() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        me = relay.methods.register([{}], HERE)
        answer = await relay.messages.fetch([{"host_id": me["host_id"], "after": relay.log.lease + 5}], HERE)
        assert [gap["reason"] for gap in answer["gaps"]] == ["log replaced"]
        assert relay.members.totals().gaps == 1

    with_relay(test, fetch_timeout=60)


def test_messages_that_the_log_refuses_do_not_count_as_relayed() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        await send(relay, 1)

        def full(**_entry: Any) -> Any:
            raise StorageFull("the disk is full")

        relay.log.append = full  # type: ignore[method-assign]
        for more in ({}, {"id": "once"}):
            with pytest.raises(StorageFull):
                await send(relay, 2, **more)
        assert relay.messages.relayed == 1

    with_relay(test)


def test_an_answer_to_fetch_is_bounded_by_what_is_written() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        me = relay.methods.register([{}], HERE)
        for _ in range(4):
            await send(relay, [{}] * 20_000)
        answer = await relay.messages.fetch([{"host_id": me["host_id"], "after": me["position"]}], HERE)
        assert len(answer["messages"]) < 4
        seen = len(answer["messages"])
        while seen < 4:
            answer = await relay.messages.fetch([{"host_id": me["host_id"], "after": answer["next"]}], HERE)
            assert answer["messages"]
            seen += len(answer["messages"])

    with_relay(test, fetch_timeout=60)


def test_who_registers_at_a_port_takes_the_place_of_who_was_there() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        relay.methods.register([{"host_id": "old@127.0.0.1:5001", "port": 5001}], HERE)
        relay.methods.register([{"host_id": "new@127.0.0.1:5001", "port": 5001}], HERE)
        assert [row["host_id"] for row in relay.methods.get_satellites([], HERE)] == ["new@127.0.0.1:5001"]

    with_relay(test)


def test_refused_links_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        for _ in range(500):
            peer = relay.core.opened(("10.0.0.9", 4567))
            relay.core.receive(peer, b"garbage")
        relay.links.driver.flush()
        lines = [record for record in caplog.records if "was refused" in record.message]
        assert 0 < len(lines) <= 21

    with_relay(test)


def test_who_registers_again_and_again_from_another_log_is_told_one_gap() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        me = relay.methods.register([{}], HERE)
        for _ in range(200):
            relay.methods.register([{"host_id": me["host_id"], "log_id": "another"}], HERE)
        answer = await relay.messages.fetch([{"host_id": me["host_id"], "after": 0}], HERE)
        assert [gap["reason"] for gap in answer["gaps"]] == ["log replaced"]

    with_relay(test, fetch_timeout=60)


def test_gaps_that_wait_to_be_told_are_bounded_and_cover_all_that_is_missing() -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        relay.methods.register([{}], HERE)
        found = next(iter(relay.members))
        assert found.miss(5, 6, "unread") and not found.miss(6, 9, "unread"), "one follows the other"
        for number in range(10, 10 + 3 * MAX_GAPS, 3):
            found.miss(number, number + 1, "retention")
        assert len(found.gaps_to_tell) == MAX_GAPS == found.gaps
        assert found.gaps_to_tell[0] == {"after": 5, "next": 9, "reason": "unread"}
        assert found.gaps_to_tell[-1]["next"] == 10 + 3 * (MAX_GAPS - 1) + 1

    with_relay(test, fetch_timeout=60)
