"""Messages pass a relay plugin: what goes on, what does not, and what it may not do."""

from array import array
from collections import OrderedDict
from typing import Any

import msgspec
import pytest

from co2 import plugin
from co2.plugin.child import relay_filter
from co2.plugin.child.relay_filter import RelayFilter, why_not
from co2.protocol.wire.batch import DROPPED, MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, make_batch, split_batch
from co2.protocol.wire.plugin_frames.transit import MAX_RETURNED, Transit, Transited
from co2.values import pack

HOST, ADDRESS = "ab@10.0.0.1:2004", ("10.0.0.1", 5)


class Ground:
    """Stands where the actor does."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.stumbled: list[BaseException] = []

    def finished(self, result: Any) -> Any:
        try:
            result.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("it waits")

    def complain(self, what: str, error: BaseException) -> None:
        self.complaints.append(f"{what}: {error!r}")

    def stumble(self, error: BaseException) -> None:
        self.stumbled.append(error)


class Carried:
    """A plugin whose ``relay`` is a function."""

    def __init__(self, relay: Any, channels: tuple[str, ...] = (), *, on_trial: bool = False) -> None:
        kind = type("X_Filter", (plugin.Co2RelayPlugin,), {})
        self.actor = Ground()
        self.words = memoryview(array("Q", [0] * 4))
        self.relay_filter = RelayFilter(self.actor, channels, self.words, 1)
        self.relay_filter.start(on_trial=on_trial)
        self.plugin = kind({})
        self.plugin.relay = relay

    def take(self, *messages: Any) -> Transited | None:
        packed = [message if isinstance(message, bytes) else pack(message) for message in messages]
        return self.relay_filter.take(self.plugin, Transit(7, "p.m.X_Filter", HOST, ADDRESS, make_batch(packed)))

    def goes_on(self, *messages: Any) -> list[Any]:
        answer = self.take(*messages)
        assert answer is not None
        assert answer.batch
        return [msgspec.msgpack.decode(one) for one in split_batch(answer.batch)]


def counts(answer: Transited | None) -> tuple[int, int, int]:
    assert answer is not None
    return answer.dropped, answer.changed, answer.failed


def test_it_gets_the_sender_with_each_message() -> None:
    got: list[Any] = []
    carried = Carried(lambda message: got.append(dict(message)) or message)
    answer = carried.take({"data": 1, "key": "x"}, {"data": 2})
    rest = {"host_id": HOST, "client_address": ADDRESS}
    assert got == [{"data": 1, "key": "x", **rest}, {"data": 2, **rest}]
    came = make_batch([pack({"data": 1, "key": "x"}), pack({"data": 2})])
    assert answer == Transited(7, came, [""])


def test_what_goes_on_as_it_came_comes_back_only_where_it_is_small() -> None:
    carried = Carried(lambda message: message)
    for size, comes_back in ((MAX_RETURNED // 2, True), (MAX_RETURNED, False)):
        answer = carried.take({"data": bytes(size)})
        assert (bool(answer.batch), counts(answer)) == (comes_back, (0, 0, 0))


def test_what_it_drops_leaves_its_place_empty() -> None:
    carried = Carried(lambda message: message if message["data"] % 2 else None)
    assert carried.goes_on({"data": 0}, {"data": 1}, {"data": 2}) == [None, {"data": 1}, None]
    answer = carried.take({"data": 0, "channel": "a"}, {"data": 2}, DROPPED)
    assert (counts(answer), answer.channels) == ((2, 0, 0), [])


def test_what_it_changes_goes_on_changed_and_with_its_channels() -> None:
    carried = Carried(lambda message: {**message, "data": -message["data"], "channel": f"c{message['data']}"})
    answer = carried.take({"data": 1}, {"data": 2, "channel": "old"})
    assert (counts(answer), answer.channels) == ((0, 2, 0), ["c1", "c2"])
    assert carried.goes_on({"data": 1}) == [{"data": -1, "channel": "c1"}]


def test_a_message_changed_in_its_place_counts_as_changed() -> None:
    def relay(message: Any) -> Any:
        message["data"].append(4)
        return message

    assert Carried(relay).goes_on({"data": [1]}) == [{"data": [1, 4]}]


def test_what_it_keeps_keeps_its_sender() -> None:
    kept: list[Any] = []
    carried = Carried(lambda message: kept.append(message) or message)
    carried.take({"data": 1})
    assert kept == [{"data": 1, "host_id": HOST, "client_address": ADDRESS}]


@pytest.mark.parametrize(
    ("given", "why"),
    [(None, ""), (True, ""), ("", ""), (False, "it was refused"), ("no", "no"), ("x" * 10_000, "x" * 400)],
)
def test_a_text_or_false_refuses(given: Any, why: str) -> None:
    assert why_not(given) == why


def test_a_refusal_can_always_be_told() -> None:
    assert why_not("\udcff") == "\\udcff"


def test_it_cannot_say_who_sent_it() -> None:
    other = {"data": 1, "host_id": "no@1.1.1.1:1", "client_address": ("1.1.1.1", 1)}
    assert Carried(lambda message: other).goes_on({"data": 0}) == [{"data": 1}]


@pytest.mark.parametrize(
    "given",
    [
        7,
        "text",
        [],
        {},
        {"dat": 1},
        {"data": object()},
        {"data": 1, "channel": 5},
        {"data": 1, "channel": "x" * 300},
        {"data": 1, 2: 3},
        {"data": b"x" * (1024 * 1024 + 1)},
    ],
)
def test_what_cannot_go_on_makes_the_message_go_on_as_it_came(given: Any) -> None:
    carried = Carried(lambda message: given)
    answer = carried.take({"data": "came", "channel": "its.own"})
    assert (answer.batch, counts(answer)) == (
        make_batch([pack({"data": "came", "channel": "its.own"})]),
        (0, 0, 1),
    )
    (complaint,) = carried.actor.complaints
    assert "relay failed, so the message passes unchanged" in complaint
    assert "came" in complaint


def test_an_error_costs_its_own_message_only() -> None:
    def relay(message: Any) -> Any:
        if message["data"] == 1:
            message["data"] = "half done"
            raise RuntimeError("no")
        return None

    carried = Carried(relay)
    assert carried.goes_on({"data": 0}, {"data": 1, "channel": "a"}, {"data": 2}) == [
        None,
        {"data": 1, "channel": "a"},
        None,
    ]


def test_only_the_channels_it_wants_come_to_it() -> None:
    got: list[Any] = []
    carried = Carried(lambda message: got.append(message["data"]), ("stage.*",))
    on = carried.goes_on({"data": 1}, {"data": 2, "channel": "stage.left"}, {"data": 3, "channel": "lab"})
    assert got == [2]
    assert on == [{"data": 1}, None, {"data": 3, "channel": "lab"}]


def test_what_was_dropped_before_and_what_cannot_be_read_is_let_be() -> None:
    got: list[Any] = []
    carried = Carried(lambda message: got.append(message["data"]))
    deep = b"\x81\xa4data" + b"\x91" * 100_000 + b"\xc0"
    answer = carried.take(DROPPED, {"data": 1}, deep)
    assert got == [1]
    assert split_batch(answer.batch) == [DROPPED, DROPPED, deep]
    assert answer.channels == [""]


def test_it_may_be_async() -> None:
    async def relay(message: Any) -> Any:
        return None if message["data"] else message

    assert Carried(relay).goes_on({"data": 0}, {"data": 1}) == [{"data": 0}, None]


def test_a_frame_does_not_grow_beyond_its_bounds() -> None:
    """Messages that find no room go on as they came, and the log says so."""
    size = MAX_BATCH_BYTES // MAX_BATCH_MESSAGES - 20
    messages = [{"data": b"x" * size}] * MAX_BATCH_MESSAGES
    carried = Carried(lambda message: {"data": message["data"] + b"y" * 100})
    answer = carried.take(*messages)
    assert len(answer.batch) <= MAX_BATCH_BYTES + 5
    dropped, changed, failed = counts(answer)
    assert dropped == 0
    assert changed + failed == MAX_BATCH_MESSAGES
    assert changed > 0
    assert failed > 0
    lengths = [len(msgspec.msgpack.decode(one)["data"]) for one in split_batch(answer.batch)]
    assert sorted(set(lengths)) == [size, size + 100]


def test_a_word_says_which_message_it_is_in() -> None:
    words: list[int] = []
    carried = Carried(lambda message: words.append(carried.words[1]) or message)
    carried.take({"data": 1}, {"data": 2})
    carried.take({"data": 3})
    assert all(word % 2 for word in words)
    assert sorted(set(words)) == words
    assert carried.words[1] % 2 == 0
    assert carried.words[1] > words[-1]


def test_on_trial_the_first_failure_is_for_others_to_decide() -> None:
    def relay(message: Any) -> Any:
        raise RuntimeError("new code")

    carried = Carried(relay, on_trial=True)
    assert carried.take({"data": 1}) is None
    assert [str(error) for error in carried.actor.stumbled] == ["new code"]
    assert counts(carried.take({"data": 1})) == (0, 0, 1)  # it was told to go on


def test_on_trial_a_message_that_it_does_not_want_proves_nothing() -> None:
    def relay(message: Any) -> Any:
        raise RuntimeError("new code")

    carried = Carried(relay, ("a",), on_trial=True)
    assert carried.take({"data": 1}) is not None
    assert carried.take({"data": 1, "channel": "a"}) is None


def test_one_message_that_is_accepted_ends_the_trial() -> None:
    def relay(message: Any) -> Any:
        if message["data"]:
            raise RuntimeError("new code")
        return message

    carried = Carried(relay, on_trial=True)
    assert counts(carried.take({"data": 0}, {"data": 1})) == (0, 0, 1)
    assert carried.actor.stumbled == []


def test_the_channels_of_a_frame_are_those_of_all_that_goes_on() -> None:
    def relay(message: Any) -> Any:
        raise RuntimeError("no")

    answer = Carried(relay, ("failing",)).take({"data": 1, "channel": "failing"}, {"data": 2, "channel": "other"})
    assert answer is not None
    assert sorted(answer.channels or []) == ["failing", "other"]


@pytest.mark.parametrize(("spare", "done"), [(0, (0, 2, 0)), (-1, (0, 1, 1)), (-4, (0, 0, 2))])
def test_what_is_changed_may_grow_up_to_the_bound_of_its_frame(
    monkeypatch: pytest.MonkeyPatch, spare: int, done: tuple[int, int, int]
) -> None:
    came = [{"data": "x"}, {"data": "y"}]
    monkeypatch.setattr(relay_filter, "MAX_BATCH_BYTES", sum(len(pack(one)) for one in came) + 3 + 3 + spare)
    carried = Carried(lambda message: {"data": 4 * message["data"]})
    assert counts(carried.take(*came)) == done


@pytest.mark.parametrize(("spare", "comes_back"), [(0, True), (1, False)])
def test_a_frame_comes_back_up_to_a_size(spare: int, comes_back: bool) -> None:
    size = MAX_RETURNED - len(make_batch([pack({"data": bytes(MAX_RETURNED)})])) + MAX_RETURNED
    answer = Carried(lambda message: message).take({"data": bytes(size + spare)})
    assert answer is not None
    assert bool(answer.batch) == comes_back


def test_what_is_a_dictionary_of_another_kind_goes_on() -> None:
    assert Carried(lambda message: OrderedDict(data=5)).goes_on({"data": 1}) == [{"data": 5}]
