"""What becomes of a package that takes too much or dies, and that it is said wherever people look; real hosts."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import HostProcess, running, wait_for, write_plugin

CONFIG = """
[limits.ham]
memory = 600
open_files = 40
cpu_seconds = 500
deaths = 1
"""

HAM = """
import os
from co2 import plugin

class X_Ham(plugin.Co2Plugin):
    channels = ("to.ham",)

    def receive(self, data_dict):
        if data_dict["data"] == "wrong":
            raise ValueError("cannot take it")
        self.send({"channel": "from.ham", "data": "taken"})

    def x_take_memory(self, data_dict):
        return len(bytearray(700 * 2**20))

    def x_open_files(self, data_dict):
        return len([open(os.devnull) for _ in range(60)])

    def x_die(self, data_dict):
        os._exit(1)
"""


class Site:
    """A relay, and a satellite with the package ham; as somebody sees it who looks after both."""

    def __init__(self, relay: HostProcess, satellite: HostProcess) -> None:
        self.relay, self.satellite = relay, satellite

    def co2(self, *args: str) -> str:
        env = {key: value for key, value in os.environ.items() if not key.startswith("CO2_")}
        command = [sys.executable, "-m", "co2", *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ps(self) -> dict[str, Any]:
        (row,) = json.loads(self.co2("ps", "--plugins", "--json", "--relay", self.relay.url))
        return dict(row)

    def page(self) -> str:
        text = self._read("/plugins")
        return " ".join(re.sub(r"<(?!form|button|/button)[^>]*>", " ", text).split())

    def metrics(self) -> dict[str, float]:
        rows = (row.rpartition(" ") for row in self._read("/metrics").splitlines() if not row.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    def _read(self, path: str) -> str:
        with urllib.request.urlopen(self.satellite.url + path) as answer:
            return str(answer.read().decode())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    write_plugin(tmp_path / "one", "ham", ham=HAM)
    (tmp_path / "one" / "co2.toml").write_text(CONFIG)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "one", "satellite", "--relay", relay.url) as satellite,
        relay.proxy() as proxy,
    ):
        wait_for(proxy.relay.get_satellites, "the satellite")
        yield Site(relay, satellite)


def test_limits_hold_and_are_told_beside_what_is_used(site: Site) -> None:
    with site.satellite.proxy() as proxy:
        for method, error in (("take_memory", "MemoryError"), ("open_files", "Too many open files")):
            with pytest.raises(Exception, match=error):
                getattr(proxy.ham.ham, method)({"data": None})
    row = site.ps()
    assert row["limits"] == {"memory": 600, "open_files": 40, "cpu_seconds": 500, "deaths": 1}
    assert 0 < row["uses"]["memory"] < 100 < row["uses"]["address_space"] < 600
    assert 0 < row["uses"]["open_files"] <= 40
    assert 0 < row["uses"]["cpu_seconds"] < 500
    table = site.co2("ps", "--plugins", "--relay", site.relay.url)
    assert re.search(r"\d+ MiB, \d+ of 600 MiB of address space, \d+ of 40 files, \d+ of 500 s", table)
    page = site.page()
    assert re.search(r"memory [\d.]+ MiB address space [\d.]+ MiB of 600 MiB open files \d+ of 40 CPU time", page)
    assert re.search(r"CPU time [\d.]+ m?s of 8 min 20 s", page)
    assert "parked after 1 death a minute" in page
    metrics = site.metrics()
    assert metrics['co2_plugin_limit{plugin="ham",resource="address_space_bytes"}'] == 600 * 2**20
    assert 0 < metrics['co2_plugin_uses{plugin="ham",resource="address_space_bytes"}'] < 600 * 2**20
    assert 0 < metrics['co2_plugin_uses{plugin="ham",resource="memory_bytes"}'] < 100 * 2**20
    assert metrics['co2_plugin_limit{plugin="ham",resource="cpu_seconds"}'] == 500
    assert metrics['co2_plugin_state{plugin="ham",state="running"}'] == 1


def test_a_parked_package_is_seen_everywhere_and_tried_again_by_button_or_command(site: Site) -> None:
    for again in ("command", "button"):
        with site.satellite.proxy() as proxy, pytest.raises(Exception, match="died"):
            proxy.ham.ham.die({"data": None})
        row = wait_for(lambda: (row := site.ps())["state"] == "parked" and row, "parked")
        assert "is parked: its plugin host died once" in row["last_error"]
        assert row["uses"] == {}
        assert "parked" in site.co2("ps", "--plugins", "--relay", site.relay.url)
        page = site.page()
        assert "ham parked <form" in page
        assert "<button>Try again</button>" in page
        metrics = site.metrics()
        assert metrics['co2_plugin_state{plugin="ham",state="parked"}'] == 1
        assert metrics['co2_plugin_up{plugin="ham"}'] == 0
        if again == "command":
            assert "ham: reloaded" in site.co2("plugin", "reload", "ham", "--url", site.satellite.url)
        else:
            url = f"{site.satellite.url}/plugins/reload?package=ham"
            request = urllib.request.Request(url, b"", {"Origin": site.satellite.url}, method="POST")
            urllib.request.urlopen(request).close()
        assert (site.ps()["state"], site.ps()["last_error"]) == ("running", "")


def test_a_dead_letter_is_seen_everywhere_and_replayed(site: Site) -> None:
    site.co2("send", '{"channel": "to.ham", "data": "wrong"}', "--relay", site.relay.url)
    wait_for(lambda: site.ps()["dead_letters"] == 1, "the letter")
    assert "ValueError: cannot take it" in site.page()
    assert site.metrics()['co2_plugin_dead_letters_total{plugin="ham"}'] == 1
    assert site.metrics()['co2_queue_depth{queue="dead_letters"}'] == 1
    (letter,) = json.loads(site.co2("dead-letters", "--json", "--url", site.satellite.url))
    file = site.satellite.folder / "plugins" / "ham" / "ham.py"
    file.write_text(HAM.replace('"wrong"', '"right"'))
    site.co2("plugin", "reload", "ham", "--url", site.satellite.url)
    site.co2("dead-letters", "--repeat", str(letter["id"]), "--url", site.satellite.url)
    assert json.loads(site.co2("dead-letters", "--json", "--url", site.satellite.url)) == []
    assert site.metrics()['co2_queue_depth{queue="dead_letters"}'] == 0
    assert site.ps()["sent"] == 1
