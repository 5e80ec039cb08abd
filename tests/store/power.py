"""A disk that loses what was not synced when its power is cut, fails to sync, or is full; for SQLite, as a VFS.

The files themselves are as the operating system shows them. Beside each, :class:`Disk` keeps what is on the
platter, and the writes and changes of length that are not there yet. A cut takes some of these, in their order,
leaves others out, tears some at the bounds of sectors, and gives up the rest. Names of files are kept in the same
way: a new one is on disk when its folder was synced, which SQLite does with the first sync of a journal or a WAL.
"""

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

__all__ = ["SECTOR", "Disk"]

SECTOR = 512
"""Bytes that get to disk whole or not at all."""

_SYNCS_FOLDER = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL


@dataclass(slots=True)
class _Write:
    at: int
    data: bytes


@dataclass(slots=True)
class _Length:
    size: int


@dataclass(slots=True, eq=False)
class _Kept:
    """One file: ``platter`` as it would be after a cut, ``pending`` what came since the last sync."""

    platter: bytearray
    size: int
    pending: list[_Write | _Length] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.platter, change)
        self.pending.clear()


class Disk(apsw.VFS):
    """A VFS over the platform's.

    Args:
        name: of the VFS, for ``vfs=``.
        dice: decide what a cut leaves.

    Attributes:
        off: the power is cut: nothing is written any more.
        sync_fails: every sync fails, and what it should have brought to disk is lost.
        room: bytes that files may still grow by, None for no bound.
        operations: writes, syncs, changes of length and of names so far.
        cut_mode: what a cut leaves of what was not synced: ``all`` of it, ``none``, ``some``, the ``first``;
            ``kill`` for all, and none of it torn, as when only the process ends; '' for a throw of the dice.
    """

    def __init__(self, name: str, dice: random.Random) -> None:
        super().__init__(name, "")
        self.vfs_name = name
        self.off = False
        self.sync_fails = False
        self.room: int | None = None
        self.operations = 0
        self.cut_mode = ""
        self.dice = dice
        self._cut_at: int | None = None
        self._lock = threading.RLock()
        self._live: dict[str, _Kept] = {}
        self._named: dict[str, _Kept] = {}
        self._names: list[tuple[str, _Kept | None]] = []
        self._left: dict[str, bytes] = {}

    # ---- power -----------------------------------------------------------------------------------------

    def cut_after(self, operations: int) -> None:
        """Cut the power within the n-th operation from now, 0 for the next one."""
        with self._lock:
            self._cut_at = self.operations + operations

    def cut(self) -> None:
        """Cut the power now: from here on every operation fails."""
        with self._lock:
            if self.off:
                return
            self.off = True
            mode = self.cut_mode or self.dice.choice(("some", "some", "none", "all", "first"))
            named = dict(self._named)
            for name, kept in _chosen(self._names, mode, self.dice):
                if kept is None:
                    named.pop(name, None)
                else:
                    named[name] = kept
            self._left = {name: bytes(_surviving(kept, mode, self.dice)) for name, kept in named.items()}

    def power_on(self) -> None:
        """Bring the files to what the cut has left. Every connection must be closed."""
        with self._lock:
            for name in {*self._live, *self._named, *self._left}:
                Path(name).unlink(missing_ok=True)
                Path(f"{name}-shm").unlink(missing_ok=True)
            self._live.clear()
            for name, content in self._left.items():
                Path(name).write_bytes(content)
                self._live[name] = _Kept(bytearray(content), len(content))
            self._named = dict(self._live)
            self._names.clear()
            self._left = {}
            self._cut_at = None
            self.off = False

    def step(self) -> None:
        """Count an operation; fail when the power is off, or goes off now."""
        if self.off:
            raise apsw.IOError("the power is cut")
        self.operations += 1
        if self._cut_at is not None and self.operations > self._cut_at:
            self.cut()
            raise apsw.IOError("the power is cut")

    # ---- what SQLite asks for --------------------------------------------------------------------------

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        if name is None:
            return super().xOpen(name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        with self._lock:
            is_new = not Path(path).exists()
            if is_new and self.off:
                raise apsw.IOError("the power is cut")
            file = _File(self, name, flags)
            kept = self._live.get(path)
            if is_new or kept is None:
                content = bytearray() if is_new else bytearray(Path(path).read_bytes())
                kept = self._live[path] = _Kept(content, len(content))
                if is_new:
                    self._names.append((path, kept))
                else:
                    self._named[path] = kept
            file.kept = kept
            file.syncs_folder = is_new and bool(flags[0] & _SYNCS_FOLDER)
            return file

    def xDelete(self, filename: str, syncdir: bool) -> None:
        with self._lock:
            self.step()
            super().xDelete(filename, False)
            self._live.pop(filename, None)
            self._names.append((filename, None))
            if syncdir:
                self.sync_names()

    def sync_names(self) -> None:
        """Bring the names of files to disk."""
        for name, kept in self._names:
            if kept is None:
                self._named.pop(name, None)
            else:
                self._named[name] = kept
        self._names.clear()

    def change(self, kept: _Kept, change: _Write | _Length) -> None:
        """Take in what is not on disk yet."""
        with self._lock:
            if not self.off:
                kept.pending.append(change)
            try:
                self.step()
                end = change.size if isinstance(change, _Length) else change.at + len(change.data)
                growth = end - kept.size
                if self.room is not None and growth > 0:
                    if growth > self.room:
                        raise apsw.FullError("no space left on device")
                    self.room -= growth
            except apsw.FullError:
                kept.pending.pop()
                raise
            if isinstance(change, _Length) or growth > 0:
                kept.size = end

    def sync(self, kept: _Kept, *, folder: bool) -> None:
        """Bring a file to disk."""
        with self._lock:
            self.step()
            if self.sync_fails:
                kept.pending.clear()
                raise apsw.IOError("Input/output error")
            kept.sync()
            if folder:
                self.sync_names()


class _File(apsw.VFSFile):
    """One open file."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self.disk = disk
        self.kept = _Kept(bytearray(), 0)
        self.syncs_folder = False

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.change(self.kept, _Write(offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self.disk.change(self.kept, _Length(newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self.disk.sync(self.kept, folder=self.syncs_folder)
        self.syncs_folder = False


def _apply(content: bytearray, change: _Write | _Length) -> None:
    size = change.size if isinstance(change, _Length) else change.at + len(change.data)
    if len(content) < size:
        content += bytes(size - len(content))
    if isinstance(change, _Length):
        del content[size:]
    else:
        content[change.at : size] = change.data


def _chosen(changes: list[Any], mode: str, dice: random.Random) -> list[Any]:
    """What of these gets to disk, in order."""
    if mode == "first":
        return changes[: dice.randint(0, len(changes))]
    chance = {"none": 0.0, "all": 1.0, "kill": 1.0, "some": dice.random()}[mode]
    return [change for change in changes if dice.random() < chance]


def _surviving(kept: _Kept, mode: str, dice: random.Random) -> bytearray:
    content = bytearray(kept.platter)
    taken = _chosen(kept.pending, mode, dice)
    torn = dice.choice(taken) if taken and mode != "kill" and dice.random() < 0.7 else None
    for change in taken:
        for part in _torn(torn, dice) if torn is not None and change is torn else [change]:
            _apply(content, part)
    return content


def _torn(change: _Write | _Length, dice: random.Random) -> list[_Write]:
    """Some of the sectors of a write."""
    if isinstance(change, _Length):
        return []
    parts = []
    start = change.at
    while start < (end := change.at + len(change.data)):
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        if dice.random() < 0.5:
            parts.append(_Write(start, change.data[start - change.at : stop - change.at]))
        start = stop
    return parts
