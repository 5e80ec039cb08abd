"""Which packages of a satellite receive what, and where durable ones go on: told to the relay, kept on disk."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from co2.plugin.parent.status import PackageStatus
from co2.protocol.satellite.core import SatelliteCore
from co2.store.cursors import Cursors

__all__ = ["Subscriptions"]

_logger = logging.getLogger("co2.satellite")


class Subscriptions:
    """The subscriptions of a satellite.

    Args:
        core: of the link; it goes on where the file says.
        path: of the file that says how far durable packages are.
    """

    def __init__(self, core: SatelliteCore, path: Path) -> None:
        self._core = core
        self._cursors = Cursors.open(path)
        self._durable: dict[str, bool] = {}
        self._not_loaded: set[str] = set()
        self._unsaved = ""
        core.log_id, core.run, core.receipt = self._cursors.log_id, self._cursors.run, self._cursors.receipt
        if self._cursors.replaced:
            _logger.error("durable plugins begin anew: %s", self._cursors.replaced)

    @property
    def problem(self) -> str:
        """Why it does not get to disk how far durable packages are, '' where it does."""
        return f"how far durable plugins are cannot be written down: {self._unsaved}" if self._unsaved else ""

    def expect(self, packages: Iterable[str]) -> None:
        """Subscribe durable packages from the first Hello on, though they load later.

        That they have read in another log, or further than this one goes, is found out there.
        """
        self._not_loaded = set(packages) & self._cursors.positions.keys()
        for package in sorted(self._not_loaded):
            self._core.subscribe(package, durable=True, position=self._cursors.positions[package])
            self._core.fell_behind(package)

    def update(self, packages: Iterable[PackageStatus], positions: Mapping[str, int]) -> None:
        """Subscribe every package to what its plugins receive now.

        Args:
            packages: all of the satellite's.
            positions: how far durable ones are in the log of now.
        """
        core = self._core
        known = {**self._cursors.positions, **positions}
        before, self._durable = self._durable, {}
        for row in packages:
            receivers = [plugin for plugin in row.plugins if plugin.receives]
            if receivers:
                everything = any(not plugin.channels for plugin in receivers)
                channels = sorted({channel for plugin in receivers for channel in plugin.channels})
                durable = any(plugin.durable for plugin in receivers)
                # One that becomes durable while it runs has had what came up to now.
                goes_on = durable and row.name not in before
                position = known.get(row.name) if goes_on else None
                core.subscribe(row.name, None if everything else channels, durable=durable, position=position)
                self._durable[row.name] = durable
                if row.name in self._not_loaded:
                    self._not_loaded.discard(row.name)
                    core.catch_up(row.name)
            elif row.name in self._not_loaded and row.state != "starting":
                self._not_loaded.discard(row.name)
                core.unsubscribe(row.name)
        for name in before.keys() - self._durable.keys():
            core.unsubscribe(name)

    async def save(self, positions: Mapping[str, int]) -> None:
        """Write down how far durable packages are. Where the disk does not take that, all else goes on.

        Args:
            positions: how far they are in the log of now; one that got nothing yet is where it began.
        """
        core = self._core
        now = (core.log_id, core.run, {**core.durable_beginnings(), **positions})
        if not self._cursors.differ(*now):
            return
        why = ""
        try:
            await asyncio.to_thread(self._cursors.save, *now, core.receipt)
        except OSError as error:
            why = error.strerror or type(error).__name__
        if why != self._unsaved:
            self._unsaved = why
            if why:
                _logger.error("how far durable plugins are cannot be written down, it is tried again: %s", why)
            else:
                _logger.warning("how far durable plugins are is written down again")
