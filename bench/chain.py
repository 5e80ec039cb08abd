"""The way of a message with nothing on it: the limit for the latency of five processes in Python.

The same five processes as co2 has between two plugins, and the same sockets: Unix, TCP, TCP, Unix. Each of the
three in the middle reads and writes, in one loop over blocking sockets, and does nothing else: no frame, no
number, no checksum, no log, no third link. Encoded at one end, decoded at the other. Round trips go there and back
through the same processes.
"""

import contextlib
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import msgspec

from bench import processes
from bench.busy import LOADS
from bench.peers.base import Latency
from bench.peers.tally import Tally
from bench.peers.trips import Pinger, answer

__all__ = ["Chain", "measure", "pair"]

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode

WAY = (False, True, True, False)
"""Which of the sockets on the way is TCP."""

READ = 256 * 1024

Pair = tuple[socket.socket, socket.socket]


def measure(seconds: float, rate: float, load: str = "quiet") -> Latency:
    """Measure one way, in processes of their own; microseconds."""
    with LOADS[load](), processes.python("-m", "bench.chain", "one-way", str(seconds), str(rate)) as process:
        times = json.loads(processes.line(process))
    cuts = statistics.quantiles(times, n=100)
    return Latency(p50=cuts[49], p99=cuts[98], missing=int(seconds * rate) - len(times))


class Chain:
    """A chain that makes round trips when told to."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def trips(self, count: int, pause: float) -> list[float]:
        """Make so many, with a pause of so many seconds before each; return how many microseconds each took."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([count, pause]) + "\n")
        self._process.stdin.flush()
        return list(json.loads(processes.line(self._process)))


@contextlib.contextmanager
def pair() -> Iterator[Chain]:
    """Run a chain for round trips."""
    with processes.python("-m", "bench.chain", "round-trips") as process:
        yield Chain(process)


def connected(tcp: bool) -> Pair:
    """Return two ends of a socket."""
    if not tcp:
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def in_a_process(work: Callable[[], None], keep: set[socket.socket], pairs: list[Pair]) -> int:
    """Do something in a child that has no other socket open; return its process id."""
    if pid := os.fork():
        return pid
    try:
        for end in {end for pair in pairs for end in pair} - keep:
            end.close()
        work()
    finally:
        os._exit(0)


def pass_on(source: socket.socket, to: socket.socket) -> None:
    """Pass on what comes, until the end."""
    while data := source.recv(READ):
        to.sendall(data)


def pass_on_both_ways(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes from either, until one of them ends."""
    ends = {one.fileno(): (one, other), other.fileno(): (other, one)}
    poll = select.poll()
    for descriptor in ends:
        poll.register(descriptor, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            source, to = ends[descriptor]
            if not (data := source.recv(READ)):
                return
            to.sendall(data)


def packed(message: dict[str, Any]) -> bytes:
    """Return a message as it stands in the stream."""
    data = encode(message)
    return len(data).to_bytes(2, "big") + data


def messages(source: socket.socket) -> Iterator[dict[str, Any]]:
    """Return what comes, until the end."""
    waiting = b""
    while data := source.recv(READ):
        waiting += data
        while len(waiting) >= 2 and len(waiting) >= (end := 2 + int.from_bytes(waiting[:2], "big")):
            yield decode(waiting[2:end])
            waiting = waiting[end:]


def send_back(end: socket.socket) -> None:
    """Answer what comes, until the end."""
    for message in messages(end):
        end.sendall(packed(answer(message)))


def pace(to: socket.socket, count: int, rate: float) -> None:
    """Send so many messages, evenly, as the sending plugin does."""
    begun = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        to.sendall(packed({"data": [time.monotonic_ns(), "shrubbery", 0.815]}))


def take_all(source: socket.socket) -> list[float]:
    """Take messages until the end; return how many microseconds each took."""
    tally = Tally()
    for message in messages(source):
        tally.take_stamped(message)
    return tally.microseconds()


def run(seconds: float, rate: float) -> list[float]:
    """Be the receiver, with all others as children."""
    pairs = [connected(tcp) for tcp in WAY]
    first, last = pairs[0][0], pairs[-1][1]
    children = [in_a_process(lambda: pace(first, int(seconds * rate), rate), {first}, pairs)]
    for (_, source), (to, _) in pairwise(pairs):
        children.append(in_a_process(partial(pass_on, source, to), {source, to}, pairs))
    close_all_but(last, pairs)
    times = take_all(last)
    for pid in children:
        os.waitpid(pid, 0)
    return times


def serve_round_trips() -> None:
    """Be whoever asks, with all others as children, until stdin ends."""
    pairs = [connected(tcp) for tcp in WAY]
    first, last = pairs[0][0], pairs[-1][1]
    for (_, source), (to, _) in pairwise(pairs):
        in_a_process(partial(pass_on_both_ways, source, to), {source, to}, pairs)
    in_a_process(partial(send_back, last), {last}, pairs)
    close_all_but(first, pairs)
    pinger = Pinger(lambda message: first.sendall(packed(message)))
    threading.Thread(target=take_answers, args=(first, pinger), daemon=True).start()
    for text in sys.stdin:
        print(json.dumps(pinger.run(*json.loads(text))), flush=True)


def take_answers(source: socket.socket, pinger: Pinger) -> None:
    for message in messages(source):
        if (question := pinger.take(message)) is not None:
            source.sendall(packed(question))


def close_all_but(mine: socket.socket, pairs: list[Pair]) -> None:
    for end in {end for pair in pairs for end in pair} - {mine}:
        end.close()


if __name__ == "__main__":
    if sys.argv[1] == "one-way":
        print(json.dumps([round(time_, 1) for time_ in run(float(sys.argv[2]), float(sys.argv[3]))]), flush=True)
    else:
        serve_round_trips()
