"""The flow of docs/how-to/json.md in a real Node-RED, which is used through what its editor uses."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.harness import PATIENCE, HostProcess, running, wait_for, write_plugin
from tests.needs import needs

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("CO2_TEST_NODE_RED", Path(__file__).parent / ".node-red"))
RED = FOLDER / "node_modules" / "node-red" / "red.js"
PAGE = (ROOT / "docs/how-to/json.md").read_text()

pytestmark = [
    needs(shutil.which("node"), "no node here"),
    needs(RED.is_file(), "no Node-RED here: tools/install-clients.sh"),
]

SETTINGS = """
module.exports = {
  uiHost: "127.0.0.1",
  flowFile: "flows.json",
  credentialSecret: false,
  telemetry: { enabled: false, updateNotification: false },
  externalModules: { palette: { allowInstall: false, allowUpdate: false }, modules: { allowInstall: false } },
};
"""


def block(language: str, word: str) -> str:
    """Return the block of the page that has a word in it."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)
    return next(one for one in found if word in one)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Editor:
    """What a user sees and does in the editor.

    Args:
        http: with the address of Node-RED.
        comms: the editor's WebSocket.
    """

    def __init__(self, http: aiohttp.ClientSession, comms: aiohttp.ClientWebSocketResponse) -> None:
        self._http = http
        self._comms = comms
        self._shown: list[tuple[str, Any]] = []

    async def deploy(self, flow: str) -> None:
        """Import a flow in place of all others, and press Deploy."""
        headers = {"Content-Type": "application/json"}
        async with self._http.post("/flows", data=flow, headers=headers) as answer:
            assert answer.status == 204, await answer.text()

    async def press(self, node: str) -> None:
        """Press the button of a node."""
        async with self._http.post(f"/inject/{node}") as answer:
            assert answer.status == 200, await answer.text()

    async def shown(self, name: str) -> Any:
        """Return the next thing that a debug node shows in the sidebar."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for index, (who, value) in enumerate(self._shown):
                    if who == name:
                        del self._shown[index]
                        return value
                for event in await self._comms.receive_json():
                    if event["topic"] == "debug" and "name" in event["data"]:
                        data = event["data"]
                        self._shown.append((data["name"], json.loads(data["msg"])))


@contextlib.asynccontextmanager
async def node_red(folder: Path) -> AsyncIterator[Editor]:
    folder.mkdir()
    (folder / "settings.js").write_text(SETTINGS)
    (folder / "package.json").write_text('{"name": "flows", "version": "0.0.1", "private": true}')
    port = free_port()
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            ["node", str(RED), "--userDir", str(folder), "--port", str(port)],
            stdout=output,
            stderr=output,
            env={**os.environ, "HOME": str(folder), "NO_UPDATE_NOTIFIER": "1"},
        )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            async with asyncio.timeout(2 * PATIENCE):
                while not await is_ready(http):
                    assert process.poll() is None, (folder / "output").read_text()
                    await asyncio.sleep(0.05)
            async with http.ws_connect("/comms") as comms:
                await comms.send_json({"subscribe": "#"})
                yield Editor(http, comms)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


async def is_ready(http: aiohttp.ClientSession) -> bool:
    try:
        async with http.get("/flows") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[HostProcess]:
    write_plugin(tmp_path / "satellite", "ham", spam=block("python", "X_Spam"))
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "satellite", "satellite", "--relay", relay.url),
        relay.proxy() as proxy,
    ):
        rows: Any = proxy.relay.get_satellites
        wait_for(lambda: any("ham.spam.add" in row["methods"] for row in rows({})), "the plugin is known")
        yield relay


def send(relay: HostProcess, message: Any) -> None:
    request = urllib.request.Request(
        f"{relay.url}/api/send", json.dumps(message).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200


def test_the_flow_of_the_page(relay: HostProcess, tmp_path: Path) -> None:
    async def test() -> None:
        async with node_red(tmp_path / "red") as editor:
            await editor.deploy(block("json", "websocket-client").replace("127.0.0.1:2003", relay.url[7:]))
            assert (await editor.shown("other frames")).keys() == {"result", "ref"}, "it wants messages"

            await editor.press("co2-fader")
            position = (await editor.shown("position"))["position"]
            got = await editor.shown("message")
            assert (got["channel"], got["data"], got["position"]) == ("stage.fader1", 0.5, position)

            await asyncio.to_thread(
                send, relay, [{"channel": "other", "data": 1}, {"channel": "stage.cue", "data": "go"}]
            )
            got = await editor.shown("message")
            assert (got["channel"], got["data"]) == ("stage.cue", "go")

            await editor.press("co2-live")
            got = await editor.shown("message")
            assert (got["channel"], got["data"], got["live"]) == ("stage.meter", 0.7, True)

            await editor.press("co2-add")
            assert await editor.shown("result") == {"result": 42}

            await editor.press("co2-now")
            values = (await editor.shown("last values"))["values"]
            assert {row["channel"]: row["message"]["data"] for row in values} == {
                "stage.fader1": 0.5,
                "stage.cue": "go",
            }

            # The relay goes, and comes back: Node-RED connects again, and wants messages again.
            port = str(relay.port)
            assert relay.stop() == 0
            with running(tmp_path / "relay", "relay", "--port", port) as again:
                assert (await editor.shown("other frames"))["ref"] == "want"
                await asyncio.to_thread(send, again, {"channel": "stage.cue", "data": "stop"})
                assert (await editor.shown("message"))["data"] == "stop"

    asyncio.run(test())
