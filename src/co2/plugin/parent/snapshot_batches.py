"""Batches of the last values that a package gets before all other messages."""

from collections.abc import Iterable, Iterator
from typing import Any

from co2.plugin.parent.delivery_queue import Envelope, QueuedBatch
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.link_frames import SnapshotValue
from co2.protocol.wire.message_keys import with_keys

__all__ = ["SNAPSHOT_BATCH", "left_out_words", "snapshot_batches"]

SNAPSHOT_BATCH = 256 * 1024
"""Bytes of messages in one batch, above which another one is begun."""

SNAPSHOT_MESSAGES = 1_024
"""The same as a number of messages."""


def snapshot_batches(
    package: str, values: Iterable[SnapshotValue], origin: str, *, times: bool
) -> Iterator[QueuedBatch]:
    """Yield the batches of last values, by sender; the values of each in their order.

    Args:
        package: that gets them.
        values: as the relay sent them.
        origin: of this satellite: a plugin gets no message that it has sent itself.
        times: whether messages get a key ``at``.
    """
    of_sender: dict[Envelope, list[bytes]] = {}
    for value in values:
        is_own = value.sender == package and value.host_id.partition("@")[0] == origin
        envelope = Envelope(
            value.host_id, value.client_address, value.plugin if is_own else "", is_snapshot=True
        )  # fmt: skip
        keys: dict[str, Any] = {"snapshot": True, "age": None if value.age is None else round(value.age, 3)}
        if times:
            keys["at"] = value.at
        of_sender.setdefault(envelope, []).append(with_keys(value.message, keys))
    for envelope, messages in of_sender.items():
        part: list[bytes] = []
        size = 0
        for message in messages:
            if part and (size + len(message) > SNAPSHOT_BATCH or len(part) == SNAPSHOT_MESSAGES):
                yield QueuedBatch(envelope, make_batch(part), len(part))
                part, size = [], 0
            part.append(message)
            size += len(message)
        yield QueuedBatch(envelope, make_batch(part), len(part))


def left_out_words(number: int) -> str:
    """Return the reason of a gap for last values that did not fit."""
    return f"{number} last values did not fit into the snapshot: those sent longest ago"
