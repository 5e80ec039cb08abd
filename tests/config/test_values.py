"""Single values that a plain table of bad ones does not show: URLs, homes."""

from pathlib import Path

import pytest

from co2.config import load_config, relay_url
from co2.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://127.0.0.1", "http://127.0.0.1:2003"),
        ("http://127.0.0.1:80/", "http://127.0.0.1:80"),
        ("http://co2.example:2003/RPC2", "http://co2.example:2003"),
        ("http://[::1]", "http://[::1]:2003"),
    ],
)
def test_the_url_of_a_relay(given: str, expected: str, tmp_path: Path) -> None:
    assert relay_url(given, {"CO2_RELAY": "http://10.0.0.1"}, tmp_path) == expected


@pytest.mark.parametrize(
    "given",
    [
        "",
        "127.0.0.1",
        "ftp://a",
        "http://",
        "http://a:b",
        "http://a:0",
        "http://a:65536",
        "http://u:p@a",
        "http://a/path",
        "http://a?q",
        "http://a b",
        "http://[v1.a:b]",
        "http://[1:2]",
        "http://a\x1b[2J",
    ],
)
def test_a_relay_that_is_no_url(given: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--relay: found .*, wanted: a URL such as http://127\.0\.0\.1:2003"):
        relay_url(given, {}, tmp_path)


def test_a_home_that_nobody_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--state: found .*, wanted: a path of a folder; there is no such user"):
        load_config("relay", {"state": "~no-such-user-at-all/x"}, {}, tmp_path)
