"""Who takes all that there is of something keeps nobody else out: connections, and places of members."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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
