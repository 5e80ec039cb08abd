"""When the other side of a link has been silent for how long, with a clock of the test."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from co2.protocol.wire.websocket import PING, control_frame
from co2.server.link.websocket_transport import PING_INTERVAL, WebSocketTransport

MESSAGE = b"\x82\x83\x00\x00\x00\x00ham"
STEP = PING_INTERVAL / 2


class Loop:
    """A clock that goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self._later: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> Any:
        self._later.append((self.now + delay, call))
        return asyncio.TimerHandle(0, lambda: None, (), cast(Any, self))

    def go_on(self, seconds: float) -> None:
        end = self.now + seconds
        while self._later and min(self._later, key=lambda one: one[0])[0] <= end:
            due = min(self._later, key=lambda one: one[0])
            self._later.remove(due)
            self.now = due[0]
            due[1]()
        self.now = end

    def get_debug(self) -> bool:
        return False


class Transport:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def __getattr__(self, _name: str) -> Callable[..., Any]:
        return lambda *_args, **_more: 0


class Owner:
    """Keeps what came."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def received(self, frames: list[bytes | memoryview], more: bool = False) -> None:
        self.frames += map(bytes, frames)

    def filled(self) -> None: ...

    def drained(self) -> None: ...

    def ended(self, why: str) -> None: ...


def test_silence_is_counted_in_half_intervals_and_pings_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, transport, owner = Loop(), Transport(), Owner()
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "get_running_loop", lambda: loop)
        wire = WebSocketTransport(cast(asyncio.Transport, transport), is_client=False, max_frame=1000)
    ping = control_frame(PING, b"", False)
    wire.carry(owner)
    assert wire.address == ("0.0.0.0", 0), "gone already"
    told = []
    for step in range(4):
        told.append((wire.silence, wire.unanswered, transport.sent.count(ping)))
        loop.go_on(STEP if step < 2 else STEP - 1)
    assert told[:3] == [(0, 0, 0), (0, 0, 0), (STEP, 0, 1)]
    assert told[3] == (STEP, STEP - 1, 1)
    wire.is_held = True
    assert wire.unanswered == 0
    wire.is_held = False
    wire.get_buffer(0)[: len(MESSAGE)] = MESSAGE
    wire.buffer_updated(len(MESSAGE))
    assert owner.frames == [b"ham"]
    assert (wire.silence, wire.unanswered) == (0, 0)
