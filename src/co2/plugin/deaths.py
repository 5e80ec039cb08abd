"""What deaths of plugin hosts lead to: another try, a dead letter, or parking. Pure book-keeping."""

import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from co2.plugin.progress import ProgressWords
from co2.protocol.frames import PluginInfo, Progress

__all__ = ["MAX_TRIES", "PARK_DEATHS", "PARK_WITHIN", "Deaths", "backoff", "read_progress", "taken_up"]

MAX_TRIES = 3
"""Deaths in the same message after which it is given up."""

PARK_DEATHS = 5
PARK_WITHIN = 60.0
"""So many deaths within so many seconds, outside of any message or in different ones, park a package."""

FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0


def backoff() -> Iterator[float]:
    """Give the seconds to wait before each new try, with jitter, for ever."""
    delay = FIRST_DELAY
    while True:
        yield delay * random.uniform(0.75, 1.25)
        delay = min(LONGEST_DELAY, delay * 2)


def read_progress(
    words: ProgressWords, plugins: Iterable[PluginInfo], before: Mapping[str, Progress]
) -> dict[str, Progress]:
    """Tell where each plugin stood when its child died.

    Args:
        words: what the child left.
        plugins: in the order of their words.
        before: where they stood when that child began.
    """
    progress = {}
    for index, plugin in enumerate(plugins):
        if not plugin.receives:
            continue
        word = words.message(index)
        earlier = before.get(plugin.name, Progress(0, 0))
        if word == 0:
            # It was not even started: it may have been inside a message in the life before.
            progress[plugin.name] = earlier
        elif word % 2:
            progress[plugin.name] = Progress(word // 2 - 1, word // 2)
        else:
            done = word // 2 - 1
            # The word starts at `done`: as long as nothing has moved, the message before is still the next one.
            inside = earlier.inside if done < earlier.inside else 0
            progress[plugin.name] = Progress(done, inside)
    return progress


def taken_up(plugins: Iterable[PluginInfo], progress: Mapping[str, Progress]) -> dict[str, Progress]:
    """Tell where the plugins of a load begin, after those of another one.

    One that is known goes on where it stood. One that is new takes the place of one that is gone; where nobody is
    gone it begins with what comes next.

    Args:
        plugins: of the new load.
        progress: of those before.
    """
    receivers = [plugin.name for plugin in plugins if plugin.receives]
    gone = [stood.done for name, stood in progress.items() if name not in receivers]
    first = min(gone) if gone else max((stood.done for stood in progress.values()), default=0)
    return {name: progress.get(name, Progress(first, 0)) for name in receivers}


class Deaths:
    """Counts the deaths of one package."""

    def __init__(self) -> None:
        self._tries: dict[tuple[str, int], int] = {}
        self._outside: deque[float] = deque()
        self._messages: dict[tuple[str, int], float] = {}

    def add(self, now: float, inside: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Count one death; give the (plugin, message number) pairs that are now dead letters.

        Args:
            now: monotonic seconds.
            inside: (plugin, message number) for each plugin that may have caused it, empty for a death
                outside of any message.
        """
        inside = list(inside)
        if not inside:
            self._outside.append(now)
        given_up = []
        for key in inside:
            self._messages[key] = now
            self._tries[key] = self._tries.get(key, 0) + 1
            if self._tries[key] >= MAX_TRIES:
                given_up.append(key)
                del self._tries[key]
        return given_up

    def park(self, now: float, deaths: int = PARK_DEATHS) -> bool:
        """Tell whether it is enough: so many ``deaths``."""
        while self._outside and self._outside[0] < now - PARK_WITHIN:
            self._outside.popleft()
        self._messages = {key: at for key, at in self._messages.items() if at >= now - PARK_WITHIN}
        return len(self._outside) >= deaths or len(self._messages) >= deaths

    def forget_up_to(self, last: int) -> None:
        """Forget tries of messages that everybody is done with."""
        self._tries = {key: count for key, count in self._tries.items() if key[1] > last}
