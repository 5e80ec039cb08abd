"""The restart policy after deaths of plugin hosts: another try, a dead letter, or parking. No I/O."""

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from co2.plugin.child.progress import ProgressWords
from co2.protocol.wire.plugin_frames.frames import PluginInfo, Progress

__all__ = ["MAX_TRIES", "PARK_DEATHS", "PARK_WITHIN", "RestartPolicy", "backoff", "read_progress", "taken_up"]

MAX_TRIES = 3
"""Deaths in the same message after which it is given up."""

PARK_DEATHS = 5
PARK_WITHIN = 60.0
"""Deaths that park a package, and the seconds of running time for them; one message counts once."""

FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0


def backoff() -> Iterator[float]:
    """Yield the seconds to wait before each new try, with jitter, without end."""
    delay = FIRST_DELAY
    while True:
        yield delay * random.uniform(0.75, 1.25)
        delay = min(LONGEST_DELAY, delay * 2)


def read_progress(
    words: ProgressWords, plugins: Iterable[PluginInfo], before: Mapping[str, Progress]
) -> dict[str, Progress]:
    """Return how far each plugin got before its child died.

    Args:
        words: progress words of the child.
        plugins: in the order of their words.
        before: their progress when that child started.
    """
    progress = {}
    for index, plugin in enumerate(plugins):
        if not plugin.receives:
            continue
        word = words.message(index)
        earlier = before.get(plugin.name, Progress(0, 0))
        if word == 0:
            # The plugin was not even started: it may have been inside a message in the previous child.
            progress[plugin.name] = earlier
        elif word % 2:
            progress[plugin.name] = Progress(word // 2 - 1, word // 2)
        else:
            done = word // 2 - 1
            # The word starts at `done`: until it changes, the message that was being handled is still the next
            # one.
            inside = earlier.inside if done < earlier.inside else 0
            progress[plugin.name] = Progress(done, inside)
    return progress


def taken_up(plugins: Iterable[PluginInfo], progress: Mapping[str, Progress]) -> dict[str, Progress]:
    """Return the progress from which the plugins of a new load start.

    A known plugin resumes at its own progress. A new plugin takes the place of one that is gone; if none is gone,
    it starts with the next message.

    Args:
        plugins: of the new load.
        progress: of the previous plugins.
    """
    receivers = [plugin.name for plugin in plugins if plugin.receives]
    gone = [stood.done for name, stood in progress.items() if name not in receivers]
    first = min(gone) if gone else max((stood.done for stood in progress.values()), default=0)
    return {name: progress.get(name, Progress(first, 0)) for name in receivers}


@dataclass(slots=True)
class _Cause:
    """One cause of deaths of a package.

    Attributes:
        at: time of the last death, in the seconds of :meth:`RestartPolicy.add`.
        messages: (plugin, message number) pairs that may have caused it; empty outside any message.
    """

    at: float
    messages: set[tuple[str, int]]


class RestartPolicy:
    """Counts the deaths of one package by cause: deaths in the same message have one cause."""

    def __init__(self) -> None:
        self._tries: dict[tuple[str, int], int] = {}
        self._causes: list[_Cause] = []

    def add(self, now: float, inside: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Count one death; return the (plugin, message number) pairs that are now dead letters.

        Args:
            now: seconds of a clock that stops while the package does not run, so that slow starts and delays do
                not prevent parking.
            inside: (plugin, message number) of each plugin that may have caused it, empty for a death outside of
                any message.
        """
        suspects = set(inside)
        cause = next((one for one in self._causes if one.messages & suspects), None)
        if cause is None:
            self._causes.append(_Cause(now, suspects))
        else:
            cause.at = now
            cause.messages |= suspects
        given_up = []
        for key in sorted(suspects):
            self._tries[key] = self._tries.get(key, 0) + 1
            if self._tries[key] >= MAX_TRIES:
                given_up.append(key)
                del self._tries[key]
        return given_up

    def park(self, now: float, deaths: int = PARK_DEATHS) -> bool:
        """Return whether the recent causes reach the limit ``deaths``."""
        self._causes = [one for one in self._causes if one.at >= now - PARK_WITHIN]
        return len(self._causes) >= deaths

    def __str__(self) -> str:
        """Return the recent deaths in words: ``died in 4 different messages and once outside any message``."""
        inside = sum(bool(one.messages) for one in self._causes)
        outside = len(self._causes) - inside
        often = "once" if outside == 1 else f"{outside} times"
        if not inside:
            return f"died {often}"
        messages = "a message" if inside == 1 else f"{inside} different messages"
        return f"died in {messages}{f' and {often} outside any message' if outside else ''}"

    def forget_up_to(self, last: int) -> None:
        """Forget the tries of messages that all plugins are done with."""
        self._tries = {key: count for key, count in self._tries.items() if key[1] > last}
