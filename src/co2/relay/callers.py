"""Who may call what at a relay: whose an origin is, and what nobody asks for somebody else."""

from co2.errors import Denied, IdentityRefused
from co2.host_id import HostId
from co2.protocol.relay.origins import OriginBook
from co2.xmlrpc.registry import Caller

__all__ = ["check_not_passed_on", "check_unowned"]


def check_not_passed_on(caller: Caller, method: str) -> None:
    """Refuse what concerns whoever asks where somebody else passes it on: the address is not the asker's then.

    Raises:
        Denied: it is passed on.
    """
    if caller.relayed:
        raise Denied(f"relay.{method} is called at the relay itself, not through another host")


def check_unowned(origins: OriginBook, host_id: HostId) -> None:
    """Refuse an origin that belongs to a satellite of ours, whether or not that is here.

    Raises:
        IdentityRefused: it does.
    """
    if origins.has_owner(host_id.origin):
        raise IdentityRefused(
            f"{host_id.origin} belongs to a satellite that has a link of its own; leave host_id out of "
            "relay.register to get another"
        )
