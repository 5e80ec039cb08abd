"""A message in XML-RPC: its keys beside those of the envelope, and none of them lost."""

from typing import Any

import pytest

from co2.errors import BadParams
from co2.values import pack, unpack
from co2.xmlrpc.forms import PROTOCOL_KEYS, message_in, plain_form


@pytest.mark.parametrize(
    "message",
    [
        {"data": 1},
        {"data": [1, "x"], "channel": "stage.left", "note": None},
        {"data": 1, "position": 7, "keys": {"data": 2}},
    ],
)
def test_a_message_goes_there_and_back_whatever_its_keys_are_called(message: dict[str, Any]) -> None:
    form = plain_form(pack(message))
    assert not (PROTOCOL_KEYS - {"keys"}) & form.keys()
    packed, channels = message_in(
        {**form, "host_id": "a@10.0.0.1:2004", "client_address": ["10.0.0.1", 1], "id": "7"}
    )
    assert unpack(packed) == message
    assert channels == (message.get("channel", ""),)


def test_keys_without_words_of_the_protocol_stand_side_by_side() -> None:
    assert plain_form(pack({"data": 1, "note": 2})) == {"data": 1, "note": 2}
    assert plain_form(pack({"data": 1, "id": 2})) == {"data": 1, "keys": {"id": 2}}


@pytest.mark.parametrize(
    "argument",
    [{}, {"channel": "x"}, {"data": 1, "keys": [1]}, {"data": object()}, {"data": 1, "channel": "x" * 5000}],
)
def test_what_is_no_message_is_refused(argument: dict[str, Any]) -> None:
    with pytest.raises(BadParams):
        message_in(argument)
