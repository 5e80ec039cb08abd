"""Frames of a relay and the plugin hosts of its relay plugins: for messages on their way, and for admissions."""

from co2.protocol.wire.plugin_frames.base import Frame

__all__ = ["MAX_RETURNED", "Admit", "Transit", "Transited"]

MAX_RETURNED = 4096
"""Bytes of messages up to which an answer has them even if all of them are unchanged: so the express can pass
them on without finding the request. Larger ones are not copied."""


class Transit(Frame):
    """Messages on their way through a relay plugin. Answered by Transited, in the order of the requests.

    Attributes:
        number: counts the messages of these frames per package: the number of the frame's first one, never reused.
        plugin: name of the plugin that filters them.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        batch: the messages; nil stands for one that was dropped before.
    """

    number: int
    plugin: str
    host_id: str
    client_address: tuple[str, int]
    batch: bytes


class Transited(Frame):
    """The result of a relay plugin for a Transit.

    Attributes:
        number: of the Transit.
        batch: as many messages as before, nil for each dropped one; b'' if all are unchanged and over
            :data:`MAX_RETURNED`.
        channels: of the remaining messages, as in Publish; empty if none remain. Not set if ``batch`` is b''.
        dropped: messages that this plugin dropped.
        changed: messages that it changed.
        failed: calls that raised, or returned a value that cannot travel: these messages continue unchanged.
    """

    number: int
    batch: bytes = b""
    channels: list[str] | None = None
    dropped: int = 0
    changed: int = 0
    failed: int = 0


class Admit(Frame):
    """A satellite wants to join. Answered by a Result, like a Call: nil, or a text with the reason of the refusal.

    Attributes:
        call_id: from the same numbers as those of Calls.
        plugin: name of the plugin that decides.
        host_id: of the satellite.
        methods, plugins: its names.
    """

    call_id: int
    plugin: str
    host_id: str
    methods: list[str]
    plugins: list[str]
