"""The packages of a host at its start: what is not loaded, or not used, is in its log with what to do."""

import asyncio
import logging
from pathlib import Path

import pytest

from co2.config import RelayConfig
from co2.plugin.parent.supervisor import Supervisor
from co2.server.admin.host_plugins import HostPlugins
from co2.xmlrpc.registry import Registry
from tests.plugin.support import ADDRESS, HOST_ID

LOGGER = logging.getLogger("co2.relay")


class Plugins(HostPlugins):
    """Those of a role whose messages nobody wants."""

    def __init__(self, config: RelayConfig, state: Path) -> None:
        self.registry = Registry()
        super().__init__(config, state, self.registry, LOGGER)
        self._carry_with(
            Supervisor(
                self._specs, settings=config, var_dict={}, host_id=lambda: HOST_ID, address=lambda: ADDRESS,
                on_publish=lambda *_: None, flushed=lambda _: asyncio.sleep(0),
                on_methods_changed=self._methods_changed,
            )
        )  # fmt: skip


async def start_and_stop(plugins: Plugins) -> None:
    await plugins.start(2003)
    await plugins.stop()


def test_a_start_says_which_packages_are_not_loaded_and_which_tables_are_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "co2.toml"
    file.write_text("[plugin.spam]\nport = 9\n[limits.eggs]\nmemory = 100\n", encoding="utf-8")
    config = RelayConfig(
        role="relay", plugin_dir=tmp_path, plugin_dir_from="--plugin-dir", plugin_list=("missing",),
        config_file=file,
        plugin_config={"spam": {"port": 9}}, plugin_limits={"eggs": {"memory": 100}},
    )  # fmt: skip
    plugins = Plugins(config, tmp_path / "state")
    asyncio.run(start_and_stop(plugins))
    lines = [
        f"{record.levelname} {record.getMessage()}" for record in caplog.records if record.name == LOGGER.name
    ]
    assert [line.split(":")[0] for line in lines] == [
        "ERROR plugin package missing is not loaded",
        f"WARNING {file}",
        f"WARNING {file}",
    ]
    assert "[plugin.spam] is not used" in lines[1]
    assert "[limits.eggs] is not used" in lines[2]
    [row] = plugins.status()
    assert (row.name, row.state, row.last_error != "") == ("missing", "failed", True)


def test_a_package_is_loaded_keeps_its_values_in_the_state_folder_and_has_its_methods_at_the_host(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "plugins" / "ham"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "spam.py").write_text(
        "from co2 import plugin\n\n\n"
        "class X_Spam(plugin.Co2Plugin):\n"
        "    def __init__(self, *args):\n"
        "        super().__init__(*args)\n"
        "        self.store['began'] = 1\n\n"
        "    def x_go(self, data_dict):\n"
        "        pass\n",
        encoding="utf-8",
    )
    state = tmp_path / "state"
    (state / "stores").mkdir(parents=True, mode=0o700)
    config = RelayConfig(
        role="relay", plugin_dir=folder.parent, plugin_dir_from="--plugin-dir", plugin_list=("ham",)
    )
    plugins = Plugins(config, state)
    seen: list[object] = []

    async def look() -> None:
        await plugins.start(2003)
        seen.extend([(row.name, row.state) for row in plugins.status()])
        seen.append("ham.spam.go" in plugins.registry.names())
        await plugins.stop()

    asyncio.run(look())
    assert seen == [("ham", "running"), True]
    assert (state / "stores" / "ham.db").exists()


def test_with_watch_a_changed_file_is_loaded_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "plugins" / "ham"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    spam = folder / "spam.py"
    code = "from co2 import plugin\n\n\nclass X_Spam(plugin.Co2Plugin):\n    def x_one(self, data_dict): ...\n"
    spam.write_text(code, encoding="utf-8")
    (tmp_path / "state" / "stores").mkdir(parents=True, mode=0o700)
    config = RelayConfig(
        role="relay", plugin_dir=folder.parent, plugin_dir_from="--plugin-dir", plugin_list=("ham",), watch=True
    )
    plugins = Plugins(config, tmp_path / "state")

    async def change() -> None:
        await plugins.start(2003)
        try:
            async with asyncio.timeout(30):
                while "ham.spam.two" not in plugins.registry.names():
                    # Again and again: the watch may not have looked at the folder yet.
                    spam.write_text(code.replace("x_one", "x_two"), encoding="utf-8")
                    await asyncio.sleep(0.1)
        finally:
            await plugins.stop()

    asyncio.run(change())
    assert "ham.spam.one" not in plugins.registry.names()
