"""What a relay plugin sends is taken apart by whom its messages name as their first senders."""

import msgspec
import pytest

from co2.protocol.wire.batch import batch_count, make_batch, split_batch
from co2.relay.split_by_origin import by_first_sender

ONE, TWO = "one@127.0.0.1:2004", "two@[::1]:2005"


def batch(*origins):
    messages = [{"data": number} for number in range(len(origins))]
    for message, origin in zip(messages, origins, strict=True):
        if origin is not None:
            message["origin_host_id"] = origin
    return make_batch([msgspec.msgpack.encode(message) for message in messages])


def parts(packed):
    found = []
    for origin, part, count in by_first_sender(packed, batch_count(packed)):
        messages = split_batch(part)
        assert len(messages) == count
        found.append((origin, [msgspec.msgpack.decode(one)["data"] for one in messages]))
    return found


def test_a_batch_that_names_nobody_stays_as_it_is():
    packed = batch(None, None)
    assert list(by_first_sender(packed, 2)) == [("", packed, 2)]


def test_neighbours_of_one_sender_stay_together_and_the_order_stays():
    given = batch(ONE, ONE, None, TWO, TWO, ONE)
    assert parts(given) == [("one", [0, 1]), ("", [2]), ("two", [3, 4]), ("one", [5])]


@pytest.mark.parametrize("origin", ["", "nobody", 7, ["one"], {"a": 1}, b"one@127.0.0.1:1", "a@b:c" * 100])
def test_what_is_no_host_id_names_nobody(origin):
    assert parts(batch(origin, None)) == [("", [0, 1])]


def test_a_text_that_only_holds_the_word_names_nobody():
    packed = make_batch([msgspec.msgpack.encode({"data": "origin_host_id"})])
    assert list(by_first_sender(packed, 1)) == [("", packed, 1)]
