"""Every frame on the link between a satellite and its relay, as a msgspec Struct.

A frame is one binary WebSocket message: MessagePack, an array whose first item is the frame's name. The satellite
opens the link and says Hello, the relay answers Welcome; then both send in any order::

    satellite → relay    Hello, Publish, Hold, Interest, Replay, Applied, Call, Result, Goodbye
    relay → satellite    Welcome, Ack, Hold, Receipt, Deliver, Snapshot, Replay, Gap, Roster, Call, Result, Goodbye

A position counts messages: a frame of n messages at position p holds p … p+n-1. Positions begin at
:data:`FIRST_POSITION`, may jump, and are only valid together with the log id.
"""

from typing import Annotated, Any

import msgspec

from co2.errors import BadRequest
from co2.host_name import MAX_HOST_NAME
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
    "Snapshot",
    "SnapshotValue",
    "Subscription",
    "Welcome",
    "Wish",
    "decode_relay_frame",
    "decode_satellite_frame",
    "encode_link_frame",
]

SUBPROTOCOL = "co2.link.1"
"""The WebSocket subprotocol; another number is another protocol."""

MAX_LINK_FRAME = 4 * 1024 * 1024
"""Bytes of one frame on the link. A Publish and a part of the Roster stay far below."""

MAX_FIRST_FRAME = 256 * 1024
"""Bytes of one frame before the satellite is welcomed: a Hello, with its names and patterns.

No Hello of ours is longer: its parts are bounded by
:data:`co2.protocol.wire.subscription_limits.MAX_SUBSCRIPTIONS_SIZE`,
:data:`co2.protocol.wire.host_names.MAX_NAMES_SIZE` and the limits below.
"""

BEGINNING = 1
"""Position of a reader that has read nothing. Not 0, which means "from the oldest message"."""

FIRST_POSITION = 2
"""Position of a log's first message."""


MAX_NUMBER = 2**62
"""Highest seq and position: the numbers that follow still fit the log's 64 bits."""

MAX_EPOCH = 2**63 - 1
"""Highest epoch."""

MAX_EPOCHS = 64
"""Runs with unacknowledged messages that a Hello lists."""

MAX_SUBSCRIPTIONS = MAX_PACKAGES
"""Packages of one satellite that receive."""

MAX_LOG_ID = 128
"""Characters of a log's or a run's name."""

MAX_RECEIPTS = 3
"""Logs before the present one of which a Hello shows a receipt."""

MAX_TOKEN = 128
"""Characters of a token."""

MAX_TIMEOUT = 3600.0
"""Seconds of the longest timeout that a caller may set."""

MAX_ASKER = 128
"""Characters that name who makes a request of a relay."""

MAX_TIME = 253_402_300_799.0
"""Seconds since 1970 of the last time that has a date: the end of the year 9999."""

Epoch = Annotated[int, msgspec.Meta(ge=0, le=MAX_EPOCH)]
Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
First = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
Crc = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Names = Annotated[list[Name], msgspec.Meta(max_length=MAX_NAMES)]
Channel = Annotated[str, msgspec.Meta(max_length=MAX_CHANNEL)]
Channels = Annotated[list[Channel], msgspec.Meta(max_length=MAX_CHANNELS)]
HostName = Annotated[str, msgspec.Meta(max_length=MAX_HOST_NAME)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=MAX_TIMEOUT)]
Asker = Annotated[str, msgspec.Meta(max_length=MAX_ASKER)]
Time = Annotated[float, msgspec.Meta(ge=0.0, le=MAX_TIME)]


class _Frame(msgspec.Struct, tag=True, array_like=True):
    """Base of all frames."""


class Wish(msgspec.Struct, array_like=True, frozen=True):
    """The wish of a package for last values, which a :class:`Snapshot` fulfils.

    Attributes:
        number: a new one for each wish of a package; the relay fulfils each once on a link.
        channels: patterns of the channels.
    """

    number: First
    channels: list[str]


class Subscription(msgspec.Struct, array_like=True, frozen=True):
    """A package that reads: from which position, and which channels.

    Attributes:
        package: plugin package of the satellite.
        position: last message that it has received; None to begin at the end of the log.
        channels: patterns of the wanted channels (:mod:`co2.protocol.wire.channel_patterns`), None for everything,
            or for more than the limits allow (:mod:`co2.protocol.wire.subscription_limits`): then the satellite
            filters.
        durable: receives only messages that are on the relay's disk, and its own satellite's messages too.
        wish: last values that it waits for, None for none. Meanwhile the satellite makes it receive nothing.
    """

    package: Name
    position: Number | None = None
    channels: list[str] | None = None
    durable: bool = False
    wish: Wish | None = None


Subscriptions = Annotated[list[Subscription], msgspec.Meta(max_length=MAX_SUBSCRIPTIONS)]


class Receipt(_Frame):
    """Proof of what a relay has stored: everything up to a position was on its disk.

    See :mod:`co2.protocol.relay.receipts`.

    It is sent with the Welcome and every few seconds, and returned with the next Hello, together with the last
    ones of the logs before. A satellite that shows no token is too old to know it, and gets none.

    Attributes:
        log_id: of the log.
        run: of the relay.
        position: last message that was on disk.
        mac: by which the relay recognises its own receipt.
    """

    log_id: Annotated[str, msgspec.Meta(max_length=MAX_LOG_ID)]
    run: Annotated[str, msgspec.Meta(max_length=MAX_LOG_ID)]
    position: Number
    mac: Annotated[bytes, msgspec.Meta(max_length=64)]


Receipts = Annotated[list[Receipt], msgspec.Meta(max_length=MAX_RECEIPTS)]


class Hello(_Frame):
    """First frame of a satellite.

    Attributes:
        host_id: proposed; the relay replaces the host part by the address that it observes.
        log_id: of the log that the positions below belong to, '' for none.
        run: of the relay that handed out the newest of these positions.
        subscriptions: one for each package that receives.
        outbox: (epoch, its first unacknowledged seq) for each epoch with unacknowledged messages, oldest first;
            the last one is the current run, even if all of it is acknowledged.
        methods: names of the callable methods.
        plugins: names of the plugins.
        token: of the state folder, which proves that the origin belongs to it (:mod:`co2.protocol.relay.origins`);
            '' for a satellite older than tokens.
        receipt: last one from the relay, None for none.
        holds: the satellite supports :class:`Hold`; one without is disconnected while the relay's disk is full.
        former_receipts: the last one of each other log that the relay had before, newest first: an older copy of
            one of these logs may be in use again.
        name: that the satellite wishes for (:mod:`co2.host_name`); '' for one older than names.
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
    former_receipts: Receipts = []
    name: HostName = ""


class Interest(_Frame):
    """The current subscriptions and names of the satellite, all of them: a package that is missing is gone."""

    subscriptions: Subscriptions
    methods: Names
    plugins: Names


class Publish(_Frame):
    """Messages of one plugin: packed, numbered and checksummed once, resent byte for byte.

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
    """State of the satellite, for people who look at the relay.

    Attributes:
        positions: of each package.
        health: of each package; None if unchanged.
        listens: IP address that the satellite listens on; '' for a satellite that does not report it.
    """

    positions: Annotated[dict[Name, Number], msgspec.Meta(max_length=MAX_SUBSCRIPTIONS)]
    health: Annotated[list[Health], msgspec.Meta(max_length=MAX_HEALTH)] | None = None
    listens: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Welcome(_Frame):
    """First frame of a relay.

    Attributes:
        host_id: with the host part that the relay observed; valid from now on.
        relay: the relay's own host_id.
        log_id: of its log.
        run: of the relay: a new one at each start.
        position: end of the log, where a subscription without position begins.
        acks: for each epoch of the Hello, the last seq that is on disk.
        receipt: for the messages on disk now, None for none.
        anew: the positions of the Hello are invalid in this log, though its id is the same: the packages begin
            anew.
        name: that the relay has given the satellite; '' from a relay older than names.
        snapshots: the relay supports :class:`Snapshot`; packages of an older one's satellites do not wait for it.
        causes: messages that plugins send while they receive one say which one; not for an older relay.
    """

    host_id: str
    relay: str
    log_id: Annotated[str, msgspec.Meta(max_length=MAX_LOG_ID)]
    run: Annotated[str, msgspec.Meta(max_length=MAX_LOG_ID)]
    position: Number
    acks: list[tuple[Epoch, Number]]
    receipt: Receipt | None = None
    anew: bool = False
    name: HostName = ""
    snapshots: bool = False
    causes: bool = False


class Ack(_Frame):
    """Everything of that epoch up to ``seq`` is on the relay's disk."""

    epoch: Epoch
    seq: Number


class Hold(_Frame):
    """The relay stores no messages for now: its disk is full. All other frames continue.

    To the satellite, with a text: keep unacknowledged messages and send none of them; those on their way are
    ignored. To the satellite, without a text: there is room, resend all unacknowledged messages. The satellite
    answers that with the same frame: the messages behind it count.

    Attributes:
        text: for people; '' when there is room.
    """

    text: str = ""


class Deliver(_Frame):
    """A frame from the log.

    Attributes:
        position: of its first message.
        package: '' for the live stream of all live packages; else the package that asked for a replay.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection, as the relay saw it.
        epoch: as in :class:`Publish`; 0 for a sender without numbers.
        seq: as in :class:`Publish`.
        sender: package that sent them.
        plugin: as in :class:`Publish`.
        channels: as in :class:`Publish`.
        crc: as in :class:`Publish`.
        batch: as in :class:`Publish`.
        at: time at which the relay got it, seconds since 1970; 0.0 from a relay that does not tell.
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
    at: Time = 0.0


class SnapshotValue(msgspec.Struct, array_like=True, frozen=True):
    """The last message on a channel.

    Attributes:
        channel: its channel.
        position: its position.
        age: seconds since it reached the relay, by the relay's clock; None if that is unknown.
        at: time at which it did, seconds since 1970; 0.0 likewise.
        host_id: the sender's.
        client_address: (ip, port) of the sender's connection, as the relay saw it.
        epoch: run of the sender; 0 for a sender without numbers.
        seq: its number within that run, 0 likewise.
        last: number of the last message of its frame, 0 likewise.
        sender: package that sent it.
        plugin: that sent it.
        message: encoded.
    """

    channel: Channel
    position: Number
    age: float | None
    at: Time
    host_id: Name
    client_address: tuple[Name, int]
    epoch: Epoch
    seq: Number
    last: Number
    sender: Name
    plugin: Name
    message: bytes


class Snapshot(_Frame):
    """The last values that a package has wished for, or a part of them.

    Attributes:
        package: that gets them.
        number: of its wish.
        position: the values are the last ones up to here; the package reads on behind it.
        values: in the order of their positions, over all parts.
        ends: this is the last part.
        own: number of the last message of the satellite's present run up to ``position``.
        left_out: number of values that did not fit; in the last part.
    """

    package: Name
    number: First
    position: Number
    values: list[SnapshotValue]
    ends: bool
    own: Number
    left_out: Number


class Replay(_Frame):
    """A package reads on its own, at its own pace, with its own cursor.

    To the relay: send it the messages after ``position``, as many bytes as ``room``; 0 means none for now, and the
    relay answers with the same frame: earlier messages are ignored. From the relay: all sent, up to ``position``.
    With ``room`` left the package has caught up: later messages are in the live stream (a durable package gets
    them once they are on disk). Without room left there is more to ask for.
    """

    package: Name
    position: Number
    room: Number


class Gap(_Frame):
    """The messages after ``after`` up to ``next`` will not come.

    Attributes:
        package: that the gap concerns, '' for every live package.
        after: position of the last message before the gap.
        next: position of the last missing message.
        reason: why.
    """

    package: Name
    after: Number
    next: Number
    reason: str


class Roster(_Frame):
    """The connected satellites: changes since the last frame on this link.

    Attributes:
        rows: host_id, methods and plugins of satellites that are new or have changed.
        gone: origins of those that have left.
        begins: the first part of a full list; earlier frames no longer count.
        ends: with this part the list is complete.
        names: of the hosts in ``rows``, in the same order; fewer, or none, from a relay older than names.
    """

    rows: list[tuple[str, list[str], list[str]]]
    gone: list[str] = []
    begins: bool = True
    ends: bool = True
    names: list[HostName] = []


class Call(_Frame):
    """Call a method of the other side.

    Attributes:
        call_id: chosen by the caller, not in use by another call.
        method: its name.
        argument: one encoded dictionary.
        timeout: seconds that the caller waits.
        asker: who at the relay's machine makes a request of the relay itself
            (:mod:`co2.protocol.wire.relay_requests`); '' for every call that the relay passes on for others. A
            relay ignores it in the calls of satellites.
    """

    call_id: Number
    method: Name
    argument: bytes
    timeout: Seconds
    asker: Asker = ""


class Result(_Frame):
    """The result of a Call.

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
        retry_after: seconds that the other side should wait before it reconnects, 0 for no wait.
    """

    reason: str
    text: str
    retry_after: Seconds = 0.0


SatelliteFrame = Hello | Publish | Hold | Interest | Replay | Applied | Call | Result | Goodbye
RelayFrame = Welcome | Ack | Hold | Receipt | Deliver | Snapshot | Replay | Gap | Roster | Call | Result | Goodbye

_encoder = msgspec.msgpack.Encoder()
_satellite_decoder = msgspec.msgpack.Decoder(SatelliteFrame)
_relay_decoder = msgspec.msgpack.Decoder(RelayFrame)

_LONG_ONES = tuple(bytes((0xA0 | len(name),)) + name.encode() for name in ("Publish", "Call", "Result"))
"""Beginnings of frames with messages or values, after their first byte: all others are as short as a Hello."""


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
    """Decode a frame from a satellite.

    Raises:
        BadRequest: not a satellite's frame, or a frame without messages and values that is longer than
            :data:`MAX_FIRST_FRAME`: parsing it would delay others.
    """
    if len(data) > MAX_FIRST_FRAME and not bytes(data[1:9]).startswith(_LONG_ONES):
        raise BadRequest(f"a frame of {len(data)} bytes without messages; the limit is {MAX_FIRST_FRAME}")
    return _decode(_satellite_decoder, data)


def decode_relay_frame(data: bytes | memoryview) -> Any:
    """Decode a frame from a relay.

    Raises:
        BadRequest: not a relay's frame.
    """
    return _decode(_relay_decoder, data)


def _decode(decoder: "msgspec.msgpack.Decoder[Any]", data: bytes | memoryview) -> Any:
    if len(data) > MAX_LINK_FRAME:
        raise BadRequest(f"a frame of {len(data)} bytes; the limit is {MAX_LINK_FRAME}")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(f"not a frame of the link: {str(error)[:200]}") from None
