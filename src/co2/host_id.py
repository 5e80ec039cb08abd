"""A host_id names a host: ``<random>@<ip>:<port>`` (seed: "naming", §1 of the design).

The random part is the origin: the identity of a host, made once and kept in the state folder. ``ip:port`` is a
label that may change from one connection to the next.
"""

import ipaddress
import re
from dataclasses import dataclass

__all__ = ["ADDRESS_PREFIX", "MAX_HOST_ID_LENGTH", "ORIGIN_PATTERN", "HostId", "normal_ip"]

MAX_HOST_ID_LENGTH = 128
ORIGIN_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
ADDRESS_PREFIX = "addr-"
"""Prefix of the origins that a relay derives from an address, for senders that have not registered."""

_FORM = re.compile(
    r"(?P<origin>[A-Za-z0-9_-]{1,64})@"
    r"(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|(?P<ip4>[0-9.]+))"
    r":(?P<port>[0-9]{1,5})"
)


def normal_ip(text: str) -> str:
    """Return an IP address in its normal form; an IPv4-mapped IPv6 address becomes IPv4.

    Raises:
        ValueError: not an IP address.
    """
    ip = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ip)


@dataclass(frozen=True, slots=True)
class HostId:
    """A parsed host_id.

    Attributes:
        origin: the random part, 1 to 64 of ``A-Za-z0-9_-``.
        ip: IP address in normal form, IPv6 without brackets.
        port: the port that the host listens on; 0 for a host that only polls.
    """

    origin: str
    ip: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "HostId":
        """Parse a host_id.

        Raises:
            ValueError: the text has not the form ``<random>@<ip>:<port>``.
        """
        found = _FORM.fullmatch(text) if len(text) <= MAX_HOST_ID_LENGTH else None
        if found is None or int(found["port"]) > 65535:
            raise ValueError(f"not a host_id: {text[:MAX_HOST_ID_LENGTH]!r}; expected <random>@<ip>:<port>")
        try:
            ip = normal_ip(found["ip6"] or found["ip4"])
        except ValueError:
            raise ValueError(f"not a host_id: {text!r}; its host part is not an IP address") from None
        return cls(found["origin"], ip, int(found["port"]))

    @classmethod
    def of_address(cls, address: str) -> "HostId":
        """Return the host_id for an address whose sender has none: always the same one.

        Raises:
            ValueError: not an IP address.
        """
        ip = normal_ip(address)
        return cls(ADDRESS_PREFIX + re.sub("[.:]", "-", ip), ip, 0)

    def __str__(self) -> str:
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{self.origin}@{host}:{self.port}"

    def matches(self, address: str) -> bool:
        """Return whether the host part is this IP address, that of the connection that carried a request."""
        try:
            return self.ip == normal_ip(address)
        except ValueError:
            return False
