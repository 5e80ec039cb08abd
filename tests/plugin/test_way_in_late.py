"""A principal that is up before the one who reads has finished: somebody reads all the same."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from co2.plugin.child.reader import WayIn
from co2.plugin.child.wakeup import Bell
from co2.protocol.wire.plugin_frames.frames import Flow, Start, encode_frame
from tests.harness import wait_for


class Reader:
    """A principal as an actor is one: it reads while it has nothing to do."""

    def __init__(self) -> None:
        self.idle = False
        self.way_in: WayIn | None = None
        self.jobs: list[Any] = []
        self.done: list[Any] = []
        self._bell = Bell()
        threading.Thread(target=self._run, daemon=True).start()

    def wake(self) -> None:
        self._bell.ring()
        if self.way_in is not None and self.way_in.polling:
            self.way_in.wake()

    def tell_progress(self) -> None:
        """It keeps no account."""

    def _run(self) -> None:
        while True:
            while not self.jobs:
                self.idle = True
                if self.way_in is None:
                    self._bell.wait()
                else:
                    self.way_in.wait(lambda: bool(self.jobs), self.jobs.append, self._bell)
                self.idle = False
            self.done.append(self.jobs.pop(0))


@contextlib.contextmanager
def read_by_a_principal() -> Iterator[tuple[socket.socket, Reader]]:
    """A socket whose frames a reader gets, from Start on."""
    ours, theirs = socket.socketpair()
    reader = Reader()

    def take(frame: object) -> None:
        if isinstance(frame, Start):
            reader.way_in = way_in
            way_in.set_principal(reader)
            reader.wake()
            time.sleep(0.05)  # here the processor is taken from the one who reads: the principal is up first
        else:
            reader.jobs.append(frame)

    with ours, theirs:
        way_in = WayIn(theirs, take, garbage=print, broken=lambda: None, ended=lambda: None)
        way_in.start()
        ours.sendall(encode_frame(Start()))
        yield ours, reader
        way_in.set_principal(None)
        ours.shutdown(socket.SHUT_RDWR)
        reader.wake()
        way_in.join(5)


def test_a_principal_that_could_not_read_at_once_reads_later() -> None:
    with read_by_a_principal() as (ours, reader):
        for number in range(1, 4):
            ours.sendall(encode_frame(Flow(True)))
            wait_for(lambda number=number: len(reader.done) == number, f"frame {number}", 5)
