"""A relay and three satellites as processes, what is done to them, and whether the promise was kept."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter, deque
from pathlib import Path

import psutil

from tests.harness import HostProcess, wait_for, write_plugin
from tests.soak.cutter import Cutter
from tests.soak.plugins import RECEIVER, SENDER
from tests.soak.verdict import Receiver, Row, Sender

__all__ = ["FAULTS", "Broken", "Network"]

SATELLITES = ("a", "b", "c")
DURABLE = "c"
"""This satellite's receiver is durable."""

KILLS_PER_MINUTE = 3
"""Kills of one package's plugin host: five deaths within a minute would park it."""

SETTLE_TIMEOUT = 90.0
"""Seconds in which everything that was sent must have arrived."""

LONG_STOP = 40.0
"""Seconds that a process stands still: the other side has given up its link meanwhile."""

FAULTS = {
    "kill the relay": 40,
    "kill a satellite": 15,
    "kill a receiving plugin host": 15,
    "kill a sending plugin host": 8,
    "cut all links": 14,
    "stop a process for a moment": 6,
    "stop a process for 40 s": 0.6,
    "an older copy of the relay's state": 3,
    "a new state folder of the relay": 1.5,
}
"""What is done, with how often."""


class Broken(AssertionError):
    """The promise was not kept."""


class Network:
    """The processes.

    Args:
        folder: for everything.
        dice: decide what is done when.

    Attributes:
        done: how often each fault was done.
        kills: how many of them were kill -9.
        history: of the lately done, for the report.
    """

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder = folder
        self.dice = dice
        self.done: Counter[str] = Counter()
        self.kills = 0
        self.history: deque[str] = deque(maxlen=400)
        self.senders = {name: Sender() for name in SATELLITES}
        self.receivers = {name: Receiver(durable=name == DURABLE) for name in SATELLITES}
        self.slowest = 0.0
        self._began = time.monotonic()
        self._read: Counter[Path] = Counter()
        self._host_kills: dict[tuple[str, str], deque[float]] = {}
        self._copy: Path | None = None
        self._replaced = False
        for name in SATELLITES:
            write_plugin(folder / name, "snd", mod=SENDER)
            write_plugin(folder / name, "rcv", mod=RECEIVER.format(durable=name == DURABLE, name=name))
        self.relay = HostProcess(folder / "relay", "relay")
        self.cutter = Cutter(self.relay.port)
        self.hosts = {name: self._satellite(name) for name in SATELLITES}
        self._linked()
        self._take_in()
        for receiver in self.receivers.values():
            receiver.settled()

    def _satellite(self, name: str) -> HostProcess:
        return HostProcess(self.folder / name, "satellite", "--relay", self.cutter.url)

    def _linked(self) -> None:
        def all_linked() -> bool:
            with contextlib.suppress(OSError), self.relay.proxy(5) as proxy:
                rows: list[dict[str, str]] = proxy.relay.get_satellites()  # type: ignore[assignment]
                return sum(row["kind"] == "co2" for row in rows) == len(SATELLITES)
            return False

        wait_for(all_linked, "links", SETTLE_TIMEOUT)

    def say(self, text: str) -> None:
        self.history.append(f"{time.monotonic() - self._began:9.3f}  {text}")

    # ---- what is done ----------------------------------------------------------------------------------

    def cycle(self, faults: int, kinds: dict[str, float] | None = None) -> None:
        """Send, do this many faults, then see that everything is there.

        Raises:
            Broken: it is not.
        """
        self._go(True)
        time.sleep(self.dice.uniform(0.1, 0.5))
        weights = kinds or FAULTS
        for _ in range(faults):
            kind = self.dice.choices(list(weights), list(weights.values()))[0]
            self.say(kind)
            if self._do(kind):
                self.done[kind] += 1
                self.kills += kind.startswith(("kill", "an older", "a new"))
            time.sleep(self.dice.choice((0.0, 0.05, 0.3, 0.8, 1.5)) * self.dice.random())
        self._all_send()
        self._go(False)
        self._settle()

    def _all_send(self) -> None:
        """Wait until everybody is linked, and then for something from each: else the last may come too early."""
        self._linked()
        for name in SATELLITES:
            path = self.folder / name / "sent"
            before = path.stat().st_size if path.exists() else 0
            wait_for(
                lambda path=path, before=before: path.exists() and path.stat().st_size > before,
                f"{name} sends",
                SETTLE_TIMEOUT,
            )

    def _do(self, kind: str) -> bool:
        """Do a fault; tell whether it could be done now."""
        name = self.dice.choice(SATELLITES)
        match kind:
            case "kill the relay":
                self._restart_relay()
            case "kill a satellite":
                self.say(f"  it is {name}")
                self.hosts[name].kill()
                time.sleep(self.dice.choice((0, 0, 0.5)))
                self.hosts[name] = self._satellite(name)
            case "kill a receiving plugin host":
                return self._kill_child(name, "rcv")
            case "kill a sending plugin host":
                return self._kill_child(name, "snd")
            case "cut all links":
                self.say(f"  {self.cutter.cut()} of them")
            case "stop a process for a moment":
                self._stand_still(self.dice.uniform(0.1, 3))
            case "stop a process for 40 s":
                self._stand_still(LONG_STOP)
            case "an older copy of the relay's state":
                if self._copy is None:
                    return False
                self._replace_state(self._copy)
                self._copy = None
            case "a new state folder of the relay":
                self._replace_state(None)
        return True

    def _restart_relay(self) -> None:
        port = self.relay.port
        self.relay.kill()
        self.relay = HostProcess(self.folder / "relay", "relay", "--port", str(port))

    def _kill_child(self, name: str, package: str) -> bool:
        now = time.monotonic()
        times = self._host_kills.setdefault((name, package), deque(maxlen=KILLS_PER_MINUTE))
        if len(times) == KILLS_PER_MINUTE and now - times[0] < 65:
            return False
        found = plugin_host(self.hosts[name], package)
        if found is None:
            return False
        pid = found[0]
        times.append(now)
        self.say(f"  it is {name}'s, {pid}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def _stand_still(self, seconds: float) -> None:
        host = self.dice.choice([self.relay, *self.hosts.values()])
        self.say(f"  {seconds:.1f} s, {'relay' if host is self.relay else host.folder.name}")
        os.kill(host.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(host.pid, signal.SIGCONT)

    def _replace_state(self, copy: Path | None) -> None:
        state = self.folder / "relay" / "state"
        port = self.relay.port
        self._replaced = True
        self.relay.kill()
        shutil.rmtree(state)
        if copy is not None:
            copy.rename(state)
        self.relay = HostProcess(self.folder / "relay", "relay", "--port", str(port))

    def keep_copy(self) -> None:
        """Copy the relay's state as a crash leaves it; it may be put back later."""
        self.say("the relay's state is copied")
        port = self.relay.port
        self.relay.kill()
        if self._copy is not None:
            shutil.rmtree(self._copy)
        self._copy = self.folder / "copy"
        subprocess.run(["cp", "-a", str(self.folder / "relay" / "state"), str(self._copy)], check=True)
        self.relay = HostProcess(self.folder / "relay", "relay", "--port", str(port))

    def _go(self, going: bool) -> None:
        for name in SATELLITES:
            path = self.folder / name / "go"
            path.touch() if going else path.unlink()

    # ---- whether the promise was kept ------------------------------------------------------------------

    def _settle(self) -> None:
        began = time.monotonic()
        self.say("no more is sent")
        living: dict[str, dict[str, int]] = {}
        try:
            wait_for(lambda: self._ended(living), "every sender that lives has flushed", SETTLE_TIMEOUT)
            wait_for(lambda: self._arrived(living), "what they have sent is there", SETTLE_TIMEOUT)
        except AssertionError as error:
            raise Broken(f"{error}: {self._lacking(living)}") from error
        self.slowest = max(self.slowest, time.monotonic() - began)
        self._take_in()
        for name, receiver in self.receivers.items():
            # What a satellite's own plugins send, it hears from them at once, without the relay. Where the state
            # of the relay was replaced, nobody is left who knows what a sender had flushed that is dead by now.
            for other, sender in self.senders.items():
                safe = living[other] if self._replaced else sender.safe
                if other != name and (missing := receiver.missing(safe)):
                    raise Broken(f"{name} misses of {other} what was flushed, without a gap: {missing}")
            if receiver.violations:
                raise Broken(f"{name}: {receiver.violations[:5]}")
            receiver.settled()
        for sender in self.senders.values():
            sender.safe.clear()
            sender.ended.clear()
        self._replaced = False
        self.say(f"all is there, {time.monotonic() - began:.1f} s later")

    def _ended(self, living: dict[str, dict[str, int]]) -> bool:
        """Collect the run of each sender that lives now, with how many it has sent in all."""
        self._take_in()
        for name in SATELLITES:
            found = plugin_host(self.hosts[name], "snd")
            if found is None or found[1] not in self.senders[name].ended:
                return False
            living[name] = {found[1]: self.senders[name].ended[found[1]]}
        return True

    def _arrived(self, living: dict[str, dict[str, int]]) -> bool:
        self._take_in()
        return not self._lacking(living)

    def _lacking(self, living: dict[str, dict[str, int]]) -> list[str]:
        return [
            f"{name} lacks of {other}: {run} up to {count}"
            for name, receiver in self.receivers.items()
            for other, runs in living.items()
            for run, count in runs.items()
            if count and not receiver.has(run, count)
        ]

    def _take_in(self) -> None:
        for name in SATELLITES:
            self.senders[name].take(self._new_rows(self.folder / name / "sent"))
            self.receivers[name].take(self._new_rows(self.folder / name / f"got-{name}"))

    def _new_rows(self, path: Path) -> list[Row]:
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._read[path])
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._read[path] += len(data)
        found = []
        for line in data.decode().splitlines():
            word, first, second = line.split(" ")
            found.append((word, first, second))
        return found

    def close(self) -> None:
        for host in (*self.hosts.values(), self.relay):
            with contextlib.suppress(AssertionError):
                host.stop()
        self.cutter.close()


def plugin_host(host: HostProcess, package: str) -> tuple[int, str] | None:
    """Find the plugin host of a package that lives now, and what it calls its run."""
    path = host.folder / f"pids-{package}"
    if not path.exists():
        return None
    pid, _, run = path.read_text().splitlines()[-1].partition(" ")
    with contextlib.suppress(psutil.Error):
        if psutil.Process(int(pid)).ppid() == host.pid:
            return int(pid), run
    return None
