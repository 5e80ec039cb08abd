"""Take in what the relay brings: only from our relay, each position once."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from co2.errors import BadParams, NotOurRelay
from co2.host_id import normal_ip
from co2.protocol.batch import make_batch
from co2.server.arguments import host_id_of, integer, one_dict
from co2.xmlrpc.forms import message_in
from co2.xmlrpc.registry import Caller

__all__ = ["Intake"]

_logger = logging.getLogger("co2.satellite")

Deliver = Callable[[str, tuple[str, int], Sequence[str] | None, bytes], None]


class Intake:
    """The handler of ``notify``.

    Args:
        origin: ours; what comes back with it is not delivered.
        relay_ips: gives the addresses that our relay may call from.
        deliver: passes (host_id, client_address, channels, batch) to the plugins.
    """

    def __init__(self, origin: str, relay_ips: Callable[[], frozenset[str]], deliver: Deliver) -> None:
        self.received = 0
        self.repeats = 0
        self.gaps = 0
        self._origin = origin
        self._relay_ips = relay_ips
        self._deliver = deliver
        self._log_id = ""
        self._position = 0

    def notify(self, params: Sequence[Any], caller: Caller) -> bool:
        """Take one message from our relay and pass it to the plugins. Returns true.

        Takes {data, host_id, client_address, position, …}. The same position may come again; a repeat is
        recognised and delivered once.
        """
        if normal_ip(caller.address) not in self._relay_ips():
            raise NotOurRelay(f"{caller.address} is not the address of this satellite's relay")
        argument = one_dict(params)
        host_id = host_id_of(argument)
        address = _client_address(argument, caller)
        packed, channels = message_in(argument)
        if self._is_repeat(argument):
            self.repeats += 1
            return True
        self._tell_gaps(argument)
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
            raise BadParams("key 'log_id': a string is wanted")
        if log_id == self._log_id and position <= self._position:
            return True
        self._log_id, self._position = log_id[:64], position
        return False

    def _tell_gaps(self, argument: dict[str, Any]) -> None:
        gaps = argument.get("gaps")
        for gap in gaps if isinstance(gaps, list) else []:
            self.gaps += 1
            _logger.warning("the relay tells a gap, these messages will not come: %s", gap)


def _client_address(argument: dict[str, Any], caller: Caller) -> tuple[str, int]:
    """Give the sender's connection as the relay saw it; a relay that does not say is named itself."""
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
        raise BadParams("key 'client_address': an array of an IP address and a port is wanted")
    return (caller.address, caller.port)
