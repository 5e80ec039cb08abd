"""Names of methods and plugins: how many one member may have, and that all of them together can be told."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from co2.errors import RemoteFault
from co2.protocol.wire import close_reasons
from co2.protocol.wire.host_names import MAX_NAMES, MAX_NAMES_SIZE
from co2.protocol.wire.link_frames import (
    Call,
    Goodbye,
    Interest,
    Result,
    Subscription,
    decode_relay_frame,
    encode_link_frame,
)
from co2.server.link.websocket_transport import joined
from co2.xmlrpc.reader import read_response
from tests.attacks.hosts import running
from tests.attacks.raw import call, call_body, connected, ping_within, read_reply, request, send
from tests.attacks.raw_link import RawLink
from tests.attacks.test_floods import flood
from tests.attacks.test_link import hello
from tests.harness import HostProcess
from tests.protocol.network import Network

MEMBERS = 512
WHOLE = [f"m.{number:04}.".ljust(256, "x") for number in range(MAX_NAMES_SIZE // 256)]
"""Names that use all that there may be of one member."""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """A relay with as many members as it carries by default, each with all the names that it may have."""
    folder: Path = tmp_path_factory.mktemp("named")
    (folder / "co2.toml").write_text("[relay]\nmax_sats = 2048\nfetch_timeout = 3600\n")
    with running(folder, "relay") as host:
        body = request(call_body("relay.register", {"methods": WHOLE}))
        for number in range(MEMBERS // 32):
            with connected(host.port, f"127.0.1.{number + 1}") as sock:
                for _ in range(32):
                    send(sock, body)
                    reply = read_reply(sock)
                    assert reply is not None
                    assert read_response(reply.body)["host_id"]
        yield host


def co2(*args: str) -> str:
    command = [sys.executable, "-m", "co2", *args]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_co2_ps_shows_them_all(relay: HostProcess) -> None:
    shown = co2("ps", "--relay", relay.url, "--json")
    rows = json.loads(shown)["satellites"]
    assert len(rows) == MEMBERS
    whole = [row for row in rows if row["methods"] == WHOLE]
    assert 1 <= len(whole) < MEMBERS
    assert {row["left_out"] for row in rows if row not in whole} == {len(WHOLE)}
    assert len(shown) < 4 * 2**20
    assert f"{MEMBERS} satellites" in co2("ps", "--relay", relay.url)


def test_pages_give_all_names_and_end(relay: HostProcess) -> None:
    """Each of them within what a relay can send while many ask."""
    got: list[dict[str, Any]] = []
    after: dict[str, Any] = {}
    for _ in range(MEMBERS + 1):
        with connected(relay.port) as sock:
            send(sock, request(call_body("relay.get_satellites", {"max": 1000, **after}), "Connection: close"))
            reply = read_reply(sock)
        assert reply is not None
        assert len(reply.body) < 2 * 2**20
        page = read_response(reply.body)
        if not page:
            break
        got += page
        after = {"after": page[-1]["host_id"]}
    assert len({row["host_id"] for row in got}) == len(got) == MEMBERS
    assert all(row["methods"] == WHOLE and not row["left_out"] for row in got)


def test_pages_without_names(relay: HostProcess) -> None:
    rows = call(relay.port, "relay.get_satellites", {"max": 300, "names": False})
    assert len(rows) == 300
    assert {row["left_out"] for row in rows} == {len(WHOLE)}
    rest = call(relay.port, "relay.get_satellites", {"after": rows[-1]["host_id"], "names": False})
    assert len(rest) == MEMBERS - 300
    assert call(relay.port, "relay.get_satellites", {"after": rest[-1]["host_id"]}) == []
    for wrong in ({"max": 0}, {"max": 1001}, {"after": 5}, {"names": "no"}):
        with pytest.raises(RemoteFault) as caught:
            call(relay.port, "relay.get_satellites", wrong)
        assert caught.value.code == -32602


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"methods": [*WHOLE, "x"]}, f"{MAX_NAMES_SIZE + 1} bytes"),
        ({"methods": WHOLE[:200], "plugins": WHOLE[:200]}, f"{400 * 256} bytes"),
        ({"methods": ["x"] * (MAX_NAMES + 1)}, f"{MAX_NAMES + 1} names"),
        ({"plugins": ["\u20ac" * 200] * 110}, "66000 bytes"),
    ],
)
def test_more_is_refused_with_the_number(relay: HostProcess, names: dict[str, list[str]], said: str) -> None:
    with pytest.raises(RemoteFault, match=said) as caught:
        call(relay.port, "relay.register", names)
    assert caught.value.code == -32602


@pytest.mark.parametrize(
    ("methods", "said"),
    [([*WHOLE, "x"], f"{MAX_NAMES_SIZE + 1} bytes"), (["x"] * (MAX_NAMES + 1), f"<= {MAX_NAMES}")],
)
def test_more_ends_a_link_with_the_number(methods: list[str], said: str) -> None:
    net = Network()
    peer = net.relay.opened(("127.0.0.1", 1))
    net.relay.receive(peer, hello(methods=methods))
    assert peer.state == "closed"
    goodbye = decode_relay_frame(peer.taken()[-1])
    assert goodbye.reason == close_reasons.GARBAGE
    assert said in goodbye.text


LINKS = 40
"""That all tell as many names as they may, again and again other ones."""

SECONDS = 3.0
"""For which they do."""

MAX_STOP = 5.0
"""Seconds in which a relay stops, whatever its links do."""

Subs = [Subscription("p")]


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[HostProcess]:
    """A relay without members."""
    with running(tmp_path, "relay") as host:
        yield host


def names(number: int) -> list[str]:
    """Return names that use all that there may be of one member, other ones for each number."""
    return [f"m.{number:04}.{n:04}.".ljust(256, "x") for n in range(MAX_NAMES_SIZE // 256)]


def interest(**told: list[str]) -> bytes:
    return encode_link_frame(Interest(Subs, **{"methods": [], "plugins": [], **told}))


TOO_MANY = [
    {"methods": [*WHOLE, "x"]},
    {"plugins": ["x" * 512] * MAX_NAMES},
    {"methods": WHOLE, "plugins": ["x"]},
    {"methods": ["x"] * (MAX_NAMES + 1)},
]


@pytest.mark.parametrize("told", TOO_MANY, ids=["size", "long", "both", "number"])
def test_more_over_a_link_ends_it_and_nothing_is_kept(lonely: HostProcess, told: dict[str, list[str]]) -> None:
    async def run() -> None:
        for again in range(2):
            link = await RawLink.joined_as(lonely.port, f"later{again}")
            link.say(interest(**told))
            assert (await link.next(Goodbye)).reason == close_reasons.GARBAGE
            link.abort()
            link = await RawLink.open(lonely.port)
            link.say(RawLink.hello(f"first{again}", **told))
            # A Hello that is longer than the first frame may be is not read at all.
            with contextlib.suppress(EOFError, ConnectionError):
                assert (await link.next(Goodbye)).reason == close_reasons.GARBAGE
            link.abort()

    asyncio.run(run())
    assert call(lonely.port, "relay.get_satellites", {}) == []
    ping_within(lonely.port, 1)


def test_links_that_tell_all_names_that_they_may_hold_up_nobody(lonely: HostProcess) -> None:
    process = psutil.Process(lonely.pid)

    asked = msgspec.msgpack.encode({"max": 1000})

    def said(number: int) -> bytes:
        """Other names three times, and each time the wish to be told everybody's; made once, for it takes long."""
        frames = []
        for turn in (1, 2, 3):
            frames.append(interest(methods=names(number + LINKS * turn)))
            frames.append(encode_link_frame(Call(turn, "relay.get_satellites", asked, 30.0)))
        return b"".join(joined(frames, masked=True))

    async def read(link: RawLink) -> int:
        """Read all, and look at none of it: that would take longer than to write it."""
        size = 0
        with contextlib.suppress(ConnectionError):
            while data := await link.reader.read(2**18):
                size += len(data)
        return size

    async def run() -> tuple[float, int]:
        before = process.memory_info().rss
        links = [await RawLink.joined_as(lonely.port, f"m{n}", methods=names(n)) for n in range(LINKS)]
        links[0].say(encode_link_frame(Call(1, "relay.get_satellites", asked, 30.0)))
        told = await links[0].next(Result)
        assert not told.code, told.error
        assert len(told.value) > MAX_NAMES_SIZE
        saying = [asyncio.ensure_future(flood(link, said(number))) for number, link in enumerate(links)]
        reading = [asyncio.ensure_future(read(link)) for link in links]
        slowest, largest, end = 0.0, 0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            began = time.monotonic()
            await asyncio.to_thread(ping_within, lonely.port, 10)
            slowest = max(slowest, time.monotonic() - began)
            largest = max(largest, process.memory_info().rss - before)
        began = time.monotonic()
        assert await asyncio.to_thread(lonely.stop) == 0
        stopping = time.monotonic() - began
        for task in saying:
            task.cancel()
        await asyncio.gather(*saying, return_exceptions=True)
        assert sum(await asyncio.gather(*reading)) > LINKS * MAX_NAMES_SIZE, "names were told"

        assert stopping < MAX_STOP
        return slowest, largest

    slowest, largest = asyncio.run(run())
    assert slowest < 1.0
    assert largest < 64 * 2**20
