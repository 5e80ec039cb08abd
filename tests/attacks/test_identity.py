"""Rows 28 and 37 to 41, and 63: who is who, whom a relay dials, and files that others may write."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.conftest import Target
from tests.harness import Proxy, wait_for, write_plugin
from tests.needs import ROOT_ONLY

OK_XML = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"


@pytest.fixture
def target(real_hosts: dict[str, Target]) -> Target:
    return real_hosts["relay"]


@pytest.fixture
def relay(target: Target) -> Iterator[Proxy]:
    with Proxy(f"http://127.0.0.1:{target.port}") as proxy:
        yield proxy


def fault(call: Any, *params: Any) -> tuple[int, str]:
    import xmlrpc.client

    with pytest.raises(xmlrpc.client.Fault) as caught:
        call(*params)
    return caught.value.faultCode, caught.value.faultString


def test_row_38_what_is_not_exposed_looks_like_what_is_not_there(real_hosts: dict[str, Target]) -> None:
    with Proxy(f"http://127.0.0.1:{real_hosts['satellite'].port}") as satellite:
        hidden, missing = (
            fault(getattr(satellite, name), {"data": 1})
            for name in ("recorder.rec.receive", "recorder.rec.nothing")
        )
    assert hidden[0] == missing[0] == -32601
    assert hidden[1].replace("receive", "") == missing[1].replace("nothing", "")


@pytest.mark.parametrize(
    "host_id", ["victim@10.0.0.7:2004", "victim@192.0.2.1:80", "victim@[2001:db8::1]:2004", "victim@0.0.0.0:1"]
)
@pytest.mark.parametrize("method", ["register", "relay", "unregister", "fetch"])
def test_row_39_nobody_speaks_for_another_address(relay: Proxy, method: str, host_id: str) -> None:
    code, text = fault(getattr(relay.relay, method), {"host_id": host_id, "data": 1, "port": 80})
    assert code == 1001
    assert "127.0.0.1" in text


@pytest.mark.parametrize(
    "host_id", ["x@localhost:1", "x@127.1:1", "x@2130706433:1", "x@127.0.0.1:1\r\nX: y", "@127.0.0.1:1"]
)
def test_row_39_what_is_no_host_id_is_refused(relay: Proxy, host_id: str) -> None:
    assert fault(relay.relay.relay, {"host_id": host_id, "data": 1})[0] == -32602


@pytest.mark.parametrize(
    "claim",
    [
        {"host_id": "a@169.254.169.254:80", "port": 80},
        {"port": "169.254.169.254:80"},
        {"port": "22"},
        {"port": 80.5},
        {"host_id": "file:///etc/passwd", "port": 1},
    ],
)
def test_row_40_an_address_that_a_client_names_is_never_dialled(relay: Proxy, claim: dict[str, Any]) -> None:
    before = len(relay.relay.get_satellites())
    assert fault(relay.relay.register, claim)[0] in {1001, -32602}
    assert len(relay.relay.get_satellites()) == before


def another_address() -> socket.socket:
    """Listen on a loopback address that is not 127.0.0.1."""
    try:
        return socket.create_server(("127.0.0.2", 0))
    except OSError:  # macOS has no other of 127/8
        return socket.create_server(("::1", 0), family=socket.AF_INET6)


def url_of(victim: socket.socket) -> str:
    """Return the URL of who listens there."""
    ip, port = victim.getsockname()[:2]
    return f"http://[{ip}]:{port}/" if ":" in ip else f"http://{ip}:{port}/"


def test_row_40_other_keys_that_name_an_address_are_ignored(relay: Proxy) -> None:
    """A listener on another loopback address stands for the victim: nothing may ever reach it."""
    with another_address() as victim, socket.create_server(("127.0.0.1", 0)) as own:
        victim.settimeout(0)
        port = own.getsockname()[1]
        ip, url = victim.getsockname()[0], url_of(victim)
        me = relay.relay.register({"port": port, "url": url, "address": ip, "callback": url, "ip": ip})
        relay.relay.relay({"host_id": "someone@127.0.0.1:0", "data": 1, "url": url})
        own.settimeout(10)
        connection, _ = own.accept()
        connection.close()
        with pytest.raises(BlockingIOError):
            victim.accept()
        relay.relay.unregister({"host_id": me["host_id"]})


def unreachable(relay: Proxy, host_id: str) -> dict[str, Any] | None:
    """Give the row of a satellite once the relay calls it unreachable."""
    rows = relay.relay.get_satellites()
    return next((row for row in rows if row["host_id"] == host_id and row["state"] == "unreachable"), None)


class Hostile:
    """A satellite that answers every call with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.asked = threading.Event()
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.sock.accept()
                with connection:
                    connection.recv(65536)
                    self.asked.set()
                    connection.sendall(self._answer)

    def close(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self._thread.join(10)


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_row_41_a_redirect_is_not_followed(relay: Proxy, head: str) -> None:
    with another_address() as victim:
        victim.settimeout(0)
        satellite = Hostile(head.format(url=url_of(victim)).encode())
        try:
            me = relay.relay.register({"port": satellite.port})
            relay.relay.relay({"host_id": "someone@127.0.0.1:0", "data": 1})
            assert satellite.asked.wait(10)
            row = wait_for(lambda: unreachable(relay, me["host_id"]))
            assert "redirect" in row["last_error"]
            with pytest.raises(BlockingIOError):
                victim.accept()
        finally:
            relay.relay.unregister({"host_id": me["host_id"]})
            satellite.close()


@pytest.mark.parametrize(
    "answer",
    [
        OK_XML + b"Content-Length: 99999999999\r\n\r\n",
        OK_XML + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
)
def test_row_28_a_hostile_satellite_is_told_about_and_harms_nobody(relay: Proxy, answer: bytes) -> None:
    satellite = Hostile(answer)
    try:
        me = relay.relay.register({"port": satellite.port})
        relay.relay.relay({"host_id": "someone@127.0.0.1:0", "data": 1})

        def told() -> str:
            rows = relay.relay.get_satellites()
            return next((r["last_error"] for r in rows if r["host_id"] == me["host_id"]), "")

        assert wait_for(told, "what is wrong with it")
        relay.relay.unregister({"host_id": me["host_id"]})
    finally:
        satellite.close()


def start(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return command(folder, *args, "--port", "0", "--state", str(folder / "state"))


def command(folder: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("CO2_")} | variables
    whole = [sys.executable, "-m", "co2", *args]
    return subprocess.run(whole, cwd=folder, capture_output=True, text=True, timeout=30, env=env, check=False)


def test_row_63_a_configuration_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "co2.toml").write_text("[relay]\n")
    (tmp_path / "co2.toml").chmod(0o666)
    ended = start(tmp_path, "relay")
    assert ended.returncode == 2
    assert "chmod o-w" in ended.stderr
    assert not (tmp_path / "state").exists()


def test_row_63_a_plugin_that_everybody_may_write_is_not_loaded(tmp_path: Path) -> None:
    write_plugin(tmp_path, "ham", spam="raise SystemExit('executed')\n")
    (tmp_path / "plugins" / "ham" / "spam.py").chmod(0o666)
    ended = start(tmp_path, "satellite", "--plugin", "ham")
    assert ended.returncode == 2
    assert "chmod o-w" in ended.stderr
    assert "executed" not in ended.stderr


def by_a_folder_that_others_may_write(folder: Path) -> None:
    folder.chmod(0o777)


def by_a_subfolder(folder: Path) -> None:
    inner = folder / "plugins" / "ham" / "eggs"
    inner.mkdir()
    inner.chmod(0o777)


def by_a_link(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "eggs.py").write_text("raise SystemExit('executed')\n")
    elsewhere.chmod(0o777)
    (folder / "plugins" / "ham" / "eggs.py").symlink_to(elsewhere / "eggs.py")


def by_a_module_beside_it(folder: Path) -> None:
    (folder / "plugins" / "helper.py").write_text("raise SystemExit('executed')\n")
    (folder / "plugins" / "helper.py").chmod(0o666)


def by_giving_it_to_a_user(folder: Path) -> None:
    os.chown(folder / "plugins" / "ham" / "spam.py", 54321, -1)


def by_giving_it_to_a_group(folder: Path) -> None:
    os.chown(folder / "plugins" / "ham" / "spam.py", -1, 54321)
    (folder / "plugins" / "ham" / "spam.py").chmod(0o664)


@pytest.mark.parametrize(
    "opened",
    [
        by_a_folder_that_others_may_write,
        by_a_subfolder,
        by_a_link,
        by_a_module_beside_it,
        pytest.param(by_giving_it_to_a_user, marks=ROOT_ONLY),
        pytest.param(by_giving_it_to_a_group, marks=ROOT_ONLY),
    ],
)
def test_row_63_nothing_is_loaded_that_others_could_have_written(
    tmp_path: Path, opened: Callable[[Path], None]
) -> None:
    write_plugin(tmp_path, "ham", spam="raise SystemExit('executed')\n")
    opened(tmp_path)
    ended = start(tmp_path, "satellite", "--plugin", "ham")
    assert ended.returncode == 2
    assert "executed" not in ended.stderr
    assert str(tmp_path) in ended.stderr
    assert "may write to it" in ended.stderr or "belongs to" in ended.stderr


@ROOT_ONLY
def test_row_63_whoever_is_trusted_may_own_the_code_and_the_configuration(tmp_path: Path) -> None:
    write_plugin(tmp_path, "ham", spam="raise SystemExit('executed')\n")
    (tmp_path / "co2.toml").write_text("[satellite]\nplugin_list = ['ham']\n")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 54321, 54321)
    ended = start(tmp_path, "satellite")
    assert (ended.returncode, "CO2_TRUSTED_USERS=54321" in ended.stderr) == (2, True)
    check = ("plugin", "check", "plugins/ham")
    assert "CO2_TRUSTED_USERS=54321" in command(tmp_path, *check).stderr
    assert "SystemExit: executed" in command(tmp_path, *check, CO2_TRUSTED_USERS="54321").stdout


def test_row_63_a_link_for_a_state_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "elsewhere")
    ended = start(tmp_path, "relay")
    assert ended.returncode == 2
    assert "is a link" in ended.stderr
    assert not list((tmp_path / "elsewhere").iterdir())


def test_row_63_modes_are_private_under_any_umask(tmp_path: Path, real_hosts: dict[str, Target]) -> None:
    from co2.logs import setup_logs
    from co2.store.state_folder import StateFolder

    old = os.umask(0)
    try:
        with StateFolder.open(tmp_path / "state") as state:
            setup_logs(state.logs).close()
    finally:
        os.umask(old)
    for path in (tmp_path / "state").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
