"""The table ``[plugin.udp]`` of co2.toml, and the socket that it names."""

import socket
from typing import Annotated, Any

import msgspec

__all__ = ["UdpSettings", "listening_socket", "name_of"]

_RECEIVE_BUFFER = 1 << 20
"""Bytes of the kernel's buffer for datagrams that the plugin has not read yet."""


class UdpSettings(msgspec.Struct, frozen=True):
    """The configuration: the address of the socket.

    Attributes:
        host: IP address or name to listen on; ``"0.0.0.0"`` for all addresses of this machine.
        port: UDP port to listen on; 0 for any free one.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 2013


def listening_socket(host: str, port: int) -> socket.socket:
    """Return the UDP socket for both directions, bound and non-blocking.

    Args:
        host: name or IP address to listen on.
        port: 0 for any free one.

    Raises:
        OSError: the name is unknown, or the port is taken; the text says which.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError) as error:
        raise OSError(f"host: cannot find {host!r}: {error}") from None
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.bind(address)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot use UDP {host}:{port}: {error.strerror or error}") from None
    return sock


def name_of(address: tuple[Any, ...]) -> str:
    """Return an address as text: ``ip:port`` or ``[ipv6]:port``."""
    ip = str(address[0])
    return f"[{ip}]:{address[1]}" if ":" in ip else f"{ip}:{address[1]}"
