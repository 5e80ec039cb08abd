"""By which address others see this host."""

import socket

from co2.host_id import normal_ip

__all__ = ["local_ip"]


def local_ip(bind: str, towards: str) -> str:
    """Give the address that a host binds to or, where that is every address, the one that packets to
    ``towards`` would leave from. Nothing is sent.

    Args:
        bind: IP address that the server listens on.
        towards: IP address of the other side.
    """
    ip = normal_ip(bind)
    if ip not in ("0.0.0.0", "::"):  # noqa: S104 - a comparison, nothing is bound here
        return ip
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
            return normal_ip(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
