"""Frame-by-frame filtering by a relay plugin in its own thread; unchanged messages keep their bytes."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from co2.errors import MessageError
from co2.plugin.child.decoding import open_batch, pieces, preview
from co2.plugin.child.progress import RELAYING
from co2.plugin.relay_plugin import Co2RelayPlugin
from co2.protocol.wire.batch import DROPPED, MAX_BATCH_BYTES, make_batch
from co2.protocol.wire.channel_patterns import Interests, channels_of_frame, check_channel
from co2.protocol.wire.plugin_frames.frames import text_for_frame
from co2.protocol.wire.plugin_frames.transit import MAX_RETURNED, Transit, Transited
from co2.values import MAX_MESSAGE_SIZE, channel_of, pack

__all__ = ["MAX_WHY", "FilteringActor", "RelayFilter", "why_not"]


MAX_WHY = 400
"""Characters of the text with which ``register`` refuses a satellite."""


class FilteringActor(Protocol):
    """The interface of the actor for the filter."""

    def finished(self, result: Any) -> Any:
        """Await the result of an ``async def``."""

    def complain(self, what: str, error: BaseException) -> None:
        """Write an error to the log."""

    def stumble(self, error: BaseException) -> None:
        """Stop: the very first message on trial has failed, and others decide."""


class RelayFilter:
    """The relaying side of one plugin; all of it runs in the plugin's thread.

    Args:
        actor: of the plugin.
        channels: patterns that the plugin wants, empty for everything.
        words: progress words of the package.
        word: index of this plugin's activity word.
    """

    def __init__(
        self, actor: FilteringActor, channels: Sequence[str], words: "memoryview[int]", word: int
    ) -> None:
        self._actor = actor
        self._wants = Interests(channels).wants_one if channels else None
        self._words = words
        self._word = word
        self._number = 2 * RELAYING
        self._on_trial = False

    def start(self, *, on_trial: bool) -> None:
        """Start; on trial until the plugin has accepted a message."""
        self._on_trial = on_trial

    def take(self, plugin: Co2RelayPlugin, frame: Transit) -> Transited | None:
        """Filter messages; return the result, or None if the first one on trial has failed."""
        going_on = _FilteredFrame(frame)
        host_id, client_address, wants = frame.host_id, frame.client_address, self._wants
        words, word, number, relay = self._words, self._word, self._number, plugin.relay
        for index, message in enumerate(open_batch(frame.batch)):
            if not message:  # dropped earlier, or unreadable
                going_on.unseen(index)
                continue
            channel = channel_of(message)
            if wants is not None and not wants(channel):
                going_on.channels.add(channel)
                continue
            number += 2
            words[word] = number + 1  # inside this one
            try:
                message["host_id"] = host_id
                message["client_address"] = client_address
                result = relay(message)
                if hasattr(result, "__await__"):
                    result = self._actor.finished(result)
                going_on.take(index, result)
            except BaseException as error:
                if self._on_trial:
                    self._on_trial = False
                    self._actor.stumble(error)
                    return None
                going_on.fail(channel)
                shown = preview(going_on.messages[index])
                what = f"relay failed, so the message passes unchanged; it is from {host_id}: {shown}"
                self._actor.complain(what, error)
            self._on_trial = False
        self._number = number
        words[word] = number + 2
        return going_on.answer()


class _FilteredFrame:
    """The result for one frame.

    Attributes:
        messages: encoded: as received, or as changed.
        channels: of the remaining messages.
    """

    def __init__(self, frame: Transit) -> None:
        self.messages = pieces(frame.batch)
        self.channels: set[str] = set()
        self._frame = frame
        self._room: int | None = None
        self._dropped = self._changed = self._failed = 0

    def unseen(self, index: int) -> None:
        """Keep a message that cannot be read."""
        if self.messages[index] != DROPPED:
            self.channels.add("")

    def fail(self, channel: str) -> None:
        """Keep a message unchanged, because its call failed."""
        self.channels.add(channel)
        self._failed += 1

    def take(self, index: int, result: Any) -> None:
        """Process the result of the plugin for a message.

        Raises:
            MessageError: not a message, or there is no room for it in its frame.
            ValueRefused, TooBig: it cannot travel.
            BadRequest: its channel is invalid.
        """
        if result is None:
            self._replace(index, DROPPED)
            self._dropped += 1
            return
        packed = _packed(result)
        channel = result.get("channel", "")
        if channel:
            if type(channel) is not str:
                raise MessageError(f"a channel must be text, not {type(channel).__name__}")
            check_channel(channel)
        if packed != self.messages[index]:
            self._replace(index, packed)
            self._changed += 1
        self.channels.add(channel)

    def _replace(self, index: int, packed: bytes) -> None:
        if self._room is None:
            self._room = MAX_BATCH_BYTES - sum(map(len, self.messages))
        grows = len(packed) - len(self.messages[index])
        if grows > self._room:
            raise MessageError(
                f"it does not fit: with {grows} bytes more, its frame would be larger than "
                f"the limit of {MAX_BATCH_BYTES} bytes"
            )
        self._room -= grows
        self.messages[index] = packed

    def answer(self) -> Transited:
        """Return the whole result."""
        number, counts = self._frame.number, (self._dropped, self._changed, self._failed)
        is_other = self._dropped or self._changed
        batch = self._frame.batch
        if not is_other and len(batch) > MAX_RETURNED:
            return Transited(number, b"", None, *counts)
        channels = channels_of_frame(self.channels) if self.channels else []
        return Transited(number, make_batch(self.messages) if is_other else batch, channels, *counts)


def why_not(answer: Any) -> str:
    """Return the reason of a refusal from the result of ``register``; '' if the satellite may join."""
    if answer is False:
        return "it was refused"
    return text_for_frame(answer[:MAX_WHY]) if isinstance(answer, str) else ""


def _packed(result: Any) -> bytes:
    """Encode a message, without the keys that hosts set."""
    if type(result) is dict and "data" in result:
        host_id, client_address = result.pop("host_id", _UNSET), result.pop("client_address", _UNSET)
        try:
            packed = _encode(result)
        except Exception:
            return pack(result)  # which raises an error that names the problem
        finally:  # the plugin may have kept the dictionary
            if host_id is not _UNSET:
                result["host_id"] = host_id
            if client_address is not _UNSET:
                result["client_address"] = client_address
        if len(packed) <= MAX_MESSAGE_SIZE and _TEXT.issuperset(map(type, result)):
            return packed
    if not isinstance(result, Mapping):
        raise MessageError(
            f"relay must return a dictionary with the key 'data', or None, not {type(result).__name__}"
        )
    return pack(result)


_UNSET = object()
_TEXT = {str}
_encode = msgspec.msgpack.Encoder().encode
