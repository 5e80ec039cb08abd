"""Checks of callers at a relay: the owner of an origin, and calls that another host must not pass on."""

from co2.errors import Denied, IdentityRefused
from co2.host_id import HostId
from co2.protocol.relay.origins import OriginBook
from co2.xmlrpc.registry import Caller

__all__ = ["check_not_passed_on", "check_unowned"]


def check_not_passed_on(caller: Caller, method: str) -> None:
    """Refuse a passed-on call of a method that concerns the caller itself: the address is not the caller's.

    Raises:
        Denied: the call is passed on.
    """
    if caller.relayed:
        raise Denied(f"relay.{method} must be called at the relay itself, not through another host")


def check_unowned(origins: OriginBook, host_id: HostId) -> None:
    """Refuse an origin that belongs to a linked satellite, connected or not.

    Raises:
        IdentityRefused: the origin belongs to one.
    """
    if origins.has_owner(host_id.origin):
        raise IdentityRefused(
            f"{host_id.origin} belongs to a satellite that has a link of its own; omit host_id in "
            "relay.register to get a new one"
        )
