"""How far each durable package of a satellite is in the relay's log; a small file, replaced as a whole."""

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from co2.logs import open_private
from co2.protocol.wire.link_frames import Receipt
from co2.store.fsync import sync_file

__all__ = ["MAX_SIZE", "Cursors"]

MAX_SIZE = 1024 * 1024
"""Bytes of the file that are read."""


class Cursors:
    """Positions by package, in one log.

    Args:
        path: of the file.

    Attributes:
        log_id: that the positions belong to, '' for none.
        run: of the relay, when the last of them was handed out.
        positions: of the last message that each package is done with.
        receipt: the last one that the relay had given when they were written, None for none.
        replaced: why an older file was set aside, '' for none.
    """

    def __init__(self, path: Path) -> None:
        self.log_id = self.run = ""
        self.positions: dict[str, int] = {}
        self.receipt: Receipt | None = None
        self.replaced = ""
        self._path = path
        self._saving = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> "Cursors":
        """Read the file; one that cannot be read is set aside under another name."""
        cursors = cls(path)
        try:
            data = path.read_bytes()
            cursors.log_id, cursors.run, cursors.positions, cursors.receipt = _read(data)
        except FileNotFoundError:
            pass  # the first start: everything begins here
        except (OSError, ValueError) as error:
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            aside = path.with_name(f"{path.name}.bad-{stamp}")
            path.rename(aside)
            cursors.replaced = f"{path} cannot be read ({error}); it is kept as {aside.name}"
        return cursors

    def differ(self, log_id: str, run: str, positions: Mapping[str, int]) -> bool:
        """Tell whether these are others than those on disk."""
        other = (log_id, run) != (self.log_id, self.run)
        return bool(positions) and (other or {**self.positions, **positions} != self.positions)

    def save(self, log_id: str, run: str, positions: Mapping[str, int], receipt: Receipt | None = None) -> None:
        """Bring positions to disk, from any thread. Those of packages not loaded now are kept, in the same log.

        The receipt goes with them; it alone is not written.

        Raises:
            OSError: the disk does not take them; what was there is still there.
        """
        with self._saving:  # two at once would write the same new file, and one would take it away from the other
            if not self.differ(log_id, run, positions):
                return
            kept = self.positions if log_id == self.log_id else {}
            saved = {**kept, **positions}
            new = self._path.with_name(f"{self._path.name}.new")
            with open(new, "w", encoding="utf-8", opener=open_private) as file:
                shown = receipt and (receipt.log_id, receipt.run, receipt.position, receipt.mac.hex())
                json.dump({"log_id": log_id, "run": run, "positions": saved, "receipt": shown}, file)
                file.flush()
                sync_file(file.fileno())
            new.replace(self._path)
            self.log_id, self.run, self.positions, self.receipt = log_id, run, saved, receipt


def _read(data: bytes) -> tuple[str, str, dict[str, int], Receipt | None]:
    if len(data) > MAX_SIZE:
        raise ValueError(f"larger than {MAX_SIZE} bytes")
    found: Any = json.loads(data)
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in ("log_id", "run")):
        raise ValueError("no log_id and run in it")
    positions = found.get("positions")
    if not isinstance(positions, dict) or not all(isinstance(position, int) for position in positions.values()):
        raise ValueError("its positions are no numbers")
    return found["log_id"], found["run"], positions, _read_receipt(found.get("receipt"))


def _read_receipt(found: Any) -> Receipt | None:
    """Read a receipt; one that is none is as if there was none: the relay knows its own."""
    try:
        log_id, run, position, mac = found
        return Receipt(str(log_id), str(run), int(position), bytes.fromhex(mac))
    except (TypeError, ValueError):
        return None
