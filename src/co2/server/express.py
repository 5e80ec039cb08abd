"""The express: a small frame that comes while its host has nothing to do is passed on before Python has seen it.

Where messages come one at a time it is not the work on them that takes time: it is that nothing the work needs is
in the processor's caches by then. So the way from socket to socket is a little C (``_express.c``), run where the
event loop sleeps, and the work is done behind the message's back, by the same code as ever:

* When the loop comes to its sleep, the host says which frames may come next, and what they become
  (``protocol/forecast.py``).
* If it is one of them, byte for byte but for checksum and messages, what it becomes is written at once.
* Then, before anything else happens in this process, the frame is handed to its reader as if it had just come. The
  state machine does all of its work and writes what it writes; what is written already is left out there.

So the express decides nothing: between the forecast and the frame no line of Python runs in the loop's thread.
What it wrote is compared with what is to be written. A difference ends those connections. But for what another
thread may have changed (a log whose disk is full) it would be an error of ours: it is logged, and the process goes
on without an express.
"""

import asyncio
import logging
import selectors
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from co2.compiled import is_of
from co2.protocol.forecast import Outline

if TYPE_CHECKING:
    from co2.server._express import Row

__all__ = [
    "AVAILABLE",
    "COUNTED",
    "FROM_CLIENT",
    "FROM_SERVER",
    "LINGER",
    "MAX_BECOMES",
    "Counts",
    "End",
    "Expected",
    "Express",
    "ExpressLoop",
    "Way",
    "counts",
    "use",
]

LINGER = 0.0001
"""Seconds that the work on a frame waits, so that whoever comes next on its way has a processor first."""

MAX_BECOMES = 64
"""Connections that one frame is passed on to; where it would be more, Python does it."""

MAX_EXPECTED = 16
"""Frames that may be expected at a time; of any more the first ones are."""

MAX_HEAD = 2048
"""Bytes of a frame besides its messages. These three are C's bounds too."""

COUNTED, FROM_SERVER, FROM_CLIENT = range(3)
"""How frames stand in the stream: behind their size; or as messages of a WebSocket, of a server or a client."""

_logger = logging.getLogger("co2.express")

try:
    from co2.server._express import SOURCE, wait

    # Elsewhere nobody has tried it.
    AVAILABLE = sys.platform == "linux" and is_of(SOURCE, Path(__file__).with_name("_express.c"))
except ImportError:
    AVAILABLE = False


class End(Protocol):
    """Our end of a connection that the express reads from or writes to."""

    def take_ahead(self, data: bytes) -> None:
        """Take bytes as they have come."""

    def written_ahead(self, data: bytes) -> None:
        """Learn what has been written already: it is left out of what is written next."""

    def settled(self) -> bool:
        """Tell whether that has been left out."""

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

    @property
    def row(self) -> "Row":
        """The same, as C takes it."""
        head, checked, tail = self.outline
        return self.descriptor, self.framing, head, checked, tail


class Expected(NamedTuple):
    """A frame that may come next, and what it becomes.

    Attributes:
        comes: where and how it comes.
        becomes: what is written then.
        failed: called where that was written and should not have been; tells whether there is a reason that is
            no error of ours.
    """

    comes: Way
    becomes: Sequence[Way]
    failed: Callable[[], bool] = lambda: False

    @property
    def fits(self) -> bool:
        """Whether it is within the bounds of what is passed on."""
        return len(self.becomes) <= MAX_BECOMES and all(
            way.outline.size <= MAX_HEAD for way in (self.comes, *self.becomes)
        )


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


class Express(selectors.DefaultSelector):
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

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep until something happens; see :meth:`selectors.BaseSelector.select`."""
        if expected := self._expected():
            rows = tuple((comes.row, tuple(way.row for way in becomes)) for comes, becomes, _ in expected)
            try:
                taken = wait(self.fileno(), -1.0 if timeout is None else max(0.0, timeout), LINGER, rows)
            except Exception:  # memory is out: what was read, and what was written, nobody knows
                _logger.exception("the express has failed, and all that it had to do with ends")
                self._give_up(expected)
            else:
                if taken is not None:
                    which, data, written = taken
                    self._do_the_work(expected[which], data, written)
            timeout = 0  # whatever else has come
        return super().select(timeout)

    def _expected(self) -> Sequence[Expected]:
        """Give what may come next, as much of it as there is room for."""
        try:
            found = self.forecast()
            return [one for one in found if one.fits][:MAX_EXPECTED] if found else found
        except Exception:
            self.forecast = _nothing
            _logger.exception("no forecast could be made; this process goes on without an express")
            return ()

    def _do_the_work(self, expected: Expected, data: bytes, written: Sequence[bytes] | None) -> None:
        """Have done, before anything else, what comes with a frame; ``written`` is what it became, or None."""
        comes, becomes, failed = expected
        if written is None:
            becomes, written = (), ()
        else:
            self.passed += 1
        for way, ahead in zip(becomes, written, strict=True):
            way.end.written_ahead(ahead)
        try:
            comes.end.take_ahead(data)
        except Exception:
            # As its transport would: what is left of it comes again.
            _logger.exception("what had come could not be taken")
            comes.end.break_off("an error of ours")
        unsettled = [way for way in becomes if not way.end.settled()]
        if not unsettled:
            return
        is_known = failed()  # before anybody whose connection ends comes back
        for way in unsettled:
            way.end.break_off("what it got was not to be written")
        if not is_known:
            self._failed()

    def _give_up(self, expected: Sequence[Expected]) -> None:
        for comes, becomes, failed in expected:
            failed()
            for way in (comes, *becomes):
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
        self.express = Express()
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
