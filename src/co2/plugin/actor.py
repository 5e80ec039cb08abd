"""One plugin with its thread and its mailbox: everything of it is called there, one at a time."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from co2.errors import TooBig, ValueRefused
from co2.plugin.api import Co2Plugin
from co2.plugin.flushes import Flushes
from co2.plugin.lanes import Lane, make_send
from co2.plugin.opened import Unreadable, open_batch, pieces, preview, unpack_deep
from co2.plugin.outgoing import Outgoing
from co2.plugin.progress import EXITING
from co2.plugin.signatures import takes
from co2.protocol.frames import Call, Deliver, Flush, Gap, Progress, Result
from co2.protocol.interests import Interests
from co2.values import Message, channel_of, pack_value

if TYPE_CHECKING:
    from co2.plugin.coroutines import Coroutines

__all__ = ["Actor", "error_line", "traceback_text"]

MAX_TRACEBACK = 16 * 1024
"""Characters of a traceback that travel to the log; of a longer one the end."""

ERROR = 40

_STRETCH = 256
"""Messages after which a busy plugin looks at the clock, whether to say where it stands."""

_REPORT_EVERY = 0.02
"""Seconds between two reports of a busy plugin; an idle one says at once where it stands."""

_REPORT_MESSAGES = 4096
"""Messages after which a busy plugin says where it stands, so that its window never runs empty."""

_NOTHING = b"\xc0"


class Actor:
    """Carries one plugin; is its binding.

    Args:
        name: ``<package>.<module>.<class>``.
        kind: its class.
        outgoing: the way to the host.
        flushes: those of the package.
        send_timeout: seconds that ``send`` waits for room.
        words: progress words of the package.
        index: of this plugin in them.

    Attributes:
        send: what the plugin sends with.
    """

    def __init__(
        self,
        name: str,
        kind: type[Co2Plugin],
        *,
        outgoing: Outgoing,
        flushes: Flushes,
        send_timeout: float,
        words: "memoryview[int]",
        index: int,
    ) -> None:
        self.name = name
        self.initialised = False
        self.plugin: Co2Plugin | None = None
        self.failed = 0
        self._kind = kind
        self._wants = Interests(kind.channels).wants_one if kind.channels else None
        self._outgoing = outgoing
        self._flushes = flushes
        self._lane = Lane(name, tuple(kind.live))
        self.send: Callable[[Mapping[str, Any]], None] = make_send(self._lane, outgoing, send_timeout)
        self._words = words
        self._message_word = 2 * index
        self._activity_word = 2 * index + 1
        self._inside = 0
        self._apart: tuple[Deliver, list[bytes]] | None = None
        self._reported = 0
        self._reported_at = 0.0
        self._mail: deque[Deliver | Gap] = deque()
        self._jobs: deque[Callable[[], None]] = deque()
        self._wakeup = threading.Condition()
        self._stopping = False
        self._loop: Coroutines | None = None
        outgoing.join(self._lane)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def done(self) -> int:
        """Number of the last message that the plugin is done with."""
        return max(0, self._words[self._message_word] // 2 - 1)

    # binding: what the plugin calls, from any thread

    def flush(self, timeout: float) -> None:
        """Wait until all that the plugin has sent is acknowledged."""
        deadline = time.monotonic() + timeout
        flush_id = self._flushes.new(timeout)
        try:
            self._outgoing.add(self._lane, Flush(flush_id), timeout)
            self._flushes.wait(flush_id, max(0.0, deadline - time.monotonic()), timeout)
        finally:
            self._flushes.forget(flush_id)

    def record(self, level: int, text: str) -> None:
        """Write a line to the host's log."""
        self._outgoing.record(self.name, level, text[:MAX_TRACEBACK])

    # what the plugin host calls, from its own threads

    def start(self, progress: Progress | None) -> None:
        """Say where the plugin goes on; messages up to there are skipped."""
        if progress is not None:
            self._inside = progress.inside
            self._words[self._message_word] = 2 * progress.done + 2 if progress.done else 0

    def deliver(self, frame: Deliver | Gap) -> None:
        """Put messages, or a gap, into the mailbox."""
        with self._wakeup:
            self._mail.append(frame)
            self._wake()

    def do(self, job: Callable[[], None]) -> None:
        """Have something done in the plugin's thread, before the messages that wait."""
        with self._wakeup:
            self._jobs.append(job)
            self._wake()

    def make(self, var_dict: Message, config: Message) -> BaseException | None:
        """Make the plugin, in its thread; give what its ``__init__`` raised."""
        finished: list[BaseException | None] = []
        made = threading.Event()

        def job() -> None:
            finished.append(self._make(var_dict, config))
            made.set()

        self.do(job)
        made.wait()
        return finished[0]

    def call(self, frame: Call, function: Callable[[Message], Any]) -> None:
        """Call an ``x_`` method; the result goes to the host."""
        self.do(lambda: self._call(frame, function))

    def exit(self, done: threading.Event) -> None:
        """Drop what waits, call ``__exit__`` and end; then set ``done``."""

        def job() -> None:
            self._stopping = True
            self._exit()
            done.set()

        with self._wakeup:
            self._mail.clear()
            self._jobs.clear()
            self._jobs.append(job)
            self._wake()

    def _wake(self) -> None:
        self._wakeup.notify()
        if self._loop is not None:
            self._loop.wake()

    # the plugin's thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._step()
            except BaseException as error:
                # What a plugin raises is caught where it is called. This is what came at another moment: memory
                # that ran out between two calls, or an exception thrown into this thread from outside.
                self._complain("between two calls", error)
        if self._loop is not None:
            self._loop.close()

    def _step(self) -> None:
        while not self._jobs and not self._mail:
            if self._loop is not None:
                self._loop.wait()
                continue
            with self._wakeup:
                if not self._jobs and not self._mail:
                    self._wakeup.wait()
        if self._jobs:
            self._jobs.popleft()()
        elif self._mail:
            frame = self._mail[0]
            if isinstance(frame, Gap):
                self._take_gap(frame)
            else:
                self._take(frame)
            if self._mail and self._mail[0] is frame:
                self._mail.popleft()
            self._apart = None
            self._report()

    def _report(self) -> None:
        """Say where the plugin stands: at once when it is idle, now and then while it is busy."""
        done = self.done
        if (
            not self._mail
            or done - self._reported >= _REPORT_MESSAGES
            or time.monotonic() - self._reported_at >= _REPORT_EVERY
        ):
            self._reported, self._reported_at = done, time.monotonic()
            self._outgoing.report()

    def _take(self, frame: Deliver) -> None:
        """Give the messages of a frame to the plugin, calls in between."""
        messages = open_batch(frame.batch)
        last = frame.first + len(messages) - 1
        number = max(frame.first + frame.skip, self.done + 1)
        if frame.sender != self.name:
            if number <= self._inside <= last:
                self._mark_repeat(messages[self._inside - frame.first])
            while number <= last:
                at = number - frame.first
                if not self._receive(messages[at : at + _STRETCH], number, frame):
                    return
                number += _STRETCH
                if number <= last:
                    self._report()
        self._words[self._message_word] = max(2 * last + 2, self._words[self._message_word])

    @staticmethod
    def _mark_repeat(message: Message) -> None:
        if not isinstance(message, Unreadable):
            message["repeat"] = True

    def _receive(self, messages: list[Message], number: int, frame: Deliver) -> bool:
        """Give messages to the plugin; tell whether it goes on. Everything here is paid for by each message."""
        assert self.plugin is not None
        words, at, jobs, wants = self._words, self._message_word, self._jobs, self._wants
        receive, host_id, client_address = self.plugin.receive, frame.host_id, frame.client_address
        word = 2 * number + 1
        for message in messages:
            if jobs and not self._run_jobs():
                return False
            if wants is not None and not wants(channel_of(message)) and type(message) is not Unreadable:
                word += 2
                continue
            words[at] = word
            word += 1
            try:
                message["host_id"] = host_id  # raises where the message could not be decoded
                message["client_address"] = client_address
                result = receive(message)
                if result is not None:
                    self._finished(result)
            except BaseException as error:
                self._receive_failed(frame, word // 2 - 1, error)
            words[at] = word
            word += 1
        return True

    def _run_jobs(self) -> bool:
        while self._jobs:
            self._jobs.popleft()()
        return not self._stopping

    def _receive_failed(self, frame: Deliver, number: int, error: BaseException) -> None:
        self.failed += 1
        if self._apart is None or self._apart[0] is not frame:
            self._apart = (frame, pieces(frame.batch))  # kept, for where one fails the next may fail too
        shown = preview(self._apart[1][number - frame.first])
        self._complain(f"receive failed; the message is from {frame.host_id}: {shown}", error)

    def _take_gap(self, gap: Gap) -> None:
        """Tell the plugin of messages that it will not get."""
        assert self.plugin is not None
        if gap.first <= self.done:
            return
        word = self._message_word
        self._words[word] = 2 * gap.first + 1
        try:
            self._finished(self.plugin.gap({"after": gap.after, "next": gap.next, "reason": gap.reason}))
        except BaseException as error:
            self.failed += 1
            self._complain(f"gap failed; it was: {gap.reason}", error)
        self._words[word] = 2 * gap.first + 2

    def _make(self, var_dict: Message, config: Message) -> BaseException | None:
        kind = self._kind
        try:
            plugin = kind.__new__(kind)
            plugin.__dict__["_co2"] = self
            plugin.__dict__["config"] = config
            if kind.send is Co2Plugin.send:
                plugin.__dict__["send"] = self.send  # without the step through the class: a third less per message
            if kind.name is Co2Plugin.name:
                plugin.__dict__["name"] = self.name
            plugin.__init__(var_dict)  # type: ignore[misc]  # bound before __init__, so that send works there
            self.plugin = plugin
        except BaseException as error:
            return error
        return None

    def _call(self, frame: Call, function: Callable[[Message], Any]) -> None:
        word = self._activity_word
        self._words[word] = 2 * frame.call_id + 1
        try:
            value = self._finished(function(unpack_deep(frame.argument)))
            try:
                answer = Result(frame.call_id, pack_value(value))
            except (ValueRefused, TooBig) as error:
                answer = Result(frame.call_id, _NOTHING, f"{frame.method}: its result cannot travel: {error}")
        except BaseException as error:
            log_id = os.urandom(4).hex()
            self._complain(f"{frame.method} failed, log id {log_id}", error)
            text = f"{frame.method}: {error_line(error)} (log id {log_id})"
            answer = Result(frame.call_id, _NOTHING, text)
        self._words[word] = 2 * frame.call_id + 2
        self._outgoing.frame(answer)

    def _exit(self) -> None:
        if self.plugin is None:
            return
        self._words[self._activity_word] = EXITING
        try:
            function = self.plugin.__exit__
            self._finished(function(None, None, None) if takes(function, 3) else function())
        except BaseException as error:
            self._complain("__exit__ failed", error)
        self._words[self._activity_word] = 0

    def _finished(self, result: Any) -> Any:
        """Await what an ``async def`` gave; anything else is the result itself."""
        if not hasattr(result, "__await__"):
            return result
        if self._loop is None:
            from co2.plugin.coroutines import Coroutines

            with self._wakeup:
                self._loop = Coroutines()
        return self._loop.run(result)

    def _complain(self, what: str, error: BaseException) -> None:
        try:
            text = f"{what}\n{traceback_text(error)}"
        except BaseException:
            text = what
        self._outgoing.record(self.name, ERROR, text)


def traceback_text(error: BaseException) -> str:
    """Format an exception for the log; of a very long traceback the end."""
    import traceback

    return "".join(traceback.format_exception(error)).rstrip()[-MAX_TRACEBACK:]


def error_line(error: BaseException) -> str:
    """Give type and first line of an exception, at most 200 characters: what a caller may know."""
    try:
        text = str(error).partition("\n")[0]
    except Exception:
        text = ""
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[:200]
