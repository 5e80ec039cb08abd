"""What a person at the terminal is told: that it works, not only that it does not; and who is told how much."""

import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

from co2.testing.processes import Proxy
from tests.cli.network import Network, co2
from tests.harness import RECORDER, HostProcess, running, wait_for, write_plugin

BROKEN = "import nosuchmodule\n" + RECORDER
WORSE = RECORDER.replace("def receive(self, data_dict):", "def receive(self, data_dict:")
RAISES = """
from co2 import plugin

class X_Raises(plugin.Co2Plugin):
    def receive(self, data_dict):
        secret_source = open("/nosuch/folder/file")
"""


def test_a_start_says_which_packages_run_and_that_the_link_is_there(tmp_path: Path) -> None:
    write_plugin(tmp_path / "satellite", "ham", mod=RECORDER)
    write_plugin(tmp_path / "satellite", "eggs", mod=RECORDER)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "satellite", "satellite", "--relay", relay.url) as satellite,
    ):
        wait_for(lambda: "linked to" in satellite.stderr, "it says so")
        for name in ("ham", "eggs"):
            assert f"co2.plugins.{name}: loaded: {name}.mod.X_Recorder (load 1, code " in satellite.stderr
        linked = rf"linked to {relay.host_id} at {relay.url} as [a-z0-9-]+ \({satellite.host_id}\)"
        assert re.search(linked, satellite.stderr)
        assert satellite.stdout.count("\n") == 1, "programs read one line there"


def test_a_package_that_does_not_run_is_told_once_before_ready_with_what_to_type(tmp_path: Path) -> None:
    write_plugin(tmp_path / "satellite", "ham", mod=BROKEN)
    with running(tmp_path / "satellite", "satellite", "--relay", "http://127.0.0.1:1") as satellite:
        told = satellite.stderr
        assert told.count("No module named 'nosuchmodule'") == 1
        assert "Traceback" not in told
        assert "mod.py:1: " in told
        assert f"ham does not run (failed); fix it, then: co2 plugin reload ham --url {satellite.url}\n" in told
        assert "Traceback" in satellite.log(), "the whole of it is in the log"
        with urllib.request.urlopen(f"{satellite.url}/healthz", timeout=10) as answer:
            assert answer.status == 200
        problems = json.loads(readyz(satellite))["problems"]
        [problem] = [problem for problem in problems if "ham" in problem]
        assert problem.startswith("plugin package ham is not loaded: mod.py:1: ")


def readyz(host: HostProcess) -> bytes:
    try:
        with urllib.request.urlopen(f"{host.url}/readyz", timeout=10) as answer:
            return answer.read()  # type: ignore[no-any-return]
    except urllib.error.HTTPError as error:
        with error:
            return error.read()


def test_new_code_is_told_when_it_runs_and_when_not(tmp_path: Path) -> None:
    folder = tmp_path / "satellite"
    write_plugin(folder, "ham", mod=RECORDER)
    with running(folder, "satellite", "--watch", "--relay", "http://127.0.0.1:1") as satellite:
        write_plugin(folder, "ham", mod=RECORDER + "# new\n")
        wait_for(lambda: "reloaded: ham.mod.X_Recorder (load 2, code " in satellite.stderr, "it says so")
        write_plugin(folder, "ham", mod=WORSE)
        wait_for(lambda: "is not reloaded" in satellite.stderr, "it says so")
        assert "^" in satellite.stderr, "a wrong line is shown"
        assert "; load 2, code " in satellite.stderr
        with satellite.proxy() as proxy:
            assert package_of(proxy)["refused"] is True
            write_plugin(folder, "ham", mod=RECORDER + "# new\n")  # undone in the editor
            wait_for(
                lambda: "the folder has the running code again: ham.mod.X_Recorder (load 2" in satellite.stderr,
                "that is told",
            )
            row = package_of(proxy)
            assert (row["refused"], row["load"], row["last_error"]) == (False, 2, "")
            write_plugin(folder, "ham", mod=WORSE)
            wait_for(lambda: satellite.stderr.count("is not reloaded") == 2, "the same mistake is told again")


def package_of(proxy: Proxy) -> dict[str, Any]:
    [row] = proxy.co2.get_properties()["plugins"]
    return row  # type: ignore[no-any-return]


def test_a_goodbye_after_the_relay_waits_for_nothing_and_is_nobody_s_news(tmp_path: Path) -> None:
    (tmp_path / "satellite").mkdir()
    with running(tmp_path / "relay", "relay") as relay:
        satellite = HostProcess(tmp_path / "satellite", "satellite", "--relay", relay.url, "--plugin", "example")
        with relay.proxy() as proxy, satellite.proxy() as own:
            wait_for(
                lambda: proxy.co2.get_properties()["counters"]["on_disk"], "what it says at its start is on disk"
            )
            wait_for(lambda: own.co2.get_properties()["counters"]["waiting"] == 0, "it has heard so")
        port = relay.port
    try:
        wait_for(lambda: "no link to" in satellite.stderr, "it knows")
        # Only its goodbye could wait.
        assert satellite.stop() == 0
        assert "for the relay, until the next start" not in satellite.stderr
    finally:
        if satellite.process.poll() is None:
            satellite.kill()
    with running(tmp_path / "relay", "relay", "--port", str(port)) as relay, relay.proxy() as proxy:
        me = proxy.relay.register({})
        with running(tmp_path / "satellite", "satellite", "--relay", relay.url, "--plugin", "example"):
            found: list[str] = []
            deadline = time.monotonic() + 20
            while "hello" not in found and time.monotonic() < deadline:
                answer = proxy.relay.fetch({"host_id": me["host_id"], "after": 0, "wait": 5})
                found = [message["channel"] for message in answer["messages"]]
            assert "hello" in found
            assert "goodbye" not in found


def test_whole_errors_are_for_this_machine_only(tmp_path: Path, far_ip: str) -> None:
    folder = tmp_path / "satellite"
    write_plugin(folder, "ham", mod=RAISES)
    write_plugin(folder, "eggs", mod=BROKEN)
    with (
        running(tmp_path / "relay", "relay", "--bind", "0.0.0.0") as relay,
        running(
            folder, "satellite", "--relay", f"http://127.0.0.1:{relay.port}", "--bind", "0.0.0.0"
        ) as satellite,
    ):
        network = Network(relay, satellite, tmp_path)
        wait_for(lambda: "linked to" in satellite.log(), "it is linked")
        assert co2(network, "send", '{"data": 1}', "--relay", relay.url).returncode == 0
        near, far = f"http://127.0.0.1:{satellite.port}", f"http://{far_ip}:{satellite.port}"
        with Proxy(near) as here, Proxy(far) as there, Proxy(f"http://127.0.0.1:{relay.port}") as through:
            wait_for(lambda: here.co2.plugin.get_dead_letters(), "the letter is there")
            passed_on = {"method_name": "co2.get_properties", "host_id": satellite.host_id, "data": None}
            places = (here.co2.get_properties(), there.co2.get_properties(), through.method_call(passed_on))
            whole, *others = ({row["name"]: row["last_error"] for row in told["plugins"]} for told in places)
            assert str(folder) in whole["eggs"]
            for told in others:
                assert "mod.py:1: 'mod' cannot be imported: ModuleNotFoundError" in told["eggs"]
                assert str(folder) not in str(told)
                assert "\n" not in "".join(told.values())
            [letter] = there.co2.plugin.get_dead_letters()
            assert "FileNotFoundError" in letter["reason"]
            assert str(folder) not in letter["reason"]
        pages = {url: page(url) for url in (near, far)}
        assert str(folder) in pages[near]
        assert str(folder) not in pages[far]
        assert "ModuleNotFoundError" in pages[far]
        assert "co2 plugin logs eggs --url http://127.0.0.1:" in pages[far]
        assert str(folder).encode() not in readyz(satellite)


def page(url: str) -> str:
    with urllib.request.urlopen(f"{url}/plugins", timeout=10) as answer:
        return str(answer.read().decode())
