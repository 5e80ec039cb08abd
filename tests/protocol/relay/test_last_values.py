"""The index of last values: what it keeps, what it drops, what it answers."""

from typing import Any

import msgspec
import pytest

from co2.errors import BadRequest
from co2.protocol.relay import last_values as module
from co2.protocol.relay.last_values import Answer, Head, LastValues, answer
from co2.protocol.relay.log import Entry
from co2.protocol.wire.batch import DROPPED, make_batch

HERE = "192.168.1.7"


class Log:
    """Entries with the messages that are given, one position each."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.forgotten: dict[str, int] = {}
        self.values = LastValues(lambda: self.forgotten)
        self.last = 1
        self.reads: list[int] = []

    def add(
        self, *messages: dict[str, Any] | None, ip: str = HERE, at: float = 0.0, named: bool = True,
        batch: bytes = b"", channels: tuple[str, ...] = (),
    ) -> Entry:  # fmt: skip
        batch = batch or make_batch([DROPPED if one is None else msgspec.msgpack.encode(one) for one in messages])
        found = {str(one.get("channel", "")) for one in messages if one is not None} | set(channels)
        names = tuple(sorted(found)) if named else None
        entry = Entry(
            self.last + 1, max(1, len(messages)), "o", f"o@{ip}:1", (ip, 1), 1, self.last, "p", "p.m.X_P", names,
            0, batch, at=at,
        )  # fmt: skip
        self.last = entry.end
        self.entries[entry.position] = entry
        self.values.note([entry])
        return entry

    def read(self, position: int) -> Entry | None:
        self.reads.append(position)
        return self.entries.get(position)

    def ask(self, *patterns: str, now: float = 0.0) -> Answer:
        found = answer(self.values.ask(patterns or (">",), self.last), self.read, now)
        self.values.learn(found)
        return found

    def data(self, *patterns: str, now: float = 0.0) -> dict[str, Any]:
        return {
            one.channel: msgspec.msgpack.decode(one.packed)["data"] for one in self.ask(*patterns, now=now).values
        }


@pytest.fixture
def log() -> Log:
    return Log()


def test_the_last_message_of_each_channel_counts(log: Log) -> None:
    log.add({"channel": "a", "data": 1})
    log.add({"channel": "b", "data": 2})
    log.add({"channel": "a", "data": 3})
    assert log.data() == {"a": 3, "b": 2}
    assert [one.position for one in log.ask().values] == [3, 4]  # oldest first


def test_of_one_frame_the_last_message_counts_also_behind_one_that_was_dropped(log: Log) -> None:
    log.add({"channel": "a", "data": 1}, {"channel": "a", "data": 2}, {"channel": "b", "data": 3}, None)
    assert log.data() == {"a": 2, "b": 3}
    assert {one.channel: one.position for one in log.ask().values} == {"a": 3, "b": 4}


def test_no_channel_has_no_last_value(log: Log) -> None:
    log.add({"data": 1})
    log.add({"channel": "", "data": 1}, named=False)
    assert not log.data()
    assert not len(log.values)


def test_only_wanted_channels_are_read(log: Log) -> None:
    log.add({"channel": "stage.a", "data": 1})
    log.add({"channel": "lab", "data": 2})
    assert log.data("stage.*") == {"stage.a": 1}
    assert log.data("lab", "nobody") == {"lab": 2}
    assert log.reads == [2, 3]


def test_a_frame_that_names_no_channels_is_looked_through_once(log: Log) -> None:
    log.add({"channel": "a", "data": 0})
    many = log.add(*({"channel": f"c.{n % 40}", "data": n} for n in range(80)), named=False)
    log.add({"channel": "c.7", "data": "later"})
    found = log.data("c.>")
    assert found == {f"c.{n}": 40 + n for n in range(40)} | {"c.7": "later"}
    assert log.reads.count(many.position) == 2  # for the channels, then for the messages
    log.reads.clear()
    assert log.data("a") == {"a": 0}
    assert log.reads == [2]


def test_a_question_holds_for_its_position_whatever_comes_behind_it(log: Log) -> None:
    log.add({"channel": "a", "data": 1})
    question = log.values.ask([">"], log.last)
    log.add({"channel": "a", "data": 2})
    log.add({"channel": "b", "data": 2}, named=False)
    found = answer(question, log.read, 0.0)
    assert [(one.channel, one.position) for one in found.values] == [("a", 2)]
    log.values.learn(found)
    assert log.data() == {"a": 2, "b": 2}


def test_what_is_learned_late_does_not_hide_what_came_meanwhile(log: Log) -> None:
    log.add({"channel": "a", "data": 1}, named=False)
    question = log.values.ask([">"], log.last)
    log.add({"channel": "a", "data": 2})
    log.values.learn(answer(question, log.read, 0.0))
    assert log.data() == {"a": 2}


@pytest.mark.parametrize("age", [4.9, 5.0, 100.0])
def test_an_expired_message_is_no_last_value_nor_is_the_one_before_it(log: Log, age: float) -> None:
    log.add({"channel": "a", "data": 1}, at=1_000.0)
    log.add({"channel": "a", "data": 2, "ttl": 5}, at=1_000.0)
    assert log.data(now=1_000.0 + age) == ({"a": 2} if age < 5 else {})


def test_a_ttl_of_0_empties_a_channel_at_once_and_the_next_message_fills_it(log: Log) -> None:
    log.add({"channel": "a", "data": 1}, at=1_000.0)
    log.add({"channel": "a", "data": None, "ttl": 0}, at=1_000.0)
    assert not log.data(now=1_000.0)
    log.add({"channel": "a", "data": 3}, at=1_000.0)
    assert log.data(now=1_000.0) == {"a": 3}


@pytest.mark.parametrize("ttl", ["5", None, True, float("nan"), [5], -1])
def test_a_ttl_that_is_no_number_of_seconds_has_no_effect(log: Log, ttl: object) -> None:
    log.add({"channel": "a", "data": 1, "ttl": ttl}, at=1_000.0)
    assert log.data(now=2_000.0) == {"a": 1}


def test_of_a_log_that_does_not_know_times_nothing_with_a_ttl_is_a_last_value(log: Log) -> None:
    log.add({"channel": "a", "data": 1})
    log.add({"channel": "b", "data": 1, "ttl": 10**9})
    found = log.ask(now=1_000.0)
    assert [(one.channel, one.age) for one in found.values] == [("a", None)]


def test_age_is_told_and_is_never_negative(log: Log) -> None:
    log.add({"channel": "a", "data": 1}, at=1_000.0)
    assert [one.age for one in log.ask(now=1_002.5).values] == [2.5]
    assert [one.age for one in log.ask(now=900.0).values] == [0.0]  # the clock was set back


def test_what_is_forgotten_is_gone_also_in_frames_that_nobody_has_looked_through(log: Log) -> None:
    log.add({"channel": "a", "data": 1}, {"channel": "b", "data": 1})
    log.add({"channel": "a", "data": 2}, named=False)
    log.forgotten["a"] = log.last
    log.values.forget("a")
    assert log.data() == {"b": 1}
    log.add({"channel": "a", "data": 3})
    assert log.data() == {"a": 3, "b": 1}


def test_what_the_log_no_longer_has_leaves_the_index(log: Log) -> None:
    entry = log.add({"channel": "a", "data": 1})
    log.add({"channel": "b", "data": 1})
    del log.entries[entry.position]
    found = log.ask()
    assert [one.channel for one in found.values] == ["b"]
    assert not found.left_out
    assert len(log.values) == 1


def test_a_channel_that_its_frame_names_in_vain_has_no_value(log: Log) -> None:
    log.add({"channel": "a", "data": 1})
    log.add({"channel": "b", "data": 1}, channels=("a",))
    assert log.data() == {"b": 1}


@pytest.mark.parametrize(
    "batch", [b"\xdd\x00\x00\x00\x01\xc1", b"\xdd\x00\x00\x00\x02\x80", make_batch([b"\x93\x01\x02\x03"])]
)
@pytest.mark.parametrize("named", [True, False])
def test_unreadable_frames_hide_only_what_they_name(log: Log, batch: bytes, named: bool) -> None:
    log.add({"channel": "a", "data": 1})
    log.add({"channel": "b", "data": 1})
    log.add(batch=batch, channels=("a",), named=named)
    assert log.data() == ({"b": 1} if named else {"a": 1, "b": 1})


def test_messages_with_other_keys_than_text_are_read_as_their_receivers_read_them(log: Log) -> None:
    log.add({"channel": "a", "data": {1: 2}, "x": b"\xff", "deep": [[[{}]]]})
    log.add({"channel": ["a"], "data": 1}, {"channel": 7, "data": 2})
    assert log.data() == {"a": {1: 2}}


# ---- limits ------------------------------------------------------------------------------------------------


def test_a_sender_with_endless_channels_drops_its_own_and_is_told_once(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OF_SOURCE", 10)
    told: list[str] = []
    log.values.overfull = told.append
    log.add({"channel": "fader", "data": 1}, ip="10.0.0.1")
    for n in range(50):
        log.add({"channel": f"c{n}", "data": n}, ip="10.0.0.66")
    assert len(log.values) == 11
    assert log.values.dropped == 40
    assert told == ["10.0.0.66"]
    assert log.data() == {"fader": 1} | {f"c{n}": n for n in range(40, 50)}


def test_a_channel_in_use_outlives_those_that_are_not(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OF_SOURCE", 10)
    monkeypatch.setattr(module, "FOLD_AT", 0)
    for n in range(50):
        log.add({"channel": f"c{n}", "data": n})
        log.add({"channel": "used", "data": n})
    assert log.data("used") == {"used": 49}


def test_if_all_is_full_the_source_with_most_gives_way(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VALUES", 20)
    told: list[str] = []
    log.values.overfull = told.append
    log.add({"channel": "fader", "data": 1}, ip="10.0.0.1")
    for n in range(50):
        log.add({"channel": f"c{n}", "data": n}, ip=f"10.0.{n % 2}.66")
    assert len(log.values) == 20
    assert log.data("fader") == {"fader": 1}
    assert told == [""]


def test_frames_without_names_are_given_up_beyond_the_limit(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNREAD", 1_000)
    for n in range(10):
        log.add({"channel": f"c{n}", "data": "x" * 300}, named=False)
    assert set(log.data()) == {"c7", "c8", "c9"}


@pytest.mark.parametrize("limit", ["MAX_ANSWER_BYTES", "MAX_READ"])
def test_an_answer_is_limited_and_leaves_out_what_was_sent_longest_ago(
    log: Log, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, limit, 1_000)
    for n in range(10):
        log.add({"channel": f"c{n}", "data": "x" * 300})
    found = log.ask()
    assert {one.channel for one in found.values} <= {"c6", "c7", "c8", "c9"}
    assert len(found.values) >= 2
    assert found.left_out == 10 - len(found.values)
    assert len(log.values) == 10  # it is only this answer


def test_noting_costs_one_entry_of_a_table_until_there_are_many(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLD_AT", 8)
    for n in range(100):
        log.add({"channel": f"c{n}", "data": n})
    assert len(log.values._noted) <= 8
    assert log.data() == {f"c{n}": n for n in range(100)}


def test_too_many_wild_patterns_ask_for_everything_and_wrong_ones_are_refused(log: Log) -> None:
    log.add({"channel": "a", "data": 1})
    assert log.data(*(f"c{n}.*" for n in range(module.MAX_WILDCARDS + 1))) == {"a": 1}
    with pytest.raises(BadRequest, match="not a channel pattern"):
        log.values.ask(["a..b"], log.last)
    with pytest.raises(BadRequest, match="more than 256"):
        log.values.ask(["a"] * 257, log.last)


# ---- the start ---------------------------------------------------------------------------------------------


def heads(log: Log, before: int) -> list[Head]:
    older = [entry for at, entry in sorted(log.entries.items(), reverse=True) if at < before]
    return [Head(one.position, one.client_address[0], one.channels, len(one.batch)) for one in older]


def restarted(log: Log) -> Log:
    again = Log()
    again.entries, again.forgotten, again.last = dict(log.entries), log.forgotten, log.last
    again.values.begin_restore()
    return again


def test_after_a_restart_all_is_there_and_newer_messages_are_not_hidden(log: Log) -> None:
    log.add({"channel": "a", "data": 1})
    log.add({"channel": "b", "data": 1})
    log.add({"channel": "a", "data": 2}, {"channel": "c", "data": 2})
    log.add(*({"channel": f"m{n}", "data": n} for n in range(40)), named=False)
    again = restarted(log)
    begun = again.last + 1
    again.add({"channel": "b", "data": 9})  # while it looks
    assert not again.values.complete
    for head in heads(again, begun):
        again.values.restore([head])
    again.values.end_restore()
    assert again.values.complete
    assert again.data() == {"a": 2, "b": 9, "c": 2} | {f"m{n}": n for n in range(40)}


def test_what_was_forgotten_does_not_return(log: Log) -> None:
    log.add({"channel": "a", "data": 1})
    log.add({"channel": "a", "data": 2}, {"channel": "b", "data": 2})
    log.add({"channel": "a", "data": 3}, named=False)
    log.forgotten["a"] = log.last
    again = restarted(log)
    again.values.restore(heads(again, again.last + 1))
    again.values.end_restore()
    assert again.data() == {"b": 2}


def test_forgotten_while_it_looks_does_not_return_either(log: Log) -> None:
    log.add({"channel": "a", "data": 1})
    again = restarted(log)
    again.values.restore(heads(again, again.last + 1))
    again.forgotten["a"] = again.last
    again.values.forget("a")
    again.values.end_restore()
    assert not again.data()


def test_the_newest_are_kept_if_there_are_too_many_at_the_start(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OF_SOURCE", 10)
    for n in range(50):
        log.add({"channel": f"c{n}", "data": n})
    again = restarted(log)
    again.values.restore(heads(again, again.last + 1))
    again.values.end_restore()
    assert again.data() == {f"c{n}": n for n in range(40, 50)}
    again.add({"channel": "new", "data": 1})
    assert "c40" not in again.data()
    assert len(again.values) == 10


def test_if_all_is_full_at_the_start_the_source_with_most_gives_way(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_VALUES", 20)
    for n in range(3):
        log.add({"channel": f"fader{n}", "data": n}, ip="10.0.0.1")
    log.add({"channel": "c49", "data": "older"}, ip="10.0.0.2")
    log.add({"channel": "c30", "data": "older"}, ip="10.0.0.2")
    for n in range(30, 50):
        log.add({"channel": f"c{n}", "data": n}, ip="10.0.0.66")
    again = restarted(log)
    for head in heads(again, again.last + 1):
        again.values.restore([head])
    again.values.end_restore()
    assert again.data() == {f"fader{n}": n for n in range(3)} | {f"c{n}": n for n in range(33, 50)}
    assert again.values.dropped == 3


def test_what_is_dropped_at_the_start_has_no_older_last_value(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OF_SOURCE", 10)
    log.add({"channel": "c0", "data": "not its last"}, ip="10.0.0.2")
    for n in range(11):
        log.add({"channel": f"c{n}", "data": n})
    again = restarted(log)
    again.values.restore(heads(again, again.last + 1))
    again.values.end_restore()
    assert again.data() == log.data() == {f"c{n}": n for n in range(1, 11)}


def test_forgotten_while_others_give_way(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VALUES", 4)
    log.add({"channel": "a", "data": 1}, ip="10.0.0.1")
    for n in range(4):
        log.add({"channel": f"c{n}", "data": n})
    again = restarted(log)
    first, *rest = heads(again, again.last + 1)[::-1]
    again.values.restore(rest[::-1])
    again.values.forget("c0")
    again.values.forget("c1")
    again.values.restore([first])
    again.values.end_restore()
    assert again.data() == {"a": 1, "c2": 2, "c3": 3}


def test_sources_come_and_go(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VALUES", 50)
    monkeypatch.setattr(module, "FOLD_AT", 0)
    for n in range(200):
        log.add({"channel": f"c{n % 90}", "data": n}, ip=f"10.0.{n % 7}.{n % 3}")
        log.values.forget(f"c{n % 11}")
        assert len(log.values) <= 50
    for n in range(90):
        log.values.forget(f"c{n}")
    assert len(log.values) == 0
    log.add({"channel": "a", "data": 1})
    assert log.data() == {"a": 1}
