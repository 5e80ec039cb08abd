"""Good, broken and crashing code in any order, under a stream of messages: each is done once, in order."""

import asyncio
import contextlib
import random
import textwrap
from pathlib import Path

import pytest

from co2.errors import LoadError
from tests.plugin.support import Settings, carrying, in_loop, write_package

CODE = """
    import os, threading, time
    class X_Spam(plugin.Co2Plugin):
        exclusive = {exclusive}
        def __init__(self, var_dict):
            super().__init__(var_dict)
            self.last = 0
            {init}
        def receive(self, data_dict):
            {receive}
            self.last = data_dict["data"]
            self.send({{"data": [{version}, data_dict["data"]]}})
        def x_version(self, data_dict):
            return {version}
        def handover(self):
            {handover}
            return self.last
        def takeover(self, value):
            {takeover}
            self.last = value
        def __exit__(self, *exc_info):
            {exit}
"""
FAULTS = [
    {},
    {},
    {},
    {"exclusive": "True"},
    {"exclusive": "True", "init": "1 / 0"},
    {"init": "1 / 0"},
    {"init": "os._exit(1)"},
    {"init": "time.sleep(9)"},
    {"init": "def x(:"},
    {"receive": "1 / 0"},
    {"receive": "os._exit(1)"},
    {"receive": "time.sleep(0.02)"},
    {"handover": "1 / 0"},
    {"takeover": "1 / 0"},
    {"takeover": "os._exit(1)"},
    {"exit": "1 / 0"},
    {"exit": "os._exit(1)"},
    {"exit": "time.sleep(9)"},
]
SETTINGS = Settings(load_timeout=1.0, exit_timeout=0.3)


def code(version: int, **faults: str) -> str:
    parts = dict.fromkeys(("init", "receive", "handover", "takeover", "exit"), "pass")
    return textwrap.dedent(CODE).format(**{"exclusive": "False", "version": version, **parts, **faults})


@pytest.mark.parametrize("seed", [1, 2])
@in_loop
async def test_any_code_after_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr("co2.plugin.parent.lifecycle.HANDOVER_TIMEOUT", 0.5)
    monkeypatch.setattr("co2.plugin.parent.lifecycle.TRIAL", 0.3)
    chance = random.Random(seed)
    async with carrying([write_package(tmp_path, "ham", spam=code(0))], SETTINGS) as carrier:
        sent = 0
        going = True

        async def feed() -> None:
            nonlocal sent
            while going:
                carrier.deliver(*range(sent + 1, sent + 6))
                sent += 5
                await asyncio.sleep(0.01)

        feeding = asyncio.create_task(feed())
        for version in range(1, 26):
            spec = write_package(tmp_path, "ham", spam=code(version, **chance.choice(FAULTS)))
            with contextlib.suppress(LoadError):
                await carrier.supervisor.reload(spec)
            await asyncio.sleep(chance.choice((0.0, 0.0, 0.4)))
        # Whatever has become of it: good code brings it back, and it goes on where it was.
        await carrier.supervisor.reload(write_package(tmp_path, "ham", spam=code(99)), fresh=True)
        going = False
        await feeding
        letters = len(carrier.letters)
        await carrier.until(lambda: carrier.status("ham").waiting == 0, "all is done")
        await carrier.until(lambda: len(carrier.published) + letters >= sent, "all of them")
        assert await carrier.call("ham.spam.version") == 99
        assert carrier.status("ham").dropped == 0
        done = [number for _, number in carrier.sent()]
        assert done == sorted(set(done)), "in order, and none twice"
        assert len(done) + len(carrier.letters) == sent
