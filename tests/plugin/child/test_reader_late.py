"""A plugin that is up before the one who reads has finished: somebody reads all the same."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from co2.plugin.child.reader import SocketReader
from co2.plugin.child.wakeup import Wakeup
from co2.protocol.wire.plugin_frames.frames import Flow, Start, encode_frame
from tests.harness import wait_for


class LatePlugin:
    """A plugin as an actor is one: it reads while it has nothing to do."""

    def __init__(self) -> None:
        self.idle = False
        self.reader: SocketReader | None = None
        self.jobs: list[Any] = []
        self.done: list[Any] = []
        self._wakeup = Wakeup()
        threading.Thread(target=self._run, daemon=True).start()

    def wake(self) -> None:
        self._wakeup.ring()
        if self.reader is not None and self.reader.polling:
            self.reader.wake()

    def tell_progress(self) -> None:
        """It keeps no account."""

    def _run(self) -> None:
        while True:
            while not self.jobs:
                self.idle = True
                if self.reader is None:
                    self._wakeup.wait()
                else:
                    self.reader.wait(lambda: bool(self.jobs), self.jobs.append, self._wakeup)
                self.idle = False
            self.done.append(self.jobs.pop(0))


@contextlib.contextmanager
def read_by_a_plugin() -> Iterator[tuple[socket.socket, LatePlugin]]:
    """A socket whose frames a plugin gets, from Start on."""
    ours, theirs = socket.socketpair()
    plugin = LatePlugin()

    def take(frame: object) -> None:
        if isinstance(frame, Start):
            plugin.reader = reader
            reader.set_plugin(plugin)
            plugin.wake()
            time.sleep(0.05)  # here the processor is taken from the one who reads: the plugin is up first
        else:
            plugin.jobs.append(frame)

    with ours, theirs:
        reader = SocketReader(theirs, take, garbage=print, broken=lambda: None, ended=lambda: None)
        reader.start()
        ours.sendall(encode_frame(Start()))
        yield ours, plugin
        reader.set_plugin(None)
        ours.shutdown(socket.SHUT_RDWR)
        plugin.wake()
        reader.join(5)


def test_a_plugin_that_could_not_read_at_once_reads_later() -> None:
    with read_by_a_plugin() as (ours, plugin):
        for number in range(1, 4):
            ours.sendall(encode_frame(Flow(True)))
            wait_for(lambda number=number: len(plugin.done) == number, f"frame {number}", 5)
