"""Calls to satellites: shares for callers and callees, and who gives way."""

import asyncio
from collections.abc import Callable

import pytest

from co2.errors import Unreachable
from co2.host_id import HostId
from co2.protocol.relay.cursors import Peer
from co2.protocol.wire.link_frames import Result
from co2.relay.pending_calls import MAX_CALLS, MAX_CALLS_OF_CALLER, MAX_CALLS_TO_CALLEE, PendingCalls


def callee(name: str) -> Peer:
    return Peer(None, ("192.0.2.1", 1), host_id=HostId(name, "192.0.2.1", 1))  # type: ignore[arg-type]


def in_loop(test: Callable[[], None]) -> None:
    async def run() -> None:
        test()

    asyncio.run(run())


def test_a_caller_has_so_many_and_is_told_which_limit_it_is() -> None:
    def test() -> None:
        calls, ham = PendingCalls(), callee("ham")
        taken = [calls.add(ham, "mallory", "192.0.2.9") for _ in range(MAX_CALLS_OF_CALLER)]
        with pytest.raises(
            Unreachable, match=f"192.0.2.9 has {MAX_CALLS_OF_CALLER} calls .*the limit for one caller"
        ):
            calls.add(ham, "mallory", "192.0.2.9")
        assert not calls.add(ham, "honest", "192.0.2.8").answer.done()
        calls.remove(taken[0])
        calls.remove(taken[0])
        calls.add(ham, "mallory", "192.0.2.9")
        assert len(calls) == MAX_CALLS_OF_CALLER + 1

    in_loop(test)


def test_a_callee_that_is_full_still_takes_calls_of_others() -> None:
    def test() -> None:
        calls, ham = PendingCalls(), callee("ham")
        greedy = [calls.add(ham, f"mallory {n % 2}", f"192.0.2.{n % 2}") for n in range(MAX_CALLS_TO_CALLEE)]
        honest = calls.add(ham, "honest", "192.0.2.8")
        assert len(calls) == MAX_CALLS_TO_CALLEE
        assert f"{MAX_CALLS_TO_CALLEE} calls to it" in greedy[0].answer.result().error
        assert not honest.answer.done()
        assert calls.answered(ham, Result(honest.number, b"", 0, ""))
        assert not calls.answered(ham, Result(greedy[0].number, b"", 0, ""))
        assert calls.displaced == 1

    in_loop(test)


def test_where_all_have_few_a_further_caller_is_refused() -> None:
    def test() -> None:
        calls = PendingCalls()
        for n in range(MAX_CALLS):
            calls.add(callee("ham"), f"caller {n}", "it")
        with pytest.raises(Unreachable, match=f"{MAX_CALLS} calls to satellites .*the limit of this relay"):
            calls.add(callee("ham"), "one more", "it")

    in_loop(test)


def test_together_there_are_so_many_and_few_find_room_among_many() -> None:
    def test() -> None:
        calls = PendingCalls()
        satellites = [callee(f"ham {n}") for n in range(MAX_CALLS // 100)]
        for n in range(MAX_CALLS):
            calls.add(satellites[n // 100], f"mallory {n // 100}", "it")
        honest = calls.add(callee("spam"), "honest", "it")
        assert not honest.answer.done()
        assert (len(calls), calls.displaced) == (MAX_CALLS, 1)
        calls.left(satellites[5])
        assert honest.answer.done() is False

    in_loop(test)
