"""Calls into the plugins of one package: they outlive a change of its child, but not its death."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from co2.errors import BadParams, CallTimeout, PluginFailed, TooBig, ValueRefused
from co2.pending_replies import PendingReplies
from co2.protocol.wire.plugin_frames.frames import (
    Admit,
    Call,
    DeadLetter,
    Describe,
    Host,
    HostFrame,
    Repeat,
    Withdraw,
)
from co2.values import pack_value, unpack_value

__all__ = ["MAX_CALLS", "MAX_CALL_BYTES", "CallsIn", "Question"]

MAX_CALLS = 256
MAX_CALL_BYTES = 8 * 1024 * 1024
"""Calls of one package that may wait, and the bytes of their arguments."""

Send = Callable[[HostFrame], None]
Question = Call | Repeat | Admit | Describe


class CallsIn:
    """The calls of ``x_`` methods, and the repeats of dead letters.

    Args:
        package: its name, for error messages.
        can_take: returns whether the current plugin host has the target of a frame.
    """

    def __init__(self, package: str, can_take: Callable[[Question], bool]) -> None:
        self._package = package
        self._can_take = can_take
        self._calls: PendingReplies[bytes] = PendingReplies(MAX_CALLS, MAX_CALL_BYTES)
        self._send: Send | None = None
        self._held: dict[int, Question] | None = None
        self._why = "starting"

    async def call(self, method: str, argument: Mapping[str, Any], timeout: float) -> Any:
        """Call an ``x_`` method.

        Raises:
            BadParams: the argument cannot be packed, or the method does not accept it.
            PluginFailed: it raised, died, is not running, or too many calls wait.
            CallTimeout: no answer within ``timeout`` seconds.
        """
        try:
            packed = pack_value(argument)
        except (ValueRefused, TooBig) as error:
            raise BadParams(str(error)) from None
        return await self._call(method, len(packed), timeout, lambda call_id: Call(call_id, method, packed))

    async def repeat(self, letter: DeadLetter, timeout: float) -> None:
        """Pass a dead letter to its plugin again; return when the plugin has taken it.

        Raises:
            PluginFailed: it raised again, died, is not there, or too many calls wait.
            CallTimeout: it is not done within ``timeout`` seconds.
        """
        what = f"{letter.plugin}.receive"
        rest = letter.plugin, letter.host_id, letter.client_address, letter.message
        await self._call(what, len(letter.message), timeout, lambda call_id: Repeat(call_id, *rest))

    async def admit(self, plugin: str, host: Host, timeout: float) -> str:
        """Ask a plugin whether a host may join; return the reason why not, '' if it may.

        Raises:
            PluginFailed: it raised, died, is not running, or too many calls wait.
            CallTimeout: no answer within ``timeout`` seconds.
        """
        rest = plugin, host.host_id, host.methods, host.plugins
        answer = await self._call(f"{plugin}.register", 0, timeout, lambda call_id: Admit(call_id, *rest))
        return answer if isinstance(answer, str) else ""

    async def describe(self, what: str, method: str, timeout: float) -> Any:
        """Return a schema, see :class:`~co2.protocol.wire.plugin_frames.frames.Describe`.

        Raises:
            PluginFailed: it cannot be made, the plugin host died or is not running, or too many calls wait.
            CallTimeout: no answer within ``timeout`` seconds.
        """
        name = method or f"{what} of {self._package}"
        return await self._call(name, 0, timeout, lambda call_id: Describe(call_id, what, method))

    def answer(self, call_id: int, value: bytes, error: str, *, refused: bool) -> None:
        """Complete a call with its result; ``refused`` means that the argument was wrong."""
        if error:
            self._calls.fail(call_id, BadParams(error) if refused else PluginFailed(error))
        else:
            self._calls.answer(call_id, value)

    def method(self, call_id: int) -> str:
        """Return the name of the called method, '' when its caller has stopped waiting."""
        return self._calls.method(call_id)

    # the current child

    def begin(self, send: Send) -> None:
        """Send calls to this child, held ones first; calls to the previous child fail."""
        self._fail(f"the code of {self._package} has changed")
        self.resume(send)

    def resume(self, send: Send) -> None:
        """Send calls to the same child again; it still has all its calls."""
        held, self._held, self._send = self._held or {}, None, send
        for call_id, frame in held.items():
            if self._can_take(frame):
                send(frame)
            else:
                self._calls.fail(call_id, self._gone(frame))

    def hold(self) -> None:
        """Hold calls until :meth:`begin` or :meth:`resume`."""
        self._held = {} if self._held is None else self._held

    def lose(self, why: str) -> None:
        """Fail the calls of a child that has died; hold new calls until its successor is known."""
        self.hold()
        self._fail(why)

    def end(self, why: str, state: str) -> None:
        """Fail the calls under way; new calls fail with the state of the package."""
        self._send, self._held, self._why = None, None, state
        self._fail(why)

    def _fail(self, why: str) -> None:
        """Fail all calls that a child has; held calls stay."""
        self._calls.fail_all(lambda method: PluginFailed(f"{method}: {why}"), but=self._held or ())

    def _gone(self, frame: Question) -> PluginFailed:
        if isinstance(frame, Repeat):
            what, missing = f"{frame.plugin}.receive", "no such receiver"
        elif isinstance(frame, Admit):
            what, missing = f"{frame.plugin}.register", "no such plugin"
        else:
            what, missing = frame.method or self._package, "no longer such a method"
        return PluginFailed(f"{what}: the plugin package {self._package} has {missing}")

    async def _call(self, what: str, size: int, timeout: float, make: Callable[[int], Question]) -> Any:
        if self._send is None and self._held is None:
            raise PluginFailed(f"{what}: the plugin package {self._package} is {self._why}")
        if not self._calls.has_room(size):
            raise PluginFailed(
                f"{what}: {len(self._calls)} calls of this package are already waiting; try again later"
            )
        call_id = self._calls.begin(what, size)
        frame = make(call_id)
        if self._held is not None:
            self._held[call_id] = frame
        elif not self._can_take(frame):
            self._calls.fail(call_id, self._gone(frame))
        else:
            assert self._send is not None
            self._send(frame)
        try:
            return unpack_value(await self._calls.wait(call_id, timeout))
        except (CallTimeout, asyncio.CancelledError):
            if self._held is not None:
                self._held.pop(call_id, None)
            if self._send is not None:
                self._send(Withdraw(call_id))
            raise
