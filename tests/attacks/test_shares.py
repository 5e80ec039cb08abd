"""Who takes all that there is of something keeps nobody else out: connections, and places of members."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from co2.relay.members import MAX_FOREIGN_OF_ADDRESS
from tests.attacks.from_many import ADDRESSES, FILES
from tests.attacks.hosts import running
from tests.attacks.raw import call, call_body, connected, ping_within, read_reply, request, send
from tests.harness import HostProcess


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


ROOT = Path(__file__).parents[2]

WITH_ADDRESSES = (
    "unshare",
    "-rn",
    "sh",
    "-c",
    'ip link set lo up && for one in $ADDRESSES; do ip addr add $one/32 dev lo || exit 1; done && exec "$@"',
    "sh",
)
"""Runs a program where the loopback interface has further addresses, which are not loopback's."""


def own_addresses() -> bool:
    """Tell whether a process here may have network addresses that only it sees."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return run_with_addresses("true").returncode == 0


def run_with_addresses(*command: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "ADDRESSES": " ".join(ADDRESSES)}
    return subprocess.run(
        [*WITH_ADDRESSES, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_who_comes_from_one_address_leaves_room_for_others(tmp_path: Path) -> None:
    if not own_addresses():
        pytest.skip("no network of its own for a process: this needs Linux with user namespaces")
    ended = run_with_addresses(sys.executable, "-m", "tests.attacks.from_many", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    assert seen["registered"] == MAX_FOREIGN_OF_ADDRESS
    assert len(seen["refused"]) == 1
    assert f"{MAX_FOREIGN_OF_ADDRESS} members without a link at your address" in seen["refused"][0]
    assert seen["others refused"] == [""] * 20
    # Of its connections those that are idle for longest went, and none of anybody else.
    most = FILES // 2
    assert seen["answered"] == 130
    assert seen["one address"] == {ADDRESSES[1]: 5, "127.0.0.1": 5, ADDRESSES[0]: most // 4}
    # All of them together leave an eighth for the one who sits at the machine.
    assert seen["full"] == most - most // 8
    assert seen["owner answered"] == most // 8
    assert seen["owner"] == seen["wanted"]
