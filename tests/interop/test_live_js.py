"""co2-live.js under Node and in Chromium, and what docs/how-to/json.md shows of it."""

import asyncio
import contextlib
import os
import re
import shutil
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import HostProcess, running, wait_for, write_plugin
from tests.interop.chromium import CHROMIUM, page_at
from tests.needs import needs

ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "clients"
MODULE = ROOT / "src/co2/web/static/co2-live.js"
VECTORS = ROOT / "tests/vectors/live"
PAGE = (ROOT / "docs/how-to/json.md").read_text()
NODE = Path(os.environ.get("CO2_TEST_NODE", Path(__file__).parent / ".node"))

has_node = needs(shutil.which("node"), "no node here")
has_ws = needs((NODE / "node_modules" / "ws").is_dir(), "no package ws here: tools/install-clients.sh")
has_chromium = needs(CHROMIUM, "no chromium here: tools/install-clients.sh")


def block(language: str, word: str) -> str:
    """Return the block of the page that has a word in it."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)
    return next(one for one in found if word in one)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    base = tmp_path_factory.mktemp("live-js")
    write_plugin(base / "satellite", "ham", spam=block("python", "X_Spam"))
    with (
        running(base / "relay", "relay") as relay,
        running(base / "satellite", "satellite", "--relay", relay.url),
        relay.proxy() as proxy,
    ):
        rows: Any = proxy.relay.get_satellites
        wait_for(lambda: any("ham.spam.add" in row["methods"] for row in rows({})), "the plugin is known")
        yield relay


@pytest.fixture
def folder(tmp_path: Path, relay: HostProcess) -> Path:
    """A folder with the module, as a host serves it, and the package ws."""
    with urllib.request.urlopen(f"{relay.url}/static/co2-live.js", timeout=20) as answer:
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
        (tmp_path / "co2-live.js").write_bytes(answer.read())
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to((NODE / "node_modules").resolve())
    return tmp_path


def node(*args: object, timeout: float = 60) -> str:
    done = subprocess.run(["node", *map(str, args)], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@has_node
def test_golden_vectors() -> None:
    assert re.fullmatch(r"\d\d vectors\n", node(CLIENTS / "live_vectors.mjs", MODULE, VECTORS))


@has_node
@has_ws
def test_the_program_of_the_page(relay: HostProcess, folder: Path) -> None:
    (folder / "member.js").write_text(block("js", "Co2Live"))
    lines = node(folder / "member.js", relay.url).splitlines()
    assert lines[0] == "sum 42"
    assert sorted(lines[1:]) == [
        "error -32601",
        "got stage.fader1 Uint8Array(3) [ 104, 97, 109 ]",
        "got stage.meter 0.7",
    ]


COMES_BACK = """
import WebSocket from "ws";
import { Co2Live } from "./co2-live.js";
const live = new Co2Live({ url: process.argv[2], WebSocket });
live.on("a", (message) => console.log("got", message.data));
live.when("open", (hello) => console.log("open", hello.position));
live.when("close", () => console.log("close"));
process.stdin.on("data", () => live.send({ channel: "a", data: 1 }).then(() => console.log("sent")));
process.stdin.on("end", () => live.close());
"""


@has_node
@has_ws
def test_it_comes_back_to_a_relay_that_was_away(folder: Path) -> None:
    (folder / "back.js").write_text(COMES_BACK)
    lines: list[str] = []
    with running(folder / "relay", "relay") as first:
        port = str(first.port)
        process = subprocess.Popen(
            ["node", str(folder / "back.js"), first.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin
        assert process.stdout
        reader = threading.Thread(target=lambda out: lines.extend(iter(out.readline, "")), args=(process.stdout,))
        reader.start()
        try:
            wait_for(lambda: len(lines) == 1, "a connection")
            process.stdin.write("x")
            process.stdin.flush()
            wait_for(lambda: len(lines) == 3, "a message")
            assert first.stop() == 0
            wait_for(lambda: len(lines) == 4, "the end of the connection")
            process.stdin.write("x")  # it waits for the next connection
            process.stdin.flush()
            with running(folder / "relay", "relay", "--port", port):
                wait_for(lambda: len(lines) == 7, "the message after the relay's return")
            process.stdin.close()
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait(20)
            reader.join(10)
            process.stdout.close()
            if not process.stdin.closed:
                process.stdin.close()
    told = [line.split()[0] for line in lines]
    assert told[0] == "open"
    assert sorted(told[1:3]) == ["got", "sent"]
    assert told[3:5] == ["close", "open"]
    assert sorted(told[5:7]) == ["got", "sent"]


@has_chromium
def test_the_web_page_of_the_page(relay: HostProcess, tmp_path: Path) -> None:
    async def test() -> None:
        async with page_at(tmp_path, f"{relay.url}/", block("html", "Co2Live")) as page:
            imported = "import('/static/co2-live.js')"
            # Another client on the same page sees what the fader sends, and moves it.
            await page.run(
                f"{imported}.then(({{ Co2Live }}) => {{ window.seen = []; window.other = new Co2Live();"
                " other.on('stage.>', (message) => seen.push(message.data));"
                " return other.call('ping') })"
            )
            await page.run("fader.focus(); fader.value = 0.25; fader.dispatchEvent(new Event('input')); 1")
            await page.until("seen.includes(0.25)")
            await page.run("fader.blur(); other.send({ channel: 'stage.fader1', data: 0.75 })")
            await page.until("fader.value === '0.75'")
            hosts = await page.run("fetch('/api/hosts').then((answer) => answer.json())")
            assert hosts["relay"] == relay.host_id
            posted = await page.run(
                "fetch('/api/call/ham.spam.add', { method: 'POST', body: '[40, 2]',"
                " headers: { 'Content-Type': 'application/json' } }).then((answer) => answer.json())"
            )
            assert posted == {"result": 42}

    asyncio.run(test())


@has_chromium
def test_a_web_page_of_another_site_gets_nothing(relay: HostProcess, tmp_path: Path) -> None:
    async def test(other: HostProcess) -> None:
        async with page_at(tmp_path, f"{other.url}/", "<title>evil</title>") as page:
            sent = (
                f"fetch('{relay.url}/api/send', {{ method: 'POST', mode: MODE, body: '{{\"channel\":\"evil\","
                "\"data\":1}', headers: { 'Content-Type': KIND } }).then((answer) => answer.type, () => 'refused')"
            )
            assert (
                await page.run(sent.replace("MODE", "'cors'").replace("KIND", "'application/json'")) == "refused"
            )
            # A request that needs no consent is sent; the relay refuses it, and the page does not see its answer.
            assert await page.run(sent.replace("MODE", "'no-cors'").replace("KIND", "'text/plain'")) == "refused"
            read = f"fetch('{relay.url}/api/log').then(() => 'read', () => 'refused')"
            assert await page.run(read) == "refused"
            opened = (
                f"new Promise((done) => {{ const socket = new WebSocket('{relay.url.replace('http', 'ws')}/live',"
                " 'co2.live.1'); socket.onopen = () => done('open'); socket.onerror = () => done('refused') })"
            )
            assert await page.run(opened) == "refused"
        with urllib.request.urlopen(f"{relay.url}/api/log?channel=evil", timeout=20) as log:
            assert log.read() == b""

    with running(tmp_path / "other", "relay") as other:
        asyncio.run(test(other))


async def pass_on(
    from_client: asyncio.StreamReader,
    to_client: asyncio.StreamWriter,
    port: int,
    writers: list[asyncio.StreamWriter],
) -> None:
    """Connect a client with a port of this machine, as a proxy does that only decrypts."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    from_host, to_host = await asyncio.open_connection("127.0.0.1", port)
    writers += [to_client, to_host]
    await asyncio.gather(copy(from_client, to_host), copy(from_host, to_client))


@contextlib.asynccontextmanager
async def https(folder: Path, name: str, port: int) -> AsyncIterator[int]:
    """A proxy with https in front of a port of this machine; the port of the proxy."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {key} -out {certificate}"
    )
    done = await asyncio.to_thread(subprocess.run, command.split(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(
        lambda reader, writer: pass_on(reader, writer, port, writers), "127.0.0.1", 0, ssl=context
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


@has_chromium
@needs(shutil.which("openssl"), "no openssl here: tools/install-clients.sh")
def test_a_web_page_over_https_behind_a_proxy(tmp_path: Path) -> None:
    name = "stage.example"

    async def test(relay: HostProcess) -> None:
        flags = (f"--host-resolver-rules=MAP {name} 127.0.0.1", "--ignore-certificate-errors")
        async with (
            https(tmp_path, name, relay.port) as port,
            page_at(tmp_path, f"https://{name}:{port}/", block("html", "Co2Live"), *flags) as page,
        ):
            await page.run(
                "import('/static/co2-live.js').then(({ Co2Live }) => { window.seen = [];"
                " window.other = new Co2Live(); other.on('stage.>', (message) => seen.push(message.data));"
                " return other.call('ping') })"
            )
            await page.run("fader.focus(); fader.value = 0.25; fader.dispatchEvent(new Event('input')); 1")
            await page.until("seen.includes(0.25)")
            posted = await page.run(
                "fetch('/api/call/ping', { method: 'POST', headers: { 'Content-Type': 'application/json' } })"
                ".then((answer) => answer.json())"
            )
            assert posted == {"result": True}

    (tmp_path / "relay").mkdir()
    (tmp_path / "relay" / "co2.toml").write_text(f'[relay]\nallowed_hosts = ["{name}"]\n')
    with running(tmp_path / "relay", "relay") as relay:
        asyncio.run(test(relay))
