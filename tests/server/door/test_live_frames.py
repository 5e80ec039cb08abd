"""The frames of ``/live``: the golden ones, and that no other is read."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.errors import BadParams, PeerError
from co2.exact_json.reader import read
from co2.exact_json.writer import write
from co2.protocol.wire.channel_patterns import MAX_PATTERNS
from co2.server.door.live_frames import (
    MAX_REF,
    MAX_SENT,
    MAX_TOKENS,
    CallFrame,
    SendFrame,
    WantFrame,
    error_frame,
    hello_frame,
    messages_frame,
    position_frame,
    read_frame,
    ref_of,
    result_frame,
    skipped_frame,
)
from co2.values import pack_value, unpack, unpack_value

VECTORS = Path(__file__).parents[2] / "vectors" / "live"


def vectors(name: str) -> list[Any]:
    found: list[Any] = json.loads((VECTORS / f"{name}.json").read_text())
    assert found
    return found


@pytest.mark.parametrize("vector", vectors("values"), ids=lambda vector: vector["json"])
def test_golden_values(vector: dict[str, Any]) -> None:
    """The MessagePack is what travels inside co2; JSON stands for exactly that."""
    value = unpack_value(bytes.fromhex(vector["msgpack"]))
    assert json.loads(write(value)) == json.loads(vector["json"])
    assert pack_value(read(vector["json"].encode())).hex() == vector["msgpack"]


@pytest.mark.parametrize("text", vectors("no-values"))
def test_golden_texts_that_are_refused(text: str) -> None:
    with pytest.raises(PeerError):
        read(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("vector", vectors("client-frames"), ids=lambda vector: vector["frame"])
def test_golden_frames_of_clients(vector: dict[str, Any]) -> None:
    frame = read_frame(read(vector["frame"].encode()))
    assert frame.ref == vector["ref"]
    match frame:
        case WantFrame():
            patterns = frame.channels.patterns
            assert {"want": None if patterns is None else [*patterns]} == vector["means"]
        case SendFrame():
            told = [[one.channel, one.is_live, unpack(one.packed)] for one in frame.messages]
            assert {"send": json.loads(write(told))} == vector["means"]
        case CallFrame():
            call = [frame.method, json.loads(write(frame.data)), frame.host]
            assert {"call": call} == vector["means"]


@pytest.mark.parametrize("text", vectors("no-client-frames"))
def test_golden_frames_that_are_refused(text: str) -> None:
    with pytest.raises(BadParams):
        read_frame(read(text.encode()))


@pytest.mark.parametrize("vector", vectors("host-frames"), ids=lambda vector: vector["frame"])
def test_golden_frames_of_hosts(vector: dict[str, Any]) -> None:
    makers: dict[str, Any] = {
        "hello": lambda about: hello_frame(about),
        "messages": lambda messages: messages_frame([write(read(json.dumps(one).encode())) for one in messages]),
        "skipped": lambda count: skipped_frame(count),
        "position": lambda position: position_frame(position),
        "gap": lambda gap: write({"gap": gap}),
        "result": lambda result, ref: result_frame(write(read(json.dumps(result).encode())), ref),
        "error": lambda code, text, ref: error_frame(code, text, ref),
    }
    made = makers[vector["kind"]](*vector["args"])
    assert json.loads(made) == json.loads(vector["frame"])


MESSAGE = {"channel": "ham", "data": 1}


def patterns(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


def many_tokens(count: int) -> list[str]:
    """Return as many patterns as allowed, with so many tokens together."""
    each, more = divmod(count, MAX_PATTERNS)
    return [".".join((f"p{number}", *"a" * (each - 1 + (number < more)))) for number in range(MAX_PATTERNS)]


@pytest.mark.parametrize(
    ("within", "beyond", "text"),
    [
        (
            {"call": "ham", "ref": "x" * MAX_REF},
            {"call": "ham", "ref": "x" * (MAX_REF + 1)},
            "key 'ref': expected",
        ),
        ({"send": [MESSAGE]}, {"send": []}, f"list of 1 to {MAX_SENT}"),
        ({"send": [MESSAGE] * MAX_SENT}, {"send": [MESSAGE] * (MAX_SENT + 1)}, f"list of 1 to {MAX_SENT}"),
        (
            {"want": {"channels": patterns(MAX_PATTERNS)}},
            {"want": {"channels": patterns(MAX_PATTERNS + 1)}},
            f"{MAX_PATTERNS + 1} patterns; at most {MAX_PATTERNS}",
        ),
        (
            {"want": {"channels": many_tokens(MAX_TOKENS)}},
            {"want": {"channels": many_tokens(MAX_TOKENS + 1)}},
            f"{MAX_TOKENS + 1} tokens in all patterns; at most {MAX_TOKENS}",
        ),
    ],
)
def test_frames_at_their_limits_and_one_beyond(within: Any, beyond: Any, text: str) -> None:
    assert read_frame(within)
    with pytest.raises(BadParams, match=text):
        read_frame(beyond)


@pytest.mark.parametrize(("key", "told"), [("k" * 40, "k" * 40), ("k" * 41, "k" * 40)])
def test_an_unknown_key_is_told_up_to_40_characters(key: str, told: str) -> None:
    with pytest.raises(BadParams, match=f"^unknown key '{told}' beside 'call'; there are call, data, host, ref$"):
        read_frame({"call": "ham", key: 1})


KEYS = st.sampled_from(["want", "send", "call", "ref", "data", "host", "channels"])
SCALARS = st.none() | st.integers() | st.text(max_size=3)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)))
def test_any_value_is_a_frame_or_refused(value: Any) -> None:
    ref_of(value)
    with contextlib.suppress(BadParams):
        read_frame(value)
