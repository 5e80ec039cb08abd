"""The plugin: one UDP socket, a thread that reads from it, and ``receive``, which writes to it.

A further thread looks up the names of destinations: that may take many seconds, and messages do not wait for it.

Configuration, all keys optional::

    [plugin.osc]
    listen  = "127.0.0.1:9000"        # OSC programs send to this address, and get messages from it
    send_to = ["127.0.0.1:7000"]      # addresses that get messages of the network
    send    = ["stage.>", "*.meter"]  # channels of these messages; default: all that have a channel
    receive = ["stage.>"]             # channels of messages that come from OSC; default: all
    prefix  = "stage"                 # /fader1 comes as stage.fader1, and is sent as /fader1

The module ``mapping`` describes the messages. A message that came from OSC is not sent back to OSC by the same
plugin, because no plugin receives its own messages.
"""

import select
import socket
import threading
import time
from collections import Counter
from typing import Any

from co2 import plugin

from . import addresses, mapping, packets, settings

__all__ = ["X_Osc"]

RESOLVE_INTERVAL = 10.0
"""Seconds between two look-ups of destinations whose names are still unknown."""
FIRST_LOOK_UP = 1.0
"""Seconds that the start waits for the first look-up, so that the first messages find all destinations."""
COMPLAINT_INTERVAL = 10.0
"""Seconds between two lines in the log about the same kind of problem."""


class X_Osc(plugin.Co2Plugin):
    """Two-way bridge between OSC programs and the network."""

    exclusive = True  # it holds a port

    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)
        self.settings = settings.read_settings(self.config)
        self.counts: Counter[str] = Counter()
        self.last_error = ""
        self._complaints: dict[str, float] = {}
        self._lock = threading.Lock()
        self._assembler = mapping.Assembler()
        self._socket = addresses.listening_socket(*self.settings.listen)
        self.address = self._socket.getsockname()[:2]
        self._destinations: dict[tuple[str, int], addresses.UdpAddress | None] = dict.fromkeys(
            self.settings.send_to
        )
        self._looked_up, self._ending = threading.Event(), threading.Event()
        threading.Thread(target=self._look_up, name="osc-resolver", daemon=True).start()
        self._looked_up.wait(FIRST_LOOK_UP)
        self._wake, self._stop = socket.socketpair()
        self._reader = threading.Thread(target=self._read, name="osc-reader", daemon=True)
        self._reader.start()
        self.log("listens on UDP %s, sends to %s", addresses.name_of(self.address), self._names())

    # network → OSC

    def receive(self, data_dict: dict[str, Any]) -> None:
        """Send a message to OSC, if its channel is selected."""
        wanted = data_dict.get("channel") in self.settings.send
        if not self._destinations:
            return
        try:
            messages = mapping.from_data_dict(data_dict, self.settings.prefix) if wanted else []
        except packets.Unsendable as error:
            self._complain("unsendable", f"cannot be sent as OSC: {error}")
            messages = []
        for packet in self._assembler.add(data_dict, messages, wanted):
            self._put(packet)

    def x_send(self, data_dict: dict[str, Any]) -> int:
        """Send one message to OSC, whatever its channel. Argument: {'channel': 'stage.fader1', 'data': [1, 0.5]}.
        Returns the number of datagrams."""
        before = self.counts["out"]
        for message in mapping.from_data_dict(data_dict, self.settings.prefix):
            self._put(message)
        return self.counts["out"] - before

    def x_status(self, data_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the addresses of the bridge, and its counters since its start."""
        names = ("in", "in_filtered", "malformed", "refused", "out", "unsendable", "send_errors")
        return {
            "listen": addresses.name_of(self.address),
            "send_to": self._names(),
            "counts": {name: self.counts[name] for name in names},
            "last_error": self.last_error,
        }

    def _put(self, packet: packets.Packet) -> None:
        try:
            datagram = packets.build(packet)
        except packets.Unsendable as error:
            self._complain("unsendable", f"cannot be sent as OSC: {error}")
            return
        for destination, address in self._destinations.items():
            name = addresses.name_of(destination)
            if address is None:
                self._complain("send_errors", f"cannot send to {name}: unknown, or this bridge itself")
                continue
            try:
                self._socket.sendto(datagram, address)
                self.counts["out"] += 1
            except OSError as error:
                self._complain("send_errors", f"cannot send to {name}: {error.strerror or error}")

    # OSC → network

    def _read(self) -> None:
        with self._socket, self._wake:
            while True:
                ready, _, _ = select.select([self._socket, self._wake], [], [])
                if self._wake in ready:
                    return
                self._read_one()

    def _read_one(self) -> None:
        try:
            datagram, source = self._socket.recvfrom(packets.MAX_DATAGRAM_SIZE)
        except OSError:
            return  # no datagram; on Windows also after a datagram that was sent to a port without a listener
        try:
            self._send_messages(datagram, source)
        except packets.MalformedPacket as error:
            self._complain("malformed", f"not OSC, from {addresses.name_of(source)}: {error}")
        except Exception as error:  # send() refused the message: count it; the thread must go on reading
            self._complain("refused", f"cannot be sent to the network: {error}")

    def _send_messages(self, datagram: bytes, source: tuple[Any, ...]) -> None:
        packet = packets.parse(datagram)
        self.counts["packets"] += 1
        for data_dict in mapping.to_data_dicts(
            packet,
            source=addresses.name_of(source),
            bundle_id=self.counts["packets"],
            prefix=self.settings.prefix,
        ):
            if self.settings.receive is not None and data_dict["channel"] not in self.settings.receive:
                self.counts["in_filtered"] += 1
                continue
            self.send(data_dict)
            self.counts["in"] += 1

    # destinations

    def _look_up(self) -> None:
        """Look up the addresses of all destinations, again and again while some are unknown."""
        while True:
            for destination, address in self._destinations.items():
                if address is None:
                    self._destinations[destination] = self._resolve(*destination)
            self._looked_up.set()
            if all(self._destinations.values()) or self._ending.wait(RESOLVE_INTERVAL):
                return

    def _resolve(self, host: str, port: int) -> addresses.UdpAddress | None:
        name = addresses.name_of((host, port))
        found = addresses.resolve(host, port, self._socket.family)
        try:
            if found is None or not addresses.is_own(found, self._socket):
                return found
            self._complain("send_errors", f"send_to: {name} is this bridge's own socket")
        except OSError as error:
            if not self._ending.is_set():  # else the plugin has closed its socket meanwhile
                self._complain("send_errors", f"cannot use {name}: {error.strerror or error}")
        return None

    # all

    def _names(self) -> list[str]:
        return [*map(addresses.name_of, self._destinations)]

    def _complain(self, kind: str, text: str) -> None:
        # A broken sender can cause this ten thousand times a second: count each, log a few.
        with self._lock:
            self.counts[kind] += 1
        self.last_error = text
        now = time.monotonic()
        if now >= self._complaints.get(kind, 0.0):
            self._complaints[kind] = now + COMPLAINT_INTERVAL
            self.log("%s (%d so far)", text, self.counts[kind])
        else:
            self.debug("%s", text)

    def __exit__(self, *exc_info: object) -> None:
        self._ending.set()
        self._stop.close()
        self._reader.join(timeout=1.0)
