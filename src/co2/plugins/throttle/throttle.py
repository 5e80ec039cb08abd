"""The plugin: the first message of a channel passes; of the messages that come too soon it sends the latest later.

Configuration, all keys optional::

    [plugin.throttle]
    channels = ["stage.>", "*.meter"] # channels that are throttled; default all
    rate     = 30                     # messages per second of each channel of each sender

The last message of a sender on a channel always arrives, at most 1.25 / rate seconds late. A kept message has the
relay's host id as its ``host_id``, and the sender's as ``origin_host_id``. Messages without a channel pass.

The time is counted in ticks of a timer, a few in 1 / rate seconds. So a message needs no call of the clock, and
the timer runs only while a channel is throttled.
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
"""Ticks in 1 / rate seconds; a kept message waits up to one tick too long."""

SHORTEST_TICK = 0.001
LONGEST_TICK = 0.25

SETTLED = 1.0
"""Seconds without a message after which, behind a kept message that was sent, a message passes again.

A sent message and a message that passes leave the relay on different ways, and the second could overtake the
first. After this time the first has left."""


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
        """Let the first message of a channel pass; keep the latest of the messages that come too soon."""
        channel = data_dict.get("channel")
        if type(channel) is not str or (self._selected is not None and channel not in self._selected):
            return data_dict
        sender = data_dict["host_id"]
        if sender == self._own:  # it is from an earlier relay plugin; these keys say for which sender
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
        """Return what became of the messages since the start: 'passed' at once, 'sent' later, 'dropped' for later
        ones, 'unthrottled' because of a limit; the 'rate'; and the numbers of throttled 'channels' and of messages
        that are 'kept' now."""
        names = ("passed", "sent", "dropped", "unthrottled")
        counts = {name: self.counts[name] for name in names}
        return {**counts, "rate": self.config.rate, "channels": len(self._lanes.by_key), "kept": self._lanes.kept}

    def handover(self) -> dict[str, Any]:
        """Return the kept messages for the new code; send those for which there is no room."""
        going, staying = self._lanes.handover()
        for lane in staying:
            self._send(lane)
        self._handed_over = True
        return {"lanes": going, "counts": dict(self.counts)}

    def takeover(self, value: dict[str, Any]) -> None:
        """Restore the kept messages of the old code."""
        self.counts.update(value["counts"])
        self._lanes.takeover(value["lanes"])
        if self._lanes.by_key:
            self._begin()

    def __exit__(self, *exc_info: object) -> None:
        # After a handover the new code sends the kept messages. If the new code fails, this plugin continues, and
        # its next tick resets _handed_over.
        if not self._handed_over:
            for _, lane in self._lanes:
                self._send(lane)

    def _hold_back(self, lane: Lane, data_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Keep a message instead of the one before; return None, or the message if it cannot be kept."""
        if lane.kept is not None:
            self.counts["dropped"] += 1
        message = {key: value for key, value in data_dict.items() if key not in ("host_id", "client_address")}
        if data_dict["host_id"] != self._own:
            message["origin_host_id"] = data_dict["host_id"]
        self._handed_over = False
        try:
            kept = self._lanes.keep(lane, _encode(message))
        except RecursionError:  # it is nested too deep to be encoded here
            kept = self._lanes.keep(lane, None)
        if not kept:
            self.counts["unthrottled"] += 1
            return data_dict
        if lane.age >= self.parts:
            self._send(lane)
            lane.age = -1
        return None

    def _begin(self) -> int:
        """Start the timer if it does not run; return the age of a new lane."""
        if self._timer is not None:
            return -1  # the rest of the current tick does not count
        self._timer = self.every(self.tick, self._tick)
        return 0

    def _tick(self) -> None:
        """Send the kept messages whose time is over; delete the lanes without a message for that time."""
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
            self.send(_decode(lane.kept))  # if this raises, the message stays for the next tick
            self._lanes.take(lane)
            lane.sent = True
            self.counts["sent"] += 1


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
