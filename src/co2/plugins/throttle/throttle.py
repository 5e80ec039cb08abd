"""The plugin: the first message of a channel passes; of those that come too soon it keeps the latest, for later.

Configuration, all keys optional::

    [plugin.throttle]
    channels = ["stage.>", "*.meter"] # which channels; default all
    rate     = 30                     # messages per second, of each channel of each sender

What a sender says last on a channel always comes out, at most 1.25 / rate after it was said. A message that was
kept has this relay as its ``host_id``, and its sender's as ``origin_host_id``. What has no channel passes.

Time goes by ticks of a timer, a few in 1 / rate, and only while something is throttled: so a message costs no look
at a clock, and where nothing comes there is nothing to do.
"""

import math
from collections import Counter
from typing import Any

import msgspec

from co2 import plugin

from .lanes import MAX_KEYS, Lane, Lanes
from .settings import ThrottleSettings

__all__ = ["X_Throttle"]

PARTS = 4
"""Ticks in 1 / rate: what is kept waits up to one of them too long."""

SHORTEST_TICK = 0.001
LONGEST_TICK = 0.25

SETTLED = 1.0
"""Seconds of silence after which a message passes by itself again, where kept ones were sent before it. What is
sent and what passes leave by two doors: after so long the one that was sent has gone."""


class X_Throttle(plugin.Co2RelayPlugin):
    """Lets the latest value of each channel of each sender through, at a given rate."""

    Config = ThrottleSettings
    config: ThrottleSettings
    channels = (">",)

    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)
        interval = 1.0 / self.config.rate
        self.tick = min(max(interval / PARTS, SHORTEST_TICK), LONGEST_TICK)
        self.parts = math.ceil(interval / self.tick - 1e-9)
        self.settled = max(self.parts, math.ceil(SETTLED / self.tick))
        self.counts: Counter[str] = Counter()
        self._selected = plugin.Channels(self.config.channels) if self.config.channels else None
        self._own = str(var_dict.get("host_id", ""))
        self._lanes = Lanes()
        self._timer: plugin.Timer | None = None
        self._handed_over = False

    def relay(self, data_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Let the first one pass; keep the latest of those that come too soon."""
        channel = data_dict.get("channel")
        if type(channel) is not str or (self._selected is not None and channel not in self._selected):
            return data_dict
        sender = data_dict["host_id"]
        if sender == self._own:  # a relay plugin before us: it says for whom
            sender = f"{sender} {data_dict.get('origin_host_id', '')!s:.128} {data_dict.get('udp', '')!s:.64}"
        lane = self._lanes.by_key.get((sender, channel))
        if lane is not None:
            return self._hold_back(lane, data_dict)
        if len(self._lanes.by_key) >= MAX_KEYS:
            self.counts["unthrottled"] += 1
            return data_dict
        self._lanes.by_key[sender, channel] = Lane(self._begin())
        self.counts["passed"] += 1
        return data_dict

    def x_status(self, data_dict: dict[str, Any]) -> dict[str, Any]:
        """Tell what became of messages since it started: 'passed' at once, 'sent' later, 'dropped' for later ones,
        'unthrottled' beyond its limits; and how many 'channels' it throttles now, and messages it has 'kept'."""
        names = ("passed", "sent", "dropped", "unthrottled")
        counts = {name: self.counts[name] for name in names}
        return {**counts, "rate": self.config.rate, "channels": len(self._lanes.by_key), "kept": self._lanes.kept}

    def handover(self) -> dict[str, Any]:
        """Give what is kept to the code that follows; what is too much is sent now."""
        going, staying = self._lanes.handover()
        for lane in staying:
            self._send(lane)
        self._handed_over = True
        return {"lanes": going, "counts": dict(self.counts)}

    def takeover(self, value: dict[str, Any]) -> None:
        """Take what the code before has kept."""
        self.counts.update(value["counts"])
        self._lanes.takeover(value["lanes"])
        if self._lanes.by_key:
            self._begin()

    def __exit__(self, *exc_info: object) -> None:
        # After a handover the new code sends it. Where that has failed we go on, and the next tick says so.
        if not self._handed_over:
            for _, lane in self._lanes:
                self._send(lane)

    def _hold_back(self, lane: Lane, data_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Keep a message in place of the one before."""
        if lane.kept is not None:
            self.counts["dropped"] += 1
        message = {key: value for key, value in data_dict.items() if key not in ("host_id", "client_address")}
        if data_dict["host_id"] != self._own:
            message["origin_host_id"] = data_dict["host_id"]
        self._handed_over = False
        try:
            kept = self._lanes.keep(lane, _encode(message))
        except RecursionError:  # nested as deep as only its sender could
            kept = self._lanes.keep(lane, None)
        if not kept:
            self.counts["unthrottled"] += 1
            return data_dict
        if lane.age >= self.parts:
            self._send(lane)
            lane.age = -1
        return None

    def _begin(self) -> int:
        """See that the timer runs; give the age of a lane that begins now."""
        if self._timer is not None:
            return -1  # what is left of this tick does not count
        self._timer = self.every(self.tick, self._tick)
        return 0

    def _tick(self) -> None:
        """Send what has waited long enough; forget where nothing has come for as long."""
        self._handed_over = False
        for key, lane in self._lanes:
            lane.age += 1
            if lane.age < self.parts:
                continue
            if lane.kept is not None:
                self._send(lane)
                lane.age = 0
            elif not lane.sent or lane.age >= self.settled:
                del self._lanes.by_key[key]
        if not self._lanes.by_key and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, lane: Lane) -> None:
        if lane.kept is not None:
            self.send(_decode(lane.kept))  # where this raises it stays, for the next tick
            self._lanes.take(lane)
            lane.sent = True
            self.counts["sent"] += 1


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
