"""The address under which others see this host."""

import socket
import struct
import sys

from co2.host_id import normal_ip

__all__ = ["host_url", "is_everywhere", "local_ip"]

_SIOCGIFADDR = 0x8915 if sys.platform == "linux" else 0xC0206921
"""Request for the address of an interface: netdevice(7) of Linux; net/if.h of the BSDs, and so macOS.

The answer has it at the same offset everywhere: behind 16 bytes of name, two of family or length and family, two
of port.
"""


def local_ip(bind: str, towards: str) -> str:
    """Return the address that a host binds to or, if that is every address, the source address of packets
    to ``towards``. Nothing is sent.

    Args:
        bind: IP address that the server listens on.
        towards: IP address of the other side.
    """
    ip = normal_ip(bind)
    if not is_everywhere(ip):
        return ip
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
            return normal_ip(probe.getsockname()[0])
        except OSError:
            # A stage network with a switch and no router has no route there, but the interface has an address.
            return _of_an_interface(probe) or "127.0.0.1"


def is_everywhere(bind: str) -> bool:
    """Return whether a host that binds to this listens on all addresses of its machine."""
    return bind in ("0.0.0.0", "::")  # noqa: S104 - a comparison, nothing is bound here


def host_url(ip: str, port: int) -> str:
    """Return the URL of a host."""
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{port}"


def _of_an_interface(probe: socket.socket) -> str:
    """Return the IPv4 address of the first interface that is not loopback, '' for none or unknown."""
    try:
        import fcntl
    except ImportError:
        return ""
    for _, name in socket.if_nameindex():
        request = struct.pack("256s", name.encode()[:15])
        try:
            found = socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24])
        except OSError:
            continue
        if not found.startswith("127."):
            return found
    return ""
