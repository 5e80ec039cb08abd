"""Compare what receivers wrote with what senders said: the promise of docs/explanation/delivery.md, as code."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Receiver", "Sender"]

Row = tuple[str, str, str]
"""A line that a plugin has written: a word and two more."""


@dataclass(slots=True)
class Sender:
    """The runs of a sending plugin.

    Attributes:
        safe: by run, so many messages are on the relay's disk.
        ended: by run, so many were sent in all; of runs that came to their end alive.
    """

    safe: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)

    def take(self, rows: Iterable[Row]) -> None:
        for word, run, number in rows:
            self.safe[run] = max(int(number), self.safe.get(run, 0))
            if word == "END":
                self.ended[run] = int(number)


@dataclass(slots=True)
class _Run:
    last: int
    may_skip: bool = False
    may_repeat: bool = False
    restarted: bool = False


@dataclass(slots=True)
class Receiver:
    """A receiving plugin, through all its processes.

    Attributes:
        durable: goes on where it was when its satellite starts again.
        violations: of the promise.
        got: messages, repeats included.
        repeats: messages that came again as may be.
        gaps: that were told.
    """

    durable: bool
    violations: list[str] = field(default_factory=list)
    got: int = 0
    repeats: int = 0
    gaps: int = 0
    _runs: dict[str, _Run] = field(default_factory=dict)
    _satellite: str = ""
    _late: bool = True

    def take(self, rows: Iterable[Row]) -> None:
        """Take in what was written since."""
        for word, run, rest in rows:
            if word == "START":
                self._started(run)
            elif word == "GAP":
                self._told()
            else:
                self._message(run, int(rest), again=word == "AGAIN")

    def _started(self, satellite: str) -> None:
        if satellite == self._satellite:
            return  # only the plugin host is another: it goes on exactly there
        self._satellite = satellite
        self._late |= not self.durable
        for run in self._runs.values():
            # A durable one goes on where it was on disk. A live one begins now, which may be in the middle of what
            # a sender sends again after a crash of the relay.
            run.restarted = run.may_repeat = True
            run.may_skip |= not self.durable

    def _told(self) -> None:
        self.gaps += 1
        self._late = True
        for run in self._runs.values():
            run.may_skip = True
            run.may_repeat |= run.restarted

    def _message(self, name: str, number: int, *, again: bool) -> None:
        self.got += 1
        run = self._runs.get(name)
        if run is None:
            self._runs[name] = _Run(number)
            if number and not self._late:
                self.violations.append(f"run {name} begins with {number}")
            return
        if number <= run.last:
            self.repeats += 1
            if not run.may_repeat and not (again and number == run.last):
                self.violations.append(f"{number} of run {name} after {run.last}")
        elif number > run.last + 1 and not run.may_skip:
            self.violations.append(f"{number} of run {name} after {run.last}, without a gap")
        if not (again and number == run.last):
            run.may_skip = run.may_repeat = run.restarted = False
        run.last = number

    def missing(self, expected: Mapping[str, int]) -> dict[str, int]:
        """Give by run how many at the end have not come, without a gap told.

        Args:
            expected: by run, so many messages should be here.
        """
        found = {}
        for name, count in expected.items():
            run = self._runs.get(name)
            if run is None:
                if count and not self._late:
                    found[name] = count
            elif run.last < count - 1 and not run.may_skip:
                found[name] = count - 1 - run.last
        return found

    def has(self, name: str, count: int) -> bool:
        """Tell whether the last of so many messages of a run has come."""
        return name in self._runs and self._runs[name].last >= count - 1

    def settled(self) -> None:
        """Everything that was sent so far has come: what a new run sends is heard from its beginning."""
        self._late = False
