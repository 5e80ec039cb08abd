"""Events from the satellite's side of the link to its shell, in ``SatelliteCore.events``."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from co2.protocol.wire.link_frames import Call, Deliver, Gap, Result, Roster, SnapshotValue, Welcome

__all__ = [
    "CallReceived",
    "Delivered",
    "Ended",
    "Event",
    "GapTold",
    "NumbersTaken",
    "ResultReceived",
    "RosterTold",
    "SnapshotCame",
    "SnapshotRefused",
    "Welcomed",
]


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The link is open."""

    welcome: Welcome
    other_log: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The link has ended: write the remaining frames, close it, wait at least ``retry_after`` seconds."""

    reason: str
    text: str
    retry_after: float


@dataclass(frozen=True, slots=True)
class NumbersTaken:
    """The relay acknowledged messages that were never sent: renumber the waiting ones before the next Hello.

    Attributes:
        epoch: of the run.
        seq: that was acknowledged.
    """

    epoch: int
    seq: int


class Delivered(msgspec.Struct, frozen=True):
    """A frame for packages of this satellite.

    Attributes:
        packages: their names.
        frame: as the relay sent it.
        skip: number of messages at its front that the packages already have.
        count: number of all its messages.
    """

    packages: Sequence[str]
    frame: Deliver
    skip: int
    count: int


@dataclass(frozen=True, slots=True)
class Held:
    """The relay's disk has no room for our messages; '' when it has room again."""

    text: str


@dataclass(frozen=True, slots=True)
class GapTold:
    """These packages will not get an interval of messages."""

    packages: Sequence[str]
    gap: Gap


@dataclass(frozen=True, slots=True)
class SnapshotCame:
    """The last values that a package has wished for: it gets them before all that follows.

    Attributes:
        package: its name.
        values: oldest first.
        left_out: number of values that did not fit.
    """

    package: str
    values: Sequence[SnapshotValue]
    left_out: int


@dataclass(frozen=True, slots=True)
class SnapshotRefused:
    """The relay is of a version that gives no last values: a package that has wished for some begins without."""

    package: str


@dataclass(frozen=True, slots=True)
class RosterTold:
    """The satellites connected to the relay."""

    roster: Roster


@dataclass(frozen=True, slots=True)
class CallReceived:
    """The relay calls a method of ours."""

    call: Call


@dataclass(frozen=True, slots=True)
class ResultReceived:
    """The relay answered a call of ours."""

    result: Result


Event = (
    Welcomed
    | Ended
    | Held
    | NumbersTaken
    | Delivered
    | GapTold
    | SnapshotCame
    | SnapshotRefused
    | RosterTold
    | CallReceived
    | ResultReceived
)
