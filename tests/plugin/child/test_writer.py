"""The way out of a plugin host: order, bounds, what a frame says, who writes."""

import contextlib
import enum
import errno
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from co2.errors import MessageError, NotRunning, OutboxFull, TooBig, ValueRefused
from co2.plugin.child import send_queue, writer
from co2.plugin.child.send_queue import SMALL, SendQueue, make_send
from co2.plugin.child.writer import MAX_LETTERS, Writer
from co2.protocol.wire.batch import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, batch_count
from co2.protocol.wire.plugin_frames.frames import DeadLetter, Flush, FrameReader, Goodbye, Publish, Record
from co2.values import MAX_MESSAGE_SIZE, pack, unpack_batch
from tests.plugin.support import PATIENCE

NAME = "ham.spam.X_Ham"
Send = Callable[[Any], None]


class Way:
    """An Writer, and the frames that come out at its other end."""

    def __init__(self, kind: type[socket.socket] = socket.socket) -> None:
        self.ours, plain = socket.socketpair()
        theirs = kind(fileno=plain.detach())
        self.ours.settimeout(PATIENCE)
        self.theirs = theirs
        self.out = Writer(theirs, lambda: None, lambda: None)
        self.reader = FrameReader("child")
        self.frames: list[Any] = []

    def queue(
        self, name: str = NAME, live: tuple[str, ...] = (), timeout: float = PATIENCE
    ) -> tuple[SendQueue, Send]:
        queue = SendQueue(name, live)
        self.out.join(queue)
        return queue, make_send(queue, self.out, timeout)

    def read(self) -> bool:
        """Take what comes next; false at the end."""
        data = self.ours.recv(1 << 20)
        self.frames += self.reader.feed(data)
        return bool(data)

    def data(self, plugin: str = NAME) -> list[Any]:
        published = [frame for frame in self.frames if isinstance(frame, Publish) and frame.plugin == plugin]
        for frame in published:
            assert batch_count(frame.batch) <= MAX_BATCH_MESSAGES
            assert len(frame.batch) <= MAX_BATCH_BYTES + 5
        return [message["data"] for frame in published for message in unpack_batch(frame.batch)]

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self.read()


class AsOnMac(socket.socket):
    """Blocks in ``send`` unless it was told never to block: macOS looks at this flag where it receives only."""

    def send(self, data: Any, flags: int = 0, /) -> int:
        return super().send(data, flags & ~socket.MSG_DONTWAIT)


@pytest.fixture(params=[socket.socket])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    way = Way(request.param)
    with contextlib.closing(way.ours), contextlib.closing(way.theirs):
        yield way
        with contextlib.suppress(OSError):  # nothing there; or the test has closed it
            way.ours.setblocking(False)
            while way.ours.recv(1 << 20):
                pass
        way.out.close(PATIENCE)


def test_the_order_of_twenty_threads_is_kept_and_nothing_is_lost_or_doubled(way: Way) -> None:
    way.out.start()
    sends = [way.queue(f"ham.spam.X_{number}")[1] for number in range(2)]
    threads, each = 20, 3000

    def run(thread: int) -> None:
        for number in range(each):
            message = {"data": [thread, number]}
            if number % 7 == 0:
                message["channel"] = "c"  # type: ignore[assignment]
            if number % 501 == 0:
                message["data"].append("x" * (SMALL + number))  # type: ignore[arg-type]
            sends[thread % 2](message)

    running = [threading.Thread(target=run, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    names = [f"ham.spam.X_{number}" for number in range(2)]
    way.until(lambda: sum(len(way.data(name)) for name in names) == threads * each)
    for thread in running:
        thread.join()
    for parity, name in enumerate(names):
        came: dict[int, list[int]] = {}
        for data in way.data(name):
            came.setdefault(data[0], []).append(data[1])
        assert came == {thread: [*range(each)] for thread in range(threads) if thread % 2 == parity}


def test_a_dictionary_that_changes_after_send_does_not_matter(way: Way) -> None:
    _, send = way.queue()
    forms: list[dict[str, Any]] = [{"data": [1]}, {"data": [1], "channel": "x"}, {"data": [1], "a": 1, "b": 2}]
    for form in forms:
        send(form)
        form["data"].append(2)
        form.clear()
    way.out.start()
    way.until(lambda: len(way.data()) == 3)
    assert way.data() == [[1]] * 3


def test_what_is_sent_into_silence_is_written_by_the_sender_itself(way: Way) -> None:
    _, send = way.queue()
    way.out.start()
    deadline = time.monotonic() + PATIENCE
    for number in range(50):
        while not way.out.asleep or time.monotonic() - way.out._last_write < writer._DIRECT_AFTER:
            assert time.monotonic() < deadline
        send({"data": number})
        assert way.out.asleep, "the writer was not woken"
        assert way.ours.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT), "and yet it is written"
        way.until(lambda: len(way.frames) == number + 1)  # noqa: B023 - called at once
    assert way.data() == [*range(50)]


def test_frames_are_as_big_as_a_batch_may_be(way: Way) -> None:
    queue, send = way.queue()
    for number in range(3 * MAX_BATCH_MESSAGES):
        send({"data": number})
    way.out.start()
    way.until(lambda: len(way.data()) == 3 * MAX_BATCH_MESSAGES)
    assert [batch_count(frame.batch) for frame in way.frames] == [MAX_BATCH_MESSAGES] * 3
    assert [frame.channels for frame in way.frames] == [[""]] * 3
    assert queue.entries == []


def test_a_full_frame_is_written_by_the_sender_itself(way: Way) -> None:
    queue, send = way.queue()
    way.out.start()
    deadline = time.monotonic() + PATIENCE
    while not way.out.asleep:  # else the writer comes by while the queue fills
        assert time.monotonic() < deadline
        time.sleep(0.001)
    writers: set[int] = set()
    write = way.out._sent

    def noted(data: bytes) -> bytes:
        writers.add(threading.get_ident())
        return write(data)

    way.out._sent = noted  # type: ignore[method-assign]
    for number in range(send_queue.FULL):
        queue.entries.append(pack({"data": number}))  # as quick sends do while the writer naps
    send({"data": send_queue.FULL})
    assert writers == {threading.get_ident()}
    way.until(lambda: len(way.data()) == send_queue.FULL + 1)
    assert way.data() == [*range(send_queue.FULL + 1)]


def test_what_the_socket_does_not_take_of_a_full_frame_is_the_writers_and_comes_first(way: Way) -> None:
    queue, send = way.queue()
    way.out.start()
    size = 3 * send_queue.MAX_QUEUED_MESSAGES // 2
    began = time.monotonic()
    # Nobody reads: the sender fills the socket, waits a moment for it, and goes on into the queue.
    sending = threading.Thread(target=lambda: [send({"data": [number, "x" * 100]}) for number in range(size)])
    sending.start()
    deadline = time.monotonic() + PATIENCE
    while not way.out._rest and not way.out._writing and sending.is_alive():
        assert time.monotonic() < deadline
    assert queue.limit == send_queue.MAX_QUEUED_MESSAGES
    way.until(lambda: len(way.data()) == size)
    sending.join()
    assert [number for number, _ in way.data()] == [*range(size)]
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("way", [socket.socket, AsOnMac], indirect=True)
@pytest.mark.parametrize("size", [100, 20_000])
def test_a_satellite_that_does_not_read_holds_up_no_sender_beyond_its_time_and_no_line_for_the_log(
    way: Way, size: int
) -> None:
    _, send = way.queue(timeout=0.2)
    way.out.start()
    full: list[OutboxFull] = []

    def fill() -> None:
        try:
            while True:
                send({"data": "x" * size})
        except OutboxFull as error:
            full.append(error)

    # Who hangs holds the lock, and would not let the test end either.
    sending = threading.Thread(target=fill, daemon=True)
    sending.start()
    sending.join(PATIENCE)
    recording = threading.Thread(target=way.out.record, args=("ham", 20, "a line"), daemon=True)
    recording.start()
    recording.join(PATIENCE)
    stuck = [thread for thread in (sending, recording) if thread.is_alive()]
    if stuck:
        way.ours.close()  # so that both get on
    assert not stuck
    assert full
    way.until(lambda: any(isinstance(frame, Record) and frame.text == "a line" for frame in way.frames))
    messages_before = len(way.data())
    way.until(lambda: len(way.data()) > messages_before)  # and the writer goes on
    way.ours.close()


def test_small_messages_of_the_greatest_size_fit_one_batch_by_number(way: Way) -> None:
    _, send = way.queue()
    filler = SMALL - len(b"\x81\xa4data\xda\x00\x00")
    for _ in range(MAX_BATCH_MESSAGES):
        send({"data": "x" * filler})
    way.out.start()
    way.until(lambda: len(way.data()) == MAX_BATCH_MESSAGES)
    assert [len(frame.batch) for frame in way.frames] == [MAX_BATCH_BYTES + 5]


def test_big_messages_make_frames_of_their_own_in_their_place(way: Way) -> None:
    _, send = way.queue()
    sizes = [10, 600_000, 700_000, 5, 1000, 300_000, 600_000, 7]
    for size in sizes:
        send({"data": b"x" * size})
    way.out.start()
    way.until(lambda: len(way.data()) == len(sizes))
    assert [len(data) for data in way.data()] == sizes
    assert [batch_count(frame.batch) for frame in way.frames] == [2, 4, 2]
    assert way.out._measured == 0


class Tone(enum.Enum):
    LOW = "tone.low"


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ([None, "b", "a", "b"], ["", "a", "b"]),
        (["a"], ["a"]),
        ([7, b"bytes", ["list"], 0.5], [""]),
        ([""], [""]),
        ([Tone.LOW], ["tone.low"]),
        ([uuid.UUID(int=0)], [str(uuid.UUID(int=0))]),
        ([str(number) for number in range(32)], sorted(str(number) for number in range(32))),
        ([str(number) for number in range(33)], None),
        (["x" * 256], ["x" * 256]),
        (["ä" * 128], ["ä" * 128]),
    ],
)
@pytest.mark.parametrize("more", [{}, {"another": 1}])
def test_a_frame_says_which_channels_it_has(
    way: Way, channels: list[Any], said: list[str] | None, more: dict[str, Any]
) -> None:
    _, send = way.queue()
    for channel in channels:
        send({"data": 1, **({} if channel is None else {"channel": channel}), **more})
    way.out.start()
    way.until(lambda: len(way.data()) == len(channels))
    assert [(frame.channels, frame.live) for frame in way.frames] == [(said, False)]


def test_live_messages_never_share_a_frame_with_others(way: Way) -> None:
    _, send = way.queue(live=("meter.*",))
    for channel in ("meter.left", "meter.right", "stage", "meter.left.x", "meter.left"):
        send({"data": channel, "channel": channel})
    send({"data": ""})
    way.out.start()
    way.until(lambda: len(way.data()) == 6)
    assert [(frame.live, frame.channels) for frame in way.frames] == [
        (True, ["meter.left", "meter.right"]),
        (False, ["meter.left.x", "stage"]),
        (True, ["meter.left"]),
        (False, [""]),
    ]


def test_a_flush_comes_after_what_was_sent_before_it_and_before_what_comes_later(way: Way) -> None:
    queue, send = way.queue()
    for number in range(3):
        send({"data": number})
        send({"data": number, "channel": "x"})
        way.out.add(queue, Flush(number, 1.0), 1.0)
    way.out.start()
    way.until(lambda: len(way.frames) == 6)
    kinds = [frame.flush_id if isinstance(frame, Flush) else batch_count(frame.batch) for frame in way.frames]
    assert kinds == [2, 0, 2, 1, 2, 2]


@pytest.mark.parametrize(("size", "limit"), [(1, send_queue.MAX_QUEUED_MESSAGES), (100_000, 42)])
def test_when_nothing_goes_out_a_sender_waits_and_is_told(way: Way, size: int, limit: int) -> None:
    queue, send = way.queue(timeout=0.05)
    for _ in range(limit):
        send({"data": b"x" * size})
    assert way.out.waited == 0
    for waited in (1, 2):
        with pytest.raises(
            OutboxFull, match=r"because the outbox had no room for 0\.05 s: .* before the package is loaded"
        ):
            send({"data": b"x" * size})
        assert way.out.waited == waited
    assert len(queue.entries) == limit
    way.out.start()
    way.until(lambda: len(way.data()) == limit)
    send({"data": "room again"})
    way.until(lambda: len(way.data()) == limit + 1)


def test_who_finds_no_room_is_told_why(way: Way) -> None:
    way.out.start()
    way.out.flow(False)
    _, send = way.queue(timeout=0.05)
    for _ in range(send_queue.MAX_QUEUED_MESSAGES):
        send({"data": 1})
    way.out.flow(False, "outbox_max is reached")
    with pytest.raises(OutboxFull) as caught:
        send({"data": 1})
    assert caught.value.reason == "outbox_max is reached"
    assert str(caught.value) == (
        "the message was not sent, because the outbox had no room for 0.05 s: outbox_max is reached. Drop it or "
        "send it later; "
        "outbox_max and send_timeout in co2.toml set the limits"
    )


def test_a_waiting_sender_goes_on_as_soon_as_there_is_room(way: Way) -> None:
    way.out.start()
    way.out.flow(False)
    _, send = way.queue()
    count = send_queue.MAX_QUEUED_MESSAGES + 5000

    def run() -> None:
        for number in range(count):
            send({"data": number})

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not way.out.waited:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    way.out.flow(True)
    way.until(lambda: len(way.data()) == count)
    thread.join()
    assert way.data() == [*range(count)]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ([1], MessageError),
        ({"date": 1}, MessageError),
        ({"channel": "x"}, MessageError),
        ({"channel": "x", "date": 1}, MessageError),
        ({"data": 1, 2: 3}, MessageError),
        ({"data": 1, b"channel": "x"}, MessageError),
        ({"data": object()}, ValueRefused),
        ({"data": object(), "channel": "x"}, ValueRefused),
        ({"data": "\ud800"}, ValueRefused),
        ({"data": 1, "channel": "\ud800"}, ValueRefused),
        ({"data": 2**64}, ValueRefused),
        ({"data": 1, "channel": "x" * 257}, ValueRefused),
        ({"data": 1, "channel": "x" * 257, "more": 1}, ValueRefused),
        ({"data": 1, "channel": "ä" * 129}, ValueRefused),
        ({"data": "x" * 2_000_000}, TooBig),
        ({"data": "x" * 2_000_000, "channel": "x"}, TooBig),
    ],
)
def test_what_cannot_travel_is_not_queued(way: Way, message: Any, error: type[Exception]) -> None:
    queue, send = way.queue()
    with pytest.raises(error):
        send(message)
    assert queue.entries == []


@pytest.mark.parametrize("more", [{}, {"channel": "x"}, {"channel": "x", "more": 1}])
def test_a_message_of_exactly_the_limit_passes_and_one_byte_more_is_refused(
    way: Way, more: dict[str, Any]
) -> None:
    queue, send = way.queue()
    room = MAX_MESSAGE_SIZE - len(pack({"data": b"x" * 70_000, **more})) + 70_000
    send({"data": b"x" * room, **more})
    with pytest.raises(TooBig, match=str(MAX_MESSAGE_SIZE)):
        send({"data": b"x" * (room + 1), **more})
    way.out.start()
    way.until(lambda: len(way.data()) == 1)
    assert way.data() == [b"x" * room]
    assert queue.entries == []


def test_what_hosts_set_is_left_out(way: Way) -> None:
    _, send = way.queue()
    send({"data": 1, "host_id": "evil"})
    send({"data": 2, "channel": "x", "client_address": 1})
    send({"data": 3, "channel": "x", "host_id": "evil", "more": 1})
    way.out.start()
    way.until(lambda: len(way.data()) == 3)
    messages = [message for frame in way.frames for message in unpack_batch(frame.batch)]
    assert messages == [{"data": 1}, {"data": 2, "channel": "x"}, {"data": 3, "channel": "x", "more": 1}]


def test_at_the_end_everything_is_written_and_later_sends_are_refused(way: Way) -> None:
    _, send = way.queue()
    for number in range(5000):
        send({"data": number})
    way.out.start()
    way.out.flow(False)
    send({"data": 5000})
    closing = threading.Thread(target=way.out.close, args=(PATIENCE,))
    way.out.frame(Goodbye())
    closing.start()
    way.until(lambda: len(way.data()) == 5001)
    closing.join()
    assert way.data() == [*range(5001)]
    for message in ({"data": 1}, {"data": 1, "channel": "x"}, {"data": b"x" * 1000}):
        with pytest.raises(NotRunning):
            send(message)
    late, send = way.queue("ham.spam.X_Late")
    with pytest.raises(NotRunning, match="X_Late"):
        send({"data": 1})
    assert late.entries == []


def test_a_satellite_that_is_gone_frees_those_who_wait(way: Way) -> None:
    _, send = way.queue()
    way.out.start()
    way.ours.close()

    def run() -> None:
        while True:
            send({"data": b"x" * 1000})

    with pytest.raises(NotRunning):
        run()


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.EPROTOTYPE, errno.ESHUTDOWN])
def test_what_macos_says_of_a_satellite_that_is_going_frees_them_too(number: int) -> None:
    class Going(socket.socket):
        def send(self, data: Any, flags: int = 0, /) -> int:
            raise OSError(number, "it goes")

    way = Way(Going)
    broken = threading.Event()
    way.out._broken = broken.set
    with way.ours, way.theirs:
        _, send = way.queue()
        way.out.start()

        def run() -> None:
            while True:
                send({"data": 1})

        with pytest.raises(NotRunning):
            run()
        way.out.close(PATIENCE)
    assert not broken.is_set()


def test_lines_for_the_log_go_before_messages_and_beyond_a_bound_they_are_counted(way: Way) -> None:
    _, send = way.queue()
    for number in range(writer.MAX_RECORDS + 500):
        send({"data": number})
    with way.out._lock:  # so that the writer takes nothing while these lines come
        way.out._records = writer.MAX_RECORDS
    way.out.record("", 20, "one too many")
    with way.out._lock:
        way.out._records = 0
    way.out.record("", 20, "the last one")
    way.until(lambda: len(way.frames) == 2)
    way.out.start()
    way.until(lambda: bool(way.data()))
    assert [getattr(frame, "text", "") for frame in way.frames[:3]] == [
        "the last one",
        "1 lines were not logged: too many in a short time",
        "",
    ]


def test_dead_letters_wait_in_bounds_of_number_and_bytes_and_are_counted_beyond(way: Way) -> None:
    def fill(message: bytes, count: int) -> int:
        before = way.out.unkept
        for _ in range(count):
            way.out.dead_letter(DeadLetter(NAME, "a@10.0.0.7:1", ("10.0.0.7", 1), "E: no", message))
        return count - (way.out.unkept - before)

    way.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    kept = fill(b"x" * 1000, 3 * MAX_LETTERS)  # nobody reads: the writer is stuck with some of them
    assert MAX_LETTERS <= kept <= MAX_LETTERS + 100
    way.until(lambda: len(way.frames) == kept)
    big = fill(bytes(1 << 20), 20)
    assert 4 <= big < 12
    way.until(lambda: len(way.frames) == kept + big)
    assert all(isinstance(frame, DeadLetter) for frame in way.frames)
    assert fill(b"", 1) == 1
