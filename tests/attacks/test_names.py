"""Names of methods and plugins: how many one member may have, and that all of them together can be told."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from co2.errors import RemoteFault
from co2.protocol import goodbyes
from co2.protocol.host_names import MAX_NAMES, MAX_NAMES_SIZE
from co2.protocol.link_frames import decode_relay_frame
from co2.xmlrpc.reader import read_response
from tests.attacks.hosts import running
from tests.attacks.raw import call, call_body, connected, read_reply, request, send
from tests.attacks.test_link import hello
from tests.harness import HostProcess
from tests.protocol.network import Network

MEMBERS = 512
WHOLE = [f"m.{number:04}.".ljust(256, "x") for number in range(MAX_NAMES_SIZE // 256)]
"""Names that use all that there may be of one member."""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """A relay with as many members as it carries by default, each with all the names that it may have."""
    folder: Path = tmp_path_factory.mktemp("named")
    (folder / "co2.toml").write_text("[relay]\nmax_sats = 2048\nfetch_timeout = 3600\n")
    with running(folder, "relay") as host:
        body = request(call_body("relay.register", {"methods": WHOLE}))
        for number in range(MEMBERS // 32):
            with connected(host.port, f"127.0.1.{number + 1}") as sock:
                for _ in range(32):
                    send(sock, body)
                    reply = read_reply(sock)
                    assert reply is not None
                    assert read_response(reply.body)["host_id"]
        yield host


def co2(*args: str) -> str:
    command = [sys.executable, "-m", "co2", *args]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_co2_ps_shows_them_all(relay: HostProcess) -> None:
    shown = co2("ps", "--relay", relay.url, "--json")
    rows = json.loads(shown)["satellites"]
    assert len(rows) == MEMBERS
    whole = [row for row in rows if row["methods"] == WHOLE]
    assert 1 <= len(whole) < MEMBERS
    assert {row["left_out"] for row in rows if row not in whole} == {len(WHOLE)}
    assert len(shown) < 4 * 2**20
    assert f"{MEMBERS} satellites" in co2("ps", "--relay", relay.url)


def test_pages_give_all_names_and_end(relay: HostProcess) -> None:
    """Each of them within what a relay can send while many ask."""
    got: list[dict[str, Any]] = []
    after: dict[str, Any] = {}
    for _ in range(MEMBERS + 1):
        with connected(relay.port) as sock:
            send(sock, request(call_body("relay.get_satellites", {"max": 1000, **after}), "Connection: close"))
            reply = read_reply(sock)
        assert reply is not None
        assert len(reply.body) < 2 * 2**20
        page = read_response(reply.body)
        if not page:
            break
        got += page
        after = {"after": page[-1]["host_id"]}
    assert len({row["host_id"] for row in got}) == len(got) == MEMBERS
    assert all(row["methods"] == WHOLE and not row["left_out"] for row in got)


def test_pages_without_names(relay: HostProcess) -> None:
    rows = call(relay.port, "relay.get_satellites", {"max": 300, "names": False})
    assert len(rows) == 300
    assert {row["left_out"] for row in rows} == {len(WHOLE)}
    rest = call(relay.port, "relay.get_satellites", {"after": rows[-1]["host_id"], "names": False})
    assert len(rest) == MEMBERS - 300
    assert call(relay.port, "relay.get_satellites", {"after": rest[-1]["host_id"]}) == []
    for wrong in ({"max": 0}, {"max": 1001}, {"after": 5}, {"names": "no"}):
        with pytest.raises(RemoteFault) as caught:
            call(relay.port, "relay.get_satellites", wrong)
        assert caught.value.code == -32602


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"methods": [*WHOLE, "x"]}, f"{MAX_NAMES_SIZE + 1} bytes"),
        ({"methods": WHOLE[:200], "plugins": WHOLE[:200]}, f"{400 * 256} bytes"),
        ({"methods": ["x"] * (MAX_NAMES + 1)}, f"{MAX_NAMES + 1} names"),
        ({"plugins": ["\u20ac" * 200] * 110}, "66000 bytes"),
    ],
)
def test_more_is_refused_with_the_number(relay: HostProcess, names: dict[str, list[str]], said: str) -> None:
    with pytest.raises(RemoteFault, match=said) as caught:
        call(relay.port, "relay.register", names)
    assert caught.value.code == -32602


@pytest.mark.parametrize(
    ("methods", "said"),
    [([*WHOLE, "x"], f"{MAX_NAMES_SIZE + 1} bytes"), (["x"] * (MAX_NAMES + 1), f"<= {MAX_NAMES}")],
)
def test_more_ends_a_link_with_the_number(methods: list[str], said: str) -> None:
    net = Network()
    peer = net.relay.opened(("127.0.0.1", 1))
    net.relay.receive(peer, hello(methods=methods))
    assert peer.state == "closed"
    goodbye = decode_relay_frame(peer.taken()[-1])
    assert goodbye.reason == goodbyes.GARBAGE
    assert said in goodbye.text
