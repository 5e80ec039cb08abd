"""Messages from a relay without a link: accepted only if configured, only from our relay, each position once."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from co2.errors import BadParams, NotOurRelay
from co2.host_id import normal_ip
from co2.logs import LineBudgets
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.gap_reasons import gap_words
from co2.server.rpc.arguments import host_id_of, integer, one_dict
from co2.xmlrpc.forms import message_in
from co2.xmlrpc.registry import Caller

__all__ = ["MAX_GAPS", "NotifyEndpoint"]

MAX_GAPS = 1_000
"""Gaps that one call may report."""

MAX_REASON = 256
"""Characters of the reason of a gap."""

_logger = logging.getLogger("co2.satellite")

Deliver = Callable[[str, tuple[str, int], Sequence[str] | None, bytes], None]
TellGap = Callable[[int, int, str], None]


class NotifyEndpoint:
    """The handler of ``notify``.

    Args:
        origin: ours; messages with it are not delivered.
        relay_ips: returns the addresses that our relay may call from.
        closed: returns why no messages are accepted now, '' if they are.
        deliver: passes (host_id, client_address, channels, batch) to the plugins.
        tell_gap: reports a gap to them (position of the last message before, of the first after, reason).
    """

    def __init__(
        self,
        origin: str,
        relay_ips: Callable[[], frozenset[str]],
        closed: Callable[[], str],
        deliver: Deliver,
        tell_gap: TellGap,
    ) -> None:
        self.received = 0
        self.repeats = 0
        self.gaps = 0
        self._origin = origin
        self._relay_ips = relay_ips
        self._closed = closed
        self._deliver = deliver
        self._tell_gap = tell_gap
        self._log_id = ""
        self._position = 0
        self._lines = LineBudgets()

    def notify(self, params: Sequence[Any], caller: Caller) -> bool:
        """Accept one message from our relay and pass it to the plugins. Returns true.

        Takes {data, host_id, client_address, position, gaps, …}. The same position may come again; a repeat is
        recognised and delivered once. Only with ``accept_notify``, while there is no link: else Fault 1002.
        """
        if closed := self._closed():
            raise NotOurRelay(closed)
        if caller.relayed or caller.proxied or normal_ip(caller.address) not in self._relay_ips():
            raise NotOurRelay(f"{caller.address} is not the address of this satellite's relay")
        argument = one_dict(params)
        host_id = host_id_of(argument)
        address = _client_address(argument, caller)
        packed, channels = message_in(argument)
        gaps = _gaps_in(argument)
        if self._is_repeat(argument):
            self.repeats += 1
            return True
        if gaps:
            self._tell_gaps(gaps)
        self.received += 1
        if host_id.origin != self._origin:
            self._deliver(str(host_id), address, channels, make_batch([packed]))
        return True

    def _is_repeat(self, argument: dict[str, Any]) -> bool:
        if "position" not in argument:
            return False
        position = integer(argument, "position", 0, 0, 2**63 - 1)
        log_id = argument.get("log_id", "")
        if not isinstance(log_id, str):
            raise BadParams("key 'log_id': expected a string")
        if log_id == self._log_id and position <= self._position:
            return True
        self._log_id, self._position = log_id[:64], position
        return False

    def _tell_gaps(self, gaps: list[tuple[int, int, str]]) -> None:
        self.gaps += len(gaps)
        after, following, reason = gaps[0]
        more = f"; and {len(gaps) - 1} more gaps" if len(gaps) > 1 else ""
        self._lines.tell(_logger)
        self._lines.log(_logger, logging.WARNING, "notify", "gap: %s%s", gap_words(after, following, reason), more)
        for after, following, reason in gaps:
            self._tell_gap(after, following + 1, reason)


def _gaps_in(argument: dict[str, Any]) -> list[tuple[int, int, str]]:
    """Return (after, next, reason) of each gap that comes with a message."""
    gaps = argument.get("gaps", [])
    if not isinstance(gaps, list) or len(gaps) > MAX_GAPS or not all(isinstance(gap, dict) for gap in gaps):
        raise BadParams(f"key 'gaps': expected a list of at most {MAX_GAPS} dictionaries")
    return [
        (
            integer(gap, "after", -1, 0, 2**63 - 1),
            integer(gap, "next", -1, 0, 2**63 - 1),
            str(gap.get("reason", "the relay gave no reason"))[:MAX_REASON],
        )
        for gap in gaps
    ]


def _client_address(argument: dict[str, Any], caller: Caller) -> tuple[str, int]:
    """Return the sender's connection as the relay saw it; if the relay does not say, its own connection."""
    address = argument.get("client_address")
    if (
        isinstance(address, list)
        and len(address) == 2
        and isinstance(address[0], str)
        and isinstance(address[1], int)
        and len(address[0]) <= 64
    ):
        return (address[0], address[1])
    if address is not None:
        raise BadParams("key 'client_address': expected an array of an IP address and a port")
    return (caller.address, caller.port)
