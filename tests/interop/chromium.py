"""A page in Chromium, as far as a test needs it: over the DevTools protocol, without a library."""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

__all__ = ["CHROMIUM", "Page", "page_at"]

CHROMIUM = os.environ.get("CO2_TEST_CHROMIUM") or shutil.which("chromium")
"""The program; None where there is none."""

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
)


class Page:
    """One page.

    Args:
        socket: to the browser's page.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.ensure_future(self._read())

    async def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Tell the browser to do something."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await self._waiting[number]
        assert "error" not in answer, answer
        return dict(answer["result"])

    async def run(self, script: str) -> Any:
        """Run a script in the page, await what it returns, and return that."""
        answer = await self.do("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until a script returns something that is true."""
        async with asyncio.timeout(20):
            while not (found := await self.run(script)):
                await asyncio.sleep(0.05)
        return found

    async def _read(self) -> None:
        async for got in self._socket:
            told = got.json()
            if "id" in told:
                self._waiting.pop(told["id"]).set_result(told)

    def close(self) -> None:
        """Read no more."""
        self._reading.cancel()


@contextlib.asynccontextmanager
async def page_at(folder: Path, url: str, html: str | None, *flags: str) -> AsyncIterator[Page]:
    """Open a page of a host, as it is or with another content.

    Args:
        folder: for the browser's files.
        url: of the page.
        html: its content; None for its own.
        flags: further ones of the browser.
    """
    assert CHROMIUM
    # It leaves files behind in its folder for them, whose name must be short: there is a socket's among them.
    temporary = tempfile.mkdtemp(prefix="co2-chromium-")
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *_FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder), "TMPDIR": temporary},
        start_new_session=True,
    )
    try:
        told = folder / "profile" / "DevToolsActivePort"
        async with asyncio.timeout(60):
            while not (told.exists() and told.read_text().count("\n")):
                assert process.returncode is None, f"chromium has ended with {process.returncode}"
                await asyncio.sleep(0.05)
        port = told.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                target = next(one for one in await answer.json() if one["type"] == "page")
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                if html is not None:
                    # The page of a host, whose policy allows no script, with another content.
                    await page.do("Page.setBypassCSP", enabled=True)
                await page.do("Page.navigate", url=url)
                await page.until(f"location.href === {url!r} && document.readyState === 'complete'")
                if html is not None:
                    frame = (await page.do("Page.getFrameTree"))["frameTree"]["frame"]["id"]
                    await page.do("Page.setDocumentContent", frameId=frame, html=html)
                    await page.until("document.readyState === 'complete'")
                yield page
                page.close()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        shutil.rmtree(temporary, ignore_errors=True)
