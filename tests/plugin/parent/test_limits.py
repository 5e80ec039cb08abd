"""What a package may use, and what becomes of one that uses more."""

import dataclasses
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from co2.plugin.parent.resource_usage import usage_of
from co2.plugin.parent.supervisor import PackageSpec
from tests.plugin.support import Settings, carrying, in_loop, write_package

HAS_MEMORY_LIMIT = sys.platform != "darwin"

LIMITS = """
import resource

class X_Spam(plugin.Co2Plugin):
    def x_limits(self, data_dict):
        kinds = (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)
        return [resource.getrlimit(kind)[0] for kind in kinds]

    def x_spin(self, data_dict):
        while True:
            pass
"""


def with_limits(folder: Path, **limits: int) -> PackageSpec:
    return dataclasses.replace(write_package(folder, "ham", spam=LIMITS), limits=limits)


@in_loop
async def test_a_packages_own_limits_go_before_those_of_all(tmp_path: Path) -> None:
    settings = Settings(plugin_memory=1024, plugin_open_files=99, plugin_cpu_seconds=500)
    spec = write_package(tmp_path, "ham", spam=LIMITS)
    async with carrying([spec], settings) as carrier:
        assert await carrier.call("ham.spam.limits") == [1024 * 2**20 if HAS_MEMORY_LIMIT else -1, 99, 500]
        await carrier.supervisor.reload(with_limits(tmp_path, memory=2048, open_files=77))
        assert await carrier.call("ham.spam.limits") == [2048 * 2**20 if HAS_MEMORY_LIMIT else -1, 77, 500]
        await carrier.supervisor.reload(with_limits(tmp_path, memory=0, cpu_seconds=600))
        memory, files, seconds = await carrier.call("ham.spam.limits")
        assert memory in (-1, 2**63 - 1, 2**64 - 1)
        assert (files, seconds) == (99, 600)


NO_LIMIT_OF_MEMORY = """
import resource, sys
from co2.plugin.child import host
set_limit = resource.setrlimit

def setrlimit(kind, limits):
    if kind == resource.RLIMIT_AS:
        raise ValueError("current limit exceeds maximum limit")
    set_limit(kind, limits)

resource.setrlimit = setrlimit
load = host.Load("", "", {}, {}, 0.0, memory=64, open_files=77)
print(host._prepare_process(load), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_a_limit_that_the_system_does_not_have_is_told_and_the_others_hold() -> None:
    told = subprocess.run([sys.executable, "-c", NO_LIMIT_OF_MEMORY], capture_output=True, text=True, check=True)
    assert told.stdout == (
        "['plugin_memory has no effect here: this system does not set that limit "
        "(current limit exceeds maximum limit)'] 77\n"
    )


def test_without_proc_psutil_tells_what_a_process_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        pytest.importorskip("psutil")  # imported before the system has another name: it has a module for each
        monkeypatch.setattr(sys, "platform", "darwin")
        used = usage_of(child.pid)
        assert used.keys() == {"memory", "address_space", "open_files", "cpu_seconds"}
        assert used["open_files"] >= 3
    assert usage_of(child.pid) == {}
    own = usage_of(os.getpid())
    monkeypatch.setattr(sys, "platform", "linux")
    for name, value in usage_of(os.getpid()).items():
        assert own[name] == pytest.approx(value, rel=0.2), name
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert usage_of(os.getpid()) == {}


@in_loop
async def test_one_that_has_used_up_its_cpu_seconds_is_started_again(tmp_path: Path) -> None:
    async with carrying([with_limits(tmp_path, cpu_seconds=1)]) as carrier:
        try:
            await carrier.call("ham.spam.spin")
        except Exception as error:
            assert "died" in str(error)
        await carrier.until(lambda: carrier.status("ham").restarts == 1, "a restart")
        assert "has used up its CPU seconds" in carrier.log.text


@in_loop
async def test_how_many_deaths_park_it(tmp_path: Path) -> None:
    dies = "import os, threading\nthreading.Timer(0.3, os._exit, (1,)).start()\n"
    spec = write_package(tmp_path, "ham", spam=dies + LIMITS)
    async with carrying([dataclasses.replace(spec, limits={"deaths": 1})]) as carrier:
        await carrier.until(lambda: carrier.state("ham") == "parked", "parked")
        status = carrier.status("ham")
        assert (status.restarts, status.pid) == (0, None)
        assert "co2 plugin reload ham" in status.last_error


def test_what_a_process_uses_is_told_while_it_is_there() -> None:
    assert usage_of(None) == {}
    before = usage_of(os.getpid())
    with Path(os.devnull).open() as _, Path(os.devnull).open() as _:
        assert usage_of(os.getpid())["open_files"] == before["open_files"] + 2
    assert before["memory"] > 1
    assert before["cpu_seconds"] > 0
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    assert usage_of(ended.pid) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="compares with /proc")
def test_memory_is_what_is_resident_and_the_address_space_stands_beside_it() -> None:
    kept = mmap.mmap(-1, 512 * 2**20)  # reserved, and never touched
    with kept:
        status = Path("/proc/self/status").read_text()
        told = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in status.splitlines() if "kB" in line}
        used = usage_of(os.getpid())
        assert abs(used["memory"] - told["VmRSS"]) < 32
        assert abs(used["address_space"] - told["VmSize"]) < 32
        assert used["address_space"] - used["memory"] > 500
