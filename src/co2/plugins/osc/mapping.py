"""Conversion of OSC packets to messages of the network (``data_dict``) and back.

An OSC message ``/stage/fader1 if 3 0.5`` from port 7000 becomes::

    {'channel': 'stage.fader1', 'data': [3, 0.5],
     'osc': {'address': '/stage/fader1', 'types': 'if', 'from': '127.0.0.1:7000'}}

Each message of a bundle becomes one data_dict, so that receivers can select it by its channel. ``osc`` then also
has ``'time': [seconds, fraction]`` (NTP, of the innermost bundle around the message) and ``'bundle': {'id',
'index', 'count', 'time'}`` (of the outermost bundle). From these the :class:`Assembler` of another satellite puts
the bundle together again.

In the other direction, the key ``osc`` determines the OSC message if it fits the data. Without it, the types are
inferred, the channel gives the address, and a dictionary in ``data`` becomes one message for each of its entries:
``{'channel': 'lab', 'data': {'cpu': 3, 'net': {'in': 7}}}`` becomes ``/lab/cpu 3`` and ``/lab/net/in 7``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from .addresses import address_of, channel_of
from .packets import IMMEDIATELY, OscBundle, OscMessage, Packet, Time, Unsendable, fits, infer_types

__all__ = ["MAX_HELD_BUNDLES", "Assembler", "from_data_dict", "to_data_dicts"]

MAX_HELD_BUNDLES = 64
"""Bundles that may be incomplete at the same time; for one more, the oldest is sent incomplete."""
MAX_BUNDLE_COUNT = 4096
"""Messages of one bundle; more do not fit into a datagram."""
MAX_DICTIONARY_DEPTH = 16


def to_data_dicts(packet: Packet, *, source: str, bundle_id: int, prefix: str = "") -> list[dict[str, Any]]:
    """Convert a packet to messages of the network, as ``send`` takes them.

    Args:
        packet: the parsed packet.
        source: ``ip:port`` of the program that sent it.
        bundle_id: a number that no other bundle of this plugin has.
        prefix: is put before every channel; '' for none.
    """
    found = list(_flatten(packet, None))
    result = []
    for index, (message, time) in enumerate(found):
        osc: dict[str, Any] = {"address": message.address, "types": message.types, "from": source}
        if isinstance(packet, OscBundle) and time is not None:
            osc["time"] = list(time)
            osc["bundle"] = {
                "id": bundle_id,
                "index": index,
                "count": len(found),
                "time": list(packet.time),
            }
        channel = channel_of(message.address, prefix)
        result.append({"channel": channel, "data": message.args, "osc": osc})
    return result


def from_data_dict(data_dict: Mapping[str, Any], prefix: str = "") -> list[OscMessage]:
    """Convert a message of the network to OSC messages: one, or one for each entry of a dictionary.

    Args:
        data_dict: as ``receive`` gets it; must have a channel.
        prefix: is removed from the beginning of the channel, if it is there.

    Raises:
        Unsendable: OSC has no type for a value.
    """
    channel = str(data_dict.get("channel", ""))
    if prefix and (channel == prefix or channel.startswith(prefix + ".")):
        channel = channel[len(prefix) + 1 :]
    data = data_dict["data"]
    if isinstance(data, dict):
        return list(_spread(channel, data, 0))
    osc = data_dict.get("osc")
    hints = osc if isinstance(osc, dict) else {}
    address = hints.get("address")
    if not isinstance(address, str) or channel_of(address) != channel:
        address = address_of(channel)  # another plugin has changed the channel of the message
    return [_message(address, data, hints.get("types"))]


def _flatten(packet: Packet, time: Time | None) -> Iterator[tuple[OscMessage, Time | None]]:
    if isinstance(packet, OscMessage):
        yield packet, time
    else:
        for element in packet.elements:
            yield from _flatten(element, packet.time)


def _spread(channel: str, data: Mapping[Any, Any], depth: int) -> Iterator[OscMessage]:
    if depth >= MAX_DICTIONARY_DEPTH:
        raise Unsendable(f"dictionaries nested deeper than {MAX_DICTIONARY_DEPTH}")
    for key, value in data.items():
        inner = f"{channel}.{str(key).replace('.', '_').replace('/', '_')}"
        if isinstance(value, dict):
            yield from _spread(inner, value, depth + 1)
        else:
            yield _message(address_of(inner), value, None)


def _message(address: str, data: Any, types: Any) -> OscMessage:
    if data is None and types is None:
        return OscMessage(address, "", [])  # the bare address: a bang
    args = list(data) if isinstance(data, list | tuple) else [data]
    if isinstance(types, str) and fits(args, types):
        return OscMessage(address, types, args)
    return OscMessage(address, infer_types(args), args)


@dataclass(slots=True)
class _Held:
    time: Time
    found: list[tuple[OscMessage, Time]]


class Assembler:
    """Puts bundles together again from their messages; those of one sender must come in order.

    A bundle is complete with its last message. If that is lost, the bundle is sent when the same sender begins
    another one, or when more than :data:`MAX_HELD_BUNDLES` wait.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, Any], _Held] = {}

    def add(self, data_dict: Mapping[str, Any], messages: list[OscMessage], wanted: bool) -> list[Packet]:
        """Add the OSC messages of one data_dict; return the packets that can be sent now.

        Args:
            data_dict: as ``receive`` got it.
            messages: its OSC messages, from :func:`from_data_dict`.
            wanted: whether these messages are sent; if not, they still count towards the end of their bundle.
        """
        place = _place_in_bundle(data_dict)
        if place is None:
            return list(messages) if wanted else []
        bundle_id, last, time, outer = place
        sender = str(data_dict.get("host_id", ""))
        ready = [self._close(key) for key in list(self._held) if key[0] == sender and key[1] != bundle_id]
        key = (sender, bundle_id)
        held = self._held.setdefault(key, _Held(outer, []))
        if wanted and len(held.found) < MAX_BUNDLE_COUNT:
            held.found += [(message, time) for message in messages]
        if last:
            ready.append(self._close(key))
        elif len(self._held) > MAX_HELD_BUNDLES:
            ready.append(self._close(next(iter(self._held))))
        return [bundle for bundle in ready if bundle.elements]

    def _close(self, key: tuple[str, Any]) -> OscBundle:
        held = self._held.pop(key)
        elements: list[Packet] = []
        for time, group in groupby(held.found, key=lambda pair: pair[1]):
            messages = tuple(message for message, _ in group)
            elements += messages if time == held.time else (OscBundle(time, messages),)
        return OscBundle(held.time, tuple(elements))


def _place_in_bundle(data_dict: Mapping[str, Any]) -> tuple[int, bool, Time, Time] | None:
    osc = data_dict.get("osc")
    bundle = osc.get("bundle") if isinstance(osc, dict) else None
    if not isinstance(osc, dict) or not isinstance(bundle, dict):
        return None
    number, index, count = (bundle.get(key) for key in ("id", "index", "count"))
    if not (isinstance(number, int) and isinstance(index, int) and isinstance(count, int)):
        return None
    outer = _time(bundle.get("time")) or IMMEDIATELY
    return number, index + 1 >= count, _time(osc.get("time")) or outer, outer


def _time(value: Any) -> Time | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    if not all(isinstance(part, int) and 0 <= part < 1 << 32 for part in value):
        return None
    return value[0], value[1]
