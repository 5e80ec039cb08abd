"""What the set-up installs: pinned, verified by hash; on the machine itself only where somebody said so."""

import base64
import hashlib
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements"
MAKEFILE = (ROOT / "Makefile").read_text()

_PIN = re.compile(r"([A-Za-z0-9._-]+)==([\w.]+)(?: ; .+)?((?: --hash=sha256:[0-9a-f]{64})+)")


def pins(file: Path) -> dict[str, str]:
    """Return the version of each package that a file pins; each line must be a pin with hashes."""
    text = file.read_text().replace(" \\\n    ", " ")
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            pin = _PIN.fullmatch(line)
            assert pin, f"{file.name}: {line[:200]}"
            found[_plain(pin[1])] = pin[2]
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", ["runtime", "dev", "bench", "uv"])
def test_all_that_is_installed_is_pinned_with_hashes_and_names_no_index(name: str) -> None:
    found = pins(REQUIREMENTS / f"{name}.txt")
    assert "://" not in (REQUIREMENTS / f"{name}.txt").read_text()
    wanted = (REQUIREMENTS / f"{name}.in").read_text()
    if "-r runtime.in" in wanted:
        wanted += (REQUIREMENTS / "runtime.in").read_text()
    listed = re.findall(r"^([A-Za-z0-9._-]+)==([\w.]+)", wanted, re.MULTILINE)
    assert len(listed) > 20 or name == "uv"
    assert listed
    assert {_plain(one): found.get(_plain(one)) for one, _ in listed} == {_plain(one): at for one, at in listed}, (
        "run `make pins`"
    )


def test_the_set_up_takes_nothing_without_a_hash() -> None:
    installs = {}
    for file in (ROOT / "Makefile", *(ROOT / "tools").glob("*.sh")):
        text = file.read_text().replace("\\\n", " ")
        assert not re.search(r"\bnpm\b.* (i|ci|add|exec)\b|\b(npx|uvx|pipx)\b", text), file
        for line in re.findall(r"^(?! *#).*\bnpm\b.* install\b.*$", text, re.MULTILINE):
            # Into a folder of its own, of which nothing is used before the hash of all of it has been compared.
            assert (file.name, "--ignore-scripts" in line) == ("install-clients.sh", True), line
            assert re.search(r'--prefix "\$red" "\$pin"', line), line
        # As a command: the name alone is that of a package, a peer of the tests.
        assert not re.search(r"\b(curl|wget) +[-'\"$]|\b(curl|wget) +\w+:", text), file
        for line in re.findall(r"^(?! *#).*\bpip\b.* install\b.*$", text, re.MULTILINE):
            installs.setdefault(file.name, []).append(line)
            ourselves = line.endswith("--no-deps --no-build-isolation -e .")
            assert ourselves or re.search(r"--require-hashes -r \S+\.txt$", line), line
    assert installs.keys() == {"Makefile", "make-venv.sh", "pin.sh"}


@pytest.fixture
def node(tmp_path: Path, stubs: dict[str, str]) -> dict[str, str]:
    """A checkout of the script that installs clients, with a pin of what an npm that is a script hands out."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "index.js").write_text("exports.ham = 1\n")
    subprocess.run(["tar", "-czf", "ham.tgz", "package"], cwd=tmp_path, check=True)
    found = base64.b64encode(hashlib.sha512((tmp_path / "ham.tgz").read_bytes()).digest()).decode()
    for folder in ("tools", "requirements", "tests/interop"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("install-clients.sh", "npm_tree.py"):
        shutil.copy(ROOT / "tools" / name, tmp_path / "tools")
    tree = base64.b64encode(hashlib.sha512(b"eggs@2.0.0 sha512-b\nham@1.2.3 sha512-a\n").digest()).decode()
    (tmp_path / "requirements" / "node-red.txt").write_text(f"# All.\nham@1.2.3 2026-11-01 sha512-{tree}\n")
    (tmp_path / "installed").write_text(
        json.dumps(
            {
                "packages": {
                    "node_modules/ham": {"version": "1.2.3", "integrity": "sha512-a"},
                    "node_modules/ham/node_modules/eggs": {"version": "2.0.0", "integrity": "sha512-b"},
                    "node_modules/ham/node_modules/in-ham": {"version": "3.0.0", "inBundle": True},
                }
            }
        )
    )
    (tmp_path / "requirements" / "node.txt").write_text(f"# One.\nham@1.2.3 sha512-{found}\n")
    for name, code in {
        "dpkg-query": "printf 'install ok installed'",
        "node": "",
        "npm": f"""
            case "$1" in
            pack) cp {tmp_path}/ham.tgz "$5/ham-1.2.3.tgz" && echo "$6" >> {tmp_path}/got ;;
            install)
                while [ "$1" != --prefix ]; do shift; done
                mkdir "$2/node_modules" && cp {tmp_path}/installed "$2/node_modules/.package-lock.json"
                echo "all of $3" >> {tmp_path}/got ;;
            esac""",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{code}\n")
        (tmp_path / name).chmod(0o755)
    return stubs


def clients(folder: Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the script."""
    command = ["bash", str(folder / "tools" / "install-clients.sh")]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_what_npm_brings_is_unpacked_where_it_has_the_hash_that_is_pinned(
    tmp_path: Path, node: dict[str, str]
) -> None:
    for _ in range(2):
        done = clients(tmp_path, node)
        assert (done.returncode, done.stderr) == (0, "")
    place = tmp_path / "tests" / "interop" / ".node"
    assert (place / "node_modules" / "ham" / "index.js").read_text() == "exports.ham = 1\n"
    assert (tmp_path / "got").read_text() == "ham@1.2.3\nall of ham@1.2.3\n", (
        "what is there is not asked for again"
    )
    assert (tmp_path / "tests" / "interop" / ".node-red" / "node_modules").is_dir()
    pins = tmp_path / "requirements" / "node.txt"
    pins.write_text(pins.read_text().replace("One", "The same"))
    assert clients(tmp_path, node).returncode == 0
    assert (place / "pins").read_text() == pins.read_text()


def test_what_npm_brings_under_a_pinned_name_and_is_something_else_is_not_installed(
    tmp_path: Path, node: dict[str, str]
) -> None:
    with (tmp_path / "ham.tgz").open("ab") as file:
        file.write(b"\0")
    done = clients(tmp_path, node)
    assert done.returncode == 1
    assert "ham@1.2.3 does not have the hash that requirements/node.txt pins: found sha512-" in done.stderr
    assert not (tmp_path / "tests" / "interop" / ".node").exists()


def test_node_red_is_not_installed_if_one_of_its_packages_is_something_else(
    tmp_path: Path, node: dict[str, str]
) -> None:
    installed = tmp_path / "installed"
    installed.write_text(installed.read_text().replace("sha512-b", "sha512-c"))
    done = clients(tmp_path, node)
    assert done.returncode == 0, "the other tests run"
    assert "do not have the hash that requirements/node-red.txt pins: found sha512-" in done.stderr
    assert not (tmp_path / "tests" / "interop" / ".node-red").exists()


def test_all_that_comes_from_npm_is_pinned_with_a_hash() -> None:
    lines = (REQUIREMENTS / "node.txt").read_text().splitlines()
    found = [line for line in lines if not line.startswith("#")]
    assert any(line.startswith("xmlrpc@") for line in found)
    for line in found:
        assert re.fullmatch(r"[a-z]+@\d+\.\d+\.\d+ sha512-[A-Za-z0-9+/]{86}==", line), line
    red = [line for line in (REQUIREMENTS / "node-red.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(red) == 1
    assert re.fullmatch(r"node-red@\d+\.\d+\.\d+ \d{4}-\d\d-\d\d sha512-[A-Za-z0-9+/]{86}==", red[0])


@pytest.fixture
def stubs(tmp_path: Path) -> dict[str, str]:
    """Programs in the place of those that would change the machine: they write down what they were told."""
    for name, code in {
        "id": 'echo "${STUB_UID:-1000}"',
        "sudo": f'echo "sudo $*" >> {tmp_path}/done; [ "$1" != -n ] || shift; "$@"',
        "apt-get": f'echo "apt-get $*" >> {tmp_path}/done',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{code}\n")
        (tmp_path / name).chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name != "CI"}
    return {**clean, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


INSTALL = ["bash", str(ROOT / "tools" / "install-peers.sh"), "sh:dash", "co2-nothing-of-that-name:its-package"]


@pytest.mark.parametrize(
    ("variables", "sudo"), [({"STUB_UID": "0"}, []), ({"CI": "true"}, ["sudo -n apt-get update -qq"])]
)
def test_as_root_and_in_ci_what_is_missing_is_installed(
    tmp_path: Path, stubs: dict[str, str], variables: dict[str, str], sudo: list[str]
) -> None:
    done = subprocess.run(
        INSTALL, env={**stubs, **variables}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = (tmp_path / "done").read_text().splitlines()
    assert told[-1] == "apt-get install -qq -y --no-install-recommends its-package"
    assert [line for line in told if line.startswith("sudo")][:1] == sudo


def test_anywhere_else_nothing_is_installed_unasked(tmp_path: Path, stubs: dict[str, str]) -> None:
    done = subprocess.run(INSTALL, env=stubs, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("Install them with: sudo apt-get install --no-install-recommends its-package\n")
    assert not (tmp_path / "done").exists()


QUESTION = "To install them: sudo apt-get install --no-install-recommends its-package"


@pytest.mark.parametrize(("answer", "installed"), [("y\n", True), ("\n", False), ("no\n", False)])
def test_at_a_terminal_it_asks(tmp_path: Path, stubs: dict[str, str], answer: str, installed: bool) -> None:
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(INSTALL, env=stubs, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs) as asked:
            os.write(ours, answer.encode())
            assert asked.wait(timeout=20) == (0 if installed else 1)
        said = ""
        # A terminal passes on what was written to it a little later, and in pieces.
        while (QUESTION not in said) and select.select([ours], [], [], 10)[0]:
            said += os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert QUESTION in said
    assert (tmp_path / "done").exists() is installed


def test_pins_that_are_installed_already_are_left_alone(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.symlink_to(sys.prefix)  # the one we run in: nobody makes another in its place
    command = ["bash", "tools/make-venv.sh", str(venv), "requirements/dev.txt", "requirements/runtime.txt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert venv.is_symlink()


def test_a_python_that_is_named_is_the_one_that_tests(tmp_path: Path) -> None:
    """What is made is written down by a script in place of the one that makes it; two Pythons are scripts, too."""
    for needed in re.findall(r"\S+", re.search(r"^\$\(STAMP\): (requirements/.*)$", MAKEFILE, re.MULTILINE)[1]):
        (tmp_path / needed).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / needed).touch()
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "make-venv.sh").write_text(
        'mkdir -p $1/bin; cp "$PYTHON" $1/bin/python; echo "$PYTHON"; echo "${@:2}" >> changed'
    )
    for name in ("old", "new", "python3"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho 3.{name}\n")
        (tmp_path / name).chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON"))}

    def made(*words: str) -> list[str]:
        command = ["make", "--silent", "venv", *words]
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    assert made("PYTHON=./old") == ["./old"]
    assert made("PYTHON=./old") == []
    assert made() == [], "the one that was asked for stays"
    assert made("PYTHON=./new") == ["./new"]
    assert (tmp_path / "changed").read_text().splitlines()[-1] == "another-python", (
        "not pins alone: all is made anew"
    )
    assert made("PYTHON=./new") == []
