"""Members in other languages, as in docs/clients.md: they register, send, call, get messages and are called."""

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness import HostProcess, running, wait_for, write_plugin

HERE = Path(__file__).parent
CLIENTS = HERE / "clients"
NODE = Path(os.environ.get("CO2_TEST_NODE", HERE / ".node"))

HAM = """
from co2 import plugin

class X_Spam(plugin.Co2Plugin):
    def x_add(self, data_dict):
        return sum(data_dict["data"])
"""


@dataclass(frozen=True)
class Client:
    """One script.

    Attributes:
        file: its name.
        says: what it sends.
        program: that runs it.
        method: of its own that doubles a number; '' where it serves no port.
        needs: a command that succeeds where its library is installed.
    """

    file: str
    says: str
    program: str
    method: str
    needs: tuple[str, ...]


LIST = [
    Client("rpc_xml.pl", "RPC::XML", "perl", "perl.double", ("perl", "-MRPC::XML::Server", "-e1")),
    Client("frontier.pl", "Frontier", "perl", "frontier.double", ("perl", "-MFrontier::Daemon", "-e1")),
    Client("lite.pl", "XMLRPC::Lite", "perl", "", ("perl", "-MXMLRPC::Lite", "-e1")),
    Client("member.rb", "Ruby", "ruby", "ruby.double", ("ruby", "-rxmlrpc/server", "-e1")),
    Client("member.php", "PHP", "php", "", ("php", "-r", "exit((int) !function_exists('xmlrpc_decode'));")),
    Client("member.c", "C", "", "", ("xmlrpc-c-config", "--version")),
    Client("member.js", "Node", "node", "node.double", ("test", "-d", str(NODE / "node_modules" / "xmlrpc"))),
]


def is_there(needs: tuple[str, ...]) -> bool:
    if shutil.which(needs[0]) is None:
        return False
    return subprocess.run(needs, capture_output=True, timeout=30, check=False).returncode == 0


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    base = tmp_path_factory.mktemp("interop")
    write_plugin(base / "satellite", "ham", spam=HAM)
    with (
        running(base / "relay", "relay") as host,
        running(base / "satellite", "satellite", "--relay", host.url),
        host.proxy() as proxy,
    ):
        rows: Any = proxy.relay.get_satellites
        wait_for(lambda: any("ham.spam.add" in row["methods"] for row in rows({})), "the plugin is known")
        yield host


@contextlib.contextmanager
def started(client: Client, relay: HostProcess, folder: Path) -> Iterator[list[str]]:
    """Run a client; give the lines that it has printed by now."""
    command = [client.program, str(CLIENTS / client.file)]
    if client.file.endswith(".c"):
        flags = subprocess.check_output(["xmlrpc-c-config", "client", "--cflags", "--libs"], text=True).split()
        command = [str(folder / "member")]
        subprocess.run(["cc", str(CLIENTS / client.file), *flags, "-o", command[0]], check=True, timeout=60)
    lines: list[str] = []
    with (
        (folder / "stderr").open("w") as stderr,
        subprocess.Popen(
            [*command, relay.url],
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",  # Perl prints in Latin-1
            env={**os.environ, "NODE_PATH": str(NODE / "node_modules")},
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        reader = threading.Thread(target=lambda out: lines.extend(iter(out.readline, "")), args=(process.stdout,))
        reader.start()
        try:
            yield lines
        finally:
            os.killpg(process.pid, 9)  # also what it has started
            process.wait(10)
            reader.join(10)


@pytest.mark.parametrize("client", LIST, ids=lambda client: client.file)
def test_a_member_in_another_language(client: Client, relay: HostProcess, tmp_path: Path) -> None:
    if not is_there(client.needs):
        if os.environ.get("CI"):
            pytest.fail(f"{client.needs} fails: make peers installs what it needs")
        pytest.skip(f"{client.says} is not installed; make peers does that")
    with relay.proxy() as proxy:
        told: Any = proxy.relay.register({})
        me, after = told["host_id"], told["position"]

        def heard() -> dict[str, Any] | None:
            read: Any = proxy.relay.fetch({"host_id": me, "after": after, "wait": 1})
            return next((message for message in read["messages"] if message["data"] == client.says), None)

        with started(client, relay, tmp_path) as lines:
            try:
                message = wait_for(heard, "what it sends", 30)
                assert message["channel"] == "hello"
                wait_for(lambda: "answer 42\n" in lines, "what the plugin answered it", 30)
                proxy.relay.relay({"host_id": me, "data": "caf\u00e9"})
                wait_for(lambda: any(line.startswith("got caf") for line in lines), "it got a message", 30)
                if client.method:
                    asked = {"method_name": client.method, "host_id": message["host_id"], "data": 21}
                    assert proxy.method_call(asked) == 42
                    assert getattr(proxy, client.method)({"data": 4}) == 8
            except BaseException:
                print(f"{client.file} said: {lines}\n{(tmp_path / 'stderr').read_text()}")
                raise
        proxy.relay.unregister({"host_id": me})


def test_what_the_page_shows_is_what_is_run_here() -> None:
    page = (HERE.parent.parent / "docs" / "clients.md").read_text()
    for client in LIST:
        assert (CLIENTS / client.file).read_text() in page, f"{client.file} is another one in docs/clients.md"
