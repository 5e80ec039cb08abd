"""Small things that each would help somebody: text shown in another order, connections, modes of files."""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.link_frames import Call, Publish, Result, encode_link_frame
from co2.server.http.limits import Limits
from co2.values import pack
from co2.xmlrpc.reader import read_response
from tests.attacks.hosts import running
from tests.attacks.raw import call, call_body, connected, is_closed, read_reply, request, send
from tests.attacks.raw_link import RawLink
from tests.attacks.test_told import ROW
from tests.harness import HostProcess, wait_for

MARKS = [*map(chr, (0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069, 0x061C))]
"""What has a terminal show text in another order than it is in."""

EVIL = "".join(f"a{mark}b" for mark in MARKS)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with running(tmp_path_factory.mktemp("small"), "relay") as host:
        yield host


class Dripping:
    """A connection that says nothing but line ends.

    Args:
        port: of a host.
        first: what it says before.
    """

    def __init__(self, port: int, first: bytes = b"") -> None:
        self.lived = 0.0
        self._port = port
        self._first = first
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def ended(self) -> float:
        """Return after how many seconds the host ended it, at most twice what a head may take."""
        self._thread.join()
        return self.lived

    def _run(self) -> None:
        began = time.monotonic()
        with connected(self._port) as sock:
            send(sock, self._first)
            while time.monotonic() - began < 2 * Limits().head_timeout and not is_closed(sock, 0.5):
                send(sock, b"\r\n")
        self.lived = time.monotonic() - began


@pytest.fixture(scope="module", autouse=True)
def dripping(relay: HostProcess) -> Dripping:
    """One that drips while the other tests run."""
    return Dripping(relay.port)


def co2(*args: str, **env: str) -> "subprocess.Popen[str]":
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CO2_")}
    return subprocess.Popen(
        [sys.executable, "-m", "co2", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        env={**clean, "PYTHONUTF8": "1", **env},
    )


def unharmed(shown: str) -> bool:
    """Tell whether a terminal shows what is there: no mark, and its escape in its place."""
    return not any(mark in shown for mark in MARKS) and f"\\u{ord(MARKS[0]):04x}" in shown


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_watch_shows_no_marks_of_direction(relay: HostProcess, form: tuple[str, ...]) -> None:
    def known() -> int:
        return len(call(relay.port, "relay.get_satellites", {"names": False}))

    before = known()
    watching = co2("watch", "--once", "--timeout", "20", "--relay", relay.url, *form)
    wait_for(lambda: known() > before or watching.poll() is not None, "somebody who watches")

    async def publish() -> None:
        link = await RawLink.joined_as(relay.port, f"evil{len(form)}")
        batch = make_batch([pack({"data": {EVIL: [EVIL]}, "channel": EVIL, EVIL: 1})])
        await link.told(encode_link_frame(Publish(7, 1, EVIL, EVIL, [EVIL], crc32(batch), batch)))
        await asyncio.to_thread(watching.wait, 20)
        link.abort()

    asyncio.run(publish())
    shown, said = watching.communicate()
    assert watching.returncode == 0, said
    assert unharmed(shown), ascii(shown)
    assert not any(mark in said for mark in MARKS)


@pytest.mark.parametrize("args", [("ps",), ("ps", "--plugins"), ("ps", "--json")], ids=" ".join)
def test_ps_shows_no_marks_of_direction(relay: HostProcess, args: tuple[str, ...]) -> None:
    async def show() -> tuple[str, str]:
        link = await RawLink.joined_as(relay.port, "named", plugins=[f"{EVIL}.x.X"], methods=[f"{EVIL}.x.m"])

        row = {**ROW, "name": EVIL, "state": "failed", "last_error": EVIL, "last_error_age": 1.0, "code": EVIL}

        async def answer() -> None:
            while True:
                asked = await link.next(Call)
                link.say(encode_link_frame(Result(asked.call_id, msgspec.msgpack.encode({"plugins": [row]}))))

        answering = asyncio.ensure_future(answer())
        try:
            return await asyncio.to_thread(co2(*args, "--relay", relay.url).communicate)
        finally:
            answering.cancel()
            link.abort()

    shown, said = asyncio.run(show())
    assert "named" in shown + said
    assert not any(mark in shown + said for mark in MARKS)
    assert unharmed(shown + said)


def test_who_closes_its_sending_side_behind_a_call_that_waits_gets_the_answer(relay: HostProcess) -> None:
    """As ``nc -N`` does. Else it would send twice."""
    me = call(relay.port, "relay.register", {})
    wish = {"host_id": me["host_id"], "after": me["position"], "max": 1, "wait": 20}
    with connected(relay.port) as sock:
        send(sock, request(call_body("relay.fetch", wish)))
        sock.shutdown(socket.SHUT_WR)
        assert not is_closed(sock, 0.2)
        sender = call(relay.port, "relay.register", {})
        call(relay.port, "relay.relay", {"host_id": sender["host_id"], "data": "here"})
        reply = read_reply(sock)
        assert reply is not None
        messages = read_response(reply.body)["messages"]
        assert is_closed(sock, 10)
    assert [message["data"] for message in messages] == ["here"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics"])
def test_who_closes_its_sending_side_behind_a_request_gets_the_page(relay: HostProcess, path: str) -> None:
    with connected(relay.port) as sock:
        send(sock, request(first=f"GET {path} HTTP/1.1"))
        sock.shutdown(socket.SHUT_WR)
        reply = read_reply(sock)
        assert reply is not None
        assert (reply.status, bool(reply.body)) == (200, True)
        assert is_closed(sock, 10)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("role", ["relay", "satellite"])
def test_a_state_folder_that_others_could_read_is_closed_to_them(tmp_path: Path, role: str) -> None:
    state = tmp_path / "state"
    (state / "logs").mkdir(parents=True)
    for path, before in ((state, 0o755), (state / "logs", 0o755)):
        path.chmod(before)
    for path in (state / "origin", state / "logs" / "co2.log"):
        path.write_text("")
        path.chmod(0o644)
    (state / "origin").write_text("0123456789abcdef")
    args = ("--relay", "http://127.0.0.1:9") if role == "satellite" else ()
    with running(tmp_path, role, *args) as host:
        assert host.host_id.startswith("0123456789abcdef@")
        found = {path: mode(path) for path in (state, *state.rglob("*")) if not path.is_socket()}
        assert {path: bits for path, bits in found.items() if bits & 0o077} == {}


@pytest.mark.parametrize("role", ["relay", "satellite"])
def test_a_state_folder_that_others_may_write_is_refused(tmp_path: Path, role: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o775)
    starting = co2(role, "--port", "0", "--state", str(state))
    try:
        out, said = starting.communicate(timeout=20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            starting.send_signal(signal.SIGKILL)
    assert starting.returncode not in (0, None)
    assert (out, f"chmod 700 {state}" in said) == ("", True), said
    assert list(state.iterdir()) == []


def test_line_ends_give_a_connection_no_more_time(dripping: Dripping) -> None:
    assert dripping.ended() < Limits().head_timeout + 4
