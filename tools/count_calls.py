"""Count the calls of co2's Python functions, and their files, for one message, one XML-RPC call and one reload.

``make calls`` starts a relay and two satellites as users do, with ``express = false``. The interpreter of every
process records each call (``sys.setprofile``), and a table by process is printed. A message counts from the call
of ``send`` to that of ``receive``, an XML-RPC call or a reload from the request to its answer. Later work, such as
acknowledgements, does not count. A function counts if it is called in more than half of the repetitions, so timers
do not; its number of calls is the median. ``--source FOLDER`` counts another checkout, given its ``src`` folder.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import xmlrpc.client
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent

REPETITIONS = 9
"""Number of times that each is done."""

REST = 1.0
"""Seconds before each repetition, so that other work is finished."""

PATIENCE = 30.0
"""Seconds within which a host must be ready, or write its counts."""

BEGIN, END = signal.SIGRTMIN, signal.SIGRTMIN + 1

COUNTER = """
import json, os, signal, sys, threading, time

calls, counting = [], False

def profile(frame, event, arg):
    if counting and event == "call":
        file = frame.f_code.co_filename
        if SOURCE in file:
            calls.append((time.monotonic_ns(), file.partition(SOURCE)[2] + ":" + frame.f_code.co_name))

def begin(*_):
    global counting
    calls.clear()
    counting = True

def end(*_):
    global counting
    counting = False
    path = os.path.join(FOLDER, str(os.getpid()))
    with open(path + ".new", "w") as file:
        json.dump(calls, file)
    os.rename(path + ".new", path)

signal.signal(signal.SIGRTMIN, begin)
signal.signal(signal.SIGRTMIN + 1, end)
threading.setprofile(profile)
sys.setprofile(profile)
"""
"""Code that each interpreter runs at its start (``sitecustomize``), after two lines that set FOLDER and SOURCE."""

SENDER = """
import os
import threading
import time
from pathlib import Path

from co2 import plugin


class X_Sender(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        os.mkfifo(FIFO)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            with open(FIFO) as fifo:
                for _ in fifo:
                    self.send({"data": time.monotonic_ns()})
"""

RECEIVER = """
import os
import time
from pathlib import Path

from co2 import plugin


class X_Receiver(plugin.Co2Plugin):
    def receive(self, data_dict):
        Path(HEARD + ".new").write_text(f"{data_dict['data']} {time.monotonic_ns()}")
        os.rename(HEARD + ".new", HEARD)
"""

Counts = dict[str, Counter[str]]
"""Calls by function, of each process."""

Span = tuple[int, int]
"""Begin and end, in nanoseconds of the monotonic clock, which all processes share."""


class Network:
    """A relay and two satellites with a plugin each, in a folder of their own.

    Attributes:
        relay_url: URL of the relay.
        receiver_url: URL of the receiving satellite.
    """

    def __init__(self, folder: Path, source: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._counts = folder / "counts"
        self._counts.mkdir()
        site = folder / "site"
        site.mkdir()
        head = f"FOLDER = {str(self._counts)!r}\nSOURCE = {str(source / 'co2') + os.sep!r}\n"
        (site / "sitecustomize.py").write_text(head + COUNTER)
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("CO2_")}
        self._environment["PYTHONPATH"] = os.pathsep.join((str(site), str(source)))
        self._stack = stack
        relay = self._host("relay", "relay", "[relay]\n")
        self.relay_url = relay[1]
        fifo, self._heard = folder / "send", folder / "heard"
        sender = self._satellite("sender", SENDER.replace("FIFO", repr(str(fifo))))
        receiver = self._satellite("receiver", RECEIVER.replace("HEARD", repr(str(self._heard))))
        self.receiver_url = receiver[1]
        self._relay, self._sender, self._receiver = relay[0], sender[0], receiver[0]
        _until(fifo.exists, "the sending plugin")
        self._fifo = os.open(fifo, os.O_WRONLY)
        stack.callback(os.close, self._fifo)
        self.send()

    def send(self) -> Span:
        """Send one message, and wait until the other plugin has received it; return the times of both."""
        self._heard.unlink(missing_ok=True)
        os.write(self._fifo, b"\n")
        _until(self._heard.exists, "the message to arrive")
        sent, heard = self._heard.read_text("ascii").split()
        return int(sent), int(heard)

    def counted(self, do: Callable[[], Span]) -> Counts:
        """Return the calls of each process while something is done."""
        pids = self.pids
        for file in self._counts.iterdir():
            file.unlink()
        time.sleep(REST)
        self._signal(BEGIN, pids)
        # A signal is handled between two instructions of Python: soon, but there is no report of it.
        time.sleep(REST / 10)
        begin, end = do()
        self._signal(END, pids)
        found = {}
        for name, pid in pids.items():
            file = self._counts / str(pid)
            # A reload ends a plugin host, whose calls are not counted.
            _until(partial(_is_written, file, pid), f"the counts of the {name}")
            calls = json.loads(file.read_text("utf-8")) if file.exists() else ()
            found[name] = Counter(function for moment, function in calls if begin <= moment <= end)
        return found

    @property
    def pids(self) -> dict[str, int]:
        """The five processes, in the order in which a message passes them; a reload replaces a plugin host."""
        return {
            "sending plugin host": _child(self._sender),
            "its satellite": self._sender,
            "relay": self._relay,
            "receiving satellite": self._receiver,
            "receiving plugin host": _child(self._receiver),
        }

    def _signal(self, number: int, pids: Mapping[str, int]) -> None:
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _satellite(self, name: str, code: str) -> tuple[int, str]:
        folder = self._folder / f"plugins-{name}" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f'__all__ = ["{name}"]\n')
        (folder / f"{name}.py").write_text(code)
        config = f'[satellite]\nrelay = "{self.relay_url}"\n'
        return self._host(name, "satellite", config, "--plugin-dir", str(folder.parent), "--plugin", name)

    def _host(self, name: str, role: str, config: str, *arguments: str) -> tuple[int, str]:
        """Start a host; return its process id and URL."""
        file = self._folder / f"{name}.toml"
        file.write_text(f"{config}express = false\n")
        file.chmod(0o600)
        where = ("--port", "0", "--state", str(self._folder / f"state-{name}"), "--config", str(file))
        process = subprocess.Popen(
            [sys.executable, "-m", "co2", role, *where, *arguments],
            env=self._environment,
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=(self._folder / f"{name}.log").open("w"),
            text=True,
        )
        self._stack.callback(_end, process)
        assert process.stdout
        for line in process.stdout:
            if line.startswith("ready "):
                return process.pid, line.split()[-1]
        raise SystemExit(f"{role} did not start: {(self._folder / f'{name}.log').read_text()[-2000:]}")


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


def _child(pid: int) -> int:
    """Wait for a satellite's plugin host, and return its process id."""
    found: list[str] = []

    def there() -> bool:
        found[:] = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        return bool(found)

    _until(there, "a plugin host")
    return int(found[0])


def _is_written(file: Path, pid: int) -> bool:
    return file.exists() or not Path(f"/proc/{pid}").exists()


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {PATIENCE:g} s for {what}")
        time.sleep(0.005)


def measured(network: Network, do: Callable[[], Span]) -> Counts:
    """Return the number of calls of each function while something is done."""
    windows = [network.counted(do) for _ in range(REPETITIONS)]
    return {
        name: Counter(
            {
                function: calls
                for function in set().union(*(one.get(name, ()) for one in windows))
                if (calls := int(statistics.median_low(one.get(name, Counter())[function] for one in windows)))
            }
        )
        for name in network.pids
    }


def files_of(calls: Mapping[str, int]) -> set[str]:
    """Return the files of these functions."""
    return {function.partition(":")[0] for function in calls}


@contextlib.contextmanager
def running(source: Path) -> Iterator[Network]:
    """Run the network; end its processes at the end."""
    with tempfile.TemporaryDirectory(prefix="co2-calls-") as folder, contextlib.ExitStack() as stack:
        yield Network(Path(folder), source, stack)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="src folder of the checkout to count")
    parser.add_argument("--functions", action="store_true", help="list each function too")
    given = parser.parse_args()
    with running(given.source.resolve()) as network:
        relay = xmlrpc.client.ServerProxy(network.relay_url)
        satellite = xmlrpc.client.ServerProxy(network.receiver_url)
        me = relay.relay.register({})
        assert isinstance(me, dict)
        satellite.co2.get_properties()
        jobs: dict[str, Callable[[], Span]] = {
            "one message, plugin to plugin": network.send,
            "one relay.relay over XML-RPC": lambda: timed(
                lambda: relay.relay.relay({"host_id": me["host_id"], "data": "called"})
            ),
            "one reload": lambda: timed(lambda: satellite.co2.plugin.reload("receiver")),
        }
        for title, do in jobs.items():
            counts = measured(network, do)
            everything = sum(counts.values(), Counter[str]())
            print(f"\n{title}: {everything.total()} calls in {len(files_of(everything))} files")
            for name, calls in counts.items():
                if calls:
                    print(f"  {name:24}{calls.total():5} calls in {len(files_of(calls)):3} files")
                if given.functions:
                    print(textwrap.indent("\n".join(f"{n:4} {what}" for what, n in sorted(calls.items())), "    "))
        relay("close")()
        satellite("close")()


def timed(do: Callable[[], object]) -> Span:
    """Do something; return when it began and ended."""
    begin = time.monotonic_ns()
    do()
    return begin, time.monotonic_ns()


if __name__ == "__main__":
    main()
