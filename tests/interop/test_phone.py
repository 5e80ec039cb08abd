"""A slider in a phone's browser moves something in a plugin: page, plugin and commands are those of the how-to."""

import asyncio
import re
from pathlib import Path

from tests.harness import running, wait_for
from tests.interop.chromium import CHROMIUM, page_at
from tests.needs import needs

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "phone.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    """Return the first block of code of a kind in the page."""
    found = re.search(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@needs(CHROMIUM, "no chromium here: tools/install-clients.sh")
def test_the_slider_moves_the_lamp_and_follows_what_others_send(tmp_path: Path) -> None:
    pages = tmp_path / "relay" / "pages"
    pages.mkdir(parents=True)
    (pages / "faders.html").write_text(block("html"), encoding="utf-8")
    plugins = tmp_path / "satellite" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "lamp.py").write_text(block("python"), encoding="utf-8")
    with (
        running(tmp_path / "relay", "relay", "--pages", "./pages") as relay,
        running(tmp_path / "satellite", "satellite", "--relay", relay.url) as satellite,
    ):

        def logged() -> list[str]:
            rows = satellite.call("co2.plugin.get_log", "lamp")
            return [row["text"] for row in rows]

        with relay.proxy() as network:
            network.relay.relay({"channel": "stage.fader1", "data": 0.1})

        async def move() -> None:
            async with page_at(tmp_path / "phone", f"{relay.url}/pages/faders.html", None) as page:
                await page.until("document.getElementById('state').textContent === 'connected'")
                await page.until("fader.valueAsNumber === 0.1")
                for value in (0.25, 0.75):
                    await page.run(
                        f"fader.value = {value}; fader.dispatchEvent(new Event('input', {{bubbles: true}}))"
                    )
                await asyncio.to_thread(
                    wait_for,
                    lambda: logged()[-2:] == ["the lamp is at 0.25", "the lamp is at 0.75"],
                    "both values",
                )
                with relay.proxy() as network:
                    network.relay.relay({"channel": "stage.fader1", "data": 0.5})
                await page.until("fader.valueAsNumber === 0.5")

        (tmp_path / "phone").mkdir()
        asyncio.run(move())
