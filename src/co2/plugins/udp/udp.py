"""The plugin: a UDP socket, a thread that reads from it, and ``relay``, which writes to the subscribed addresses.

Configuration, all keys optional::

    [plugin.udp]
    host = "127.0.0.1"    # "0.0.0.0": from other machines, too
    port = 2013

The module ``lines`` describes the datagrams. A message from an address goes to the network and to the other
subscribed addresses. It has the relay's ``host_id``, and a key ``udp`` with the ``"ip:port"`` of that address. A
subscribed address gets the messages that pass this plugin, so put it in the chain behind the plugins that drop and
change messages.

The plugin sends answers only to addresses that have sent something. An answer is never longer than the datagram
that it answers, so forged sender addresses do not amplify an attack; only errors may be longer, and their number
is limited. Every program that can reach the port can take part, and can subscribe under the address of another.
Use the plugin only in networks that you trust.
"""

import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from co2 import plugin

from .lines import (
    MAX_DATAGRAM_SIZE,
    MalformedLine,
    NetworkMessage,
    Ping,
    Subscribe,
    Unwritable,
    lines_of,
    parse,
    write,
)
from .peers import LEASE, MAX_PEERS, Address, ErrorLimit, Peers, UdpPeer
from .settings import UdpSettings, listening_socket, name_of

__all__ = ["X_Udp"]

COMPLAINT_INTERVAL = 10.0
"""Seconds between two lines in the log about the same kind of problem."""

LOOK_INTERVAL = 1.0
"""Seconds between two searches for leases that have ended."""

MAX_ERROR = 200
"""Characters of the error in an answer."""


class X_Udp(plugin.Co2RelayPlugin):
    """JSON lines over UDP."""

    Config = UdpSettings
    config: UdpSettings
    channels = (">",)
    exclusive = True  # it holds a port

    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)
        self.counts: Counter[str] = Counter()
        self.last_error = ""
        self._own = str(var_dict.get("host_id", ""))
        self._peers = Peers()
        self._errors = ErrorLimit()
        self._complaints: dict[str, float] = {}
        self._lock = threading.Lock()
        self._socket = listening_socket(self.config.host, self.config.port)
        self.address: Address = self._socket.getsockname()
        self._wake, self._stop = socket.socketpair()
        self._reader = threading.Thread(target=self._read, name="udp-reader", daemon=True)
        self._reader.start()
        self.log("listens on UDP %s", name_of(self.address))

    # network → UDP

    def relay(self, data_dict: dict[str, Any]) -> dict[str, Any]:
        """Send a message to the subscribed addresses, and let it pass unchanged."""
        if subscribed := self._peers.subscribed:
            self._give(data_dict, subscribed)
        return data_dict

    def x_status(self, data_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the address, the subscriptions with patterns and remaining seconds, and the counters since the
        start: 'in', 'out', 'malformed' lines, 'refused' by the network, 'unsendable', 'send_errors'."""
        names = ("in", "out", "malformed", "refused", "unsendable", "send_errors")
        return {
            "listen": name_of(self.address),
            "subscribers": [peer.row(time.monotonic()) for peer in self._peers.subscribed],
            "counts": {name: self.counts[name] for name in names},
            "last_error": self.last_error,
        }

    def _give(
        self, message: Mapping[str, Any], subscribed: Iterable[UdpPeer], source: Address | None = None
    ) -> None:
        """Send a message to all addresses that have subscribed to its channel, except to its sender.

        Args:
            message: of any sender.
            subscribed: all subscriptions.
            source: the address that the message came from; None for a message of the network.
        """
        now, channel, line = time.monotonic(), message.get("channel"), b""
        if type(channel) is not str or not channel:
            return
        for peer in subscribed:
            if peer.address == source or peer.until <= now or channel not in peer.channels:
                continue
            if not line:
                try:
                    line = write(message)
                except Unwritable as error:
                    self._complain("unsendable", f"a message on {channel[:80]!r} cannot be sent: {error}")
                    return
            self._put(line, peer.address)

    def _put(self, datagram: bytes, address: Address) -> None:
        try:
            self._socket.sendto(datagram, address)
        except OSError as error:  # also if the kernel's buffer is full: the datagram is lost, as UDP allows
            self._complain("send_errors", f"cannot send to {name_of(address)}: {error.strerror or error}")
        else:
            self._count("out")

    # UDP → network

    def _read(self) -> None:
        with self._socket, self._wake:
            while True:
                wait = LOOK_INTERVAL if self._peers.subscribed else None
                ready, _, _ = select.select([self._socket, self._wake], [], [], wait)
                if self._wake in ready:
                    return
                now = time.monotonic()
                if self._socket in ready:
                    self._read_one(now)
                for peer in self._peers.expire(now):
                    self.debug("the subscription of %s has ended", name_of(peer.address))

    def _read_one(self, now: float) -> None:
        try:
            datagram, source = self._socket.recvfrom(MAX_DATAGRAM_SIZE + 1)
        except OSError:
            return  # no datagram
        self._peers.renew(source, now + LEASE)
        answers: list[bytes] = []
        problem = ""
        try:
            for line in lines_of(datagram):
                try:
                    answers += self._execute(parse(line), source, now)
                except MalformedLine as error:
                    problem = self._garbage(error, source)
                except Exception as error:  # send() refused the message: count it; the thread must go on reading
                    problem = str(error)
                    self._complain(
                        "refused", (f"a message from {name_of(source)} cannot be sent to the network: {error}")
                    )
        except MalformedLine as error:
            problem = self._garbage(error, source)
        if problem and self._errors.allows(source, now):
            answers.append(write({"error": problem[:MAX_ERROR]}).rstrip())
        if answers:
            self._put(b"\n".join(answers), source)  # one datagram for one, so that no attack is amplified

    def _execute(self, line: NetworkMessage | Subscribe | Ping, source: Address, now: float) -> list[bytes]:
        """Execute a line; return its answers, one or none.

        Args:
            line: the parsed line.
            source: the address that it came from.
            now: the time, in seconds of the monotonic clock.
        """
        if isinstance(line, Ping):
            return [b'{"pong":' + line.token + b"}"]
        if isinstance(line, Subscribe):
            if not self._peers.subscribe(source, line, now + LEASE):
                raise MalformedLine(f"{MAX_PEERS} addresses have already subscribed")
            return [b'{"subscribed":%d}' % len(line.patterns)]  # not longer than the line that it answers
        message = {**line.message, "udp": name_of(source)}
        self.send(message)
        self._count("in")
        if subscribed := self._peers.subscribed:
            self._give({**message, "host_id": self._own}, subscribed, source)
        return []

    def _garbage(self, error: MalformedLine, source: Address) -> str:
        self._complain("malformed", f"from {name_of(source)}: {error}")
        return str(error)

    # both

    def handover(self) -> list[Any]:
        """Return the subscriptions, for the new code."""
        now = time.monotonic()
        return [[[*peer.address], [*peer.patterns], peer.until - now] for peer in self._peers.subscribed]

    def takeover(self, value: list[Any]) -> None:
        """Restore the subscriptions of the old code."""
        now = time.monotonic()
        for address, patterns, seconds in value:
            self._peers.subscribe(
                tuple(address), Subscribe(tuple(patterns), plugin.Channels(patterns)), now + seconds
            )

    def _count(self, kind: str) -> None:
        with self._lock:
            self.counts[kind] += 1

    def _complain(self, kind: str, text: str) -> None:
        # A broken sender can cause this ten thousand times a second: count each, log a few.
        self._count(kind)
        self.last_error = text
        now = time.monotonic()
        if now >= self._complaints.get(kind, 0.0):
            self._complaints[kind] = now + COMPLAINT_INTERVAL
            self.log("%s (%d so far)", text, self.counts[kind])
        else:
            self.debug("%s", text)

    def __exit__(self, *exc_info: object) -> None:
        self._stop.close()
        self._reader.join(timeout=1.0)
