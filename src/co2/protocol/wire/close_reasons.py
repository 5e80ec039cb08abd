"""The ``reason`` of a Goodbye, one word each, the same for both sides."""

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
"""The checksum of a frame is wrong."""

FULL = "full"
"""The relay has as many satellites as it may."""

GARBAGE = "garbage"
"""The data is not a frame, or exceeds a limit."""

IDENTITY = "identity"
"""The host_id cannot be the other side's: it is invalid, or belongs to another state folder."""

LOG_REPLACED = "log-replaced"
"""The relay has a new log id: reconnect to receive the gap."""

OUT_OF_ORDER = "out-of-order"
"""The number of a Publish is not the next one."""

OUT_OF_PLACE = "out-of-place"
"""A frame that is not allowed in this state."""

REFUSED = "refused"
"""A relay plugin does not let this satellite join; the text has the reason."""

SILENT = "silent"
"""Nothing was received for too long."""

STOPPING = "stopping"
"""The other side stops in good order."""

STORAGE = "storage"
"""The relay cannot store any more: its disk is full, or fails."""

TAKEN_OVER = "taken-over"
"""Another link of the same origin is newer."""
