"""A message that comes alone is never held back for an acknowledgement: not by either end of any connection.

Round trips are what shows it: one way, Nagle's algorithm is hardly seen.
"""

import ctypes
import os
import socket
import statistics
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xmlrpc.server import SimpleXMLRPCServer

import psutil
import pytest

from co2.xmlrpc.simple_client import SimpleClient
from tests.harness import HostProcess, running, wait_for, write_plugin

TRIPS = 30

NAGLE = 0.040
"""Seconds that Linux acknowledges late; what waits for it waits as long."""

_PIDFD_GETFD = 438
"""Number of the system call, on every processor that Linux runs on."""

BALL = """
import time

from co2 import plugin


class X_{name}(plugin.Co2Plugin):
    channels = ("{hears}",)

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.trips = []

    def receive(self, data_dict):
        {receive}

    def x_serve(self, data_dict):
        self.send({{"channel": "ping", "data": time.monotonic()}})
        return len(self.trips)

    def x_trips(self, data_dict):
        return self.trips
"""

SERVE = BALL.format(
    name="Serve",
    hears="pong",
    receive=f"""\
self.trips.append(time.monotonic() - data_dict["data"])
        if len(self.trips) < {TRIPS}:
            self.x_serve(data_dict)""",
)
RETURN = BALL.format(
    name="Return", hears="ping", receive='self.send({"channel": "pong", "data": data_dict["data"]})'
)


@contextmanager
def borrowed(pid: int, descriptor: int) -> Iterator[socket.socket]:
    """Open the very socket of another process, by pidfd_getfd(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        fd = libc.syscall(_PIDFD_GETFD, pidfd, descriptor, 0)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        with socket.socket(fileno=fd) as sock:
            yield sock
    finally:
        os.close(pidfd)


def options(host: HostProcess, *, at_port: int) -> dict[str, bool]:
    """Return whether TCP_NODELAY is on, for each connection of a process with this port at one end."""
    found = {}
    for one in psutil.Process(host.pid).net_connections("tcp"):
        if one.status == psutil.CONN_ESTABLISHED and at_port in (one.laddr.port, one.raddr.port):
            with borrowed(host.pid, one.fd) as sock:
                found[f"{one.laddr} {one.raddr}"] = bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    return found


def config(folder: Path, text: str) -> tuple[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "co2.toml"
    file.write_text(text)
    file.chmod(0o600)
    return "--config", str(file)


@pytest.mark.parametrize("express", ["true", "false"])
def test_no_connection_waits_for_acknowledgements(tmp_path: Path, express: str) -> None:
    """Both ends of the link, and an HTTP connection at both roles, with an express and with uvloop."""
    write_plugin(tmp_path / "a", "tennis", serve=SERVE)
    write_plugin(tmp_path / "b", "tennis", back=RETURN)
    settings = [config(tmp_path / name, f"[{role}]\nexpress = {express}\n") for name, role in
                (("relay", "relay"), ("a", "satellite"), ("b", "satellite"))]  # fmt: skip
    with (
        running(tmp_path / "relay", "relay", *settings[0]) as relay,
        running(tmp_path / "a", "satellite", *settings[1], "--relay", relay.url) as first,
        running(tmp_path / "b", "satellite", *settings[2], "--relay", relay.url) as second,
    ):
        wait_for(lambda: len(relay.call("relay.get_satellites")) == 2, "both links")

        first.call("tennis.serve.serve", 0)
        trips = wait_for(lambda: len(got := first.call("tennis.serve.trips")) == TRIPS and got, "all round trips")

        if sys.platform == "linux":
            with urllib.request.urlopen(f"{relay.url}/healthz") as answer, relay.proxy() as proxy:
                assert answer.status == 200
                assert proxy.ping()
                at_relay = options(relay, at_port=relay.port)
                assert len(at_relay) >= 3, "two links, and what has just called"
                assert all(at_relay.values())
            for satellite in (first, second):
                assert len(dialled := options(satellite, at_port=relay.port)) == 1
                assert all(dialled.values())
                with urllib.request.urlopen(f"{satellite.url}/healthz") as answer, satellite.proxy() as proxy:
                    assert answer.status == 200
                    assert proxy.ping()
                    served = options(satellite, at_port=satellite.port)
                    assert served
                    assert all(served.values())
        # The first ones warm up. Each of them took 42 to 48 ms where one end of a link waited.
        assert statistics.median(trips[5:]) < NAGLE / 2


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the sockets of another process")
@pytest.mark.parametrize("express", ["true", "false"])
def test_nor_does_what_the_relay_dials(tmp_path: Path, express: str) -> None:
    """The connection over which it calls a member that has a port, for messages and for methods."""
    settings = config(tmp_path / "relay", f"[relay]\nexpress = {express}\n")
    seen: list[dict[str, bool]] = []
    with (
        running(tmp_path / "relay", "relay", *settings) as relay,
        SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False, allow_none=True) as server,
        relay.proxy() as proxy,
    ):
        port = server.server_address[1]

        def look(*_: object) -> bool:
            seen.append(options(relay, at_port=port))  # while it waits for the answer
            return True

        server.register_function(look, "notify")
        server.register_function(look, "look")
        server.register_function(lambda *_: True, "ping")
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            member = proxy.relay.register({"port": port})["host_id"]
            other = proxy.relay.register({})["host_id"]
            proxy.relay.relay({"host_id": other, "data": 1})
            wait_for(lambda: seen, "the message is brought")
            assert proxy.method_call({"method_name": "look", "host_id": member, "data": 1}) is True
            proxy.relay.unregister({"host_id": member})
        finally:
            server.shutdown()
            serving.join(10)
    assert len(seen) >= 2
    assert all(found and all(found.values()) for found in seen), seen


def test_nor_do_the_commands(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay, SimpleClient(relay.url, timeout=20) as command:
        assert command.call("ping") is True
        sock = command._connection.sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
