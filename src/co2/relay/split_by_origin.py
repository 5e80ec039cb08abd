"""Who has first sent what a relay plugin sends: to that host it does not go back."""

from collections.abc import Iterator
from typing import Any

import msgspec

from co2.errors import BadRequest
from co2.host_id import HostId
from co2.protocol.wire.batch import make_batch, split_batch

__all__ = ["by_first_sender"]


class _FirstSender(msgspec.Struct):
    """The one key of a message that tells who has sent it first."""

    origin_host_id: Any = ""


_first_sender = msgspec.msgpack.Decoder(_FirstSender).decode


def by_first_sender(batch: bytes) -> Iterator[tuple[str, bytes]]:
    """Take messages apart by the host that they name as their first sender; give its origin, '' for none."""
    if b"origin_host_id" not in batch:
        yield "", batch
        return
    part: list[bytes] = []
    of = ""
    for message in split_batch(batch):
        origin = _origin_in(message)
        if part and origin != of:
            yield of, make_batch(part)
            part = []
        of = origin
        part.append(message)
    yield of, make_batch(part)


def _origin_in(message: bytes) -> str:
    try:
        return HostId.parse(_first_sender(message).origin_host_id).origin
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError, BadRequest):
        return ""  # none, or none that is a host's
