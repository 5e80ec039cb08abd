"""Requests of a package's plugins to the network: calls of methods, and lists of hosts."""

import math
import threading
from collections.abc import Callable

from co2.errors import (
    Ambiguous,
    BadParams,
    CallRefused,
    CallTimeout,
    Denied,
    NoSuchMethod,
    NotCallable,
    NotRunning,
    PeerError,
    PluginFailed,
    RemoteFault,
    UnknownHost,
    Unreachable,
)
from co2.protocol.wire.plugin_frames.frames import Answered, Ask, AskHosts, Host, Hosts

__all__ = [
    "MAX_ASKS",
    "MAX_ASK_BYTES",
    "MAX_TIMEOUT",
    "OutgoingCalls",
    "PendingAnswer",
    "checked_timeout",
    "result_of",
]

MAX_ASKS = 256
MAX_ASK_BYTES = 8 * 1024 * 1024
"""Pending calls of a package's plugins, and the bytes of their arguments."""

MAX_TIMEOUT = 86_400.0
"""Seconds of the longest timeout of a call or a flush; a longer one is shortened to it."""

_PLAIN: tuple[type[PeerError], ...] = (
    Ambiguous,
    BadParams,
    Denied,
    NotCallable,
    PluginFailed,
    UnknownHost,
    Unreachable,
)
_BY_CODE = {kind.code: kind for kind in _PLAIN}


class PendingAnswer:
    """A pending request.

    Args:
        call_id: its number.
        size: bytes of its argument.
        wake: called once, from another thread, when the request is complete or no answer can come any more.

    Attributes:
        answer: the received answer; None for none.
        hosts: the received satellites.
        finished: whether the answer is complete.
        gone: whether no answer can come any more.
    """

    def __init__(self, call_id: int, size: int, wake: Callable[[], None]) -> None:
        self.call_id = call_id
        self.size = size
        self.wake = wake
        self.answer: Answered | None = None
        self.hosts: list[Host] = []
        self.finished = False
        self.gone = False


class OutgoingCalls:
    """The requests of one package; from any thread. Numbers are never reused: a late answer does no harm.

    Args:
        send: sends frames to the satellite.
    """

    def __init__(self, send: Callable[[Ask | AskHosts], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._number = 0
        self._bytes = 0
        self._pending: dict[int, PendingAnswer] = {}
        self._closed = False

    def call(self, method: str, host_id: str, packed: bytes, timeout: float) -> bytes:
        """Call a method and wait for its result, encoded.

        Raises:
            CallRefused: too many calls are pending.
            NotRunning: no answer can come any more.
            PeerError: the call failed.
        """
        came = threading.Event()
        pending = self.begin(method, host_id, packed, timeout, came.set)
        try:
            came.wait(timeout)
            return result_of(pending, method, timeout)
        finally:
            self.forget(pending)

    def begin(
        self, method: str, host_id: str, packed: bytes, timeout: float, wake: Callable[[], None]
    ) -> PendingAnswer:
        """Send a call; ``wake`` is called when :func:`result_of` has a result.

        Raises:
            CallRefused: too many calls are pending.
            NotRunning: no answer can come any more.
        """
        pending = self._new(len(packed), wake)
        self._send(Ask(pending.call_id, method, host_id, packed, timeout))
        return pending

    def hosts(self, timeout: float) -> list[Host]:
        """Return the satellites of the network.

        Raises:
            CallTimeout: the satellite did not answer in time.
            CallRefused, NotRunning: as for :meth:`call`.
        """
        came = threading.Event()
        pending = self._new(0, came.set)
        try:
            self._send(AskHosts(pending.call_id))
            came.wait(timeout)
            if not pending.finished:
                raise _silence(pending, "hosts()", timeout)
            return pending.hosts
        finally:
            self.forget(pending)

    def forget(self, pending: PendingAnswer) -> None:
        """Forget a request that nobody waits for."""
        with self._lock:
            if self._pending.pop(pending.call_id, None) is not None:
                self._bytes -= pending.size

    def take(self, frame: Answered | Hosts) -> None:
        """Process an answer, or a part of one."""
        pending = self._pending.get(frame.call_id)
        if pending is None:
            return
        if isinstance(frame, Answered):
            pending.answer = frame
        else:
            pending.hosts += frame.hosts
            if frame.more:
                return
        pending.finished = True
        pending.wake()

    def close(self) -> None:
        """Wake all requests: no answer will come any more."""
        with self._lock:
            self._closed = True
            waiting = list(self._pending.values())
        for pending in waiting:
            pending.gone = True
            pending.wake()

    def _new(self, size: int, wake: Callable[[], None]) -> PendingAnswer:
        with self._lock:
            if self._closed:
                raise NotRunning("the satellite has ended, so nothing can be called")
            if len(self._pending) >= MAX_ASKS or self._bytes + size > MAX_ASK_BYTES:
                raise CallRefused(
                    f"{len(self._pending)} calls of this package are already in progress; try again later"
                )
            self._number += 1
            self._bytes += size
            pending = self._pending[self._number] = PendingAnswer(self._number, size, wake)
            return pending


def result_of(pending: PendingAnswer, method: str, timeout: float) -> bytes:
    """Return the received result, encoded, or raise the error received in its place."""
    answer = pending.answer
    if answer is None:
        raise _silence(pending, method, timeout)
    if answer.code:
        raise _error(answer, method, timeout)
    return answer.value


def checked_timeout(timeout: float, *, zero: bool = False) -> float:
    """Return a valid number of seconds to wait, at most :data:`MAX_TIMEOUT`.

    Args:
        timeout: as a plugin gave it.
        zero: whether it may be 0.

    Raises:
        ValueError: it is not such a number.
    """
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool) and not math.isnan(timeout)
    if not is_number or timeout < 0 or (timeout == 0 and not zero):
        least = "from 0 up" if zero else "above 0"
        raise ValueError(f"timeout: expected a number of seconds {least}, found {timeout!r:.80}")
    return float(min(timeout, MAX_TIMEOUT))


def _silence(pending: PendingAnswer, what: str, timeout: float) -> Exception:
    if pending.gone:
        return NotRunning(f"{what}: the satellite has ended, so no answer can come")
    return CallTimeout(what, timeout)


def _error(answer: Answered, method: str, timeout: float) -> PeerError:
    """Recreate the error of the other side; one with an unknown code becomes a RemoteFault with code and text."""
    if answer.code == NoSuchMethod.code:
        return NoSuchMethod(method)
    if answer.code == CallTimeout.code:
        return CallTimeout(method, timeout)
    kind = _BY_CODE.get(answer.code)
    return kind(answer.error) if kind is not None else RemoteFault(answer.code, answer.error)
