"""Real hosts in their own processes, on free ports, for tests."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import xmlrpc.client
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from co2.plugin.packages.source import NOT_OURS
from co2.testing.tables import toml_text
from co2.testing.waiting import PATIENCE, wait_for

__all__ = ["HostProcess", "Proxy", "RealNetwork", "StartedHosts"]

_EXIT = 15.0
"""Seconds in which a host must have ended."""

_LOG_SHOWN = 8000
"""Characters of a log that are shown when a test fails."""


class Proxy(xmlrpc.client.ServerProxy):
    """The standard library's own client; ``with`` closes it."""

    def __init__(self, url: str, timeout: float = 40) -> None:
        super().__init__(f"{url}/RPC2", transport=_Transport(timeout), allow_none=True, use_builtin_types=True)

    if TYPE_CHECKING:
        # What a method returns depends on the method; typeshed has a union of all that XML-RPC can carry.
        def __getattr__(self, name: str, /) -> Any: ...


class _Transport(xmlrpc.client.Transport):
    def __init__(self, timeout: float) -> None:
        super().__init__(use_builtin_types=True)
        self._timeout = timeout

    def make_connection(self, host: Any) -> Any:
        connection = super().make_connection(host)
        connection.timeout = self._timeout
        return connection


class HostProcess:
    """A relay or satellite in its own process, with its own state folder. It is ready once it is made.

    Args:
        folder: for state and plugins.
        role: 'relay' or 'satellite'.
        args: further command-line arguments.
        env: further environment variables.
        program: run in place of co2 itself.

    Attributes:
        host_id: from its ready line.
        url: likewise.
        port: likewise.

    Raises:
        AssertionError: it did not become ready; the text has its output.
    """

    def __init__(
        self,
        folder: Path,
        role: str,
        *args: str,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "co2"),
    ) -> None:
        self.folder = folder
        self.role = role
        self.state = folder / "state"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plugins").mkdir(exist_ok=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("CO2_")}
        command = [*program, role, "--port", "0", "--state", str(self.state)]
        self.process = subprocess.Popen(  # noqa: S603 - co2 itself, with arguments of a test
            [*command, *args],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",  # else nobody reads on after an invalid byte, and the host waits
            env={**clean, **(env or {})},
        )
        self._out: list[str] = []
        self._err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._out), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._err), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self.ready_line = wait_for(self._first_line, f"the ready line of the {role}", max(30, PATIENCE))
            found = re.fullmatch(r"ready (relay|satellite) (\S+) (http://\S+)", self.ready_line)
            assert found, f"{self.ready_line!r}; stderr: {self.stderr}"
        except BaseException:
            self.kill()
            raise
        self.host_id, self.url = found[2], found[3]
        self.port = int(self.url.rpartition(":")[2])

    def __repr__(self) -> str:
        return f"<{self.role} {self.host_id}>"

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self.process.pid

    @property
    def stderr(self) -> str:
        """Its output there so far."""
        return "".join(self._err)

    @property
    def stdout(self) -> str:
        """Its output there so far."""
        return "".join(self._out)

    def log(self, name: str = "co2.log") -> str:
        """Return the content of a log file so far."""
        path = self.state / "logs" / name
        return path.read_text("utf-8") if path.exists() else ""

    def proxy(self, timeout: float = 40) -> Proxy:
        """Return a client for its methods: ``with host.proxy() as proxy: proxy.ping()``."""
        return Proxy(self.url, timeout)

    def call(self, method: str, data: Any = None, **keys: Any) -> Any:
        """Call a method of this host, or through it one of another.

        Raises:
            xmlrpc.client.Fault: the host answered with one.
        """
        with self.proxy() as proxy:
            return getattr(proxy, method)({**keys, "data": data})

    def stop(self) -> int:
        """End the process in good order and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self._ended()

    def _ended(self) -> int:
        try:
            code = self.process.wait(_EXIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end within {_EXIT:g} s; stderr: {self.stderr}") from None
        finally:
            for reader in self._readers:
                reader.join(5)
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe:
                    pipe.close()
        return code

    def _first_line(self) -> str:
        if self.process.poll() is not None and not self._out:
            self._readers[1].join(5)
            raise AssertionError(f"ended with {self.process.returncode} before it was ready: {self.stderr}")
        return self._out[0].rstrip("\n") if self._out and self._out[0].endswith("\n") else ""

    @staticmethod
    def _read(pipe: Any, lines: list[str]) -> None:
        for line in pipe:
            lines.append(line)


class StartedHosts:
    """The hosts that a test has started; at the end of ``with`` all are stopped.

    Args:
        folder: for their folders.
        tables: of their ``co2.toml``.
    """

    def __init__(self, folder: Path, tables: Mapping[str, Any]) -> None:
        self._folder = folder
        self._tables = tables
        self.all: list[HostProcess] = []

    def __enter__(self) -> "StartedHosts":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            codes = [(host, host.stop()) for host in reversed(self.all) if host.process.poll() is None]
        finally:
            for host in self.all:
                if host.process.poll() is None:
                    host.kill()
        wrong = [f"{host!r} ended with {code}: {host.stderr}" for host, code in codes if code]
        if wrong and kind is None:
            raise AssertionError("\n".join(wrong))

    def start(
        self,
        role: str,
        *plugins: str | Path,
        relay: str = "",
        config: Mapping[str, Any] | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> HostProcess:
        """Start a host.

        Args:
            role: 'relay' or 'satellite'.
            plugins: folders or files of packages, or names of bundled or installed ones.
            relay: URL of a satellite's relay.
            config: tables of its ``co2.toml``, besides those of the marker.
            args: further command-line arguments.
            env: further environment variables.
        """
        folder = self._folder / f"{role}{len(self.all) + 1}"
        (folder / "plugins").mkdir(parents=True)
        named = []
        for plugin in plugins:
            name = _copied(plugin.resolve(), folder / "plugins") if isinstance(plugin, Path) else plugin
            named += ["--plugin", name]
        (folder / "co2.toml").write_text(toml_text({**self._tables, **(config or {})}), "utf-8")
        more = ["--relay", relay] if relay else []
        host = HostProcess(folder, role, *named, *more, *args, env=env)
        self.all.append(host)
        return host

    def report(self) -> str:
        """Return the output of all hosts."""
        return "\n".join(
            f"--- {host!r}, stderr:\n{host.stderr}--- co2.log:\n{host.log()[-_LOG_SHOWN:]}" for host in self.all
        )


class RealNetwork:
    """A relay in its own process, and satellites; the fixture ``co2_network`` makes one.

    Attributes:
        relay: the relay's process.
    """

    patience = PATIENCE

    def __init__(self, hosts: StartedHosts) -> None:
        self._hosts = hosts
        self.relay = hosts.start("relay")
        self._received: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        with self.relay.proxy() as proxy:
            told = proxy.relay.register({})
        self._me, self._after = told["host_id"], told["position"]

    def __repr__(self) -> str:
        return f"<network of {self.relay!r}>"

    def satellite(self, *plugins: str | Path, **more: Any) -> HostProcess:
        """Start a satellite, and wait until the relay knows it.

        Args:
            plugins: folders or files of packages, or names of bundled or installed ones.
            more: as for the fixture ``co2_host``: ``config``, ``args``, ``env``.
        """
        satellite = self._hosts.start("satellite", *plugins, relay=self.relay.url, **more)
        origin = satellite.host_id.partition("@")[0]
        with self.relay.proxy() as proxy:

            def known() -> bool:
                rows = proxy.relay.get_satellites({"names": False})
                return any(row["host_id"].partition("@")[0] == origin for row in rows)

            wait_for(known, f"{satellite!r} at the relay")
        return satellite

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message as another member of the network; it is on the relay's disk when this returns."""
        with self.relay.proxy() as proxy:
            proxy.relay.relay({**message, "host_id": self._me})
        self.sent.append(dict(message))

    @property
    def received(self) -> list[dict[str, Any]]:
        """All messages of satellites so far, since the network began."""
        with self.relay.proxy() as proxy:
            while True:
                told = proxy.relay.fetch({"host_id": self._me, "after": self._after, "max": 1000, "wait": 0})
                if not told["messages"]:
                    return list(self._received)
                self._received += told["messages"]
                self._after = told["next"]

    def call(self, method: str, data: Any = None, **keys: Any) -> Any:
        """Call a method of a plugin by its name, on the host that has it.

        Raises:
            xmlrpc.client.Fault: the call failed.
        """
        with self.relay.proxy() as proxy:
            return proxy.method_call({**keys, "method_name": method, "data": data})


def _copied(package: Path, folder: Path) -> str:
    """Copy the code of a package into a plugin folder; return its name."""
    if package.is_dir():
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns(".*", *NOT_OURS))
        return package.name
    shutil.copy(package, folder)
    return package.stem
