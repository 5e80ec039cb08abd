"""Why a link ends: the ``reason`` of a Goodbye, one word each, the same for both sides."""

__all__ = [
    "CLONED",
    "DAMAGED",
    "FULL",
    "GARBAGE",
    "IDENTITY",
    "LOG_REPLACED",
    "OUT_OF_ORDER",
    "OUT_OF_PLACE",
    "REFUSED",
    "SILENT",
    "STOPPING",
    "STORAGE",
    "TAKEN_OVER",
]

CLONED = "cloned"
"""Two satellites run with copies of one state folder: see :mod:`co2.protocol.relay.takeovers`."""

DAMAGED = "damaged"
"""A frame whose checksum is another."""

FULL = "full"
"""The relay carries as many satellites as it may."""

GARBAGE = "garbage"
"""What came is no frame, or breaks a limit."""

IDENTITY = "identity"
"""A host_id that cannot be the other side's: it is none, or it belongs to another state folder."""

LOG_REPLACED = "log-replaced"
"""The relay has taken a new log id: come again, and be told the gap."""

OUT_OF_ORDER = "out-of-order"
"""A Publish whose number is not the next one."""

OUT_OF_PLACE = "out-of-place"
"""A frame that this state does not know."""

REFUSED = "refused"
"""A relay plugin does not let this satellite join; the text says why."""

SILENT = "silent"
"""Nothing was heard for too long."""

STOPPING = "stopping"
"""The other side ends in good order."""

STORAGE = "storage"
"""The relay cannot keep anything more: its disk is full, or fails."""

TAKEN_OVER = "taken-over"
"""Another link of the same origin is newer."""
