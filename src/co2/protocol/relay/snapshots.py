"""Snapshots: the last values that packages of satellites have wished for; a part of RelayCore, without I/O.

A wish is fulfilled in steps. When the index of last values is complete, it is asked for one position, the end of
what live readers may read. When all up to there is on disk, the shell is asked to read the values. They go out
together with that position; the satellite makes the package read on from it. So each value comes once, whatever
happens meanwhile.
"""

from collections import deque
from dataclasses import dataclass

from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.events import Event, ValuesWanted
from co2.protocol.relay.fan_out import FanOut
from co2.protocol.relay.last_values import Answer, LastValue, Question
from co2.protocol.relay.log import Log
from co2.protocol.wire.link_frames import Snapshot, SnapshotValue, Wish, encode_link_frame

__all__ = ["MAX_QUESTIONS", "PART", "VALUES_ASKED", "Snapshots"]

MAX_QUESTIONS = 2
"""Wishes of all links that are worked on at a time: each has a copy of the index."""

PART = 256 * 1024
"""Bytes of messages in one Snapshot frame, above which another one follows."""

VALUES_ASKED = 16
"""Values for which a link counts one more request (:attr:`Peer.asked`)."""


@dataclass(slots=True, eq=False)
class _Work:
    """A wish that is worked on.

    Attributes:
        own: number of the last message of the satellite's present run that the question covers.
        is_wanted: the shell has been asked for the values.
    """

    peer: Peer
    package: str
    wish: Wish
    question: Question
    own: int
    is_wanted: bool = False


class Snapshots:
    """The wishes of all links. Links take turns, and so do the packages of one.

    Args:
        log: of the relay.
        fan_out: has the index.
        events: receives an event when values must be read.
    """

    def __init__(self, log: Log, fan_out: FanOut, events: deque[Event]) -> None:
        self._log = log
        self._fan_out = fan_out
        self._events = events
        self._wishes: dict[Peer, dict[str, Wish]] = {}
        self._works: dict[Question, _Work] = {}

    def subscribed(self, peer: Peer) -> None:
        """Take the new wishes of a link; one that is no longer in its subscriptions is dropped."""
        wishes = {sub.package: sub.wish for sub in peer.subscriptions.values() if sub.wish is not None}
        new = {package: wish for package, wish in wishes.items() if peer.wishes.get(package) != wish.number}
        peer.wishes = {package: wish.number for package, wish in wishes.items()}
        if waiting := {**self._wishes.pop(peer, {}), **new}:
            self._wishes[peer] = {
                package: wish for package, wish in waiting.items() if wishes.get(package) == wish
            }
        self.work()

    def forget(self, peer: Peer) -> None:
        """Drop the wishes of a link that has ended."""
        self._wishes.pop(peer, None)

    def work(self) -> None:
        """Go on with the wishes, as far as the index and the disk are."""
        values, fan_out = self._fan_out.last_values, self._fan_out
        while self._wishes and values.complete and len(self._works) < MAX_QUESTIONS:
            peer = next(iter(self._wishes))
            wishes = self._wishes.pop(peer)
            if not wishes:
                continue
            package = next(iter(wishes))
            wish = wishes.pop(package)
            if wishes:
                self._wishes[peer] = wishes  # behind all other links
            question = values.ask(wish.channels, self._position())
            work = _Work(peer, package, wish, question, fan_out.last_visible(peer.origin, peer.run))
            self._works[question] = work
        for work in self._works.values():
            if not work.is_wanted and self._is_on_disk(work):
                work.is_wanted = True
                self._events.append(ValuesWanted(work.peer, work.question))

    def _position(self) -> int:
        """Return the position up to which the index has all messages."""
        return self._fan_out.visible

    def _is_on_disk(self, work: _Work) -> bool:
        return work.question.position <= self._fan_out.committed

    def answered(self, question: Question, found: Answer) -> None:
        """Fulfil the wish behind a question."""
        work = self._works.pop(question)
        self._fan_out.last_values.learn(found)
        peer = work.peer
        if peer.state == "open" and peer.wishes.get(work.package) == work.wish.number:
            peer.asked += 1 + len(found.values) // VALUES_ASKED
            self._write(work, found)
        self.work()

    def failed(self, question: Question) -> None:
        """Drop the wish behind a question: its values could not be read."""
        self._works.pop(question, None)
        self.work()

    def _write(self, work: _Work, found: Answer) -> None:
        part: list[SnapshotValue] = []
        size = 0
        for value in found.values:
            if size + len(value.packed) > PART and part:
                self._write_part(work, part, 0, ends=False)
                part, size = [], 0
            part.append(_written(value))
            size += len(value.packed)
        self._write_part(work, part, found.left_out, ends=True)

    @staticmethod
    def _write_part(work: _Work, part: list[SnapshotValue], left_out: int, *, ends: bool) -> None:
        frame = Snapshot(
            work.package, work.wish.number, work.question.position, part, ends, work.own, left_out
        )  # fmt: skip
        work.peer.write(encode_link_frame(frame))


def _written(value: LastValue) -> SnapshotValue:
    entry = value.entry
    return SnapshotValue(
        value.channel,
        value.position,
        value.age,
        entry.at,
        entry.host_id,
        entry.client_address,
        entry.epoch,
        entry.seq + value.index if entry.epoch else 0,
        entry.seq + entry.count - 1 if entry.epoch else 0,
        entry.package,
        entry.plugin,
        value.packed,
    )
