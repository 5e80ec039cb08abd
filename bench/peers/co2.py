"""co2: a real relay and satellites, as their users start them; sender and receivers are plugins.

Every sender and every receiver has a satellite of its own with one plugin host: two more processes on the way of
a message than the peers have. What is sent and counted is counted inside the plugins, which are told what to do
through their ``x_`` methods; how the hosts talk to each other does not matter here.
"""

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request
import xmlrpc.client
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.footprint import children
from bench.peers.base import WARM_UP, Asking, Fleet, PairedPeer, Role, Sent
from bench.peers.brokers import temporary_folder
from bench.processes import line, proxy, python

PLUGINS = Path(__file__).parent / "co2_plugins"

FINISH = 60.0
"""Seconds that a sender may take besides those that it was told to send."""

RELAY = "[relay]\nlog_bytes = 8_589_934_592\n"
"""A log that holds a whole run, as the peers' queues do: who is behind for a moment misses nothing."""

ACKNOWLEDGED = re.compile(r'^co2_messages_total\{direction="out"\} (\S+)', re.M)


class SenderPlugin:
    """The runner's end of a sending plugin."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._proxy = proxy(url)
        self._seconds = 0.0

    def begin(self, do: str, seconds: float = 0, rate: float = 0) -> None:
        self._seconds = seconds
        self._proxy.bench_sender.sender.begin({"data": {"do": do, "seconds": seconds, "rate": rate}})

    def finish(self) -> Sent:
        # Not asked while it sends: that would cost it time.
        time.sleep(self._seconds)
        deadline = time.monotonic() + FINISH
        while not (answer := self._proxy.bench_sender.sender.finished({"data": None})):
            if time.monotonic() > deadline:
                raise TimeoutError("a sending plugin did not finish")
            time.sleep(0.01)
        count, begun, ended = map(int, _texts(answer))
        return Sent(count, begun, ended)

    def close(self) -> None:
        """Close the connection to the satellite."""
        self._proxy("close")()

    def acknowledged(self) -> float:
        """Return how many messages the relay has acknowledged to this satellite since its start."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            found = ACKNOWLEDGED.search(answer.read().decode())
        assert found, "no such counter on /metrics"
        return float(found[1])


class ReceiverPlugin:
    """The runner's end of a receiving plugin."""

    def __init__(self, url: str, package: str = "bench_receiver") -> None:
        self._proxy = proxy(url)
        self._plugin = getattr(self._proxy, package).receiver

    def state(self) -> dict[str, Any]:
        answer = self._plugin.state({"data": None})
        assert isinstance(answer, dict)
        return answer

    def microseconds(self) -> list[float]:
        answer = self._plugin.microseconds({"data": None})
        assert isinstance(answer, list)
        return [float(str(one)) for one in answer]

    def reset(self) -> None:
        self._plugin.reset({"data": None})

    def close(self) -> None:
        """Close the connection to the satellite."""
        self._proxy("close")()


class PingerPlugin:
    """The runner's end of the plugin that asks."""

    def __init__(self, url: str) -> None:
        self._proxy = proxy(url)

    def trips(self, count: int, pause: float) -> list[float]:
        self._proxy.bench_pinger.pinger.begin({"data": {"count": count, "pause": pause}})
        # Not asked while it works: that would cost it time.
        time.sleep(count * pause)
        deadline = time.monotonic() + FINISH
        while time.monotonic() < deadline:
            answer: Any = self._proxy.bench_pinger.pinger.finished({"data": None})
            if answer["problem"]:
                raise TimeoutError(answer["problem"])
            if answer["took"] is not None:
                return [float(str(one)) for one in answer["took"]]
            time.sleep(0.1)
        raise TimeoutError("a plugin that makes round trips did not finish")

    def close(self) -> None:
        """Close the connection to the satellite."""
        self._proxy("close")()


class Co2(PairedPeer):
    title = "co2"
    durable = True

    relay_plugin: Sequence[str] = ()
    relay_config = RELAY
    receiver = "bench_receiver"
    interpreter = sys.executable

    @contextlib.contextmanager
    def fleet(self, senders: int, receivers: int, stamped: bool) -> Iterator[Fleet]:
        with temporary_folder() as folder, contextlib.ExitStack() as stack:
            relay = stack.enter_context(self.host(folder, "relay", "relay", self.relay_config, *self.relay_plugin))
            relay_url = line(relay).split()[-1]
            sending = [
                stack.enter_context(self.satellite(folder, f"sender{i}", relay_url, "bench_sender", {"number": i}))
                for i in range(senders)
            ]
            receiving = [
                stack.enter_context(
                    self.satellite(folder, f"receiver{i}", relay_url, self.receiver, {"stamped": stamped})
                )
                for i in range(receivers)
            ]
            sending_plugins = [SenderPlugin(line(one).split()[-1]) for one in sending]
            receiving_plugins = [ReceiverPlugin(line(one).split()[-1], self.receiver) for one in receiving]
            for sender in sending_plugins:
                stack.callback(sender.close)
            for receiver in receiving_plugins:
                stack.callback(receiver.close)
            yield Fleet(sending_plugins, receiving_plugins, roles(relay, sending, receiving))

    @contextlib.contextmanager
    def pair(self) -> Iterator[Asking]:
        with temporary_folder() as folder, contextlib.ExitStack() as stack:
            relay = stack.enter_context(self.host(folder, "relay", "relay", self.relay_config))
            url = line(relay).split()[-1]
            asking, answering = (
                stack.enter_context(self.satellite(folder, name, url, package, {}))
                for name, package in (("asking", "bench_pinger"), ("answering", "bench_answerer"))
            )
            line(answering)
            pinger = PingerPlugin(line(asking).split()[-1])
            stack.callback(pinger.close)
            pinger.trips(0, 0)  # they have met
            yield pinger

    def host(
        self, folder: str, name: str, role: str, config: str, *arguments: str
    ) -> "contextlib.AbstractContextManager[subprocess.Popen[str]]":
        """Start a host with this peer's Python."""
        return host(folder, name, role, config, *arguments, interpreter=self.interpreter)

    def satellite(
        self, folder: str, name: str, relay_url: str, package: str, settings: dict[str, Any]
    ) -> "contextlib.AbstractContextManager[subprocess.Popen[str]]":
        """Start a satellite with this peer's Python."""
        return satellite(folder, name, relay_url, package, settings, interpreter=self.interpreter)

    def acked(self, seconds: float) -> float:
        with self.fleet(1, 0, stamped=False) as fleet:
            fleet.send("run", WARM_UP)
            (sender,) = fleet.senders
            assert isinstance(sender, SenderPlugin)
            before, begun = sender.acknowledged(), time.monotonic()
            sender.begin("run", seconds)
            time.sleep(seconds)  # the window: what is acknowledged in it is counted, not what is sent
            rate = (sender.acknowledged() - before) / (time.monotonic() - begun)
            sender.finish()
            return rate


class Variant(Co2):
    """The same with another Python, another receiving plugin or other keys of the relay.

    Args:
        title: for tables.
        interpreter: of an environment with the co2 that is meant.
        receiver: package with the receiving plugin.
        relay_keys: lines for the relay's table.
    """

    def __init__(
        self,
        title: str,
        *,
        interpreter: str = sys.executable,
        receiver: str = "bench_receiver",
        relay_keys: str = "",
    ) -> None:
        self.title = title
        self.interpreter = interpreter
        self.receiver = receiver
        self.relay_config = RELAY + relay_keys


class Filtered(Co2):
    """The same, with a relay plugin that every message passes.

    Args:
        change: it puts something into each of them, in place of looking at it only.
    """

    title = "co2 with a relay plugin"
    relay_plugin = ("--plugin-dir", str(PLUGINS), "--plugin", "bench_filter")

    def __init__(self, change: bool) -> None:
        self.relay_config = f"{RELAY}\n[plugin.bench_filter]\nchange = {json.dumps(change)}\n"


def roles(
    relay: "subprocess.Popen[str]",
    sending: "Sequence[subprocess.Popen[str]]",
    receiving: "Sequence[subprocess.Popen[str]]",
) -> dict[Role, int]:
    """Return the processes on the way of a message, in its order, where there is one way only."""
    if len(sending) != 1 or len(receiving) != 1:
        return {}
    (sender,), (receiver,) = sending, receiving
    return {
        Role.SENDER: children(sender.pid)[0],
        Role.SENDING_SATELLITE: sender.pid,
        Role.BROKER: relay.pid,
        Role.RECEIVING_SATELLITE: receiver.pid,
        Role.RECEIVER: children(receiver.pid)[0],
    }


def satellite(
    folder: str,
    name: str,
    relay_url: str,
    package: str,
    settings: dict[str, Any],
    *,
    interpreter: str = sys.executable,
) -> "contextlib.AbstractContextManager[subprocess.Popen[str]]":
    """Start a satellite with one of the packages."""
    table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    config = f'[satellite]\nrelay = "{relay_url}"\n\n[plugin.{package}]\n{table}\n'
    given = ("--plugin-dir", str(PLUGINS), "--plugin", package)
    return host(folder, name, "satellite", config, *given, interpreter=interpreter)


@contextlib.contextmanager
def host(
    folder: str, name: str, role: str, config: str, *arguments: str, interpreter: str = sys.executable
) -> "Iterator[subprocess.Popen[str]]":
    """Start a host with a state folder of its own; say what it said where that goes wrong."""
    place = Path(folder) / name
    place.mkdir()
    file = place / "co2.toml"
    file.write_text(config)
    file.chmod(0o600)
    where: Sequence[str] = ("--port", "0", "--state", str(place / "state"), "--config", str(file))
    log = place / "stderr.log"
    try:
        command = ("-m", "co2", role, *where, *arguments)
        with log.open("w") as errors, python(*command, errors=errors, interpreter=interpreter) as process:
            yield process
    except (Exception, SystemExit):
        if said := log.read_text()[-1000:].strip():
            print(f"bench: {name} said: {said}", flush=True)
        raise


def _texts(answer: "xmlrpc.client._Marshallable") -> list[str]:
    assert isinstance(answer, list)
    return [str(one) for one in answer]


PEER = Co2()
