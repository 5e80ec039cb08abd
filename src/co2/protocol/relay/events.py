"""Events from the relay's side of the link to its shell, in ``RelayCore.events``."""

from dataclasses import dataclass

from co2.host_id import HostId
from co2.protocol.relay.cursors import Peer, Stream
from co2.protocol.relay.last_values import Question
from co2.protocol.wire.link_frames import Call, Hello, Result

__all__ = [
    "AdmissionWanted",
    "CallReceived",
    "DiskWanted",
    "Event",
    "IdReused",
    "Joined",
    "Left",
    "OriginClaimed",
    "ResultReceived",
    "ValuesWanted",
]


@dataclass(frozen=True, slots=True)
class AdmissionWanted:
    """Ask whether a satellite may join; then call :meth:`RelayCore.admit` with this, or :meth:`RelayCore.end`."""

    peer: Peer
    host_id: HostId
    hello: Hello


@dataclass(frozen=True, slots=True)
class OriginClaimed:
    """Write the changes of ``RelayCore.origins`` to disk; then call :meth:`RelayCore.claimed` with this."""

    peer: Peer
    host_id: HostId
    hello: Hello


@dataclass(frozen=True, slots=True)
class Joined:
    """A satellite has joined, or changed its methods or plugins."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Left:
    """A link has ended, or is about to: write the remaining frames, then close it."""

    peer: Peer
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class CallReceived:
    """A satellite calls a method of ours."""

    peer: Peer
    call: Call


@dataclass(frozen=True, slots=True)
class ResultReceived:
    """A satellite answered a call of ours."""

    peer: Peer
    result: Result


@dataclass(frozen=True, slots=True)
class DiskWanted:
    """Read the log from disk after ``stream.position`` and hand it to :meth:`RelayCore.disk_read`."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class ValuesWanted:
    """Answer a question of a link from the disk (:func:`co2.protocol.relay.last_values.answer`).

    Then call :meth:`RelayCore.values_read`, or :meth:`RelayCore.values_unread` if the disk cannot be read.
    """

    peer: Peer
    question: Question


@dataclass(frozen=True, slots=True)
class IdReused:
    """A used number came with other messages: E_ID_REUSE. They were not appended."""

    peer: Peer
    epoch: int
    seq: int


Event = (
    AdmissionWanted
    | OriginClaimed
    | Joined
    | Left
    | CallReceived
    | ResultReceived
    | DiskWanted
    | ValuesWanted
    | IdReused
)
