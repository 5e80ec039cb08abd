"""The life cycle of one plugin package: load, carry, restart, change its code, stop. One task drives it all.

A change of code: the new generation is made while the old one works. Then all gates are held; the old one stops
between two messages and hands over; the new one takes over; the old one runs ``__exit__`` and all its sends are
received. The new one then starts with the work that the old one had not done. The old one keeps its code for a
while, so that it can come back. If only one of them can be up, ``__exit__`` runs before the new one is made.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from co2.errors import LoadError
from co2.logs import TOLD
from co2.plugin.packages.spec import PackageSpec, PluginSettings
from co2.plugin.parent.accounting import Accounting
from co2.plugin.parent.gates import Gates
from co2.plugin.parent.generation import Generation, NotLoaded, Took
from co2.plugin.parent.lifecycle_transitions import (
    FAILED,
    PACKAGE,
    RESTARTING,
    RUNNING,
    STARTING,
    Event,
    shown,
)
from co2.plugin.parent.package_log import PackageLog
from co2.plugin.parent.restart_policy import PARK_WITHIN, backoff
from co2.protocol.transitions import next_state
from co2.protocol.wire.plugin_frames.frames import DeadLetter, Resume
from co2.tasks import TaskSet

__all__ = ["EXCLUSIVE_START", "HANDOVER_TIMEOUT", "TRIAL", "Lifecycle"]

QUICK_LIFE = 60.0
"""Seconds of life after which a plugin host restarts with the shortest delay."""

HANDOVER_TIMEOUT = 5.0
"""Seconds for the old code to finish its message and hand over, and for the new code to take over."""

EXCLUSIVE_START = 5.0
"""Seconds in which new code must be up while no generation carries the package."""

TRIAL = 5.0
"""Seconds after a change of code in which a crash brings the old code back."""


_CRASHED = f"crashed within {TRIAL:g} s"

_AGAIN = "runs again"


@dataclass(slots=True)
class _Trial:
    """New code on trial, with the old code that can come back.

    Attributes:
        old: the previous generation; its code is kept.
        values: values that it handed over.
        until: monotonic seconds.
    """

    old: Generation
    values: Mapping[str, bytes]
    until: float


class Lifecycle:
    """Runs one package; its phases are those of :data:`~co2.plugin.parent.lifecycle_transitions.PACKAGE`.

    Args:
        spec: the package.
        settings: limits of plugin packages.
        var_dict: variables for its plugins.
        package_log: its log.
        gates: its gates.
        took: handles the frames of its children.
        paused: returns why plugins may not send now, '' if they may.
        changed: called when its methods or plugins have changed.
        dead_letter: called with each message that is given up.

    Attributes:
        settled: set once it runs, or will not run.
        refused: the code in the folder failed, and older code carries the package.
        current: the generation that carries the package, or did last; None before the first load.
        accounting: its loads, their counters, and its plugins' progress.
    """

    def __init__(
        self,
        spec: PackageSpec,
        settings: PluginSettings,
        var_dict: Mapping[str, Any],
        *,
        package_log: PackageLog,
        gates: Gates,
        took: Took,
        paused: Callable[[], str],
        changed: Callable[[], None],
        dead_letter: Callable[[DeadLetter], None],
    ) -> None:
        self.spec = spec
        self.refused = False
        self.settled = asyncio.Event()
        self.current: Generation | None = None
        self.accounting = Accounting(spec.name, package_log, gates.delivery, dead_letter)
        self._settings = settings
        self._var_dict = var_dict
        self._package_log = package_log
        self._logger = package_log.logger
        self._gates = gates
        self._took = took
        self._paused = paused
        self._changed = changed
        self._phase = STARTING
        self._stopping = False
        self._news = asyncio.Event()
        self._requests: list[asyncio.Future[None]] = []
        self._trial: _Trial | None = None
        self._ending = TaskSet(self._logger, "the end of old code")
        self._exclusive = self._fresh = False

    # public interface

    @property
    def state(self) -> str:
        """The state, as in :class:`~co2.plugin.parent.status.PackageStatus`."""
        return shown(self._phase)

    @property
    def running(self) -> Generation | None:
        """The generation that carries the package, while it runs."""
        return self.current if self.state == RUNNING else None

    @property
    def stopping(self) -> bool:
        """Whether it is being stopped."""
        return self._stopping

    async def run(self) -> None:
        """Carry the package until it is stopped."""
        delays = backoff()
        while not self.stopping:
            began = time.monotonic()
            how = await self._live()
            if self.stopping:
                break
            if time.monotonic() - began > QUICK_LIFE:
                delays = backoff()
            given_up = self.accounting.given_up
            if self._phase == RESTARTING and self._died(how):
                if self.accounting.given_up > given_up:
                    delays = backoff()  # the next try starts with another message
                await self._pause(next(delays))
                self.accounting.counters.restarts += not self.stopping
            else:
                await self._pause(None)
                if not self.stopping:
                    self._move(Event.ASKED)
        self._gates.close(f"the plugin package {self.spec.name} is not running", "stopped")
        self._move(Event.STOPPED)
        self._end_trial()
        await asyncio.gather(*self._ending)
        self._answer(self._requests, "it was stopped")
        self.settled.set()

    @property
    def on_trial(self) -> bool:
        """Whether new code is on trial."""
        return self._trial is not None

    async def reload(self, spec: PackageSpec, *, fresh: bool = False) -> None:
        """Load the current code of the package. A package that is parked or has failed is tried again.

        Args:
            spec: the package, as configured now.
            fresh: hand nothing over to the new code.

        Raises:
            LoadError: it failed; a running package stays as it was.
        """
        if self.stopping:
            raise LoadError(self.spec.name, "it is being stopped")
        self.spec = spec
        self._fresh = self._fresh or fresh
        request: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests.append(request)
        self._news.set()
        await request

    def keep(self) -> None:
        """Record that the folder has the running code again: the refused code is gone."""
        one = self.running
        if one is None or not self.refused:
            return
        self.refused = False
        self._package_log.forget_error()
        self._tell("the folder has the running code again")

    async def stop(self, timeout: float) -> None:
        """Stop it in an orderly way, within ``timeout`` seconds and a little."""
        self._stopping = True
        self._gates.delivery.hold()
        self._news.set()
        running = self.running
        await asyncio.gather(
            *(one.stop(timeout) if one is running or one.kept else one.end() for one in [*self.accounting.alive])
        )

    def _move(self, event: Event) -> None:
        self._phase = next_state(PACKAGE, self._phase, event)

    # the generations between two deaths

    async def _live(self) -> str:
        """Load the package and carry it until its end; return the cause."""
        requests, self._requests = self._requests, []
        self._fresh = False
        one = self._new()
        try:
            await one.check()
            await one.make()
            if self.stopping:
                raise NotLoaded("it was stopped")
        except NotLoaded as error:
            await one.end()
            self.accounting.ended(one)
            return self._not_loaded(error, requests)
        if self._phase != RESTARTING and self.accounting.counters.loads > 1:  # failed or parked before
            self.accounting.forget_all_deaths()
            self._package_log.forget_error()
        self.refused = False
        self._begin(one, on_trial=False)
        self._tell(_AGAIN if self.accounting.counters.restarts else "loaded")
        self._answer(requests)
        return await self._carry()

    def _not_loaded(self, error: NotLoaded, requests: list[asyncio.Future[None]]) -> str:
        if self.stopping:
            self._answer(requests, "it was stopped")
            return "stopped"
        self._answer(requests, error.problem)
        self._move(Event.NOT_LOADED)
        if self._phase == RESTARTING:
            # Code that ran before will run again: a port may still be in use by programs that the last child left
            # behind.
            return error.problem.removeprefix("the plugin host ") if error.died else f"not loaded: {error.problem}"
        if self._phase == FAILED:
            self._gates.delivery.forget()
        self._package_log.error(f"plugin package {self.spec.name} is not loaded: {error.problem}")
        self._gates.close(error.problem, self.state)
        self.settled.set()
        return error.problem

    async def _carry(self) -> str:
        """Carry the package while it runs; return the cause of its end."""
        while True:
            await self._news_within(self._trial.until - time.monotonic() if self._trial is not None else None)
            one = self.current
            assert one is not None
            if one.ended.done():
                how = one.ended.result()
                if self.stopping or not await self._go_back(_CRASHED, one.reason or f"its plugin host {how}"):
                    return self._end_of(one, how)
            elif one.stumbled and not self.stopping and not await self._go_back_from_stumble(one):
                if one.ended.done():
                    continue
                one.stumbled = ""
                one.send(Resume())
            elif self._requests and not self.stopping:
                await self._reload()
            if self._trial is not None and time.monotonic() >= self._trial.until:
                self._move(Event.TRIAL_OVER)
                self._end_trial()

    def _end_of(self, one: Generation, how: str) -> str:
        """Close the gates and settle the accounts: no generation carries the package."""
        self._gates.close(f"the plugin host of {self.spec.name} died", "restarting")
        self.accounting.settle(one)
        if self.stopping:
            self.accounting.ended(one)
        else:
            self._move(Event.DIED)
        return how

    def _new(self) -> Generation:
        self.accounting.counters.loads += 1
        one = Generation(
            self.accounting.counters.loads,
            self.spec,
            settings=self._settings,
            var_dict=self._var_dict,
            logger=self._logger,
            took=self._took,
            news=self._news.set,
        )
        one.ended.add_done_callback(lambda _how: self._lost(one))
        self.accounting.alive.append(one)
        return one

    def _lost(self, one: Generation) -> None:
        if one is self.current and not one.kept:
            self._gates.lose(f"the plugin host of {self.spec.name} died", on_trial=self._trial is not None)

    def _begin(self, one: Generation, *, on_trial: bool) -> None:
        """Make a generation carry the package, starting with the work that its predecessor had not done."""
        before, self.current = self.current, one
        one.start(self.accounting.place(one), paused=self._paused(), on_trial=on_trial)
        self._carries_on()
        self._gates.open(one, before)
        self.settled.set()
        if before is None or before.plugins != one.plugins or before.methods != one.methods:
            self._changed()

    def _carries_on(self) -> None:
        """Note that a generation carries the package, on trial or not."""
        self._move(Event.CARRIED if self._trial is None else Event.ON_TRIAL)

    # change of code

    async def _reload(self) -> None:
        """Replace the running code by new code; if that fails, the old code stays or comes back."""
        requests, self._requests = self._requests, []
        fresh, self._fresh = self._fresh, False
        old = self.current
        assert old is not None
        try:
            await self._change(old, fresh)
        except NotLoaded as error:
            if self.stopping:
                self._answer(requests, "it was stopped")
                return
            self.accounting.counters.reloads["failed"] += 1
            self.refused = True
            continues = "" if old.ended.done() else f"; load {old.number}, code {old.code}, continues"
            self._package_log.error(f"plugin package {self.spec.name} is not reloaded: {error.problem}{continues}")
            self._answer(requests, f"{error.problem}{continues}")
            return
        self.accounting.counters.reloads["ok"] += 1
        self.refused = False
        self._package_log.forget_error()
        self._tell("reloaded")
        self._answer(requests)

    async def _change(self, old: Generation, fresh: bool) -> None:
        new, exclusive = await self._load_beside(old)
        self._move(Event.HANDOVER)
        self._gates.hold()
        values: dict[str, bytes] | None = {}
        try:
            values = await old.handover(HANDOVER_TIMEOUT, fresh=fresh)
            if values is None and not old.ended.done():
                self._logger.warning(
                    "nothing is handed over: the old code did not stop within %g s", HANDOVER_TIMEOUT
                )
            if exclusive:
                await self._retire(old)
                await new.make(EXCLUSIVE_START)
            await new.takeover(values or {}, HANDOVER_TIMEOUT)
        except NotLoaded:
            await new.end()
            self.accounting.ended(new)
            await self._come_back(old, values or {})
            raise
        if not exclusive:
            await self._retire(old)
        self._end_trial()
        if self.stopping or new.ended.done():
            # The new one has ended before it started, the old one has exited: continue as after a death.
            await asyncio.gather(old.end(), new.end())
            self.accounting.ended(new)
            raise NotLoaded("the plugin host ended before it had started", died=True)
        if old.kept:
            self._trial = _Trial(old, values or {}, time.monotonic() + TRIAL)
        self._begin(new, on_trial=old.kept)
        if not old.kept:
            self.accounting.ended(old)

    async def _load_beside(self, old: Generation) -> tuple[Generation, bool]:
        """Load new code beside the old; also return whether only one of them can be up at a time."""
        new = self._new()
        try:
            await new.check()
            exclusive = self._exclusive or old.exclusive or new.exclusive
            if not exclusive:
                await new.make()
        except NotLoaded as error:
            await new.end()
            self.accounting.ended(new)
            if not error.taken or self._exclusive:
                raise
        else:
            return new, exclusive
        # The old code holds a resource that the new code needs: from here on the old one exits first.
        self._exclusive = True
        return await self._load_beside(old)

    async def _retire(self, old: Generation) -> None:
        await old.retire(self._settings.exit_timeout)
        self.accounting.settle(old)

    async def _come_back(self, old: Generation, values: Mapping[str, bytes]) -> None:
        """Resume the old code after its stop; make its plugins anew if they have exited."""
        if self.stopping or old.ended.done():
            return
        if not old.kept:
            old.send(Resume())
            self._carries_on()
            self._gates.resume(old)
            return
        try:
            await old.make(EXCLUSIVE_START)
            await old.takeover(values, HANDOVER_TIMEOUT)
        except NotLoaded as error:
            self._package_log.error(
                f"the previous code (load {old.number}) could not be restored: {error.problem}"
            )
            await old.end()
        else:
            self._begin(old, on_trial=False)

    async def _go_back_from_stumble(self, one: Generation) -> bool:
        """Bring the old code back because the new code raised; return whether that worked."""
        if self._trial is not None and one.stumbled_in_callback in self._trial.old.failing:
            return False  # the old code raised there too: it would not help
        return await self._go_back("raised", one.stumbled)

    async def _go_back(self, what: str, why: str) -> bool:
        """Bring the old code back because the new code did ``what`` on trial; return whether that worked."""
        trial, self._trial = self._trial, None
        new = self.current
        if trial is None or new is None:
            return False
        self._move(Event.TRIAL_FAILED)
        self._gates.hold()
        if not new.ended.done():
            await new.retire(self._settings.exit_timeout)
        await new.end()
        self.accounting.settle(new)
        await self._come_back(trial.old, trial.values)
        if self.current is not trial.old:
            self.accounting.ended(trial.old)
            return False
        self.accounting.ended(new)
        self.accounting.counters.reloads["reverted"] += 1
        self.refused = True
        self._package_log.error(
            f"the new code (load {new.number}, code {new.code}) {what}, so the previous code "
            f"runs again (load {trial.old.number}, code {trial.old.code}): {why}"
        )
        return True

    def _end_trial(self) -> None:
        """End the trial: the new code works, and the old code can go."""
        trial, self._trial = self._trial, None
        if trial is not None:
            self._ending.start(self._finish(trial.old))

    async def _finish(self, old: Generation) -> None:
        await old.stop(self._settings.exit_timeout)
        await old.ended
        self.accounting.ended(old)

    # helpers

    def _died(self, how: str) -> bool:
        """Report a death; return whether the package is restarted."""
        one = self.current if self.current in self.accounting.alive else None  # None: it died while it loaded
        deaths = self.spec.all_limits(self._settings)["deaths"]
        if not self.accounting.died(one, how, deaths):
            return True
        self._move(Event.GIVEN_UP)
        self._gates.close(f"the plugin host of {self.spec.name} died", "parked")
        # Without --url the command would go to the satellite with the default port.
        port = str(self._var_dict.get("host_id", "")).rpartition(":")[2]
        self._package_log.error(
            f"plugin package {self.spec.name} is parked: its plugin host {self.accounting.restart_policy} within "
            f"{PARK_WITHIN:g} s; the last time it {how}. Fix it, then: co2 plugin reload {self.spec.name}"
            + (f" --url http://127.0.0.1:{port}" if port else "")
        )
        return False

    def _tell(self, what: str) -> None:
        one = self.current
        assert one is not None
        names = ", ".join(plugin.name for plugin in one.plugins)
        self._logger.info("%s: %s (load %d, code %s)", what, names, one.number, one.code, extra=TOLD)
        for warning in one.warnings if what != _AGAIN else ():
            self._package_log.warn(warning)

    def _answer(self, requests: list[asyncio.Future[None]], problem: str = "") -> None:
        for request in requests:
            if request.done():
                continue
            if problem:
                request.set_exception(LoadError(self.spec.name, problem))
            else:
                request.set_result(None)

    async def _news_within(self, seconds: float | None) -> None:
        """Wait for news, at most for ``seconds``; None for no limit."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if seconds is None else max(0.0, seconds)):
                await self._news.wait()
        self._news.clear()

    async def _pause(self, seconds: float | None) -> None:
        """Wait for a request or a stop, at most for ``seconds``; None for no limit."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self.stopping and not self._requests and (until is None or time.monotonic() < until):
            await self._news_within(None if until is None else until - time.monotonic())
