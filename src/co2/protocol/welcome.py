"""What a Hello comes to: where each run of the satellite goes on, and where each of its packages reads on."""

from collections.abc import Sequence
from dataclasses import dataclass

from co2.protocol.link_frames import BEGINNING, Hello, Subscription
from co2.protocol.log import Log, LogGap
from co2.protocol.streams import Peer

__all__ = ["Meeting", "in_this_log", "live_beginning", "meet"]


@dataclass(frozen=True, slots=True)
class Meeting:
    """How what a satellite says of a run fits what the log knows of it.

    Attributes:
        acked: last seq of the run that is on disk, or counts as that.
        is_new_mark: the run's numbers begin after it for this log.
        lost: what was acknowledged and is not in the log, in words; '' for nothing.
    """

    acked: int
    is_new_mark: bool = False
    lost: str = ""


def meet(log: Log, peer: Peer, epoch: int, first: int, same_log: bool) -> Meeting:
    """Find where a run's numbers go on.

    A mark further back than what the satellite was acknowledged, or none where it was this very log that did,
    means that this relay has lost something.

    Args:
        log: the relay's.
        peer: the satellite.
        epoch: the run.
        first: its first number that was not acknowledged.
        same_log: whether it was this log that acknowledged the others.
    """
    mark = log.marks.get((peer.origin, epoch))
    if mark is None and not same_log:
        return Meeting(first - 1, is_new_mark=True)
    known = mark or 0
    if known < first - 1:
        lost = f"the relay lost messages {known + 1} to {first - 1} of {peer.host_id}"
        return Meeting(first - 1, is_new_mark=True, lost=lost)
    if mark is None:
        return Meeting(first - 1, is_new_mark=True)
    # What is not on disk yet comes once more, and is acknowledged with the commit.
    return Meeting(mark if log.committed >= log.last else first - 1)


def in_this_log(log: Log, hello: Hello) -> tuple[list[Subscription], list[tuple[str, LogGap]]]:
    """Give the subscriptions as they stand in this log, and the gaps that this makes, each with its package."""
    if not hello.log_id or hello.log_id == log.log_id:
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


def live_beginning(subscriptions: Sequence[Subscription], visible: int) -> int:
    """Give where the live stream of all live packages begins: where the furthest is, or at the head."""
    positions = [sub.position for sub in subscriptions if not sub.durable]
    known = [position for position in positions if position is not None]
    if not known:
        return visible
    return max(known) if len(known) == len(positions) else visible
