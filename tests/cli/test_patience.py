"""A host that does not answer: the commands say what they wait for, and for how long they do."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from co2.cli.client import CommandClient
from co2.cli.main import COMMANDS
from co2.cli.watch import GRACE, _Watcher
from co2.errors import CallTimeout
from tests.cli.network import Network, co2, environ
from tests.harness import running, wait_for

ASKING = {
    "ps": ["ps"],
    "last": ["last"],
    "why": ["why", "2"],
    "send": ["send", '{"data": 1}'],
    "methods": ["methods"],
    "call": ["call", "ping"],
    "forget": ["forget", "nobody"],
    "dead-letters": ["dead-letters"],
    "plugin ls": ["plugin", "ls"],
    "plugin logs": ["plugin", "logs", "example"],
    "plugin load": ["plugin", "load", "example"],
    "plugin reload": ["plugin", "reload", "example"],
    "plugin unload": ["plugin", "unload", "example"],
}
"""Every command that asks a host and ends; ``watch`` has a timeout of another meaning."""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    base = tmp_path_factory.mktemp("patience")
    with running(base / "relay", "relay") as relay:
        yield Network(relay, relay, base)


@contextlib.contextmanager
def stopped(net: Network) -> Iterator[None]:
    """The relay as after Ctrl-Z: its port takes connections, and nobody answers."""
    os.kill(net.relay.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(net.relay.pid, signal.SIGCONT)


@pytest.mark.parametrize("command", ASKING)
def test_every_command_gives_up_after_its_timeout(net: Network, command: str) -> None:
    with stopped(net):
        began = time.monotonic()
        done = co2(net, *ASKING[command], "--timeout", "0.2", *(["--url", net.relay.url]))
        took = time.monotonic() - began
    assert (done.returncode, done.stdout) == (5, "")
    assert took < 10
    [line] = done.stderr.splitlines()
    assert f" at {net.relay.url} did not answer within 0.2 s: it may be stopped (Ctrl-Z" in line
    assert line.endswith("; --timeout S waits longer")


def test_all_that_ask_are_tried_here() -> None:
    silent = {"relay", "satellite", "watch"}
    assert {name.partition(" ")[0] for name in ASKING} == set(COMMANDS) - silent - {"state"}


def test_after_two_seconds_it_says_whom_it_waits_for_and_goes_on(net: Network) -> None:
    command = [sys.executable, "-m", "co2", "ps"]
    with (
        stopped(net),
        subprocess.Popen(
            command, cwd=net.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ(net.relay.url)
        ) as process,
    ):
        assert process.stderr is not None and process.stdout is not None
        began = time.monotonic()
        line = process.stderr.readline().decode()
        assert line == f"co2: waiting for {net.relay.url} (Ctrl-C ends)\n"
        assert time.monotonic() - began >= 1.5
        os.kill(net.relay.pid, signal.SIGCONT)
        out, more = process.communicate(timeout=30)
        assert (process.returncode, more) == (0, b"")
        assert out.startswith(b"relay ")


def test_a_watch_goes_on_when_a_relay_that_was_stopped_answers_again(capsys: pytest.CaptureFixture[str]) -> None:
    class Client:
        """A relay that answers, then does not for two calls, then answers."""

        def __init__(self) -> None:
            self.answers: list[dict[str, Any] | Exception] = [
                {"host_id": "me@127.0.0.1:0", "position": 7},
                CallTimeout("relay.fetch at http://127.0.0.1:2003", 25),
                CallTimeout("relay.register at http://127.0.0.1:2003", 25),
                {"host_id": "me@127.0.0.1:0", "position": 7},
                {"gaps": [], "messages": [{"data": "after all"}], "next": 8},
            ]

        def call(self, *_: object, **__: object) -> dict[str, Any]:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    follower = _Watcher(cast(CommandClient, Client()), None).follow()
    assert next(follower) == ("message", {"data": "after all"})
    told = capsys.readouterr().err
    assert "did not answer within 25 s; retrying\n" in told
    assert told.endswith("co2: registered again; messages sent in the meantime may be missing\n")


def test_a_watch_of_a_relay_that_does_not_answer_ends_with_its_timeout(net: Network) -> None:
    with stopped(net):
        began = time.monotonic()
        done = co2(net, "watch", "--timeout", "0.5")
        took = time.monotonic() - began
    assert (done.returncode, done.stdout) == (5, "")
    assert took < 10, "not the 25 s that a fetch may take"
    assert f"relay.register at {net.relay.url} did not answer within 1 s: " in done.stderr


def test_no_call_of_a_watch_takes_longer_than_its_timeout() -> None:
    timeouts: list[float] = []

    class Client:
        """A relay that answers once, and then never."""

        def call(self, method: str, *_: object, timeout: float = 25, **__: object) -> dict[str, Any]:
            timeouts.append(timeout)
            if len(timeouts) > 1:
                raise CallTimeout(method, timeout)
            return {"host_id": "me@127.0.0.1:0", "position": 7}

    deadline = time.monotonic() + 0.2
    assert list(_Watcher(cast(CommandClient, Client()), deadline).follow()) == []
    assert len(timeouts) > 1
    assert max(timeouts) <= 0.2 + GRACE


def test_ctrl_c_ends_the_wait(net: Network) -> None:
    command = [sys.executable, "-m", "co2", "send", '{"data": 1}']
    with (
        stopped(net),
        subprocess.Popen(
            command, cwd=net.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ(net.relay.url)
        ) as process,
    ):
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"co2: waiting for ")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_a_host_that_answers_is_not_waited_for_in_words(net: Network) -> None:
    wait_for(lambda: co2(net, "ps").returncode == 0, "the relay is there")
    assert co2(net, "ps").stderr == ""
