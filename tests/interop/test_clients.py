"""Members in other languages, as in docs/how-to/clients.md: they register, fetch, send, call, serve a port."""

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Error, Fault, ServerProxy

import pytest

from co2.errors import ParseError, RemoteFault
from co2.xmlrpc.simple_client import SimpleClient
from tests.harness import HostProcess, running, wait_for, write_plugin
from tests.needs import skip_or_fail

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
        method: of its own that doubles a number; '' where it serves no port, but fetches all that it gets.
        needs: a command that succeeds where its library is installed.
        mode: what follows the relay's URL on its command line.
    """

    file: str
    says: str
    program: str
    method: str
    needs: tuple[str, ...]
    mode: tuple[str, ...] = ()


FETCH = ("fetch",)
NEEDS_LITE = ("perl", "-MXMLRPC::Transport::HTTP", "-e1")
NEEDS_PHP = ("php", "-r", "exit((int) !function_exists('xmlrpc_decode'));")
NEEDS_C = ("xmlrpc-c-config", "client", "abyss-server", "--libs")
NEEDS_TCL = ("sh", "-c", "echo 'exit [catch {package require xmlrpc}]' | tclsh")
TCL = [
    Client("member.tcl", "Tcl", "tclsh", "tcl.double", NEEDS_TCL),
    Client("member.tcl", "Tcl", "tclsh", "", NEEDS_TCL, FETCH),
]
LIST = [
    Client("rpc_xml.pl", "RPC::XML", "perl", "perl.double", ("perl", "-MRPC::XML::Server", "-e1")),
    Client("frontier.pl", "Frontier", "perl", "frontier.double", ("perl", "-MFrontier::Daemon", "-e1")),
    Client("lite.pl", "XMLRPC::Lite", "perl", "lite.double", NEEDS_LITE),
    Client("lite.pl", "XMLRPC::Lite", "perl", "", NEEDS_LITE, FETCH),
    Client("member.rb", "Ruby", "ruby", "ruby.double", ("ruby", "-rxmlrpc/server", "-e1")),
    Client("member.php", "PHP", "php", "php.double", NEEDS_PHP),
    Client("member.php", "PHP", "php", "", NEEDS_PHP, FETCH),
    Client("member.c", "C", "", "c.double", NEEDS_C),
    Client("member.c", "C", "", "", NEEDS_C, FETCH),
    Client("member.js", "Node", "node", "node.double", ("test", "-d", str(NODE / "node_modules" / "xmlrpc"))),
    *TCL,
]

TEXT = "caf\u00e9 <&> \u2603"
OLD = f"{TEXT}, kept"
"""The first message in the log; it is there before the members come."""

AS_TCL_SEES_THEM = [
    (None, ""),
    (2**40, "1099511627776"),
    (1e-7, "1e-07"),
    (2.5, "2.5"),
    (True, "1"),
    ("", ""),
    (b"abc", "YWJj"),
    ([1, None], "1 {}"),
    ({"a b": {"": 1}}, "{{a b} {{{} 1}}}"),
    (TEXT, TEXT),
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
        host.proxy() as proxy,
        running(base / "satellite", "satellite", "--relay", host.url),
    ):
        proxy.relay.relay({"data": OLD})
        rows: Any = proxy.relay.get_satellites
        wait_for(lambda: any("ham.spam.add" in row["methods"] for row in rows({})), "the plugin is known")
        yield host


@contextlib.contextmanager
def started(client: Client, relay: HostProcess, folder: Path) -> Iterator[list[str]]:
    """Run a client; give the lines that it has printed by now."""
    command = [client.program, str(CLIENTS / client.file)]
    if client.file.endswith(".c"):
        flags = subprocess.check_output(
            ["xmlrpc-c-config", "client", "abyss-server", "--cflags", "--libs"], text=True
        )
        command = [str(folder / "member")]
        subprocess.run(
            ["cc", str(CLIENTS / client.file), *flags.split(), "-o", command[0]], check=True, timeout=60
        )
    lines: list[str] = []
    with (
        (folder / "stderr").open("w") as stderr,
        subprocess.Popen(
            [*command, relay.url, *client.mode],
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="backslashreplace",  # a byte that is not UTF-8 is seen, and equals nothing
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


def skip_without(client: Client) -> None:
    """Skip the test where the client's library is not installed; in CI that is a failure."""
    if not is_there(client.needs):
        skip_or_fail(f"{client.says} is not installed; make peers does that ({client.needs} fails)")


@pytest.mark.parametrize("client", LIST, ids=lambda client: " ".join((client.file, *client.mode)))
def test_a_member_in_another_language(client: Client, relay: HostProcess, tmp_path: Path) -> None:
    skip_without(client)
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
                wait_for(lambda: len(lines) >= 2, "what it fetched, and what the plugin answered it", 30)
                proxy.relay.relay({"host_id": me, "data": TEXT})
                wait_for(lambda: len(lines) >= 3, "it got a message", 30)
                assert lines[:3] == [f"kept {OLD}\n", "answer 42\n", f"got {TEXT}\n"]
                if client.method:
                    asked = {"method_name": client.method, "host_id": message["host_id"]}
                    for number in range(50):  # one right behind the other, whether or not it closes in between
                        assert proxy.method_call({**asked, "data": number}) == 2 * number
                    assert getattr(proxy, client.method)({"data": 4}) == 8
                    with pytest.raises(Fault) as caught:
                        proxy.method_call({**asked, "method_name": "no.such", "data": 1})
                    assert caught.value.faultCode != ParseError.code, "its Faults are read"
                    refuse_all_but(client.method, message["host_id"])
                    # None, and what has more than 32 bits, stop nobody: what comes behind them arrives.
                    with SimpleClient(relay.url, timeout=30) as anybody:
                        for value in (None, 2**40, "behind"):
                            anybody.call("relay.relay", {"data": value})
                    wait_for(lambda: "got behind\n" in lines, "what comes behind", 30)
            except BaseException:
                print(f"{client.file} said: {lines}\n{(tmp_path / 'stderr').read_text()}")
                raise
        proxy.relay.unregister({"host_id": me})


def refuse_all_but(method: str, host_id: str) -> None:
    """Call at a member's own port what a stranger might try: it refuses that, and goes on."""
    url = f"http://127.0.0.1:{host_id.rpartition(':')[2]}"
    for name in ("exit", "exit.now", "main.exit", "call", "POSIX.getpid", "system.shutdown"):
        with ServerProxy(url) as member, pytest.raises(Error):  # a Fault, or HTTP 404
            getattr(member, name)("now")
    with ServerProxy(url) as member:
        assert getattr(member, method)({"data": 8}) == 16


@pytest.mark.parametrize("client", TCL, ids=lambda client: " ".join((client.file, *client.mode)))
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_what_the_page_says_of_tcl(
    client: Client, locale: str, relay: HostProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads every value, in every locale, and calls nothing but what it offers."""
    skip_without(client)
    monkeypatch.setenv("LC_ALL", locale)
    with SimpleClient(relay.url, timeout=30) as anybody, started(client, relay, tmp_path) as lines:
        wait_for(lambda: "answer 42\n" in lines, "it is a member", 30)
        for value, _ in AS_TCL_SEES_THEM:
            anybody.call("relay.relay", {"data": value})
        expected = [f"got {text}\n" for _, text in AS_TCL_SEES_THEM]
        wait_for(lambda: expected[-1] in lines, "it got the last", 30)
        assert lines[-len(expected) :] == expected
        if client.method:
            rows: Any = anybody.call("relay.get_satellites", {})
            row = max((row for row in rows if client.method in row["methods"]), key=lambda row: -row["age"])
            asked = {"method_name": client.method, "host_id": row["host_id"]}
            for number in range(50):  # each over a connection of its own: the member closes them
                assert anybody.call("method_call", {**asked, "data": number}) == 2 * number
            with pytest.raises(RemoteFault, match="eval") as caught:
                anybody.call("method_call", {**asked, "data": "none"})
            assert caught.value.code == 100, "its own Fault comes through whole"
            call_only_its_methods(row["host_id"], tmp_path / "made by a stranger")
            anybody.call("relay.unregister", {"host_id": row["host_id"]})  # others have a method of that name, too


def call_only_its_methods(host_id: str, witness: Path) -> None:
    """Call commands of Tcl at a member's own port: it refuses them, and goes on."""
    with ServerProxy(f"http://127.0.0.1:{host_id.rpartition(':')[2]}") as member:
        for name in ("exec", "::exec", "eval", "exit", "xmlrpc::call", "no.such"):
            with pytest.raises(Fault, match="eval"):
                getattr(member, name)("touch", str(witness))
        assert member.tcl.double({"data": 8}) == 16
    assert not witness.exists()


def test_what_the_page_shows_is_what_is_run_here() -> None:
    page = (HERE.parent.parent / "docs" / "how-to" / "clients.md").read_text()
    for client in LIST:
        assert (CLIENTS / client.file).read_text() in page, f"{client.file} differs in docs/how-to/clients.md"
