"""What pytest sees of it: fixtures, the marker, reports; and nothing at all where nobody uses it."""

import subprocess
import sys
from pathlib import Path

import co2.testing

PLUGIN = """
from co2 import plugin

class X_Ear(plugin.Co2Plugin):
    def receive(self, data_dict):
        if data_dict["data"] == "break":
            raise ValueError("broken")
"""


def run(folder: Path, test: str, *args: str) -> "subprocess.CompletedProcess[str]":
    (folder / "test_it.py").write_text(PLUGIN + test)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *args, str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)


def test_every_name_is_there_and_says_what_it_is():
    for name in co2.testing.__all__:
        assert getattr(co2.testing, name).__doc__, name
    assert not hasattr(co2.testing, "nothing")


def test_a_run_that_does_not_use_it_imports_nothing_of_it(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.hasplugin('co2')\n"
        "    assert {name for name in sys.modules if name.partition('.')[0] in ('co2', 'msgspec', 'aiohttp')}\\\n"
        "        == {'co2', 'co2.testing'}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "--strict-markers", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_plugin_raised_fails_the_test_at_its_end(tmp_path):
    done = run(
        tmp_path,
        """
def test_it(co2_net):
    co2_net.satellite(X_Ear)
    co2_net.send({"data": "break"})

def test_that(co2_net):
    co2_net.satellite(X_Ear)
    co2_net.send({"data": "break"})
    co2_net.expect_failure(ValueError)
""",
    )
    assert "2 passed, 1 error" in done.stdout, done.stdout
    assert "test_it.test_it.X_Ear: receive with {'data': 'break'" in done.stdout


def test_markers_are_put_together_and_checked(tmp_path):
    done = run(
        tmp_path,
        """
import pytest
pytestmark = pytest.mark.co2_config({"plugin": {"test_it": {"a": 1, "b": 1}}})

@pytest.mark.co2_config({"plugin": {"test_it": {"b": 2}, "ham": {}}})
def test_it(co2_net):
    assert co2_net.satellite(X_Ear).plugin.config == {"a": 1, "b": 2}

@pytest.mark.co2_config(a=1)
def test_that(co2_net):
    pass
""",
    )
    assert "1 passed, 1 error" in done.stdout, done.stdout
    assert "takes one dictionary" in done.stdout


def test_what_hosts_said_is_shown_where_a_test_fails(tmp_path):
    done = run(
        tmp_path,
        """
def test_it(co2_network):
    co2_network.satellite("example")
    assert not "here"

def test_that(co2_network):
    co2_network.satellite("example")
""",
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert done.stdout.count("ready, my name is example") == 1


def test_a_package_that_was_loaded_from_a_folder_is_forgotten(tmp_path):
    for number in (1, 2):
        package = tmp_path / str(number) / "ham"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "spam.py").write_text(
            f"from co2 import plugin\nclass X_Spam(plugin.Co2Plugin):\n    def x_a(self, d): return {number}\n"
        )
    done = run(
        tmp_path,
        """
import sys, pathlib, pytest

@pytest.mark.parametrize("number", [1, 2])
def test_it(co2_net, number):
    assert "ham" not in sys.modules
    before = list(sys.path)
    co2_net.satellite(pathlib.Path(__file__).parent / str(number) / "ham")
    assert co2_net.call("ham.spam.a") == number
    assert sys.path != before

def test_after():
    assert "ham" not in sys.modules and not [path for path in sys.path if path.endswith(("/1", "/2"))]
""",
    )
    assert "3 passed" in done.stdout, done.stdout
