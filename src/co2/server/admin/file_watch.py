"""Watch the plugin folder, and report when code in it may have changed."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from co2.plugin.packages.source import NOT_OURS

__all__ = ["LOOK_INTERVAL", "PluginWatch", "signature"]

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the files without events: some file systems have none."""

QUIET = 50
LONGEST_BURST = 500
"""Milliseconds without an event that end a burst, and of the longest burst: editors write several files."""

_CODE = (".py", ".so", ".pyd")

_logger = logging.getLogger("co2.plugins")


class PluginWatch:
    """Watches a folder, with the system's events and by regular looks.

    Args:
        folder: the plugin folder; it need not exist yet.
        changed: called when anything may be new; never twice at a time.
        also: further files to watch, such as the configuration.
    """

    def __init__(self, folder: Path, changed: Callable[[], Awaitable[None]], *also: Path) -> None:
        self._folder = folder
        self._changed = changed
        self._also = also
        self._seen: object = None

    async def run(self) -> None:
        """Watch until cancelled."""
        self._seen = await asyncio.to_thread(signature, self._folder, *self._also)
        _logger.info("watching %s: packages are reloaded when their code changes", self._folder)
        while True:
            if self._folder.is_dir():
                await self._watch()
            await asyncio.sleep(LOOK_INTERVAL)
            await self._look()

    async def _watch(self) -> None:
        """Wait for events, and look regularly without any, until the folder is gone."""
        from watchfiles import awatch

        try:
            async for _ in awatch(
                self._folder,
                watch_filter=None,
                debounce=LONGEST_BURST,
                step=QUIET,
                rust_timeout=int(LOOK_INTERVAL * 1000),
                yield_on_timeout=True,
            ):
                await self._look()
                if not self._folder.is_dir():
                    return
        except OSError as error:
            _logger.warning(
                "no file events for %s (%s): checking it every %g s instead", self._folder, error, LOOK_INTERVAL
            )
            while self._folder.is_dir():
                await asyncio.sleep(LOOK_INTERVAL)
                await self._look()

    async def _look(self) -> None:
        seen = await asyncio.to_thread(signature, self._folder, *self._also)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            await self._changed()
        except Exception:
            _logger.exception("the changes in %s could not be loaded", self._folder)


def signature(folder: Path, *also: Path) -> frozenset[tuple[str, int, int, int]]:
    """Return what identifies the files of packages without reading them: path, time, size and number of each
    file of a package, which is a folder or a single file.

    Args:
        folder: that holds packages.
        also: further files.
    """
    found = {_stat(path) for path in (*also, *folder.glob("[!._]*.py"))}
    packages = [path.parent for path in folder.glob("[!._]*/__init__.py")]  # other folders may hold anything
    for package in packages:
        for place, folders, files in os.walk(package):
            folders[:] = [name for name in folders if name not in NOT_OURS and not name.startswith(".")]
            found |= {_stat(Path(place, name)) for name in files if name.endswith(_CODE)}
    return frozenset(found)


def _stat(path: Path) -> tuple[str, int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (str(path), 0, 0, 0)
    return (str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino)
