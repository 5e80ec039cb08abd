"""Carry the outbox to the relay: in order, each message once, as long as it takes."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from co2.errors import IdentityRefused, NoSuchMethod, ParseError, PeerError, RemoteFault
from co2.satellite.membership import Membership, retry_delays
from co2.satellite.outbox import Outbox
from co2.xmlrpc.client import RpcClient
from co2.xmlrpc.forms import plain_form
from co2.xmlrpc.writer import write_call, write_value

__all__ = ["BATCH_BYTES", "BATCH_MESSAGES", "MAX_TRIES", "RELAY_TIMEOUT", "Sender"]

BATCH_MESSAGES = 64
"""At most so many messages in one system.multicall."""

BATCH_BYTES = 480 * 1024
"""Encoded bytes after which a batch is cut; in XML and base64 it stays below 1 MiB."""

MAX_TRIES = 5
"""A message to which the relay answers nonsense is given up after so many; one that is away is tried for ever."""

RELAY_TIMEOUT = 10.0
"""Seconds that one call of relay.relay may take."""

_logger = logging.getLogger("co2.satellite")


class Sender:
    """Calls ``relay.relay`` for everything in the outbox.

    Args:
        outbox: where the messages wait.
        membership: knows the relay, our host_id, and whether we are registered.
        client: to call with.
    """

    def __init__(self, outbox: Outbox, membership: Membership, client: RpcClient) -> None:
        self.sent = 0
        self.refused = 0
        self._outbox = outbox
        self._membership = membership
        self._client = client
        self._tries = 0

    async def run(self) -> None:
        """Send for ever; ends by cancellation."""
        delays = iter(retry_delays())
        while True:
            await self._outbox.filled.wait()
            await self._membership.registered.wait()
            try:
                await self.send_once()
                delays = iter(retry_delays())
                self._tries = 0
            except PeerError as error:
                _logger.debug("relay.relay failed: %s", error)
                self._tries += isinstance(error, ParseError)
                self._membership.refresh()
                await asyncio.sleep(next(delays))

    async def send_once(self) -> None:
        """Send what waits, up to one batch.

        Raises:
            PeerError: the relay was not reached; everything is still in the outbox.
        """
        batch = self._outbox.head(BATCH_MESSAGES if not self._tries else 1, BATCH_BYTES)
        if batch and self._tries >= MAX_TRIES:
            self._refuse(batch[0][0], f"the relay answered nonsense {MAX_TRIES} times")
            self._tries = 0
        elif batch:
            self._answered(batch, await self._call([self._written(*item) for item in batch]))

    async def _call(self, written: Sequence[bytes]) -> Sequence[Any]:
        url = self._membership.url
        if len(written) > 1 and self._membership.relay_speaks_packed:
            calls = [("relay.relay", value) for value in written]
            return await self._client.call_many(url, calls, RELAY_TIMEOUT)
        try:
            body = write_call("relay.relay", written[:1])
            return [await self._client.call_written(url, body, RELAY_TIMEOUT)]
        except RemoteFault as fault:
            return [fault]

    def _written(self, message_id: str, packed: bytes) -> bytes:
        envelope = {"host_id": str(self._membership.host_id), "id": message_id}
        if self._membership.relay_speaks_packed:
            return write_value({**envelope, "packed": packed})
        return write_value({**plain_form(packed), **envelope})

    def _answered(self, batch: Sequence[tuple[str, bytes]], results: Sequence[Any]) -> None:
        if not 0 < len(results) <= len(batch):
            raise ParseError(f"{len(batch)} calls, {len(results)} answers")
        for (message_id, _), result in zip(batch, results, strict=False):
            if isinstance(result, RemoteFault):
                if result.code in (IdentityRefused.code, NoSuchMethod.code):
                    # Our address has changed, or this is no relay (yet): registering tells; nothing is lost.
                    raise result
                self._refuse(message_id, str(result))
            else:
                self.sent += 1
                self._outbox.done(1)

    def _refuse(self, message_id: str, why: str) -> None:
        self.refused += 1
        _logger.error("message %s cannot be relayed and is given up: %s", message_id, why[:512])
        self._outbox.done(1)
