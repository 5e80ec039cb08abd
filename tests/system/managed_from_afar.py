"""``python -m tests.system.managed_from_afar FOLDER``: a relay here controls a satellite on another machine.

The satellite listens on 127.0.0.1 only. To be run in a network of its own; it prints what it saw.
"""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.harness import HostProcess, running, wait_for, write_plugin
from tests.system.other_network import HERE, OTHER, OtherNetwork, other_network

__all__ = ["GET", "HAM"]

GET = """
import sys, urllib.error, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=30) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""

HAM = '''
from co2 import plugin

class X_Ham(plugin.Co2Plugin):
    """Takes no eggs."""

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.log("this is code {}")

    def receive(self, data_dict):
        if data_dict["data"] == "eggs" and {} < 2:
            raise ValueError("no eggs: a secret of " + __file__)
'''


def run(folder: Path, *command: str) -> dict[str, Any]:
    """Run a command; return its exit code and what it said."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CO2_")}
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**clean, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return {"code": ended.returncode, "out": ended.stdout, "err": ended.stderr}


def answers(port: int) -> bool:
    """Return whether the satellite's own port can be reached from here."""
    try:
        socket.create_connection((OTHER, port), 5).close()
    except OSError:
        return False
    return True


def scenario(folder: Path, there: OtherNetwork) -> dict[str, Any]:
    """Read and control the satellite; return what was seen."""
    at, seen = folder / "satellite", {}
    write_plugin(at, "ham", spam=HAM.format(1, 1))
    with running(folder / "relay", "relay", "--bind", "0.0.0.0") as relay:
        url = f"http://{HERE}:{relay.port}"
        with running(at, "satellite", "--relay", url, "--name", "foyer-pi", program=there.co2) as satellite:
            wait_for(lambda: "linked to" in satellite.log(), "it is linked")
            seen["host"] = name = satellite.host_id.partition("@")[0]
            seen["its port answers"] = answers(satellite.port)
            local = ("--url", f"http://127.0.0.1:{relay.port}")

            def here(*command: str) -> dict[str, Any]:
                return run(folder, sys.executable, "-m", "co2", *command, "--host", name[:8], *local)

            def from_there(*command: str, at_url: str = url) -> dict[str, Any]:
                return run(folder, *there.co2, *command, "--host", name, "--url", at_url)

            send = ("send", '{"data": "eggs"}', *local)
            assert run(folder, sys.executable, "-m", "co2", *send)["code"] == 0
            wait_for(lambda: kept(relay, satellite) == 1, "a dead letter")
            seen["ls"] = here("plugin", "ls")
            seen["letters"] = here("dead-letters", "--json")
            seen["refused"] = from_there("plugin", "reload", "ham")
            seen["at the satellite"] = from_there(
                "plugin", "reload", "ham", at_url=f"http://127.0.0.1:{satellite.port}"
            )
            write_plugin(at, "ham", spam=HAM.format(2, 2))
            seen["reload"] = here("plugin", "reload", "ham")
            seen["logs"] = here("plugin", "logs", "ham")
            letter = str(json.loads(seen["letters"]["out"])[0]["id"])
            seen["repeat"] = here("dead-letters", "--repeat", letter)
            seen["again"] = here("dead-letters", "--repeat", letter)
            seen["drop"] = here("dead-letters", "--drop-up-to", letter)
            seen["none"] = here("plugin", "reload", "spam")
            seen["pages"] = pages(relay.port, name)
            seen["page there"] = run(folder, *there.enter, sys.executable, "-c", GET, f"{url}/satellites/{name}/")
            seen["list there"] = run(folder, *there.enter, sys.executable, "-c", GET, f"{url}/satellites")
            seen["relay's log"], seen["satellite's log"] = relay.log(), satellite.log()
    return seen


def pages(port: int, name: str) -> dict[str, list[Any]]:
    """Open the pages of the satellite at the relay, and press a button; return status and text of each."""
    origin = f"http://127.0.0.1:{port}"

    def get(path: str, method: str = "GET", headers: Mapping[str, str] = MappingProxyType({})) -> list[Any]:
        asked = urllib.request.Request(f"{origin}{path}", method=method, headers=dict(headers))
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return [answer.status, answer.read().decode()]
        except urllib.error.HTTPError as error:
            with error:
                return [error.code, error.read().decode()]

    base = f"/satellites/{name}"
    return {
        "list": get("/satellites"),
        "packages": get(f"{base}/"),
        "log": get(f"{base}/log?package=ham"),
        "letters": get(f"{base}/letters?package=ham"),
        "forged": get(f"{base}/reload?package=ham", "POST", {"Origin": "http://evil.example"}),
        "pressed": get(f"{base}/reload?package=ham", "POST", {"Origin": origin}),
        "unknown": get("/satellites/nobody/"),
    }


def kept(relay: HostProcess, satellite: HostProcess) -> int:
    """Return how many dead letters the satellite has."""
    with relay.proxy() as proxy:
        (row,) = proxy.relay.get_satellites({})
        asked = {"method_name": "co2.get_properties", "host_id": row["host_id"]}
        return int(proxy.method_call(asked)["counters"]["dead_letters_kept"])


def main(folder: Path) -> None:
    """Run the scenario."""
    with other_network() as there:
        print(json.dumps(scenario(folder, there)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
