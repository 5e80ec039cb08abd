"""Every frame that a host and its plugin hosts exchange, as a msgspec Struct.

On the socket pair a frame is four bytes of length (big endian) and then MessagePack: an array whose first
item is the frame's name. Messages travel in batches (``protocol/batch.py``), as the sending plugin host made them:
byte strings that hosts move and never look into. (Not ``msgspec.Raw``: to find its end the decoder walks all of
the value, and a message nested too deep would make its whole frame unreadable.)

Order, host → child: Load, then (after Checked) Make, then (after Loaded) Start, then Deliver, Gap, Call, Repeat,
Withdraw, Flow and Flushed in any number, then Stop. Child → host: Checked, Loaded, or LoadFailed in place of one,
then Publish, Flush, Applied, DeadLetter, Result in any number, then Goodbye. Record may come at any time, and so
may Ask and AskHosts, answered by Answered and Hosts.

A change of code, from an old child to a new one that has said Loaded: the old one gets Handover and answers with
HandedOver, plugin by plugin; each plugin of the new one that is to get a value gets Takeover and answers with
TakenOver. Then the old one gets Stop with ``keep``, which it answers with Exited once all that it had to send is
sent; and then the new one gets Start. An old one that is to go on gets Resume instead of Stop; one that has
exited, but kept its code, can be told to Make its plugins once more.
"""

from typing import Any

import msgspec

from co2.errors import BadRequest
from co2.protocol.frame import Frame
from co2.protocol.transit_frames import Admit, Transit, Transited

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
"""Channels that a frame names; one with more is for everybody."""


class MethodInfo(msgspec.Struct, frozen=True):
    """One ``x_`` method.

    Attributes:
        name: as it is called from anywhere, ``<package>.<module>.<method>``.
        help: docstring, '' for none.
        signatures: each a list of XML-RPC type names, the result's first.
    """

    name: str
    help: str
    signatures: list[list[str]]


class PluginInfo(msgspec.Struct, frozen=True):
    """One plugin of a package.

    Attributes:
        name: ``<package>.<module>.<class>``.
        text: its ``str()``.
        receives: whether it overrides ``receive``.
        help: the class's docstring, '' for none.
        channels: patterns over channels that it wants, see ``protocol/interests.py``; empty for everything.
        durable: whether it goes on where it left off after a restart of its satellite.
        relays: whether messages on their way through a relay are to pass it.
        admits: whether it is asked who may join a relay.
    """

    name: str
    text: str
    receives: bool
    help: str
    channels: list[str] = []
    durable: bool = False
    relays: bool = False
    admits: bool = False


class Host(msgspec.Struct, frozen=True):
    """A satellite of the network, as plugins see it.

    Attributes:
        host_id: ``<random>@<ip>:<port>``.
        methods: names of what can be called there.
        plugins: names of the plugins there.
        own: whether it is the plugin's own satellite.
    """

    host_id: str
    methods: list[str] = []
    plugins: list[str] = []
    own: bool = False


class Progress(msgspec.Struct, frozen=True):
    """Where a plugin stood when its last plugin host died.

    Attributes:
        done: number of the last message that it finished; 0 for none.
        inside: number of the message it died in; 0 for none.
    """

    done: int
    inside: int


class Load(Frame):
    """First frame to a child: import this package and check it.

    Attributes:
        package: name of the package.
        folder: the folder that holds it; '' for one that is installed.
        var_dict: what plugins get as ``var_dict``.
        config: the table ``[plugin.<package>]``, becomes ``self.config``.
        send_timeout: seconds that ``send`` waits for room.
        load_timeout: seconds until the host gives up; shortly before, the child tells where it hangs.
        memory: MiB of address space that the child may use, 0 for no limit.
        hang_timeout: seconds in which the child must be able to run some Python; it ends itself where it is not,
            for nobody else may be there to end it.
        open_files: that the child may have, 0 for what the system allows.
        cpu_seconds: that the child may use in its life, 0 for no limit.
        module: what Python imports a package by that is installed; '' for one in ``folder``.
        config_file: where ``config`` stands, '' for nowhere.
        store: path of the file behind ``self.store``, '' for none.
    """

    package: str
    folder: str
    var_dict: dict[str, Any]
    config: dict[str, Any]
    send_timeout: float
    load_timeout: float = 10.0
    memory: int = 0
    hang_timeout: float = 60.0
    open_files: int = 0
    cpu_seconds: int = 0
    module: str = ""
    config_file: str = ""
    store: str = ""


class Make(Frame):
    """Make every plugin, from the code that the child holds. Also after Exited, for plugins afresh."""


class Start(Frame):
    """All is registered: held sends go out, deliveries begin.

    Attributes:
        progress: per plugin name; a plugin skips messages up to ``done`` and gets message ``inside``
            marked ``repeat: True``. Empty at a first start. A dead letter counts as done.
        on_trial: a plugin whose very first ``receive`` raises says Stumbled and waits, in place of making a
            dead letter.
    """

    progress: dict[str, Progress] = {}
    on_trial: bool = False


class Handover(Frame):
    """Have every plugin stop between two messages and give what the one that follows it is to know."""

    number: int


class Takeover(Frame):
    """Give a plugin, before it starts, what the one before it has handed over. ``value`` is encoded."""

    plugin: str
    value: bytes


class Resume(Frame):
    """No change after all: every plugin goes on where it stopped."""


class Deliver(Frame):
    """A batch of messages for the package, numbered consecutively.

    Attributes:
        first: number of the batch's first one; numbers count per package from 1 and are never used twice.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        batch: the messages.
        sender: name of the plugin of this package that sent them, '' for one from elsewhere: nobody hears
            itself. Siblings in one package hear each other through their host too, so that what was sent
            outlives the child.
        skip: so many at the front are not for the package; they have numbers all the same.
    """

    first: int
    host_id: str
    client_address: tuple[str, int]
    batch: bytes
    sender: str = ""
    skip: int = 0


class Gap(Frame):
    """Messages that the package will not get. Comes in its place among the Deliver frames.

    Attributes:
        first: its number: a gap takes one, so that it is told once, however often the child dies.
        after: position of the last message before it; 0 where positions are not known.
        next: position of the first message after it, likewise.
        reason: why, in words.
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
    """Give a dead letter to its plugin once more, marked ``repeat: True``. Answered by a Result, as a Call is.

    Attributes:
        call_id: one of those that Calls have.
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


class Withdraw(Frame):
    """Nobody waits for that Call or Repeat any more: if it has not begun, it need not."""

    call_id: int


class Flow(Frame):
    """Whether Publish may come now. Closed while the host's outbox is full; all other frames still come."""

    open: bool


class Flushed(Frame):
    """Answer to a Flush: all of it is acknowledged, or ``error`` says why that will not come."""

    flush_id: int
    error: str = ""


class Answered(Frame):
    """Answer to an Ask.

    Attributes:
        call_id: of the Ask.
        value: the result, encoded.
        code: fault code, 0 for success.
        error: what went wrong.
    """

    call_id: int
    value: bytes
    code: int = 0
    error: str = ""


class Hosts(Frame):
    """Satellites of the network: a part of the answer to an AskHosts, or news.

    Attributes:
        call_id: of the AskHosts; 0 for news.
        hosts: those that are there; of news, those that are new or tell something else.
        left: those that have left; in news only.
        more: another part follows.
    """

    call_id: int
    hosts: list[Host]
    left: list[Host] = []
    more: bool = False


class Stop(Frame):
    """Run every ``__exit__``, flush, say Goodbye and end.

    Attributes:
        timeout: seconds for every ``__exit__``.
        keep: do not end, but keep the code, and say Exited.
    """

    timeout: float
    keep: bool = False


class Checked(Frame):
    """The package is imported and checked; nothing of it is made yet.

    Attributes:
        code: hash of its files as they were loaded.
        exclusive: a class of it says that it holds what only one can have.
    """

    code: str
    exclusive: bool = False


class Loaded(Frame):
    """The package is initialised. ``warnings`` go to the log."""

    plugins: list[PluginInfo]
    methods: list[MethodInfo]
    warnings: list[str]


class LoadFailed(Frame):
    """The package cannot be loaded.

    Attributes:
        problem: one or two lines: what was found, what was expected.
        where: ``file:line`` or class, where known.
        details: the traceback, '' for none.
        taken: an ``__init__`` found taken what only one can have: a port, a device.
    """

    problem: str
    where: str
    details: str
    taken: bool = False


class HandedOver(Frame):
    """A plugin has stopped between two messages.

    Attributes:
        number: of the Handover.
        plugin: its name.
        value: what its ``handover`` gave, encoded; None where it has none.
        problem: what its ``handover`` raised instead, '' for nothing.
    """

    number: int
    plugin: str
    value: bytes | None
    problem: str = ""


class TakenOver(Frame):
    """A plugin's ``takeover`` has returned; ``problem`` says what it raised, '' for nothing."""

    plugin: str
    problem: str = ""


class Exited(Frame):
    """Every ``__exit__`` has run, and all that was sent is out. The code is kept."""


class Stumbled(Frame):
    """On trial, the first ``receive`` of a plugin raised. It waits inside this message for Resume, or its end.

    Attributes:
        plugin: its name.
        problem: what it raised.
        what: ``receive`` or ``relay``.
    """

    plugin: str
    problem: str
    what: str = "receive"


class Publish(Frame):
    """Messages that one plugin sent, in order.

    Attributes:
        plugin: its name.
        channels: the channels of these messages, sorted, '' for none; None when they are more than
            :data:`MAX_CHANNELS`.
        batch: the messages.
        live: worthless a second later: they may be dropped on the way. Never mixed with others in a frame.
    """

    plugin: str
    channels: list[str] | None
    batch: bytes
    live: bool = False


class Flush(Frame):
    """Asks to be told when all that its plugin has published before is acknowledged."""

    flush_id: int


class Applied(Frame):
    """Every plugin of the package is done with all messages up to number ``last``.

    The other numbers count since this child started.

    Attributes:
        failed: calls of ``receive`` that raised.
        waited: calls of ``send`` that had to wait for room.
        unkept: dead letters that nobody gets, because they came too fast.
    """

    last: int
    failed: int = 0
    waited: int = 0
    unkept: int = 0


class DeadLetter(Frame):
    """A message whose ``receive`` raised.

    Attributes:
        plugin: name of the one that did not take it.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection.
        reason: the error, on one line.
        message: as it came, encoded; b'' where nothing of it can be told apart.
    """

    plugin: str
    host_id: str
    client_address: tuple[str, int]
    reason: str
    message: bytes


class Result(Frame):
    """What a Call or Repeat returned: ``value`` encoded, or ``error`` not ''.

    Attributes:
        call_id: of the Call or Repeat.
        value: what was returned, encoded.
        error: what went wrong.
        refused: the argument was wrong, so that nothing of the plugin was called.
    """

    call_id: int
    value: bytes
    error: str = ""
    refused: bool = False


class Ask(Frame):
    """A plugin calls a method, anywhere in the network.

    Attributes:
        call_id: chosen by the child, never used twice.
        method: its name.
        host_id: of the host that is to be called; '' for the one that has the method.
        argument: one encoded dictionary.
        timeout: seconds that the plugin waits.
    """

    call_id: int
    method: str
    host_id: str
    argument: bytes
    timeout: float


class AskHosts(Frame):
    """A plugin asks which satellites there are.

    Attributes:
        call_id: as that of an Ask; 0 for wanting to know of the others from now on, those that are there first.
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
    | Gap
    | Transit
    | Call
    | Repeat
    | Admit
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
    """Give text as a frame can carry it: what is no valid Unicode, as in names of files, becomes ``\\udcff``."""
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
    """Cut a stream of bytes into frames.

    Args:
        sender: whose frames these are, ``"host"`` or ``"child"``.
    """

    def __init__(self, sender: str) -> None:
        self._decode = _decoders[sender].decode
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> list[Any]:
        """Take bytes as they came, give the frames that are complete.

        Raises:
            BadRequest: a frame that is too long, or none that we know. The stream cannot go on.
        """
        buffer = self._buffer
        frames: list[Any] = []
        if not buffer:
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

    def _cut(self, view: memoryview, frames: list[Any]) -> int:
        """Take all whole frames from the front; give how many bytes these were."""
        start, left = 0, len(view)
        while left >= 4:
            size = int.from_bytes(view[start : start + 4], "big")
            if size > MAX_FRAME_SIZE:
                raise BadRequest(f"a frame of {size} bytes; the limit is {MAX_FRAME_SIZE}")
            end = start + 4 + size
            if left < 4 + size:
                break
            try:
                frames.append(self._decode(view[start + 4 : end]))
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise BadRequest(f"not a frame: {error}") from None
            start, left = end, left - 4 - size
        return start
