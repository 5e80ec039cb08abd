"""Which variables plugins get: what programs need to run, and what the configuration names."""

from pathlib import Path

import pytest

from co2.plugin.packages.environment import environment_of
from tests.harness import running, write_plugin

TELLS = """
import os
from co2 import plugin

class X_Tells(plugin.Co2Plugin):
    def x_names(self) -> list[str]:
        return sorted(os.environ)

    def x_read(self, name: str) -> str:
        return os.environ[name]
"""

USUAL = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "DISPLAY",
    "XDG_RUNTIME_DIR",
    "CO2_DEBUG",
)
SECRET = (
    *("AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "GITHUB_TOKEN", "SSH_AUTH_SOCK", "NOTIFY_SOCKET", "https_proxy"),
    *("CO2_TOKEN", "CO2_INVITE", "CREDENTIALS_DIRECTORY"),
)


def test_what_programs_need_is_passed_on_and_nothing_else() -> None:
    environ = dict.fromkeys((*USUAL, *SECRET), "x")
    assert environment_of(environ) == dict.fromkeys(USUAL, "x")


@pytest.mark.parametrize(
    ("named", "more"),
    [
        (("DATABASE_URL", "NOT_THERE"), {"DATABASE_URL"}),
        (("GIT*",), {"GITHUB_TOKEN"}),
        (("CO2_TOKEN",), {"CO2_TOKEN"}),
        (("*",), set(SECRET)),
    ],
)
def test_what_is_named_is_passed_on_too(named: tuple[str, ...], more: set[str]) -> None:
    assert set(environment_of(dict.fromkeys((*USUAL, *SECRET), "x"), named)) == {*USUAL, *more}


def test_a_plugin_gets_what_its_table_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "of somebody else")
    monkeypatch.setenv("API_KEY", "of eggs")
    for name in ("ham", "eggs"):
        write_plugin(tmp_path, name, tells=TELLS)
    (tmp_path / "co2.toml").write_text("[limits.eggs]\nenv = ['API_KEY']\n")
    (tmp_path / "co2.toml").chmod(0o600)
    with running(tmp_path, "satellite") as satellite, satellite.proxy() as proxy:
        ham, eggs = (set(getattr(proxy, name).tells.names({"data": {}})) for name in ("ham", "eggs"))
        assert "PATH" in ham
        assert eggs - ham == {"API_KEY"}
        assert "GITHUB_TOKEN" not in eggs
        assert proxy.eggs.tells.read({"data": {"name": "API_KEY"}}) == "of eggs"
        with pytest.raises(Exception, match=r"in co2\.toml: plugin_env = \['GITHUB_TOKEN'\]"):
            proxy.ham.tells.read({"data": {"name": "GITHUB_TOKEN"}})
        (tmp_path / "co2.toml").write_text("[limits.ham]\nenv = ['GITHUB_*']\n")
        proxy.co2.plugin.reload("ham")
        assert proxy.ham.tells.read({"data": {"name": "GITHUB_TOKEN"}}) == "of somebody else"
