"""Which code runs, seen from outside: commands, the page, signals; whole processes. See also test_wishes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import xmlrpc.client
from pathlib import Path

import pytest

from co2.server.admin.file_watch import signature
from tests.harness import HostProcess, running, wait_for, write_plugin
from tests.system.ham import SPAM, command, edit, ham, package, say


def test_hangup_reloads_what_has_changed_and_nothing_else(tmp_path: Path) -> None:
    write_plugin(tmp_path, "eggs", spam=SPAM, helper="WORD = 'eggs'")
    (tmp_path / "co2.toml").write_text("[plugin.ham]\nshrub = 1\n")
    with ham(tmp_path) as (satellite, proxy):
        edit(tmp_path, "peng")
        os.kill(satellite.pid, signal.SIGHUP)
        wait_for(lambda: package(proxy)["load"] == 2, "the new code")
        assert say(proxy) == "peng"
        assert package(proxy, "eggs")["load"] == 1
        assert proxy.ham.spam.config({"data": None}) == {"shrub": 1}
        (tmp_path / "co2.toml").write_text("[plugin.ham]\nshrub = 2\n")
        os.kill(satellite.pid, signal.SIGHUP)
        wait_for(lambda: package(proxy)["load"] == 3, "the new configuration")
        assert proxy.ham.spam.config({"data": None}) == {"shrub": 2}
        (tmp_path / "co2.toml").write_text("[plugin.ham\n")
        os.kill(satellite.pid, signal.SIGHUP)
        wait_for(lambda: "nothing is reloaded" in satellite.stderr, "the complaint")
        assert say(proxy) == "peng"


AT_A_TERMINAL = """
import os, pty, signal, sys, time

nohup, *command = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    # Not as it was inherited: the tests themselves may have been started with nohup.
    signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup == "nohup" else signal.SIG_DFL)
    os.execv(command[0], command)
said = b""
while b"ready " not in said:
    said += os.read(terminal, 4096)
os.close(terminal)  # as a window that is closed
deadline = time.monotonic() + (20 if nohup == "no" else 1)
while time.monotonic() < deadline:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        sys.exit(status)
    time.sleep(0.02)
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
sys.exit(77)
"""


@pytest.mark.parametrize(("nohup", "code"), [("no", 0), ("nohup", 77)])
def test_a_closed_terminal_ends_a_host_unless_it_was_started_with_nohup(
    tmp_path: Path, nohup: str, code: int
) -> None:
    host = [sys.executable, "-m", "co2", "satellite", "--port", "0", "--state", str(tmp_path / "state")]
    done = subprocess.run(
        [sys.executable, "-c", AT_A_TERMINAL, nohup, *host, "--relay", "http://127.0.0.1:1"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    log = (tmp_path / "state" / "logs" / "co2.log").read_text()
    assert ("stopped" in log) == (nohup == "no")


def test_watching_sees_a_single_file_that_changes_and_one_that_is_new(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_plugin(tmp_path, name, spam="")  # so that the folder is there
    folder = next(tmp_path.glob("**/one")).parent
    before = signature(folder)
    (folder / "alone.py").write_text("WORD = 1\n")
    new = signature(folder)
    assert new != before
    (folder / "alone.py").write_text("WORD = 22\n")
    assert signature(folder) not in (before, new)


def test_a_relay_minds_no_hangup(tmp_path: Path) -> None:
    with running(tmp_path, "relay") as relay, relay.proxy() as proxy:
        os.kill(relay.pid, signal.SIGHUP)
        wait_for(lambda: "SIGHUP" in relay.log(), "it has come")
        assert proxy.ping() is True


def test_new_code_that_hangs_freezes_nobody(tmp_path: Path) -> None:
    write_plugin(tmp_path, "eggs", spam=SPAM, helper="WORD = 'eggs'")
    (tmp_path / "co2.toml").write_text("[satellite]\nload_timeout = 1.0\n")
    with ham(tmp_path) as (satellite, proxy):
        edit(tmp_path, "'; import time; time.sleep(99) #")
        loading = subprocess.Popen(
            [sys.executable, "-m", "co2", "plugin", "reload", "ham", "--url", satellite.url],
            stderr=subprocess.PIPE,
            text=True,
        )
        answers = 0
        while loading.poll() is None:
            assert (say(proxy), proxy.eggs.spam.say({"data": None})) == ("nih", "eggs")
            answers += 1
        assert loading.returncode == 1
        assert answers > 10
        assert loading.stderr is not None
        with loading.stderr:
            told = loading.stderr.read()
        assert "hangs: loading took longer than 1 s (at " in told
        assert "helper.py:1" in told


# ---- commands --------------------------------------------------------------------------------------------


def test_load_and_unload(tmp_path: Path) -> None:
    with ham(tmp_path, "--plugin", "ham") as (satellite, proxy):
        write_plugin(tmp_path, "eggs", spam=SPAM, helper="WORD = 'eggs'")
        assert "eggs: loaded, load 1" in command(satellite, "load", "eggs").stdout
        assert proxy.eggs.spam.say({"data": None}) == "eggs"
        assert json.loads(command(satellite, "load", "example", "--json").stdout)["state"] == "running"
        assert json.loads(command(satellite, "unload", "eggs", "--json").stdout) == {"unloaded": "eggs"}
        assert "eggs.spam.say" not in proxy.system.listMethods()
        assert package(proxy, "eggs") is None
        for args, said in (
            (("unload", "eggs"), "plugin package 'eggs': it is not loaded"),
            (("reload", "eggs"), "plugin package 'eggs': it is not loaded"),
            (("load", "ham"), "already loaded"),
            (("load", "hma"), "did you mean 'ham'?"),
            (("logs", "eggs"), "plugin package 'eggs': it is not loaded"),
        ):
            done = command(satellite, *args)
            assert (done.returncode, done.stdout) == (1, "")
            assert said in done.stderr


def test_what_is_not_loaded_is_said_once(tmp_path: Path) -> None:
    with ham(tmp_path, "--plugin", "ham") as (satellite, _):
        write_plugin(tmp_path, "eggs", spam="1 / 0")
        place = tmp_path / "plugins" / "eggs" / "spam.py"
        what = f"plugin package 'eggs': {place}:1: 'spam' cannot be imported: ZeroDivisionError: division by zero"
        for verb in ("load", "load", "reload"):
            assert command(satellite, verb, "eggs").stderr == f"co2: fault 1013: {what}\n"


def test_logs(tmp_path: Path) -> None:
    with ham(tmp_path) as (satellite, proxy):
        proxy.ham.spam.print({"data": "shrubbery"})
        shown = _until_logged(satellite, "shrubbery")
        assert "\x1b" not in shown
        assert "loaded: ham.spam.X_Spam (load 1" in shown
        rows = [json.loads(line) for line in command(satellite, "logs", "ham", "--json").stdout.splitlines()]
        assert [row["number"] for row in rows] == [*range(1, len(rows) + 1)]
        assert len(command(satellite, "logs", "ham", "--lines", "1").stdout.splitlines()) == 1


def _until_logged(satellite: HostProcess, word: str) -> str:
    def shown() -> str:
        out = command(satellite, "logs", "ham").stdout
        return out if word in out else ""

    return wait_for(shown, f"{word} in the log")


def test_ps_shows_the_plugins_of_all_satellites(tmp_path: Path) -> None:
    write_plugin(tmp_path / "satellite", "ham", spam=SPAM, helper="WORD = 'nih'")
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "satellite", "satellite", "--relay", relay.url) as satellite,
        relay.proxy() as proxy,
    ):
        wait_for(proxy.relay.get_satellites, "the satellite")
        ps = [sys.executable, "-m", "co2", "ps", "--plugins", "--relay", relay.url]
        done = subprocess.run([*ps, "--json"], capture_output=True, text=True, timeout=60)
        (row,) = json.loads(done.stdout)
        assert (row["name"], row["load"], row["host"]) == ("ham", 1, satellite.host_id)
        assert row["code"] in subprocess.run(ps, capture_output=True, text=True, timeout=60).stdout
        # Not through a relay: only from the satellite's own machine.
        for method in ("load", "unload", "reload", "get_log"):
            argument = {"method_name": f"co2.plugin.{method}", "host_id": satellite.host_id, "data": "ham"}
            with pytest.raises(xmlrpc.client.Fault) as caught:
                proxy.method_call(argument)
            assert caught.value.faultCode == 1012


def test_a_parked_package_is_tried_again_on_demand(tmp_path: Path) -> None:
    (tmp_path / "co2.toml").write_text("[limits.ham]\ndeaths = 2\n")
    with ham(tmp_path) as (satellite, proxy):
        edit(tmp_path, "'; import os, threading; threading.Timer(0.2, os._exit, (1,)).start() #")
        with contextlib.suppress(xmlrpc.client.Fault):
            proxy.co2.plugin.reload("ham")
        # On trial the old code comes back; so it takes a load that nothing comes back from.
        wait_for(lambda: package(proxy)["reloads"]["reverted"] == 1, "the old code")
        proxy.co2.plugin.unload("ham")
        with contextlib.suppress(xmlrpc.client.Fault):
            proxy.co2.plugin.load("ham")
        wait_for(lambda: package(proxy)["state"] == "parked", "parked")
        assert "died 2 times" in satellite.log()
        edit(tmp_path, "peng")
        assert "ham: reloaded" in command(satellite, "reload", "ham").stdout
        assert (say(proxy), package(proxy)["state"], package(proxy)["last_error"]) == ("peng", "running", "")


# ---- the button ------------------------------------------------------------------------------------------


def press(satellite: HostProcess, origin: str | None, query: str = "?package=ham", **more: str) -> tuple[int, str]:
    headers = {"Host": f"127.0.0.1:{satellite.port}", "Content-Length": "0", **more}
    if origin is not None:
        headers["Origin"] = origin
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", satellite.port), 20) as sock:
        sock.sendall(f"POST /plugins/reload{query} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        answer = b""
        while data := sock.recv(65536):
            answer += data
    return int(answer.split()[1]), answer.decode()


def test_the_button_reloads_for_our_own_page_only(tmp_path: Path) -> None:
    with ham(tmp_path) as (satellite, proxy):
        page = urllib.request.urlopen(f"{satellite.url}/plugins").read().decode()
        assert '<form method="post" action="/plugins/reload?package=ham"><button>Reload</button></form>' in page
        ours = satellite.url
        edit(tmp_path, "peng")
        for origin, more in (
            (None, {}),
            ("http://evil.example", {}),
            ("null", {}),
            (ours, {"Sec-Fetch-Site": "cross-site"}),
        ):
            assert press(satellite, origin, **more)[0] == 403
        assert press(satellite, ours, **{"Content-Length": "3"})[0] == 400
        assert press(satellite, ours, "")[0] == 400
        assert say(proxy) == "nih"
        status, answer = press(satellite, ours)
        assert (status, "Location: /plugins?pressed=ham#ham" in answer) == (303, True)
        assert say(proxy) == "peng"
        edit(tmp_path, "' +")
        assert press(satellite, ours)[0] == 303
        page = urllib.request.urlopen(f"{satellite.url}/plugins").read().decode()
        assert "SyntaxError" in page
        assert say(proxy) == "peng"
        assert press(satellite, ours, "?package=no_such")[0] == 303
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(f"{satellite.url}/plugins/reload?package=ham")
