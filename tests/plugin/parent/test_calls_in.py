"""Calls into a package: held, sent, withdrawn, and failed with what has happened."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from co2.errors import BadParams, CallTimeout, PluginFailed
from co2.plugin.parent import calls_in
from co2.plugin.parent.calls_in import CallsIn
from co2.protocol.wire.plugin_frames.frames import Admit, Call, DeadLetter, Describe, Host, Repeat, Withdraw
from co2.values import pack_value
from tests.plugin.support import in_loop

ARGUMENT = {"data": 1}
LETTER = DeadLetter("ham.spam.X_Ham", "a@b:1", ("b", 1), "E: no", b"message")


class Called:
    """The calls of a package, what its child got, and what has become of them."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.missing: tuple[type[Any], ...] = ()
        self.calls = CallsIn("ham", lambda frame: not isinstance(frame, self.missing))

    async def begin(self, call: Awaitable[Any]) -> "asyncio.Future[Any]":
        task = asyncio.ensure_future(call)
        await asyncio.sleep(0)
        return task

    async def call(self, method: str = "ham.it", timeout: float = 20.0) -> "asyncio.Future[Any]":
        return await self.begin(self.calls.call(method, ARGUMENT, timeout))


@in_loop
async def test_calls_wait_for_the_first_child_and_get_their_answers() -> None:
    it = Called()
    with pytest.raises(PluginFailed, match=r"ham\.it: the plugin package ham is starting"):
        await (await it.call())
    it.calls.hold()
    first = await it.call()
    it.calls.hold()  # what is held stays
    second = await it.call("ham.other")
    assert it.sent == []
    it.calls.begin(it.sent.append)
    assert [frame.method for frame in it.sent] == ["ham.it", "ham.other"]
    assert it.sent[0] == Call(it.sent[0].call_id, "ham.it", pack_value(ARGUMENT))
    third = await it.call("ham.third")
    assert it.calls.method(it.sent[2].call_id) == "ham.third"
    for number, frame in enumerate(it.sent):
        it.calls.answer(frame.call_id, pack_value(number), "", refused=False)
    assert [await one for one in (first, second, third)] == [0, 1, 2]
    assert it.calls.method(it.sent[2].call_id) == ""


@in_loop
async def test_an_error_is_the_methods_or_the_callers() -> None:
    it = Called()
    it.calls.begin(it.sent.append)
    for refused, kind in ((False, PluginFailed), (True, BadParams)):
        call = await it.call()
        it.calls.answer(it.sent[-1].call_id, b"", "because", refused=refused)
        with pytest.raises(kind, match="because"):
            await call
    wrong: Any = {"data": object()}
    with pytest.raises(BadParams):
        await it.calls.call("ham.it", wrong, 1.0)


@in_loop
async def test_each_question_is_sent_with_all_it_has() -> None:
    it = Called()
    it.calls.begin(it.sent.append)
    host = Host("a@b:1", ["m"], ["p"])
    tasks = [
        await it.begin(it.calls.repeat(LETTER, 20.0)),
        await it.begin(it.calls.admit("ham.spam.X_Ham", host, 20.0)),
        await it.begin(it.calls.describe("method", "ham.it", 20.0)),
        await it.begin(it.calls.describe("config", "", 20.0)),
    ]
    ids = [frame.call_id for frame in it.sent]
    assert it.sent == [
        Repeat(ids[0], "ham.spam.X_Ham", "a@b:1", ("b", 1), b"message"),
        Admit(ids[1], "ham.spam.X_Ham", "a@b:1", ["m"], ["p"]),
        Describe(ids[2], "method", "ham.it"),
        Describe(ids[3], "config", ""),
    ]
    names = ["ham.spam.X_Ham.receive", "ham.spam.X_Ham.register", "ham.it", "config of ham"]
    assert [it.calls.method(number) for number in ids] == names
    for number, value in zip(ids, (None, "no room", {"a": 1}, [2]), strict=True):
        it.calls.answer(number, pack_value(value), "", refused=False)
    assert [await one for one in tasks] == [None, "no room", {"a": 1}, [2]]
    admitted = await it.begin(it.calls.admit("ham.spam.X_Ham", host, 20.0))
    it.calls.answer(it.sent[-1].call_id, pack_value(None), "", refused=False)
    assert await admitted == ""


HAS = "the plugin package ham has"


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda it: it.calls.call("ham.it", ARGUMENT, 20.0), f"ham.it: {HAS} no longer such a method"),
        (lambda it: it.calls.repeat(LETTER, 20.0), f"X_Ham.receive: {HAS} no such receiver"),
        (lambda it: it.calls.admit("X_Ham", Host("a@b:1"), 20.0), f"X_Ham.register: {HAS} no such plugin"),
        (lambda it: it.calls.describe("config", "", 20.0), f"ham: {HAS} no longer such a method"),
    ],
)
@pytest.mark.parametrize("held", [True, False])
def test_what_the_new_code_does_not_have_fails(ask: Callable[[Called], Any], text: str, held: bool) -> None:
    async def scenario() -> None:
        it = Called()
        it.missing = (Call, Repeat, Admit, Describe)
        if held:
            it.calls.hold()
            task = await it.begin(ask(it))
            it.calls.begin(it.sent.append)
        else:
            it.calls.begin(it.sent.append)
            task = await it.begin(ask(it))
        with pytest.raises(PluginFailed, match=text):
            await task
        assert it.sent == []

    asyncio.run(scenario())


@in_loop
async def test_a_death_fails_what_the_child_had_and_holds_what_comes() -> None:
    it = Called()
    it.calls.begin(it.sent.append)
    under_way = await it.call()
    it.calls.lose("it died")
    with pytest.raises(PluginFailed, match=r"ham\.it: it died"):
        await under_way
    later = await it.call("ham.later")
    assert len(it.sent) == 1
    it.calls.begin(it.sent.append)
    assert it.sent[-1].method == "ham.later"
    it.calls.begin(it.sent.append)
    with pytest.raises(PluginFailed, match="the code of ham has changed"):
        await later


@in_loop
async def test_a_pause_fails_nothing_and_the_end_fails_all() -> None:
    it = Called()
    it.calls.begin(it.sent.append)
    first = await it.call()
    it.calls.hold()
    second = await it.call()
    it.calls.resume(it.sent.append)
    assert (len(it.sent), first.done(), second.done()) == (2, False, False)
    it.calls.hold()
    third = await it.call()
    it.calls.end("it was stopped", "parked")
    for one in (first, second, third):
        with pytest.raises(PluginFailed, match="it was stopped"):
            await one
    with pytest.raises(PluginFailed, match="the plugin package ham is parked"):
        await (await it.call())


@in_loop
async def test_a_call_that_nobody_waits_for_any_more_is_withdrawn() -> None:
    it = Called()
    it.calls.begin(it.sent.append)
    with pytest.raises(CallTimeout):
        await (await it.call(timeout=0.001))
    assert it.sent[1] == Withdraw(it.sent[0].call_id)
    cancelled = await it.call()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert it.sent[3] == Withdraw(it.sent[2].call_id)
    it.calls.hold()
    with pytest.raises(CallTimeout):
        await (await it.call(timeout=0.001))
    sent = len(it.sent)
    it.calls.resume(it.sent.append)
    assert len(it.sent) == sent, "what was held is not sent any more"


@in_loop
async def test_calls_and_their_arguments_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_in, "MAX_CALLS", 2)
    monkeypatch.setattr(calls_in, "MAX_CALL_BYTES", 100)
    it = Called()
    it.calls.begin(it.sent.append)
    tasks = [await it.call(), await it.call()]
    with pytest.raises(PluginFailed, match="2 calls of this package are already waiting"):
        await (await it.call())
    it.calls.end("over", "stopped")
    await asyncio.gather(*tasks, return_exceptions=True)
    it.calls.begin(it.sent.append)
    for size, fits in ((100, True), (101, False)):
        monkeypatch.setattr(calls_in, "pack_value", lambda _value, size=size: bytes(size))
        task = await it.call()
        assert task.done() is not fits
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
