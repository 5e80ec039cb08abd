"""Single values that a plain table of bad ones does not show: URLs, homes."""

import grp
import os
import pwd
from pathlib import Path

import pytest

from co2.config import load_config, relay_url
from co2.config.checks import address, duration, group_ids, host_names, switch, user_ids
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
    with pytest.raises(ConfigError, match=r"--relay: found .*, expected a URL such as http://127\.0\.0\.1:2003"):
        relay_url(given, {}, tmp_path)


def test_a_home_that_nobody_has(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--state: found .*, expected the path of a folder; the user it names does not exist"
    ):
        load_config("relay", {"state": "~no-such-user-at-all/x"}, {}, tmp_path)


@pytest.mark.parametrize(
    ("found", "seconds"), [("1s", 1.0), ("50ms", 0.05), (" 0.5 s ", 0.5), ("0s", 0.0), (1, 1.0), (0.25, 0.25)]
)
def test_a_duration_is_text_with_a_unit_or_seconds(found: object, seconds: float) -> None:
    assert duration(0, 1)(found) == pytest.approx(seconds)


@pytest.mark.parametrize("found", ["", "1", "1m", "2s", "1001ms", "-1s", "1e-3s", True, None, -0.1, float("nan")])
def test_what_is_no_duration_is_refused_with_examples(found: object) -> None:
    with pytest.raises(ValueError, match='"50ms" or "1s"'):
        duration(0, 1)(found)


@pytest.mark.parametrize(
    ("found", "expected"), [("localhost", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::0001", "::1")]
)
def test_an_address_to_listen_on(found: str, expected: str) -> None:
    assert address(found) == expected


@pytest.mark.parametrize("found", [True, "true", "Yes", "1", 1])
def test_what_switches_on(found: object) -> None:
    assert switch(found) is True


@pytest.mark.parametrize("found", [False, "false", "No", "0", 0])
def test_what_switches_off(found: object) -> None:
    assert switch(found) is False


@pytest.mark.parametrize("found", ["", "on", 2, None, 1.5])
def test_what_switches_nothing(found: object) -> None:
    with pytest.raises(ValueError, match="true or false"):
        switch(found)


def test_users_and_groups_have_names_or_numbers() -> None:
    user, group = pwd.getpwuid(0).pw_name, grp.getgrgid(os.getegid()).gr_name
    assert user_ids(f"{user}, 7") == (0, 7)
    assert user_ids([user, 7, "8"]) == (0, 7, 8)
    assert group_ids([group, 2**32 - 1]) == (os.getegid(), 2**32 - 1)


@pytest.mark.parametrize("found", ["no-such-name-at-all", [True], [-1], [2**32], [None], 7, {"a": 1}])
def test_users_and_groups_that_are_none(found: object) -> None:
    for check in (user_ids, group_ids):
        with pytest.raises(ValueError, match="a list of"):
            check(found)


def test_host_names_are_a_list_or_split_at_commas() -> None:
    assert host_names(" a.example,b ,,") == ("a.example", "b")
    assert host_names(["a.example", "b"]) == ("a.example", "b")
    for found in (7, ["a:1"], [7], "a b"):
        with pytest.raises(ValueError, match="a list of"):
            host_names(found)
