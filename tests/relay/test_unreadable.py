"""Messages in the log that nobody can read are a gap in their place for foreign receivers; what follows comes."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from co2.protocol.wire.batch import batch_count, make_batch, split_batch
from co2.relay import message_reader
from co2.values import pack
from tests.relay.test_relay import HERE, Client, FullRelay, member, send, until, with_relay


@dataclass(frozen=True)
class Key:
    """A key that is encoded as a dictionary, which no key can be where it is decoded."""

    number: int


UNREADABLE = {
    "a message": make_batch([pack({"data": 1}), pack({"data": {Key(1): 2}}), pack({"data": 3})]),
    "no dictionary": make_batch([pack({"data": 1}), b"\x05", pack({"data": 3})]),
}
BROKEN = {
    "cut off": make_batch([pack({"data": msgspec.Raw(b"")})]),
    "more than it says": make_batch([pack({"data": 1})]) + b"\x05",
}


def append(relay: FullRelay, batch: bytes) -> int:
    """Put a frame into the log as a link does, which looks not inside; give the position of its first message."""
    return relay.log.append(
        origin="ham",
        host_id="ham@127.0.0.1:1",
        client_address=("127.0.0.1", 1),
        batch=batch,
        count=batch_count(batch),
        epoch=7,
        seq=1,
    ).position


async def fetched(relay: FullRelay, me: dict[str, Any], wanted: int) -> tuple[list[Any], list[dict[str, Any]]]:
    """Fetch on until so many messages have come; give their data, and the gaps that were told."""
    data: list[Any] = []
    gaps: list[dict[str, Any]] = []
    after = me["position"]
    while len(data) < wanted:
        answer = await relay.messages.fetch([{"host_id": me["host_id"], "after": after, "wait": 5}], HERE)
        data += [data_of(message) for message in answer["messages"]]
        gaps += answer["gaps"]
        after = answer["next"]
    return data, gaps


def data_of(written: Any) -> Any:
    """Give the data of a message that is written already."""
    from co2.xmlrpc.reader import read_response
    from co2.xmlrpc.writer import write_response

    return read_response(write_response(written.xml))["data"]


@pytest.mark.parametrize("batch", UNREADABLE.values(), ids=UNREADABLE)
def test_one_message_that_cannot_be_read_is_a_gap_for_who_is_notified(batch: bytes) -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        url = member(relay, 5001)
        position = append(relay, batch)
        await send(relay, 4)
        await until(lambda: len(client.got.get(url, ())) == 3)
        assert [message["data"] for message in client.got[url]] == [1, 3, 4]
        gaps = [gap for message in client.got[url] for gap in message.get("gaps", ())]
        assert [(gap["after"], gap["next"]) for gap in gaps] == [(position, position + 1)]
        assert "cannot be read" in gaps[0]["reason"]

    with_relay(test, drop_after=60)


@pytest.mark.parametrize("batch", UNREADABLE.values(), ids=UNREADABLE)
def test_one_message_that_cannot_be_read_is_a_gap_for_who_fetches(batch: bytes) -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        me = relay.methods.register([{}], HERE)
        position = append(relay, batch)
        await send(relay, 4)
        data, gaps = await fetched(relay, me, 3)
        assert data == [1, 3, 4]
        assert [(gap["after"], gap["next"]) for gap in gaps] == [(position, position + 1)]

    with_relay(test, fetch_timeout=60)


@pytest.mark.parametrize("batch", BROKEN.values(), ids=BROKEN)
def test_a_frame_that_cannot_be_taken_apart_is_a_gap(batch: bytes) -> None:
    async def test(relay: FullRelay, client: Client) -> None:
        url = member(relay, 5001)
        me = relay.methods.register([{}], HERE)
        position = append(relay, batch)
        await send(relay, 4)
        await until(lambda: client.got.get(url))
        assert [message["data"] for message in client.got[url]] == [4]
        told = client.got[url][0]["gaps"]
        assert [(gap["after"], gap["next"]) for gap in told] == [(position - 1, position)]
        data, gaps = await fetched(relay, me, 1)
        assert data == [4]
        assert [(gap["after"], gap["next"]) for gap in gaps] == [(position - 1, position)]

    with_relay(test, drop_after=60, fetch_timeout=60)


def nested(depth: int) -> bytes:
    return make_batch([b"\x81\xa4data" + b"\x91" * depth + b"\xc0"])


def test_what_nests_too_deep_costs_once_for_all_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    split: list[int] = []

    def counting(batch: bytes, *, patient: bool = True) -> list[bytes]:
        split.append(len(batch))
        assert not patient
        return split_batch(batch, patient=patient)

    monkeypatch.setattr(message_reader, "split_batch", counting)

    async def test(relay: FullRelay, client: Client) -> None:
        readers = [relay.methods.register([{}], HERE) for _ in range(20)]
        for _ in range(3):
            append(relay, nested(1_000_000))
        append(relay, make_batch([pack({"data": "after it"})]))
        await until(lambda: relay.log.committed == relay.log.last)
        for me in readers:
            data, gaps = await fetched(relay, me, 1)
            assert data == ["after it"]
            assert {gap["reason"] for gap in gaps} == {"the messages cannot be read"}
        assert sum(size > 10_000 for size in split) == 3

    with_relay(test, fetch_timeout=60)


def test_what_is_large_in_xml_is_written_once_and_not_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def noting(write: Any, message: Any) -> bytes:
        threads.append(threading.current_thread().name)
        written: bytes = write(message)
        return written

    monkeypatch.setattr(message_reader, "_slowly", noting)
    numbers = list(range(30_000))
    too_many = b"\x81\xa4data\xdd" + (700_000).to_bytes(4, "big") + b"\x90" * 700_000

    async def test(relay: FullRelay, client: Client) -> None:
        readers = [relay.methods.register([{}], HERE) for _ in range(5)]
        append(relay, make_batch([pack({"data": numbers})]))
        append(relay, make_batch([too_many]))
        append(relay, make_batch([pack({"data": "after it"})]))
        await until(lambda: relay.log.committed == relay.log.last)
        for data, gaps in await asyncio.gather(*(fetched(relay, me, 2) for me in readers)):
            assert data == [numbers, "after it"]
            assert [gap["reason"] for gap in gaps] == ["the messages cannot be read"]
        assert len(threads) == 2
        assert all(name.startswith("write-xml") for name in threads)

    with_relay(test, fetch_timeout=60)
