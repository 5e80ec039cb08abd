"""A process that plays many foreign satellites: answers every notify at once and writes down when it came.

Prints its ports as one JSON line. A line on stdin asks for the counts and latencies so far and forgets them.
Both relays that are compared deliver to this same program.
"""

import asyncio
import json
import re
import sys
import time

BODY = (
    b"<?xml version='1.0'?><methodResponse><params><param><value><boolean>1</boolean></value></param></params>"
    b"</methodResponse>"
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
LENGTH = re.compile(rb"content-length: *([0-9]+)", re.I)
STAMP = re.compile(rb"at-([0-9]+)")


class Satellite(asyncio.Protocol):
    """One connection of one satellite."""

    def __init__(self, latencies: list[int]) -> None:
        self._latencies = latencies
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            found = LENGTH.search(self._buffer[:end])
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < size:
                return
            request, self._buffer = self._buffer[:size], self._buffer[size:]
            stamp = STAMP.search(request)
            if stamp:
                self._latencies.append(time.monotonic_ns() - int(stamp[1]))
            self._transport.write(ANSWER)


async def main(count: int) -> None:
    loop = asyncio.get_running_loop()
    latencies: list[list[int]] = [[] for _ in range(count)]
    servers = [await loop.create_server(lambda mine=mine: Satellite(mine), "127.0.0.1", 0) for mine in latencies]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        print(json.dumps(latencies), flush=True)
        for mine in latencies:
            mine.clear()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
