"""UDP addresses and the socket; conversion of OSC addresses to channels and back."""

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
    "name_of",
    "read_host_port",
    "resolve",
]

UdpAddress = tuple[Any, ...]
"""An address for ``socket.sendto``: (ip, port), and two more numbers with IPv6."""

_RECEIVE_BUFFER = 1 << 20
"""Bytes of the kernel's buffer for datagrams that the plugin has not read yet."""

_SEND_BUFFER = 65_535
"""Bytes of the kernel's send buffer. On macOS no datagram may be longer than it, and the default is 9,216."""

_NOT_IN_ADDRESS = str.maketrans(dict.fromkeys([*map(chr, range(33)), "#", ",", "\x7f"], "_"))


def read_host_port(text: Any, key: str) -> tuple[str, int]:
    """Parse ``host:port`` or ``[ipv6]:port``.

    Args:
        text: a value of the configuration.
        key: its key, for the error.

    Raises:
        ValueError: the text has another form.
    """
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""  # an IPv6 address without brackets: its last part could be the port
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f'{key}: {text!r} is not host:port, such as "127.0.0.1:9000"')
    return host, int(port)


def name_of(address: UdpAddress) -> str:
    """Return an address, or a host and a port, as the configuration has it: ``host:port`` or ``[ipv6]:port``."""
    host = str(address[0])
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def listening_socket(host: str, port: int) -> socket.socket:
    """Return the UDP socket for both directions, bound and non-blocking.

    Args:
        host: name or IP address to listen on.
        port: 0 for any free one.

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
            with contextlib.suppress(OSError):  # a smaller buffer is still useful
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
    return f'{problem}; choose another one: listen = "127.0.0.1:9000" under [plugin.osc] in co2.toml'


def resolve(host: str, port: int, family: socket.AddressFamily) -> UdpAddress | None:
    """Return the address of a destination; None if the name is unknown now."""
    try:
        return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)[0][4]
    except (OSError, UnicodeError):
        return None


def is_own(address: UdpAddress, sock: socket.socket) -> bool:
    """Return whether ``address`` is that of ``sock`` itself, so that messages would circulate for ever."""
    own = sock.getsockname()
    if address[1] != own[1]:
        return False
    if not ipaddress.ip_address(own[0].partition("%")[0]).is_unspecified:
        return bool(address[0] == own[0])
    with socket.socket(sock.family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address[0], 0))  # succeeds only for addresses of this machine
        except OSError:
            return False
    return True


def channel_of(address: str, prefix: str = "") -> str:
    """Return the channel of an OSC address: ``/stage/fader1`` becomes ``stage.fader1``, after ``prefix``."""
    tokens = [token for token in address.split("/") if token]
    return ".".join([prefix, *tokens] if prefix else tokens)


def address_of(channel: str) -> str:
    """Return the OSC address of a channel: ``stage.fader1`` becomes ``/stage/fader1``.

    Characters that OSC forbids in an address become ``_``.
    """
    return "/" + "/".join(token for token in channel.translate(_NOT_IN_ADDRESS).split(".") if token)
