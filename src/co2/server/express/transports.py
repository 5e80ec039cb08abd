"""What all stream connections of a host want of their transports, and asyncio does not do."""

import asyncio
import contextlib
import select
import socket

__all__ = ["has_unread", "let_go", "send_without_delay"]


def send_without_delay(transport: asyncio.BaseTransport) -> None:
    """Turn Nagle's algorithm (RFC 896) off for a TCP connection, accepted or dialled.

    Nagle holds a small write back while an earlier one is not acknowledged, and the other side acknowledges up to
    40 ms late (RFC 1122, 4.2.3.2): a feedback loop over two links would take 45 ms a round. asyncio sets the
    option only on sockets whose protocol number is TCP's; accepted ones have the number of the listening one.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        # A connection that the other side has reset already may refuse: its end is told by the transport.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def has_unread(descriptor: int) -> bool:
    """Return whether something has come that was not read yet: who stands behind others may wait for long.

    Args:
        descriptor: of a socket; where it is -1, and where the system cannot tell, nothing has.
    """
    if descriptor < 0 or not hasattr(select, "poll"):
        return False
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    return bool(look.poll(0))


def let_go(transport: asyncio.BaseTransport) -> None:
    """Free a transport at once whose connection is gone: called by its protocol, which hears no more of it.

    asyncio's holds methods of itself, so it would wait for the garbage collector. Where connections come and go by
    the thousand that has 80,000 objects to free in one go then, and everybody waits a quarter of a second.
    """
    own = getattr(transport, "__dict__", {})  # uvloop's has none
    for name in ("_read_ready_cb", "_write_ready"):
        if name in own:
            own[name] = _nothing


def _nothing() -> None:
    """Ignore the call: nothing is to be read or written any more."""
