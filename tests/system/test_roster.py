"""Who is gone was there: since when, what it offered, after the relay's restart too, until somebody forgets it."""

import json
import os
import re
import signal
import time
import urllib.request
import xmlrpc.client
from pathlib import Path
from typing import Any

import pytest

from tests.cli.network import Network, co2
from tests.harness import HostProcess, running, wait_for, write_plugin

TALLY = """
from co2 import plugin

class X_Tally(plugin.Co2Plugin):
    def x_tally(self, data_dict):
        return 1
"""


def satellite_of(folder: Path, relay: HostProcess, *args: str) -> HostProcess:
    write_plugin(folder, "tally", tally=TALLY)
    satellite = HostProcess(folder, "satellite", "--relay", relay.url, *args)
    wait_for(lambda: "tally.tally.tally" in str(rows(relay)), "the relay knows its methods")
    return satellite


def rows(relay: HostProcess, **argument: Any) -> list[dict[str, Any]]:
    with relay.proxy() as proxy:
        return proxy.relay.get_satellites(argument)  # type: ignore[return-value]


def away(relay: HostProcess) -> list[dict[str, Any]]:
    return [row for row in rows(relay, away=True) if row["state"] in ("away", "stopped")]


def fault(relay: HostProcess, method: str, **keys: Any) -> xmlrpc.client.Fault:
    with relay.proxy() as proxy, pytest.raises(xmlrpc.client.Fault) as caught:
        proxy.method_call({"method_name": method, "data": None, **keys})
    return caught.value


def test_who_is_away_is_known_and_so_is_what_it_offered(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay:
        network = Network(relay, relay, tmp_path)
        first = satellite_of(tmp_path / "first", relay)
        assert first.stop() == 0
        wait_for(lambda: rows(relay) == [], "it is gone")
        [row] = away(relay)
        assert (row["host_id"], row["state"], row["plugins"]) == (
            first.host_id,
            "stopped",
            ["tally.tally.X_Tally"],
        )
        assert row["silent"] < 60
        told = fault(relay, "tally.tally.tally")
        assert told.faultCode == 1006
        assert re.fullmatch(
            r"tally\.tally\.tally is known, but its satellite "
            rf"[a-z0-9-]+ \({first.host_id}\) was stopped at [\d:]{{8}}, .* ago",
            told.faultString,
        )
        assert fault(relay, "no.such.method").faultCode == -32601
        second = satellite_of(tmp_path / "second", relay)
        second.kill()
        wait_for(lambda: len(away(relay)) == 2, "both are away")
        assert [row["state"] for row in away(relay)] == ["away", "stopped"], "the last first"
        assert (
            f"({second.host_id}) has been away since " in fault(relay, "ping", host_id=second.host_id).faultString
        )
        assert (
            "(and 1 other satellites that had it are also away)" in fault(relay, "tally.tally.tally").faultString
        )
        done = co2(network, "ps")
        assert ", 0 satellites, 2 away (as of " in done.stdout
        assert re.search(
            rf"^[a-z0-9-]+ \({second.host_id}\)  away for \d+ s, last seen [\d:]{{8}}$", done.stdout, re.M
        )
        assert re.search(rf"^[a-z0-9-]+ \({first.host_id}\)  stopped for \d+ s, last seen ", done.stdout, re.M)
        assert len(json.loads(co2(network, "ps", "--json").stdout)["away"]) == 2
        with urllib.request.urlopen(f"{relay.url}/satellites", timeout=10) as answer:
            page = " ".join(re.sub(r"<[^>]*>", " ", answer.read().decode()).split())
        assert re.search(rf"away [a-z0-9-]+ {second.host_id} away for ", page)
        assert re.search(rf"stopped [a-z0-9-]+ {first.host_id} stopped for ", page)
        # Who comes back is here and nowhere else.
        again = satellite_of(tmp_path / "second", relay)
        assert [row["host_id"].partition("@")[0] for row in away(relay)] == [first.host_id.partition("@")[0]]
        assert again.stop() == 0


def test_it_is_known_after_the_relay_s_restart_too(tmp_path: Path) -> None:
    relay = HostProcess(tmp_path / "relay", "relay")
    lost = satellite_of(tmp_path / "lost", relay)
    wait_for(lambda: known_on_disk(tmp_path, lost), "it is on disk")
    relay.kill()
    lost.kill()
    with running(tmp_path / "relay", "relay") as again:
        [row] = away(again)
        assert (row["host_id"], row["state"]) == (lost.host_id, "away")
        assert "tally.tally.tally is known, but its satellite" in fault(again, "tally.tally.tally").faultString
    # A relay that ends in good order has them all on disk; that is nobody's goodbye.
    relay = HostProcess(tmp_path / "relay", "relay")
    back = satellite_of(tmp_path / "lost", relay)
    assert relay.stop() == 0
    back.kill()
    with running(tmp_path / "relay", "relay") as again:
        [row] = away(again)
        assert (row["host_id"].partition("@")[0], row["state"]) == (lost.host_id.partition("@")[0], "away")


def known_on_disk(folder: Path, satellite: HostProcess) -> bool:
    import apsw

    db = apsw.Connection(str(folder / "relay" / "state" / "members.db"), apsw.SQLITE_OPEN_READONLY)
    try:
        found = db.execute("SELECT names FROM away WHERE host_id = ?", (satellite.host_id,)).fetchall()
    finally:
        db.close()
    return bool(found) and b"tally.tally.tally" in found[0][0]  # type: ignore[operator]


def test_one_that_will_not_come_back_is_forgotten_by_the_relay_s_own_machine_only(tmp_path: Path) -> None:
    with running(tmp_path / "relay", "relay") as relay:
        network = Network(relay, relay, tmp_path)
        here = satellite_of(tmp_path / "here", relay)
        gone = satellite_of(tmp_path / "gone", relay)
        gone.kill()
        wait_for(lambda: away(relay), "it is away")
        done = co2(network, "forget", here.host_id)
        assert done.returncode == 1
        assert "is connected: stop it first" in done.stderr
        with here.proxy() as proxy, pytest.raises(xmlrpc.client.Fault) as caught:
            proxy.method_call({"method_name": "relay.forget", "host_id": gone.host_id})
        assert "only from the relay's own machine" in caught.value.faultString or caught.value.faultCode in (
            -32601,
            1012,
        )
        assert len(away(relay)) == 1
        done = co2(network, "forget", gone.host_id)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(rf"forgot [a-z0-9-]+ \({gone.host_id}\)\n", done.stdout)
        assert away(relay) == []
        done = co2(network, "forget", gone.host_id.partition("@")[0])
        assert (done.returncode, done.stdout) == (1, "")
        assert "does not know" in done.stderr
        assert here.stop() == 0
        # Its host_id belongs to whoever comes with it next, with another secret as well.
        (tmp_path / "gone" / "state" / "secret").unlink()
        again = satellite_of(tmp_path / "gone", relay)
        assert again.host_id.partition("@")[0] == gone.host_id.partition("@")[0]
        assert again.stop() == 0
    with running(tmp_path / "relay", "relay") as again_relay:
        assert {row["host_id"].partition("@")[0] for row in away(again_relay)} == {
            here.host_id.partition("@")[0],
            gone.host_id.partition("@")[0],
        }


def test_a_link_that_does_not_answer_is_called_silent_before_it_goes(tmp_path: Path) -> None:
    """As with a cable that is pulled: nothing comes, and nothing says that nothing will."""
    with running(tmp_path / "relay", "relay") as relay:
        satellite = satellite_of(tmp_path / "satellite", relay)
        os.kill(satellite.pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            wait_for(lambda: [row["state"] for row in rows(relay)] == ["silent"], "it is called silent", 30)
            assert rows(relay)[0]["silent"] >= 5
            assert time.monotonic() - began < 19
            wait_for(lambda: [row["state"] for row in away(relay)] == ["away"], "it is away", 30)
            assert away(relay)[0]["silent"] >= 10, "it was heard of last before that was noticed"
        finally:
            os.kill(satellite.pid, signal.SIGCONT)
            satellite.kill()
