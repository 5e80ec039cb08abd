"""A package moves by its table: every arrow of it is walked here, with loads that no process stands behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from co2.errors import LoadError
from co2.plugin.packages.spec import PackageSpec
from co2.plugin.parent.calls_in import CallsIn
from co2.plugin.parent.delivery import Delivery
from co2.plugin.parent.filter_stage import PackageFilters
from co2.plugin.parent.gates import Gates
from co2.plugin.parent.generation import NotLoaded
from co2.plugin.parent.lifecycle import Lifecycle
from co2.plugin.parent.lifecycle_transitions import PACKAGE, STARTING, STOPPED, Event, shown
from co2.plugin.parent.package_log import PackageLog
from co2.protocol.transitions import next_state
from tests.plugin.support import PATIENCE, Settings, in_loop

Arrow = tuple[str, Event, str]

ARROWS = {(phase, event, following) for phase, moves in PACKAGE.items() for event, following in moves.items()}
SPEC = PackageSpec("ham", Path("nowhere"))


class FakeGeneration:
    """A load whose steps come out as planned: each succeeds, ``fails``, or ``waits`` until the load has ended."""

    plans: list[dict[str, str]]
    made: "list[FakeGeneration]"

    def __init__(self, number: int, spec: PackageSpec, *, news: Callable[[], None], **_rest: Any) -> None:
        self.number, self.code, self.plan, self.news = number, "", {}, news
        if self.plans:
            self.plan = self.plans.pop(0)
        self.made.append(self)
        self.plugins: list[Any] = []
        self.warnings: list[str] = []
        self.methods: dict[str, Any] = {}
        self.failing: set[str] = set()
        self.receives = self.durable = self.exclusive = self.kept = False
        self.stumbled = self.stumbled_in_callback = self.reason = ""
        self.too_slow = self.watchdog = None
        self.child = self  # what is asked of it: words, and to forget them
        self.words = self
        self.letters = self.letters_come = 0
        self.applied = type("Applied", (), {"failed": 0, "waited": 0, "unkept": 0})
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def step(self, name: str) -> None:
        if self.plan.get(name) == "fails":
            raise NotLoaded(f"{name} fails")
        if self.plan.get(name) == "waits":
            await self.ended

    async def check(self) -> None:
        await self.step("check")
        if self.ended.done():
            raise NotLoaded("it has ended", died=True)

    async def make(self, _timeout: float | None = None) -> None:
        await self.step("make")
        self.kept = False

    async def handover(self, _timeout: float, **_keys: Any) -> dict[str, bytes] | None:
        await self.step("handover")
        return {}

    async def takeover(self, _values: Any, _timeout: float) -> None:
        await self.step("takeover")

    async def retire(self, _timeout: float) -> bool:
        await self.step("retire")
        self.kept = self.plan.get("retire") != "keeps nothing"
        if not self.kept:
            self.die()
        return self.kept

    async def stop(self, _timeout: float) -> None:
        self.die()

    async def end(self) -> None:
        self.kept = False
        self.die()

    def start(self, *_args: Any, **_keys: Any) -> None:
        """Nothing runs."""

    def send(self, _frame: Any) -> None:
        """Nobody gets it."""

    def forget(self) -> None:
        """There is nothing."""

    def die(self) -> None:
        if not self.ended.done():
            self.ended.set_result("was killed")
            self.news()


class Walk:
    """A package that is driven along its table."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, arrows: set[Arrow]) -> None:
        self.running: asyncio.Task[None]
        self.now = 0.0
        self.phase = STARTING
        self.delay = 0.0
        FakeGeneration.plans, FakeGeneration.made = [], []
        gates = Gates(Delivery(lambda: None), CallsIn("ham", lambda _question: True), PackageFilters())

        def noted(table: Any, phase: str, event: Event) -> str:
            self.phase = next_state(table, phase, event)
            arrows.add((phase, event, self.phase))
            return self.phase

        place = "co2.plugin.parent.lifecycle."
        monkeypatch.setattr(f"{place}next_state", noted)
        monkeypatch.setattr(f"{place}Generation", FakeGeneration)
        monkeypatch.setattr(f"{place}time", type("Clock", (), {"monotonic": lambda: self.now}))
        monkeypatch.setattr(f"{place}backoff", lambda: iter(lambda: self.delay, None))
        self.package_log = PackageLog("ham")
        self.lifecycle = Lifecycle(
            SPEC,
            Settings(),
            {},
            package_log=self.package_log,
            gates=gates,
            took=lambda _one, _frame: None,
            paused=lambda: "",
            changed=lambda: None,
            dead_letter=lambda _letter: None,
        )

    async def until(self, condition: Callable[[], Any]) -> None:
        """Let the event loop go on until a condition holds; raise what ends the package meanwhile."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                if self.running.done():
                    await self.running
                await asyncio.sleep(0)

    def plan(self, *plans: dict[str, str]) -> None:
        """Say how the steps of the next loads come out."""
        FakeGeneration.plans += plans

    @property
    def last(self) -> FakeGeneration:
        return FakeGeneration.made[-1]

    async def reaches(self, phase: str) -> None:
        await self.until(lambda: self.phase == phase)

    def ask(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.lifecycle.reload(SPEC))

    async def change(self) -> None:
        """Change its code, which nobody minds to fail."""
        with contextlib.suppress(LoadError):
            await self.lifecycle.reload(SPEC)

    async def kill(self) -> None:
        """Kill what carries it, and wait for the next load."""
        count = len(FakeGeneration.made)
        self.last.die()
        await self.until(lambda: len(FakeGeneration.made) > count)

    async def stop(self) -> None:
        await self.lifecycle.stop(1.0)


@contextlib.asynccontextmanager
async def walking(arrows: set[Arrow], *plans: dict[str, str]) -> AsyncIterator[Walk]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        walk = Walk(monkeypatch, arrows)
        walk.plan(*plans)
        walk.running = asyncio.create_task(walk.lifecycle.run())
        try:
            yield walk
            await walk.stop()
            async with asyncio.timeout(PATIENCE):
                await walk.running
        finally:
            walk.running.cancel()
            walk.package_log.close()


FAILS, WAITS = {"check": "fails"}, {"check": "waits"}


async def starts_dies_and_is_parked(arrows: set[Arrow]) -> None:
    async with walking(arrows, FAILS) as walk:
        await walk.reaches("failed")
        assert walk.lifecycle.state == "failed"
        await walk.ask()
        assert walk.lifecycle.state == "running"
        walk.plan(FAILS)
        await walk.kill()
        await walk.reaches("running")
        for _ in range(2):
            await walk.reaches("running")
            await walk.kill()
        await walk.reaches("running")
        walk.last.die()
        await walk.reaches("parked")
        walk.plan(FAILS)
        with pytest.raises(LoadError, match="check fails"):
            await walk.ask()
        assert walk.lifecycle.state == "parked"
        await walk.ask()
        assert walk.lifecycle.state == "running"


async def changes_its_code(arrows: set[Arrow]) -> None:
    async with walking(arrows) as walk:
        await walk.reaches("running")
        await walk.change()
        await walk.reaches("trial")
        assert walk.lifecycle.state == "running"
        walk.now += 100
        walk.last.news()
        await walk.reaches("running")
        walk.plan({"takeover": "fails"})
        await walk.change()
        assert walk.phase == "running"
        FakeGeneration.made[-2].plan = {"retire": "keeps nothing"}
        await walk.change()
        assert walk.phase == "running"


async def comes_back(arrows: set[Arrow]) -> None:
    async with walking(arrows) as walk:
        await walk.reaches("running")
        await walk.change()
        walk.last.die()
        await walk.until(lambda: walk.lifecycle.current is FakeGeneration.made[0])
        assert walk.phase == "running"
        await walk.change()
        FakeGeneration.made[0].plan = {"make": "fails"}
        await walk.kill()
        await walk.reaches("running")


async def dies_while_its_code_is_changed(arrows: set[Arrow], trial_over: bool) -> None:
    async with walking(arrows) as walk:
        await walk.reaches("running")
        if trial_over:
            await walk.change()
            await walk.reaches("trial")
        one = walk.last
        one.plan = {"handover": "waits"}
        walk.plan({"takeover": "fails"})
        change = asyncio.create_task(walk.change())
        await walk.reaches("switching")
        if trial_over:
            walk.now += 100
        one.die()
        await change
        await walk.reaches("running")


async def dies_on_trial_while_its_code_is_changed(arrows: set[Arrow]) -> None:
    async with walking(arrows) as walk:
        await walk.reaches("running")
        await walk.change()
        one = walk.last
        one.plan = {"handover": "waits"}
        walk.plan({"takeover": "fails"})
        change = asyncio.create_task(walk.change())
        await walk.reaches("switching")
        one.die()
        await change
        await walk.until(lambda: walk.lifecycle.current is FakeGeneration.made[0])
        assert walk.phase == "running"


async def stops(arrows: set[Arrow], phase: str) -> None:
    plans = {"starting": [WAITS], "failed": [FAILS]}.get(phase, [])
    async with walking(arrows, *plans) as walk:
        if phase in ("starting", "failed"):
            await walk.until(lambda: FakeGeneration.made)
            await walk.reaches(phase)
            return
        await walk.reaches("running")
        if phase in ("parked", "retrying"):
            for _ in range(4):
                await walk.kill()
                await walk.reaches("running")
            walk.last.die()
            await walk.reaches("parked")
        if phase == "retrying":
            walk.plan(WAITS)
            asked = walk.ask()
            await walk.reaches("retrying")
            await walk.stop()
            with pytest.raises(LoadError):
                await asked
        if phase == "restarting":
            walk.delay = PATIENCE
            walk.last.die()
            await walk.reaches("restarting")
        if phase == "switching":
            walk.last.plan = {"handover": "waits"}
            change = asyncio.create_task(walk.change())
            await walk.reaches("switching")
            await walk.stop()
            await change
        if phase in ("trial", "reverting"):
            await walk.change()
            await walk.reaches("trial")
        if phase == "reverting":
            walk.last.plan = {"retire": "waits"}
            walk.last.stumbled = "it raised"
            walk.last.news()
            await walk.reaches("reverting")


@in_loop
async def test_every_arrow_of_the_table_is_walked_and_no_other() -> None:
    walked: set[Arrow] = set()
    await starts_dies_and_is_parked(walked)
    await changes_its_code(walked)
    await comes_back(walked)
    await dies_while_its_code_is_changed(walked, trial_over=False)
    await dies_while_its_code_is_changed(walked, trial_over=True)
    await dies_on_trial_while_its_code_is_changed(walked)
    for phase in PACKAGE:
        if phase != STOPPED:
            await stops(walked, phase)
    assert walked == ARROWS


def test_what_is_not_in_the_table_raises() -> None:
    with pytest.raises(KeyError):
        next_state(PACKAGE, "parked", Event.CARRIED)


def test_a_phase_is_shown_as_one_of_the_states_that_users_know() -> None:
    states = {"starting", "running", "restarting", "parked", "failed", "stopped"}
    assert {shown(phase) for phase in PACKAGE} == states
    assert {following for _, _, following in ARROWS} | {STARTING} == set(PACKAGE)
