"""Batches: joined, counted, taken apart."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.errors import BadRequest
from co2.protocol.wire.batch import (
    MAX_BATCH_MESSAGES,
    _split_by_hand,
    batch_count,
    join_batches,
    make_batch,
    split_batch,
)

encode = msgspec.msgpack.encode
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=70)),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=40,
)


@given(st.lists(VALUES, min_size=1, max_size=20))
def test_what_was_joined_comes_apart_again(values: list[Any]) -> None:
    messages = [encode(value) for value in values]
    batch = make_batch(messages)
    assert batch_count(batch) == len(messages)
    assert split_batch(batch) == messages


@given(st.lists(VALUES, min_size=1, max_size=20), st.integers(0, 3), st.binary(max_size=3))
def test_both_ways_of_taking_a_batch_apart_agree(values: list[Any], cut: int, more: bytes) -> None:
    batch = make_batch([encode(value) for value in values])
    batch = batch[: max(5, len(batch) - cut)] + more  # how many they are stands in the first five
    try:
        quick: list[bytes] | None = split_batch(batch)
    except BadRequest:
        quick = None
    try:
        slow: list[bytes] | None = _split_by_hand(batch, len(values))
    except BadRequest:
        slow = None
    assert quick == slow


@pytest.mark.parametrize(
    "value",
    ["x" * 70_000, b"x" * 70_000, list(range(70_000)), {str(i): i for i in range(70_000)},
     msgspec.msgpack.Ext(1, b"x" * 70_000), "x" * 300, b"x" * 300, list(range(300))],
    ids=lambda value: f"{type(value).__name__}-{len(getattr(value, 'data', value))}",
)  # fmt: skip
def test_every_width_of_a_length(value: Any) -> None:
    messages = [encode(value), encode(1)]
    assert split_batch(make_batch(messages)) == messages


def test_nesting_costs_no_stack() -> None:
    deep = b"\x91" * 500_000 + b"\x01"
    assert split_batch(make_batch([deep, b"\x02"])) == [deep, b"\x02"]


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_as_it_says(garbage: bytes) -> None:
    batch = b"\xdd\x00\x00\x00\x03" + garbage
    try:
        messages = split_batch(batch)
    except BadRequest:
        return
    assert len(messages) == 3
    assert make_batch(messages) == batch


@pytest.mark.parametrize(
    "batch",
    [b"", b"\xdd", b"\x91\x01", make_batch([]), make_batch([b"\x01"])[:-1], make_batch([b"\x01"]) + b"\x01",
     make_batch([b"\x01"] * (MAX_BATCH_MESSAGES + 1)), make_batch([b"\xdb\xff\xff\xff\xff"])],
)  # fmt: skip
def test_what_is_no_batch_is_refused(batch: bytes) -> None:
    with pytest.raises(BadRequest):
        split_batch(batch)


def test_batches_are_joined() -> None:
    messages = [encode({"data": number}) for number in range(6)]
    joined = join_batches([make_batch(messages[:1]), make_batch(messages[1:4]), make_batch(messages[4:])])
    assert joined == make_batch(messages)
    with pytest.raises(BadRequest):
        join_batches([make_batch(messages), b"none"])


def test_what_nests_too_deep_is_split_only_by_who_has_the_patience() -> None:
    deep = b"\x91" * 100_000 + b"\xc0"  # the interpreter's own limit differs from version to version
    batch = make_batch([b"\x01", deep])
    assert split_batch(batch) == [b"\x01", deep]
    with pytest.raises(BadRequest, match="batch"):
        split_batch(batch, patient=False)
