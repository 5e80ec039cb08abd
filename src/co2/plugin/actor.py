"""One plugin with its thread and its mailbox: everything of it is called there, one at a time."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from co2.errors import TooBig, ValueRefused
from co2.plugin.api import Co2Plugin
from co2.plugin.outgoing import Outgoing
from co2.plugin.progress import EXITING
from co2.plugin.signatures import takes
from co2.protocol.frames import Call, Deliver, Progress, Result
from co2.values import RECURSION_LIMIT, Message, pack_value, unpack

if TYPE_CHECKING:
    from co2.plugin.coroutines import Coroutines

__all__ = ["MAX_PREVIEW", "Actor", "error_line", "traceback_text"]

MAX_PREVIEW = 512
"""Characters of a message that are shown in the log."""

MAX_TRACEBACK = 16 * 1024
"""Characters of a traceback that travel to the log; of a longer one the end."""

ERROR = 40

_APPLIED_AFTER = 256
"""Messages after which a busy plugin says where it stands; an idle one says it at once."""

_NOTHING = b"\xc0"


class Actor:
    """Carries one plugin; is its binding.

    Args:
        name: ``<package>.<module>.<class>``.
        outgoing: the way to the host.
        send_timeout: seconds that ``send`` waits for room.
        words: progress words of the package.
        index: of this plugin in them.
    """

    def __init__(
        self, name: str, outgoing: Outgoing, send_timeout: float, words: "memoryview[int]", index: int
    ) -> None:
        self.name = name
        self.initialised = False
        self.plugin: Co2Plugin | None = None
        self.done = 0
        self.failed = 0
        self._outgoing = outgoing
        self._send_timeout = send_timeout
        self._words = words
        self._message_word = 2 * index
        self._activity_word = 2 * index + 1
        self._inside = 0
        self._mail: deque[Deliver] = deque()
        self._jobs: deque[Callable[[], None]] = deque()
        self._wakeup = threading.Condition()
        self._stopping = False
        self._loop: Coroutines | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # binding: what the plugin calls, from any thread

    def publish(self, packed: bytes) -> None:
        """Send an encoded message."""
        self._outgoing.publish(self.name, packed, self._send_timeout)

    def record(self, level: int, text: str) -> None:
        """Write a line to the host's log."""
        self._outgoing.record(self.name, level, text[:MAX_TRACEBACK])

    # what the plugin host calls, from its own threads

    def start(self, progress: Progress | None) -> None:
        """Say where the plugin goes on; messages up to there are skipped."""
        if progress is not None:
            self.done = progress.done
            self._inside = progress.inside
            self._words[self._message_word] = 2 * progress.done + 2 if progress.done else 0

    def deliver(self, frame: Deliver) -> None:
        """Put messages into the mailbox."""
        with self._wakeup:
            self._mail.append(frame)
            self._wake()

    def do(self, job: Callable[[], None]) -> None:
        """Have something done in the plugin's thread, before the messages that wait."""
        with self._wakeup:
            self._jobs.append(job)
            self._wake()

    def make(self, kind: type[Co2Plugin], var_dict: Message, config: Message) -> BaseException | None:
        """Make the plugin, in its thread; give what its ``__init__`` raised."""
        finished: list[BaseException | None] = []
        made = threading.Event()

        def job() -> None:
            finished.append(self._make(kind, var_dict, config))
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
            self._take(frame)
            if self._mail and self._mail[0] is frame:
                self._mail.popleft()
            if not self._mail:
                self._outgoing.report()

    def _take(self, frame: Deliver) -> None:
        """Give the messages of a frame to the plugin, calls in between."""
        number = frame.first
        reported = self.done
        for packed in frame.messages:
            while self._jobs:
                self._jobs.popleft()()
            if self._stopping:
                return
            if number > self.done:
                if frame.sender != self.name:
                    self._receive(number, frame, packed)
                self.done = number
                if number - reported >= _APPLIED_AFTER:
                    reported = number
                    self._outgoing.report()
            number += 1

    def _receive(self, number: int, frame: Deliver, packed: bytes) -> None:
        assert self.plugin is not None
        words, word = self._words, self._message_word
        words[word] = 2 * number + 1
        try:
            message = _decoded(packed)
            message["host_id"] = frame.host_id
            message["client_address"] = tuple(frame.client_address)
            if number == self._inside:
                message["repeat"] = True
            result = self.plugin.receive(message)
            if result is not None:
                self._finished(result)
        except BaseException as error:
            self.failed += 1
            preview = _preview(packed)
            self._complain(f"receive failed; the message is from {frame.host_id}: {preview}", error)
        words[word] = 2 * number + 2

    def _make(self, kind: type[Co2Plugin], var_dict: Message, config: Message) -> BaseException | None:
        try:
            plugin = kind.__new__(kind)
            plugin.__dict__["_co2"] = self
            plugin.__dict__["config"] = config
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
            value = self._finished(function(_decoded(frame.argument)))
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


def _decoded(packed: bytes) -> Message:
    try:
        return unpack(packed)
    except ValueRefused:
        # A sender nests as deep as its recursion limit lets it; a few frames more must do for us.
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, RECURSION_LIMIT))
        try:
            return unpack(packed)
        finally:
            sys.setrecursionlimit(limit)


def _preview(packed: bytes) -> str:
    try:
        return repr(_decoded(packed))[:MAX_PREVIEW]
    except BaseException:
        return f"{len(packed)} bytes that cannot be shown"


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
