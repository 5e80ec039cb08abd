"""From a clone to an own plugin on two satellites, by the words of the README alone, in under five minutes."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import wait_for
from tests.needs import IN_CI, needs, skip_or_fail

ROOT = Path(__file__).parents[2]
GOAL = 300.0
"""Seconds that all of it may take."""

RUN_ON = {"make demo": r"OSC came out of", "co2 relay": r"ready relay", "co2 satellite": r"ready satellite"}
"""Commands that keep their terminal, and what they print once they do their work."""

NO_NETWORK = "Could not find a version that satisfies"
"""What pip says where it reaches no package index."""

# The demo wants UDP port 9000, as those of test_demo do.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("demo"),
    needs(shutil.which("git") and shutil.which("make"), "the README asks for git and make"),
]


class Terminal:
    """A shell with somebody who types; what it shows is in a file."""

    def __init__(self, folder: Path, shown: Path, env: dict[str, str]) -> None:
        self._shown = shown
        self.busy = False
        with shown.open("wb") as output:
            self.shell = subprocess.Popen(
                ["bash"],
                cwd=folder,
                env=env,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._commands = 0
        self._code: int | None = None
        self.type("trap : INT")  # as an interactive shell, which Ctrl-C does not end

    @property
    def text(self) -> str:
        return self._shown.read_text(errors="replace")

    def type(self, line: str) -> None:
        """Type a line and press Enter."""
        assert self.shell.stdin is not None
        self.shell.stdin.write(f"{line}\n".encode())
        self.shell.stdin.flush()

    def run(self, line: str) -> str:
        """Type a command and wait for the prompt; give what it has shown."""
        said = self._shown_until(line, "")
        assert self._code == 0, said
        return said

    def start(self, line: str, works: str) -> None:
        """Type a command that runs on, and wait until it does its work."""
        self.busy = True
        said = self._shown_until(line, works)
        assert self._code is None, f"{line!r} has ended: {said}"

    def _shown_until(self, line: str, works: str) -> str:
        """Type a command; give what it shows until this pattern is there, or the prompt with its exit code."""
        self._commands += 1
        self._code = None
        before = len(self.text)
        prompt = rf"\[prompt {self._commands}: (\d+)\]"
        self.type(f'{line}\necho "[prompt {self._commands}: $?]"')

        def reached() -> bool:
            said = self.text[before:]
            if NO_NETWORK in said:
                skip_or_fail("pip reaches no package index", strict=IN_CI)
            if ended := re.search(prompt, said):
                self._code = int(ended[1])
            return ended is not None or bool(works and re.search(works, said))

        wait_for(reached, f"{line!r} in {self._shown}", GOAL)
        return self.text[before:]

    def press_ctrl_c(self) -> None:
        """End what runs."""
        os.killpg(self.shell.pid, signal.SIGINT)
        self.run("true")
        self.busy = False

    def close(self) -> None:
        if self.busy and self.shell.poll() is None:
            self.press_ctrl_c()
        assert self.shell.stdin is not None
        self.shell.stdin.close()
        self.shell.wait(20)


class Newcomer:
    """Types what the README says, each line into a terminal in which nothing runs, and looks at a watch."""

    def __init__(self, folder: Path, env: dict[str, str], relay_port: int) -> None:
        self._folder, self._env = folder, env
        self.relay_url = f"http://127.0.0.1:{relay_port}"
        # Instead of 2003, where another relay may run; satellites take the next free port by themselves.
        self._env |= {"CO2_RELAY": self.relay_url}
        self._relay_port = str(relay_port)
        self.terminals: list[Terminal] = []
        self.checkout = folder / "co2"
        self.watching: Terminal | None = None
        self._watches = 0
        self._began = time.monotonic()
        self.times: list[tuple[float, str]] = []

    def follow(self, block: str) -> str:
        """Type the lines of a block; give what the last one has shown."""
        said = ""
        for row in block.splitlines():
            line = re.sub(r"\s+#.*", "", row)
            said = self._timed(line)
        return said

    def write(self, path: str, code: str) -> None:
        """Write a file of the checkout."""
        file = self.checkout / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)

    def _timed(self, line: str) -> str:
        before = time.monotonic()
        said = self._type(line)
        self.times.append((time.monotonic() - before, line))
        return said

    def _type(self, line: str) -> str:
        terminal = next((one for one in self.terminals if not one.busy), None) or self._open()
        if line == "co2 watch":
            terminal.busy = True
            terminal.type(line)
            self.watching = terminal
            self._watches += 1
            wait_for(self._are_watching, "the one who watches")
        elif works := next((works for start, works in RUN_ON.items() if line.startswith(start)), None):
            if line == "co2 relay":
                terminal.type(f"export CO2_PORT={self._relay_port}")
            terminal.start(line, works)
            if line == "make demo":
                terminal.press_ctrl_c()
        else:
            return terminal.run(line)
        return ""

    def _open(self) -> Terminal:
        number = len(self.terminals)
        terminal = Terminal(self._folder, self._folder / f"terminal-{number}.txt", self._env)
        self.terminals.append(terminal)
        if number:
            terminal.run(f"cd {self.checkout} && . .venv/bin/activate")
        return terminal

    def _are_watching(self) -> bool:
        with xmlrpc.client.ServerProxy(self.relay_url, allow_none=True) as proxy:
            rows: Any = proxy.relay.get_satellites()
        return sum(row["kind"] == "watcher" for row in rows) >= self._watches

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


def readme(checkout: Path) -> dict[str, str]:
    """The sections of the README, by title."""
    parts = re.split(r"^## (.*)\n", (checkout / "README.md").read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(section: str, language: str = "") -> list[str]:
    """The code blocks of a section."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.M | re.S)
    return [text for name, text in found if name == language]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """What a newcomer's shell knows: nothing of this checkout, nor of the make that runs the tests."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("CO2_", "GIT_", "MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTEST_", "COV_"))
    }
    path = [part for part in kept["PATH"].split(os.pathsep) if not Path(part).is_relative_to(ROOT)]
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "PYTHON": str(python)}
    return {**kept, "PATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1", **state}


@pytest.fixture
def repository(tmp_path: Path, env: dict[str, str]) -> Path:
    """A repository of the files as they are now, whether or not they are committed, or there is one."""
    place = tmp_path / "repository.git"
    author = {"GIT_AUTHOR_NAME": "John", "GIT_AUTHOR_EMAIL": "john@localhost"}
    committer = {"GIT_COMMITTER_NAME": "John", "GIT_COMMITTER_EMAIL": "john@localhost"}
    env = {**env, **author, **committer, "GIT_DIR": str(place), "GIT_WORK_TREE": str(ROOT)}
    for command in ("init --quiet", "add --all", "commit --quiet --no-gpg-sign --message all"):
        subprocess.run(["git", *command.split()], cwd=ROOT, env=env, check=True, timeout=60)
    return place


@pytest.fixture
def newcomer(tmp_path: Path, env: dict[str, str]) -> Iterator[Newcomer]:
    folder = tmp_path / "home"
    folder.mkdir()
    one = Newcomer(folder, env, free_port())
    yield one
    for terminal in reversed(one.terminals):
        terminal.close()


def test_from_a_clone_to_an_own_plugin_on_two_satellites(newcomer: Newcomer, repository: Path) -> None:
    sections = readme(ROOT)
    (start,) = blocks(sections["Try it"])
    newcomer.follow(start.replace("<this repository>", str(repository)))
    (by_hand,) = blocks(sections["By hand"])
    assert "example.example.X_Example" in newcomer.follow(by_hand)

    own = sections["Your own plugin"]
    empty, module = re.findall(r"`(plugins/[\w/]+\.py)`", own)
    newcomer.write(empty, "")
    newcomer.write(module, *blocks(own, "python"))
    for commands in blocks(own):
        ps = newcomer.follow(commands)

    # On two satellites, and what one of them hears both repeat, for everybody to see.
    assert len(re.findall(r"^\S+ +\w+ +co2 .*ham\.spam\.X_Spam", ps, re.M)) == 2, ps
    watching = newcomer.watching
    assert watching is not None
    wait_for(lambda: len(re.findall(r"(\S+) +echo +\"NIH\"", watching.text)) == 2, "both satellites")
    assert len(set(re.findall(r"(\S+) +echo +\"NIH\"", watching.text))) == 2
    assert len(re.findall(r"echo +\"SHRUBBERY\"", watching.text)) == 1
    assert any("hello John" in terminal.text for terminal in newcomer.terminals)
    seconds = newcomer.seconds
    print("\n".join(f"{took:6.1f} s  {line}" for took, line in [*newcomer.times, (seconds, "all of it")]))
    assert seconds < GOAL
