"""The additions of all stream connections of a host to asyncio's transports."""

import asyncio
import contextlib
import select
import socket

__all__ = ["has_unread", "let_go", "send_without_delay"]


def send_without_delay(transport: asyncio.BaseTransport) -> None:
    """Turn Nagle's algorithm (RFC 896) off for a TCP connection, accepted or dialled.

    Nagle delays a small write while an earlier one is unacknowledged, and the other side acknowledges up to 40 ms
    late (RFC 1122, 4.2.3.2): a feedback loop over two links would take 45 ms per round. asyncio sets the option
    only on sockets whose protocol number is TCP's; accepted ones have the number of the listening one.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        # The option may fail on a connection that the other side has reset: the transport reports its end.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def has_unread(descriptor: int) -> bool:
    """Return whether a socket has unread bytes: in the second rank they may wait for long.

    Args:
        descriptor: of the socket; for -1, and on systems without poll, the result is False.
    """
    if descriptor < 0 or not hasattr(select, "poll"):
        return False
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    return bool(look.poll(0))


def let_go(transport: asyncio.BaseTransport) -> None:
    """Free a transport at once after its connection is lost: called by its protocol, which gets no more calls.

    asyncio's transport has references to itself and would wait for the garbage collector. If connections come and
    go by the thousand, that has 80,000 objects to free at once, and all connections wait a quarter of a second.
    """
    own = getattr(transport, "__dict__", {})  # uvloop's has none
    for name in ("_read_ready_cb", "_write_ready"):
        if name in own:
            own[name] = _nothing


def _nothing() -> None:
    """Ignore the call: there is nothing more to read or write."""
