"""The peers: what one writes in an afternoon with the standard library's ``xmlrpc.server``.

``serve simple|threading``: a server with one method. ``relay``: a relay with a thread and a queue per satellite.
Prints its port.
"""

import queue
import sys
import threading
from socketserver import ThreadingMixIn
from typing import Any
from xmlrpc.client import ServerProxy
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer


class ThreadingServer(ThreadingMixIn, SimpleXMLRPCServer):
    """The threading form, as its documentation shows it."""

    daemon_threads = True


class KeepAlive(SimpleXMLRPCRequestHandler):
    """A fair relay keeps its sender's connection open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True


class Relay:
    """Passes each message to every satellite, each through a thread of its own."""

    def __init__(self) -> None:
        self._queues: list[queue.SimpleQueue[Any]] = []

    def register(self, port: int) -> bool:
        waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._queues.append(waiting)
        threading.Thread(target=self._deliver, args=(port, waiting), daemon=True).start()
        return True

    def relay(self, message: dict[str, Any]) -> bool:
        for waiting in self._queues:
            waiting.put(message)
        return True

    @staticmethod
    def _deliver(port: int, waiting: "queue.SimpleQueue[Any]") -> None:
        satellite = ServerProxy(f"http://127.0.0.1:{port}/")
        while True:
            satellite.notify(waiting.get())


def main(what: str, form: str = "threading") -> None:
    make = SimpleXMLRPCServer if form == "simple" else ThreadingServer
    handler = KeepAlive if what == "relay" else SimpleXMLRPCRequestHandler
    server = make(("127.0.0.1", 0), requestHandler=handler, logRequests=False, allow_none=True)
    if what == "relay":
        relay = Relay()
        server.register_function(relay.register, "register")
        server.register_function(relay.relay, "relay")
    server.register_function(lambda argument: argument, "test")
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
