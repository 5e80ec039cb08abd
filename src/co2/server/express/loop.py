"""The express: a small frame that arrives while its host is idle is passed on before Python has seen it.

When messages come one at a time, the work on them takes little time: most is lost because the processor's caches
are cold by then. So the path from socket to socket is a little C (``_express.c``), run where the event loop
sleeps, and the work is done after the message has left, by the usual code:

* Before the loop sleeps, the host forecasts which frames may come next, and what they become
  (``relay_forecast.py``, ``satellite_forecast.py``).
* If a frame is one of them, byte for byte except numbers, checksum and messages, its results are written at once.
* So are those that follow, for a moment: their numbers count on as in the state machines.
  The work on such a run of frames costs little more than that on one: the first meets the cold caches.
* Then, before anything else happens in this process, the frames are handed to their readers as if they had just
  arrived. The state machine does all of its work and writes its frames; bytes already written are left out.

So the express decides nothing: between the forecast and the frame no line of Python runs in the loop's thread. Its
output is compared with that of the state machine. A difference ends those connections. Except where another thread
may have changed something (a log whose disk is full), it is a bug of ours: it is logged, and the process continues
without an express.
"""

import asyncio
import logging
import selectors
import sys
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

from co2.compiled import is_of
from co2.protocol.wire.batch import MAX_BATCH_MESSAGES
from co2.server.express.fair_loop import FairLoop
from co2.server.express.fair_selector import FairSelector
from co2.server.express.frame_template import Outline

if TYPE_CHECKING:
    from co2.server.express._express import Row

__all__ = [
    "ANSWER",
    "AVAILABLE",
    "COUNTED",
    "FROM_CLIENT",
    "FROM_SERVER",
    "LATEST",
    "LINGER",
    "MAX_BECOMES",
    "MAX_RUN_MESSAGES",
    "WORK",
    "Counts",
    "End",
    "Expected",
    "Express",
    "ExpressLoop",
    "Way",
    "counts",
    "rows_of",
    "use",
]

LINGER = 0.0001
"""Seconds that the work on a frame waits, so that the next process on its way gets a processor first."""

ANSWER = 0.0005
"""Seconds that the work waits at least for another frame of the run, such as the answer to the one passed on."""

LATEST = 0.0016
"""Seconds that the work waits, at most, from the first frame of a run on.

The wait ends earlier if usually nothing comes for longer than the work takes: work begun right behind such a frame
is done before the next. Begun in the middle of a wait it would delay one frame in five, if they come every
millisecond. C learns what is usual for each socket: how long it takes until a frame comes, and where.
"""

WORK = (0.0002, 0.001)
"""Seconds that the work on a run is assumed to take, at least and at most; measured in between."""

MAX_BECOMES = 64
"""Connections that one frame is passed on to; for more, Python does it."""

MAX_EXPECTED = 16
"""Frames that may be expected at a time; of more, the first ones."""

MAX_HEAD = 2048
"""Bytes of a frame besides its numbers and messages."""

MAX_NUMBERS = 2
"""Numbers in one frame."""

MAX_COUNTERS = 256
"""Counters of all numbers in the expected frames; frames that need more are left to Python."""

MAX_RUN_SIZE = 32 * 1024
"""Bytes of a run of frames."""

MAX_RUN_MESSAGES = 2 * MAX_BATCH_MESSAGES
"""Messages of a run: it ends with as many as the largest frame holds. C has all of these limits too."""

COUNTED, FROM_SERVER, FROM_CLIENT = range(3)
"""Framing in the stream: a frame behind its size; or as a message of a WebSocket, of a server or a client."""

_logger = logging.getLogger("co2.express")

try:
    from co2.server.express._express import HABITS_SIZE, SOURCE, note_arrival, wait

    # Untested on other systems.
    AVAILABLE = sys.platform == "linux" and is_of(SOURCE, Path(__file__).with_name("_express.c"))
except ImportError:
    AVAILABLE = False


class End(Protocol):
    """Our side of a connection that the express reads from or writes to."""

    def take_ahead(self, data: bytes, more: bool = False) -> None:
        """Process received bytes; with ``more``, others came in elsewhere and are processed right after these."""

    def written_ahead(self, data: bytes) -> None:
        """Note bytes that are already written: they are left out of the next write."""

    def left_ahead(self) -> int:
        """Return how many of these bytes have not been left out yet."""

    def break_off(self, why: str) -> None:
        """End the connection."""


class Clock(Protocol):
    """The clock of the host, for frames that get a time."""

    @property
    def state(self) -> tuple[float, float, float]:
        """What C needs to show the same time: see :class:`~co2.server.express.message_clock.MessageClock`."""

    def stop_at(self, time: float) -> None:
        """Show this time until :meth:`go_on`."""

    def go_on(self) -> None:
        """Go on after :meth:`stop_at`."""


class Way(NamedTuple):
    """A frame on one connection.

    Attributes:
        end: of the connection.
        descriptor: of its socket.
        framing: of the frame in the stream.
        outline: the frame without checksum and messages.
    """

    end: End
    descriptor: int
    framing: int
    outline: Outline

    def row(self, counters: dict[Hashable, tuple[int, int]]) -> "Row":
        """Return the same in the form for C.

        Args:
            counters: (index, value) of each; new ones are added.

        Raises:
            LookupError: a counter would have two values, or there are too many.
        """
        outline = self.outline
        numbers = []
        for at, counter, value, is_free in outline.numbers:
            index, known = counters.setdefault(counter, (len(counters), value))
            if known != value or index >= MAX_COUNTERS:
                raise LookupError(counter)
            numbers.append((at, index, is_free))
        return (
            *(self.descriptor, self.framing, outline.head, outline.checked, outline.tail, outline.timed),
            tuple(numbers),
        )


class Expected(NamedTuple):
    """A frame that may come next, and its results.

    Attributes:
        comes: where and how it arrives.
        becomes: the frames to write then.
        failed: called if they were written and should not have been; returns whether the reason is other than a
            bug of ours.
        answers: the frame that this one answers, with as many messages; that frame became one frame for the
            answering side. It is expected before this one, and this one may come only after it in the same run,
            and only if nothing else sent there still waits for its answer.
    """

    comes: Way
    becomes: Sequence[Way]
    failed: Callable[[], bool] = lambda: False
    answers: "Expected | None" = None

    @property
    def fits(self) -> bool:
        """Whether it is within the limits of the express."""
        return len(self.becomes) <= MAX_BECOMES and all(
            way.outline.size <= MAX_HEAD and len(way.outline.numbers) <= MAX_NUMBERS
            for way in (self.comes, *self.becomes)
        )


def rows_of(
    expected: Sequence[Expected],
) -> tuple[list[Expected], tuple[tuple["Row", tuple["Row", ...], int], ...], tuple[int, ...]]:
    """Return as many expected frames as C has room for.

    Returns:
        These frames; the same as rows; and the values of their counters.
    """
    counters: dict[Hashable, tuple[int, int]] = {}
    taken: list[Expected] = []
    rows = []
    for one in expected:
        answers = -1
        try:
            if one.answers is not None:
                answers = taken.index(one.answers)
            row = one.comes.row(counters), tuple([way.row(counters) for way in one.becomes]), answers
        except (LookupError, ValueError):
            break
        taken.append(one)
        rows.append(row)
    return taken, tuple(rows), tuple([value for _, value in counters.values()][:MAX_COUNTERS])


class Counts(NamedTuple):
    """Counters of an express.

    Attributes:
        express: frames that it has passed on.
        express_failed: frames for which it wrote something wrong: bugs of ours.
    """

    express: int
    express_failed: int


Forecast = Callable[[], Sequence[Expected]]


def _nothing() -> Sequence[Expected]:
    return ()


class Express(FairSelector):
    """The place where an event loop sleeps.

    Attributes:
        forecast: returns the frames that may come next; called each time before the sleep.
        clock: of the host, None where no frame gets a time. It stands still during the work on what was read: the
            frames that were written have the time of that read.
        passed: frames that were passed on here.
        failed: frames for which something wrong was written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forecast: Forecast = _nothing
        self.clock: Clock | None = None
        self.passed = 0
        self.failed = 0
        self._habits = bytearray(HABITS_SIZE) if AVAILABLE else bytearray()
        self._work = WORK[0]
        self._worked_since = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep until something happens; see :meth:`selectors.BaseSelector.select`."""
        self.end_turn()
        if self._worked_since:
            self._work += (monotonic() - self._worked_since - self._work) / 8
            self._worked_since = 0.0
        if expected := self._expected():
            taken, rows, counters = rows_of(expected)
            try:
                found = wait(
                    self.fileno(),
                    -1.0 if timeout is None else max(0.0, timeout),
                    LINGER,
                    # Not if something else is due.
                    ANSWER if timeout is None or timeout > LATEST else 0.0,
                    LATEST,
                    min(max(self._work, WORK[0]), WORK[1]),
                    (0.0, 0.0, 0.0) if self.clock is None else self.clock.state,
                    self._habits,
                    rows,
                    counters,
                )
            except Exception:  # out of memory: what was read and written is unknown
                _logger.exception("the express failed; all its connections are closed")
                self._give_up(taken)
            else:
                if found is not None:
                    self.begin_turn()  # the work belongs to this loop's turn, like that after its sleep
                    self._worked_since = monotonic()
                    self._do_the_work(taken, *found)
                    return self._meanwhile(taken)
            timeout = 0  # return all other ready descriptors at once
        return super().select(timeout)

    def _meanwhile(self, expected: Sequence[Expected]) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready after the work, and learn from it: such work should begin at another time."""
        events = super().select(0)
        descriptors = {one.comes.descriptor for one in expected}
        for key, mask in events:
            if mask & selectors.EVENT_READ and key.fd in descriptors:
                note_arrival(self._habits, key.fd)
        return events

    def _expected(self) -> Sequence[Expected]:
        """Return the expected frames, as many as there is room for."""
        try:
            found = self.forecast()
            return [one for one in found if one.fits][:MAX_EXPECTED] if found else found
        except Exception:
            self.forecast = _nothing
            _logger.exception("making a forecast failed; this process continues without the express")
            return ()

    def _do_the_work(
        self,
        expected: Sequence[Expected],
        come: Sequence[tuple[int, bytes, float]],
        passed: Sequence[tuple[int, int, Sequence[bytes]]],
    ) -> None:
        """Make the readers process the frames of a run before anything else.

        Args:
            expected: the expected frames.
            come: received bytes, in order, each with the index of a frame that was expected there, and the time.
            passed: the frames passed on: each with the index in ``come``, the index of the expected frame, and the
                bytes written.
        """
        if passed:
            self.passed += len(passed)
        ahead: dict[int, bytearray] = {}
        ends: dict[int, End] = {}
        for _, row, pieces in passed:
            for way, piece in zip(expected[row].becomes, pieces, strict=True):
                ends[id(way.end)] = way.end
                ahead.setdefault(id(way.end), bytearray()).extend(piece)
        for key, end in ends.items():
            end.written_ahead(bytes(ahead[key]))
        left = {key: len(data) for key, data in ahead.items()}
        for at, (row, data, read_at) in enumerate(come):
            if self.clock is not None:
                self.clock.stop_at(read_at)
            self._process(expected[row].comes.end, data, more=at + 1 < len(come))
            frames = [(one, pieces) for segment, one, pieces in passed if segment == at]
            for one, pieces in frames:
                for way, piece in zip(expected[one].becomes, pieces, strict=True):
                    left[id(way.end)] -= len(piece)
            if wrong := [key for key, end in ends.items() if end.left_ahead() > left[key]]:
                self._written_wrongly(
                    [expected[one] for one in {one: None for one, _ in frames}], [ends.pop(key) for key in wrong]
                )
        if self.clock is not None:
            self.clock.go_on()

    def _process(self, source: End, data: bytes, more: bool) -> None:
        try:
            source.take_ahead(data, more)
        except Exception:
            # As its transport would: the rest of the connection's data is resent.
            _logger.exception("received data could not be processed")
            source.break_off("internal error")

    def _written_wrongly(self, expected: Sequence[Expected], wrong: Sequence[End]) -> None:
        """End the connections that got wrong bytes, before anything else is processed."""
        # Each reason is asked for, not only up to the first unknown one, and before any peer reconnects.
        reasons = [one.failed() for one in expected]
        for end in wrong:
            end.break_off("wrong data was written to it")
        if not all(reasons):
            self._failed()

    def _give_up(self, expected: Sequence[Expected]) -> None:
        for one in expected:
            one.failed()
            for way in (one.comes, *one.becomes):
                way.end.break_off("internal error")
        self._failed()

    def _failed(self) -> None:
        self.failed += 1
        self.forecast = _nothing
        _logger.error(
            "the express wrote wrong data: the connections affected are closed, and this process continues "
            "without it; please report this (express = false in co2.toml turns it off)"
        )


class ExpressLoop(FairLoop):
    """An event loop that sleeps in an :class:`Express`."""

    def __init__(self) -> None:
        self.express = Express()
        super().__init__(self.express)


def use(make: Callable[[], Forecast], clock: Clock | None = None) -> None:
    """Make the running event loop call a forecast, if it has an express.

    Args:
        make: makes the forecast; not called without an express.
        clock: see :attr:`Express.clock`.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, ExpressLoop):
        loop.express.forecast, loop.express.clock = make(), clock


def counts() -> Counts:
    """Return the counters of the running event loop's express."""
    loop = asyncio.get_running_loop()
    return Counts(loop.express.passed, loop.express.failed) if isinstance(loop, ExpressLoop) else Counts(0, 0)
