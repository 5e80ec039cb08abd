"""One plugin with its thread and its mailbox: all of its functions are called there, one at a time."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from co2.errors import TooBig, ValueRefused
from co2.plugin.api import Co2Plugin
from co2.plugin.channels import snapshot_patterns
from co2.plugin.child.calls import checked_timeout
from co2.plugin.child.decoding import unpack_deep
from co2.plugin.child.flushes import Flushes
from co2.plugin.child.instantiate import make_plugin
from co2.plugin.child.progress import CALLBACKS, EXITING, LETTER_WORDS
from co2.plugin.child.reader import SocketReader
from co2.plugin.child.receiver import Receiver
from co2.plugin.child.relay_filter import RelayFilter, why_not
from co2.plugin.child.send_queue import SendQueue, make_send
from co2.plugin.child.services import PluginServices, SharedServices
from co2.plugin.child.wakeup import Wakeup
from co2.plugin.child.writer import Writer
from co2.plugin.packages.signatures import takes
from co2.plugin.packages.tracebacks import MAX_TRACEBACK, error_line, files_of, place_in, traceback_text
from co2.plugin.packages.typed_parameters import ArgumentRefused
from co2.plugin.relay_plugin import Co2RelayPlugin
from co2.protocol.wire.plugin_frames.frames import (
    Admit,
    Call,
    DeadLetter,
    Deliver,
    Flush,
    Gap,
    HandedOver,
    Host,
    Progress,
    Repeat,
    Result,
    Stumbled,
    TakenOver,
    Transit,
    text_for_frame,
)
from co2.values import Message, pack_value, unpack_value

if TYPE_CHECKING:
    from co2.plugin.child.event_loop import EventLoopThread

__all__ = ["Actor"]

DEBUG, ERROR = 10, 40

_REPORT_EVERY = 0.02
"""Seconds between two reports of a plugin's progress: each wakes threads of two processes."""

_REPORT_MESSAGES = 4096
"""Messages after which a busy plugin reports its progress, so that its window never runs empty."""

_NOTHING = b"\xc0"

_CO2 = Path(__file__).parents[2]
"""co2's own folder: a line in it is never shown as the place of a plugin's error."""


class Actor:
    """Runs one plugin; is its binding.

    Args:
        name: ``<package>.<module>.<class>``.
        kind: its class.
        channels: patterns that it wants, empty for everything.
        writer: to the host.
        flushes: of the package.
        shared: services of the package.
        methods: names under which its ``x_`` methods are called.
        send_timeout: seconds that ``send`` waits for room.
        words: progress words of the package.
        index: of this plugin in them.

    Attributes:
        send: sends the plugin's messages.
        services: further services of the plugin.
        idle: whether its thread waits.
    """

    def __init__(
        self,
        name: str,
        kind: type[Co2Plugin],
        channels: Sequence[str],
        *,
        writer: Writer,
        flushes: Flushes,
        shared: SharedServices,
        methods: Collection[str],
        send_timeout: float,
        words: "memoryview[int]",
        index: int,
    ) -> None:
        self.name = name
        self.initialised = False
        self.plugin: Co2Plugin | None = None
        self._kind = kind
        self._writer = writer
        self._flushes = flushes
        self.services = PluginServices(shared, self, methods)
        self._callbacks = self._callbacks_failed = 0
        self._on_trial = False
        self._proved: set[str] = set()
        self._failing: set[str] = set()
        self._queue = SendQueue(name, tuple(kind.live))
        self.send: Callable[[Mapping[str, Any]], None] = make_send(self._queue, writer, send_timeout)
        self._words = words
        self._activity_word = 2 * index + 1
        self._letter_word = LETTER_WORDS + index
        self._reported = 0
        self._reported_at = 0.0
        self._mail: deque[Deliver | Gap | Transit] = deque()
        self.jobs: deque[Callable[[], None]] = deque()
        self._wakeup = Wakeup()
        self._reader: SocketReader | None = None
        self.idle = False
        self._awaited: set[int] = set()
        self._stopping = self._halted = False
        self._loop: EventLoopThread | None = None
        self._own_files: Path | None = None
        self._receiver = Receiver(
            self, channels, words, 2 * index,
            times=kind.times, snapshot=snapshot_patterns(kind.snapshot, channels), level=self._queue,
        )  # fmt: skip
        self._relay_filter: RelayFilter | None = None
        if issubclass(kind, Co2RelayPlugin):
            self._relay_filter = RelayFilter(self, channels, words, self._activity_word)
        writer.join(self._queue)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._ident = self._thread.ident

    @property
    def failed(self) -> int:
        """Calls of ``receive`` and ``gap``, of timers, ``joined`` and ``left`` that raised."""
        return self._receiver.failed + self._callbacks_failed

    @property
    def in_own_thread(self) -> bool:
        """Whether this is the plugin's thread."""
        return threading.current_thread() is self._thread

    @property
    def is_exiting(self) -> bool:
        """Whether the plugin is in its ``__exit__``."""
        return self._words[self._activity_word] == EXITING

    @property
    def done(self) -> int:
        """Number of the last message that the plugin has finished."""
        return self._receiver.done

    # binding: calls of the plugin, from any thread

    def flush(self, timeout: float) -> None:
        """Wait until all that the plugin has sent is acknowledged."""
        timeout = checked_timeout(timeout, zero=True)
        deadline = time.monotonic() + timeout
        flush_id = self._flushes.new(timeout)
        try:
            self._writer.add(self._queue, Flush(flush_id, timeout), timeout)
            self._flushes.wait(flush_id, max(0.0, deadline - time.monotonic()), timeout)
        finally:
            self._flushes.forget(flush_id)

    def record(self, level: int, text: str) -> None:
        """Write a line to the host's log."""
        self._writer.record(self.name, level, text[:MAX_TRACEBACK])

    # called by the plugin host, from its own threads

    def start(self, progress: Progress | None, *, on_trial: bool = False) -> None:
        """Set the position where the plugin resumes; messages up to there are skipped."""
        self._on_trial = on_trial
        self._proved.clear()
        self._failing.clear()
        self._receiver.start(progress or Progress(0, 0), on_trial=on_trial)
        if self._relay_filter is not None:
            self._relay_filter.start(on_trial=on_trial)

    def read_from(self, reader: SocketReader) -> None:
        """Make the plugin's thread read the socket itself, from now on."""
        self._reader = reader
        reader.set_plugin(self)
        self.wake()

    def deliver(self, frame: Deliver | Gap | Transit) -> None:
        """Put messages, a gap, or messages on their way through a relay into the mailbox."""
        self._mail.append(frame)
        self.wake()

    def do(self, job: Callable[[], None]) -> None:
        """Queue a job for the plugin's thread, before the messages that wait."""
        self.jobs.append(job)
        self.wake()

    def make(self, var_dict: Message, config: Any) -> BaseException | None:
        """Make the plugin, in its thread; return the exception of its ``__init__``, None for none."""
        finished: list[BaseException | None] = []
        made = threading.Event()

        def job() -> None:
            finished.append(self._make(var_dict, config))
            made.set()

        self.do(job)
        made.wait()
        return finished[0]

    def repeat(self, frame: Repeat) -> None:
        """Pass a dead letter to the plugin once more; the result goes to the host."""
        self._awaited.add(frame.call_id)
        self.do(lambda: self._repeat(frame))

    def halt(self, number: int, *, fresh: bool = False) -> None:
        """Stop the plugin between two messages and send its handover to the host, which may ignore it."""
        self.do(lambda: self._hand_over(number, DEBUG if fresh else ERROR))

    def take_over(self, value: bytes) -> None:
        """Pass the predecessor's handover to the plugin."""
        self.do(lambda: self._take_over(value))

    def resume(self) -> None:
        """Resume the plugin where it stopped."""

        def job() -> None:
            self._halted = False

        self.do(job)

    def call(self, frame: Call, function: Callable[[Message], Any]) -> None:
        """Call an ``x_`` method; the result goes to the host."""
        self._awaited.add(frame.call_id)
        self.do(lambda: self._call(frame, function))

    def admit(self, frame: Admit) -> None:
        """Ask the plugin whether a satellite may join; the result goes to the host."""
        self._awaited.add(frame.call_id)
        self.do(lambda: self._admit(frame))

    def withdraw(self, call_id: int) -> None:
        """Drop a call that nobody waits for, if it has not begun."""
        self._awaited.discard(call_id)

    def callback(self, what: str, function: Callable[[], Any], done: Callable[[], None]) -> None:
        """Call a function of the plugin in its thread, and then ``done``."""
        self.do(lambda: self._callback(what, function, done))

    def exit(self, done: threading.Event) -> None:
        """Drop waiting work, call ``__exit__`` and end; then set ``done``."""

        def job() -> None:
            self._stopping = True
            self._mail.clear()
            self.jobs.clear()
            self._exit()
            self._writer.report()
            done.set()

        self.jobs.appendleft(job)
        self.wake()

    def wake(self) -> None:
        """Wake the plugin's thread: there may be work."""
        if threading.get_ident() == self._ident:
            return  # this thread has read the frame itself
        self._wakeup.ring()
        if self._reader is not None and self._reader.polling:
            self._reader.wake()
        if self._loop is not None:
            self._loop.wake()

    # the plugin's thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._step()
            except BaseException as error:
                # Exceptions of a plugin are caught where it is called. This one came between two calls: a
                # MemoryError, or an exception that other code has raised in this thread.
                self.complain("between two calls", error)
        if self._loop is not None:
            self._loop.close()

    def _step(self) -> None:
        while not self.jobs and (not self._mail or self._halted):
            self.idle = True
            self._wait()
            self.idle = False
        if self.jobs:
            self.jobs.popleft()()
        elif self._mail:
            frame = self._mail[0]
            assert self.plugin is not None
            if isinstance(frame, Transit):
                self._let_pass(frame)
                return
            self._receiver.take(self.plugin, frame)
            if self._mail and self._mail[0] is frame and not self._halted:
                self._mail.popleft()
            self.report()

    def _let_pass(self, frame: Transit) -> None:
        assert self._relay_filter is not None and isinstance(self.plugin, Co2RelayPlugin)
        answer = self._relay_filter.take(self.plugin, frame)
        if answer is not None:
            self._mail.popleft()
            self._writer.answer(answer)

    def _wait(self) -> None:
        """Wait for mail or a job; after a while report the plugin's progress."""
        if self._loop is not None:
            if self._reader is not None:
                self._reader.set_plugin(None)  # its tasks run between the messages, in the loop
                self._reader = None
            self._loop.wait()
        elif self._reader is not None:
            self._reader.wait(self._has_something, self._mail.append, self._wakeup)
        elif self.done == self._reported:
            self._wakeup.wait()
        elif not self._wakeup.wait(max(0.0, self._reported_at + _REPORT_EVERY - time.monotonic())):
            self._report_now()

    def _has_something(self) -> bool:
        return bool(self.jobs or (self._mail and not self._halted))

    # ground: used by the receiver

    def run_jobs(self) -> bool:
        """Do the jobs that came meanwhile; return whether the plugin continues."""
        while self.jobs:
            self.jobs.popleft()()
        return not self._stopping and not self._halted

    def report(self) -> None:
        """Report the plugin's progress, at intervals."""
        if (
            self.done - self._reported >= _REPORT_MESSAGES
            or time.monotonic() - self._reported_at >= _REPORT_EVERY
            or (self._loop is not None and not self._mail)
        ):
            self._report_now()

    def tell_progress(self) -> None:
        """Report the plugin's progress, if it has changed."""
        if self.done != self._reported:
            self._report_now()

    def _report_now(self) -> None:
        self._reported, self._reported_at = self.done, time.monotonic()
        self._writer.report()

    def _make(self, var_dict: Message, config: Any) -> BaseException | None:
        try:
            self.plugin = make_plugin(self._kind, self, config, var_dict)
        except BaseException as error:
            return error
        return None

    def _call(self, frame: Call, function: Callable[[Message], Any]) -> None:
        def work() -> Result:
            value = self.finished(function(unpack_deep(frame.argument)))
            try:
                return Result(frame.call_id, pack_value(value))
            except (ValueRefused, TooBig) as error:
                return Result(frame.call_id, _NOTHING, f"{frame.method}: bad result: {error}")

        self._answer(frame.call_id, frame.method, work)

    def _repeat(self, frame: Repeat) -> None:
        def work() -> Result:
            assert self.plugin is not None
            message = unpack_deep(frame.message)
            envelope = {"host_id": frame.host_id, "client_address": frame.client_address, "repeat": True}
            self.finished(self.plugin.receive({**message, **envelope}))
            return Result(frame.call_id, _NOTHING)

        self._answer(frame.call_id, f"{self.name}.receive", work)

    def _admit(self, frame: Admit) -> None:
        def work() -> Result:
            assert isinstance(self.plugin, Co2RelayPlugin)
            answer = self.finished(self.plugin.register(Host(frame.host_id, frame.methods, frame.plugins)))
            return Result(frame.call_id, pack_value(why_not(answer) or None))

        self._answer(frame.call_id, f"{self.name}.register", work)

    def _answer(self, call_id: int, what: str, work: Callable[[], Result]) -> None:
        """Do a job that somebody waits for, and send its result."""
        if call_id not in self._awaited:
            return
        self._awaited.discard(call_id)
        word = self._activity_word
        self._words[word] = 2 * call_id + 1
        try:
            answer = work()
        except ArgumentRefused as error:
            answer = Result(call_id, _NOTHING, text_for_frame(f"{what}: {error}"), refused=True)
        except BaseException as error:
            log_id = os.urandom(4).hex()
            self.complain(f"{what} failed, log id {log_id}", error)
            answer = Result(call_id, _NOTHING, f"{what}: {error_line(error)} (log id {log_id})")
        self._words[word] = 2 * call_id + 2
        self._writer.frame(answer)

    def _callback(self, what: str, function: Callable[[], Any], done: Callable[[], None]) -> None:
        word = self._activity_word
        self._callbacks += 1
        self._words[word] = 2 * (CALLBACKS + self._callbacks) + 1
        try:
            self.finished(function())
            self._failing.discard(what)
        except BaseException as error:
            self._callbacks_failed += 1
            self._failing.add(what)
            if self._on_trial and what not in self._proved:
                self._on_trial = False
                self.services.hold_timers()
                self.stumble(error, what)
            else:
                self.complain(f"{what} failed", error)
            self._writer.report()
        if self._on_trial:
            self._proved.add(what)
        self._words[word] = 2 * (CALLBACKS + self._callbacks) + 2
        done()

    def _hand_over(self, number: int, level: int) -> None:
        self._halted = True
        value, problem = None, ""
        if self.plugin is not None and type(self.plugin).handover is not Co2Plugin.handover:
            try:
                value = pack_value(self.finished(self.plugin.handover()))
            except BaseException as error:
                problem = self._problem("handover", error, level)
        self._writer.frame(HandedOver(number, self.name, value, problem, bool(self._failing)))

    def _take_over(self, value: bytes) -> None:
        problem = ""
        try:
            assert self.plugin is not None
            self.finished(self.plugin.takeover(unpack_value(value)))
        except BaseException as error:
            problem = self._problem("takeover", error)
        self._writer.frame(TakenOver(self.name, problem))

    def stumble(self, error: BaseException, callback: str = "") -> None:
        """Stop: the first message on trial, or call of a timer, has failed, and the host decides."""
        self._halted = True
        what = callback or ("receive" if self._relay_filter is None else "relay")
        self._writer.frame(Stumbled(self.name, self._problem(what, error), what, bool(callback)))

    def _problem(self, what: str, error: BaseException, level: int = ERROR) -> str:
        """Return an error as one line with its place; all of it is logged."""
        self.complain(f"{what} failed", error, level)
        place = self._place_of(error)
        return f"{place}: {error_line(error)}" if place else error_line(error)

    def _place_of(self, error: BaseException) -> str:
        """Return ``file:line`` of the innermost frame in the package's own files; else in code called by them."""
        if self._own_files is None:
            self._own_files = files_of(self._kind.__module__)
        return place_in(self._own_files, error) or place_in(Path("/"), error, but=_CO2)

    def _exit(self) -> None:
        if self.plugin is None:
            return
        self._words[self._activity_word] = EXITING
        try:
            function = self.plugin.__exit__
            self.finished(function(None, None, None) if takes(function, 3) else function())
        except BaseException as error:
            self.complain("__exit__ failed", error)
        self._words[self._activity_word] = 0

    def finished(self, result: Any) -> Any:
        """Await the result of an ``async def``; return any other result unchanged."""
        if not hasattr(result, "__await__"):
            return result
        if self._loop is None:
            from co2.plugin.child.event_loop import EventLoopThread

            self._loop = EventLoopThread()
        return self._loop.run(result)

    def give_up(self, frame: Deliver, message: bytes, error: BaseException) -> None:
        """Make a dead letter of a message."""
        self._words[self._letter_word] += 1  # first, so that a letter that is lost with the process is counted too
        self._writer.dead_letter(
            DeadLetter(self.name, frame.host_id, frame.client_address, error_line(error), message)
        )

    def complain(self, what: str, error: BaseException, level: int = ERROR) -> None:
        try:
            place = self._place_of(error)
            text = f"{f'{place}: ' if place else ''}{what}\n{traceback_text(error)}"
        except BaseException:
            text = what
        self._writer.record(self.name, level, text)
