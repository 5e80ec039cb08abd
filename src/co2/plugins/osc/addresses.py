"""Names: ``host:port`` of UDP, and OSC address ↔ channel."""

import contextlib
import errno
import ipaddress
import socket
from typing import Any

from .holders import holder_of

__all__ = [
    "UdpAddress",
    "address_of",
    "channel_of",
    "is_own",
    "listening_socket",
    "read_host_port",
    "resolve",
]

UdpAddress = tuple[Any, ...]
"""What ``socket.sendto`` takes: (ip, port), and two numbers more with IPv6."""

_RECEIVE_BUFFER = 1 << 20
"""Bytes that the kernel holds for us while the network is busy."""

_SEND_BUFFER = 65_535
"""Bytes of the longest datagram. macOS sends none longer than this buffer, which has 9,216 there by default."""

_NOT_IN_ADDRESS = str.maketrans(dict.fromkeys([*map(chr, range(33)), "#", ",", "\x7f"], "_"))


def read_host_port(text: Any, key: str) -> tuple[str, int]:
    """Read ``host:port`` or ``[ipv6]:port``.

    Args:
        text: from the configuration.
        key: where it stands there, for the error.

    Raises:
        ValueError: it has another form.
    """
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""  # an IPv6 address without brackets: nobody can tell its end from the port
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f'{key}: {text!r} is not host:port, such as "127.0.0.1:9000"')
    return host, int(port)


def listening_socket(host: str, port: int) -> socket.socket:
    """Make the one UDP socket that receives and sends. Port 0 takes any free one.

    Raises:
        OSError: the name is unknown, or the port is taken; the text says which, and what to do.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError) as error:
        raise OSError(f"listen: cannot find {host!r}: {error}") from None
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < _SEND_BUFFER:
            with contextlib.suppress(OSError):  # it may have less than it asks for
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if ipaddress.ip_address(str(address[0]).partition("%")[0]).version == 4:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.bind(address)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(f"listen: {_why_not(host, port, error)}") from None
    return sock


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(port)
        return (
            f"UDP {host}:{port} is taken by {holder or 'another program'}: stop that one, or set "
            f'another port in co2.toml: listen = "{host}:{port + 1 if port < 65535 else 9000}" under [plugin.osc]'
        )
    problem = f"cannot use UDP {host}:{port}: {error.strerror or error}"
    return f'{problem}; give another one: listen = "127.0.0.1:9000" under [plugin.osc] in co2.toml'


def resolve(host: str, port: int, family: socket.AddressFamily) -> UdpAddress | None:
    """Find the address of a destination; None while the name is unknown."""
    try:
        return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)[0][4]
    except (OSError, UnicodeError):
        return None


def is_own(address: UdpAddress, sock: socket.socket) -> bool:
    """Tell whether what is sent there comes back to the same socket, round and round."""
    own = sock.getsockname()
    if address[1] != own[1]:
        return False
    if not ipaddress.ip_address(own[0].partition("%")[0]).is_unspecified:
        return bool(address[0] == own[0])
    with socket.socket(sock.family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address[0], 0))  # works for the addresses of this machine only
        except OSError:
            return False
    return True


def channel_of(address: str, prefix: str = "") -> str:
    """``/stage/fader1`` → ``stage.fader1``, with ``prefix`` in front."""
    tokens = [token for token in address.split("/") if token]
    return ".".join([prefix, *tokens] if prefix else tokens)


def address_of(channel: str) -> str:
    """``stage.fader1`` → ``/stage/fader1``. What OSC forbids in an address becomes ``_``."""
    return "/" + "/".join(token for token in channel.translate(_NOT_IN_ADDRESS).split(".") if token)
