"""The URL of a satellite's page for a viewer, without links that lead nowhere."""

import ipaddress
from functools import lru_cache

from co2.host_id import HostId
from co2.server.process.local_address import host_url, is_everywhere

__all__ = ["satellite_page"]


def satellite_page(host_id: HostId, listens: str, relay_ip: str, *, here: bool) -> tuple[str, str]:
    """Return the URL of a satellite's page, '' for none, and the reason if there is none.

    Args:
        host_id: with the address that the relay has observed.
        listens: IP address that the satellite reports to listen on; '' if it reports none.
        relay_ip: an address of the relay's machine; one that others can use, if there is any.
        here: the viewer is at the relay's machine.
    """
    beside = _is_loopback(host_id.ip) or host_id.ip == relay_ip
    if not listens and not beside:
        return host_url(host_id.ip, host_id.port), ""  # a satellite too old to report it
    if beside and here:
        ip = listens if _is_address(listens) and not is_everywhere(listens) else "127.0.0.1"
        return host_url(ip, host_id.port), ""
    if not listens or _is_loopback(listens):
        return (
            "",
            (
                "it listens on 127.0.0.1, so its page opens only on its own machine; --bind 0.0.0.0 opens it to "
                "others"
            ),
        )
    if not beside:
        # It may claim any address, but that makes no link to another host.
        if is_everywhere(listens) or listens == host_id.ip:
            return host_url(host_id.ip, host_id.port), ""
        return "", "it listens on a different address than it connects from"
    if is_everywhere(listens) or listens == relay_ip:
        if _is_loopback(relay_ip):
            return "", "the relay listens on 127.0.0.1: open this page on the relay's machine"
        return host_url(relay_ip, host_id.port), ""
    return "", "it listens on a different address than the relay"


@lru_cache(1024)  # a page of hundreds of rows parses the same few again and again
def _is_address(ip: str) -> bool:
    try:
        ipaddress.ip_address(ip)
    except ValueError:
        return False
    return True


@lru_cache(1024)
def _is_loopback(ip: str) -> bool:
    return _is_address(ip) and ipaddress.ip_address(ip).is_loopback
