"""The thread that writes a satellite's outbox to disk."""

import threading
from typing import Any

from co2.store.outbox_store import OutboxStore

__all__ = ["OutboxThread"]

RETRY = 0.5
"""Seconds between two attempts on a full disk."""


class OutboxThread(OutboxStore):
    """A store with its own thread; see :class:`~co2.store.outbox_store.OutboxStore` for the rest."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="co2-outbox", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Write the rest and end, within ``timeout`` seconds."""
        with self._work:
            self._closing = True
            self._work.notify()
        self._thread.join(timeout)
        with self._reading:
            self._reader.close()

    def _wake(self) -> None:
        self._work.notify()

    def _run(self) -> None:
        try:
            while self._wait() and self.turn():
                pass
        finally:
            self.end()

    def _wait(self) -> bool:
        """Wait until there is something to write; return False when the store closes and can write no more."""
        with self._work:
            if self.full and not self._closing:
                self._work.wait(RETRY)
            while not self.something():
                if self._closing:
                    return False
                self._work.wait()
            return not (self.full and self._closing)
