"""The subscriptions of a satellite's packages, and the positions of durable ones, which are kept on disk."""

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
        core: of the link; it resumes at the positions in the file.
        path: of the file with the positions of durable packages.
    """

    def __init__(self, core: SatelliteCore, path: Path) -> None:
        self._core = core
        self._cursors = Cursors.open(path)
        self._durable: dict[str, bool] = {}
        self._not_loaded: set[str] = set()
        self._unsaved = ""
        core.log_id, core.run, core.receipts = self._cursors.log_id, self._cursors.run, self._cursors.receipts
        if self._cursors.replaced:
            _logger.error("durable plugins start from the newest message: %s", self._cursors.replaced)

    @property
    def problem(self) -> str:
        """Why the positions of durable packages cannot be saved, '' if they can."""
        return f"the positions of durable plugins cannot be saved: {self._unsaved}" if self._unsaved else ""

    def expect(self, packages: Iterable[str]) -> None:
        """Subscribe durable packages from the first Hello on, although they load later.

        A position that belongs to another log, or is past this one's end, is noticed later.
        """
        self._not_loaded = set(packages) & self._cursors.positions.keys()
        for package in sorted(self._not_loaded):
            self._core.subscribe(package, durable=True, position=self._cursors.positions[package])
            self._core.fell_behind(package)

    def update(self, packages: Iterable[PackageStatus], positions: Mapping[str, int]) -> None:
        """Subscribe every package to the channels of its plugins.

        Args:
            packages: all packages of the satellite.
            positions: of durable ones in the current log.
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
                # A package that becomes durable while it runs has already got all messages up to now.
                goes_on = durable and row.name not in before
                position = known.get(row.name) if goes_on else None
                # Once: not for new code of a package that runs.
                snapshot = () if row.name in before else {one for plugin in receivers for one in plugin.snapshot}
                core.subscribe(
                    row.name, None if everything else channels,
                    durable=durable, position=position, snapshot=sorted(snapshot),
                )  # fmt: skip
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
        """Save the positions of durable packages. A failure of the disk stops nothing else.

        Args:
            positions: in the current log; a package without messages so far is saved where it began.
        """
        core = self._core
        now = (core.log_id, core.run, {**core.durable_beginnings(), **positions})
        if not self._cursors.differ(*now):
            return
        why = ""
        try:
            await asyncio.to_thread(self._cursors.save, *now, core.receipts)
        except OSError as error:
            why = error.strerror or type(error).__name__
        if why != self._unsaved:
            self._unsaved = why
            if why:
                _logger.error("cannot save the positions of durable plugins, retrying: %s", why)
            else:
                _logger.warning("the positions of durable plugins are saved again")
