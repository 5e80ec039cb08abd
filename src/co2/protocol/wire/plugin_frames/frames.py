"""Every frame between a host and its plugin hosts, as a msgspec Struct; those of a package's life cycle are in
``lifecycle.py``, those of relay plugins in ``transit.py``.

On the socket pair a frame is four bytes of length (big endian) and then MessagePack: an array whose first item is
the frame's name. Messages travel in batches (``protocol/wire/batch.py``), as the sending plugin host made them:
byte strings that hosts move and never parse. (Not ``msgspec.Raw``: to find its end the decoder walks over the
whole value, and a message nested too deep would make its whole frame unreadable.)

Order, host → child: Load, then (after Checked) Make, then (after Loaded) Start, then Deliver, Snapshot, Gap, Call,
Repeat, Describe, Withdraw, Flow and Flushed in any number, then Stop. Child → host: Checked, Loaded, or LoadFailed
in place of one, then Publish, Flush, Applied, DeadLetter, Result in any number, then Goodbye. Record may come at
any time, and so may Ask and AskHosts, answered by Answered and Hosts.

A change of code, from an old child to a new one that has sent Loaded: the old one gets Handover and answers with
HandedOver, plugin by plugin; each plugin of the new one that should get a value gets Takeover and answers with
TakenOver. Then the old one gets Stop with ``keep``, and answers with Exited once all of its messages are sent;
then the new one gets Start. An old child that should continue gets Resume instead of Stop; one that has exited,
but kept its code, can be asked to Make its plugins once more.
"""

from typing import Any

import msgspec

from co2.errors import BadRequest
from co2.protocol.wire.plugin_frames.base import Frame
from co2.protocol.wire.plugin_frames.lifecycle import (
    Checked,
    Exited,
    HandedOver,
    Handover,
    Load,
    Loaded,
    LoadFailed,
    Make,
    MethodInfo,
    PluginInfo,
    Progress,
    Resume,
    Start,
    Stop,
    Stumbled,
    TakenOver,
    Takeover,
)
from co2.protocol.wire.plugin_frames.transit import Admit, Transit, Transited

__all__ = [
    "MAX_CHANNELS",
    "MAX_FRAME_SIZE",
    "Admit",
    "Answer",
    "Answered",
    "Applied",
    "Ask",
    "AskHosts",
    "Call",
    "Change",
    "Checked",
    "ChildFrame",
    "DeadLetter",
    "Deliver",
    "Describe",
    "Exited",
    "Flow",
    "Flush",
    "Flushed",
    "FrameReader",
    "Gap",
    "Goodbye",
    "HandedOver",
    "Handover",
    "Host",
    "HostFrame",
    "Hosts",
    "Load",
    "LoadFailed",
    "Loaded",
    "Make",
    "MethodInfo",
    "PluginInfo",
    "Progress",
    "Publish",
    "Record",
    "Repeat",
    "Result",
    "Resume",
    "Snapshot",
    "Start",
    "Stop",
    "Stumbled",
    "TakenOver",
    "Takeover",
    "Transit",
    "Transited",
    "Withdraw",
    "encode_frame",
    "text_for_frame",
]

MAX_FRAME_SIZE = 2 * 1024 * 1024
"""Bytes of one frame on the socket pair, without its length prefix."""

MAX_CHANNELS = 32
"""Channels that a frame names; a frame with more is for all plugins."""


class Host(msgspec.Struct, frozen=True):
    """A satellite of the network, as plugins see it.

    Attributes:
        host_id: ``<random>@<ip>:<port>``.
        methods: names of the callable methods there.
        plugins: names of the plugins there.
        own: whether it is the plugin's own satellite.
        name: for people, unique in the network; '' while the relay has given none.
    """

    host_id: str
    methods: list[str] = []
    plugins: list[str] = []
    own: bool = False
    name: str = ""


class Deliver(Frame):
    """A batch of messages for the package, numbered consecutively.

    Attributes:
        first: number of the batch's first one; numbers count per package from 1 and are never reused.
        position: of the first one in the relay's log, for the causes of what plugins send; 0 for none. Of messages
            of this satellite, which the relay may not have yet, it is the number in a run of the satellite.
        run: the end of the run's own number, if ``position`` is a number of a run; else 0.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        batch: the messages.
        sender: name of the plugin of this package that sent them, '' for any other sender: no plugin receives its
            own messages. Siblings in one package receive each other's through their host too, so that messages
            outlive the child.
        skip: number of messages at the front that are not for the package; they have numbers too.
        at: time at which the relay got them, seconds since 1970; 0.0 for a package that does not ask for it.
    """

    first: int
    position: int
    run: int
    host_id: str
    client_address: tuple[str, int]
    batch: bytes
    sender: str = ""
    skip: int = 0
    at: float = 0.0


class Snapshot(Deliver):
    """Last values, before the messages that follow: only for the plugins that ask for them, marked as such."""


class Gap(Frame):
    """Messages that the package will not get. Comes in its place among the Deliver frames.

    Attributes:
        first: its number: a gap takes one, so that it is reported once, however often the child dies.
        after: position of the last message before it; 0 if positions are not known.
        next: position of the first message after it, likewise.
        reason: in words.
    """

    first: int
    after: int
    next: int
    reason: str


class Call(Frame):
    """Call an ``x_`` method. ``argument`` is one encoded dictionary."""

    call_id: int
    method: str
    argument: bytes


class Repeat(Frame):
    """Pass a dead letter to its plugin again, marked ``repeat: True``. Answered by a Result, like a Call.

    Attributes:
        call_id: from the same numbers as those of Calls.
        plugin: its name.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        message: encoded.
    """

    call_id: int
    plugin: str
    host_id: str
    client_address: tuple[str, int]
    message: bytes


class Describe(Frame):
    """Ask for a schema. Answered by a Result, like a Call.

    Attributes:
        call_id: from the same numbers as those of Calls.
        what: ``method``, ``config`` or ``sends``.
        method: its name, if the schema is a method's.
    """

    call_id: int
    what: str
    method: str = ""


class Withdraw(Frame):
    """Withdraw a Call or Repeat whose caller is gone: if it has not begun, it is dropped."""

    call_id: int


class Flow(Frame):
    """Whether Publish may come now. Closed while the host's outbox is full; all other frames still come.

    Attributes:
        why: the limit that is reached and what delays the queue, for a sender that finds no room.
    """

    open: bool
    why: str = ""


class Flushed(Frame):
    """Answer to a Flush: all is acknowledged, or ``error`` says why it will not be."""

    flush_id: int
    error: str = ""


class Answered(Frame):
    """Answer to an Ask.

    Attributes:
        call_id: of the Ask.
        value: the result, encoded.
        code: fault code, 0 for success.
        error: text of the error.
    """

    call_id: int
    value: bytes
    code: int = 0
    error: str = ""


class Hosts(Frame):
    """Satellites of the network: a part of the answer to an AskHosts, or changes.

    Attributes:
        call_id: of the AskHosts; 0 for changes.
        hosts: the connected ones; of changes, those that are new or have other names.
        left: those that have left; in changes only.
        more: another part follows.
    """

    call_id: int
    hosts: list[Host]
    left: list[Host] = []
    more: bool = False


class Publish(Frame):
    """Messages that one plugin sent, in order.

    Attributes:
        plugin: its name.
        channels: the channels of these messages, sorted, '' for none; None for more than :data:`MAX_CHANNELS`.
        batch: the messages.
        live: worthless a second later: they may be dropped on the way. Never mixed with others in a frame.
    """

    plugin: str
    channels: list[str] | None
    batch: bytes
    live: bool = False


class Flush(Frame):
    """Request a Flushed when all earlier messages of the plugin are acknowledged.

    Attributes:
        flush_id: counts up.
        timeout: seconds after which nobody waits for the answer any more.
    """

    flush_id: int
    timeout: float


class Applied(Frame):
    """Every plugin of the package has processed all messages up to number ``last``.

    The other numbers count since this child started.

    Attributes:
        failed: calls of ``receive`` that raised.
        waited: calls of ``send`` that had to wait for room.
        unkept: dead letters that were dropped because they came too fast.
    """

    last: int
    failed: int = 0
    waited: int = 0
    unkept: int = 0


class DeadLetter(Frame):
    """A message whose ``receive`` raised.

    Attributes:
        plugin: name of the plugin that did not accept it.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        reason: the error, on one line.
        message: as received, encoded; b'' if it cannot be separated from its batch.
    """

    plugin: str
    host_id: str
    client_address: tuple[str, int]
    reason: str
    message: bytes


class Result(Frame):
    """The result of a Call or Repeat: ``value`` encoded, or ``error`` not ''.

    Attributes:
        call_id: of the Call or Repeat.
        value: the returned value, encoded.
        error: text of the error.
        refused: the argument was wrong, so that the plugin was not called.
    """

    call_id: int
    value: bytes
    error: str = ""
    refused: bool = False


class Ask(Frame):
    """A plugin calls a method, anywhere in the network.

    Attributes:
        call_id: chosen by the child, never reused.
        method: its name.
        host_id: of the host to call; '' for the one that has the method.
        argument: one encoded dictionary.
        timeout: seconds that the plugin waits.
    """

    call_id: int
    method: str
    host_id: str
    argument: bytes
    timeout: float


class AskHosts(Frame):
    """A plugin asks for the satellites of the network.

    Attributes:
        call_id: as that of an Ask; 0 to get all changes from now on, the present satellites first.
    """

    call_id: int


class Record(Frame):
    """A line for the log. ``level`` is one of ``logging``'s numbers, ``source`` a plugin's name or ''."""

    source: str
    level: int
    text: str


class Goodbye(Frame):
    """Last frame of a child that stops in good order."""


Change = Handover | Takeover | Resume
HostFrame = (
    Load
    | Make
    | Start
    | Deliver
    | Snapshot
    | Gap
    | Transit
    | Call
    | Repeat
    | Admit
    | Describe
    | Withdraw
    | Flow
    | Flushed
    | Answered
    | Hosts
    | Change
    | Stop
)
Answer = Checked | Loaded | LoadFailed | HandedOver | TakenOver | Exited
Question = Ask | AskHosts
ChildFrame = (
    Answer | Stumbled | Publish | Transited | Flush | Applied | DeadLetter | Result | Question | Record | Goodbye
)

_encoder = msgspec.msgpack.Encoder()
_decoders = {
    "host": msgspec.msgpack.Decoder(HostFrame),
    "child": msgspec.msgpack.Decoder(ChildFrame),
}


def text_for_frame(text: str) -> str:
    """Return text that a frame can carry: invalid Unicode, as in names of files, becomes ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode()


def encode_frame(frame: HostFrame | ChildFrame) -> bytes:
    """Encode a frame with its length prefix.

    Raises:
        BadRequest: over :data:`MAX_FRAME_SIZE`.
    """
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME_SIZE:
        raise BadRequest(f"a frame of {len(body)} bytes; the limit is {MAX_FRAME_SIZE}")
    return len(body).to_bytes(4, "big") + body


class FrameReader:
    """Parses a stream of bytes into frames.

    Args:
        sender: of the frames, ``"host"`` or ``"child"``.
    """

    def __init__(self, sender: str) -> None:
        self._decode = _decoders[sender].decode
        self._buffer = bytearray()

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a frame."""
        return not self._buffer

    def feed(self, data: bytes | memoryview) -> list[Any]:
        """Parse received bytes; return the complete frames.

        Raises:
            BadRequest: a frame that is too long or unknown. The stream cannot continue.
        """
        buffer = self._buffer
        frames: list[Any] = []
        if not buffer:
            size = len(data) - 4
            if 0 < size <= MAX_FRAME_SIZE and int.from_bytes(data[:4], "big") == size:
                return [self._decoded(data[4:])]  # one frame, the usual case for urgent ones
            with memoryview(data) as view:
                used = self._cut(view, frames)
                buffer += view[used:]
            return frames
        buffer += data
        # A view, so that a frame's bytes are copied once; it must be gone before the buffer shrinks.
        with memoryview(buffer) as view:
            used = self._cut(view, frames)
        del buffer[:used]
        return frames

    def _decoded(self, data: bytes | memoryview) -> Any:
        try:
            return self._decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadRequest(f"not a frame: {error}") from None

    def _cut(self, view: memoryview, frames: list[Any]) -> int:
        """Parse all whole frames at the front; return the number of bytes used."""
        start, left = 0, len(view)
        while left >= 4:
            size = int.from_bytes(view[start : start + 4], "big")
            if size > MAX_FRAME_SIZE:
                raise BadRequest(f"a frame of {size} bytes; the limit is {MAX_FRAME_SIZE}")
            end = start + 4 + size
            if left < 4 + size:
                break
            frames.append(self._decoded(view[start + 4 : end]))
            start, left = end, left - 4 - size
        return start
