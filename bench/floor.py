"""The least that any broker in Python must do, without any network: the limit for all of them on one core.

Encode a message, append it to a list, join them, copy the bytes once as a socket would, decode them as one array,
call a function with every message.
"""

import gc
import statistics
import time
from typing import Any

import msgspec

from bench.peers.base import Role
from bench.peers.tally import Tally

__all__ = ["costs", "measure"]

BATCH = 2048
"""Messages that are joined: what one write of a busy sender holds."""

ROUNDS = 5


def costs(seconds: float = 1.0) -> dict[Role, float]:
    """Return nanoseconds of the processor's time for a message, by the role that would do the same in a network.

    The processor's time is all of it where nobody else wants one.
    """
    gc.freeze()
    try:
        return once(seconds)
    finally:
        gc.unfreeze()


def once(seconds: float) -> dict[Role, float]:
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(list[dict[str, Any]]).decode
    take, count = (tally := Tally()).take, 0
    socket_buffer = bytearray(1 << 20)
    header = b"\xdd" + BATCH.to_bytes(4, "big")
    took = dict.fromkeys((Role.SENDER, Role.BROKER, Role.RECEIVER), 0)
    clock = time.thread_time_ns
    begun = before = clock()
    while before - begun < seconds * 1e9:
        waiting: list[bytes] = [header]
        append = waiting.append
        for number in range(count, count + BATCH):
            append(encode({"data": [number, "shrubbery", 0.815]}))
        joined = b"".join(waiting)
        sent = clock()
        socket_buffer[: len(joined)] = joined
        copied = clock()
        for message in decode(memoryview(socket_buffer)[: len(joined)]):
            take(message)
        count += BATCH
        received = clock()
        took[Role.SENDER] += sent - before
        took[Role.BROKER] += copied - sent
        took[Role.RECEIVER] += received - copied
        before = received
    assert tally.count == count
    return {role: nanoseconds / count for role, nanoseconds in took.items()}


def measure(seconds: float = 1.0) -> float:
    """Return messages per second: the median of a few rounds, after one that does not count."""
    costs(seconds / 4)
    return statistics.median(1e9 / sum(costs(seconds).values()) for _ in range(ROUNDS))


if __name__ == "__main__":
    print(f"{measure():,.0f} messages/s")
