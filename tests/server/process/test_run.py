"""What a host says before it serves."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from co2.config import SatelliteConfig
from co2.server.express import loop as express
from co2.server.express.loop import ExpressLoop
from co2.server.process.run import Foundation, Role, _loop_factory, run_host


class FarEnoughError(Exception):
    """The host would begin to work now."""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """A port that somebody has; and a home for state folders."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield int(sock.getsockname()[1])


def start(config: SatelliteConfig) -> Path:
    """Start a host until it would make its role; give its state folder."""
    folders = []

    def make(foundation: Foundation) -> Role:
        folders.append(foundation.state.path)
        raise FarEnoughError

    with pytest.raises(FarEnoughError):
        run_host(config, make)
    return folders[0]


def test_another_port_names_the_state_folder_that_comes_with_it(
    taken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = start(SatelliteConfig(port=taken))
    (line,) = capsys.readouterr().err.splitlines()
    port = int(folder.name.removeprefix("satellite-"))
    assert port > taken
    assert folder == tmp_path / "state" / "co2" / f"satellite-{port}", "state belongs to the port"
    assert line.startswith(
        f"co2: port {taken} is taken, using {port} and the state folder of that port, {folder}, with "
    )
    assert "--port" in line
    assert "--state" in line


def test_another_port_with_a_state_folder_that_was_given(
    taken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(SatelliteConfig(port=taken, state=tmp_path / "mine")) == tmp_path / "mine"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"co2: port {taken} is taken, using ")
    assert str(tmp_path) not in line, "it is what was asked for"


def test_without_an_express_the_event_loop_is_another_one() -> None:
    assert _loop_factory(False) is not ExpressLoop
    assert (_loop_factory(True) is ExpressLoop) == express.AVAILABLE
