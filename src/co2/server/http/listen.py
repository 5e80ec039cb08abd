"""The socket that a host listens on."""

import errno
import ipaddress
import os
import socket
import sys

from co2.errors import ConfigError

__all__ = ["BACKLOG", "MAX_NEXT", "bind_socket"]

BACKLOG = 4096
"""Connections that may wait to be accepted: thousands may reconnect at once. The system may allow fewer."""

MAX_NEXT = 100
"""Number of ports after a taken one that are tried."""

_ANSWER_TIMEOUT = 0.2
"""Seconds to wait for a connection to a port of this machine."""

_WILDCARDS = {"0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}  # noqa: S104 - compared with, never bound
"""Addresses under which a program that listens on all addresses can be reached."""


def bind_socket(bind: str, port: int, next_free: bool) -> socket.socket:
    """Return a socket that listens on an address and port.

    It listens at once, because only that shows whether the port is taken: two processes may bind to one port.

    Args:
        bind: IP address; ``0.0.0.0`` or ``::`` for all addresses.
        port: 0 for any free one.
        next_free: whether to try the :data:`MAX_NEXT` ports after it if it is taken.

    Raises:
        ConfigError: the address or the port cannot be used; the text says what to do.
    """
    try:
        address = ipaddress.ip_address(bind)
    except ValueError:
        raise ConfigError("bind", f"{bind!r} is not an IP address") from None
    last = min(port + MAX_NEXT, 65535) if next_free and port else port
    for candidate in range(port, last + 1):
        try:
            return _listen(str(address), candidate)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and candidate < last:
                continue
            raise _explained(error, str(address), port, candidate) from None
    raise AssertionError("the loop returns or raises")


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows SO_REUSEADDR would let two processes share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform != "linux" and port:
            _refuse_answered(address, port)
        if address == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((address, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _refuse_answered(address: str, port: int) -> None:
    """Check that no program listens on the port yet.

    BSD and macOS allow one program to listen on all addresses and another on one of them; the second one then gets
    connections that were meant for the first. Linux refuses that, and so does co2.

    Raises:
        OSError: EADDRINUSE, as on Linux.
    """
    for reached in _WILDCARDS.get(address, (address,)):
        with socket.socket(socket.AF_INET6 if ":" in reached else socket.AF_INET) as probe:
            probe.settimeout(_ANSWER_TIMEOUT)
            if probe.connect_ex((reached, port)) == 0:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _explained(error: OSError, address: str, port: int, candidate: int) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        which = f"port {port} is" if candidate == port else f"ports {port} to {candidate} are"
        return ConfigError("port", f"{which} taken on {address}; --port N chooses another, --port 0 any free one")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigError("port", f"this user may not listen on port {candidate}, only on ports from 1024 up")
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(
            "bind", (f"{address} is not an address of this machine; 0.0.0.0 means all of its addresses")
        )
    return ConfigError("bind", f"cannot listen on {address} port {candidate}: {error.strerror}")
