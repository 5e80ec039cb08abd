"""The link's WebSocket without I/O: any bytes lead to messages or an end that says why, however they are cut."""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from co2.protocol.wire.websocket import (
    CLOSE,
    MAX_CONTROLS,
    MAX_MESSAGES,
    MAX_SMALL_PARTS,
    NORMAL,
    PING,
    PONG,
    SMALL_PART,
    WebSocketReader,
    accept_key,
    close_words,
    control_frame,
    message_head,
)

EXAMPLES = settings(max_examples=3 * settings().max_examples, deadline=None)
MAX_SIZE = 70_000
MASK = b"\x01\x80\xff\x7e"
FIN = 0x80


@dataclass
class Outcome:
    """What came of a stream."""

    messages: list[bytes] = field(default_factory=list)
    control: list[tuple[int, bytes]] = field(default_factory=list)
    code: int = 0
    error: str = ""


def read(stream: bytes, sizes: Sequence[int] = (), masked: bool = False, max_size: int = MAX_SIZE) -> Outcome:
    """Feed a stream in pieces of these sizes, and what is left in one; all of them out of one buffer."""
    reader = WebSocketReader(max_size, masked)
    outcome = Outcome()
    buffer = bytearray(len(stream))
    at = 0
    for size in [*sizes, len(stream)]:
        piece = stream[at : at + size]
        buffer[: len(piece)] = piece
        outcome.messages += map(bytes, reader.feed(memoryview(buffer)[: len(piece)]))
        buffer[:] = b"\xff" * len(buffer)
        at += size
    outcome.control = reader.control
    if reader.error is not None:
        outcome.code, outcome.error = reader.error.close_code, str(reader.error)
    return outcome


def read_twice(stream: bytes, masked: bool = False, max_size: int = MAX_SIZE) -> Outcome:
    """Read a stream whole and byte by byte; both must come to the same."""
    whole = read(stream, (), masked, max_size)
    reader = WebSocketReader(max_size, masked)
    messages: list[bytes] = []
    for at in range(len(stream)):
        messages += map(bytes, reader.feed(stream[at : at + 1]))
    error = reader.error
    cut = Outcome(messages, reader.control, error.close_code if error else 0, str(error or ""))
    assert cut == whole
    return whole


def frame(first: int, payload: bytes, mask: bytes = b"", form: int = 0) -> bytes:
    """Write a frame as the RFC has it, not as our own writer does.

    Args:
        first: its first byte.
        mask: four bytes, or none.
        form: 0 for the shortest form of the size; or 126 or 127.
    """
    bit = 0x80 if mask else 0
    form = form or (len(payload) if len(payload) < 126 else 126 if len(payload) < 65_536 else 127)
    size = b"" if form < 126 else len(payload).to_bytes(2 if form == 126 else 8, "big")
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else payload
    return bytes((first, bit | form)) + size + mask + body


# ---- what is read ------------------------------------------------------------------------------------------


def test_the_key_of_the_rfc_gives_the_answer_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert len(base64.b64decode(accept_key("\xff"))) == 20


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 255, 256, 65_535, 65_536, MAX_SIZE])
@pytest.mark.parametrize("masked", [False, True])
def test_what_is_written_is_read(size: int, masked: bool) -> None:
    body = bytes(number % 251 for number in range(size))
    stream = message_head(size, masked) + body
    assert stream == frame(FIN | 2, body, bytes(4) if masked else b"")
    assert read_twice(stream, masked) == Outcome([body])


@given(st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.binary(max_size=200)), max_size=4))
def test_any_mask_is_taken_off_and_each_message_may_have_its_own(messages: list[tuple[bytes, bytes]]) -> None:
    stream = b"".join(frame(FIN | 2, body, mask) for mask, body in messages)
    assert read_twice(stream, masked=True) == Outcome([body for _, body in messages])


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 6, 7, 8, 125, 126, 1000, 65_536])
def test_a_mask_is_taken_off_messages_of_any_size(size: int) -> None:
    body = os.urandom(size)
    assert read_twice(frame(FIN | 2, body, MASK) * 2, masked=True) == Outcome([body, body])


@pytest.mark.parametrize("form", [126, 127])
def test_a_size_in_a_longer_form_than_it_needs_is_read(form: int) -> None:
    assert read_twice(frame(FIN | 2, b"ham", form=form) + frame(FIN | 2, b"")) == Outcome([b"ham", b""])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("payload", [b"", b"x", b"y" * 125])
def test_control_frames_are_put_beside_the_messages(payload: bytes, masked: bool) -> None:
    stream = b"".join(control_frame(opcode, payload, masked) for opcode in (PING, PONG, CLOSE))
    assert read_twice(stream, masked).control == [(PING, payload), (PONG, payload), (CLOSE, payload)]


def test_a_message_in_parts_is_put_together_also_with_control_frames_between_them() -> None:
    stream = (
        frame(2, b"ham", MASK)
        + frame(FIN | PING, b"?", MASK)
        + frame(0, b"", MASK)
        + frame(0, b"spam" * 100, MASK)
        + frame(FIN | PONG, b"", MASK)
        + frame(FIN | 0, b"eggs", MASK)
        + frame(FIN | 2, b"next", MASK)
    )
    outcome = read_twice(stream, masked=True)
    assert outcome.messages == [b"ham" + b"spam" * 100 + b"eggs", b"next"]
    assert outcome.control == [(PING, b"?"), (PONG, b"")]
    assert not outcome.code


def test_what_comes_before_a_close_is_given_and_nothing_after_it() -> None:
    ends = control_frame(CLOSE, NORMAL.to_bytes(2, "big"), masked=False)
    stream = frame(FIN | 2, b"goodbye") + ends + frame(FIN | 2, b"more") + b"\xff" * 20
    assert read_twice(stream) == Outcome([b"goodbye"], [(CLOSE, b"\x03\xe8")])


def test_what_comes_before_an_error_is_given_and_nothing_after_it() -> None:
    stream = (
        frame(FIN | 2, b"ham") + control_frame(PING, b"", False) + frame(FIN | 1, b"") + frame(FIN | 2, b"spam")
    )
    outcome = read_twice(stream)
    assert (outcome.messages, outcome.control, outcome.code) == ([b"ham"], [(PING, b"")], 1003)


# ---- what is refused ---------------------------------------------------------------------------------------

REFUSED = {
    "a mask from a server": (frame(FIN | 2, b"x", MASK), False, 1002, "masks"),
    "no mask from a client": (frame(FIN | 2, b"x"), True, 1002, "masks"),
    "a bit for an extension": (frame(FIN | 0x40 | 2, b"x"), False, 1002, "0xc2"),
    "another bit": (frame(FIN | 0x20 | 2, b"x"), False, 1002, "0xa2"),
    "the last bit, on a ping": (frame(FIN | 0x10 | PING, b"x"), False, 1002, "0x99"),
    "a bit on a part": (frame(2, b"x") + frame(FIN | 0x40, b"x"), False, 1002, "0xc0"),
    "a data opcode of nobody's": (frame(FIN | 3, b"x"), False, 1002, "0x83"),
    "a control opcode of nobody's": (frame(FIN | 0xB, b"x"), False, 1002, "0x8b"),
    "text": (frame(FIN | 1, b"x"), False, 1003, "text"),
    "text in parts": (frame(1, b"x"), False, 1003, "text"),
    "a ping in parts": (frame(PING, b""), False, 1002, "fragmented"),
    "a ping of 126 bytes": (frame(FIN | PING, bytes(126)), False, 1002, "too long"),
    "a close of 64 KiB": (frame(FIN | CLOSE, bytes(65_536)), False, 1002, "too long"),
    "a part of nothing": (frame(FIN, b"x"), False, 1002, "out of order"),
    "a part in the middle of nothing": (frame(0, b"x"), False, 1002, "out of order"),
    "a message within another": (frame(2, b"x") + frame(FIN | 2, b"y"), False, 1002, "out of order"),
    "another's beginning within one": (frame(2, b"x") + frame(2, b"y"), False, 1002, "out of order"),
    "one byte too many": (message_head(MAX_SIZE + 1, False), False, 1009, "limit"),
    "2**63 bytes": (message_head(2**63, True), True, 1009, "limit"),
    "2**64 - 1 bytes": (message_head(2**64 - 1, False), False, 1009, "limit"),
    "parts that are too much together": (
        frame(2, bytes(MAX_SIZE - 200)) + frame(0, bytes(125)) * 2, False, 1009, "fragmented"),
    "a big part that is too much with the others": (
        frame(2, bytes(MAX_SIZE - 200)) + b"\x00\x7e\x01\x00", False, 1009, "limit"),
    "empty parts without an end": (frame(2, b"") + frame(0, b"") * MAX_SIZE, False, 1008, "fragments of under"),
    "many small parts, and an end": (
        frame(2, b"") + frame(0, b"x" * 100) * 100 + frame(FIN, b""), False, 1008, "fragments of under"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_websocket_of_the_links_ends_it(what: str) -> None:
    stream, masked, code, words = REFUSED[what]
    before = frame(FIN | 2, b"before", MASK if masked else b"")
    outcome = read_twice(before + stream, masked)
    assert outcome.code == code
    assert words in outcome.error
    assert outcome.messages == [b"before"]


def test_a_size_is_refused_with_its_head_and_not_waited_for() -> None:
    reader = WebSocketReader(MAX_SIZE, masked=True)
    assert reader.feed(message_head(2**32, True)[:-4]) == []
    assert reader.error is not None
    assert reader.feed(frame(FIN | 2, b"more", MASK)) == []


def test_a_few_small_parts_and_any_number_of_large_ones_are_taken() -> None:
    message = (
        frame(2, b"")
        + (frame(0, bytes(SMALL_PART)) * 8 + frame(0, b"x")) * (MAX_SMALL_PARTS - 1)
        + frame(FIN, b"")
    )
    outcome = read_twice(message * 2, max_size=100_000)
    assert not outcome.code
    assert [len(one) for one in outcome.messages] == [(8 * SMALL_PART + 1) * (MAX_SMALL_PARTS - 1)] * 2


def test_the_parts_of_one_message_do_not_count_for_the_next() -> None:
    message = frame(2, bytes(MAX_SIZE // 2)) + frame(FIN, bytes(MAX_SIZE // 2 - 2))
    outcome = read(message * 3)
    assert [len(data) for data in outcome.messages] == [MAX_SIZE - 2] * 3
    assert not outcome.code


# ---- anything ----------------------------------------------------------------------------------------------

FIRST = st.sampled_from([FIN | 2] * 6 + [2, 0, FIN, FIN | PING, FIN | PONG]) | st.integers(0, 255)
PAYLOAD = st.binary(max_size=140) | st.integers(0, 700).map(bytes)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Frames of every form, most of them in order, with some bytes changed, or cut off."""
    masks = st.sampled_from([MASK] * 5 + [bytes(4)] * 3 + [b""])
    frames = [
        frame(draw(FIRST), body, draw(masks), draw(st.sampled_from([0, 0, 0, 126, 127])))
        for body in draw(st.lists(PAYLOAD, max_size=8))
    ]
    stream = bytearray(b"".join(frames)) + draw(st.binary(max_size=4))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2])) if stream else 0):
        stream[draw(st.integers(0, len(stream) - 1))] = draw(st.integers(0, 255))
    return bytes(stream)


@EXAMPLES
@given(stream=streams() | st.binary(max_size=300), sizes=st.lists(st.integers(0, 90), max_size=40))
def test_any_bytes_give_messages_or_an_error_however_they_are_cut(stream: bytes, sizes: list[int]) -> None:
    outcome = read_twice(stream, masked=True, max_size=500)
    assert read(stream, sizes, masked=True, max_size=500) == outcome
    assert all(len(message) <= 500 for message in outcome.messages)
    assert all(opcode in (CLOSE, PING, PONG) and len(payload) <= 125 for opcode, payload in outcome.control)
    assert outcome.code in (0, 1002, 1003, 1008, 1009)


@EXAMPLES
@given(bodies=st.lists(PAYLOAD, max_size=8), sizes=st.lists(st.integers(0, 90), max_size=40), data=st.data())
def test_what_a_client_sends_in_order_arrives(bodies: list[bytes], sizes: list[int], data: st.DataObject) -> None:
    stream = b""
    for body in bodies:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=4)))
        parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        for at, part in enumerate(parts):
            stream += frame((2 if at == 0 else 0) | (FIN if at == len(parts) - 1 else 0), part, MASK)
            if data.draw(st.booleans()):
                stream += control_frame(PING, b"", masked=True)
    assert read(stream, sizes, masked=True).messages == bodies


def test_of_many_messages_some_are_parsed_at_once_and_the_rest_when_asked_again() -> None:
    bodies = [n.to_bytes(2, "big") for n in range(2 * MAX_MESSAGES + 7)]
    stream = b"".join(message_head(2, masked=False) + body for body in bodies)
    reader = WebSocketReader(MAX_SIZE, masked=False)
    counts, got = [], []
    messages = reader.feed(stream + message_head(5, masked=False) + b"12")
    while True:
        counts.append(len(messages))
        got += map(bytes, messages)
        if not reader.is_cut_short:
            break
        assert not reader.is_between, "what is held comes first"
        messages = reader.feed(b"")
    assert got == bodies
    assert counts == [MAX_MESSAGES, MAX_MESSAGES, 7]
    assert [bytes(message) for message in reader.feed(b"345")] == [b"12345"]
    assert reader.is_between


def test_exactly_as_many_messages_as_are_parsed_at_once_leave_nothing_to_ask_for() -> None:
    reader = WebSocketReader(MAX_SIZE, masked=False)
    one = message_head(1, masked=False) + b"x"
    assert len(reader.feed(one * MAX_MESSAGES)) == MAX_MESSAGES
    assert not reader.is_cut_short
    assert reader.is_between


def test_a_flood_of_control_frames_ends_the_stream() -> None:
    few = control_frame(PING, b"", False) * MAX_CONTROLS
    assert not read_twice(few).code
    outcome = read_twice(few + control_frame(PING, b"", False))
    assert outcome.code == 1008
    assert "control frames" in outcome.error


def test_between_messages_nothing_is_held() -> None:
    reader = WebSocketReader(MAX_SIZE, False)
    assert reader.is_between
    assert not reader.held
    reader.feed(frame(2, b"ham"))
    assert not reader.is_between, "more parts follow"
    assert reader.held == 3
    reader.feed(frame(FIN, b"spam")[:3])
    assert not reader.is_between
    reader.feed(frame(FIN, b"spam")[3:])
    assert reader.is_between
    assert not reader.held
    reader.feed(control_frame(CLOSE, b"", False))
    assert not reader.is_between, "nothing follows a Close"


@pytest.mark.parametrize("code", [1002, 1003, 1008, 1009])
def test_a_close_with_an_error_is_put_in_words(code: int) -> None:
    assert f"(WebSocket code {code})" in close_words(code.to_bytes(2, "big") + b"more")


def test_each_error_of_a_close_has_words_of_its_own() -> None:
    said = [close_words(code.to_bytes(2, "big")).partition(" (WebSocket")[0] for code in (1002, 1003, 1008, 1009)]
    assert len(set(said)) == 4


@pytest.mark.parametrize("payload", [b"", b"\x03", NORMAL.to_bytes(2, "big"), (4000).to_bytes(2, "big")])
def test_a_close_without_an_error_needs_no_words(payload: bytes) -> None:
    assert close_words(payload) == ""
