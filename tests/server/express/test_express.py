"""The express: what is expected goes through, byte for byte; everything else is Python's, and nothing is lost."""

from __future__ import annotations  # epoll is Linux's only

import asyncio
import contextlib
import os
import select
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from co2.plugin.parent.delivery_queue import OVERHEAD
from co2.protocol.wire.batch import MAX_BATCH_MESSAGES, make_batch
from co2.protocol.wire.checksum import crc32
from co2.protocol.wire.websocket import message_head
from co2.server.express import loop as express
from co2.server.express.message_clock import MessageClock

with contextlib.suppress(ImportError):
    from co2.server.express import _express
from co2.server.express.fair_selector import LATE, WINDOW
from co2.server.express.frame_template import RUN_BYTES, Number, Outline
from co2.server.express.loop import COUNTED, FROM_CLIENT, FROM_SERVER, Expected, ExpressLoop, Way
from tests.harness import wait_for
from tests.needs import needs
from tests.simulation.foresight import filled

NOTHING: list[Expected] = []
NO_CLOCK = (0.0, 0.0, 0.0)


def no_habits() -> bytearray:
    return bytearray(_express.HABITS_SIZE)


needs_c = needs(express.AVAILABLE, "the express is not compiled here (gcc, Python's headers; then make venv)")

PLAIN, CHECKED = Outline(b"\x95\xa7Publish\xa1x", False, b"\xc2"), Outline(b"\x98\xa7Publish\x01\x02", True, b"")
BATCH = make_batch([b"\x81\xa4data\x01"])


@pytest.mark.skipif(sys.platform != "linux", reason="the express is Linux's")
def test_where_there_is_a_compiler_it_is_compiled() -> None:
    headers = Path(sysconfig.get_path("include"), "Python.h")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    assert express.AVAILABLE or not headers.exists() or not shutil.which(compiler), (
        "src/co2/server/express/_express.c is not compiled, or has changed since: touch it, then make venv"
    )


NONE = "import sys\nsys.modules['co2.server.express._express'] = None\n"
STALE = """
import sys, types
module = sys.modules["co2.server.express._express"] = types.ModuleType("co2.server.express._express")
module.SOURCE, module.wait = 1, None
"""


@pytest.mark.parametrize("instead", [NONE, STALE], ids=["none", "of another source"])
def test_without_the_compiled_module_there_is_none(tmp_path: Path, instead: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(instead)
    imports = "from co2.server.express import loop; from co2.server.process import run"
    code = f"{imports}; print(loop.AVAILABLE, run._loop_factory())"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("False") and "Express" not in done.stdout


class Pair:
    """A socket with both ends, one of them ours."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        for end in (self.ours, self.theirs):
            end.setblocking(False)

    def come(self) -> bytes:
        """Give what has been written to the other side."""
        with contextlib.suppress(BlockingIOError):
            return self.theirs.recv(1_000_000)
        return b""


class RecordingEnd:
    """An end that writes down what it is told."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.ahead: list[bytes] = []
        self.right = True
        self.ended: list[str] = []

    def take_ahead(self, data: bytes, more: bool = False) -> None:
        self.taken.append(data)

    def written_ahead(self, data: bytes) -> None:
        self.ahead.append(data)

    def left_ahead(self) -> int:
        return 0 if self.right else len(self.ahead[-1])

    def break_off(self, why: str) -> None:
        self.ended.append(why)


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [Pair() for _ in range(3)]
    yield made
    for pair in made:
        pair.ours.close()
        pair.theirs.close()


@pytest.fixture
def poll() -> Iterator[select.epoll]:
    if not hasattr(select, "epoll"):
        pytest.skip("the express is Linux's")
    with select.epoll() as epoll:
        yield epoll


def framed(framing: int, body: bytes) -> bytes:
    if framing == COUNTED:
        return len(body).to_bytes(4, "big") + body
    return message_head(len(body), framing == FROM_CLIENT) + body


def use(forecast: Callable[[], Sequence[Expected]]) -> None:
    express.use(lambda: forecast)


def way(pair: Pair, framing: int, outline: Outline, end: RecordingEnd | None = None) -> Way:
    return Way(end or RecordingEnd(), pair.ours.fileno(), framing, outline)


def wait(poll: select.epoll, comes: Way, *becomes: Way, timeout: float = 0.0) -> tuple[int, bytes, object] | None:
    _, rows, counters = express.rows_of([Expected(comes, becomes)])
    found = express.wait(poll.fileno(), timeout, 0.0, 0.0, 0.0, 0.0, NO_CLOCK, no_habits(), rows, counters)
    if found is None:
        return None
    ((which, data, _),), passed = found
    assert len(passed) < 2
    return which, data, passed[0][2] if passed else None


@needs_c
@pytest.mark.parametrize("framing_out", [COUNTED, FROM_SERVER, FROM_CLIENT])
@pytest.mark.parametrize("framing_in", [COUNTED, FROM_SERVER, FROM_CLIENT])
@pytest.mark.parametrize("size", [1, 60, 110, 240, 251, 252, 300, 4000])
def test_what_is_expected_is_passed_on(
    pairs: list[Pair], poll: select.epoll, framing_in: int, framing_out: int, size: int
) -> None:
    batch = make_batch([b"\xc4" + bytes(size)])
    data = framed(framing_in, filled(CHECKED, batch))
    pairs[0].theirs.sendall(data)
    found = wait(poll, way(pairs[0], framing_in, CHECKED), way(pairs[1], framing_out, PLAIN))
    wanted = framed(framing_out, filled(PLAIN, batch))
    assert found == (0, data, (wanted,))
    assert pairs[1].come() == wanted


TIMED_CHECKED, TIMED_PLAIN = CHECKED._replace(timed=True), PLAIN._replace(timed=True)


@needs_c
@pytest.mark.parametrize("at", [0.0, 1.7e9, 1.7e9 + 1 / 3, 2.0**70])
@pytest.mark.parametrize("framing", [COUNTED, FROM_SERVER, FROM_CLIENT])
def test_the_time_of_a_frame_is_passed_on_to_whom_it_is_for(
    pairs: list[Pair], poll: select.epoll, framing: int, at: float
) -> None:
    pairs[0].theirs.sendall(framed(framing, filled(TIMED_CHECKED, BATCH, at)))
    found = wait(
        poll,
        way(pairs[0], framing, TIMED_CHECKED),
        way(pairs[1], COUNTED, TIMED_PLAIN),
        way(pairs[2], COUNTED, PLAIN),
    )
    wanted = framed(COUNTED, filled(TIMED_PLAIN, BATCH, at)), framed(COUNTED, filled(PLAIN, BATCH))
    assert found is not None and found[2] == wanted == (pairs[1].come(), pairs[2].come())


@needs_c
def test_what_comes_without_a_time_gets_that_of_its_arrival(pairs: list[Pair], poll: select.epoll) -> None:
    ways = way(pairs[1], FROM_SERVER, TIMED_CHECKED), way(pairs[2], COUNTED, TIMED_PLAIN)
    _, rows, counters = express.rows_of([Expected(way(pairs[0], COUNTED, PLAIN), ways)])
    pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)) * 2)
    before = time.time()
    state = (before - time.monotonic(), 1.0, 0.0)
    found = express.wait(poll.fileno(), 0.0, 0.0, 0.0, 0.0, 0.0, state, no_habits(), rows, counters)
    assert found is not None
    ((_, _, at),), passed = found
    assert before <= at <= time.time()
    wanted = framed(FROM_SERVER, filled(TIMED_CHECKED, BATCH, at)), framed(COUNTED, filled(TIMED_PLAIN, BATCH, at))
    assert [written for _, _, written in passed] == [wanted, wanted], "those of one read have one time"
    assert (pairs[1].come(), pairs[2].come()) == (2 * wanted[0], 2 * wanted[1])


@needs_c
@pytest.mark.parametrize(
    ("ahead", "step", "last", "shows"),
    [
        (0.5, 1.0, 0.0, 0.0),
        (-0.5, 1.0, 0.0, 0.0),
        (3600.0, 1.0, 0.0, 3600.0),
        (-3600.0, 1.0, 0.0, -3600.0),
        (0.0, 1.0, 3600.0, 3600.0),
    ],
    ids=["followed", "followed back", "set back", "set forward", "never before the last"],
)
def test_the_time_is_that_of_the_wall_clock_unless_it_has_been_set(
    pairs: list[Pair], poll: select.epoll, ahead: float, step: float, last: float, shows: float
) -> None:
    ways = [way(pairs[1], COUNTED, TIMED_PLAIN)]
    _, rows, counters = express.rows_of([Expected(way(pairs[0], COUNTED, PLAIN), ways)])
    pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
    now = time.time()
    state = (now - time.monotonic() + ahead, step, now + last if last else 0.0)
    found = express.wait(poll.fileno(), 0.0, 0.0, 0.0, 0.0, 0.0, state, no_habits(), rows, counters)
    assert found is not None
    assert found[0][0][2] == pytest.approx(now + shows, abs=0.2)


@needs_c
@pytest.mark.parametrize("end", [b"", b"\x00", b"\xca" + bytes(8), b"\xcb" + bytes(7), b"\xcb" + bytes(9)])
def test_a_frame_that_does_not_end_with_a_time_is_left_to_python(
    pairs: list[Pair], poll: select.epoll, end: bytes
) -> None:
    data = framed(COUNTED, filled(CHECKED, BATCH) + end)
    pairs[0].theirs.sendall(data)
    found = wait(poll, way(pairs[0], COUNTED, TIMED_CHECKED), way(pairs[1], COUNTED, TIMED_PLAIN))
    assert found == (0, data, None)
    assert pairs[1].come() == b""


@needs_c
def test_the_clock_stands_still_during_the_work_on_what_was_passed_on(pairs: list[Pair]) -> None:
    clock = MessageClock()
    shown: list[float] = []

    class LookingEnd(RecordingEnd):
        def take_ahead(self, data: bytes, more: bool = False) -> None:
            shown.append(clock())

    expected = [Expected(way(pairs[0], COUNTED, PLAIN, LookingEnd()), [way(pairs[1], COUNTED, TIMED_CHECKED)])]
    selector = express.Express()
    selector.forecast, selector.clock = lambda: expected, clock
    try:
        pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
        selector.select(1)
    finally:
        selector.close()
    assert pairs[1].come() == framed(COUNTED, filled(TIMED_CHECKED, BATCH, shown[0]))
    assert clock() > shown[0]


@needs_c
@pytest.mark.parametrize("mask", [b"\0\0\0\1", b"\1\0\0\0", b"\xff\xff\xff\xff"])
def test_a_frame_with_a_mask_that_is_not_zeros_is_left_to_python(
    pairs: list[Pair], poll: select.epoll, mask: bytes
) -> None:
    body = filled(CHECKED, BATCH)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
    data = message_head(len(body), True)[:-4] + mask + masked
    pairs[0].theirs.sendall(data)
    found = wait(poll, way(pairs[0], FROM_CLIENT, CHECKED), way(pairs[1], FROM_SERVER, PLAIN))
    assert found == (0, data, None)
    assert pairs[1].come() == b""


@needs_c
@pytest.mark.parametrize("outlines", [(PLAIN, CHECKED), (CHECKED, PLAIN)])
def test_a_checksum_that_has_another_form_is_left_to_python(
    pairs: list[Pair], poll: select.epoll, outlines: tuple[Outline, Outline]
) -> None:
    numbers = (make_batch([b"\xce" + number.to_bytes(4, "big")]) for number in range(2**20))
    batch = next(batch for batch in numbers if crc32(batch) <= 0xFFFF)
    data = framed(COUNTED, filled(outlines[0], batch))
    pairs[0].theirs.sendall(data)
    found = wait(poll, way(pairs[0], COUNTED, outlines[0]), way(pairs[1], COUNTED, outlines[1]))
    assert found == (0, data, None)
    assert pairs[1].come() == b""


@needs_c
def test_several_get_it_and_each_as_it_is_told(pairs: list[Pair], poll: select.epoll) -> None:
    pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
    one, other = way(pairs[1], FROM_CLIENT, CHECKED), way(pairs[2], COUNTED, Outline(b"head", False, b"tail"))
    found = wait(poll, way(pairs[0], COUNTED, PLAIN), one, other)
    assert found is not None and found[2] == (pairs[1].come(), pairs[2].come())
    assert found[2] == (
        framed(FROM_CLIENT, filled(CHECKED, BATCH)),
        framed(COUNTED, filled(Outline(b"head", False, b"tail"), BATCH)),
    )


@needs_c
def test_of_several_that_are_expected_it_is_the_one_that_fits(pairs: list[Pair], poll: select.epoll) -> None:
    pairs[0].theirs.sendall(framed(COUNTED, filled(CHECKED, BATCH)))
    _, rows, counters = express.rows_of(
        [
            Expected(way(pairs[0], COUNTED, outline), [way(pair, COUNTED, PLAIN)])
            for outline, pair in ((PLAIN, pairs[1]), (CHECKED, pairs[2]))
        ]
    )
    found = express.wait(poll.fileno(), 0.0, 0.0, 0.0, 0.0, 0.0, NO_CLOCK, no_habits(), rows, counters)
    assert found is not None and [which for _, which, _ in found[1]] == [1]
    assert (pairs[1].come(), pairs[2].come()) == (b"", framed(COUNTED, filled(PLAIN, BATCH)))


@needs_c
def test_what_comes_right_behind_is_handed_over_with_it(pairs: list[Pair], poll: select.epoll) -> None:
    data = framed(COUNTED, filled(PLAIN, BATCH)) + b"and more"
    pairs[0].theirs.sendall(data)
    found = wait(poll, way(pairs[0], COUNTED, PLAIN), way(pairs[1], COUNTED, CHECKED))
    assert found is not None and found[:2] == (0, data)
    assert pairs[1].come() == framed(COUNTED, filled(CHECKED, BATCH))


@needs_c
def test_work_on_what_was_passed_on_counts_for_how_busy_a_loop_is(pairs: list[Pair]) -> None:
    class BusyEnd(RecordingEnd):
        def take_ahead(self, data: bytes, more: bool = False) -> None:
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                pass

    expected = [Expected(way(pairs[0], COUNTED, PLAIN, BusyEnd()), [way(pairs[1], COUNTED, CHECKED)])]
    selector = express.Express()
    selector.forecast = lambda: expected
    try:
        end = time.monotonic() + 20 * WINDOW  # on a busy machine, others take their share of some windows
        while selector.load <= LATE and time.monotonic() < end:
            pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
            selector.select(0)
            pairs[1].come()
        assert selector.passed
        assert selector.load > LATE
    finally:
        selector.close()


# ---- numbers and runs -----------------------------------------------------------------------------------------

NUMBERED = Outline(b"\x98\xa7Publish\x01\x02", True, b"", (Number(9, "seq", 7),))
BECOMES = Outline(b"\x98\xa7Deliver\x01\x02", True, b"", (Number(9, "position", 126), Number(10, "seq", 7)))


def batch(count: int) -> bytes:
    return make_batch([b"\x81\xa4data\x01"] * count)


def run(
    poll: select.epoll,
    *expected: Expected,
    follow: float = 5.0,
    latest: float = 5.0,
    work: float = 0.0005,
    habits: bytearray | None = None,
) -> tuple[list[tuple[int, bytes]], list[tuple[int, int, tuple[bytes, ...]]]]:
    taken, rows, counters = express.rows_of(expected)
    assert taken == list(expected)
    habits = habits or no_habits()
    found = express.wait(poll.fileno(), 0.0, 1e-6, follow, latest, work, NO_CLOCK, habits, rows, counters)
    assert found is not None
    come = [(which, data) for which, data, _ in found[0]]
    return come, [*found[1]]  # type: ignore[list-item]


@needs_c
@pytest.mark.parametrize("value", [0, 1, 120, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**61])
def test_a_number_has_the_form_that_python_writes(pairs: list[Pair], poll: select.epoll, value: int) -> None:
    comes = NUMBERED._replace(numbers=(Number(9, "seq", value),))
    becomes = BECOMES._replace(numbers=(Number(3, "position", value), Number(9, "seq", value)))
    pairs[0].theirs.sendall(framed(COUNTED, filled(comes, BATCH)))
    found = wait(poll, way(pairs[0], COUNTED, comes), way(pairs[1], COUNTED, becomes))
    assert found is not None and found[2] == (framed(COUNTED, filled(becomes, BATCH)),)
    assert pairs[1].come() == framed(COUNTED, filled(becomes, BATCH))


@needs_c
@pytest.mark.parametrize(
    ("is_free", "value", "is_passed"),
    [
        (False, 6, False),
        (False, 7, True),
        (False, 8, False),
        (True, 6, False),
        (True, 7, True),
        (True, 70_000, True),
        (True, 2**61, True),
        (True, 2**61 + 1, False),
        (True, 2**63, False),
    ],
)
def test_a_number_is_what_was_foreseen_or_larger_where_it_is_free(
    pairs: list[Pair], poll: select.epoll, is_free: bool, value: int, is_passed: bool
) -> None:
    pairs[0].theirs.sendall(framed(COUNTED, filled(NUMBERED._replace(numbers=(Number(9, "seq", value),)), BATCH)))
    comes = NUMBERED._replace(numbers=(Number(9, "seq", 7, is_free),))
    found = wait(poll, way(pairs[0], COUNTED, comes), way(pairs[1], COUNTED, PLAIN))
    assert found is not None and (found[2] is not None) == is_passed
    assert (pairs[1].come() != b"") == is_passed


@needs_c
def test_a_run_of_frames_is_passed_on_with_numbers_that_go_on(pairs: list[Pair], poll: select.epoll) -> None:
    sizes = (1, 2, 40, 1)
    data, wanted, comes, becomes = [], [], NUMBERED, BECOMES
    for size in sizes:
        data.append(framed(FROM_CLIENT, filled(comes, batch(size))))
        wanted.append(framed(COUNTED, filled(becomes, batch(size))))
        comes, becomes = comes.after(size), becomes.after(size)
    pairs[0].theirs.sendall(b"".join(data) + b"and more")
    come, passed = run(poll, Expected(way(pairs[0], FROM_CLIENT, NUMBERED), [way(pairs[1], COUNTED, BECOMES)]))
    assert come == [(0, b"".join(data) + b"and more")]
    assert passed == [(0, 0, (one,)) for one in wanted]
    assert pairs[1].come() == b"".join(wanted)


@needs_c
def test_a_number_that_is_free_is_larger_in_each_frame_of_a_run(pairs: list[Pair], poll: select.epoll) -> None:
    comes = NUMBERED._replace(numbers=(Number(9, "seq", 7, True),))
    data = [
        framed(COUNTED, filled(NUMBERED._replace(numbers=(Number(9, "seq", n),)), batch(2))) for n in (9, 11, 12)
    ]
    pairs[0].theirs.sendall(b"".join(data))
    _, passed = run(poll, Expected(way(pairs[0], COUNTED, comes), [way(pairs[1], COUNTED, PLAIN)]))
    assert len(passed) == 2, "the third has a number of the second"


@needs_c
def test_results_show_the_number_that_has_come_where_it_is_larger(pairs: list[Pair], poll: select.epoll) -> None:
    comes = NUMBERED._replace(numbers=(Number(9, "position", 7, True),))
    becomes = PLAIN._replace(numbers=(Number(0, "first", 1), Number(0, "position", 7)))
    data, wanted = [], []
    for first, position in ((1, 7), (3, 9), (5, 70_000)):
        numbered = NUMBERED._replace(numbers=(Number(9, "position", position),))
        data.append(framed(COUNTED, filled(numbered, batch(2))))
        shown = PLAIN._replace(numbers=(Number(0, "first", first), Number(0, "position", position)))
        wanted.append(framed(COUNTED, filled(shown, batch(2))))
    pairs[0].theirs.sendall(b"".join(data))
    _, passed = run(poll, Expected(way(pairs[0], COUNTED, comes), [way(pairs[1], COUNTED, becomes)]))
    assert passed == [(0, 0, (one,)) for one in wanted]
    assert pairs[1].come() == b"".join(wanted)


@needs_c
def test_what_comes_meanwhile_joins_a_run_also_from_elsewhere_with_numbers_that_both_share(
    pairs: list[Pair], poll: select.epoll
) -> None:
    for pair in pairs:
        poll.register(pair.ours, select.EPOLLIN)
    other_comes = NUMBERED._replace(numbers=(Number(9, "other", 100),))
    other_becomes = BECOMES._replace(numbers=(Number(9, "position", 126), Number(10, "other", 100)))
    one = Expected(way(pairs[0], COUNTED, NUMBERED), [way(pairs[1], COUNTED, BECOMES)])
    other = Expected(way(pairs[2], COUNTED, other_comes), [way(pairs[1], COUNTED, other_becomes)])
    data = [
        framed(COUNTED, filled(NUMBERED, batch(3))),
        framed(COUNTED, filled(other_comes, batch(2))),
        framed(COUNTED, filled(NUMBERED.after(3), batch(1))),
    ]
    pairs[0].theirs.sendall(data[0])

    def others_come() -> None:
        wait_for(lambda: pairs[1].theirs in select.select([pairs[1].theirs], [], [], 0)[0], "what was passed on")
        pairs[2].theirs.sendall(data[1])
        wait_for(lambda: not select.select([pairs[2].ours], [], [], 0)[0], "what was taken")
        pairs[0].theirs.sendall(data[2])
        wait_for(lambda: not select.select([pairs[0].ours], [], [], 0)[0], "what was taken")
        pairs[0].theirs.sendall(b"no frame")

    thread = threading.Thread(target=others_come)
    thread.start()
    come, passed = run(poll, one, other, follow=20.0, latest=60.0)
    thread.join()
    assert come[:3] == [(0, data[0]), (1, data[1]), (0, data[2])]
    assert come[3:] in ([], [(0, b"no frame")])
    becomes = [
        filled(BECOMES, batch(3)),
        filled(other_becomes._replace(numbers=(Number(9, "position", 129), Number(10, "other", 100))), batch(2)),
        filled(BECOMES._replace(numbers=(Number(9, "position", 131), Number(10, "seq", 10))), batch(1)),
    ]
    assert [(segment, which) for segment, which, _ in passed] == [(0, 0), (1, 1), (2, 0)]
    assert [written for _, _, (written,) in passed] == [framed(COUNTED, one) for one in becomes]
    assert pairs[1].come() == b"".join(framed(COUNTED, one) for one in becomes)


@needs_c
def test_a_run_ends_where_anything_else_happens_and_in_time(pairs: list[Pair], poll: select.epoll) -> None:
    for pair in pairs:
        poll.register(pair.ours, select.EPOLLIN)
    expected = Expected(way(pairs[0], COUNTED, NUMBERED), [way(pairs[1], COUNTED, BECOMES)])
    pairs[0].theirs.sendall(framed(COUNTED, filled(NUMBERED, BATCH)))
    began = time.monotonic()
    assert len(run(poll, expected, follow=60.0, latest=20.0)[1]) == 1
    assert time.monotonic() - began < 5, "where nothing can follow in time the work begins at once"
    pairs[2].theirs.sendall(b"x")
    pairs[0].theirs.sendall(framed(COUNTED, filled(NUMBERED, BATCH)))
    assert len(run(poll, expected, follow=60.0, latest=600.0)[1]) == 1
    assert time.monotonic() - began < 30


ANSWER = Outline(b"\x97\xa9Transited", False, b"\x91\xa0", (Number(11, "answered", 126),))


def filtered(pairs: list[Pair]) -> list[Expected]:
    """Return what comes and goes to who answers, and the answer, which goes on."""
    given = Expected(way(pairs[0], COUNTED, NUMBERED), [way(pairs[1], COUNTED, BECOMES)])
    return [given, Expected(way(pairs[1], COUNTED, ANSWER), [way(pairs[2], COUNTED, PLAIN)], answers=given)]


@needs_c
def test_an_answer_is_passed_on_behind_what_it_answers_with_the_messages_that_it_has(
    pairs: list[Pair], poll: select.epoll
) -> None:
    question, other = framed(COUNTED, filled(NUMBERED, batch(2))), make_batch([b"\x81\xa4data\x07"] * 2)
    answer = framed(COUNTED, filled(ANSWER, other))
    pairs[0].theirs.sendall(question)
    pairs[1].theirs.sendall(answer)
    come, passed = run(poll, *filtered(pairs))
    assert come == [(0, question), (1, answer)]
    asks, goes_on = framed(COUNTED, filled(BECOMES, batch(2))), framed(COUNTED, filled(PLAIN, other))
    assert passed == [(0, 0, (asks,)), (1, 1, (goes_on,))]
    assert (pairs[1].come(), pairs[2].come()) == (asks, goes_on)


@needs_c
def test_several_wait_for_answers_which_come_in_their_order(pairs: list[Pair], poll: select.epoll) -> None:
    sizes = (1, 3, 2)
    comes, answers = NUMBERED, ANSWER
    for size in sizes:
        pairs[0].theirs.sendall(framed(COUNTED, filled(comes, batch(size))))
        pairs[1].theirs.sendall(framed(COUNTED, filled(answers, batch(size))))
        comes, answers = comes.after(size), answers.after(size)
    _, passed = run(poll, *filtered(pairs))
    assert [which for _, which, _ in passed] == [0, 0, 0, 1, 1, 1]
    assert pairs[2].come() == b"".join(framed(COUNTED, filled(PLAIN, batch(size))) for size in sizes)


@needs_c
@pytest.mark.parametrize(
    ("asked", "answered"),
    [([], [1]), ([1], [2]), ([2], [1]), ([1, 2], [2]), ([1], [1, 1])],
    ids=["nothing was asked", "more messages", "fewer messages", "of another one", "answered already"],
)
def test_what_is_no_answer_to_the_oldest_question_is_left_to_python(
    pairs: list[Pair], poll: select.epoll, asked: list[int], answered: list[int]
) -> None:
    comes, answers = NUMBERED, ANSWER
    for size in asked:
        pairs[0].theirs.sendall(framed(COUNTED, filled(comes, batch(size))))
        comes = comes.after(size)
    for size in answered:
        pairs[1].theirs.sendall(framed(COUNTED, filled(answers, batch(size))))
        answers = answers.after(size)
    come, passed = run(poll, *filtered(pairs))
    assert sum(which == 1 for _, which, _ in passed) == len(answered) - 1
    assert come[-1][0] == 1, "Python takes it"
    assert pairs[2].come().count(b"Publish") == len(answered) - 1


@needs_c
def test_an_answer_is_not_expected_without_what_it_answers(pairs: list[Pair], poll: select.epoll) -> None:
    given, answer = filtered(pairs)
    assert express.rows_of([answer])[0] == []
    assert express.rows_of([answer, given])[0] == []
    two = given._replace(becomes=[*given.becomes, way(pairs[2], COUNTED, PLAIN)])
    with pytest.raises(ValueError, match="several results"):
        run(poll, two, answer._replace(answers=two))


class Pattern:
    """Frames that come on two sockets in a rhythm, and where runs of them end.

    Args:
        gaps: seconds behind a frame on the first socket, and behind one on the second.
    """

    def __init__(self, pairs: list[Pair], poll: select.epoll, gaps: tuple[float, float]) -> None:
        self._pairs = pairs
        self._poll = poll
        self._gaps = gaps
        self._counts = [7, 100]
        self.habits = no_habits()

    def expected(self) -> list[Expected]:
        return [
            Expected(way(self._pairs[n], COUNTED, self._outline(n)), [way(self._pairs[2], COUNTED, PLAIN)])
            for n in range(2)
        ]

    def _outline(self, n: int) -> Outline:
        return NUMBERED._replace(numbers=(Number(9, f"of {n}", self._counts[n]),))

    def run_on(self, seconds: float, latest: float, work: float) -> list[int]:
        """Send in another thread, take run after run here; give on which socket the last frame of each came."""
        ends: list[int] = []
        done = threading.Event()

        def send() -> None:
            due, counts = time.monotonic(), list(self._counts)
            until = due + seconds
            while time.monotonic() < until:
                for n in range(2):
                    outline = NUMBERED._replace(numbers=(Number(9, f"of {n}", counts[n]),))
                    self._pairs[n].theirs.sendall(framed(COUNTED, filled(outline, BATCH)))
                    counts[n] += 1
                    due += self._gaps[n]
                    time.sleep(max(0.0, due - time.monotonic()))
            done.set()

        thread = threading.Thread(target=send)
        thread.start()
        while not done.is_set():
            _, rows, counters = express.rows_of(self.expected())
            found = express.wait(
                self._poll.fileno(), 0.2, 1e-4, 0.02, latest, work, NO_CLOCK, self.habits, rows, counters
            )
            for _, which, _ in found[1] if found else ():
                self._counts[which] += 1
            if found and found[1]:
                ends.append(found[1][-1][1])
            self._pairs[2].come()
        thread.join()
        return ends


@needs_c
def test_runs_come_to_end_behind_the_frame_that_nothing_follows_for_long(
    pairs: list[Pair], poll: select.epoll
) -> None:
    """As where an answer follows soon, and then there is a pause: the work is to be in nobody's way."""
    for pair in pairs[:2]:
        poll.register(pair.ours, select.EPOLLIN)
    pattern = Pattern(pairs, poll, (0.01, 0.06))
    ends = pattern.run_on(2.0, latest=0.065, work=0.03)
    assert len(ends) > 15
    assert ends[5:].count(1) >= 0.8 * len(ends[5:]), "behind the answer, not behind what it answers"


@needs_c
def test_runs_take_in_as_many_frames_as_there_is_time_for(pairs: list[Pair], poll: select.epoll) -> None:
    """Where they come evenly it ends behind the last one that comes in time."""
    for pair in pairs[:2]:
        poll.register(pair.ours, select.EPOLLIN)
    pattern = Pattern(pairs, poll, (0.02, 0.02))
    ends = pattern.run_on(2.0, latest=0.05, work=0.01)
    assert 20 <= len(ends) <= 50, "of a hundred frames two or three go together"


@needs_c
@pytest.mark.parametrize(("count", "size", "passed"), [(40, 1, 16), (4, 1500, 2)])
def test_a_run_has_bounds(pairs: list[Pair], poll: select.epoll, count: int, size: int, passed: int) -> None:
    outlines = [NUMBERED.after(size * at) for at in range(count)]
    small = make_batch([b"\x01"] * size)
    pairs[0].theirs.sendall(b"".join(framed(COUNTED, filled(one, small)) for one in outlines))
    found = run(poll, Expected(way(pairs[0], COUNTED, NUMBERED), [way(pairs[1], COUNTED, BECOMES)]))
    assert len(found[1]) == passed


@needs_c
def test_a_run_ends_with_a_frame_of_which_there_was_no_room_for_all(pairs: list[Pair], poll: select.epoll) -> None:
    pairs[1].ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    with contextlib.suppress(BlockingIOError):
        while True:
            pairs[1].ours.send(bytes(512))
    pairs[0].theirs.sendall(
        framed(COUNTED, filled(NUMBERED, BATCH)) + framed(COUNTED, filled(NUMBERED.after(1), BATCH))
    )
    found = run(poll, Expected(way(pairs[0], COUNTED, NUMBERED), [way(pairs[1], COUNTED, BECOMES)]))
    assert found[1] == [(0, 0, (b"",))]


def test_of_frames_that_differ_in_what_a_counter_says_the_first_one_is_taken(pairs: list[Pair]) -> None:
    expected = [
        Expected(way(pairs[at], COUNTED, NUMBERED._replace(numbers=(Number(9, "seq", 7 + at),))), [])
        for at in range(2)
    ]
    many = tuple(Number(9, at, 1) for at in range(express.MAX_COUNTERS + 1))
    assert express.rows_of(expected)[0] == expected[:1]
    assert express.rows_of([Expected(way(pairs[0], COUNTED, NUMBERED._replace(numbers=many)), [])])[0] == []


def others() -> Iterator[tuple[str, bytes]]:
    whole = framed(COUNTED, filled(CHECKED, BATCH))
    yield "half a frame", whole[:-1]
    yield "less than a head", whole[:3]
    yield "another head", framed(COUNTED, filled(Outline(b"\x98\xa7Publish\x01\x03", True, b""), BATCH))
    yield "another tail", framed(COUNTED, filled(CHECKED, BATCH) + b"\x00")
    wrong = msgspec.msgpack.encode(crc32(BATCH) ^ 1)
    yield "a wrong checksum", framed(COUNTED, CHECKED.head + wrong + msgspec.msgpack.encode(BATCH))
    yield "no batch", framed(COUNTED, filled(CHECKED, b"\xdc\x00\x01\x01\x01"))
    yield "an empty batch", framed(COUNTED, filled(CHECKED, make_batch([])))
    yield "too many messages", framed(COUNTED, filled(CHECKED, make_batch([b"\x01"] * (MAX_BATCH_MESSAGES + 1))))
    long = b"\xc5" + len(BATCH).to_bytes(2, "big") + BATCH
    yield "a length in a longer form", framed(COUNTED, CHECKED.head + msgspec.msgpack.encode(crc32(BATCH)) + long)
    yield "a huge size", b"\xff\xff\xff\xff" + whole[4:]
    yield "a tail of another kind", framed(COUNTED, filled(Outline(CHECKED.head, True, b"\xc3"), BATCH))
    yield "the other framing", framed(FROM_CLIENT, filled(CHECKED, BATCH))


@needs_c
@pytest.mark.parametrize(("what", "data"), list(others()), ids=[what for what, _ in others()])
def test_what_is_not_expected_is_handed_over_and_not_passed_on(
    pairs: list[Pair], poll: select.epoll, what: str, data: bytes
) -> None:
    pairs[0].theirs.sendall(data)
    found = wait(poll, way(pairs[0], COUNTED, CHECKED), way(pairs[1], COUNTED, PLAIN))
    assert found == (0, data[:8192], None), what
    assert pairs[1].come() == b""


@needs_c
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300),
    at=st.integers(0, 40),
    framing=st.sampled_from([COUNTED, FROM_SERVER, FROM_CLIENT]),
    outline=st.sampled_from([PLAIN, CHECKED]),
)
def test_one_byte_that_is_another_and_bytes_of_any_kind(
    pairs: list[Pair], poll: select.epoll, data: bytes, at: int, framing: int, outline: Outline
) -> None:
    whole = framed(framing, filled(outline, BATCH))
    changed = bytearray(whole)
    changed[at % len(whole)] ^= 0x41
    for bytes_ in (data, bytes(changed)):
        if not bytes_:
            continue
        pairs[0].theirs.sendall(bytes_)
        found = wait(poll, way(pairs[0], framing, outline), way(pairs[1], COUNTED, PLAIN))
        assert found is not None and found[1] == bytes_
        passed = pairs[1].come()
        # A batch that is not checked may be any: what is passed on is just that one.
        assert passed == b"" or (not outline.checked and passed[4 + len(PLAIN.head) :].startswith(b"\xc4"))
        assert (found[2] is None) == (passed == b"")


@needs_c
def test_who_has_no_room_gets_what_fits_and_that_is_told(pairs: list[Pair], poll: select.epoll) -> None:
    pairs[1].ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    with contextlib.suppress(BlockingIOError):
        while True:
            pairs[1].ours.send(bytes(512))
    pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
    found = wait(poll, way(pairs[0], COUNTED, PLAIN), way(pairs[1], COUNTED, PLAIN))
    assert found is not None and found[2] == (b"",)


@needs_c
def test_an_end_or_nothing_is_left_to_the_transport(pairs: list[Pair], poll: select.epoll) -> None:
    assert wait(poll, way(pairs[0], COUNTED, PLAIN)) is None
    pairs[0].theirs.close()
    assert wait(poll, way(pairs[0], COUNTED, PLAIN), timeout=5.0) is None
    assert pairs[0].ours.recv(1) == b""


@needs_c
def test_anything_else_that_happens_ends_the_wait(pairs: list[Pair], poll: select.epoll) -> None:
    poll.register(pairs[1].ours, select.EPOLLIN)
    pairs[1].theirs.send(b"x")
    assert wait(poll, way(pairs[0], COUNTED, PLAIN), timeout=-1.0) is None


@needs_c
@pytest.mark.parametrize(
    "rows",
    [
        (((3, 3, b"", 0, b"", ()), ()),),
        (((3, -1, b"", 0, b"", ()), ()),),
        (((3, 0, bytes(5000), 0, b"", ()), ()),),
        (((3, 0, b"", 0, b"", ()), ((3, 0, b"", 0, b"", ()),) * 65),),
        (((3, 0, b"", 0, b"", ()), (1,)),),
        ((1, 2),),
        (((3, 0, b"", 0, b"", ()), ()),) * 17,
        (((3, 0, b"", 0, b""), ()),),
        (((3, 0, b"head", 0, b"", ((5, 0, False),)), ()),),
        (((3, 0, b"head", 0, b"", ((-1, 0, False),)), ()),),
        (((3, 0, b"head", 0, b"", ((3, 0, False), (2, 0, False))), ()),),
        (((3, 0, b"head", 0, b"", ((1, 0, False),) * 3), ()),),
        (((3, 0, b"head", 0, b"", ((1, 1, False),)), ()),),
        (((3, 0, b"head", 0, b"", ((1, -1, False),)), ()),),
        (((3, 0, b"head", 0, b"", (1,)), ()),),
        (((3, 0, b"head", 0, b"", ()), ((3, 0, b"head", 0, b"", ((1, 0, True),)),)),),
    ],
)
def test_what_is_no_forecast_is_refused(poll: select.epoll, rows: tuple[object, ...]) -> None:
    with pytest.raises((TypeError, ValueError)):
        express.wait(poll.fileno(), 0.0, 0.0, 0.0, 0.0, 0.0, NO_CLOCK, no_habits(), rows, (7,))  # type: ignore[arg-type]


@needs_c
@pytest.mark.parametrize("counters", [(1,) * 257, (-1,), (2**64,), ("1",)])
def test_what_is_no_counter_is_refused(poll: select.epoll, counters: tuple[object, ...]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        express.wait(poll.fileno(), 0.0, 0.0, 0.0, 0.0, 0.0, NO_CLOCK, no_habits(), (), counters)  # type: ignore[arg-type]


# ---- in an event loop ---------------------------------------------------------------------------------------


@needs_c
def test_the_work_is_done_before_anything_else(pairs: list[Pair]) -> None:
    loop, order = ExpressLoop(), []
    source, target = RecordingEnd(), RecordingEnd()

    async def main() -> None:
        comes, becomes = way(pairs[0], COUNTED, PLAIN, source), way(pairs[1], COUNTED, CHECKED, target)
        source.take_ahead = lambda data, more: order.append("work")  # type: ignore[method-assign]
        use(lambda: [Expected(comes, [becomes])] if not order else NOTHING)
        pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
        loop.call_soon(lambda: order.append("soon"))
        while len(order) < 2:
            await asyncio.sleep(0)
        assert express.counts() == (1, 0)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    assert order == ["work", "soon"]
    assert target.ahead == [framed(COUNTED, filled(CHECKED, BATCH))] == [pairs[1].come()]


@needs_c
def test_what_was_written_wrongly_ends_the_express_and_is_told(
    pairs: list[Pair], caplog: pytest.LogCaptureFixture
) -> None:
    loop, undone = ExpressLoop(), []
    target = RecordingEnd()
    target.right = False

    async def main() -> None:
        comes, becomes = way(pairs[0], COUNTED, PLAIN), way(pairs[1], COUNTED, CHECKED, target)
        use(lambda: [Expected(comes, [becomes], lambda: bool(undone.append(True)))])
        pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
        while not undone:
            await asyncio.sleep(0)
        assert express.counts() == (1, 1)
        assert loop.express.forecast() == ()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    assert undone == [True] and "wrote wrong data" in caplog.text
    assert target.ended == ["wrong data was written to it"]


@needs_c
def test_what_was_written_wrongly_for_a_reason_ends_that_connection_only(
    pairs: list[Pair], caplog: pytest.LogCaptureFixture
) -> None:
    loop, target = ExpressLoop(), RecordingEnd()
    target.right = False
    comes, becomes = way(pairs[0], COUNTED, PLAIN), way(pairs[1], COUNTED, CHECKED, target)
    loop.express.forecast = lambda: [Expected(comes, [becomes], lambda: True)]
    pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
    assert loop.express.select(5.0) == []
    assert (loop.express.passed, loop.express.failed) == (1, 0)
    assert target.ended and loop.express.forecast() != () and "wrote wrong data" not in caplog.text
    loop.close()


@needs_c
def test_in_a_run_what_follows_a_wrong_frame_is_taken_after_its_numbers_are_given_up(pairs: list[Pair]) -> None:
    loop, order = ExpressLoop(), []
    one, other, target = RecordingEnd(), RecordingEnd(), RecordingEnd()
    one.take_ahead = lambda data, more: order.append(("one", more))  # type: ignore[method-assign]
    other.take_ahead = lambda data, more: order.append(("other", more))  # type: ignore[method-assign]
    target.right = False

    def failed() -> bool:
        order.append("given up")
        return True

    loop.express.forecast = lambda: [
        Expected(way(pairs[0], COUNTED, PLAIN, one), [way(pairs[1], COUNTED, CHECKED, target)], failed),
        Expected(way(pairs[2], COUNTED, PLAIN, other), []),
    ]
    for pair in (pairs[0], pairs[2]):
        pair.theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
    assert loop.express.select(5.0) == []
    assert order == [("one", True), "given up", ("other", False)]
    assert target.ended and loop.express.failed == 0
    loop.close()


@needs_c
def test_it_sleeps_once(pairs: list[Pair]) -> None:
    loop, source = ExpressLoop(), RecordingEnd()
    loop.express.forecast = lambda: [Expected(way(pairs[0], COUNTED, PLAIN, source), [])]
    pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
    began = time.monotonic()
    assert loop.express.select(30.0) == []
    assert source.taken and time.monotonic() - began < 15
    loop.close()


@needs_c
@pytest.mark.parametrize("timeout", [None, 61.0])
def test_the_work_waits_for_what_follows_where_nothing_else_is_due(
    pairs: list[Pair], monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    monkeypatch.setattr(express, "ANSWER", 20.0)
    monkeypatch.setattr(express, "LATEST", 60.0)
    loop, source = ExpressLoop(), RecordingEnd()
    expected = Expected(way(pairs[0], COUNTED, NUMBERED, source), [way(pairs[1], COUNTED, BECOMES)])
    loop.express.forecast = lambda: [expected]
    data = [framed(COUNTED, filled(comes, BATCH)) for comes in (NUMBERED, NUMBERED.after(1))]

    def another_comes() -> None:
        wait_for(lambda: pairs[1].theirs in select.select([pairs[1].theirs], [], [], 0)[0], "what was passed on")
        pairs[0].theirs.sendall(data[1] + b"no frame")

    thread = threading.Thread(target=another_comes)
    thread.start()
    pairs[0].theirs.sendall(data[0])
    assert loop.express.select(timeout) == []
    thread.join()
    assert (loop.express.passed, loop.express.failed) == (2, 0)
    assert b"".join(source.taken) == b"".join(data) + b"no frame"
    loop.close()


@needs_c
@pytest.mark.parametrize("timeout", [0.0, 1.0, 60.0])
def test_the_work_begins_at_once_where_something_else_is_due(
    pairs: list[Pair], monkeypatch: pytest.MonkeyPatch, timeout: float
) -> None:
    monkeypatch.setattr(express, "ANSWER", 20.0)
    monkeypatch.setattr(express, "LATEST", 60.0)
    loop, source = ExpressLoop(), RecordingEnd()
    expected = Expected(way(pairs[0], COUNTED, NUMBERED, source), [way(pairs[1], COUNTED, BECOMES)])
    loop.express.forecast = lambda: [expected]
    pairs[0].theirs.sendall(framed(COUNTED, filled(NUMBERED, BATCH)))
    began = time.monotonic()
    assert loop.express.select(timeout) == []
    assert time.monotonic() - began < 15
    assert (loop.express.passed, len(source.taken)) == (1, 1)
    loop.close()


@needs_c
def test_where_memory_is_out_in_the_middle_of_it_all_that_it_had_to_do_with_ends(
    pairs: list[Pair], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(express, "wait", fails)
    loop, source, target, undone = ExpressLoop(), RecordingEnd(), RecordingEnd(), []
    comes, becomes = way(pairs[0], COUNTED, PLAIN, source), way(pairs[1], COUNTED, CHECKED, target)
    loop.express.forecast = lambda: [Expected(comes, [becomes], lambda: bool(undone.append(True)))]
    assert loop.express.select(5.0) == []
    assert source.ended and target.ended and undone == [True]
    assert loop.express.failed == 1 and loop.express.forecast() == ()
    loop.close()


@needs_c
def test_an_error_in_the_work_ends_nothing(pairs: list[Pair], caplog: pytest.LogCaptureFixture) -> None:
    loop, source = ExpressLoop(), RecordingEnd()

    async def main() -> None:
        def fails(data: bytes, more: bool) -> None:
            source.taken.append(data)
            raise KeyError("ours")

        source.take_ahead = fails  # type: ignore[method-assign]
        use(lambda: [] if source.taken else [Expected(way(pairs[0], COUNTED, PLAIN, source), [])])
        pairs[0].theirs.sendall(b"anything")
        while not source.taken:
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    assert source.taken == [b"anything"] and "could not be processed" in caplog.text
    assert source.ended == ["internal error"], "what is left of it must come again"


@needs_c
def test_the_bounds_are_those_of_c_and_what_is_beyond_them_is_left_to_python(pairs: list[Pair]) -> None:
    names = ("MAX_BECOMES", "MAX_EXPECTED", "MAX_HEAD", "MAX_NUMBERS", "MAX_COUNTERS", "MAX_RUN_SIZE")
    assert [getattr(_express, name) for name in names] == [getattr(express, name) for name in names]
    assert 2 * _express.MAX_MESSAGES == express.MAX_RUN_MESSAGES
    assert express.MAX_RUN_SIZE + _express.MAX_RUN * OVERHEAD < RUN_BYTES
    loop, end = ExpressLoop(), RecordingEnd()
    comes, big = way(pairs[0], COUNTED, PLAIN, end), Outline(bytes(express.MAX_HEAD), False, b"\0")
    everybody = [way(pairs[1], COUNTED, PLAIN)] * (express.MAX_BECOMES + 1)
    beyond = [Expected(comes, everybody), Expected(comes, [way(pairs[1], COUNTED, big)])]
    beyond += [Expected(way(pairs[0], COUNTED, CHECKED), [])] * express.MAX_EXPECTED + [
        Expected(comes, everybody[:1])
    ]
    loop.express.forecast = lambda: beyond
    pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
    assert loop.express.select(1.0) == []
    assert (pairs[1].come(), loop.express.passed) == (b"", 0)
    loop.close()


@needs_c
def test_an_error_in_a_forecast_ends_the_express_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    loop = ExpressLoop()
    loop.express.forecast = lambda: {}["nothing"]
    assert loop.express.select(0) == loop.express.select(0) == []
    assert caplog.text.count("making a forecast failed") == 1
    loop.close()


def test_another_event_loop_has_none() -> None:
    async def main() -> None:
        use(lambda: NOTHING)
        assert express.counts() == (0, 0)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
