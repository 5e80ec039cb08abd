"""iceoryx2: shared memory between two processes of one machine, without a hub and without a copy by the kernel.

A publisher waits where the subscriber's buffer is full, so nothing is lost. The receiver sleeps until it is
notified, which the sender does after each block of messages.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import iceoryx2

from bench.peers.brokers import Broker, temporary_folder
from bench.peers.worker import LibraryPeer, SyncSender, Take, decode

SERVICE = "co2-bench"

BUFFER = 8192
"""Messages that wait for the subscriber; more than a block, of which it does not hear before its end."""

LONGEST = 64
"""Bytes of a message for which memory is taken at the start."""

SHARED_MEMORY = Path("/dev/shm")


class Ends:
    """A process's part in the service: messages, and notifications of them."""

    def __init__(self, folder: str) -> None:
        # The node is kept because what it makes is no more than a part of it.
        self._node = (
            iceoryx2.NodeBuilder.new()
            .config(config(folder))
            .signal_handling_mode(iceoryx2.SignalHandlingMode.Disabled)
            .create(iceoryx2.ServiceType.Ipc)
        )
        name = iceoryx2.ServiceName.new(SERVICE)
        self.messages = (
            self._node.service_builder(name)
            .publish_subscribe(iceoryx2.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(BUFFER)
            .open_or_create()
        )
        self.notifications = self._node.service_builder(name).event().open_or_create()


class Sender(SyncSender):
    def __init__(self, address: str) -> None:
        self._ends = Ends(address)
        self._notify = self._ends.notifications.notifier_builder().create().notify
        self._loan = (
            self._ends.messages.publisher_builder()
            .initial_max_slice_len(LONGEST)
            .backpressure_strategy(iceoryx2.BackpressureStrategy.RetryUntilDelivered)
            .create()
            .loan_slice_uninit
        )

    def send(self, packed: bytes) -> None:
        """Copy the message into shared memory and pass it on."""
        sample = self._loan(len(packed))
        ctypes.memmove(sample.payload_ptr, packed, len(packed))
        sample.assume_init().send()

    def block_done(self) -> None:
        self._notify()

    def flush(self) -> None:
        """Nothing waits in this process."""


class Shared(LibraryPeer):
    title = "iceoryx2, shared memory, no hub"
    module = __name__

    @contextlib.contextmanager
    def broker(self) -> Iterator[Broker]:
        with temporary_folder() as folder:
            try:
                yield Broker(folder, None)
            finally:
                remove_what_is_left(folder)

    def sender(self, address: str) -> Sender:
        return Sender(address)

    def receive(self, address: str, take: Take) -> None:
        ends = Ends(address)
        receive = ends.messages.subscriber_builder().create().receive
        wait = ends.notifications.listener_builder().create().blocking_wait
        while True:
            while (sample := receive()) is not None:
                take(decode(ctypes.string_at(sample.payload_ptr, sample.header.number_of_elements)))
            wait()


def config(folder: str) -> iceoryx2.config.Config:
    """Return settings with which processes meet only those that have the same folder."""
    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)  # it would say that there is no file with settings
    found = iceoryx2.config.global_config()
    found.global_cfg.root_path = iceoryx2.Path.new(folder)
    found.global_cfg.prefix = iceoryx2.FileName.new(prefix(folder))
    return found


def prefix(folder: str) -> str:
    """Return what the names of all shared memory of a run begin with."""
    return f"{Path(folder).name}_"


def remove_what_is_left(folder: str) -> None:
    """Free the shared memory of processes that were ended; the library itself leaves a part of it."""
    for left in SHARED_MEMORY.glob(f"{prefix(folder)}*"):
        left.unlink()


PEER = Shared()
