"""Be a member of the relay's network: register, stay registered, know the others; for ever.

Every heartbeat registers again, which is harmless while the relay knows us and mends it when it does not.
"""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from co2.errors import ParseError, PeerError, Unreachable
from co2.host_id import HostId, normal_ip
from co2.server.local_address import local_ip
from co2.xmlrpc.client import RpcClient

__all__ = ["REGISTER_TIMEOUT", "Membership", "retry_delays"]

REGISTER_TIMEOUT = 5.0
"""Seconds that one call to the relay may take."""

_FIRST_RETRY = 0.25
_LONGEST_RETRY = 30.0

_logger = logging.getLogger("co2.satellite")


def retry_delays() -> Iterable[float]:
    """Give seconds to wait before each further try: doubling up to 30, with jitter, for ever."""
    delay = _FIRST_RETRY
    while True:
        yield random.uniform(delay / 2, delay)
        delay = min(delay * 2, _LONGEST_RETRY)


class Membership:
    """Registered at the relay, or trying to be.

    Args:
        url: the relay's, without path.
        origin: our random part.
        bind: address that our server listens on.
        port: port that our server listens on.
        client: to call the relay with.
        heartbeat: seconds between registrations.
        names: gives (methods, plugins) that we tell the relay.
    """

    def __init__(
        self,
        *,
        url: str,
        origin: str,
        bind: str,
        port: int,
        client: RpcClient,
        heartbeat: float,
        names: Callable[[], tuple[list[str], list[str]]],
    ) -> None:
        self.url = f"{url}/RPC2"
        self.host_id = HostId(origin, local_ip(bind, "127.0.0.1"), port)
        self.registered = asyncio.Event()
        self.relay_ips: frozenset[str] = frozenset()
        self.relay_speaks_packed = False
        self.roster: list[dict[str, Any]] = []
        self.log_id = ""
        self.last_error = "not tried yet"
        self.log_replaced = 0
        self._bind = bind
        self._client = client
        self._heartbeat = heartbeat
        self._names = names
        self._kick = asyncio.Event()
        self._met = False
        self._answered_at = time.monotonic()

    async def run(self) -> None:
        """Stay registered for ever; ends by cancellation."""
        delays = iter(retry_delays())
        while True:
            self._kick.clear()
            try:
                await self._register()
                await self._learn_roster()
                delays = iter(retry_delays())
                await self._wait(self._heartbeat)
            except PeerError as error:
                self._lost(error)
                await self._wait(next(delays))

    def refresh(self) -> None:
        """Register again now: something that the relay knows of us has changed, or it does not know us."""
        self._kick.set()

    async def leave(self, timeout: float) -> None:
        """Say goodbye to the relay, within ``timeout`` seconds; a relay that is away needs none."""
        if not self.registered.is_set():
            return
        self.registered.clear()
        try:
            await self._client.call(self.url, "relay.unregister", {"host_id": str(self.host_id)}, timeout=timeout)
        except PeerError as error:
            _logger.warning("the relay did not take our goodbye: %s", error)

    async def call(self, method: str, argument: dict[str, Any], timeout: float) -> Any:
        """Call a method of the relay.

        Raises:
            PeerError: what went wrong.
        """
        return await self._client.call(self.url, method, argument, timeout=timeout)

    async def find_method(self, method: str) -> list[str]:
        """Give the host_ids of other satellites that have a method; asks the relay when the roster has none."""
        found = self._having(method)
        if not found and self.registered.is_set():
            await self._learn_roster()
            found = self._having(method)
        return found

    def _having(self, method: str) -> list[str]:
        me = str(self.host_id)
        return [row["host_id"] for row in self.roster if method in row.get("methods", ()) and row["host_id"] != me]

    async def _register(self) -> None:
        self.relay_ips = frozenset(await self._resolve())
        self.host_id = HostId(self.host_id.origin, local_ip(self._bind, min(self.relay_ips)), self.host_id.port)
        self._check_reachable()
        methods, plugins = self._names()
        argument = {
            "host_id": str(self.host_id),
            "port": self.host_id.port,
            "methods": methods,
            "plugins": plugins,
            "packed": True,
            "resume": self._met,
        }
        if self._met and self.log_id:
            argument["log_id"] = self.log_id
        reply = await self._client.call(self.url, "relay.register", argument, timeout=REGISTER_TIMEOUT)
        self._welcome(reply)

    def _check_reachable(self) -> None:
        """Say what to do where the relay could never call us back."""
        here = ip_address(self.host_id.ip)
        if here.is_loopback and not any(ip_address(ip).is_loopback for ip in self.relay_ips):
            raise Unreachable(
                f"this satellite listens on {here} only, where a relay on another address cannot call it: "
                "start it with --bind 0.0.0.0, or with the address of this machine"
            )

    def _welcome(self, reply: Any) -> None:
        if not isinstance(reply, dict) or not isinstance(reply.get("host_id"), str):
            raise ParseError("the relay's answer to relay.register is not a dictionary with a host_id")
        log_id = str(reply.get("log_id", ""))
        if self._met and log_id != self.log_id:
            self.log_replaced += 1
            _logger.warning("the relay has a new log: what others sent shortly before may be missing here")
        self.log_id = log_id
        self.relay_speaks_packed = reply.get("packed") is True
        self._met = True
        self.last_error = ""
        if not self.registered.is_set():
            _logger.info("registered at %s as %s", self.url, self.host_id)
        self.registered.set()

    async def _learn_roster(self) -> None:
        reply = await self._client.call(self.url, "relay.get_satellites", timeout=REGISTER_TIMEOUT)
        if isinstance(reply, list):
            self.roster = [row for row in reply if isinstance(row, dict) and isinstance(row.get("host_id"), str)]

    async def _resolve(self) -> set[str]:
        parts = urlsplit(self.url)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                parts.hostname, parts.port, type=socket.SOCK_STREAM
            )
        except OSError as error:
            raise Unreachable(f"relay {parts.netloc}: {error.strerror or error}") from None
        return {normal_ip(str(address[4][0])) for address in found}

    def _lost(self, error: PeerError) -> None:
        text = str(error)[:512]
        if self.registered.is_set() or text != self.last_error:
            _logger.warning("not registered at %s: %s; trying on", self.url, text)
        self.last_error = text
        self.registered.clear()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._kick.wait()
        except TimeoutError:
            pass
