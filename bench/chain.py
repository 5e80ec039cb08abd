"""The way of a message with nothing on it: the limit for the latency of five processes in Python.

The same five processes as co2 has between two plugins, and the same sockets: Unix, TCP, TCP, Unix. Each of the
three in the middle reads and writes, in one loop over blocking sockets, and does nothing else: no frame, no
number, no checksum, no log, no second link. Encoded at one end, decoded at the other.
"""

import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import msgspec

from bench import processes
from bench.peers.base import Latency
from bench.peers.tally import Tally

__all__ = ["measure"]

WAY = (False, True, True, False)
"""Which of the sockets on the way is TCP."""

READ = 256 * 1024

Pair = tuple[socket.socket, socket.socket]


def measure(seconds: float, rate: float) -> Latency:
    """Measure in processes of their own; microseconds."""
    with processes.python("-m", "bench.chain", str(seconds), str(rate)) as process:
        times = json.loads(processes.line(process))
    cuts = statistics.quantiles(times, n=100)
    return Latency(p50=cuts[49], p99=cuts[98], missing=int(seconds * rate) - len(times))


def connected(tcp: bool) -> Pair:
    """Give two ends of a socket."""
    if not tcp:
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def in_a_process(work: Callable[[], None], keep: set[socket.socket], pairs: list[Pair]) -> int:
    """Do something in a child that has no other socket open; give its process id."""
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


def pace(to: socket.socket, count: int, rate: float) -> None:
    """Send so many messages, evenly, as the sending plugin does."""
    encode, begun = msgspec.msgpack.Encoder().encode, time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        message = encode({"data": [time.monotonic_ns(), "shrubbery", 0.815]})
        to.sendall(len(message).to_bytes(2, "big") + message)


def take_all(source: socket.socket) -> list[float]:
    """Take messages until the end; give how many microseconds each took."""
    decode, tally, waiting = msgspec.msgpack.Decoder().decode, Tally(), b""
    while data := source.recv(READ):
        waiting += data
        while len(waiting) >= 2 and len(waiting) >= (end := 2 + int.from_bytes(waiting[:2], "big")):
            tally.take_stamped(decode(waiting[2:end]))
            waiting = waiting[end:]
    return tally.microseconds()


def run(seconds: float, rate: float) -> list[float]:
    """Be the receiver, with all others as children."""
    pairs = [connected(tcp) for tcp in WAY]
    first, last = pairs[0][0], pairs[-1][1]
    children = [in_a_process(lambda: pace(first, int(seconds * rate), rate), {first}, pairs)]
    for (_, source), (to, _) in pairwise(pairs):
        children.append(in_a_process(partial(pass_on, source, to), {source, to}, pairs))
    for end in {end for pair in pairs for end in pair} - {last}:
        end.close()
    times = take_all(last)
    for pid in children:
        os.waitpid(pid, 0)
    return times


if __name__ == "__main__":
    print(json.dumps([round(time_, 1) for time_ in run(float(sys.argv[1]), float(sys.argv[2]))]), flush=True)
