"""Accounting of one package: its loads, their counters, its plugins' progress, and the consequences of deaths."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from co2.plugin.parent.delivery import Delivery
from co2.plugin.parent.generation import Generation
from co2.plugin.parent.package_log import PackageLog, preview
from co2.plugin.parent.restart_policy import MAX_TRIES, RestartPolicy, read_progress, taken_up
from co2.protocol.wire.plugin_frames.frames import Applied, DeadLetter, Progress

__all__ = ["Accounting", "Counters"]


@dataclass(slots=True)
class Counters:
    """Counters of a package since the satellite started.

    Attributes:
        loads: number of the latest load.
        restarts: starts of its plugin host after a death.
        reloads: changes of code: ``ok``, ``failed`` (the old code stayed), ``reverted`` (it came back).
        earlier: sums over the plugin hosts that have ended.
        slowest: seconds of the longest call that the watchdog saw.
    """

    loads: int = 0
    restarts: int = 0
    reloads: dict[str, int] = field(default_factory=lambda: {"ok": 0, "failed": 0, "reverted": 0})
    earlier: Applied = field(default_factory=lambda: Applied(0))
    slowest: float = 0.0


class Accounting:
    """Accounting across the loads of a package.

    Args:
        package: its name.
        package_log: its log.
        delivery: its messages.
        dead_letter: called with each message that is given up.

    Attributes:
        alive: loads whose counters are not added up yet, nearly always because the child lives.
        counters: sums since the satellite started.
        restart_policy: counts the deaths, with their messages.
        given_up: messages that became dead letters because the plugin host died in them repeatedly.
    """

    def __init__(
        self, package: str, package_log: PackageLog, delivery: Delivery, dead_letter: Callable[[DeadLetter], None]
    ) -> None:
        self.alive: list[Generation] = []
        self.counters = Counters()
        self._package = package
        self._package_log = package_log
        self._delivery = delivery
        self._dead_letter = dead_letter
        self._progress: dict[str, Progress] = {}
        self.restart_policy = RestartPolicy()
        self.given_up = 0
        self._not_running = 0.0
        self._stopped_at: float | None = None

    def place(self, one: Generation) -> dict[str, Progress]:
        """Return the position from which each plugin of a load starts."""
        if self._stopped_at is not None:
            self._not_running += time.monotonic() - self._stopped_at
            self._stopped_at = None
        self._progress = taken_up(one.plugins, self._progress)
        return self._progress

    def settle(self, one: Generation) -> None:
        """Record how far its plugins got; the child need not have reported it."""
        self._progress = read_progress(one.child.words, one.plugins, self._progress)
        self._done_with(one)

    def ended(self, one: Generation) -> None:
        """Add up the counters of a load that has ended."""
        if one not in self.alive:
            return
        self.alive.remove(one)
        if one.watchdog is not None:
            self.counters.slowest = max(self.counters.slowest, one.watchdog.slowest)
            one.watchdog = None
        # Includes the letters that were lost with the child.
        unkept = one.letters - one.letters_come
        before, now = self.counters.earlier, one.applied
        self.counters.earlier = Applied(
            0, before.failed + now.failed, before.waited + now.waited, before.unkept + unkept
        )
        one.applied = Applied(0)
        one.child.forget()

    def died(self, one: Generation | None, how: str, deaths: int) -> bool:
        """Report a death and close its generation; return whether the package is parked.

        Args:
            one: the load that carried the package; None if it died before that.
            how: the cause, in words.
            deaths: the number within a minute that parks the package.
        """
        reason = one.reason if one is not None else ""
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        ran = self._stopped_at - self._not_running  # without the time of starting and of back-off
        given_up = self.restart_policy.add(ran, _suspects(one) if one is not None else [])
        parked = self.restart_policy.park(ran, deaths)
        if reason or not parked:
            self._package_log.error(reason or f"the plugin host of {self._package} {how}; it will be restarted")
        for plugin, number in given_up:
            self._give_up(plugin, number, reason or f"it {how}")
        if one is not None:
            self._done_with(one)
            self.ended(one)
        return parked

    def forget_deaths(self, last: int) -> None:
        """Forget the deaths in messages up to this number, which all plugins are done with."""
        self.restart_policy.forget_up_to(last)

    def forget_all_deaths(self) -> None:
        """Forget all deaths, because another try was requested."""
        self.restart_policy = RestartPolicy()

    def _done_with(self, one: Generation) -> None:
        done = [self._progress[plugin.name].done for plugin in one.plugins if plugin.receives]
        if done:
            self._delivery.done(min(done))

    def _give_up(self, plugin: str, number: int, how: str) -> None:
        """Turn the message in which the child died too often into a dead letter."""
        self.given_up += 1
        self._progress[plugin] = Progress(number, 0)
        found = self._delivery.window.find(number)
        if found is None:
            self._package_log.error(
                f"{plugin}: the plugin host died {MAX_TRIES} times in gap(): the gap is not reported again"
            )
            return
        envelope, message = found
        reason = f"the plugin host died {MAX_TRIES} times in this message: {how}"
        self._dead_letter(DeadLetter(plugin, envelope.host_id, envelope.client_address, reason, message))
        self._package_log.error(
            f"{plugin}: dead letter, because the plugin host died {MAX_TRIES} times in this message; "
            f"from {envelope.host_id}: {preview(message)}"
        )


def _suspects(one: Generation) -> list[tuple[str, int]]:
    """Return the (plugin, message number) pairs that may have killed the child."""
    if one.too_slow is not None:
        return [(one.too_slow.plugin, one.too_slow.inside)] if one.too_slow.inside else []
    words = one.child.words
    return [
        (plugin.name, words.message(index) // 2)
        for index, plugin in enumerate(one.plugins)
        if words.message(index) % 2
    ]
