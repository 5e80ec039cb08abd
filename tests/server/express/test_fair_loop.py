"""A late loop serves the first rank between two pieces of work."""

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable

import pytest

from co2.server.express import fair_loop
from co2.server.express.fair_loop import FairLoop
from co2.server.express.fair_selector import LATE, FairSelector, put_behind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a second rank")


def run(test: Callable[[FairLoop], None], load: float) -> None:
    """Run a function in a loop that has been at work for a share of its time."""
    selector = FairSelector()
    loop = FairLoop(selector)
    try:
        selector.load = load

        async def go() -> None:
            test(loop)
            await asyncio.sleep(0)
            for _ in range(3):
                await asyncio.sleep(0)

        loop.run_until_complete(go())
    finally:
        loop.close()


def work(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def told_after(load: float, *, behind: bool = False, pieces: int = 10) -> int:
    """Return after how many pieces of work what came during the first of them was handled."""
    done: list[str] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)

        def read() -> None:
            ours.recv(10)
            done.append("read")

        def begin(loop: FairLoop) -> None:
            if behind:
                put_behind(loop, ours.fileno())
            loop.add_reader(ours.fileno(), read)
            for number in range(pieces):
                loop.call_soon(piece, number)

        def piece(number: int) -> None:
            work(2 * fair_loop.LOOK)
            if number == 0:
                theirs.send(b"x")
            done.append("piece")

        run(begin, load)
    return done.index("read")


def test_a_late_loop_looks_between_two_pieces_of_work() -> None:
    assert told_after(1.0) == 1


def test_a_loop_with_time_to_spare_does_all_that_is_ready_as_asyncio_does() -> None:
    assert told_after(LATE / 2) == 10
    # The turn's own work besides, of asyncio and of this test.
    assert told_after(LATE / 2, pieces=fair_loop.LONG_TURN - 2) == fair_loop.LONG_TURN - 2


def test_a_loop_with_time_to_spare_looks_between_the_pieces_of_much_work() -> None:
    assert told_after(LATE / 2, pieces=fair_loop.LONG_TURN) == 1


def test_the_second_rank_waits_for_the_next_turn() -> None:
    assert told_after(1.0, behind=True) == 10


def test_what_is_ready_of_the_first_rank_comes_before_what_was_queued_and_the_second_behind_it() -> None:
    done: list[str] = []
    pairs = [socket.socketpair() for _ in range(2)]
    try:

        def begin(loop: FairLoop) -> None:
            for name, (ours, theirs) in zip(("behind", "first"), pairs, strict=True):
                ours.setblocking(False)
                if name == "behind":
                    put_behind(loop, ours.fileno())

                def read(name: str = name, sock: socket.socket = ours) -> None:
                    sock.recv(10)
                    done.append(name)

                loop.add_reader(ours.fileno(), read)
                theirs.send(b"x")
            loop.call_soon(done.append, "queued")

        run(begin, 0.0)
    finally:
        for pair in pairs:
            for sock in pair:
                sock.close()
    assert done == ["first", "queued", "behind"]


def test_callbacks_that_were_cancelled_are_not_run() -> None:
    done: list[str] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def begin(loop: FairLoop) -> None:
            loop.add_reader(ours.fileno(), done.append, "read")
            theirs.send(b"x")
            loop.call_soon(stop, loop)

        def stop(loop: FairLoop) -> None:
            loop.remove_reader(ours.fileno())
            work(2 * fair_loop.LOOK)

        run(begin, 1.0)
        # Ready before the callback that removed it: it ran once, and not again afterwards.
        assert done == ["read"]


@pytest.fixture
def late_loop(monkeypatch: pytest.MonkeyPatch) -> FairLoop:
    monkeypatch.setattr(fair_loop, "is_late", lambda _loop: True)
    return FairLoop(FairSelector())


def test_what_a_thread_queues_is_all_done_and_in_order(late_loop: FairLoop) -> None:
    """With short turns of the interpreter some of these would be lost, or overtake others, if it were not."""
    loop, number, done = late_loop, 50_000, []
    before = sys.getswitchinterval()

    def queue() -> None:
        for which in range(number):
            loop.call_soon_threadsafe(done.append, which)

    async def go() -> None:
        thread = threading.Thread(target=queue)
        thread.start()
        end = time.monotonic() + 20
        while thread.is_alive() and time.monotonic() < end:
            for _ in range(200):
                loop.call_soon(int)
            await asyncio.sleep(0)
        while len(done) < number and time.monotonic() < end:  # what was lost never comes
            await asyncio.sleep(0)

    sys.setswitchinterval(1e-6)
    try:
        loop.run_until_complete(go())
    finally:
        sys.setswitchinterval(before)
        loop.close()
    assert len(done) == number, f"{number - len(done)} are lost"
    assert done == sorted(done)


def test_who_floods_in_the_first_rank_leaves_half_of_the_time_to_what_is_queued(late_loop: FairLoop) -> None:
    loop, queued = late_loop, 20
    pairs = [socket.socketpair() for _ in range(5)]
    done = floods = 0

    def piece() -> None:
        nonlocal done
        work(0.0011)
        done += 1

    def flood() -> None:
        nonlocal floods
        if done < queued:
            work(0.004)
            floods += 1

    async def go() -> None:
        for ours, theirs in pairs:
            ours.setblocking(False)
            loop.add_reader(ours.fileno(), flood)  # always readable
            theirs.send(b"x")
        for _ in range(queued):
            loop.call_soon(piece)
        while done < queued:
            await asyncio.sleep(0)
        for ours, _ in pairs:
            loop.remove_reader(ours.fileno())

    try:
        loop.run_until_complete(go())
    finally:
        for pair in pairs:
            for sock in pair:
                sock.close()
        loop.close()
    # 22 ms of work, as much for the flood, and one or two looks more: 15 or 20. One behind each piece: 100.
    # Counted, not timed: a busy machine makes both take longer.
    assert 5 <= floods <= 50
