"""One end of a library peer, in a process of its own: ``worker <peer> send|receive|ask|answer …``.

Takes commands as JSON lines on stdin, answers on stdout. The loops are the same for all libraries; what a library
brings is a way to send bytes and a loop that receives them.
"""

import asyncio
import contextlib
import gc
import importlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from bench.peers.base import Asking, Fleet, PairedPeer, Peer, Role, Sent
from bench.peers.brokers import Broker
from bench.peers.tally import LAST, PROBE, Tally
from bench.peers.trips import BACK, THERE, Pinger, answer
from bench.processes import line, python

__all__ = [
    "AsyncSender",
    "End",
    "LibraryPeer",
    "PairedLibraryPeer",
    "Reply",
    "SyncSender",
    "Take",
    "decode",
    "encode",
    "take_all",
]

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode

Take = Callable[[Any], None]

Reply = Callable[[Any], Any]
"""Takes a message; gives the one that is to be sent at once, None for none."""

BLOCK = 500
"""Messages between two looks at the clock, and in one pipeline where a library has them."""


class SyncSender(ABC):
    """The sending side of a library.

    Attributes:
        send: takes an encoded message; as near to the library's own function as can be.
    """

    send: Callable[[bytes], object]

    def block_done(self) -> None:  # noqa: B027 - most have nothing to do then
        """Called after every block of messages, and after each that is paced."""

    @abstractmethod
    def flush(self) -> None:
        """Wait until all is handed over, and acknowledged where the peer acknowledges."""


class AsyncSender(ABC):
    """The same for libraries of coroutines."""

    @abstractmethod
    async def open(self, address: str) -> None: ...

    @abstractmethod
    async def send(self, packed: bytes) -> object: ...

    @abstractmethod
    async def flush(self) -> None: ...


class End(ABC):
    """An end that sends on one topic and receives on another."""

    @abstractmethod
    def send(self, packed: bytes) -> object:
        """Send from another thread than the one that receives; never both at a time."""

    @abstractmethod
    def receive(self, reply: Reply) -> None:
        """Receive for ever, and send what ``reply`` gives, from where the library calls."""


class LibraryPeer(Peer):
    """A peer whose senders and receivers are these workers.

    Attributes:
        module: where its PEER is.
    """

    module: str

    @abstractmethod
    def broker(self) -> contextlib.AbstractContextManager[Broker]:
        """Start the broker."""

    @abstractmethod
    def sender(self, address: str) -> SyncSender | AsyncSender:
        """Return the sending side; called in the sender's process."""

    @abstractmethod
    def receive(self, address: str, take: Take) -> None:
        """Receive for ever; called in the receiver's process."""

    @contextlib.contextmanager
    def fleet(self, senders: int, receivers: int, stamped: bool) -> Iterator[Fleet]:
        with contextlib.ExitStack() as stack:
            address, pid = stack.enter_context(self.broker())
            worker = ("-m", "bench.peers.worker", self.module)
            takes = "stamped" if stamped else "counted"
            receiving = [stack.enter_context(python(*worker, "receive", address, takes)) for _ in range(receivers)]
            sending = [stack.enter_context(python(*worker, "send", address, str(i))) for i in range(senders)]
            roles = {}
            if len(sending) == len(receiving) == 1:
                ends = {Role.SENDER: sending[0].pid, Role.BROKER: pid, Role.RECEIVER: receiving[0].pid}
                roles = {role: found for role, found in ends.items() if found is not None}
            yield Fleet(
                [SenderProcess(process) for process in sending], [ReceiverProcess(p) for p in receiving], roles
            )


class PairedLibraryPeer(LibraryPeer, PairedPeer):
    """One whose ends can both send and receive."""

    @abstractmethod
    def end(self, address: str, out: str, into: str) -> End:
        """Return an end that sends on the topic ``out`` and receives on ``into``; called in its process."""

    @contextlib.contextmanager
    def pair(self) -> Iterator[Asking]:
        with self.broker() as (address, _):
            worker = ("-m", "bench.peers.worker", self.module)
            with python(*worker, "answer", address, ""), python(*worker, "ask", address, "") as asking:
                line(asking)  # they have met
                yield AskingProcess(asking)


class AskingProcess:
    """The runner's end of whoever asks."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def trips(self, count: int, pause: float) -> list[float]:
        ask(self._process, [count, pause])
        return list(json.loads(line(self._process)))


class SenderProcess:
    """The runner's end of a sender."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def begin(self, do: str, seconds: float = 0, rate: float = 0) -> None:
        ask(self._process, [do, seconds, rate])

    def finish(self) -> Sent:
        return Sent(*json.loads(line(self._process)))


class ReceiverProcess:
    """The runner's end of a receiver."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def state(self) -> dict[str, Any]:
        return dict(self._answer("state"))

    def microseconds(self) -> list[float]:
        return list(self._answer("microseconds"))

    def reset(self) -> None:
        self._answer("reset")

    def _answer(self, question: str) -> Any:
        ask(self._process, question)
        return json.loads(line(self._process))


def ask(process: "subprocess.Popen[str]", question: object) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()


def run(sender: SyncSender, seconds: float) -> int:
    """Send as fast as it goes."""
    send, count, end = sender.send, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for number in range(count, count + BLOCK):
            send(encode({"data": [number, "shrubbery", 0.815]}))
        count += BLOCK
        sender.block_done()
    return count


def pace(sender: SyncSender, seconds: float, rate: float) -> int:
    """Send one message at a time, with the time in it."""
    count, begun = int(seconds * rate), time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        sender.send(encode({"data": [time.monotonic_ns(), "shrubbery", 0.815]}))
        sender.block_done()
    return count


def serve_sender(sender: SyncSender, me: int) -> None:
    for text in sys.stdin:
        do, seconds, rate = json.loads(text)
        begun = time.monotonic_ns()
        count = 1
        if do != "probe":
            count = run(sender, seconds) if do == "run" else pace(sender, seconds, rate)
        sender.send(encode({"data": [PROBE if do == "probe" else LAST, me, 0.815]}))
        sender.block_done()
        sender.flush()
        print(json.dumps([count, begun, time.monotonic_ns()]), flush=True)


async def run_async(sender: AsyncSender, seconds: float) -> int:
    send, count, end = sender.send, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for number in range(count, count + BLOCK):
            await send(encode({"data": [number, "shrubbery", 0.815]}))
        count += BLOCK
        await asyncio.sleep(0)
    return count


async def pace_async(sender: AsyncSender, seconds: float, rate: float) -> int:
    count, begun = int(seconds * rate), time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
        await sender.send(encode({"data": [time.monotonic_ns(), "shrubbery", 0.815]}))
    return count


async def serve_async_sender(sender: AsyncSender, address: str, me: int) -> None:
    await sender.open(address)
    while text := await asyncio.to_thread(sys.stdin.readline):
        do, seconds, rate = json.loads(text)
        begun = time.monotonic_ns()
        count = 1
        if do != "probe":
            count = await (run_async(sender, seconds) if do == "run" else pace_async(sender, seconds, rate))
        await sender.send(encode({"data": [PROBE if do == "probe" else LAST, me, 0.815]}))
        await sender.flush()
        print(json.dumps([count, begun, time.monotonic_ns()]), flush=True)


def take_all(receive: Callable[[], bytes], take: Take) -> None:
    """Decode and take all that a blocking function of a library returns, for ever."""
    while True:
        take(decode(receive()))


def serve_tally(tally: Tally) -> None:
    for text in sys.stdin:
        print(json.dumps(getattr(tally, json.loads(text))()), flush=True)


def serve_pinger(pinger: Pinger) -> None:
    try:
        pinger.meet()
        print("met", flush=True)
        for text in sys.stdin:
            print(json.dumps(pinger.run(*json.loads(text))), flush=True)
    finally:
        os._exit(1)  # the runner reads that it has ended; the library's loop does not end


def main(module: str, role: str, address: str, detail: str) -> None:
    peer: LibraryPeer = importlib.import_module(module).PEER
    gc.freeze()
    if role in ("ask", "answer"):
        assert isinstance(peer, PairedLibraryPeer)
        if role == "answer":
            peer.end(address, BACK, THERE).receive(answer)
            return
        end = peer.end(address, THERE, BACK)
        pinger = Pinger(lambda message: end.send(encode(message)))
        threading.Thread(target=serve_pinger, args=(pinger,), daemon=True).start()
        end.receive(pinger.take)
        return
    if role == "receive":
        tally = Tally()
        threading.Thread(target=serve_tally, args=(tally,), daemon=True).start()
        peer.receive(address, tally.take_stamped if detail == "stamped" else tally.take)
        return
    sender = peer.sender(address)
    if isinstance(sender, SyncSender):
        serve_sender(sender, int(detail))
    else:
        # This selector sleeps to the microsecond; epoll rounds up to milliseconds, which bunches what is paced.
        loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        loop.run_until_complete(serve_async_sender(sender, address, int(detail)))


if __name__ == "__main__":
    # Under its own name, so that a peer's classes and those here are the same.
    importlib.import_module("bench.peers.worker").main(*sys.argv[1:])
