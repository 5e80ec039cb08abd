"""The two loops that every message pays for do the same in C and in Python."""

import gc
import os
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import weakref
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.compiled import is_of
from co2.plugin.child import speedups
from co2.plugin.child.decoding import Unreadable
from tests.needs import needs
from tests.plugin.conftest import WITHOUT

SMALL, SHORT = 40, 8
ADDRESS = ("10.0.0.7", 4567)

ONLY_IN_C = needs(
    speedups.COMPILED, "not compiled here (gcc, Python's headers; then make venv), and Python needs no such check"
)

LOOPS: dict[str, tuple[Any, Any]] = {
    "compiled": (speedups.make_fast_send, speedups.give),
    "plain": (speedups._make_fast_send, speedups._give),
}
KINDS = {"compiled": (speedups.Level, speedups.Sleeper), "plain": (speedups._Level, speedups._Sleeper)}


@pytest.fixture(params=LOOPS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_where_there_is_a_compiler_they_are_compiled() -> None:
    headers = Path(sysconfig.get_path("include"), "Python.h")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    assert speedups.COMPILED or not headers.exists() or not shutil.which(compiler), (
        "src/co2/plugin/child/_speedups.c is not compiled, or has changed since: touch it, then make venv"
    )


def test_without_the_compiled_module_python_does_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    code = "from co2.plugin.child import speedups; print(speedups.COMPILED, speedups.give is speedups._give)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


STALE = """
import sys, types
module = sys.modules["co2.plugin.child._speedups"] = types.ModuleType("co2.plugin.child._speedups")
module.Level = module.Sleeper = module.Send = module.give = module.listen = None
module.SOURCE = 1
"""


def test_what_was_compiled_of_another_source_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STALE)
    code = "from co2.plugin.child import speedups as q; print(q.COMPILED, q.give is q._give, q.Level is q._Level)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True", "True"]


def test_where_the_source_has_stayed_behind_what_was_compiled_is_taken(tmp_path: Path) -> None:
    code = tmp_path / "_speedups.c"
    assert is_of(1, code)
    code.write_text("int one;")
    assert not is_of(1, code)
    assert is_of(zlib.crc32(b"int one;") >> 1, code)


# ---- send --------------------------------------------------------------------------------------------------


class Way:
    """A queue and a writer, and what came where."""

    def __init__(
        self, kind: str, *, alert: int = 4, short: int = SHORT, encode: Callable[[Any], bytes] | None = None
    ):
        level, sleeper = KINDS[kind]
        self.queue: Any = type("Lane", (level,), {})()
        self.queue.alert = alert
        way = self

        class Road(sleeper):  # type: ignore[misc,valid-type]
            def attend(self) -> None:
                way.attended += 1

        self.writer = Road()
        self.writer.asleep = False
        self.attended = 0
        self.entries: list[Any] = []
        self.placed: list[tuple[bytes, str | None]] = []
        self.others: list[Any] = []
        encode = encode or msgspec.msgpack.Encoder().encode
        place = lambda packed, channel: self.placed.append((packed, channel))  # noqa: E731
        other = self.others.append
        self.send: Any = LOOPS[kind][0](self.queue, self.entries, self.writer, encode, place, other, SMALL, short)

    @property
    def all(self) -> tuple[Any, ...]:
        return self.entries, self.placed, self.others, self.attended


def packed(message: Any) -> bytes:
    return msgspec.msgpack.encode(message)


def test_small_messages_of_the_two_common_forms_are_appended(kind: str) -> None:
    way = Way(kind)
    plain, on_channel = {"data": [1, "x", 0.5]}, {"data": 1, "channel": "a.b"}
    assert way.send(plain) is None
    assert way.send(on_channel) is None
    assert way.entries == [packed(plain), (packed(on_channel), "a.b", False)]
    assert way.all[1:] == ([], [], 0)


def test_a_small_message_is_appended_with_its_cause_and_any_other_placed_without(kind: str) -> None:
    way = Way(kind, alert=3)
    way.queue.cause, way.queue.thread = 48_209, threading.get_ident()
    way.send({"data": 1})
    way.send({"data": 1, "channel": "a.b"})
    way.queue.run = 7
    way.send({"data": 1})
    plain = {"data": 1, "cause": 48_209}
    on_channel = {"data": 1, "channel": "a.b", "cause": 48_209}
    assert way.entries == [
        packed(plain),
        (packed(on_channel), "a.b", False),
        packed({**plain, "cause": [7, 48_209]}),
    ]
    way.send({"data": 2})
    assert way.placed == [(packed({"data": 2}), None)], "the queue is full"
    del way.entries[:]
    fits = {"data": "x" * (SMALL - len(packed(plain)) - 1)}
    way.queue.run = 0
    way.send(fits)
    assert way.entries == [packed({**fits, "cause": 48_209})]
    assert len(way.entries[0]) <= SMALL
    larger = {"data": fits["data"] + "x" * (SMALL - len(way.entries[0]) + 1)}
    way.send(larger)
    assert way.placed[1:] == [(packed(larger), None)]
    way.queue.thread += 1
    way.send({"data": 3})
    assert way.entries[1:] == [packed({"data": 3})]


def test_what_is_no_map_with_room_for_a_key_stays_as_it_is(kind: str) -> None:
    for data in (b"", b"\x8f", b"\xde\x00\x10", b"packed"):
        way = Way(kind, encode=lambda _message, data=data: data)  # type: ignore[misc]
        way.queue.cause, way.queue.thread = 5, threading.get_ident()
        way.send({"data": 1})
        assert way.entries == [data]


def test_what_needs_a_longer_look_is_placed_encoded(kind: str) -> None:
    big, long = {"data": "x" * SMALL}, {"data": 1, "channel": "x" * (SHORT + 1)}
    way = Way(kind)
    way.send(big)
    way.send(long)
    assert way.placed == [(packed(big), None), (packed(long), long["channel"])]
    no_channels = Way(kind, short=-1)
    no_channels.send({"data": 1, "channel": ""})
    assert no_channels.placed == [(packed({"data": 1, "channel": ""}), "")]
    assert not way.entries and not no_channels.entries


def test_what_is_just_small_and_just_short_is_appended(kind: str) -> None:
    way = Way(kind, encode=lambda message: b"x" * message["data"])
    way.send({"data": SMALL})
    way.send({"data": SMALL, "channel": "x" * SHORT})
    assert way.entries == [b"x" * SMALL, (b"x" * SMALL, "x" * SHORT, False)]
    way.send({"data": SMALL + 1})
    assert way.placed == [(b"x" * (SMALL + 1), None)]


def test_a_full_lane_is_not_appended_to_and_one_with_room_again_is(kind: str) -> None:
    way = Way(kind, alert=2)
    for number in range(3):
        way.send({"data": number})
    assert (len(way.entries), len(way.placed)) == (2, 1)
    way.queue.alert = 0
    del way.entries[:]
    way.send({"data": 3})
    assert (len(way.entries), len(way.placed)) == (0, 2)
    way.queue.alert = 1
    way.send({"data": 4})
    assert way.entries == [packed({"data": 4})]


class Words(dict[str, Any]):
    """A dictionary of a kind of its own."""


class Text(str):
    """A text of a kind of its own."""


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"channel": "a"},
        {"data": 1, "channel": 5},
        {"data": 1, "channel": None},
        {"data": 1, "more": 2},
        {"data": 1, "channel": "a", "more": 2},
        {"data": object()},
        {"data": 1, "channel": "\ud800"},
        {"more": 1},
        Words(data=1),
        [("data", 1)],
        None,
        "data",
        {"data"},
        7,
    ],
)
def test_every_other_form_and_what_cannot_be_encoded_goes_the_other_way_as_it_is(kind: str, message: Any) -> None:
    way = Way(kind)
    way.send(message)
    assert way.others == [message]
    assert way.others[0] is message
    assert way.all == ([], [], [message], 0)


def test_a_channel_that_is_no_plain_text_goes_the_other_way_even_where_it_could_be_encoded(kind: str) -> None:
    way = Way(kind, encode=lambda _message: b"packed")
    way.send({"data": 1, "channel": Text("a")})
    assert way.all == ([], [], [{"data": 1, "channel": "a"}], 0)


def test_who_sleeps_is_called_after_the_message_is_there(kind: str) -> None:
    way = Way(kind)
    way.writer.asleep = True
    way.send({"data": 1})
    way.send({"data": 2, "channel": "a"})
    way.send({"data": "x" * SMALL})  # placed: that looks by itself
    assert (len(way.entries), way.attended) == (2, 2)


def test_a_road_of_any_class_will_do(kind: str) -> None:
    woken: list[int] = []
    writer = SimpleNamespace(asleep=True, attend=lambda: woken.append(1))
    queue: Any = KINDS[kind][0]()
    queue.alert = 10
    entries: list[Any] = []
    encode = msgspec.msgpack.Encoder().encode
    send: Any = LOOPS[kind][0](queue, entries, writer, encode, None, None, SMALL, SHORT)  # type: ignore[arg-type]
    send({"data": 1})
    assert (len(entries), woken) == (1, [1])
    del writer.asleep
    with pytest.raises(AttributeError, match="asleep"):
        send({"data": 2})


def test_errors_of_what_it_calls_come_out(kind: str) -> None:
    def fail(*_args: Any) -> None:
        raise LookupError("no")

    queue: Any = KINDS[kind][0]()
    queue.alert = 1
    writer = SimpleNamespace(asleep=True, attend=fail)
    entries: list[Any] = []
    send: Any = LOOPS[kind][0](queue, entries, writer, msgspec.msgpack.encode, fail, fail, SMALL, SHORT)
    for message in ({"data": 1}, {"data": 1}, {"more": 1}):  # attend, place, other
        with pytest.raises(LookupError, match="no"):
            send(message)
    assert len(entries) == 1


def test_an_interruption_while_encoding_is_not_taken_for_a_value_that_cannot_travel(kind: str) -> None:
    def interrupted(_message: Any) -> bytes:
        raise KeyboardInterrupt

    way = Way(kind, encode=interrupted)
    with pytest.raises(KeyboardInterrupt):
        way.send({"data": 1})
    assert way.all == ([], [], [], 0)


def test_a_message_that_changes_while_it_is_encoded_does_no_harm(kind: str) -> None:
    message: dict[str, Any] = {"data": 1, "channel": "".join(["a", ".b"])}

    def emptied(given: Any) -> bytes:
        given.clear()
        gc.collect()
        return b"packed"

    way = Way(kind, encode=emptied)
    way.send(message)
    assert way.entries == [(b"packed", "a.b", False)]


def test_it_takes_one_dictionary_by_position(kind: str) -> None:
    way = Way(kind)
    for args, kwargs in (((), {}), (({}, {}), {}), (({"data": 1},), {"more": 1}), ((), {"other": {"data": 1}})):
        with pytest.raises(TypeError):
            way.send(*args, **kwargs)
    assert way.all == ([], [], [], 0)


def test_it_goes_with_the_last_who_needs_it(kind: str) -> None:
    way = Way(kind)
    way.queue.send = way.send  # round and round
    queue = weakref.ref(way.queue)
    del way
    gc.collect()
    assert queue() is None


def test_it_lets_go_of_all_that_it_was_made_of(kind: str) -> None:
    class Part:
        def __call__(self) -> None: ...

    class Entries(list[Any]): ...

    parts: list[Any] = [type("Lane", KINDS[kind][:1], {})(), Entries(), Part(), Part(), Part(), Part()]
    held = [weakref.ref(part) for part in parts]
    send = LOOPS[kind][0](*parts, SMALL, SHORT)
    parts.clear()
    assert None not in [part() for part in held]
    del send
    assert [part() for part in held] == [None] * 6


def test_who_calls_back_weakly_can_hold_it_weakly(kind: str) -> None:
    way = Way(kind)
    gone: list[Any] = []
    held = weakref.ref(way.send, gone.append)
    assert held() is way.send
    del way.send
    gc.collect()
    assert (held(), gone) == (None, [held])


@ONLY_IN_C
def test_what_makes_no_sense_is_refused_where_it_is_made() -> None:
    make: Any = speedups.make_fast_send
    queue = speedups.Level()
    with pytest.raises(TypeError):
        make(SimpleNamespace(alert=1), [], None, None, None, None, 1, 1)
    with pytest.raises(TypeError):
        make(queue, (), None, None, None, None, 1, 1)
    with pytest.raises(TypeError):
        make(queue, [])


# Few letters: hypothesis makes a table of all of them the first time, and then calls the test too slow.
TEXTS = st.text("ab.*é€😀\ud800", max_size=50)
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, st.lists, max_leaves=5)
MESSAGES = st.dictionaries(st.sampled_from(["data", "channel", "host_id", "more"]), VALUES)


CAUSES = st.sampled_from([0, 1, 127, 128, 48_209, 2**40, 2**63 - 1])
RUNS = st.sampled_from([0, 1, 2**63 - 1])


@given(
    st.lists(MESSAGES, max_size=8),
    st.integers(0, 5),
    st.sampled_from([-1, 0, SHORT]),
    st.booleans(),
    st.tuples(CAUSES, RUNS, st.booleans()),
)
def test_any_messages_end_in_the_same_places(
    messages: list[Any], alert: int, short: int, asleep: bool, inside: tuple[int, int, bool]
) -> None:
    ways = [Way(kind, alert=alert, short=short) for kind in LOOPS]
    for way in ways:
        way.writer.asleep = asleep
        way.queue.cause, way.queue.run, is_here = inside
        way.queue.thread = threading.get_ident() if is_here else 1
        for message in messages:
            way.send(message)
    assert ways[0].all == ways[1].all


class Unclear:
    """Neither true nor false."""

    def __bool__(self) -> bool:
        raise Failing("unclear")


class Failing(Exception):
    """What a plugin raises."""


class Interrupted(BaseException):
    """What somebody throws into its thread."""


# ---- give --------------------------------------------------------------------------------------------------


class Plugin:
    """Receives, and does what a test wants at some message."""

    def __init__(self, kind: str) -> None:
        self.words = memoryview(array("Q", [0] * 3))
        self.jobs: deque[Any] = deque()
        self.taken: list[Any] = []
        self.at: dict[int, Callable[[], Any]] = {}
        self._give = LOOPS[kind][1]

    def receive(self, message: Any) -> Any:
        self.taken.append((message["data"], self.words[1]))
        return self.at.get(message["data"], lambda: None)()

    def give(
        self, messages: list[Any], at: int = 0, wants: Any = None, index: int = 1, end: int | None = None
    ) -> tuple[int, Any]:
        return self.give_list([*messages], at, wants, index, len(messages) if end is None else end)

    def give_list(self, messages: list[Any], at: int, wants: Any, index: int, end: int) -> tuple[int, Any]:
        """Give a list that may change."""
        words, jobs, receive = self.words, self.jobs, self.receive
        return self._give(messages, at, end, words, index, 21, jobs, wants, receive, "a@b:1", ADDRESS)


@pytest.fixture
def it(kind: str) -> Plugin:
    return Plugin(kind)


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"data": number} for number in range(count)]


def test_each_message_comes_with_its_envelope_while_the_word_says_that_it_is_in_hand(it: Plugin) -> None:
    messages = [*numbered(3), {"data": 3, "host_id": "evil", "client_address": "evil", "more": 1}]
    assert it.give(messages) == (4, None)
    assert it.taken == [(0, 21), (1, 23), (2, 25), (3, 27)]
    assert list(it.words) == [0, 27, 0]
    assert messages[0] == {"data": 0, "host_id": "a@b:1", "client_address": ADDRESS}
    assert messages[3] == {"data": 3, "host_id": "a@b:1", "client_address": ADDRESS, "more": 1}
    assert it.give(messages, 4) == (4, None)
    assert it.give([]) == (0, None)


def test_what_is_returned_comes_back_before_the_next_message(it: Plugin) -> None:
    result = object()
    it.at[1] = lambda: result
    assert it.give(numbered(3)) == (2, result)
    assert it.words[1] == 23
    assert it.give(numbered(3), 2) == (3, None)
    it.at[0] = lambda: 0  # not None either
    assert it.give(numbered(1)) == (1, 0)


def test_an_error_comes_out_and_the_word_says_where(it: Plugin) -> None:
    def fail() -> None:
        raise SystemExit(3)

    it.at[1] = fail
    with pytest.raises(SystemExit):
        it.give(numbered(3))
    assert it.words[1] == 23
    assert it.give(numbered(3), 2) == (3, None)
    assert [number for number, _word in it.taken] == [0, 1, 2]


def test_jobs_go_before_the_next_message(it: Plugin) -> None:
    it.at[1] = lambda: it.jobs.append("job")
    assert it.give(numbered(4)) == (2, None)
    assert it.give(numbered(4), 2) == (2, None)
    it.jobs.clear()
    assert it.give(numbered(4), 2) == (4, None)
    assert [number for number, _word in it.taken] == [0, 1, 2, 3]


def test_only_what_is_wanted_is_given(it: Plugin) -> None:
    assert it.give(numbered(6), wants=lambda message: message["data"] % 3 == 1) == (6, None)
    assert it.taken == [(1, 23), (4, 29)]

    def fail(message: Any) -> bool:
        return bool(1 // (2 - message["data"]))

    with pytest.raises(ZeroDivisionError):
        it.give(numbered(6), wants=fail)
    assert it.words[1] == 25


def test_an_answer_that_is_neither_true_nor_false_raises_its_own_error(it: Plugin) -> None:
    with pytest.raises(Failing, match="unclear"):
        it.give(numbered(2), wants=lambda message: Unclear())
    assert (it.taken, it.words[1]) == ([], 21)


def test_a_dropped_message_is_passed_over_and_one_that_cannot_be_read_raises_its_own_error(it: Plugin) -> None:
    messages: list[Any] = [None, {"data": 1}, None, Unreadable(RecursionError("too deep")), {"data": 4}]
    with pytest.raises(RecursionError, match="too deep"):
        it.give(messages, wants=lambda message: True)
    assert it.taken == [(1, 23)]
    assert it.words[1] == 27
    assert it.give(messages, 4) == (5, None)
    assert it.give([None, None]) == (2, None)


def test_what_is_no_dictionary_raises(it: Plugin) -> None:
    with pytest.raises(TypeError):
        it.give([5])
    assert it.words[1] == 21


def test_a_list_that_shrinks_meanwhile_does_no_harm(it: Plugin) -> None:
    messages = numbered(3)
    it.at[1] = messages.clear
    with pytest.raises(IndexError):
        it.give_list(messages, 0, None, 1, 3)
    assert [number for number, _word in it.taken] == [0, 1]


def test_a_stretch_in_the_middle_is_given(it: Plugin) -> None:
    assert it.give(numbered(9), 2, end=4) == (4, None)
    assert it.taken == [(2, 25), (3, 27)]
    assert it.give(numbered(9), 4, end=4) == (4, None)
    with pytest.raises(IndexError):
        it.give(numbered(1), 0, end=2)


class Thing:
    """Something that can be watched."""


@ONLY_IN_C
def test_what_was_given_is_let_go_at_once() -> None:
    things: list[weakref.ref[Thing]] = []
    alive: list[int] = []

    def receive(message: Any) -> None:
        things.append(weakref.ref(message["data"]))
        del message
        alive.append(sum(thing() is not None for thing in things))

    messages = [{"data": Thing()} for _ in range(4)]
    words = memoryview(array("Q", [0]))
    speedups.give(messages, 0, 4, words, 0, 1, (), None, receive, "a@b:1", ADDRESS)
    assert alive == [1, 1, 1, 1]
    assert messages == [None] * 4


GIVEN = st.sampled_from(["message", "message", "message", "dropped", "unreadable", "no dictionary"])
DOES = st.sampled_from(
    ["nothing"] * 4 + ["result", "false", "fails", "interrupted", "job", "shrinks", "unwanted", "wants", "unclear"]
)


class Story:
    """What becomes of a list of messages, in the hands of who goes on after whatever comes."""

    def __init__(self, kind: str, story: list[tuple[str, str]], interests: bool) -> None:
        self.it = Plugin(kind)
        self.does = [does for _given, does in story]
        self.interests = interests
        self.messages = [self._message(number, given) for number, (given, _does) in enumerate(story)]
        self.events: list[Any] = []
        self.it.receive = self._receive  # type: ignore[method-assign]

    @staticmethod
    def _message(number: int, given: str) -> Any:
        if given == "message":
            return {"data": number, "host_id": "evil"} if number % 2 else {"data": number}
        return {"dropped": None, "unreadable": Unreadable(ValueError(number)), "no dictionary": number}[given]

    def _wants(self, message: Any) -> Any:
        self.events.append(("wants", message["data"], self.it.words[1]))
        does = self.does[message["data"]]
        if does == "wants":
            raise Failing(message["data"])
        return {"unwanted": "", "unclear": Unclear()}.get(does, "yes")

    def _receive(self, message: Any) -> Any:
        number = message["data"]
        self.events.append(("receive", list(message.items()), self.it.words[1]))
        match self.does[number]:
            case "result":
                return [number]
            case "false":
                return 0
            case "fails":
                raise Failing(number)
            case "interrupted":
                raise Interrupted(number)
            case "job":
                self.it.jobs.append(number)
            case "shrinks":
                del self.messages[number:]
        return None

    def live(self, at: int) -> list[Any]:
        while at < len(self.messages):
            try:
                wants = self._wants if self.interests else None
                at, result = self.it.give_list(self.messages, at, wants, 1, len(self.messages))
                self.events.append(("given", at, result, list(self.it.words)))
            except IndexError:  # from a list that has become shorter
                self.events.append(("no more", list(self.it.words)))
                break
            except BaseException as error:
                self.events.append(("raised", type(error), error.args, list(self.it.words)))
                at = int(self.it.words[1] - 21) // 2 + 1
            self.it.jobs.clear()
        return self.events


@given(st.lists(st.tuples(GIVEN, DOES), max_size=12), st.integers(0, 3), st.booleans(), st.booleans())
def test_any_story_goes_the_same_way(story: list[tuple[str, str]], at: int, interests: bool, job: bool) -> None:
    stories = [Story(kind, story, interests) for kind in LOOPS]
    for one in stories:
        one.it.jobs.extend([1] * job)
    compiled, plain = (one.live(at) for one in stories)
    assert compiled == plain


@pytest.mark.parametrize("index", [-4, 3, 2**40])
def test_there_is_no_other_memory_behind_the_words(it: Plugin, index: int) -> None:
    with pytest.raises((ValueError, IndexError)):
        it.give(numbered(1), index=index)
    assert it.taken == []
    assert list(it.words) == [0, 0, 0]


@ONLY_IN_C
def test_words_of_another_size_or_that_are_read_only_are_refused() -> None:
    it = Plugin("compiled")
    with pytest.raises(ValueError):
        it.give(numbered(2), -1)
    for words in (
        memoryview(bytearray(24)),
        memoryview(bytes(24)).cast("Q"),
        memoryview(array("Q", [0] * 6))[::2],
    ):
        it.words = words
        with pytest.raises((ValueError, BufferError, TypeError)):
            it.give(numbered(1))
    assert it.taken == []


def test_nothing_is_kept() -> None:
    for kind in LOOPS:
        it, way = Plugin(kind), Way(kind, alert=10**9)
        it.at = {1: lambda: "result", 2: lambda: 1 // 0}

        def once(it: Plugin = it, way: Way = way) -> None:
            for message in numbered(3):
                way.send(message)
                way.send({**message, "channel": "a"})
                way.send({**message, "more": 1})
                way.send({"data": "x" * SMALL})
            messages: list[Any] = [None, *numbered(2), Unreadable(ValueError()), *numbered(4)]
            at = 0
            while at < len(messages):
                try:
                    at, _ = it.give(messages, at, lambda message: message["data"] != 3)
                except (ValueError, ZeroDivisionError):
                    at = int(it.words[1] - 21) // 2 + 1
            for kept in (it.taken, way.entries, way.placed, way.others):
                kept.clear()

        for _ in range(20):
            once()
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(300):
            once()
        gc.collect()
        assert sys.getallocatedblocks() - before < 100, kind


def test_no_reference_is_kept(kind: str) -> None:
    it, way = Plugin(kind), Way(kind)
    channel = "".join(["a", ".b"])

    class Road:
        attend = staticmethod(lambda: None)
        asleep = property(lambda self: [1])

    send: Any = LOOPS[kind][0](way.queue, way.entries, Road(), packed, None, None, SMALL, SHORT)  # type: ignore[arg-type]

    def once() -> None:
        message = {"data": 1, "channel": channel}
        for one in (send, way.send):
            one(message)
            way.entries.clear()
        it.give(numbered(5), wants=lambda message: [1])
        it.taken.clear()

    def kept() -> tuple[int, ...]:
        held = (channel, way.entries, way.queue, it.words, it.jobs, "host_id", ADDRESS, None, True)
        return tuple(map(sys.getrefcount, held))

    once()
    gc.collect()
    before, blocks = kept(), sys.getallocatedblocks()
    for _ in range(200):
        once()
    gc.collect()
    assert all(abs(more - less) < 100 for more, less in zip(kept(), before, strict=True)), (before, kept())
    assert sys.getallocatedblocks() - blocks < 100
    it.words.release()  # nobody looks into them any more


@pytest.fixture(autouse=True)
def _no_garbage() -> Iterator[None]:
    yield
    assert not gc.garbage


# ---- listen ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["compiled", "plain"])
def listen(request: pytest.FixtureRequest) -> Any:
    return speedups.listen if request.param == "compiled" else speedups._listen


def test_what_comes_is_read(listen: Any) -> None:
    ours, theirs = socket.socketpair()
    wakeup, ring = socket.socketpair()
    buffer = memoryview(bytearray(8))
    with ours, theirs, wakeup, ring:
        theirs.send(b"ham")
        assert listen(ours.fileno(), wakeup.fileno(), buffer) == 3
        assert bytes(buffer[:3]) == b"ham"
        theirs.send(b"more than there is room for")
        assert listen(ours.fileno(), wakeup.fileno(), buffer) == 8
        ring.send(b"!")
        assert listen(ours.fileno(), wakeup.fileno(), buffer) == 8, "the wakeup waits until nothing comes"


def test_what_poll_said_was_there_and_is_not_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    wakeup, ring = socket.socketpair()
    with ours, theirs, wakeup, ring:
        ours.setblocking(False)
        theirs.send(b"ham")
        read = os.readv
        monkeypatch.setattr(os, "readv", lambda data, into: read(data, into) and read(data, into))
        assert speedups._listen(ours.fileno(), wakeup.fileno(), memoryview(bytearray(8))) == -1


def test_a_bell_is_heard_and_not_read(listen: Any) -> None:
    ours, theirs = socket.socketpair()
    wakeup, ring = socket.socketpair()
    with ours, theirs, wakeup, ring:
        ring.send(b"!")
        for _ in range(2):
            assert listen(ours.fileno(), wakeup.fileno(), memoryview(bytearray(8))) == -1
        assert wakeup.recv(8) == b"!"


def test_the_end_is_nothing_and_a_broken_socket_an_error(listen: Any) -> None:
    ours, theirs = socket.socketpair()
    wakeup, ring = socket.socketpair()
    with ours, wakeup, ring:
        theirs.close()
        assert listen(ours.fileno(), wakeup.fileno(), memoryview(bytearray(8))) == 0
        closed = os.dup(ours.fileno())
        os.close(closed)
        with pytest.raises(OSError):
            listen(closed, wakeup.fileno(), memoryview(bytearray(8)))
