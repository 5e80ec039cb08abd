"""What a host says of its software and its machine."""

import os
import platform
from importlib import metadata

import pytest

from co2 import __version__
from co2.server.process.info import _software, hardware, software


def test_the_software_with_its_versions() -> None:
    found = software()
    assert found["co2"] == __version__
    assert found["python"].endswith(platform.python_version())
    assert found["system"] == f"{platform.system()} {platform.release()}"
    assert {name: found[name] for name in ("aiohttp", "msgspec", "uvloop")} == {
        name: metadata.version(name) for name in ("aiohttp", "msgspec", "uvloop")
    }


def test_what_is_not_installed_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "uvloop":
            raise metadata.PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(metadata, "version", version)
    _software.cache_clear()
    try:
        assert software()["uvloop"] == "not installed"
        assert software()["msgspec"] == "1.2"
    finally:
        _software.cache_clear()


def test_the_machine() -> None:
    found = hardware()
    assert found["processors"] == os.cpu_count()
    assert found["machine"] == platform.machine()
    assert found["byte_order"] in ("little", "big")


@pytest.mark.parametrize(("counted", "told"), [(None, 1), (64, 64)])
def test_the_number_of_processors(counted: int | None, told: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every system says how many there are."""
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert hardware()["processors"] == told


@pytest.mark.parametrize(("names", "told"), [({"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 2}, 3072), ({}, None)])
def test_the_memory_in_mib(names: dict[str, int], told: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every system says how much there is."""
    sizes = {"SC_PHYS_PAGES": 3 * 2**18 + 255, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf_names", names)
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert hardware().get("memory") == told
