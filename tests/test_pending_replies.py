"""Calls that wait for their replies: answered, failed, timed out, and bounded."""

import asyncio

import pytest

from co2.errors import CallTimeout, PluginFailed
from co2.pending_replies import PendingReplies
from tests.plugin.support import in_loop


def calls(max_calls: int = 3, max_bytes: int | None = 10) -> PendingReplies[bytes]:
    return PendingReplies(max_calls, max_bytes)


@in_loop
async def test_the_first_reply_counts() -> None:
    pending = calls()
    number = pending.begin("ham.spam.one")
    pending.answer(number, b"1")
    pending.answer(number, b"2")
    pending.fail(number, PluginFailed("late"))
    assert await pending.wait(number, 1) == b"1"


@in_loop
async def test_a_call_without_a_reply_times_out_and_a_late_one_is_dropped() -> None:
    pending = calls()
    number = pending.begin("ham.spam.one")
    assert pending.method(number) == "ham.spam.one"
    with pytest.raises(CallTimeout, match=r"ham\.spam\.one.* 0\.001 s"):
        await pending.wait(number, 0.001, grace=0.001)
    pending.answer(number, b"late")
    assert pending.method(number) == ""
    assert pending.begin("ham.spam.two") != number


@in_loop
async def test_all_but_some_fail_together() -> None:
    pending = calls()
    lost, held = pending.begin("lost"), pending.begin("held")
    pending.fail_all(lambda method: PluginFailed(f"{method}: died"), but=[held])
    with pytest.raises(PluginFailed, match="lost: died"):
        await pending.wait(lost, 1)
    pending.answer(held, b"1")
    assert await pending.wait(held, 1) == b"1"


@in_loop
async def test_calls_are_bounded_by_number_and_bytes_and_leave_room_when_they_end() -> None:
    pending = calls()
    assert pending.has_room(10)
    assert not pending.has_room(11)
    first = pending.begin("m", 6)
    assert pending.has_room(4)
    assert not pending.has_room(5)
    pending.begin("m")
    pending.begin("m")
    assert not pending.has_room()
    pending.answer(first, b"")
    await pending.wait(first, 1)
    assert pending.has_room(10)


@in_loop
async def test_who_gives_up_leaves_nothing_behind() -> None:
    pending = calls()
    task = asyncio.create_task(pending.wait(pending.begin("m", 10), 60))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert len(pending) == 0
    assert pending.has_room(10)
