"""How a Hello resumes: where the runs of a satellite continue in the log, and where its packages read on."""

from collections.abc import Sequence
from dataclasses import dataclass

from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.log import Log, LogGap
from co2.protocol.wire.link_frames import BEGINNING, Hello, Subscription

__all__ = ["MAX_NAMED", "Resumption", "in_this_log", "live_beginning", "lost_in_words", "meet"]

MAX_NAMED = 8
"""Runs of a satellite whose lost messages are named in one gap."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a satellite's claim about a run fits the log.

    Attributes:
        acked: last seq of the run that is on disk, or counts as that.
        is_new_mark: the run's numbers begin after it for this log.
        lost: (first, last) of the acknowledged messages that are not in the log, None for none.
    """

    acked: int
    is_new_mark: bool = False
    lost: tuple[int, int] | None = None


def meet(log: Log, peer: Peer, epoch: int, first: int, rolled_back: bool) -> Resumption:
    """Find where a run's numbers resume.

    A mark behind the satellite's acknowledged number, or no mark, means that this relay has lost messages, if a
    receipt has proved that it can have. Otherwise it is only the satellite's claim about its own numbers.

    Args:
        log: the relay's.
        peer: the satellite.
        epoch: the run.
        first: its first unacknowledged number.
        rolled_back: whether a receipt has proved that this log is an older copy of itself.
    """
    mark = log.marks.get((peer.origin, epoch))
    known = mark or 0
    if known < first - 1 and rolled_back:
        return Resumption(first - 1, is_new_mark=True, lost=(known + 1, first - 1))
    if mark is None or known < first - 1:
        return Resumption(first - 1, is_new_mark=True)
    # Messages that are not on disk yet come once more, and are acknowledged with the commit.
    return Resumption(mark if log.committed >= log.last else first - 1)


def in_this_log(log: Log, hello: Hello) -> tuple[list[Subscription], list[tuple[str, LogGap]]]:
    """Return the subscriptions as they apply to this log, and the gaps that result, each with its package.

    Positions of another log, or that this one cannot have handed out, begin anew. Only the satellite that claims
    them is told; others are not concerned.
    """
    known = [sub.position for sub in hello.subscriptions if sub.position is not None]
    is_this = not hello.log_id or hello.log_id == log.log_id
    if is_this and not (known and hello.log_id and not log.holds(hello.run, max(known))):
        return hello.subscriptions, []
    subscriptions: list[Subscription] = []
    gaps: list[tuple[str, LogGap]] = []
    for sub in hello.subscriptions:
        if sub.position is None:
            subscriptions.append(sub)
        else:
            gaps.append((sub.package, LogGap(sub.position, BEGINNING, "log replaced")))
            subscriptions.append(Subscription(sub.package, BEGINNING, sub.channels, sub.durable))
    return subscriptions, gaps


def lost_in_words(host_id: str, lost: Sequence[tuple[int, int]]) -> str:
    """Return the reason, for all readers, of a loss of acknowledged messages of a satellite.

    Args:
        host_id: of the satellite.
        lost: (first, last) of each of its runs.
    """
    named = ", ".join(f"{first} to {last}" for first, last in lost[:MAX_NAMED])
    more = f", and of {len(lost) - MAX_NAMED} more runs," if len(lost) > MAX_NAMED else ""
    return f"the relay lost messages {named}{more} of {host_id}"


def live_beginning(subscriptions: Sequence[Subscription], visible: int) -> int:
    """Return where the live stream of all live packages begins: at the furthest of them, or at the log's end."""
    positions = [sub.position for sub in subscriptions if not sub.durable]
    known = [position for position in positions if position is not None]
    if not known:
        return visible
    return max(known) if len(known) == len(positions) else visible
