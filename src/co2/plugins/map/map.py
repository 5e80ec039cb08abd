"""The plugin: messages on the channels of an entry go to another channel, converted, smoothed and at its rate.

Configuration, at the top level of co2.toml::

    [[map]]
    from   = "stage.fader1"     # a pattern: * is one token, > the rest
    to     = "light.dimmer1"    # {1} is what the first * or > has matched
    range  = [0.0, 1.0]         # of what comes
    out    = [0, 255]           # what its two ends become
    curve  = "linear"           # linear, log, exp, s, or a number: the power
    smooth = "100ms"            # time constant, 0 for none
    rate   = 30                 # messages a second at most; the last value always goes; 0 for no limit
    field  = "x"                # of a dictionary, or the number of an item of a list; without it all of the data
    round  = false              # true: send integers

All keys but the first two are optional. No plugin receives its own messages: what an entry sends to a channel of
another entry is passed on inside.
"""

import time
from collections import Counter, deque
from typing import Any

import msgspec

from co2 import plugin

from . import lanes, scale, settings

__all__ = ["X_Map"]

MAX_LANES = 4096
"""Channels that are smoothed or limited at the same time, of all entries; values to further ones go at once."""

MAX_KEPT = 64 * 1024
"""Bytes of a value that waits for its time, numbers not counted; a bigger one goes at once."""

MAX_ALL_KEPT = 4 * 1024 * 1024
"""Bytes of all values that wait, numbers not counted."""

MAX_HANDED_OVER = 512 * 1024
"""Bytes of state that are handed over at a reload; values that wait and have no room go at once."""

MAX_PASSED = 16
"""Maps through which a value passes, on all satellites together: the end of a circle over several of them."""

MAX_BURST = 256
"""Messages that follow from one message, or from one tick of one channel."""

MAX_REMEMBERED = 4096
"""Channels whose entries are cached."""

_LOOKS = 8
"""Lanes that are looked at to find one that can be forgotten."""

PASSED = "mapped"
"""Key of a message: the number of maps that its value has passed."""

_ROW_OVERHEAD = 128


class Entry:
    """An entry at work.

    Args:
        number: its place in the file, from 1.
        settings: of it.

    Attributes:
        waiting: the lanes with a value that waits, by the channel to which it goes.
        counts: of its messages.
        problem: the last one; '' for none.
        timer: runs while a value waits.
    """

    def __init__(self, number: int, settings: settings.MapEntry) -> None:
        self.number = number
        self.settings = settings
        self.key = msgspec.json.encode(settings).decode()
        self.route = settings.route
        self.scale = settings.scaling
        self.pace = lanes.Pace(settings.time_constant, settings.rate, settings.round)
        self.waiting: dict[str, lanes.Lane] = {}
        self.counts: Counter[str] = Counter()
        self.problem = ""
        self.timer: plugin.Timer | None = None

    def __str__(self) -> str:
        return f"[[map]] entry {self.number} ({self.route})"

    def value(self, data: Any) -> tuple[Any, float | None]:
        """Return what data becomes, and the same as a number; None if it cannot be smoothed.

        Raises:
            Unusable: it cannot be mapped.
        """
        found = scale.picked(data, self.settings.field)
        wants_number = self.scale is not None or self.settings.round
        if not wants_number and not (self.pace.smooth and isinstance(found, int | float)):
            return found, None
        number = scale.number_of(found)
        if self.scale is not None:
            number = self.scale(number)
        if self.settings.round:
            return round(number), number
        return (found if self.scale is None and not isinstance(found, bool) else number), number


class X_Map(plugin.Co2Plugin):
    """Carries values from channels to other channels, as the entries [[map]] of co2.toml say."""

    Config = settings.MapSettings
    config: settings.MapSettings

    @classmethod
    def wanted_channels(cls, config: settings.MapSettings) -> list[str]:
        """Return the patterns of all entries; of a channel that none names, without entries."""
        return sorted({one.source for one in config.map}) or ["map.without.entries"]  # [] would be all channels

    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)
        self.now = time.monotonic
        self.entries = [Entry(number, one) for number, one in enumerate(self.config.map, 1)]
        self._entries_by_channel: dict[str, list[tuple[Entry, str]]] = {}
        self._lanes: dict[tuple[int, str], lanes.Lane] = {}
        self._kept = 0
        self._handed_over = False

    def receive(self, data_dict: dict[str, Any]) -> None:
        """Map a message, if an entry names its channel."""
        channel = data_dict.get("channel")
        if type(channel) is not str or not self._entries_of(channel):
            return
        passed = data_dict.get(PASSED, 0)
        self._handed_over = False
        self._map(channel, data_dict["data"], passed if type(passed) is int and passed > 0 else 0)

    def x_status(self, data_dict: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the entries with their counters since the start: messages 'in' and 'out', data that was
        'unusable', messages 'refused' by the network, values 'unpaced' because of a limit, those that ended a
        'circle' or a 'burst', how many are 'moving', because they are not there yet, and the last 'problem'."""
        names = ("in", "out", "unusable", "refused", "unpaced", "circle", "burst")
        return [
            {
                "from": one.route.source,
                "to": one.route.to,
                **{name: one.counts[name] for name in names},
                "moving": len(one.waiting),
                "problem": one.problem,
            }
            for one in self.entries
        ]

    def handover(self) -> dict[str, Any]:
        """Return the values that wait or move, and the counters, for the new code; send what has no room."""
        now, room = self.now(), MAX_HANDED_OVER
        rows: list[list[Any]] = []
        for (number, to), lane in list(self._lanes.items()):
            entry = self.entries[number - 1]
            room -= len(entry.key) + len(to) + lane.size + _ROW_OVERHEAD
            if room >= 0:
                rows.append([entry.key, to, *lane.state(now)])
            elif lane.waits:
                self._send(entry, to, lane.exact, lane.passed)
                self._forget(entry, to, lane)
        self._handed_over = True
        entries = [[one.key, dict(one.counts), one.problem] for one in self.entries]
        return {"lanes": rows, "entries": entries}

    def takeover(self, value: dict[str, Any]) -> None:
        """Restore the state of the entries that are unchanged; send what waits of the others."""
        now, known = self.now(), {one.key: one for one in self.entries}
        for key, counts, problem in value["entries"]:
            if key in known:
                known[key].counts.update(counts)
                known[key].problem = problem
        for key, to, *state in value["lanes"]:
            lane = lanes.Lane.from_state(state, now)
            if key not in known:
                if lane.waits:
                    self.send({"channel": to, "data": lane.exact, PASSED: lane.passed})
                    self._map(to, lane.exact, lane.passed)
            elif len(self._lanes) < MAX_LANES:
                entry = known[key]
                self._lanes[entry.number, to] = lane
                self._kept += lane.size
                if lane.waits:
                    self._wait(entry, to, lane)

    def __exit__(self, *exc_info: object) -> None:
        # After a handover the new code sends what waits. If the new code fails, this plugin continues, and its
        # next message or tick resets _handed_over.
        if self._handed_over:
            return
        for entry in self.entries:
            for to, lane in entry.waiting.items():
                self._send(entry, to, lane.exact, lane.passed)

    def _entries_of(self, channel: str) -> list[tuple[Entry, str]]:
        """Return the entries that name a channel, each with the channel to which it sends."""
        found = self._entries_by_channel.get(channel)
        if found is None:
            if len(self._entries_by_channel) >= MAX_REMEMBERED:
                self._entries_by_channel.clear()
            ways = [(one, one.route.channel(channel)) for one in self.entries]
            found = self._entries_by_channel[channel] = [(one, to) for one, to in ways if to is not None]
        return found

    def _map(self, channel: str, data: Any, passed: int) -> None:
        """Map a value, and whatever its entries send, as far as other entries name that.

        Args:
            channel: of the value.
            data: the value.
            passed: maps through which it has passed.
        """
        waiting = deque([(channel, data, passed)])
        burst = 0
        while waiting:
            channel, data, passed = waiting.popleft()
            for entry, to in self._entries_of(channel):
                entry.counts["in"] += 1
                if passed >= MAX_PASSED:
                    self._complain(entry, "circle", f"a value has passed {passed} maps: they lead in a circle")
                elif burst >= MAX_BURST:
                    self._complain(entry, "burst", f"more than {MAX_BURST} messages follow from one: it ends here")
                else:
                    value = self._pass_on(entry, to, data, passed + 1)
                    if value is not lanes.NOTHING:
                        burst += 1
                        waiting.append((to, value, passed + 1))

    def _pass_on(self, entry: Entry, to: str, data: Any, passed: int) -> Any:
        """Send what data becomes, or let it wait; return what was sent, or ``NOTHING``."""
        try:
            exact, number = entry.value(data)
        except scale.Unusable as error:
            self._complain(entry, "unusable", f"data that it cannot map: {error}")
            return lanes.NOTHING
        now = self.now()
        lane = None if entry.pace.is_free else self._lane(entry, to, exact, now)
        if lane is None:
            return exact if self._send(entry, to, exact, passed) else lanes.NOTHING
        lane.take(exact, number, now, entry.pace)
        lane.passed = passed
        value = lane.at_once(now, entry.pace)
        if value is not lanes.NOTHING:
            try:
                value = self._go(entry, to, lane, value, now)
            except plugin.errors.OutboxFull:
                value = lanes.NOTHING  # it waits, and the next tick tries again
        if lane.waits:
            self._wait(entry, to, lane)
        return value

    def _lane(self, entry: Entry, to: str, exact: Any, now: float) -> lanes.Lane | None:
        """Return the lane of a channel, with room for a value; None if there is no room."""
        lane = self._lanes.get((entry.number, to))
        size = _size_of(exact)
        kept = self._kept - (lane.size if lane else 0) + size
        if size > MAX_KEPT or kept > MAX_ALL_KEPT or (lane is None and not self._has_room(now)):
            self._complain(entry, "unpaced", "too much waits: values go at once, whatever 'smooth' and 'rate' are")
            if lane is not None:
                self._forget(entry, to, lane)
            return None
        if lane is None:
            lane = self._lanes[entry.number, to] = lanes.Lane()
        self._kept, lane.size = kept, size
        return lane

    def _has_room(self, now: float) -> bool:
        """Return whether there is room for one more lane, after forgetting one if necessary."""
        for _ in range(_LOOKS):
            if len(self._lanes) < MAX_LANES:
                return True
            key = next(iter(self._lanes))
            lane = self._lanes.pop(key)
            if not lane.is_dispensable(now, self.entries[key[0] - 1].pace):
                self._lanes[key] = lane  # it is the last one to be looked at again
        return len(self._lanes) < MAX_LANES

    def _forget(self, entry: Entry, to: str, lane: lanes.Lane) -> None:
        self._kept -= lane.size
        del self._lanes[entry.number, to]
        entry.waiting.pop(to, None)

    def _wait(self, entry: Entry, to: str, lane: lanes.Lane) -> None:
        entry.waiting[to] = lane
        if entry.timer is None:

            def tick() -> None:
                self._tick(entry)

            entry.timer = self.every(entry.pace.tick, tick)

    def _tick(self, entry: Entry) -> None:
        """Send the values of an entry whose time has come; end its timer if none waits any more."""
        self._handed_over = False
        now = self.now()
        for to, lane in list(entry.waiting.items()):
            value = lane.next(now, entry.pace)
            if value is not lanes.NOTHING and self._go(entry, to, lane, value, now) is not lanes.NOTHING:
                self._map(to, value, lane.passed)
            self._settle(entry, to, lane)
        if not entry.waiting and entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None

    def _go(self, entry: Entry, to: str, lane: lanes.Lane, value: Any, now: float) -> Any:
        """Send a value of a lane; return it, or ``NOTHING`` if the network refuses it."""
        gone = self._send(entry, to, value, lane.passed)
        lane.sent(value, now)
        self._settle(entry, to, lane)
        return value if gone else lanes.NOTHING

    def _settle(self, entry: Entry, to: str, lane: lanes.Lane) -> None:
        """Release what a lane holds if no value waits any more."""
        if not lane.waits:
            self._kept -= lane.size
            lane.size, lane.exact = 0, None
            entry.waiting.pop(to, None)

    def _send(self, entry: Entry, to: str, value: Any, passed: int) -> bool:
        """Send a message; return whether the network accepts it."""
        try:
            self.send({"channel": to, "data": value, PASSED: passed})
        except (plugin.errors.ValueRefused, plugin.errors.TooBig) as error:
            self._complain(entry, "refused", f"a message cannot be sent: {error}")
            return False
        entry.counts["out"] += 1
        return True

    def _complain(self, entry: Entry, kind: str, text: str) -> None:
        """Count a problem of an entry, and log the first one of its kind."""
        entry.counts[kind] += 1
        entry.problem = text
        if entry.counts[kind] == 1:
            self.log("%s: %s; from now on such problems are only counted, see map.map.status", entry, text)


def _size_of(value: Any) -> int:
    """Return the bytes for which a value counts while it waits."""
    if isinstance(value, int | float):
        return 0
    try:
        return len(msgspec.msgpack.encode(value))
    except RecursionError:  # it is nested too deep to be encoded here
        return MAX_KEPT + 1
