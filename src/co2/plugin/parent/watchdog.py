"""Watchdog for plugins that hang: it polls a child's progress words, at no cost per message."""

from collections.abc import Sequence
from dataclasses import dataclass

from co2.plugin.child.progress import EXITING, ProgressWords
from co2.protocol.wire.plugin_frames.frames import PluginInfo

__all__ = ["TICK", "Slow", "Watchdog"]

TICK = 0.1
"""Seconds between two checks."""


@dataclass(slots=True)
class Slow:
    """A slow call of a plugin.

    Attributes:
        plugin: name of the plugin.
        inside: number of the message, 0 for none.
        call_id: of the ``x_`` call, 0 for none.
        seconds: the least time that it has run.
        late: past the deadline, not only the warning.
    """

    plugin: str
    inside: int
    call_id: int
    seconds: float
    late: bool


class Watchdog:
    """Checks the progress words of one child.

    Args:
        warning: seconds after which a call is reported once.
        deadline: seconds after which it is reported once more, as late.

    Attributes:
        slowest: seconds of the longest call seen.
        hangs: seconds of the longest call under way that is past the warning, as of the last check; 0 for none.
    """

    def __init__(
        self, words: ProgressWords, plugins: Sequence[PluginInfo], warning: float, deadline: float
    ) -> None:
        self.slowest = self.hangs = 0.0
        self._words = words.words
        self._plugins = plugins
        self._limits = (warning, deadline)
        self._since: dict[int, tuple[int, float, int]] = {}

    def look(self, now: float) -> list[Slow]:
        """Return the calls that have passed a limit since the last check.

        Args:
            now: monotonic seconds.
        """
        slow = []
        self.hangs = 0.0
        for index in range(2 * len(self._plugins)):
            word = self._words[index]
            if not word % 2 or word == EXITING:
                self._since.pop(index, None)
                continue
            seen, since, told = self._since.get(index, (0, now, 0))
            if seen != word:
                since, told = now, 0
            seconds = now - since
            self.slowest = max(self.slowest, seconds)
            if seconds >= self._limits[0]:
                self.hangs = max(self.hangs, seconds)
            if told < len(self._limits) and seconds >= self._limits[told]:
                # A delayed event loop may find both limits passed at once: then only the deadline counts.
                told = sum(seconds >= limit for limit in self._limits)
                slow.append(self._slow(index, word, seconds, told == len(self._limits)))
            self._since[index] = (word, since, told)
        return slow

    def _slow(self, index: int, word: int, seconds: float, late: bool) -> Slow:
        number = word // 2
        inside, call_id = (0, number) if index % 2 else (number, 0)
        return Slow(self._plugins[index // 2].name, inside, call_id, seconds, late)
