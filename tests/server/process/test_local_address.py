"""By which address others see this host."""

import fcntl
import importlib
import socket
import sys

import pytest

from co2.server.process import local_address
from co2.server.process.local_address import local_ip


def test_a_host_that_listens_on_one_address_is_seen_there() -> None:
    assert local_ip("127.0.0.1", "192.0.2.1") == "127.0.0.1"
    assert local_ip("::1", "192.0.2.1") == "::1"


def test_one_that_listens_everywhere_is_seen_where_packets_leave_from() -> None:
    assert local_ip("0.0.0.0", "127.0.0.1") == "127.0.0.1"


def test_without_a_way_to_there_an_interface_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_way(*_: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", no_way)
    monkeypatch.setattr(local_address, "_of_an_interface", lambda _probe: "192.168.7.7")
    assert local_ip("0.0.0.0", "192.0.2.1") == "192.168.7.7"
    monkeypatch.setattr(local_address, "_of_an_interface", lambda _probe: "")
    assert local_ip("0.0.0.0", "192.0.2.1") == "127.0.0.1"


@pytest.mark.parametrize(("platform", "request_code"), [("linux", 0x8915), ("darwin", 0xC0206921)])
def test_each_system_is_asked_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, platform: str, request_code: int
) -> None:
    asked = []

    def ioctl(_descriptor: int, code: int, request: bytes) -> bytes:
        asked.append((code, request[:16].rstrip(b"\0")))
        return request[:20] + bytes((192, 168, 7, 7)) + request[24:]

    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", platform)
        module = importlib.reload(local_address)
        patch.setattr(fcntl, "ioctl", ioctl)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            assert module._of_an_interface(probe) == "192.168.7.7"
    importlib.reload(local_address)
    assert asked == [(request_code, socket.if_nameindex()[0][1].encode())]


def test_interfaces_are_asked_for_their_address() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        found = local_address._of_an_interface(probe)
    assert found == "" or not found.startswith("127.")


def test_the_first_interface_with_an_address_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes names of up to 15 bytes, and reads a zero behind them."""
    long = "wireless0123456"
    addresses = {b"lo": (127, 0, 0, 1), long.encode(): (192, 168, 7, 8), b"late": (10, 0, 0, 1)}

    def ioctl(_descriptor: int, _code: int, request: bytes) -> bytes:
        name = request[:16].rstrip(b"\0")
        assert len(request) == 256
        if name not in addresses:
            raise OSError("Cannot assign requested address")
        return request[:20] + bytes(addresses[name]) + b"\1" + request[25:]

    names = ["lo", "down", f"{long}7", "late"]
    monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(names, 1)))
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        assert local_address._of_an_interface(probe) == "192.168.7.8"


@pytest.mark.parametrize(("towards", "family"), [("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6)])
def test_the_other_side_is_looked_for_in_its_own_family(
    towards: str, family: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def connect(self: socket.socket, address: tuple[str, int]) -> None:
        asked.append((self.family, address[0]))
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(local_address, "_of_an_interface", lambda _probe: "192.168.7.7")
    assert local_ip("0.0.0.0", towards) == "192.168.7.7"
    assert asked == [(family, towards)]
