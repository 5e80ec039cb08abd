"""Results of calls over a link: a long one is no business of the event loop's thread."""

import asyncio
import threading
from typing import Any

import pytest

from co2.errors import AnswerTooBig, BadParams, ValueRefused
from co2.protocol.wire.link_frames import Call
from co2.server.rpc import results
from co2.server.rpc.link_calls import answer_call
from co2.server.rpc.results import LONG, MAX_WAITING, Results
from co2.values import MAX_MESSAGE_SIZE, pack_value
from co2.xmlrpc.writer import WrittenValue, write_value

LONG_VALUE = ["x"] * LONG


def read(packed: bytes, *, written: bool) -> Any:
    async def run() -> Any:
        reader = Results()
        try:
            return await reader.value_of(packed, "somebody", written=written)
        finally:
            reader.close()

    return asyncio.run(run())


@pytest.mark.parametrize("value", [None, 7, "text", {"data": [1, b"2"]}, LONG_VALUE])
def test_values_are_what_was_sent(value: Any) -> None:
    assert read(pack_value(value), written=False) == value
    found = read(pack_value(value), written=True)
    if isinstance(found, WrittenValue):
        assert found.xml == write_value(value)
        found = found.value
    assert found == value


def test_a_long_one_is_decoded_and_written_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def write(value: Any) -> bytes:
        threads.append(threading.current_thread())
        return write_value(value)

    monkeypatch.setattr(results, "write_value", write)
    found = read(pack_value(LONG_VALUE), written=True)
    assert type(found) is WrittenValue
    assert threads and threads[0] is not threading.main_thread()


@pytest.mark.parametrize("packed", [b"\xc1", b"\xc1" * (LONG + 1), b"\x01\x01"])
def test_what_is_no_value_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueRefused):
        read(packed, written=True)


def test_size_and_what_waits_are_bounded() -> None:
    with pytest.raises(AnswerTooBig, match=f"somebody answered with {MAX_MESSAGE_SIZE + 1} bytes; the limit is"):
        read(bytes(MAX_MESSAGE_SIZE + 1), written=True)

    async def run() -> list[Any]:
        reader = Results()
        packed = pack_value("x" * (MAX_MESSAGE_SIZE - 10))
        try:
            many = MAX_WAITING // len(packed) + 1
            some = await asyncio.gather(
                *(reader.value_of(packed, "somebody", written=False) for _ in range(many)), return_exceptions=True
            )
            again = await reader.value_of(packed, "somebody", written=False)
        finally:
            reader.close()
        return [*some, again]

    *some, refused, again = asyncio.run(run())
    assert isinstance(refused, AnswerTooBig)
    assert {type(one) for one in (*some, again)} == {str}


def test_what_a_call_gets_is_no_longer_than_a_message() -> None:
    called = []

    async def call(method: str, argument: Any) -> Any:
        called.append(argument)
        return True

    for size, code in ((MAX_MESSAGE_SIZE - 5, 0), (MAX_MESSAGE_SIZE - 4, BadParams.code)):
        argument = b"\xc6" + size.to_bytes(4, "big") + bytes(size)
        result = asyncio.run(answer_call(Call(1, "some.method", argument, 5.0), call))
        assert result.code == code
    assert len(called) == 1
