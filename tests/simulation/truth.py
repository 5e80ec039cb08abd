"""What really happened: who sent what, where it was written, who heard it. The oracles judge by it."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from co2.protocol.wire.batch import split_batch
from co2.protocol.wire.channel_patterns import Interests

if TYPE_CHECKING:
    from co2.protocol.relay.cursors import Peer
    from co2.protocol.relay.log import Entry
    from co2.protocol.wire.link_frames import Snapshot
    from co2.store.relay_log import RelayLog
    from tests.simulation.engine import Engine
    from tests.simulation.oracles import Oracles
    from tests.simulation.satellite_host import SimSatellite

__all__ = ["Ear", "Gap", "Message", "Run", "Truth"]

Key = tuple[int, int]
"""A message: (run, number in it). Live ones count down from -1."""


@dataclass(slots=True)
class Message:
    """One that was sent."""

    time: float
    plugin: str
    channel: str


@dataclass(slots=True, eq=False)
class Run:
    """One run of a satellite, or a client of XML-RPC.

    Attributes:
        number: by which messages say whose they are.
        origin: of the sender.
        epoch: 0 for a client.
        messages: numbered ones; those of a satellite have the number seq - 1.
        live: those on live channels.
        acked: last seq that the satellite was told to be on disk.
        answered: numbers of a client's messages that were answered.
        stored: last seq that is on the satellite's own disk.
        in_doubt: up to here a state folder of the relay was lost after the acknowledgement.
        overtaken: up to here a clone of its satellite has begun behind it, in a new log of the relay: what comes
            of it later looks like repeats.
        rows: (first number, how many, log id, position) wherever they were appended.
        alive: its satellite still runs.
        of_before: its satellite has no receipts: what the relay lost after the acknowledgement nobody is told.
    """

    number: int
    origin: str
    epoch: int
    messages: list[Message] = field(default_factory=list)
    live: list[Message] = field(default_factory=list)
    acked: int = 0
    answered: set[int] = field(default_factory=set)
    stored: int = 0
    in_doubt: int = 0
    overtaken: int = 0
    rows: list[tuple[int, int, str, int]] = field(default_factory=list)
    alive: bool = True
    of_before: bool = False

    def positions(self, number: int) -> list[tuple[str, int]]:
        """Give (log id, position) wherever a message was appended."""
        return [
            (log_id, position + number - first)
            for first, count, log_id, position in self.rows
            if first <= number < first + count
        ]

    def is_safe(self, number: int) -> bool:
        """Tell whether a message must not be lost."""
        if not self.epoch:
            return number in self.answered and number >= self.in_doubt
        seq = number + 1
        if seq <= self.overtaken or (self.of_before and seq <= self.in_doubt):
            return False
        return self.alive or self.in_doubt < seq <= max(self.acked, self.stored)


@dataclass(frozen=True, slots=True)
class Gap:
    """What a plugin was told."""

    time: float
    after: int
    next: int
    reasons: tuple[str, ...]


class Ear:
    """One receiving plugin, through all lives of its satellite.

    Attributes:
        since: messages that were sent later must come; None before its first subscription of this life is known.
        saved: likewise, for a durable one: from when on its place is on disk.
        floor: (log id, position) behind which this life begins.
        loaded_at: from when on it hears its siblings.
        begun: (log id, position) of the last values that it got first; None for none.
        got: numbers by run, in this life.
        ever: likewise, of all lives.
        given_up: dead letters made by deaths.
        gaps: that it was told, in all lives.
    """

    def __init__(
        self,
        truth: "Truth",
        satellite: "SimSatellite",
        package: str,
        plugin: str,
        channels: list[str],
        durable: bool,
        snapshot: list[str],
    ) -> None:
        self.truth = truth
        self.satellite = satellite
        self.package = package
        self.plugin = plugin
        self.durable = durable
        self.interests = Interests(channels or None)
        self.name = f"{satellite.name}/{plugin}"
        self.snapshot = Interests(snapshot)
        self.begun: tuple[str, int] | None = None
        self.values: set[str] = set()
        self.value_at: dict[str, int] = {}
        self.last_on: dict[tuple[int, str, str], int] = {}
        self.since: float | None = None
        self.saved: float | None = None
        self.floor: tuple[str, int] | None = None
        self.loaded_at: float | None = None
        self.got: dict[int, set[int]] = defaultdict(set)
        self.ever: dict[int, set[int]] = defaultdict(set)
        self.times: dict[Key, int] = defaultdict(int)
        self.last: dict[tuple[int, str], int] = {}
        self.given_up: set[Key] = set()
        self.gaps: list[Gap] = []
        self.total = 0
        self._inside: Key | None = None
        self._restarted = False

    # ---- lives -----------------------------------------------------------------------------------------

    def new_life(self, cursor: tuple[str, int] | None, *, restored: bool) -> None:
        """Its satellite starts; with what is on disk of where it was, which may be an older copy."""
        if self.saved is not None and cursor is None and not restored:
            self.truth.oracles.broken("a: a durable package goes on", f"{self.name} has lost its place on disk")
        self.since = self.loaded_at = None
        self.got.clear()
        self.times.clear()
        self.last.clear()
        self.last_on.clear()
        self.values.clear()
        self._inside, self._restarted = None, False
        self.floor = cursor
        if cursor is None:
            self.saved = self.begun = None
        else:
            self.since = self.saved

    def begins(self, log_id: str, position: int) -> None:
        """The satellite knows where the package begins in the log."""
        if self.floor is None:
            self.floor = (log_id, position)

    def began_with_values(self, log_id: str, position: int) -> None:
        """It gets the last values as of a position, and then what is behind it."""
        self.floor = self.begun = (log_id, position)
        self.value_at = dict(self.truth.values_of(self.satellite, self.package))

    def is_before_its_values(self, run: Run, number: int) -> bool:
        """Tell whether a message was in the log up to where it began: it need not come."""
        if self.begun is None:
            return False
        names = self.truth.names_of(self.begun[0])
        return any(log_id in names and position <= self.begun[1] for log_id, position in run.positions(number))

    def is_excused_by_its_values(self, run: Run, number: int, channel: str, gone: int) -> bool:
        """Tell whether a message need not come: it was before the values, and one of them has taken its place."""
        if self.begun is None or not self.is_before_its_values(run, number):
            return False
        if not channel or not self.snapshot.wants_one(channel) or channel in self.truth.forgotten:
            return True
        up_to = max(gone, self.value_at.get(channel, 0))
        names = self.truth.names_of(self.begun[0])
        return any(log_id in names and position <= up_to for log_id, position in run.positions(number))

    def subscribed(self, since: float) -> None:
        """The relay knows of the package since then."""
        if self.since is None:
            self.since = since

    def place_saved(self) -> None:
        """A place of it is on disk: from here on another life goes on."""
        if self.saved is None:
            self.saved = self.since

    def child_started(self) -> None:
        """Another child carries it."""
        self._restarted = True

    # ---- what it hears ---------------------------------------------------------------------------------

    def heard(self, message: dict[str, Any]) -> None:
        """A call of receive."""
        broken = self.truth.oracles.broken
        run_number, number = message["data"][0], message["data"][1]
        key = (run_number, number)
        run = self.truth.runs.get(run_number)
        self.total += 1
        sent = None if run is None else self.truth.find(run, number)
        origin = message["host_id"].partition("@")[0]
        if run is None or sent is None or sent.channel != message.get("channel", "") or origin != run.origin:
            broken("d: no invention", f"{self.name} heard {message}, which nobody has sent like that")
            return
        if sent.plugin == f"{run.origin}/{self.plugin}" and run.origin == self.satellite.origin:
            broken("d: nobody hears itself", f"{self.name} heard what it had sent: {key}")
        if not run.epoch and key not in self.truth.on_disk:
            broken("g: what has no number comes from the disk", f"{self.name} heard {key}, which is not there")
        if not self.interests.wants_one(sent.channel):
            broken("d: only what is wanted", f"{self.name} heard channel {sent.channel!r}")
        is_value = message.get("snapshot") is True
        self._check_repeat(run, key, message, is_value=is_value)
        if is_value:
            self._check_value(run, number, sent, again=bool(message.get("repeat")))
        else:
            self._check_order(run, number, sent)
        if number >= 0:
            self.last_on[run_number, sent.plugin, sent.channel] = number
        self.got[run_number].add(number)
        self.ever[run_number].add(number)

    def _check_value(self, run: Run, number: int, sent: Message, *, again: bool) -> None:
        """(j): one last value of each wanted channel, none from behind its position or behind a newer message."""
        broken = self.truth.oracles.broken
        self.truth.engine.count("a last value was heard")
        if not self.snapshot.wants_one(sent.channel) or not sent.channel:
            broken("j: only wanted last values", f"{self.name} heard channel {sent.channel!r}")
        if sent.channel in self.values and not again:
            broken("j: one last value of a channel", f"{self.name} heard two of {sent.channel}")
        self.values.add(sent.channel)
        if self.begun is None:
            broken("j: last values come first", f"{self.name} heard {number} of run {run.number}")
        elif not self.is_before_its_values(run, number) and not self.truth.replaced:
            broken("j: no last value is too new", f"{self.name} heard {number} of run {run.number}: {self.begun}")
        last = self.last_on.get((run.number, sent.plugin, sent.channel))
        if last is not None and number < last:
            broken("j: no last value is too old", f"{self.name} heard {number} of run {run.number} after {last}")

    def _check_repeat(self, run: Run, key: Key, message: dict[str, Any], *, is_value: bool) -> None:
        broken = self.truth.oracles.broken
        again = bool(message.get("repeat"))
        inside, self._inside = self._inside, None
        if inside is not None and inside not in self.given_up and (key != inside or not again):
            broken(
                "c: the message of a death comes again, marked",
                f"{self.name} died in {inside}, then {key} {again}",
            )
        if again and key != inside:
            broken("c: only the message of a death is marked", f"{self.name}: {key}")
        self.times[key] += not again
        if again:
            self.truth.engine.count("a message came again, marked")
            return
        known = key[1] in self.got[key[0]]
        if known and (run.epoch or key[1] < 0 or self.times[key] > self.truth.copies(run, key[1])):
            broken("c: nothing comes twice", f"{self.name} heard {key} of {run.origin} twice in one life")
        elif not known and key[1] in self.ever[key[0]] and not is_value:
            self._check_new_life(run, key)

    def _check_new_life(self, run: Run, key: Key) -> None:
        """It had that in an earlier life: so it must be behind the place where this one began."""
        self.truth.engine.count("a new life heard again what an earlier one had")
        if self.floor is None or run.origin == self.satellite.origin:
            return
        log_id, floor = self.floor
        positions = self.truth.positions_now(run, key[1])
        if log_id == self.truth.log_id and positions and all(position <= floor for position in positions):
            self.truth.oracles.broken(
                "c: a new life goes on where the last one was saved",
                f"{self.name} heard {key} of {run.origin} again, at {positions}; it began after {self.floor}",
            )

    def _check_order(self, run: Run, number: int, sent: Message) -> None:
        if number < 0:
            stream, at = (run.number, sent.plugin + " live"), -number
        else:
            stream, at = (run.number, sent.plugin), number
        last = self.last.get(stream)
        if last is not None and at < last and (run.epoch or not self.truth.replaced):
            self.truth.oracles.broken(
                "b: a sender's order", f"{self.name} heard {number} of run {run.number} {sent.plugin} after {last}"
            )
        self.last[stream] = max(at, last or 0)

    def died_in(self, message: dict[str, Any]) -> None:
        """Its child ends, or hangs, inside of this call."""
        self._inside = (message["data"][0], message["data"][1])

    def refused(self, message: dict[str, Any]) -> None:
        """It raises."""

    def gave_up(self, packed: bytes) -> None:
        """A message was made a dead letter after the deaths in it."""
        run, number, *_ = msgspec.msgpack.decode(packed)["data"]
        self.given_up.add((run, number))

    def told(self, gap: dict[str, Any]) -> None:
        """A call of gap."""
        self._inside = None
        reasons = tuple(gap["reason"].split("; "))
        self.truth.engine.trace(f"{self.name} is told a gap: {gap}")
        for reason in reasons:
            if not self.truth.replaced and reason.startswith(("the relay lost", "log replaced")):
                self.truth.oracles.broken("d: no gap is invented", f"{self.name} is told: {reason}")
            self.truth.engine.count(f"gap told: {_kind(reason)}")
        self.gaps.append(Gap(self.truth.engine.now, gap["after"], gap["next"], reasons))


def _kind(reason: str) -> str:
    if reason.startswith("the relay lost"):
        return "the relay lost what it had acknowledged"
    return "dropped here" if "were dropped" in reason else reason


class Truth:
    """All of it."""

    def __init__(self, engine: "Engine", oracles: "Oracles") -> None:
        self.engine = engine
        self.oracles = oracles
        self.runs: dict[int, Run] = {}
        self.ears: list[Ear] = []
        self.satellites: dict[str, SimSatellite] = {}
        self.log_id = ""
        self._aliases: dict[str, set[str]] = {}
        self.replaced = 0
        self.came_back = False
        self.handed_out = 1
        self._by_epoch: dict[tuple[str, int], list[Run]] = defaultdict(list)
        self._durable: dict[tuple[str, int], int] = {}
        self._appended: dict[tuple[str, int], int] = {}
        self._pending: list[tuple[Entry, str]] = []
        self._left: list[tuple[Entry, str]] = []
        self.on_disk: set[Key] = set()
        self._ever_durable: dict[tuple[str, int], int] = {}
        self._latest: dict[str, int] = {}
        self._known_soon: list[tuple[int, Run]] = []
        self._joins: dict[tuple[str, str], float] = {}
        self.forgotten: set[str] = set()
        self._given: dict[tuple[str, str], tuple[int, dict[str, int]]] = {}

    # ---- sending ---------------------------------------------------------------------------------------

    def new_run(self, origin: str, epoch: int) -> Run:
        """A sender begins."""
        run = Run(len(self.runs) + 1, origin, epoch)
        self.runs[run.number] = run
        self._by_epoch[origin, epoch].append(run)
        return run

    def find(self, run: Run, number: int) -> Message | None:
        """Give a message, None for one that was never sent."""
        messages, index = (run.messages, number) if number >= 0 else (run.live, -1 - number)
        return messages[index] if index < len(messages) else None

    def copies(self, run: Run, number: int) -> int:
        """Tell how often a client's message may come: as often as it was taken in."""
        return len(run.positions(number)) + self.replaced * 10

    def run_of(self, origin: str, epoch: int) -> Run | None:
        """Give the run of that epoch."""
        found = self._by_epoch.get((origin, epoch))
        return found[-1] if found else None

    # ---- the relay's log -------------------------------------------------------------------------------

    def log_opened(self, log: "RelayLog") -> None:
        """A process of the relay begins with what is on disk."""
        # What the process before was about to commit may be there after all.
        end = int(log._reader.read_meta("end"))
        for entry, _ in self._left:
            if not entry.epoch and entry.end <= end:
                self._found_on_disk(entry)
        self._left.clear()
        self._durable = dict(log.marks)
        for key, last in self._durable.items():
            self._ever_durable[key] = max(last, self._ever_durable.get(key, 0))
        self._appended = dict(log.marks)
        self.log_id = log.log_id
        self._aliases.setdefault(log.log_id, {log.log_id})
        if log.last < self.handed_out:
            self.oracles.broken(
                "g: a position is used once",
                f"the log goes on at {log.last + 1}, {self.handed_out} was handed out",
            )

    def log_renamed(self, log: "RelayLog", before: str) -> None:
        """The log has taken another id: it holds what it held."""
        self.log_id = log.log_id
        self._aliases[log.log_id] = {*self._aliases[before], log.log_id}

    def names_of(self, log_id: str) -> set[str]:
        """Give all ids of a log."""
        return self._aliases.get(log_id, {log_id})

    def positions_now(self, run: Run, number: int) -> list[int]:
        """Give where a message was put in the log of now, which may have had other ids."""
        names = self._aliases.get(self.log_id, ())
        return [position for where, position in run.positions(number) if where in names]

    def state_replaced(self) -> None:
        """The relay has another state folder: what it had acknowledged may be lost, and told where it can be."""
        self.replaced += 1
        self.handed_out = 1
        self._durable.clear()
        for run in self.runs.values():
            run.in_doubt = max(run.in_doubt, run.acked if run.epoch else len(run.messages))

    def relay_ended(self) -> None:
        """Its process is no more."""
        self._left, self._pending = self._pending, []
        self._known_soon.clear()

    def appended(self, log: "RelayLog", entry: "Entry") -> None:
        """Something was put into the log."""
        if entry.position <= self.handed_out:
            self.oracles.broken(
                "g: a position is used once", f"{entry.position} is handed out after {self.handed_out}"
            )
        self.handed_out = max(self.handed_out, entry.end)
        self.log_id = log.log_id
        self._pending.append((entry, log.log_id))
        if entry.epoch:
            key = (entry.origin, entry.epoch)
            known = self._appended.get(key)
            if known is not None and entry.seq <= known:
                self.oracles.broken("g: a number is in the log once", f"{key} {entry.seq} after {known}")
            self._appended[key] = entry.seq + entry.count - 1
            run = self.run_of(*key)
            if run is not None:
                run.rows.append((entry.seq - 1, entry.count, log.log_id, entry.position))
                self._check_runs(run)
            return
        for at, packed in enumerate(split_batch(entry.batch)):
            number, index, *_ = msgspec.msgpack.decode(packed)["data"]
            if (run := self.runs.get(number)) is not None:
                run.rows.append((index, 1, log.log_id, entry.position + at))

    def _check_runs(self, run: Run) -> None:
        """What earlier runs have left comes before what a new one sends; but for clones, and restored copies."""
        alike = [satellite for satellite in self.satellites.values() if satellite.origin == run.origin]
        if len(alike) == 1 and not alike[0].was_restored and run.number < self._latest.get(run.origin, 0):
            self.oracles.broken("b: earlier runs come first", f"run {run.number} of {run.origin} after a later")
        self._latest[run.origin] = max(run.number, self._latest.get(run.origin, 0))

    def given_to_durable(self, ear_name: str, origin: str, epoch: int, last: int) -> None:
        """A durable package is given something out of the log."""
        if epoch and last > self._ever_durable.get((origin, epoch), 0):
            self.oracles.broken(
                "g: a durable package gets what is on disk", f"{ear_name} is given {last} of {origin} before"
            )

    def committed(self, log: "RelayLog", position: int, unsynced: int) -> None:
        """A commit says that everything up to there is on disk; is it?"""
        self._known_soon = [(left - 1, run) for left, run in self._known_soon]
        for left, run in self._known_soon:
            if not left:
                run.in_doubt = 0
        while self._pending and self._pending[0][0].end <= position:
            entry, _ = self._pending.pop(0)
            if entry.epoch and not unsynced:
                key, last = (entry.origin, entry.epoch), entry.seq + entry.count - 1
                self._durable[key] = last
                self._ever_durable[key] = max(last, self._ever_durable.get(key, 0))
            elif not entry.epoch:
                self._found_on_disk(entry)

    def _found_on_disk(self, entry: "Entry") -> None:
        for packed in split_batch(entry.batch):
            number, index, *_ = msgspec.msgpack.decode(packed)["data"]
            self.on_disk.add((number, index))

    def acknowledging(self, origin: str, epoch: int, seq: int) -> None:
        """The relay tells a satellite that everything up to there is on disk."""
        run, durable = self.run_of(origin, epoch), self._durable.get((origin, epoch), 0)
        if run is not None and seq > max(run.acked, durable):
            self.oracles.broken("g: acknowledged after fsync", f"{origin} is told {seq}, on disk is {durable}")

    def acked(self, origin: str, epoch: int, seq: int) -> None:
        """A satellite has heard that."""
        run = self.run_of(origin, epoch)
        if run is not None:
            if seq > max(run.acked, self._durable.get((origin, epoch), 0)):
                run.in_doubt = max(run.in_doubt, seq)  # it was on its way when the state folder was lost
            run.acked = max(run.acked, seq)

    def snapshot_written(self, peer: "Peer", frame: "Snapshot") -> None:
        """The relay sends last values to a package."""
        number, values = self._given.get((peer.address[0], frame.package), (0, {}))
        if number != frame.number:
            values = {}
        values.update({value.channel: value.position for value in frame.values})
        self._given[peer.address[0], frame.package] = frame.number, values

    def values_of(self, satellite: "SimSatellite", package: str) -> dict[str, int]:
        """Give the positions of the last values that a package was sent."""
        return self._given.get((satellite.ip, package), (0, {}))[1]

    def satellite_started(self, satellite: "SimSatellite") -> None:
        """A process of it begins: the relay has not heard of it."""
        for ear in satellite.ears:
            self._joins.pop((satellite.ip, ear.name), None)

    # ---- who is there ----------------------------------------------------------------------------------

    def joined(self, peer: "Peer") -> None:
        """The relay has taken a Hello or an Interest in."""
        ip = peer.address[0]
        satellite = self.satellites.get(ip)
        if satellite is None:
            return
        self._overtake(peer, satellite)
        if (
            satellite.run.epoch not in peer.begins
            and (peer.origin, satellite.run.epoch) not in peer.core.log.marks  # type: ignore[attr-defined]
        ):
            return  # a Hello of the process before, that was on its way when it was killed
        for ear in satellite.ears:
            if ear.package in peer.subscriptions and ear.since is None:
                self._joins[ip, ear.name] = self.engine.now
                if satellite.core.state == "open":
                    ear.subscribed(self.engine.now)
        # What it was told to be safe and is not, it knows; and so does the relay, once that is on disk.
        if satellite.token:  # one of before has no receipt to show for it
            self._known_soon.append((2, satellite.run))

    def _overtake(self, peer: "Peer", satellite: "SimSatellite") -> None:
        """A clone goes on, in a new log, with what it has found of another's run."""
        if not self.replaced:
            return
        for run in self.runs.values():
            if run.alive and run.origin == satellite.origin and run is not satellite.run:
                claimed = peer.begins.get(run.epoch, 0)
                mark = peer.core.log.marks.get((run.origin, run.epoch), 0)  # type: ignore[attr-defined]
                run.overtaken = max(run.overtaken, mark, claimed)

    def left(self, peer: "Peer", reason: str) -> None:
        """The relay has ended a link."""

    def welcomed(self, satellite: "SimSatellite", log_id: str, position: int) -> None:
        """A satellite has its Welcome."""
        for ear in satellite.ears:
            since = self._joins.get((satellite.ip, ear.name))
            if since is not None:
                ear.subscribed(since)
                reader = satellite.core._readers.get(ear.package)
                if reader is None or reader.wish is None:
                    ear.begins(log_id, position)
