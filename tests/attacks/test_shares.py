"""Who takes all that there is of something keeps nobody else out: connections, and places of members."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from co2.errors import RemoteFault
from co2.relay.members import MAX_FOREIGN_OF_ADDRESS
from tests.attacks.from_many import ADDRESSES, FILES, PLACES
from tests.attacks.hosts import running
from tests.attacks.raw import call, call_body, connected, ping_within, read_reply, request, send
from tests.harness import HostProcess, wait_for
from tests.needs import IN_CI, skip_or_fail


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder: Path = tmp_path_factory.mktemp("shared")
    # With few files, and so few connections: the half of these are 200, and what loopback may have of them 100.
    program = ("/bin/sh", "-c", 'ulimit -n 400; exec "$0" -m co2 "$@"', sys.executable)
    with running(folder, "relay", env={"CO2_MAX_SATS": "40"}, program=program) as relay:
        yield relay


def test_many_clients_at_once_are_all_heard(relay: HostProcess) -> None:
    answered = []

    def client() -> None:
        with connected(relay.port) as sock:
            barrier.wait(20)
            send(sock, request(call_body("ping")))
            if (reply := read_reply(sock)) is not None:
                answered.append(reply.status)

    barrier = threading.Barrier(80)
    clients = [threading.Thread(target=client) for _ in range(80)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(30)
    assert answered == [200] * 80


def test_waiting_fetches_do_not_shut_the_port(relay: HostProcess) -> None:
    async def run() -> None:
        me = await asyncio.to_thread(call, relay.port, "relay.register", {})
        head = await asyncio.to_thread(call, relay.port, "relay.fetch", {"host_id": me["host_id"]})
        fetch = request(
            call_body("relay.fetch", {"host_id": me["host_id"], "after": head["next"], "max": 1, "wait": 25})
        )
        waiting: list[asyncio.StreamWriter] = []

        async def wait_for_messages() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            waiting.append(writer)
            writer.write(fetch)
            reader._transport.pause_reading()  # type: ignore[attr-defined]

        for _ in range(10):
            await asyncio.gather(*(wait_for_messages() for _ in range(30)), return_exceptions=True)
            await asyncio.to_thread(ping_within, relay.port, 5)
        start = time.monotonic()
        await asyncio.to_thread(ping_within, relay.port, 3)
        assert time.monotonic() - start < 3
        for writer in waiting:
            writer.transport.abort()

    asyncio.run(run())


def test_places_that_nobody_uses_are_given_to_others(relay: HostProcess) -> None:
    honest = call(relay.port, "relay.register", {})
    call(relay.port, "relay.fetch", {"host_id": honest["host_id"]})
    taken = 0
    for _ in range(60):
        try:
            call(relay.port, "relay.register", {})
            taken += 1
        except Exception as error:
            assert "half of max_sats" in str(error)
    assert taken <= 20
    start = time.monotonic()
    while True:  # nobody fetches over them: within seconds one of them is free
        call(relay.port, "relay.fetch", {"host_id": honest["host_id"]})
        try:
            newcomer = call(relay.port, "relay.register", {})
            break
        except Exception as error:
            assert "half of max_sats" in str(error)
        assert time.monotonic() - start < 20
        time.sleep(0.2)
    assert call(relay.port, "relay.fetch", {"host_id": newcomer["host_id"]})["messages"] == []
    assert call(relay.port, "relay.fetch", {"host_id": honest["host_id"]})["messages"] == []


class Takers:
    """Members without a link that take each place that they can get, and use it, so that none gives way."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._members: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.refused = 0

    def __enter__(self) -> "Takers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._members.append(call(self._port, "relay.register", {})["host_id"])
            except RemoteFault as fault:
                assert "half of max_sats" in str(fault)
                self.refused += 1
            for member in self._members:
                with contextlib.suppress(RemoteFault):  # another one has its place: an older test's, or ours
                    call(self._port, "relay.fetch", {"host_id": member, "wait": 0})


def test_a_satellite_comes_in_while_others_have_all_places_that_they_can_get(
    relay: HostProcess, tmp_path: Path
) -> None:
    with Takers(relay.port) as takers:
        wait_for(lambda: takers.refused, "all places are taken")
        with running(tmp_path, "satellite", "--relay", relay.url) as satellite:
            wait_for(lambda: "linked to" in satellite.stderr, "the newcomer is linked", 5)
            refused = takers.refused
            wait_for(lambda: takers.refused > refused, "the places are still taken")


ROOT = Path(__file__).parents[2]


def in_own_network(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with a network that only it sees."""
    whole = ("unshare", "-rn", *command)
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)


def need_own_network() -> None:
    """Skip the test where no process may have a network that only it sees; in CI fail."""
    if shutil.which("unshare") is None:
        skip_or_fail("no unshare here (util-linux)")
    tried = in_own_network("true")
    if tried.returncode:  # a container forbids it
        skip_or_fail(f"no network of one's own for a process here ({tried.stderr.strip()})", strict=IN_CI)


def test_who_comes_from_one_address_leaves_room_for_others(tmp_path: Path) -> None:
    need_own_network()
    ended = in_own_network(sys.executable, "-m", "tests.attacks.from_many", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    assert seen["registered"] == MAX_FOREIGN_OF_ADDRESS
    assert len(seen["refused"]) == 1
    assert f"{MAX_FOREIGN_OF_ADDRESS} members without a link from your address" in seen["refused"][0]
    assert seen["others refused"] == [""] * 20
    # Of its connections those that are idle for longest went, and none of anybody else.
    most = FILES // 2
    assert seen["answered"] == 130
    assert seen["one address"] == {ADDRESSES[1]: 5, "127.0.0.1": 5, ADDRESSES[0]: most // 4}
    # All of them together leave an eighth for the one who sits at the machine.
    assert seen["full"] == most - most // 8
    assert seen["owner answered"] == most // 8
    assert seen["owner"] == seen["wanted"]
    # Who has taken all places with links has room for others: the last of its links went, and was told why.
    assert seen["links"] == PLACES
    assert seen["others linked"] == [True] * 3
    assert seen["without a link"] == ""
    gone = 5
    assert seen["satellites"] == {ADDRESSES[0]: PLACES - gone, ADDRESSES[1]: 3, ADDRESSES[2]: 1, "127.0.0.1": 1}
    assert seen["gave way"] == len(seen["told"]) == gone
    assert all(
        f"{ADDRESSES[0]} has the most satellites" in text and "Raise max_sats" in text for text in seen["told"]
    )
