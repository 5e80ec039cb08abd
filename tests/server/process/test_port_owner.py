"""Whether a relay has the port that another one wants, and what is said of it."""

import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from co2.errors import ConfigError
from co2.server.process import port_owner
from co2.server.process.port_owner import MAX_ANSWER, refuse_second_relay
from co2.store.state_folder import StateFolder
from co2.xmlrpc.writer import write_fault, write_response, write_value
from tests.xmlrpc.hostile import hostile, http


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the state folders of ports are."""
    monkeypatch.setattr(port_owner, "default_state_path", lambda role, port: tmp_path / f"{role}-{port}")
    return tmp_path


def relay(properties: Mapping[str, Any]) -> bytes:
    """What a relay with these properties answers."""
    return http(write_response(write_value({"role": "relay", **properties})))


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.mark.parametrize(
    ("properties", "standing"),
    [
        ({"uptime": 95.5, "satellites": 1}, "up 1 min 35 s, 1 satellite"),
        ({"uptime": 7, "satellites": 2}, "up 7 s, 2 satellites"),
        ({"uptime": 7, "satellites": 0}, "up 7 s, 0 satellites"),
        ({"uptime": 7}, "up 7 s"),
        ({"satellites": 3}, "3 satellites"),
        ({"uptime": "long", "satellites": [1]}, "no details available"),
        ({}, "no details available"),
    ],
)
def test_a_relay_is_named_with_what_it_says_of_itself(properties: Mapping[str, Any], standing: str) -> None:
    with hostile(relay(properties)) as server, pytest.raises(ConfigError) as refused:
        refuse_second_relay("127.0.0.1", port_of(server.url))
    assert str(refused.value) == (
        f"port: a relay is already running here: {server.url} ({standing}). Stop it; or, to run a second network "
        "beside it, choose another port with --port N"
    )


@pytest.mark.parametrize("bind", ["0.0.0.0", "::"])
@pytest.mark.parametrize(("ip", "own"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "::1"), ("::1", "::1")])
def test_who_wants_every_address_is_refused_where_a_relay_has_one(
    bind: str, ip: str, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_owner, "local_ip", lambda _bind, _towards: own)
    with ExitStack() as stack:
        try:
            server = stack.enter_context(hostile(relay({}), ip=ip))
        except OSError:
            pytest.skip("no IPv6 here")
        with pytest.raises(ConfigError, match=f"already running here: {re.escape(server.url)} "):
            refuse_second_relay(bind, port_of(server.url))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        http(write_response(write_value({"role": "satellite", "uptime": 7}))),
        http(write_response(write_value({"uptime": 7}))),
        http(write_response(write_value(["relay"]))),
        http(write_fault(-32601, "no such method")),
        http(b"<html>", content_type="text/html"),
        http(b"no", status="404 Not Found"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_another_program_is_no_relay(answer: bytes) -> None:
    with hostile(answer, close=True) as server:
        refuse_second_relay("127.0.0.1", port_of(server.url))
        assert server.requests


def test_an_answer_at_the_limit_is_read_and_one_beyond_it_is_of_another_program() -> None:
    body = write_response(write_value({"role": "relay"}))
    with hostile(http(body.ljust(MAX_ANSWER))) as server, pytest.raises(ConfigError):
        refuse_second_relay("127.0.0.1", port_of(server.url))
    with hostile(http(body.ljust(MAX_ANSWER + 1))) as server:
        refuse_second_relay("127.0.0.1", port_of(server.url))


def test_a_relay_that_does_not_answer_is_known_by_its_state_folder(
    state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_owner, "ASK_TIMEOUT", 0.2)
    with hostile(None) as server:
        port = port_of(server.url)
        refuse_second_relay("127.0.0.1", port)
        with StateFolder.open(state_home / f"relay-{port}"):
            with pytest.raises(ConfigError) as refused:
                refuse_second_relay("127.0.0.1", port)
            assert str(refused.value) == (
                f"port: a relay is already running here, process {os.getpid()}, and does not answer: it may be "
                "stopped (Ctrl-Z; fg resumes it), busy or overloaded. Stop it; or, to run a second network beside "
                "it, choose another port with --port N"
            )
        refuse_second_relay("127.0.0.1", port)
