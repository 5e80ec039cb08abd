"""The least that any broker in Python must do, without any network: the limit for all of them on one core.

Encode a message, append it to a list, join them, copy the bytes once as a socket would, decode them as one array,
call a function with every message.
"""

import gc
import statistics
import time
from typing import Any

import msgspec

from bench.peers.tally import Tally

__all__ = ["measure"]

BATCH = 2048
"""Messages that are joined: what one write of a busy sender holds."""

ROUNDS = 5


def once(seconds: float) -> float:
    """Return messages per second of the processor's time, which is all of it where nobody else wants one."""
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(list[dict[str, Any]]).decode
    take, count = (tally := Tally()).take, 0
    socket_buffer = bytearray(1 << 20)
    header = b"\xdd" + BATCH.to_bytes(4, "big")
    begun = time.thread_time()
    while time.thread_time() - begun < seconds:
        waiting: list[bytes] = [header]
        append = waiting.append
        for number in range(count, count + BATCH):
            append(encode({"data": [number, "shrubbery", 0.815]}))
        joined = b"".join(waiting)
        socket_buffer[: len(joined)] = joined
        for message in decode(memoryview(socket_buffer)[: len(joined)]):
            take(message)
        count += BATCH
    took = time.thread_time() - begun
    assert tally.count == count
    return count / took


def measure(seconds: float = 1.0) -> float:
    """Give the median of a few rounds, after one that does not count."""
    gc.freeze()
    try:
        once(seconds / 4)
        return statistics.median(once(seconds) for _ in range(ROUNDS))
    finally:
        gc.unfreeze()


if __name__ == "__main__":
    print(f"{measure():,.0f} messages/s")
