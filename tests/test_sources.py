"""Who an address stands for, and what several of them share."""

import pytest

from co2.sources import LOOPBACK, BySource, source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("127.0.0.1", LOOPBACK),
        ("127.9.9.9", LOOPBACK),
        ("::1", LOOPBACK),
        ("192.168.1.20", "192.168.1.20"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("no address", "no address"),
    ],
)
def test_addresses_of_one_machine_are_one_source(address: str, source: str) -> None:
    assert source_of(address) == source


def test_what_goes_is_the_oldest_of_whoever_has_most() -> None:
    table: BySource[str] = BySource()
    for source, item in (("a", "a1"), ("b", "b1"), ("b", "b2"), ("a", "a2"), ("b", "b3"), ("b", "b1")):
        table.add(source, item)
    assert (len(table), table.count("b"), table.largest(), table.oldest_of_largest()) == (5, 3, "b", "b1")
    assert ([*table.newest("b")], [*table.newest("nobody")]) == (["b3", "b2", "b1"], [])
    for item in ("b1", "b2", "b2"):
        table.discard(item)
    assert table.oldest_of_largest() == "a1"
    assert (list(table), list(table.of("b")), "b1" in table) == (["a1", "a2", "b3"], ["b3"], False)
    for item in list(table):
        table.discard(item)
    assert (len(table), table.count("a"), list(table.of("a"))) == (0, 0, [])
