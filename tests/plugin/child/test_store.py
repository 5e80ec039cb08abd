"""``self.store`` of plugins: what they find again after their plugin host has died."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from co2.errors import NotRunning
from co2.plugin.child.services import SharedServices
from tests.plugin.support import Settings, carrying, write_package

COUNTING = """
import os

class X_Count(plugin.Co2Plugin):
    def receive(self, data_dict):
        self.store["count"] = self.store.get("count", 0) + 1

    def x_count(self, data_dict):
        return self.store.get("count", 0)

    def x_die(self, data_dict):
        os._exit(3)

    def __exit__(self):
        self.store["exited"] = True

class X_Sibling(plugin.Co2Plugin):
    def x_all(self, data_dict):
        return dict(self.store)

    def x_refused(self, data_dict):
        try:
            self.store["k" * 300] = 1
        except plugin.errors.StoreLimit as error:
            return str(error)
"""


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_it_survives_deaths_and_restarts_and_siblings_share_it(tmp_path: Path, isolation: str) -> None:
    async def scenario() -> None:
        spec = write_package(tmp_path, "ham", spam=COUNTING)
        spec = replace(spec, store=tmp_path / "stores" / "ham.db")
        async with carrying([spec], Settings(isolation=isolation)) as it:
            it.deliver(1, 2, 3)
            await it.until(lambda: it.status("ham").received == 3)
            assert await it.call("ham.spam.all") == {"count": 3}
            assert "300 bytes; the limit is 256" in await it.call("ham.spam.refused")
            if isolation == "process":
                with pytest.raises(Exception, match="died"):
                    await it.call("ham.spam.die")
                await it.until(lambda: it.state("ham") == "running")
                assert await it.call("ham.spam.count") == 3
        async with carrying([spec], Settings(isolation=isolation)) as it:
            assert await it.call("ham.spam.all") == {"count": 3, "exited": True}

    asyncio.run(scenario())


def test_without_a_state_folder_there_is_none_and_it_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=COUNTING)]) as it:
            with pytest.raises(Exception, match="no state folder"):
                await it.call("ham.spam.count")

    asyncio.run(scenario())


def test_before_a_package_is_loaded_there_is_none_either() -> None:
    services = SharedServices(Mock())
    try:
        with pytest.raises(NotRunning, match="no state folder"):
            _ = services.store
    finally:
        services.close()


def test_who_does_not_use_it_does_not_pay_for_it() -> None:
    named = "('apsw', 'asyncio', 'packaging')"
    code = f"import sys, co2.plugin.child.host; print([n for n in sys.modules if n in {named}])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout.strip() == "[]"
