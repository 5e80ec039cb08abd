"""The express: a small frame that comes while its host has nothing to do is passed on before Python has seen it.

Where messages come one at a time it is not the work on them that takes time: it is that nothing the work needs is
in the processor's caches by then. So the way from socket to socket is a little C (``_express.c``), run where the
event loop sleeps, and the work is done behind the message's back, by the same code as ever:

* When the loop comes to its sleep, the host says which frames may come next, and what they become
  (``protocol/wire/frame_template.py``).
* If it is one of them, byte for byte but for numbers, checksum and messages, what it becomes is written at once.
* So is what follows, for a moment: the numbers go on as the state machines have them go on.
  The work on such a run of frames costs little more than that on one: it is the first that meets cold caches.
* Then, before anything else happens in this process, what has come is handed to its readers as if it just had.
  The state machine does all of its work and writes what it writes; what is written already is left out there.

So the express decides nothing: between the forecast and the frame no line of Python runs in the loop's thread.
What it wrote is compared with what is to be written. A difference ends those connections. But for what another
thread may have changed (a log whose disk is full) it would be an error of ours: it is logged, and the process goes
on without an express.
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
from co2.protocol.wire.frame_template import Outline
from co2.server.express.fair_selector import FairSelector

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
"""Seconds that the work on a frame waits, so that whoever comes next on its way has a processor first."""

ANSWER = 0.0005
"""Seconds that the work waits at least for another frame of the run, such as the answer to what was passed on."""

LATEST = 0.0016
"""Seconds that the work waits, at most, from the first frame of a run on.

It ends before where nothing comes, as a rule, for longer than the work takes: begun right behind such a frame it
is done before the next. Begun in the middle of a wait it would be in the way of one frame in five, where they come
every millisecond. What the rule is, C learns for each socket: how long it takes until a frame comes, and where.
"""

WORK = (0.0002, 0.001)
"""Seconds that the work on a run takes, at least and at most, as far as is reckoned with; measured in between."""

MAX_BECOMES = 64
"""Connections that one frame is passed on to; where it would be more, Python does it."""

MAX_EXPECTED = 16
"""Frames that may be expected at a time; of any more the first ones are."""

MAX_HEAD = 2048
"""Bytes of a frame besides its numbers and messages."""

MAX_NUMBERS = 2
"""Numbers in one frame."""

MAX_COUNTERS = 256
"""Counters of all numbers in the frames that are expected; those that would need more are Python's."""

MAX_RUN_SIZE = 32 * 1024
"""Bytes of a run of frames."""

MAX_RUN_MESSAGES = 2 * MAX_BATCH_MESSAGES
"""Messages of a run: with as many as the biggest frame holds it ends. All these are C's bounds too."""

COUNTED, FROM_SERVER, FROM_CLIENT = range(3)
"""How frames stand in the stream: behind their size; or as messages of a WebSocket, of a server or a client."""

_logger = logging.getLogger("co2.express")

try:
    from co2.server.express._express import HABITS_SIZE, SOURCE, came, wait

    # Elsewhere nobody has tried it.
    AVAILABLE = sys.platform == "linux" and is_of(SOURCE, Path(__file__).with_name("_express.c"))
except ImportError:
    AVAILABLE = False


class End(Protocol):
    """Our end of a connection that the express reads from or writes to."""

    def take_ahead(self, data: bytes, more: bool = False) -> None:
        """Take bytes as they have come; with ``more`` others have too, elsewhere, which are taken right behind."""

    def written_ahead(self, data: bytes) -> None:
        """Learn what has been written already: it is left out of what is written next."""

    def left_ahead(self) -> int:
        """Say how many bytes of that have not been left out yet."""

    def break_off(self, why: str) -> None:
        """End the connection."""


class Way(NamedTuple):
    """A frame on one connection.

    Attributes:
        end: of the connection.
        descriptor: of its socket.
        framing: how the frame stands in the stream.
        outline: what it is but for checksum and messages.
    """

    end: End
    descriptor: int
    framing: int
    outline: Outline

    def row(self, counters: dict[Hashable, tuple[int, int]]) -> "Row":
        """Return the same, as C takes it.

        Args:
            counters: (index, value) of each; those that are new are put in.

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
        return self.descriptor, self.framing, outline.head, outline.checked, outline.tail, tuple(numbers)


class Expected(NamedTuple):
    """A frame that may come next, and what it becomes.

    Attributes:
        comes: where and how it comes.
        becomes: what is written then.
        failed: called where that was written and should not have been; tells whether there is a reason that is
            no error of ours.
        answers: what this is the answer to, with as many messages; it has become one frame, for who answers. It is
            expected before this, and this may come only where that has, in the same run, and nothing else that
            went there waits for its answer any longer.
    """

    comes: Way
    becomes: Sequence[Way]
    failed: Callable[[], bool] = lambda: False
    answers: "Expected | None" = None

    @property
    def fits(self) -> bool:
        """Whether it is within the bounds of what is passed on."""
        return len(self.becomes) <= MAX_BECOMES and all(
            way.outline.size <= MAX_HEAD and len(way.outline.numbers) <= MAX_NUMBERS
            for way in (self.comes, *self.becomes)
        )


def rows_of(
    expected: Sequence[Expected],
) -> tuple[list[Expected], tuple[tuple["Row", tuple["Row", ...], int], ...], tuple[int, ...]]:
    """Return what C takes of what is expected, as much of it as there is room for.

    Returns:
        What it takes; the same as rows; and what the counters of all of them say.
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
    """What an express has done.

    Attributes:
        express: frames that it has passed on.
        express_failed: frames of which it wrote something else than was to be written: errors of ours.
    """

    express: int
    express_failed: int


Forecast = Callable[[], Sequence[Expected]]


def _nothing() -> Sequence[Expected]:
    return ()


class Express(FairSelector):
    """Where an event loop sleeps.

    Attributes:
        forecast: tells what may come next; asked each time before it sleeps.
        passed: frames that were passed on here.
        failed: frames of which something else was written than was to be.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forecast: Forecast = _nothing
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
                    # Not where something else is due.
                    ANSWER if timeout is None or timeout > LATEST else 0.0,
                    LATEST,
                    min(max(self._work, WORK[0]), WORK[1]),
                    self._habits,
                    rows,
                    counters,
                )
            except Exception:  # memory is out: what was read, and what was written, nobody knows
                _logger.exception("the express has failed, and all that it had to do with ends")
                self._give_up(taken)
            else:
                if found is not None:
                    self.begin_turn()  # the work is this loop's, like what it does behind its sleep
                    self._worked_since = monotonic()
                    self._do_the_work(taken, *found)
                    return self._meanwhile(taken)
            timeout = 0  # whatever else has come
        return super().select(timeout)

    def _meanwhile(self, expected: Sequence[Expected]) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what has come during the work, and learn from it: the work is to begin at another time."""
        events = super().select(0)
        descriptors = {one.comes.descriptor for one in expected}
        for key, mask in events:
            if mask & selectors.EVENT_READ and key.fd in descriptors:
                came(self._habits, key.fd)
        return events

    def _expected(self) -> Sequence[Expected]:
        """Give what may come next, as much of it as there is room for."""
        try:
            found = self.forecast()
            return [one for one in found if one.fits][:MAX_EXPECTED] if found else found
        except Exception:
            self.forecast = _nothing
            _logger.exception("no forecast could be made; this process goes on without an express")
            return ()

    def _do_the_work(
        self,
        expected: Sequence[Expected],
        come: Sequence[tuple[int, bytes]],
        passed: Sequence[tuple[int, int, Sequence[bytes]]],
    ) -> None:
        """Have done, before anything else, what comes with the frames of a run.

        Args:
            expected: what was.
            come: what has come, in its order, each with the index of one that was expected there.
            passed: what was passed on of that, frame by frame: in which of them it came, which one of the expected
                ones it was, and what it became.
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
        for at, (row, data) in enumerate(come):
            self._take(expected[row].comes.end, data, more=at + 1 < len(come))
            frames = [(one, pieces) for segment, one, pieces in passed if segment == at]
            for one, pieces in frames:
                for way, piece in zip(expected[one].becomes, pieces, strict=True):
                    left[id(way.end)] -= len(piece)
            if wrong := [key for key, end in ends.items() if end.left_ahead() > left[key]]:
                self._written_wrongly(
                    [expected[one] for one in {one: None for one, _ in frames}], [ends.pop(key) for key in wrong]
                )

    def _take(self, source: End, data: bytes, more: bool) -> None:
        try:
            source.take_ahead(data, more)
        except Exception:
            # As its transport would: what is left of it comes again.
            _logger.exception("what had come could not be taken")
            source.break_off("an error of ours")

    def _written_wrongly(self, expected: Sequence[Expected], wrong: Sequence[End]) -> None:
        """End the connections on which something was written that was not to be, before anything else is taken."""
        # Each of them is told, not only until the first one knows no reason; and before anybody comes back.
        reasons = [one.failed() for one in expected]
        for end in wrong:
            end.break_off("what it got was not to be written")
        if not all(reasons):
            self._failed()

    def _give_up(self, expected: Sequence[Expected]) -> None:
        for one in expected:
            one.failed()
            for way in (one.comes, *one.becomes):
                way.end.break_off("an error of ours")
        self._failed()

    def _failed(self) -> None:
        self.failed += 1
        self.forecast = _nothing
        _logger.error(
            "the express wrote something else than was to be written: these connections end, and this process "
            "goes on without it; please tell us (express = false in co2.toml does without from the start)"
        )


class ExpressLoop(asyncio.SelectorEventLoop):
    """An event loop that sleeps in an :class:`Express`."""

    def __init__(self) -> None:
        self.express = self.fair = Express()
        super().__init__(self.express)


def use(forecast: Forecast) -> None:
    """Have the running event loop ask what may come next, where it can do something with the answer."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, ExpressLoop):
        loop.express.forecast = forecast


def counts() -> Counts:
    """Give what the express of the running event loop has done."""
    loop = asyncio.get_running_loop()
    return Counts(loop.express.passed, loop.express.failed) if isinstance(loop, ExpressLoop) else Counts(0, 0)
