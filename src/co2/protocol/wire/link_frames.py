"""Every frame on the link between a satellite and its relay, as a msgspec Struct (design §6).

A frame is one binary WebSocket message: MessagePack, an array whose first item is the frame's name. The
satellite opens the link and says Hello, the relay answers Welcome; then both speak as they like::

    satellite → relay    Hello, Publish, Hold, Interest, Replay, Applied, Call, Result, Goodbye
    relay → satellite    Welcome, Ack, Hold, Receipt, Deliver, Replay, Gap, Roster, Call, Result, Goodbye

A position counts messages: a frame of n messages at position p holds p … p+n-1. Positions begin at
:data:`FIRST_POSITION`, they may jump, and mean something only together with the log id.
"""

from typing import Annotated, Any

import msgspec

from co2.errors import BadRequest
from co2.protocol.wire.channel_patterns import MAX_CHANNEL
from co2.protocol.wire.host_names import MAX_NAME, MAX_NAMES, MAX_PACKAGES
from co2.protocol.wire.package_health import MAX_HEALTH, Health
from co2.protocol.wire.plugin_frames.frames import MAX_CHANNELS

__all__ = [
    "BEGINNING",
    "FIRST_POSITION",
    "MAX_FIRST_FRAME",
    "MAX_LINK_FRAME",
    "MAX_NUMBER",
    "SUBPROTOCOL",
    "Ack",
    "Applied",
    "Call",
    "Deliver",
    "Gap",
    "Goodbye",
    "Hello",
    "Hold",
    "Interest",
    "Publish",
    "Receipt",
    "RelayFrame",
    "Replay",
    "Result",
    "Roster",
    "SatelliteFrame",
    "Subscription",
    "Welcome",
    "decode_relay_frame",
    "decode_satellite_frame",
    "encode_link_frame",
]

SUBPROTOCOL = "co2.link.1"
"""The WebSocket subprotocol; another number is another protocol."""

MAX_LINK_FRAME = 4 * 1024 * 1024
"""Bytes of one frame on the link. A Publish and a part of the Roster stay far below."""

MAX_FIRST_FRAME = 256 * 1024
"""Bytes of one frame before a satellite was welcomed: a Hello, with its names and patterns.

No Hello of ours is longer: its parts are bounded by
:data:`co2.protocol.wire.subscription_limits.MAX_SUBSCRIPTIONS_SIZE`,
:data:`co2.protocol.wire.host_names.MAX_NAMES_SIZE` and what is below.
"""

BEGINNING = 1
"""Position of a reader that has read nothing. Not 0, so that "0 is the oldest" and this stay apart."""

FIRST_POSITION = 2
"""Position of a log's first message."""


MAX_NUMBER = 2**62
"""Highest seq and position: what follows from one still fits the log's 64 bits."""

MAX_EPOCH = 2**63 - 1
"""Highest epoch."""

MAX_EPOCHS = 64
"""Runs with something unacknowledged that a Hello tells of."""

MAX_SUBSCRIPTIONS = MAX_PACKAGES
"""Packages of one satellite that receive."""

MAX_LOG_ID = 128
"""Characters of a log's and of a run's name."""

MAX_TOKEN = 128
"""Characters of a token."""

MAX_TIMEOUT = 3600.0
"""Seconds that somebody may ask to wait."""

Epoch = Annotated[int, msgspec.Meta(ge=0, le=MAX_EPOCH)]
Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
First = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
Crc = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Names = Annotated[list[Name], msgspec.Meta(max_length=MAX_NAMES)]
Channel = Annotated[str, msgspec.Meta(max_length=MAX_CHANNEL)]
Channels = Annotated[list[Channel], msgspec.Meta(max_length=MAX_CHANNELS)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=MAX_TIMEOUT)]


class _Frame(msgspec.Struct, tag=True, array_like=True):
    """Base of all frames."""


class Subscription(msgspec.Struct, array_like=True, frozen=True):
    """Who reads, from where, what.

    Attributes:
        package: plugin package of the satellite.
        position: of the last message that it has had; None to begin at the head.
        channels: patterns of what it wants (:mod:`co2.protocol.wire.channel_patterns`), None for everything, or
            for more than may be told (:mod:`co2.protocol.wire.subscription_limits`): the satellite filters what
            comes.
        durable: gets only what is on the relay's disk, and its own satellite's messages too.
    """

    package: Name
    position: Number | None = None
    channels: list[str] | None = None
    durable: bool = False


Subscriptions = Annotated[list[Subscription], msgspec.Meta(max_length=MAX_SUBSCRIPTIONS)]


class Receipt(_Frame):
    """What a relay can be held to: everything up to a position was on its disk.

    See :mod:`co2.protocol.relay.receipts`.

    It comes with the Welcome and every few seconds, and goes back with the next Hello. A satellite that shows no
    token does not know it, and gets none.

    Attributes:
        log_id: of the log.
        run: of the relay.
        position: of the last message that was on disk.
        mac: by which the relay knows it.
    """

    log_id: Annotated[str, msgspec.Meta(max_length=MAX_LOG_ID)]
    run: Annotated[str, msgspec.Meta(max_length=MAX_LOG_ID)]
    position: Number
    mac: Annotated[bytes, msgspec.Meta(max_length=64)]


class Hello(_Frame):
    """First frame of a satellite.

    Attributes:
        host_id: proposed; the relay puts in the host part that it observes.
        log_id: that positions below belong to, '' for none.
        run: of the relay, when the last of these positions was handed out.
        subscriptions: one for each package that receives.
        outbox: (epoch, its first unacknowledged seq) for each epoch with something unacknowledged, oldest first;
            the last one is the run of now, also when all of it is acknowledged.
        methods: names of what can be called here.
        plugins: names of the plugins.
        token: of the state folder, by which its origin belongs to it (:mod:`co2.protocol.relay.origins`); '' for a
            satellite of before tokens.
        receipt: the last one that the relay has given, None for none.
        holds: it knows :class:`Hold`; who does not is sent away while the relay's disk is full.
    """

    host_id: str
    log_id: str
    run: str
    subscriptions: Subscriptions
    outbox: Annotated[list[tuple[Epoch, First]], msgspec.Meta(max_length=MAX_EPOCHS)]
    methods: Names
    plugins: Names
    token: Annotated[str, msgspec.Meta(max_length=MAX_TOKEN)] = ""
    receipt: Receipt | None = None
    holds: bool = False


class Interest(_Frame):
    """What the satellite's packages want from now on, all of it: a package that is missing is gone."""

    subscriptions: Subscriptions
    methods: Names
    plugins: Names


class Publish(_Frame):
    """Messages of one plugin: cut, numbered and checksummed once, sent again byte for byte.

    Attributes:
        epoch: one run of the sender, 63 random bits.
        seq: number of the first message within that run; they count from 1 without a hole.
        package: that sent them.
        plugin: that sent them.
        channels: of its messages, '' for none; None when there are more than 32.
        crc: CRC-32 of the batch.
        batch: the messages (:mod:`co2.protocol.wire.batch`).
    """

    epoch: Epoch
    seq: Number
    package: Name
    plugin: Name
    channels: Channels | None
    crc: Crc
    batch: bytes


class Applied(_Frame):
    """How the satellite is, for whoever looks at the relay.

    Attributes:
        positions: how far each package is.
        health: how each package is; None where that is no news.
        listens: IP address that the satellite listens on; '' for one that does not tell.
    """

    positions: Annotated[dict[Name, Number], msgspec.Meta(max_length=MAX_SUBSCRIPTIONS)]
    health: Annotated[list[Health], msgspec.Meta(max_length=MAX_HEALTH)] | None = None
    listens: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Welcome(_Frame):
    """First frame of a relay.

    Attributes:
        host_id: with the host part that the relay observed; it is used from now on.
        relay: the relay's own host_id.
        log_id: of its log.
        run: of the relay: another one at each start.
        position: the head of the log; where a subscription without position begins.
        acks: for each epoch of the Hello, the last seq that is on disk.
        receipt: of what is on disk now, None for none.
        anew: the positions of the Hello are none of this log's, though its id is the same: they begin anew in it.
    """

    host_id: str
    relay: str
    log_id: Annotated[str, msgspec.Meta(max_length=MAX_LOG_ID)]
    run: Annotated[str, msgspec.Meta(max_length=MAX_LOG_ID)]
    position: Number
    acks: list[tuple[Epoch, Number]]
    receipt: Receipt | None = None
    anew: bool = False


class Ack(_Frame):
    """Everything of that epoch up to ``seq`` is on the relay's disk."""

    epoch: Epoch
    seq: Number


class Hold(_Frame):
    """What has to be stored is not taken for now: the relay's disk is full. All else goes on.

    To the satellite, with a text: keep what is not acknowledged, and give nothing of it; what was on its way does
    not count. To the satellite, without: there is room, send again all that is not acknowledged. The satellite
    answers that with the same frame: what comes behind it counts.

    Attributes:
        text: for people; '' when there is room.
    """

    text: str = ""


class Deliver(_Frame):
    """A frame out of the log.

    Attributes:
        position: of its first message.
        package: '' for the live stream, which is every live package's; else the one that asked for a replay.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection, as the relay saw it.
        epoch: as in :class:`Publish`; 0 for a sender that does not number.
        seq: as in :class:`Publish`.
        sender: package that sent them.
        plugin: as in :class:`Publish`.
        channels: as in :class:`Publish`.
        crc: as in :class:`Publish`.
        batch: as in :class:`Publish`.
    """

    position: Number
    package: Name
    host_id: Name
    client_address: tuple[Name, int]
    epoch: Epoch
    seq: Number
    sender: Name
    plugin: Name
    channels: Channels | None
    crc: Crc
    batch: bytes


class Replay(_Frame):
    """A package reads for itself, at its own pace, with a cursor of its own.

    To the relay: give it what comes after ``position``, as many bytes as it has ``room`` for; 0 for nothing yet,
    which the relay answers with the same frame: what it wrote before that does not count.
    From the relay: that was it, up to ``position``. With ``room`` left it has caught up: what comes after is in
    the live stream (or, for a durable package, comes as it gets to disk). With none left there is more to ask for.
    """

    package: Name
    position: Number
    room: Number


class Gap(_Frame):
    """Messages over ``after`` up to ``next`` will not come.

    Attributes:
        package: whom it concerns, '' for every live package.
        after: position of the last message before it.
        next: position of the last message that is missing.
        reason: why.
    """

    package: Name
    after: Number
    next: Number
    reason: str


class Roster(_Frame):
    """Who is connected, as far as it is news on this link.

    Attributes:
        rows: host_id, methods and plugins of satellites that have come or tell something else.
        gone: origins of those that have left.
        begins: this is the first part of all of it; what was told before counts no more.
        ends: with this part everything has been told that there is now.
    """

    rows: list[tuple[str, list[str], list[str]]]
    gone: list[str] = []
    begins: bool = True
    ends: bool = True


class Call(_Frame):
    """Call a method of the other side.

    Attributes:
        call_id: chosen by the caller, one that is not under way.
        method: its name.
        argument: one encoded dictionary.
        timeout: seconds that the caller waits.
    """

    call_id: Number
    method: Name
    argument: bytes
    timeout: Seconds


class Result(_Frame):
    """What a Call came to.

    Attributes:
        call_id: of the Call.
        value: encoded; b'' for an error.
        code: fault code, 0 for none.
        error: fault text.
    """

    call_id: Number
    value: bytes = b""
    code: int = 0
    error: str = ""


class Goodbye(_Frame):
    """Last frame, of either side.

    Attributes:
        reason: one word for programs, see :mod:`co2.protocol.wire.close_reasons`.
        text: for people.
        retry_after: seconds that the other side should wait before it comes again, 0 for as it likes.
    """

    reason: str
    text: str
    retry_after: Seconds = 0.0


SatelliteFrame = Hello | Publish | Hold | Interest | Replay | Applied | Call | Result | Goodbye
RelayFrame = Welcome | Ack | Hold | Receipt | Deliver | Replay | Gap | Roster | Call | Result | Goodbye

_encoder = msgspec.msgpack.Encoder()
_satellite_decoder = msgspec.msgpack.Decoder(SatelliteFrame)
_relay_decoder = msgspec.msgpack.Decoder(RelayFrame)

_LONG_ONES = tuple(bytes((0xA0 | len(name),)) + name.encode() for name in ("Publish", "Call", "Result"))
"""How frames with messages and values begin, behind their first byte: any other one is as short as a Hello."""


def encode_link_frame(frame: SatelliteFrame | RelayFrame) -> bytes:
    """Encode a frame.

    Raises:
        BadRequest: over :data:`MAX_LINK_FRAME`.
    """
    data = _encoder.encode(frame)
    if len(data) > MAX_LINK_FRAME:
        raise BadRequest(f"a frame of {len(data)} bytes; the limit is {MAX_LINK_FRAME}")
    return data


def decode_satellite_frame(data: bytes | memoryview) -> Any:
    """Decode a frame that a satellite sent.

    Raises:
        BadRequest: it is none of a satellite's, or one that holds neither messages nor values and is longer than
            :data:`MAX_FIRST_FRAME`; to take that apart would hold up others.
    """
    if len(data) > MAX_FIRST_FRAME and not bytes(data[1:9]).startswith(_LONG_ONES):
        raise BadRequest(f"a frame of {len(data)} bytes without messages; the limit is {MAX_FIRST_FRAME}")
    return _decode(_satellite_decoder, data)


def decode_relay_frame(data: bytes | memoryview) -> Any:
    """Decode a frame that a relay sent.

    Raises:
        BadRequest: it is none of a relay's.
    """
    return _decode(_relay_decoder, data)


def _decode(decoder: "msgspec.msgpack.Decoder[Any]", data: bytes | memoryview) -> Any:
    if len(data) > MAX_LINK_FRAME:
        raise BadRequest(f"a frame of {len(data)} bytes; the limit is {MAX_LINK_FRAME}")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(f"not a frame of the link: {str(error)[:200]}") from None
