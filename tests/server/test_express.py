"""The express: what is expected goes through, byte for byte; everything else is Python's, and nothing is lost."""

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
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from co2.protocol.batch import MAX_BATCH_MESSAGES, make_batch
from co2.protocol.checksum import crc32
from co2.protocol.forecast import Outline
from co2.protocol.web_socket import message_head
from co2.server import express

with contextlib.suppress(ImportError):
    from co2.server import _express
from co2.server.express import COUNTED, FROM_CLIENT, FROM_SERVER, Expected, ExpressLoop, Way
from tests.simulation.foresight import filled

NOTHING: list[Expected] = []
needs_c = pytest.mark.skipif(not express.AVAILABLE, reason="not compiled here")

PLAIN, CHECKED = Outline(b"\x95\xa7Publish\xa1x", False, b"\xc2"), Outline(b"\x98\xa7Publish\x01\x02", True, b"")
BATCH = make_batch([b"\x81\xa4data\x01"])


def test_where_there_is_a_compiler_it_is_compiled() -> None:
    headers = Path(sysconfig.get_path("include"), "Python.h")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    assert express.AVAILABLE or not headers.exists() or not shutil.which(compiler), (
        "src/co2/server/_express.c is not compiled, or has changed since: touch it, then make venv"
    )


NONE = "import sys\nsys.modules['co2.server._express'] = None\n"
STALE = """
import sys, types
module = sys.modules["co2.server._express"] = types.ModuleType("co2.server._express")
module.SOURCE, module.wait = 1, None
"""


@pytest.mark.parametrize("instead", [NONE, STALE], ids=["none", "of another source"])
def test_without_the_compiled_module_there_is_none(tmp_path: Path, instead: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(instead)
    code = "from co2.server import express, life; print(express.AVAILABLE, life._loop_factory())"
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

    def take_ahead(self, data: bytes) -> None:
        self.taken.append(data)

    def written_ahead(self, data: bytes) -> None:
        self.ahead.append(data)

    def settled(self) -> bool:
        return self.right

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
    with select.epoll() as epoll:
        yield epoll


def framed(framing: int, body: bytes) -> bytes:
    if framing == COUNTED:
        return len(body).to_bytes(4, "big") + body
    return message_head(len(body), framing == FROM_CLIENT) + body


def way(pair: Pair, framing: int, outline: Outline, end: RecordingEnd | None = None) -> Way:
    return Way(end or RecordingEnd(), pair.ours.fileno(), framing, outline)


def wait(poll: select.epoll, comes: Way, *becomes: Way, timeout: float = 0.0) -> tuple[int, bytes, object] | None:
    rows = ((comes.row, tuple(one.row for one in becomes)),)
    return express.wait(poll.fileno(), timeout, 0.0, rows)


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
    rows = tuple(
        (way(pairs[0], COUNTED, outline).row, (way(pair, COUNTED, PLAIN).row,))
        for outline, pair in ((PLAIN, pairs[1]), (CHECKED, pairs[2]))
    )
    found = express.wait(poll.fileno(), 0.0, 0.0, rows)
    assert found is not None and found[0] == 1
    assert (pairs[1].come(), pairs[2].come()) == (b"", framed(COUNTED, filled(PLAIN, BATCH)))


@needs_c
def test_what_comes_right_behind_is_handed_over_with_it(pairs: list[Pair], poll: select.epoll) -> None:
    data = framed(COUNTED, filled(PLAIN, BATCH)) + b"and more"
    pairs[0].theirs.sendall(data)
    found = wait(poll, way(pairs[0], COUNTED, PLAIN), way(pairs[1], COUNTED, CHECKED))
    assert found is not None and found[:2] == (0, data)
    assert pairs[1].come() == framed(COUNTED, filled(CHECKED, BATCH))


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
        (((3, 3, b"", 0, b""), ()),),
        (((3, -1, b"", 0, b""), ()),),
        (((3, 0, bytes(5000), 0, b""), ()),),
        (((3, 0, b"", 0, b""), ((3, 0, b"", 0, b""),) * 65),),
        (((3, 0, b"", 0, b""), (1,)),),
        ((1, 2),),
        (((3, 0, b"", 0, b""), ()),) * 17,
    ],
)
def test_what_is_no_forecast_is_refused(poll: select.epoll, rows: tuple[object, ...]) -> None:
    with pytest.raises((TypeError, ValueError)):
        express.wait(poll.fileno(), 0.0, 0.0, rows)  # type: ignore[arg-type]


# ---- in an event loop ---------------------------------------------------------------------------------------


@needs_c
def test_the_work_is_done_before_anything_else(pairs: list[Pair]) -> None:
    loop, order = ExpressLoop(), []
    source, target = RecordingEnd(), RecordingEnd()

    async def main() -> None:
        comes, becomes = way(pairs[0], COUNTED, PLAIN, source), way(pairs[1], COUNTED, CHECKED, target)
        source.take_ahead = lambda data: order.append("work")  # type: ignore[method-assign]
        express.use(lambda: [Expected(comes, [becomes])] if not order else NOTHING)
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
        express.use(lambda: [Expected(comes, [becomes], lambda: bool(undone.append(True)))])
        pairs[0].theirs.sendall(framed(COUNTED, filled(PLAIN, BATCH)))
        while not undone:
            await asyncio.sleep(0)
        assert express.counts() == (1, 1)
        assert loop.express.forecast() == ()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    assert undone == [True] and "something else" in caplog.text
    assert target.ended == ["what it got was not to be written"]


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
    assert target.ended and loop.express.forecast() != () and "something else" not in caplog.text
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
        def fails(data: bytes) -> None:
            source.taken.append(data)
            raise KeyError("ours")

        source.take_ahead = fails  # type: ignore[method-assign]
        express.use(lambda: [] if source.taken else [Expected(way(pairs[0], COUNTED, PLAIN, source), [])])
        pairs[0].theirs.sendall(b"anything")
        while not source.taken:
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    assert source.taken == [b"anything"] and "could not be taken" in caplog.text
    assert source.ended == ["an error of ours"], "what is left of it must come again"


@needs_c
def test_the_bounds_are_those_of_c_and_what_is_beyond_them_is_left_to_python(pairs: list[Pair]) -> None:
    assert (_express.MAX_BECOMES, _express.MAX_EXPECTED, _express.MAX_HEAD) == (
        express.MAX_BECOMES,
        express.MAX_EXPECTED,
        express.MAX_HEAD,
    )
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
    assert caplog.text.count("no forecast could be made") == 1
    loop.close()


def test_another_event_loop_has_none() -> None:
    async def main() -> None:
        express.use(lambda: NOTHING)
        assert express.counts() == (0, 0)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
