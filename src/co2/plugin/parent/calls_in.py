"""Calls into the plugins of one package: they outlive a change of its child, though not its death."""

import asyncio
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

from co2.errors import BadParams, CallTimeout, PluginFailed, TooBig, ValueRefused
from co2.protocol.wire.plugin_frames.frames import Admit, Call, DeadLetter, Host, HostFrame, Repeat, Withdraw
from co2.values import pack_value, unpack_value

__all__ = ["MAX_CALLS", "MAX_CALL_BYTES", "CallsIn", "PluginCalls", "Question"]

MAX_CALLS = 256
MAX_CALL_BYTES = 8 * 1024 * 1024
"""Calls of one package that may wait, and the bytes of their arguments."""

Send = Callable[[HostFrame], None]
Question = Call | Repeat | Admit


class CallsIn:
    """The calls of ``x_`` methods, and the dead letters that are given once more.

    Args:
        package: its name, for texts.
        can_take: tells whether the plugin host of now has what such a frame needs.
    """

    def __init__(self, package: str, can_take: Callable[[Question], bool]) -> None:
        self._package = package
        self._can_take = can_take
        self._calls = PluginCalls()
        self._send: Send | None = None
        self._held: dict[int, Question] | None = None
        self._why = "starting"

    async def call(self, method: str, argument: Mapping[str, Any], timeout: float) -> Any:
        """Call an ``x_`` method.

        Raises:
            BadParams: the argument cannot travel, or it does not take it.
            PluginFailed: it raised, died, is not running, or too many calls wait.
            CallTimeout: no answer within ``timeout`` seconds.
        """
        try:
            packed = pack_value(argument)
        except (ValueRefused, TooBig) as error:
            raise BadParams(str(error)) from None
        return await self._call(method, len(packed), timeout, lambda call_id: Call(call_id, method, packed))

    async def repeat(self, letter: DeadLetter, timeout: float) -> None:
        """Give a dead letter to its plugin once more; return when it has taken it.

        Raises:
            PluginFailed: it raised again, died, is not there, or too many calls wait.
            CallTimeout: it is not done within ``timeout`` seconds.
        """
        what = f"{letter.plugin}.receive"
        rest = letter.plugin, letter.host_id, letter.client_address, letter.message
        await self._call(what, len(letter.message), timeout, lambda call_id: Repeat(call_id, *rest))

    async def admit(self, plugin: str, host: Host, timeout: float) -> str:
        """Ask a plugin whether a host may join; give why not, '' where it may.

        Raises:
            PluginFailed: it raised, died, is not running, or too many calls wait.
            CallTimeout: no answer within ``timeout`` seconds.
        """
        rest = plugin, host.host_id, host.methods, host.plugins
        answer = await self._call(f"{plugin}.register", 0, timeout, lambda call_id: Admit(call_id, *rest))
        return answer if isinstance(answer, str) else ""

    def answer(self, call_id: int, value: bytes, error: str, *, refused: bool) -> None:
        """Take a result; ``refused`` where the argument was wrong."""
        self._calls.answer(call_id, value, error, refused=refused)

    def method(self, call_id: int) -> str:
        """Give the name of the method called, '' when nobody waits for it any more."""
        return self._calls.method(call_id)

    # the child of now

    def begin(self, send: Send) -> None:
        """Calls go to this child from now on: first those that were held. The one before answers no more."""
        self._calls.fail(f"the code of {self._package} was changed", but=self._held or ())
        self.resume(send)

    def resume(self, send: Send) -> None:
        """Go on with a child that still has all the calls it was given."""
        held, self._held, self._send = self._held or {}, None, send
        for call_id, frame in held.items():
            if self._can_take(frame):
                send(frame)
            else:
                self._calls.answer(call_id, b"", self._gone(frame))

    def hold(self) -> None:
        """Calls wait until :meth:`begin` or :meth:`resume`."""
        self._held = {} if self._held is None else self._held

    def lose(self, why: str) -> None:
        """The child of now has died: it answers no more. What comes waits, until it is known what follows."""
        self.hold()
        self._calls.fail(why, but=self._held or ())

    def end(self, why: str, state: str) -> None:
        """No result will come from the child of now; whoever calls is told the state from now on."""
        self._send, self._held, self._why = None, None, state
        self._calls.fail(why)

    def _gone(self, frame: Question) -> str:
        if isinstance(frame, Repeat):
            return f"{frame.plugin}.receive: the plugin package {self._package} has no such receiver"
        if isinstance(frame, Admit):
            return f"{frame.plugin}.register: the plugin package {self._package} has no such plugin"
        return f"{frame.method}: the plugin package {self._package} has no such method any more"

    async def _call(self, what: str, size: int, timeout: float, make: Callable[[int], Question]) -> Any:
        if self._send is None and self._held is None:
            raise PluginFailed(f"{what}: the plugin package {self._package} is {self._why}")
        call_id, answer = self._calls.new(what, size)
        frame = make(call_id)
        if self._held is not None:
            self._held[call_id] = frame
        elif not self._can_take(frame):
            self._calls.answer(call_id, b"", self._gone(frame))
        else:
            assert self._send is not None
            self._send(frame)
        try:
            return unpack_value(await self._calls.wait(call_id, answer, timeout))
        except (CallTimeout, asyncio.CancelledError):
            if self._held is not None:
                self._held.pop(call_id, None)
            if self._send is not None:
                self._send(Withdraw(call_id))
            raise


@dataclass(slots=True)
class _PluginCall:
    method: str
    size: int
    answer: asyncio.Future[bytes]


class PluginCalls:
    """The calls of one package. Numbers are never used twice, so a late result harms nobody."""

    def __init__(self) -> None:
        self._number = 0
        self._bytes = 0
        self._pending: dict[int, _PluginCall] = {}

    def new(self, method: str, size: int) -> tuple[int, asyncio.Future[bytes]]:
        """Number a call whose argument has ``size`` bytes.

        Raises:
            PluginFailed: too many wait already.
        """
        if len(self._pending) >= MAX_CALLS or self._bytes + size > MAX_CALL_BYTES:
            raise PluginFailed(f"{method}: {len(self._pending)} calls of this package wait already; try later")
        self._number += 1
        self._bytes += size
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[self._number] = _PluginCall(method, size, answer)
        return self._number, answer

    async def wait(self, call_id: int, answer: asyncio.Future[bytes], timeout: float) -> bytes:
        """Wait for the result, encoded.

        Raises:
            CallTimeout: it did not come within ``timeout`` seconds.
            PluginFailed: the method raised, or its plugin host died.
            BadParams: it does not take this argument.
        """
        pending = self._pending[call_id]
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise CallTimeout(pending.method, timeout) from None
        finally:
            if self._pending.pop(call_id, None) is not None:
                self._bytes -= pending.size

    def answer(self, call_id: int, value: bytes, error: str, *, refused: bool = False) -> None:
        """Take a result; ``refused`` where the argument was wrong."""
        pending = self._pending.get(call_id)
        if pending is None or pending.answer.done():
            return
        if error:
            pending.answer.set_exception(BadParams(error) if refused else PluginFailed(error))
        else:
            pending.answer.set_result(value)

    def method(self, call_id: int) -> str:
        """Give the name of the method called, '' when nobody waits for it any more."""
        pending = self._pending.get(call_id)
        return pending.method if pending is not None else ""

    def fail(self, why: str, but: Container[int] = ()) -> None:
        """No result will come any more, for any call but these."""
        for call_id, pending in self._pending.items():
            if call_id not in but and not pending.answer.done():
                pending.answer.set_exception(PluginFailed(f"{pending.method}: {why}"))
