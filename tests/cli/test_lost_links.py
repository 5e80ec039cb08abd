"""What a satellite says at its terminal of a link that is not there, and of one that is there again."""

import re
from pathlib import Path

from tests.harness import running, wait_for

TAKEN_FROM = "co2 relay --bind"
"""The flag that helps where a relay listens on its own machine only."""


def test_a_satellite_without_a_relay_says_what_may_help_and_then_that_it_is_linked(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay:
        port = str(relay.port)
    with running(tmp_path / "satellite", "satellite", "--relay", relay.url) as satellite:
        wait_for(lambda: "retrying" in satellite.stderr, "it says that nobody is there")
        (line,) = satellite.stderr.splitlines()
        assert re.search(rf"WARNING .*no link to {relay.url}: connection refused; retrying; does the relay", line)
        assert TAKEN_FROM in line
        with running(tmp_path / "relay", "relay", "--port", port):
            wait_for(lambda: "linked to" in satellite.stderr, "the link is told of, too")
            assert re.search(
                r"WARNING .*linked to \S+ at \S+ as \S+ \(\S+\), after \d+\.\d s without a link", satellite.stderr
            )
    assert satellite.stderr.count(TAKEN_FROM) == 1


def test_a_link_that_was_away_and_is_back_is_told_once(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay:
        port = str(relay.port)
        satellite_of = running(tmp_path / "satellite", "satellite", "--relay", relay.url)
        with satellite_of as satellite:
            wait_for(lambda: "linked to" in satellite.stderr, "the first link is told")
            assert relay.stop() == 0
            wait_for(lambda: "retrying" in satellite.stderr, "it says that the relay is away")
            assert satellite.stderr.count("linked to") == 1
            with running(tmp_path / "relay", "relay", "--port", port):
                wait_for(lambda: satellite.stderr.count("linked to") == 2, "it says that the relay is back")
        assert len(re.findall(r"linked to .*, after \d+\.\d s without a link", satellite.stderr)) == 1
        assert TAKEN_FROM not in satellite.stderr, "this relay could be reached"
