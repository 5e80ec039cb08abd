"""A plugin that runs without a thread: the network does its work when it settles, one call at a time."""

import copy
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from co2.errors import BadParams, CallTimeout, FlushTimeout, NotRunning, PluginFailed, TooBig, ValueRefused
from co2.plugin.api import Co2Plugin
from co2.plugin.channels import snapshot_patterns
from co2.plugin.child.calls import checked_timeout
from co2.plugin.child.decoding import open_batch, unpack_deep
from co2.plugin.child.instantiate import make_plugin
from co2.plugin.child.receiver import Receiver
from co2.plugin.child.relay_filter import RelayFilter, why_not
from co2.plugin.child.send_queue import QueuedEntry, SendQueue, make_send
from co2.plugin.child.services import PluginServices, SharedServices
from co2.plugin.packages.loader import FoundPlugin
from co2.plugin.packages.signatures import takes
from co2.plugin.packages.tracebacks import error_line
from co2.plugin.packages.typed_parameters import ArgumentRefused
from co2.plugin.relay_plugin import Co2RelayPlugin
from co2.protocol.wire.plugin_frames.frames import Deliver, Gap, Host, Progress, Publish
from co2.protocol.wire.plugin_frames.transit import Transit, Transited
from co2.values import Message, pack_value

if TYPE_CHECKING:
    from co2.plugin.child.event_loop import EventLoopThread

__all__ = ["Carried", "CarryingHost", "Failure"]

_WORDS = 16


@dataclass(frozen=True)
class Failure:
    """A call of a plugin that raised.

    Attributes:
        plugin: its name.
        what: the call: ``receive``, ``gap``, ``relay``, ``register``, ``__exit__``, a timer, ``joined`` or
            ``left``.
        error: the exception raised.
        message: that ``receive`` did not accept: on a real satellite it becomes a dead letter. Or that ``relay``
            did not accept: it passed unchanged.
    """

    plugin: str
    what: str
    error: BaseException
    message: Message | None = None

    def __str__(self) -> str:
        with_message = f" with {self.message!r:.300}" if self.message is not None else ""
        return f"{self.plugin}: {self.what}{with_message}: {error_line(self.error)}"


class CarryingHost(Protocol):
    """The interface of the satellite or relay that carries a plugin."""

    def flushed(self) -> bool:
        """Send all that waits; return whether the relay has it."""

    def transited(self, frame: Transited) -> None:
        """Pass on the result of a relay plugin."""

    def work(self) -> None:
        """Deliver messages that were just sent."""

    def failed(self, failure: Failure) -> None:
        """Note that a call of a plugin has raised."""


class _Recorded(Co2Plugin):
    """Stands between the receiver and the plugin, and records what is received."""

    def __init__(self, carried: "Carried") -> None:
        self._carried_by = carried

    def receive(self, data_dict: Message) -> Any:
        self._carried_by.received.append(copy.deepcopy(data_dict))
        return self._carried_by.plugin.receive(data_dict)

    def gap(self, gap: Message) -> Any:
        self._carried_by.gaps.append(dict(gap))
        return self._carried_by.plugin.gap(gap)


class _RecordedRelay(Co2RelayPlugin):
    """The same between the filter and a relay plugin."""

    def __init__(self, carried: "Carried") -> None:
        self._carried_by = carried

    def relay(self, data_dict: Message) -> Any:
        self._carried_by.received.append(copy.deepcopy(data_dict))
        return self._carried_by.plugin.relay(data_dict)


class Carried:
    """One plugin of a satellite or relay in memory, and a record of its messages.

    Args:
        found: its class and methods.
        shared: the services of its package.
        host: that carries it.

    Attributes:
        name: ``<package>.<module>.<class>``.
        plugin: the instance.
        sent: messages that it has sent, as they arrive elsewhere, oldest first.
        received: messages that its ``receive``, or its ``relay``, was given.
        gaps: gaps that its ``gap`` was given.
        logged: lines that it has logged, debug lines too.
        channels: patterns of the channels that it receives.
        snapshot: patterns of the channels whose last values it gets first.
    """

    def __init__(self, found: FoundPlugin, shared: SharedServices, host: CarryingHost) -> None:
        self.name = found.name
        self.found = found
        self.initialised = False
        self.plugin: Any = None
        self.sent: list[Message] = []
        self.received: list[Message] = []
        self.gaps: list[Message] = []
        self.logged: list[str] = []
        self.channels: list[str] = []
        self.snapshot: list[str] = []
        self.jobs: deque[Callable[[], None]] = deque()
        self.mail: deque[Deliver | Gap | Transit] = deque()
        self.asleep = True
        self.busy = False
        self.services = PluginServices(shared, self, found.methods.keys())
        self._host = host
        self._worker = 0
        self._loop: EventLoopThread | None = None
        self._failing: Message | None = None
        self._queue = SendQueue(self.name, tuple(found.kind.live))
        self.send = make_send(self._queue, self, 0.0)
        self._receiver: Receiver
        self._recorded = _Recorded(self)
        self._relayer: RelayFilter | None = None
        self._recorded_relay = _RecordedRelay(self)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def make(self, config: Any, var_dict: Message) -> None:
        """Make the plugin; an exception of its ``__init__`` is raised here.

        Raises:
            TypeError: it does not call that of its superclass.
            LoadFailure: it wants channels that are none.
        """
        self.channels = self.found.channels(config)
        words = memoryview(bytearray(_WORDS)).cast("Q")
        kind = self.found.kind
        self.snapshot = snapshot_patterns(kind.snapshot, self.channels)
        self._receiver = Receiver(self, self.channels, words, 0, times=kind.times, snapshot=self.snapshot)
        self._receiver.start(Progress(0, 0))
        if issubclass(self.found.kind, Co2RelayPlugin):
            self._relayer = RelayFilter(self, self.channels, words, 1)
        self.plugin = self._work(lambda: make_plugin(self.found.kind, self, config, var_dict))
        if not self.initialised:
            raise TypeError(f"{self.found.kind.__name__}.__init__ does not call super().__init__(var_dict)")

    # binding: calls of the plugin, from any thread

    def flush(self, timeout: float) -> None:
        """Wait until all that was sent is acknowledged: at once, or never."""
        timeout = checked_timeout(timeout, zero=True)
        if not self._queue.limit:
            raise NotRunning(f"{self.name} has stopped, so there is nothing to flush")
        if not self._host.flushed():
            raise FlushTimeout(timeout)

    def record(self, level: int, text: str) -> None:
        """Write a line to the log."""
        self.logged.append(text)
        logging.getLogger(f"co2.plugins.{self.name}").log(level, "%s", text)

    # writer: used by its queue

    def attend(self) -> None:
        """Deliver messages that were just sent."""
        self._host.work()

    def add(self, queue: SendQueue, entry: QueuedEntry, timeout: float) -> None:
        """Queue a message that the quick path does not accept."""
        if not queue.limit:
            raise NotRunning(f"{self.name} has stopped, so it cannot send")
        queue.entries.append(entry)
        self.attend()

    @property
    def has_sent(self) -> bool:
        """Whether sent messages wait."""
        return bool(self._queue.entries)

    def cut(self) -> Publish:
        """Return the next frame of sent messages."""
        frame, _ = self._queue.cut()
        assert isinstance(frame, Publish)  # flushes do not come this way
        self.sent += open_batch(frame.batch)
        return frame

    # carrier: used by its services

    @property
    def in_own_thread(self) -> bool:
        """Whether the caller is the plugin itself, in one of its calls."""
        return self.busy and self._worker == threading.get_ident()

    def callback(self, what: str, function: Callable[[], Any], done: Callable[[], None]) -> None:
        """Queue a function of the plugin for when the network settles, and then ``done``."""

        def job() -> None:
            try:
                self.finished(function())
            except BaseException as error:
                self.complain(f"{what} failed", error)
            done()

        self.jobs.append(job)

    # work

    def step(self) -> bool:
        """Do one waiting job; return whether there was one."""
        if self.busy:
            return False
        if self.jobs:
            self._work(self.jobs.popleft())
        elif self.mail:
            frame = self.mail.popleft()
            if isinstance(frame, Transit):
                self._let_pass(frame)
            else:
                self._work(lambda: self._receiver.take(self._recorded, frame))
        else:
            return False
        return True

    def _let_pass(self, frame: Transit) -> None:
        relayer = self._relayer
        assert relayer is not None
        answer = self._work(lambda: relayer.take(self._recorded_relay, frame))
        self._host.transited(answer)

    def call(self, method: str, packed: bytes, timeout: float) -> bytes:
        """Call an ``x_`` method; arguments and result are encoded, as on a network.

        Raises:
            BadParams: it does not take this argument.
            PluginFailed: it raised, or its result cannot be sent.
            CallTimeout: the plugin is in the middle of a call that waits for this one.
        """
        if self.busy:
            raise CallTimeout(method, timeout)
        function = self.found.function(self.plugin, self.found.methods[method])
        try:
            return pack_value(self._work(lambda: self.finished(function(unpack_deep(packed)))))
        except ArgumentRefused as error:
            raise BadParams(f"{method}: {error}") from None
        except (ValueRefused, TooBig) as error:
            raise PluginFailed(f"{method}: bad result: {error}") from error
        except Exception as error:
            self.record(logging.ERROR, f"{method} failed: {error_line(error)}")
            raise PluginFailed(f"{method}: {error_line(error)}") from error

    def admit(self, host: Host, done: Callable[[str], None]) -> None:
        """Ask the plugin whether a satellite may join; ``done`` gets the reason of a refusal, or ''."""

        def job() -> None:
            try:
                why = why_not(self.finished(self.plugin.register(host)))
            except BaseException as error:
                self.complain("register failed", error)
                why = ""
            done(why)

        self.jobs.append(job)

    def exit(self) -> None:
        """Drop waiting work, and call ``__exit__`` if the plugin was made at all."""
        self.mail.clear()
        self.jobs.clear()
        if self.plugin is None:
            return
        function = self.plugin.__exit__
        try:
            self._work(lambda: self.finished(function(None, None, None) if takes(function, 3) else function()))
        except BaseException as error:
            self.complain("__exit__ failed", error)

    def end(self) -> None:
        """Close the queue and the event loop of the plugin."""
        self._queue.close()
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def turn(self) -> None:
        """Run the tasks that the plugin has started for a moment."""
        if self._loop is not None and not self.busy:
            from asyncio import sleep

            self._loop.run(sleep(0))

    def _work(self, work: Callable[[], Any]) -> Any:
        self.busy, self._worker = True, threading.get_ident()
        try:
            return work()
        finally:
            self.busy = False

    # ground: used by the receiver

    def run_jobs(self) -> bool:
        """Do the jobs that came meanwhile."""
        while self.jobs:
            self.jobs.popleft()()
        return True

    def report(self) -> None:
        """Do nothing: nobody asks for its position."""

    def finished(self, result: Any) -> Any:
        """Await the result of an ``async def``; return any other result unchanged."""
        if not hasattr(result, "__await__"):
            return result
        if self._loop is None:
            from co2.plugin.child.event_loop import EventLoopThread

            self._loop = EventLoopThread()
        return self._loop.run(result)

    def give_up(self, frame: Deliver, message: bytes, error: BaseException) -> None:
        """Keep a message that ``receive`` did not accept until its error is reported."""
        self._failing = {**unpack_deep(message), "host_id": frame.host_id, "client_address": frame.client_address}

    def complain(self, what: str, error: BaseException) -> None:
        """Record an error; a KeyboardInterrupt is for the test, and raised."""
        if isinstance(error, KeyboardInterrupt):
            raise error
        message, self._failing = self._failing, None
        what = what.partition(" failed")[0]
        if what == "relay":
            message = self.received[-1]
        self.record(logging.ERROR, f"{what} failed: {error_line(error)}")
        self._host.failed(Failure(self.name, what, error, message))

    def stumble(self, error: BaseException) -> None:
        """Raise the error: there is no trial here."""
        raise error
