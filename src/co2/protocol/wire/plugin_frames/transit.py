"""Frames of a relay and the plugin hosts of its plugins: for messages on their way, and for who wants to join."""

from co2.protocol.wire.plugin_frames.base import Frame

__all__ = ["MAX_RETURNED", "Admit", "Transit", "Transited"]

MAX_RETURNED = 4096
"""Bytes of messages up to which an answer has them also where all of them go on as they came: so the express can
pass them on without looking for what they came as. Larger ones are not copied."""


class Transit(Frame):
    """Messages on their way through a relay plugin. Answered by Transited, in the order of the questions.

    Attributes:
        number: counts the messages of these frames per package: it is that of the frame's first one, and is never
            used twice.
        plugin: name of the one that is to see them.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        batch: the messages; in the place of one that was dropped before is nil.
    """

    number: int
    plugin: str
    host_id: str
    client_address: tuple[str, int]
    batch: bytes


class Transited(Frame):
    """What goes on.

    Attributes:
        number: of the Transit.
        batch: as many messages as came, nil for each that is dropped; b'' for all of them as they came, where
            they are over :data:`MAX_RETURNED`.
        channels: of what goes on, as in Publish; nothing where nothing goes on. Not told where ``batch`` is b''.
        dropped: how many were dropped by this plugin.
        changed: how many go on otherwise than they came.
        failed: calls that raised, or gave what cannot travel: these messages go on as they came.
    """

    number: int
    batch: bytes = b""
    channels: list[str] | None = None
    dropped: int = 0
    changed: int = 0
    failed: int = 0


class Admit(Frame):
    """Somebody wants to join. Answered by a Result, as a Call is: nil, or a text that says why not.

    Attributes:
        call_id: one of those that Calls have.
        plugin: name of the one that is asked.
        host_id: of who wants to.
        methods, plugins: names of what it has.
    """

    call_id: int
    plugin: str
    host_id: str
    methods: list[str]
    plugins: list[str]
