"""A world in which nothing happens but what is told."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.simulation.knobs import NORMAL, installed
from tests.simulation.plugin_host import PackagePlan, PluginPlan
from tests.simulation.relay_host import SimRelay
from tests.simulation.satellite_host import SimSatellite
from tests.simulation.truth import Ear
from tests.simulation.world import World

__all__ = ["Story", "package", "told"]


def package(
    name: str, *, durable: bool = False, channels: list[str] | None = None, cost: float = 0.00001
) -> PackagePlan:
    """Make a package of one plugin, that sends only when it is told to."""
    plugin = PluginPlan(f"{name}.m.X", receives=True, channels=channels or [], durable=durable, cost=cost)
    return PackagePlan(name, [plugin], 0.0, False)


class Story(World):
    """A world that is told step by step."""

    def begin(self) -> None:
        """A relay, and a quick network."""
        self.net.high, self.net.bandwidth, self.net._latency = 4 * 2**20, 1e8, (0.001, 0.001)
        self.log_bytes, self.log_age, self.outbox_max = 2**30, 86_400.0, 2**30
        self.durability = 0.0
        self.receive_deadline = 30.0
        self.of_before = 0.0
        self._pad = 0
        self._sync = 0.004
        self.relay = SimRelay(self, self.folder / "relay")
        self.relay.start()

    def sync_time(self) -> float:
        """Seconds that a commit takes."""
        return self._sync

    def commits_take(self, seconds: float) -> None:
        """From now on a commit takes so long."""
        self._sync = seconds

    def satellite(self, *plans: PackagePlan) -> SimSatellite:
        """Add a satellite, linked and loaded."""
        made = self.add_satellite(list(plans))
        self.go(1.0)
        assert made.core.state == "open"
        return made

    def send(self, satellite: SimSatellite, count: int, *, live: bool = False, channel: str = "") -> None:
        """Its first package sends messages, in one batch."""
        plan = satellite.plans[0]
        satellite.send(plan.name, plan.plugins[0].name, [(channel, None)] * count, live=live)

    def ear(self, satellite: SimSatellite, name: str = "") -> Ear:
        """Give a receiving plugin's ear, the first one's where it is not named."""
        return next(ear for ear in satellite.ears if ear.package == (name or ear.package))

    def heard(self, ear: Ear, satellite: SimSatellite) -> list[int]:
        """Give the numbers of what it has heard of the run of now."""
        return sorted(ear.ever[satellite.run.number])

    def judge(self) -> None:
        """Let all come to rest; every oracle must be content."""
        self.finish()
        if self.oracles.first is not None:
            raise self.oracles.first


@contextlib.contextmanager
def told(name: str, **knobs: Any) -> Iterator[Story]:
    """Tell a story; its knobs are the product's own bounds but for those given."""
    folder = Path(tempfile.mkdtemp(prefix="co2-story-"))
    story = Story(name, folder, keep_all=True)
    story.knobs = dict.fromkeys(story.knobs, NORMAL) | {"RESERVE": 8 * 1024} | knobs
    try:
        with installed(story.knobs, story.dice):
            try:
                story.begin()
                yield story
            finally:
                story.dispose()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
