"""co2-live.js under Node and in Chromium, and what docs/how-to/json.md shows of it."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PATIENCE, HostProcess, running, wait_for, write_plugin
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


class Way:
    """A way to a port of this machine that can be cut, for an ``async with``.

    Args:
        to: that port.
        tls: for https on this way; the port itself speaks http.

    Attributes:
        port: at which the way begins.
    """

    def __init__(self, to: int, tls: ssl.SSLContext | None = None) -> None:
        self._to = to
        self._tls = tls
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> "Way":
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """End all connections, and take no new one."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Take connections again."""
        self._is_cut = False

    async def _pass_on(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self._is_cut:
            to_client.transport.abort()
            return
        from_host, to_host = await asyncio.open_connection("127.0.0.1", self._to)
        both = {to_client, to_host}
        self._writers |= both
        try:
            await asyncio.gather(_copy(from_client, to_host), _copy(from_host, to_client))
        finally:
            self._writers -= both


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def send(url: str, *messages: Any) -> None:
    """Send messages to a relay."""
    request = urllib.request.Request(
        f"{url}/api/send", json.dumps(messages).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200


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


@has_node
def test_what_it_does_after_a_lost_connection() -> None:
    assert re.fullmatch(r"\d\d cases\n", node(CLIENTS / "live_history.mjs", MODULE))


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


MISSES_NOTHING = """
import WebSocket from "ws";
import { Co2Live } from "./co2-live.js";
const live = new Co2Live({ url: process.argv[2], WebSocket });
live.on("a.>", (message) => console.log(message.channel, message.data));
live.when("open", () => live.call("ping").then(() => console.log("open")));
live.when("close", () => console.log("close"));
live.when("gap", (gap) => console.log("gap", gap.reason));
process.stdin.on("end", () => live.close());
process.stdin.resume();
"""


@contextlib.asynccontextmanager
async def lines_of(*command: str) -> AsyncIterator[Callable[[int], Awaitable[list[str]]]]:
    """Run a program, and give a function that waits for so many lines of it."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin
    out = process.stdout
    assert out is not None

    async def lines(count: int) -> list[str]:
        async with asyncio.timeout(PATIENCE):
            return [(await out.readline()).decode().rstrip() for _ in range(count)]

    try:
        yield lines
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert await out.read() == b"close\n", "nothing came twice"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@has_node
@has_ws
def test_what_came_while_it_was_away_comes_when_it_is_back(relay: HostProcess, folder: Path) -> None:
    (folder / "misses.js").write_text(MISSES_NOTHING)

    async def test() -> None:
        async with (
            Way(relay.port) as way,
            lines_of("node", str(folder / "misses.js"), f"http://127.0.0.1:{way.port}") as lines,
        ):
            assert await lines(1) == ["open"]
            number = 0
            for _ in range(3):
                some = [{"channel": "a.b", "data": number + one} for one in range(3)]
                await asyncio.to_thread(send, relay.url, some[0])
                assert await lines(1) == [f"a.b {number}"]
                way.cut()
                assert await lines(1) == ["close"]
                await asyncio.to_thread(send, relay.url, some[1], {"channel": "b", "data": "?"}, some[2])
                way.mend()
                assert sorted(await lines(3)) == [f"a.b {number + 1}", f"a.b {number + 2}", "open"]
                number += 3

    asyncio.run(test())


@has_node
@has_ws
def test_no_message_of_a_stream_is_missing_or_twice_however_often_the_connection_is_lost(
    relay: HostProcess, folder: Path
) -> None:
    (folder / "misses.js").write_text(MISSES_NOTHING)
    each, cuts = 500, 5

    async def stream(start: int) -> None:
        for number in range(start, start + each, 10):
            some = [{"channel": "a.n", "data": number + one} for one in range(10)]
            await asyncio.to_thread(send, relay.url, *some)

    async def test() -> None:
        async with (
            Way(relay.port) as way,
            lines_of("node", str(folder / "misses.js"), f"http://127.0.0.1:{way.port}") as lines,
        ):
            assert await lines(1) == ["open"]
            numbers: list[int] = []
            for cut in range(cuts):
                streaming = asyncio.ensure_future(stream(cut * each))
                others: list[str] = []
                while len(numbers) < (cut + 1) * each or len(others) < 2:
                    (line,) = await lines(1)
                    if not line.startswith("a.n "):
                        others.append(line)
                        way.mend()
                        continue
                    numbers.append(int(line.split()[1]))
                    if len(numbers) == cut * each + 100:
                        way.cut()
                assert others == ["close", "open"]
                await streaming
            assert numbers == [*range(cuts * each)]

    asyncio.run(test())


@has_chromium
def test_a_web_page_gets_what_came_while_it_was_away(relay: HostProcess, tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            Way(relay.port) as way,
            page_at(tmp_path, f"http://127.0.0.1:{way.port}/", block("html", "Co2Live")) as page,
        ):
            await page.run(
                "import('/static/co2-live.js').then(({ Co2Live }) => { window.seen = [];"
                " window.other = new Co2Live(); other.on('stage.cue', (message) => seen.push(message.data));"
                " return other.call('ping') })"
            )
            async with asyncio.timeout(PATIENCE):
                while await page.run("fader.value") != "0.9":  # its own connection may be a moment later
                    await asyncio.to_thread(send, relay.url, {"channel": "stage.fader1", "data": 0.9})
                    await asyncio.sleep(0.05)
            for number in (1, 4):
                await asyncio.to_thread(send, relay.url, {"channel": "stage.cue", "data": number})
                await page.until(f"seen.at(-1) === {number}")
                way.cut()
                await page.until("!other.isOpen")
                away = [{"channel": "stage.cue", "data": number + 1}, {"channel": "stage.cue", "data": number + 2}]
                await asyncio.to_thread(send, relay.url, *away, {"channel": "stage.fader1", "data": number / 10})
                way.mend()
                await page.until(f"seen.at(-1) === {number + 2} && fader.value === '{number / 10}'")
            assert await page.run("seen") == [1, 2, 3, 4, 5, 6]

    asyncio.run(test())


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


async def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """Return what a server of that name needs for https."""
    key, public = folder / "key.pem", folder / "certificate.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {key} -out {public}"
    done = await asyncio.to_thread(subprocess.run, command.split(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, key)
    return context


@has_chromium
@needs(shutil.which("openssl"), "no openssl here: tools/install-clients.sh")
def test_a_web_page_over_https_behind_a_proxy(tmp_path: Path) -> None:
    name = "stage.example"

    async def test(relay: HostProcess) -> None:
        flags = (f"--host-resolver-rules=MAP {name} 127.0.0.1", "--ignore-certificate-errors")
        async with (
            Way(relay.port, await certificate(tmp_path, name)) as way,
            page_at(tmp_path, f"https://{name}:{way.port}/", block("html", "Co2Live"), *flags) as page,
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
