"""Where a plugin stands, whatever comes between its messages."""

import threading
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from co2.plugin.child import receiver as receiving
from co2.plugin.child import speedups
from co2.plugin.child.progress import ProgressWords
from co2.plugin.child.receiver import Receiver
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.plugin_frames.frames import Deliver, Gap, Progress, Snapshot
from co2.values import pack


class Ground:
    """Notes what the receiver wants of it."""

    name = "spam"

    def __init__(self) -> None:
        self.jobs: deque[Callable[[], None]] = deque()
        self.given_up: list[bytes] = []
        self.complaints: list[str] = []
        self.stumbled: list[BaseException] = []
        self.reports = 0
        self.results: list[Any] = []
        self.goes_on = True

    def run_jobs(self) -> bool:
        while self.jobs:
            self.jobs.popleft()()
        return self.goes_on

    def report(self) -> None:
        self.reports += 1

    def finished(self, result: Any) -> Any:
        self.results.append(result)
        return result

    def give_up(self, frame: Deliver, message: bytes, error: BaseException) -> None:
        self.given_up.append(message)

    def complain(self, what: str, error: BaseException) -> None:
        self.complaints.append(f"{what}: {error!r}")

    def stumble(self, error: BaseException) -> None:
        self.stumbled.append(error)


class Pupil:
    """A plugin, with the receiver of its messages; it fails in those whose data are named."""

    def __init__(self, *fails: Any, channels: tuple[str, ...] = (), **keys: Any) -> None:
        self.ground, self.memory = Ground(), ProgressWords()
        self.fails = fails
        self.returns: Any = None
        self.taken: list[Any] = []
        self.messages: list[Any] = []
        self.stands: list[int] = []
        self.gaps: list[Any] = []
        self.receiver = Receiver(self.ground, channels, self.memory.words, WORD, **keys)

    def take(self, *frames: Deliver | Gap) -> list[Any]:
        """Give frames, and return the data of what the plugin got of them."""
        self.taken = []
        plugin: Any = self
        for frame in frames:
            self.receiver.take(plugin, frame)
        return self.taken

    def receive(self, message: Any) -> Any:
        self.messages.append(message)
        self.stands.append(self.memory.words[WORD])
        self.taken.append(message["data"])
        if message["data"] in self.fails:
            raise LookupError(message["data"])
        return self.returns

    def gap(self, gap: Any) -> None:
        self.stands.append(self.memory.words[WORD])
        self.gaps.append(gap)
        if gap["reason"] in self.fails:
            raise LookupError(gap["reason"])

    @property
    def state(self) -> tuple[int, int]:
        return self.receiver.done, self.receiver.failed


WORD = 2
"""The second plugin's."""


def deliver(first: int, *data: Any, kind: type[Deliver] = Deliver, **keys: Any) -> Deliver:
    messages = [value if isinstance(value, dict) else {"data": value} for value in data]
    return kind(first, 0, 0, "a@b:1", ("b", 1), make_batch([*map(pack, messages)]), **keys)


@pytest.mark.parametrize("loop", [speedups.give, speedups._give], ids=["compiled", "plain"])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_fails_between_two_messages_is_taken_for_none_of_them(
    monkeypatch: pytest.MonkeyPatch, loop: Callable[..., Any], before: int
) -> None:
    """No memory for the call itself; or an exception that somebody has thrown into the plugin's thread."""
    taken: list[Any] = []
    calls: list[int] = []

    def give(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == before + 1:
            raise MemoryError
        return loop(*args)

    def receive(message: Any) -> Any:
        taken.append(message["data"])
        if message["data"] == 1:
            raise LookupError
        return message["data"]  # so that each is a call of its own

    monkeypatch.setattr(receiving, "give", give)
    actor = Ground()
    plugin: Any = SimpleNamespace(receive=receive)
    receiver = Receiver(actor, (), ProgressWords().words, 0)
    frame = deliver(1000, 0, 1, 2)
    with pytest.raises(MemoryError):
        receiver.take(plugin, frame)
    assert receiver.done == 999 + before
    receiver.take(plugin, frame)
    assert taken == [0, 1, 2]
    assert actor.given_up == [pack({"data": 1})]
    assert (receiver.done, receiver.failed) == (1002, 1)


def test_at_first_it_is_done_with_nothing_and_then_stands_in_each_message_and_after_the_last() -> None:
    it = Pupil()
    assert it.receiver.done == 0
    assert it.take(deliver(1, "a", "b"), deliver(3, "c")) == ["a", "b", "c"]
    assert it.stands == [3, 5, 7], "inside 1, 2 and 3"
    assert it.memory.words[WORD] == 2 * 3 + 2
    assert it.messages[0] == {"data": "a", "host_id": "a@b:1", "client_address": ("b", 1)}
    assert it.state == (3, 0)


@pytest.mark.parametrize(
    ("skip", "done", "got", "then"),
    [
        (0, 0, ["a", "b", "c"], 12),
        (1, 0, ["b", "c"], 12),
        (3, 0, [], 12),
        (1, 9, ["b", "c"], 12),
        (1, 10, ["b", "c"], 12),
        (1, 11, ["c"], 12),
        (0, 12, [], 12),
        (0, 15, [], 15),
    ],
)
def test_neither_what_is_for_others_nor_what_is_done_is_given(
    skip: int, done: int, got: list[str], then: int
) -> None:
    it = Pupil()
    it.receiver.start(Progress(done, 0))
    assert it.memory.words[WORD] == (2 * done + 2 if done else 0), "not inside any"
    assert it.receiver.done == done
    assert it.take(deliver(10, "a", "b", "c", skip=skip)) == got
    assert it.state == (then, 0)


def test_what_it_has_sent_itself_is_only_counted() -> None:
    it = Pupil()
    assert it.take(deliver(1, "a", sender="spam"), deliver(2, "b", sender="eggs")) == ["b"]
    assert it.take(deliver(3, "c", sender="spam")) == []
    assert it.receiver.done == 3


@pytest.mark.parametrize(("inside", "marked"), [(9, ""), (10, "a"), (11, "b"), (12, "c"), (13, ""), (0, "")])
def test_the_message_that_a_death_was_in_is_marked(inside: int, marked: str) -> None:
    it = Pupil()
    it.receiver.start(Progress(0, inside))
    it.take(deliver(10, "a", "b", "c"))
    assert [message["data"] for message in it.messages if "repeat" in message] == [*marked]
    assert all(message.get("repeat", True) is True for message in it.messages)


def test_a_message_that_is_not_given_again_is_not_marked() -> None:
    it = Pupil()
    it.receiver.start(Progress(11, 11))
    assert it.take(deliver(10, "a", "b", "c")) == ["c"]
    assert "repeat" not in it.messages[0]


@pytest.mark.parametrize(("times", "ats"), [(True, [7.5, None]), (False, [None, None])])
def test_messages_have_a_time_where_that_is_wanted_and_last_values_have_their_own(
    times: bool, ats: list[float | None]
) -> None:
    it = Pupil(times=times, snapshot=("x",))
    it.take(deliver(1, "a", at=7.5), deliver(2, {"data": "b", "channel": "x"}, kind=Snapshot, at=7.5))
    assert [message.get("at") for message in it.messages] == ats


@pytest.mark.parametrize(
    ("channels", "snapshot", "sent", "last"),
    [
        ((), (), "abc", ""),
        ((), ("b",), "abc", "b"),
        (("b", "c"), (), "bc", ""),
        (("b", "c"), ("a", "b"), "bc", "b"),
    ],
)
def test_last_values_are_for_who_wants_both_them_and_their_channel(
    channels: tuple[str, ...], snapshot: tuple[str, ...], sent: str, last: str
) -> None:
    it = Pupil(channels=channels, snapshot=snapshot)
    messages = [{"channel": name, "data": name} for name in "abc"]
    assert it.take(deliver(1, *messages)) == [*sent]
    assert it.take(deliver(4, *messages, kind=Snapshot)) == [*last]
    assert it.take(deliver(7, *messages)) == [*sent]
    assert it.receiver.done == 9


@pytest.mark.parametrize(("count", "reports"), [(1, 0), (256, 0), (257, 1), (512, 1), (513, 2)])
def test_in_a_long_frame_it_says_now_and_then_where_it_stands(count: int, reports: int) -> None:
    it = Pupil()
    assert len(it.take(deliver(1, *range(count)))) == count
    assert it.ground.reports == reports


def test_calls_go_first_and_may_end_it_between_two_messages() -> None:
    it = Pupil()
    frame = deliver(1, "a", "b", "c")
    it.ground.jobs.append(lambda: it.taken.append("job"))
    assert it.take(frame) == ["job", "a", "b", "c"]
    it = Pupil()
    it.ground.goes_on = False
    it.ground.jobs.append(lambda: None)
    assert it.take(frame) == []
    assert it.receiver.done == 0
    it.ground.goes_on = True
    assert it.take(frame) == ["a", "b", "c"]


def test_a_failure_is_told_with_its_message_and_the_next_message_comes() -> None:
    it = Pupil("b", "c", "e")
    it.receiver.start(Progress(0, 0))
    assert it.take(deliver(10, "a", "b", "c"), deliver(13, "d", "e")) == ["a", "b", "c", "d", "e"]
    assert it.state == (14, 3)
    assert it.ground.given_up == [pack({"data": data}) for data in "bce"]
    begins = "receive failed; the message is from a@b:1: "
    assert [text.startswith(begins) for text in it.ground.complaints] == [True] * 3
    assert ["LookupError('b')" in text for text in it.ground.complaints] == [True, False, False]
    assert it.ground.stumbled == []


def test_the_first_message_on_trial_that_fails_is_others_to_decide() -> None:
    it = Pupil("b", channels=("x",))
    it.receiver.start(Progress(0, 0), on_trial=True)
    frame = deliver(10, {"data": "a", "channel": "y"}, *({"data": data, "channel": "x"} for data in "bc"))
    assert it.take(frame) == ["b"], "what it does not want proves nothing, and after the failure nothing comes"
    assert [type(error) for error in it.ground.stumbled] == [LookupError]
    assert (it.ground.given_up, it.ground.complaints, it.state) == ([], [], (10, 0))
    assert it.take(frame) == ["b", "c"], "they have decided that it goes on"
    assert [message.get("repeat") for message in it.messages] == [None, True, None]
    assert (it.state, len(it.ground.stumbled)) == ((12, 1), 1)


def test_one_message_that_is_accepted_ends_the_trial() -> None:
    it = Pupil("b")
    it.receiver.start(Progress(0, 0), on_trial=True)
    assert it.take(deliver(10, "a", "b", "c")) == ["a", "b", "c"]
    assert (it.state, it.ground.stumbled) == ((12, 1), [])
    assert it.ground.reports == 1, "after the first, and not after each"


def test_a_gap_is_told_once_and_in_its_place() -> None:
    it = Pupil("second")
    gaps = [Gap(4, 17, 29, "first"), Gap(5, 0, 0, "second")]
    it.take(*gaps)
    assert it.gaps == [
        {"after": 17, "next": 29, "reason": "first"},
        {"after": 0, "next": 0, "reason": "second"},
    ]
    assert it.stands == [9, 11], "inside each"
    assert (it.state, it.memory.words[WORD]) == ((5, 1), 12)
    assert it.ground.complaints == ["gap failed; it was: second: LookupError('second')"]
    it.take(*gaps, Gap(6, 1, 2, "third"))
    assert [gap["reason"] for gap in it.gaps] == ["first", "second", "third"]


def test_the_queue_of_what_it_sends_knows_its_message_and_thread() -> None:
    level = speedups.Level()
    causes: list[tuple[int, int, int]] = []
    it = Pupil(level=level)
    it.fails = (Noting(lambda: causes.append((level.cause, level.run, level.thread))),)
    frame = deliver(1, "a", "b")
    it.take(msgspec.structs.replace(frame, position=40, run=9), msgspec.structs.replace(frame, first=3))
    own = threading.get_ident()
    assert causes == [(40, 9, own), (41, 9, own), (0, 9, own), (0, 9, own)]


class Noting:
    """Is equal to nothing, and notes that it was compared: within a call of ``receive``."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._note = note

    def __eq__(self, _other: object) -> bool:
        self._note()
        return False

    __hash__ = object.__hash__


def test_what_it_returns_is_waited_for_before_the_next_message() -> None:
    for level in (None, speedups.Level()):
        it = Pupil(level=level)
        it.returns = "a result"
        assert it.take(deliver(1, "a", "b")) == ["a", "b"]
        assert it.ground.results == ["a result", "a result"]
