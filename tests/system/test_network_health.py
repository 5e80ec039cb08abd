"""The relay's first page is the health of the network; and every address that is shown can be opened."""

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.cli.network import Network, co2
from tests.harness import RECORDER, running, wait_for, write_plugin

DIES = """
import os, threading
from co2 import plugin

class X_Dies(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        if not os.path.exists("live"):
            threading.Timer(0.1, os._exit, [3]).start()

    def x_ham(self, data_dict):
        return 1
"""
PICKY = """
from co2 import plugin

class X_Picky(plugin.Co2Plugin):
    def receive(self, data_dict):
        raise ValueError("not this one")
"""


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def said(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_what_is_wrong_with_a_satellite_is_on_the_relay_s_first_page(tmp_path: Path) -> None:
    folder = tmp_path / "satellite"
    for name, code in (
        ("good", RECORDER),
        ("broken", "1 / 0"),
        ("dies", DIES),
        ("picky", PICKY),
        ("old", RECORDER),
    ):
        write_plugin(folder, name, mod=code)
    (folder / "co2.toml").write_text(
        "[satellite]\nplugin_list = ['good', 'broken', 'dies', 'picky', 'old']\n[limits.dies]\ndeaths = 1000\n"
    )
    with (
        running(tmp_path / "relay", "relay", "--name", "house") as relay,
        running(folder, "satellite", "--relay", relay.url, "--name", "stage-pi") as satellite,
    ):
        network = Network(relay, satellite, tmp_path)
        wait_for(lambda: "linked to" in satellite.log(), "it is linked")
        assert co2(network, "send", '{"data": 1}').returncode == 0
        write_plugin(folder, "old", mod="1 / 0")
        assert co2(network, "plugin", "reload", "old", "--url", satellite.url).returncode == 1
        host, reach = "stage-pi", f"--host stage-pi --relay {relay.url}"
        expected = (
            f"broken failed on {host} mod.py:1: ",
            f"on this machine: co2 plugin reload broken {reach}",
            f"picky 1 dead letter on {host}",
            f"on this machine: co2 dead-letters --package picky {reach}",
            f"old new code refused on {host}",
            f"on this machine: co2 plugin reload old {reach}",
        )
        wait_for(lambda: all(one in said(page(relay.url)) for one in expected), "all is told")
        wait_for(lambda: f"dies restarting on {host}" in said(page(relay.url)), "restarting is told")
        wait_for(lambda: "dies restarting" in co2(network, "ps").stdout, "in a table, too")
        html = page(relay.url)
        assert re.search(r'<span class="state bad">\d plugin packages in trouble</span>', html)
        assert '<span class="state bad">trouble</span>' in html, "red, not green"
        assert "good" not in said(html).partition("Trouble")[2].partition("Satellites")[0]
        assert '<span class="state bad"><code>broken</code> failed' in page(f"{relay.url}/satellites")
        with relay.proxy() as proxy:
            [row] = proxy.relay.get_satellites()
        assert {one["name"] for one in row["trouble"]} >= {"broken", "picky", "old"}
        # All is mended.
        (folder / "live").touch()
        for name in ("broken", "old", "picky", "dies"):
            write_plugin(folder, name, mod=DIES if name == "dies" else RECORDER)
            done = co2(network, "plugin", "reload", name, *reach.split())
            assert done.returncode == 0, done.stderr
        co2(network, "dead-letters", "--drop-up-to", "9", *reach.split())
        wait_for(lambda: "rouble" not in said(page(relay.url)), "nothing is told any more")


def test_no_address_is_shown_that_leads_nowhere(tmp_path: Path, far_ip: str) -> None:
    """As with a satellite on another machine: the relay sees another address than the one it listens on."""
    with running(tmp_path / "relay", "relay", "--bind", "0.0.0.0") as relay:
        far = f"http://{far_ip}:{relay.port}"
        with (
            running(tmp_path / "shut", "satellite", "--relay", far) as shut,
            running(tmp_path / "open", "satellite", "--relay", far, "--bind", "0.0.0.0") as opened,
        ):
            for satellite in (shut, opened):
                page(satellite.url)  # its ready line is true
                wait_for(lambda host=satellite: "linked to" in host.log(), "it is linked")
            assert shut.url == f"http://127.0.0.1:{shut.port}"
            assert opened.url == f"http://{far_ip}:{opened.port}"

            def links(url: str) -> set[str]:
                return set(re.findall(r'href="(http://[^"]*)"', page(f"{url}/satellites")))

            near = f"http://127.0.0.1:{relay.port}"
            wait_for(lambda: links(far) == {f"{opened.url}/"}, "from elsewhere only the open one has a link")
            assert "No link to its page: it listens on 127.0.0.1" in said(page(f"{far}/satellites"))
            here = links(near)
            assert here == {f"http://127.0.0.1:{shut.port}/", f"http://127.0.0.1:{opened.port}/"}
            for url in here | links(far):
                page(url)
            with pytest.raises(urllib.error.URLError):
                page(f"http://{far_ip}:{shut.port}")
            network = Network(relay, shut, tmp_path)
            done = co2(network, "plugin", "ls", "--url", f"http://{far_ip}:{shut.port}")
            assert done.returncode == 3
            assert "co2 satellite --bind 0.0.0.0" in done.stderr
