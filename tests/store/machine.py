"""A machine whose power is cut while its relay log is written, and what must be true when it is on again."""

import contextlib
import hashlib
import random
import time
import zlib
from pathlib import Path
from typing import Any

import apsw

from co2.errors import StorageFailed
from co2.protocol.relay.log import Entry
from co2.protocol.wire.batch import batch_count, make_batch
from co2.store.relay_log import RelayLog
from co2.store.relayed_ids import RelayedIds
from tests.store.power import Disk

__all__ = ["MAX_BYTES", "Loss", "Machine"]

MAX_BYTES = 300_000
"""Bytes of messages that the log keeps."""

AHEAD = 1000
"""Messages that wait for the disk at most."""

WRITERS = ("ham", "spam", "eggs")


class Loss(AssertionError):
    """Something that was promised is not so."""


class Machine:
    """One log, through any number of cuts; with all that was ever said of it.

    Args:
        path: of the log.
        disk: that it is on.
        dice: decide what is written, and when the power is cut.
    """

    def __init__(self, path: Path, disk: Disk, dice: random.Random) -> None:
        self.path = path
        self.disk = disk
        self.dice = dice
        self.cuts = 0
        self.told = 0
        self.log_id = ""
        self.handed_out = 1
        self.run = ""
        self.kept: list[Entry] = []
        self.fresh: list[Entry] = []
        self.acknowledged = 0
        self.epochs: dict[str, int] = {}
        self.marks: dict[tuple[str, int], int] = {}
        self.ids = RelayedIds()

    def cut_once(self) -> None:
        """Open the log, write until the power is cut, switch on again, check.

        Raises:
            Loss: something is not as promised.
        """
        cut_after = self.dice.choice((self.dice.randint(0, 60), self.dice.randint(20, 700)))
        self.disk.cut_after(cut_after)
        self.acknowledged = 0
        log = None
        try:
            log = self._open()
            self._write(log)
        except StorageFailed as error:
            if not self.disk.off:
                raise Loss(f"an error without a cut: {error}") from error
        self._end(log)
        self.cuts += 1
        told = [entry for entry in self.fresh if entry.end <= self.acknowledged]
        self.disk.power_on()
        log = self._open()
        try:
            self._check(log, told)
        finally:
            self._end(log)
            self.disk.power_on()

    def _open(self) -> RelayLog:
        log = RelayLog.open(
            self.path,
            max_bytes=MAX_BYTES,
            max_age=1e9,
            now=lambda: 1_000_000.0,
            wall=lambda: 1e9,
            on_commit=self._on_commit,
            vfs=self.disk.vfs_name,
        )
        if log.replaced:
            raise Loss(f"set aside: {log.replaced}")
        if self.log_id and log.log_id != self.log_id:
            raise Loss("another log id")
        if self.run and not log.holds(self.run, self.handed_out):
            raise Loss(f"position {self.handed_out} was handed out, and the log does not know of it")
        if log.last < self.handed_out:
            raise Loss(f"the next position is {log.last + 1}, {self.handed_out} was handed out")
        self.log_id = log.log_id
        return log

    def _on_commit(self, position: int) -> None:
        self.acknowledged = max(position, self.acknowledged)

    # ---- writing ---------------------------------------------------------------------------------------

    def _write(self, log: RelayLog) -> None:
        dice = self.dice
        for origin in WRITERS:
            if origin not in self.epochs or dice.random() < 0.3:
                self.epochs[origin] = dice.getrandbits(63) | 1
                log.set_mark(origin, self.epochs[origin], 0)
        pause = dice.choice((0.0, 0.0003, 0.002))
        deadline = time.monotonic() + 20
        while not self.disk.off and not log._writer.failed:
            if time.monotonic() > deadline:
                raise Loss("nothing gets to disk")
            if log.last - log.committed > AHEAD:
                time.sleep(0.0005)
                continue
            try:
                entry = self._append(log)
            except StorageFailed:
                return
            self.run = log.run
            self.handed_out = entry.end
            self.fresh.append(entry)
            if dice.random() < 0.2:
                time.sleep(pause)

    def _append(self, log: RelayLog) -> Entry:
        dice = self.dice
        origin = dice.choice((*WRITERS, ""))
        size = dice.choice((10, 300, 5000))
        message = b"\xc5" + size.to_bytes(2, "big") + dice.randbytes(size)
        batch = make_batch([message] * dice.choice((1, 1, 3, 20 if size < 5000 else 2)))
        epoch = self.epochs[origin] if origin else 0
        return log.append(
            origin=origin or "xml",
            host_id=f"{origin or 'xml'}@127.0.0.1:2004",
            client_address=("127.0.0.1", 4567),
            batch=batch,
            count=batch_count(batch),
            epoch=epoch,
            seq=log.marks.get((origin, epoch), 0) + 1 if epoch else 0,
            package="p" if origin else "",
            plugin="p.m.X" if origin else "",
            channels=("stage.left", ""),
            crc=zlib.crc32(batch),
            # Of the content, so that the check needs no books of its own.
            message_id="" if origin else _id_of(batch),
        )

    def _end(self, log: RelayLog | None) -> None:
        """End as a process does that is no more: without a word to the disk."""
        if log is not None:
            if not self.disk.off:
                self.disk.cut()
            log._writer.close(10)
        self._close_all()

    def _close_all(self) -> None:
        for connection in apsw.connections():
            if connection.filename == str(self.path):
                with contextlib.suppress(apsw.Error):  # it wants to tidy up, without power
                    connection.close(True)

    # ---- checking --------------------------------------------------------------------------------------

    def _check(self, log: RelayLog, told: list[Entry]) -> None:
        found = self._read(log)
        last = found[-1].position if found else 0
        self.told += len(told)
        if told and told[-1].position > last:
            raise Loss(f"position {told[-1].position} was acknowledged, the last that is there is {last}")
        self.kept += [entry for entry in self.fresh if entry.position <= last]
        self.fresh.clear()
        if not self.kept and log.last >= 2 and log.gone > 1:
            raise Loss("something is gone that never was")
        expected = [entry for entry in self.kept if entry.position > log.gone]
        if found != expected:
            raise Loss(f"{len(found)} frames, {len(expected)} were written; up to {log.gone} they are gone")
        size = sum(len(entry.batch) for entry in found)
        if log.size != size:
            raise Loss(f"the log counts {log.size} bytes and holds {size}")
        deleted = [entry for entry in self.kept if entry.position <= log.gone]
        if deleted and size + len(deleted[-1].batch) <= MAX_BYTES:
            raise Loss("retention took more than it had to")
        self._check_marks(log)
        self._check_ids(log)
        if log.damaged:
            raise Loss(f"{log.damaged} damaged frames")
        del self.kept[: max(0, len(deleted) - 1)]

    def _check_marks(self, log: RelayLog) -> None:
        for entry in self.kept:
            if entry.epoch:
                self.marks[entry.origin, entry.epoch] = entry.seq + entry.count - 1
        for run, seq in self.marks.items():
            if log.marks.get(run) != seq:
                raise Loss(f"the mark of {run} is {log.marks.get(run)}, its last message {seq}")
        for run, seq in log.marks.items():
            if seq != self.marks.get(run, 0):
                raise Loss(f"a mark {seq} of {run}, of which nothing is there")

    def _check_ids(self, log: RelayLog) -> None:
        for entry in self.kept:
            if not entry.epoch and self.ids.position("xml", _id_of(entry.batch)) is None:
                self.ids.remember("xml", _id_of(entry.batch), entry.position)
                if log.ids.position("xml", _id_of(entry.batch)) != entry.position:
                    raise Loss(f"the message at {entry.position} is there, its id is not")
        if len(log.ids) != len(self.ids):
            raise Loss(f"{len(log.ids)} ids of {len(self.ids)} messages")

    def _read(self, log: RelayLog) -> list[Entry]:
        found: list[Entry] = []
        after = 0
        while True:
            reading: Any = log.read_disk(after, 2**20)
            if reading.gap is not None:
                raise Loss(f"a gap: {reading.gap}")
            if not reading.entries:
                return found
            found += reading.entries
            after = reading.next


def _id_of(batch: bytes) -> str:
    return hashlib.sha256(batch).hexdigest()
