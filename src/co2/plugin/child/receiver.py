"""Delivery of messages to a plugin: batch after batch, each from the plugin's position, nothing twice.

The position is in the message word of ``progress.py`` and nowhere else, so that a death changes nothing.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from co2.plugin.api import Co2Plugin
from co2.plugin.child.causes import attributed
from co2.plugin.child.decoding import open_batch, pieces, preview
from co2.plugin.child.speedups import Level, give
from co2.protocol.wire.channel_patterns import Interests
from co2.protocol.wire.plugin_frames.frames import Deliver, Gap, Progress, Snapshot
from co2.values import Message, channel_of

__all__ = ["Receiver", "ReceivingActor"]

_STRETCH = 256
"""Messages after which a busy plugin checks whether it should report its progress."""


class ReceivingActor(Protocol):
    """The interface of the actor for the receiver.

    Attributes:
        name: of the plugin.
        jobs: calls that go before the messages that wait.
    """

    name: str
    jobs: deque[Callable[[], None]]

    def run_jobs(self) -> bool:
        """Make the queued calls; return whether the plugin continues."""

    def report(self) -> None:
        """Report the plugin's progress, if that is due."""

    def finished(self, result: Any) -> Any:
        """Await the result of an ``async def``."""

    def give_up(self, frame: Deliver, message: bytes, error: BaseException) -> None:
        """Make a dead letter of a message of this frame."""

    def complain(self, what: str, error: BaseException) -> None:
        """Write an error to the log."""

    def stumble(self, error: BaseException) -> None:
        """Stop: the very first message on trial has failed, and others decide."""


class Receiver:
    """The receiving side of one plugin; all of it runs in the plugin's thread.

    Args:
        actor: of the plugin.
        channels: patterns that the plugin wants, empty for everything.
        words: progress words of the package.
        word: index of this plugin's message word.
        times: whether messages get a key ``at``.
        snapshot: patterns of the channels whose last values it wants, empty for none.
        level: of the plugin's queue of sent messages, None for none: it learns which message the plugin is in.

    Attributes:
        failed: calls that raised.
    """

    def __init__(
        self,
        actor: ReceivingActor,
        channels: Sequence[str],
        words: "memoryview[int]",
        word: int,
        *,
        times: bool = False,
        snapshot: Sequence[str] = (),
        level: Level | None = None,
    ) -> None:
        self.failed = 0
        self._actor = actor
        self._wants_sent = self._wants = _wanted(Interests(channels)) if channels else None
        self._wants_last = _wanted_both(Interests(snapshot), Interests(channels or None))
        self._words = words
        self._word = word
        self._times = times
        self._level = level
        self._inside = 0
        self._apart: list[bytes] | None = None
        self._on_trial = False

    @property
    def done(self) -> int:
        """Number of the last message that the plugin has finished."""
        return max(0, self._words[self._word] // 2 - 1)

    def start(self, progress: Progress, *, on_trial: bool = False) -> None:
        """Resume at the plugin's earlier position; on trial until it has accepted a message."""
        self._on_trial = on_trial
        self._inside = progress.inside
        self._words[self._word] = 2 * progress.done + 2 if progress.done else 0

    def take(self, plugin: Co2Plugin, frame: Deliver | Gap) -> None:
        """Pass a frame to the plugin; to be called again with the same frame after an interruption."""
        self._apart = None
        if isinstance(frame, Gap):
            self._take_gap(plugin, frame)
        else:
            self._wants = self._wants_last if type(frame) is Snapshot else self._wants_sent
            self._pass_messages(plugin, frame)

    def _pass_messages(self, plugin: Co2Plugin, frame: Deliver) -> None:
        """Pass the messages of a frame to the plugin, with calls in between."""
        messages = open_batch(frame.batch)
        if self._times and type(frame) is not Snapshot:  # last values have a time each
            _note_time(messages, frame.at)
        last = frame.first + len(messages) - 1
        number = max(frame.first + frame.skip, self.done + 1)
        if frame.sender != self._actor.name:
            if number <= self._inside <= last:
                self._mark_repeat(messages[self._inside - frame.first])
            at = number - frame.first
            while at < len(messages):
                end = min(at + (1 if self._on_trial else _STRETCH), len(messages))
                # A message that the plugin does not want proves nothing.
                proved = self._on_trial and self._is_wanted(messages[at])
                if not self._receive(plugin, messages, at, end, frame):
                    return
                if proved:
                    self._on_trial = False
                at = end
                if at < len(messages):
                    self._actor.report()
        self._words[self._word] = max(2 * last + 2, self._words[self._word])

    @staticmethod
    def _mark_repeat(message: Message) -> None:
        if type(message) is dict:
            message["repeat"] = True

    def _is_wanted(self, message: Message | None) -> bool:
        return message is not None and (self._wants is None or self._wants(message))

    def _receive(self, plugin: Co2Plugin, messages: list[Message], at: int, end: int, frame: Deliver) -> bool:
        """Pass messages to the plugin; return whether it continues."""
        words, word, actor = self._words, self._word, self._actor
        receive, host_id, client_address = plugin.receive, frame.host_id, frame.client_address
        first = 2 * frame.first + 1
        level = self._level if frame.position else None
        if level is not None:
            level.run, level.thread = frame.run, threading.get_ident()
        while True:
            words[word] = first + 2 * at - 1  # all before this one are done
            if at == end:
                return True
            if actor.jobs and not actor.run_jobs():
                return False
            try:
                at, result = give(
                    messages,
                    at,
                    end,
                    words,
                    word,
                    first,
                    actor.jobs,
                    self._wants,
                    receive,
                    host_id,
                    client_address,
                    level,
                    frame.position,
                )
                if result is not None:
                    actor.finished(result if level is None else attributed(result, level))
            except BaseException as error:
                if words[word] % 2 == 0:
                    raise  # not within a message: out of memory, or it was thrown into this thread
                failed = words[word] // 2
                at = failed - frame.first + 1
                if self._on_trial:
                    self._on_trial, self._inside = False, failed
                    actor.stumble(error)
                    return False
                self._receive_failed(frame, failed, error)

    def _receive_failed(self, frame: Deliver, number: int, error: BaseException) -> None:
        self.failed += 1
        if self._apart is None:
            self._apart = pieces(frame.batch)  # kept, as after one failure the next may fail too
        message = self._apart[number - frame.first]
        self._actor.give_up(frame, message, error)
        shown = preview(message)
        self._actor.complain(f"receive failed; the message is from {frame.host_id}: {shown}", error)

    def _take_gap(self, plugin: Co2Plugin, gap: Gap) -> None:
        """Report a gap to the plugin."""
        if gap.first <= self.done:
            return
        at = self._word
        self._words[at] = 2 * gap.first + 1
        try:
            self._actor.finished(plugin.gap({"after": gap.after, "next": gap.next, "reason": gap.reason}))
        except BaseException as error:
            self.failed += 1
            self._actor.complain(f"gap failed; it was: {gap.reason}", error)
        self._words[at] = 2 * gap.first + 2


def _note_time(messages: Sequence[Message], at: float) -> None:
    for message in messages:
        if type(message) is dict:
            message["at"] = at


def _wanted(interests: Interests) -> Callable[[Message], bool]:
    wants = interests.wants_one
    return lambda message: wants(channel_of(message))


def _wanted_both(first: Interests, second: Interests) -> Callable[[Message], bool]:
    return lambda message: first.wants_one(channel := channel_of(message)) and second.wants_one(channel)
