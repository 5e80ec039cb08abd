"""Keys that are added to encoded messages, and read of them, without decoding the rest."""

from typing import Any

import msgspec
import pytest

from co2.protocol.wire.message_keys import cause_of, with_keys

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


@pytest.mark.parametrize("keys", [0, 1, 13, 14, 15, 16, 100, 65_535, 65_536])
def test_keys_are_added_to_a_message_of_any_size(keys: int) -> None:
    message = {str(number): number for number in range(keys)}
    longer = with_keys(pack(message), {"cause": 48_209, "at": 1.5})
    assert unpack(longer) == {**message, "cause": 48_209, "at": 1.5}
    assert len(longer) <= len(pack(message)) + len(pack({"cause": 48_209, "at": 1.5})) + 3


def test_a_key_of_the_same_name_no_longer_counts() -> None:
    assert unpack(with_keys(pack({"data": 1, "cause": 5}), {"cause": 6})) == {"data": 1, "cause": 6}
    assert cause_of(with_keys(pack({"data": 1, "cause": 5}), {"cause": 6})) == 6


@pytest.mark.parametrize("packed", [b"", b"\xc0", pack([1]), pack("text")])
def test_what_is_no_dictionary_stays_as_it_is(packed: bytes) -> None:
    assert with_keys(packed, {"cause": 1}) == packed
    assert cause_of(packed) is None


@pytest.mark.parametrize("cause", [None, 0, 7, 2**63 - 1, [5, 7], "whatever", {"its": "sender chose"}])
def test_the_cause_is_what_the_sender_chose(cause: Any) -> None:
    assert cause_of(pack({"data": b"x" * 1000, "cause": cause, "more": [1]})) == cause
    assert cause_of(pack({"data": 1})) is None
