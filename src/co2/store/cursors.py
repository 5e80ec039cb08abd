"""The position of each durable package of a satellite in the relay's log; a small file, replaced as a whole."""

import json
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from co2.logs import open_private
from co2.protocol.wire.link_frames import MAX_RECEIPTS, Receipt
from co2.store.fsync import sync_file

__all__ = ["MAX_SIZE", "Cursors"]

MAX_SIZE = 1024 * 1024
"""Bytes of the largest file that is read."""


class Cursors:
    """Positions by package, in one log.

    Args:
        path: of the file.

    Attributes:
        log_id: of the log, '' for none.
        run: of the relay that handed out the newest position.
        positions: last message that each package has processed.
        receipts: the last one of each log that the relay had issued when the positions were written, newest first.
        replaced: why an older file was set aside, '' for none.
    """

    def __init__(self, path: Path) -> None:
        self.log_id = self.run = ""
        self.positions: dict[str, int] = {}
        self.receipts: tuple[Receipt, ...] = ()
        self.replaced = ""
        self._path = path
        self._saving = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> "Cursors":
        """Read the file; an unreadable one is set aside under another name."""
        cursors = cls(path)
        try:
            data = path.read_bytes()
            cursors.log_id, cursors.run, cursors.positions, cursors.receipts = _read(data)
        except FileNotFoundError:
            pass  # the first start: there are no positions yet
        except (OSError, ValueError) as error:
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            aside = path.with_name(f"{path.name}.bad-{stamp}")
            path.rename(aside)
            cursors.replaced = f"{path} cannot be read ({error}); it is kept as {aside.name}"
        return cursors

    def differ(self, log_id: str, run: str, positions: Mapping[str, int]) -> bool:
        """Return whether these positions differ from those on disk."""
        other = (log_id, run) != (self.log_id, self.run)
        return bool(positions) and (other or {**self.positions, **positions} != self.positions)

    def save(self, log_id: str, run: str, positions: Mapping[str, int], receipts: Sequence[Receipt] = ()) -> None:
        """Write positions to disk, from any thread. Those of packages not loaded stay, in the same log.

        The receipts are written with them; a change of the receipts alone is not.

        Raises:
            OSError: the disk refuses them; the old file is still there.
        """
        with self._saving:  # two writers at once would write the same new file, and one would rename the other's
            if not self.differ(log_id, run, positions):
                return
            kept = self.positions if log_id == self.log_id else {}
            saved = {**kept, **positions}
            new = self._path.with_name(f"{self._path.name}.new")
            with open(new, "w", encoding="utf-8", opener=open_private) as file:
                shown = [(one.log_id, one.run, one.position, one.mac.hex()) for one in receipts]
                json.dump({"log_id": log_id, "run": run, "positions": saved, "receipts": shown}, file)
                file.flush()
                sync_file(file.fileno())
            new.replace(self._path)
            self.log_id, self.run, self.positions, self.receipts = log_id, run, saved, tuple(receipts)


def _read(data: bytes) -> tuple[str, str, dict[str, int], tuple[Receipt, ...]]:
    if len(data) > MAX_SIZE:
        raise ValueError(f"larger than {MAX_SIZE} bytes")
    found: Any = json.loads(data)
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in ("log_id", "run")):
        raise ValueError("log_id or run is missing")
    positions = found.get("positions")
    if not isinstance(positions, dict) or not all(isinstance(position, int) for position in positions.values()):
        raise ValueError("its positions are not numbers")
    # Files of earlier versions hold one receipt.
    return found["log_id"], found["run"], positions, _read_receipts(found.get("receipts", [found.get("receipt")]))


def _read_receipts(found: Any) -> tuple[Receipt, ...]:
    """Parse receipts; if one is invalid they all count as none: the relay keeps its own."""
    try:
        return tuple(
            Receipt(str(log_id), str(run), int(position), bytes.fromhex(mac))
            for log_id, run, position, mac in list(found)[: 1 + MAX_RECEIPTS]
        )
    except (TypeError, ValueError):
        return ()
