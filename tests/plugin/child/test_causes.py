"""What a plugin sends while it receives a message says which message that is, and nothing else does."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from co2.plugin.child import speedups
from co2.plugin.child.causes import attributed
from co2.plugin.child.event_loop import EventLoopThread
from co2.plugin.child.progress import ProgressWords
from co2.plugin.child.receiver import Receiver
from co2.plugin.child.send_queue import MAX_CAUSE, SMALL, QueuedEntry, SendQueue, make_send
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.plugin_frames.frames import Deliver
from co2.values import MAX_MESSAGE_SIZE, MAX_RUN, Message, pack, unpack

RUN = MAX_RUN


class Plugin(speedups.Sleeper):
    """A plugin that does what a test wants in its receive, on the ground of the product; and what it has sent."""

    name = "ham.spam.X_Ham"

    def __init__(self, receive: Callable[["Plugin", Message], Any], live: tuple[str, ...] = ()) -> None:
        self.asleep = False
        self.jobs: deque[Callable[[], None]] = deque()
        self.queue = SendQueue(self.name, live)
        self.send: Callable[[Any], None] = make_send(self.queue, self, 1.0)  # type: ignore[arg-type]
        self.receiver = Receiver(self, (), ProgressWords().words, 0, level=self.queue)
        self.plugin: Any = SimpleNamespace(receive=lambda message: receive(self, message))
        self.loop: EventLoopThread | None = None
        self.errors: list[BaseException] = []

    def take(self, *data: Any, position: int = 100, run: int = 0) -> list[Any]:
        """Receive messages of one frame; return the causes of what was sent meanwhile, None for none."""
        batch = make_batch([pack({"data": value}) for value in data])
        first = self.receiver.done + 1
        self.receiver.take(self.plugin, Deliver(first, position, run, "a@b:1", ("b", 1), batch))
        return self.causes()

    def causes(self) -> list[Any]:
        return [message.get("cause") for message in self.sent()]

    def sent(self) -> list[Message]:
        entries, self.queue.entries[:] = [*self.queue.entries], []
        return [unpack(entry[0] if isinstance(entry, tuple) else entry) for entry in entries]  # type: ignore[arg-type]

    # the writer

    def attend(self) -> None:
        pass

    def add(self, queue: SendQueue, entry: QueuedEntry, _timeout: float) -> None:
        queue.entries.append(entry)

    # the ground

    def run_jobs(self) -> bool:
        while self.jobs:
            self.jobs.popleft()()
        return True

    def report(self) -> None:
        pass

    def finished(self, result: Any) -> Any:
        if not hasattr(result, "__await__"):
            return result
        self.loop = self.loop or EventLoopThread()
        return self.loop.run(result)

    def give_up(self, _frame: Deliver, _message: bytes, error: BaseException) -> None:
        self.errors.append(error)

    def complain(self, _what: str, error: BaseException) -> None:
        assert error in self.errors

    def stumble(self, error: BaseException) -> None:
        raise error


@pytest.mark.parametrize(
    "message",
    [
        {"data": 1},
        {"data": 1, "channel": "a.b"},
        {"data": 1, "channel": "x" * 250},
        {"data": 1, "channel": "meter.left"},
        {"data": 1, "channel": "a", "ttl": 3},
        {"data": "x" * SMALL},
        {"data": "x" * (SMALL - 10)},
        {"data": "x" * (SMALL + 5), "channel": "a"},
        {"data": 1, "cause": 5},
        {"data": 1, "host_id": "whoever@1.2.3.4:5", "client_address": ["1.2.3.4", 5], "cause": 7},
        {"data": 1, **{str(number): number for number in range(30)}},
    ],
)
def test_each_form_of_a_message_says_in_which_it_was_sent(message: Message) -> None:
    plugin = Plugin(lambda plugin, _message: plugin.send(message), live=("meter.*",))
    assert plugin.take(1, 2, 3, position=48_209) == [48_209, 48_210, 48_211]
    plugin.send({"data": 1})
    assert plugin.causes() == [None]


def test_the_rest_of_a_message_stays_as_it_is() -> None:
    message = {"data": [1, b"x", None], "channel": "a.b", "ttl": 0.5}
    plugin = Plugin(lambda plugin, _message: plugin.send(message))
    plugin.receiver.take(plugin.plugin, Deliver(1, 7, 0, "a@b:1", ("b", 1), make_batch([pack({"data": 1})])))
    assert plugin.sent() == [{**message, "cause": 7}]
    assert "cause" not in message


@pytest.mark.parametrize("position", [1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x1_0000, 2**32 - 1, 2**32, 2**63 - 1])
def test_any_position_and_any_number_of_a_run(position: int) -> None:
    plugin = Plugin(lambda plugin, _message: plugin.send({"data": 1}))
    assert plugin.take(1, position=position) == [position]
    assert plugin.take(1, position=position, run=RUN) == [[RUN, position]]
    assert plugin.take(1, position=position) == [position]


def test_a_message_without_a_position_is_no_cause() -> None:
    plugin = Plugin(lambda plugin, _message: plugin.send({"data": 1}))
    assert plugin.take(1, position=5) == [5]
    assert plugin.take(1, 2, position=0) == [None, None]


def test_what_is_sent_between_messages_or_by_other_threads_has_no_cause() -> None:
    def in_a_thread(plugin: Plugin, _message: Message) -> None:
        thread = threading.Thread(target=plugin.send, args=({"data": "thread"},))
        thread.start()
        thread.join()
        thread = threading.Thread(target=plugin.send, args=({"data": "thread", "more": 1},))
        thread.start()
        thread.join()
        plugin.jobs.append(lambda: plugin.send({"data": "a timer, between two messages"}))

    plugin = Plugin(in_a_thread)
    assert plugin.take(1, 2) == [None] * 5
    plugin.run_jobs()
    assert plugin.causes() == [None]


def test_after_an_error_there_is_no_cause_any_more() -> None:
    def fails(plugin: Plugin, message: Message) -> None:
        plugin.jobs.append(lambda: plugin.send({"data": "between"}))
        plugin.send({"data": 1})
        if message["data"] == 1:
            raise LookupError

    plugin = Plugin(fails)
    assert plugin.take(1, 2, position=9) == [9, None, 10]
    assert plugin.receiver.failed == 1


OWN = ("fire", -1, True, 1.5, None, [], [1], [1, -2], [1, 2, 3], [0, 1], [1, 0], [MAX_RUN + 1, 1], 2**63)


def test_a_key_cause_that_means_something_else_stays_as_it_is() -> None:
    """A plugin may have had such a key before there were causes."""
    plugin = Plugin(lambda plugin, message: plugin.send({"data": 1, "cause": OWN[message["data"]]}))
    assert plugin.take(*range(len(OWN)), position=9) == [*OWN]


def test_who_is_in_no_message_may_set_a_cause() -> None:
    plugin = Plugin(lambda _plugin, _message: None)
    for cause in (0, 5, [RUN, 3], 2**63 - 1, "fire"):
        plugin.send({"data": 1, "cause": cause})
    assert plugin.causes() == [0, 5, [RUN, 3], 2**63 - 1, "fire"]


def test_a_message_that_is_nearly_too_big_goes_without_cause() -> None:
    plugin = Plugin(lambda plugin, message: plugin.send({"data": b"x" * message["data"]}))
    over = len(pack({"data": b"x" * 70_000})) - 70_000
    room = MAX_MESSAGE_SIZE - over
    assert plugin.take(room, room - MAX_CAUSE, position=5) == [None, 6]


# ---- async ---------------------------------------------------------------------------------------------------


def test_a_coroutine_is_in_its_message_on_both_sides_of_a_wait_and_other_tasks_are_not() -> None:
    tasks: list[asyncio.Task[None]] = []

    async def aside(plugin: Plugin) -> None:
        for _ in range(4):
            plugin.send({"data": "aside"})
            await asyncio.sleep(0)

    async def receive(plugin: Plugin, _message: Message) -> None:
        plugin.send({"data": "in it"})
        tasks.append(asyncio.create_task(aside(plugin)))
        for _ in range(3):
            await asyncio.sleep(0)
            plugin.send({"data": "in it"})
        with pytest.raises(LookupError):
            await failing()
        plugin.send({"data": "in it"})

    async def failing() -> None:
        await asyncio.sleep(0)
        raise LookupError

    plugin = Plugin(receive)
    batch = make_batch([pack({"data": 1}), pack({"data": 2})])
    plugin.receiver.take(plugin.plugin, Deliver(1, 30, 0, "a@b:1", ("b", 1), batch))
    found = [(message["data"], message.get("cause")) for message in plugin.sent()]
    assert [row for row in found if row[0] == "in it"] == [("in it", 30)] * 5 + [("in it", 31)] * 5
    assert {row for row in found if row[0] == "aside"} == {("aside", None)}
    plugin.send({"data": 1})
    assert plugin.causes() == [None]
    assert plugin.loop is not None
    plugin.loop.close()


def test_an_error_or_a_cancellation_reaches_the_coroutine() -> None:
    level = speedups.Level()

    async def waits(seen: list[Any]) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(level.cause)
            await asyncio.sleep(0)
            return "cancelled in good order"
        return ""

    async def main() -> None:
        seen: list[Any] = []
        level.cause = 7
        held: Any = attributed(waits(seen), level)
        assert level.cause == 0
        task = asyncio.ensure_future(_await(held))
        await asyncio.sleep(0)
        task.cancel()
        assert await task == "cancelled in good order"
        assert (seen, level.cause) == ([7], 0)

    asyncio.run(main())


async def _await(what: Any) -> Any:
    return await what


def test_what_is_no_coroutine_stays_as_it_is() -> None:
    level = speedups.Level()
    level.cause = 7
    result = object()
    assert attributed(result, level) is result
    assert level.cause == 0

    async def receive() -> None: ...

    coroutine: Coroutine[Any, Any, None] = receive()
    assert attributed(coroutine, level) is coroutine, "it is in no message"
    coroutine.close()
