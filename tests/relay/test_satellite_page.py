"""Where a satellite's page can be opened: every link leads somewhere, and none to where only its owner says."""

import pytest

from co2.host_id import HostId
from co2.relay.satellite_page import satellite_page

LAN, RELAY, LOOP = "192.168.1.20", "192.168.1.10", "127.0.0.1"


@pytest.mark.parametrize(
    ("ip", "listens", "relay", "here", "page"),
    [
        (LAN, "0.0.0.0", RELAY, False, "http://192.168.1.20:2004"),
        (LAN, LAN, RELAY, True, "http://192.168.1.20:2004"),
        (LAN, LOOP, RELAY, True, ""),
        (LAN, LOOP, RELAY, False, ""),
        (LAN, "", RELAY, False, "http://192.168.1.20:2004"),
        (LAN, "203.0.113.9", RELAY, False, ""),
        (LAN, "example.org/x", RELAY, False, ""),
        ("fd00::21", "::", RELAY, False, "http://[fd00::21]:2004"),
        (LOOP, LOOP, LOOP, True, "http://127.0.0.1:2004"),
        (LOOP, LOOP, RELAY, False, ""),
        (LOOP, "0.0.0.0", RELAY, False, "http://192.168.1.10:2004"),
        (LOOP, "0.0.0.0", RELAY, True, "http://127.0.0.1:2004"),
        (LOOP, RELAY, RELAY, True, "http://192.168.1.10:2004"),
        (LOOP, "0.0.0.0", LOOP, False, ""),
        (LOOP, "203.0.113.9", RELAY, False, ""),
        (RELAY, LOOP, RELAY, True, "http://127.0.0.1:2004"),
        (RELAY, LOOP, RELAY, False, ""),
    ],
)
def test_the_link_to_a_satellite_s_page(ip: str, listens: str, relay: str, here: bool, page: str) -> None:
    found, why = satellite_page(HostId("a" * 16, ip, 2004), listens, relay, here=here)
    assert found == page
    assert bool(why) == (not page)
